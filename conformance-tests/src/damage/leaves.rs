//! Damage in the files of a store: each leaf is read as it was written, or there is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use trellis_engine_traits::Result as EngineResult;
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{Commit, Tree, TreeOptions, View};

use super::tally::{Came, Tally};
use super::{Medium, Place, Stand, cut, flip, places};
use crate::report::caught;
use crate::tree::tools::{commit, delete_op, path as at_path, set_op};
use crate::{Rng, Seed, World};

/// Places that are damaged by default.
const PLACES: usize = 150;

/// What each path holds, and what it held before.
#[derive(Debug, Default)]
struct Written {
    now: BTreeMap<String, Value>,
    before: BTreeMap<String, BTreeSet<String>>,
}

impl Written {
    fn set(&mut self, path: String, value: Option<Value>) {
        let old = match value {
            Some(value) => self.now.insert(path.clone(), value),
            None => self.now.remove(&path),
        };
        if let Some(old) = old {
            self.before.entry(path).or_default().insert(old.to_string());
        }
    }

    fn was(&self, path: &str, value: &str) -> bool {
        self.before.get(path).is_some_and(|before| before.contains(value))
    }
}

fn open(stand: &Stand, place: &Place) -> EngineResult<Tree> {
    let (kv, log) = stand.open_engines(place)?;
    let runtime = Runtime::new(RuntimeOptions {
        clock: Arc::new(SimulatedClock::at(1_700_000_000_000)),
        random: Arc::new(SeededRandom::new(7)),
        ..RuntimeOptions::default()
    });
    // Little journal stays behind the store, so that it is the store that is read.
    let options = TreeOptions { journal_retain_bytes: 1 << 10, ..TreeOptions::default() };
    let opened = Tree::open(Arc::clone(&kv), Arc::clone(&log), runtime, options);
    if opened.is_err() {
        drop(log.close().and(kv.close()));
    }
    opened
}

/// A closed tree with known leaves, some of them overwritten and some removed.
fn written(stand: &Stand, dir: &Path, rng: &mut Rng) -> (Place, Written) {
    fs::create_dir_all(dir).expect("a directory");
    let place = Place::on(Medium::default(), dir, 8192);
    let tree = open(stand, &place).expect("a new tree opens");
    let mut written = Written::default();
    for round in 0..4 {
        for branch in 0..12 {
            let mut operations = Vec::new();
            for leaf in 0..8 {
                if round > 0 && !rng.one_in(4) {
                    continue;
                }
                let path = format!("branch{branch:02}/leaf{leaf}");
                if round > 0 && rng.one_in(4) {
                    if written.now.contains_key(&path) {
                        operations.push(delete_op(&path));
                        written.set(path, None);
                    }
                    continue;
                }
                let len = [5, 60, 700, 9000][rng.below(4)];
                let value =
                    json!(format!("{round}-{branch}-{leaf} {}", "x".repeat(rng.below(len))));
                operations.push(set_op(&path, value.clone()));
                written.set(path, Some(value));
            }
            if !operations.is_empty() {
                commit(&tree, Commit::new(operations));
            }
        }
        tree.flush().expect("it is applied");
    }
    tree.close().expect("it closes");
    (place, written)
}

pub(super) fn never_wrong(world: &World<Stand>) {
    let stand = world.engine();
    let mut rng = world.rng("places");
    let (place, written) = written(&stand, &world.dir().join("sound"), &mut rng);
    let mut tally = Tally::default();
    let places = places(PLACES);
    for number in 0..places {
        let here = copy(&place, &world.dir().join(format!("damaged{number}")));
        let (here, damage) = harm(here, &mut rng);
        let mut came = Err(String::new());
        let quiet = caught(true, || came = judge(&stand, &here, &written));
        let came = quiet.and(came).unwrap_or_else(|fault| panic!("{damage}: {fault}"));
        tally.count(came);
        fs::remove_dir_all(&here.dir).expect("the copy goes");
    }
    let (engine, seed) = (world.factory().name(), Seed::of_run().0);
    eprintln!("{engine}: {places} places: {tally}, TRELLIS_SEED={seed}");
}

fn copy(place: &Place, dir: &Path) -> Place {
    copy_dir(&place.dir, dir);
    let medium = Medium::of(place.medium.contents());
    Place { medium, dir: dir.into(), ..place.clone() }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(&from, &to).expect("it can be copied");
        }
    }
}

fn files_below(dir: &Path, found: &mut Vec<(PathBuf, usize)>) {
    for entry in fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            let len = fs::metadata(&path).expect("it is there").len();
            found.push((path, usize::try_from(len).expect("a small file")));
        }
    }
}

/// Damages one place of the store's files; says which.
fn harm(mut place: Place, rng: &mut Rng) -> (Place, String) {
    let mut image = place.medium.contents();
    let mut files = image.listed();
    files.retain(|(path, _)| !path.starts_with("/log"));
    let recorded = !files.is_empty();
    files_below(&place.dir, &mut files);
    files.retain(|(_, len)| *len > 0);
    // By its length, for the index as for the leaves; now and then any.
    let total: usize = files.iter().map(|(_, len)| len).sum();
    let mut drawn = rng.below(total);
    let mut chosen = rng.below(files.len());
    if !rng.one_in(4) {
        chosen = files
            .iter()
            .position(|(_, len)| {
                let here = drawn < *len;
                drawn = drawn.saturating_sub(*len);
                here
            })
            .unwrap_or(chosen);
    }
    let (path, _) = files.swap_remove(chosen);
    let cuts = rng.one_in(6);
    let mut how = |bytes: &mut Vec<u8>| if cuts { cut(bytes, rng) } else { flip(bytes, rng) };
    let mut said = String::new();
    if recorded {
        image.edit(&path, |bytes| said = how(bytes));
        place.medium = Medium::of(image);
    } else {
        let mut bytes = fs::read(&path).expect("it can be read");
        said = how(&mut bytes);
        fs::write(&path, bytes).expect("it can be written");
    }
    (place, format!("{}, {said}", path.display()))
}

/// Opens a tree on a damaged store and reads all of it; an `Err` says what was wrong and served.
fn judge(stand: &Stand, place: &Place, written: &Written) -> Result<Came, String> {
    let tree = match open(stand, place) {
        Ok(tree) => tree,
        Err(error) => return Ok(Came::RefusedOpen(error.kind())),
    };
    let judged = match tree.view() {
        Ok(view) => one_by_one(&view, written).and_then(|one| Ok(one.or(all(&view, written)?))),
        Err(error) => Ok(Came::RefusedRead(error.kind())),
    };
    // It may have nothing good to say of its files.
    drop(tree.close());
    judged
}

fn one_by_one(view: &View, written: &Written) -> Result<Came, String> {
    let mut worst = Came::Unharmed;
    let removed = written.before.keys().filter(|path| !written.now.contains_key(*path));
    for path in written.now.keys().chain(removed) {
        let expected = written.now.get(path);
        let came = match view.get(&at_path(path)) {
            Err(error) => Came::RefusedRead(error.kind()),
            Ok(found) if Some(&found) == expected => continue,
            Ok(Value::Null) if expected.is_none() => continue,
            Ok(Value::Null) => Came::Absent,
            Ok(found) if written.was(path, &found.to_string()) => Came::Older,
            Ok(_) => return Err(format!("a wrong leaf at {path}")),
        };
        worst = worst.or(came);
    }
    Ok(worst)
}

fn all(view: &View, written: &Written) -> Result<Came, String> {
    let mut worst = Came::Unharmed;
    let mut wrong = None;
    let mut seen = BTreeSet::new();
    let end = view.for_each_leaf(&at_path(""), &mut |path, text| {
        let (path, text) = (path.to_string(), String::from_utf8_lossy(text).into_owned());
        let value = serde_json::from_str::<Value>(&text).ok();
        let right = value.is_some() && written.now.get(&path) == value.as_ref();
        if !right && written.was(&path, &text) {
            worst = worst.or(Came::Older);
        } else if !right {
            wrong = Some(format!("a scan met a wrong leaf at {path}"));
            return ControlFlow::Break(());
        } else if !seen.insert(path) {
            // An index that leads twice to one page: as with one that leads nowhere, no value
            // tells, and each is what was written.
            worst = worst.or(Came::Absent);
        }
        ControlFlow::Continue(())
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    match end {
        Err(error) => worst = worst.or(Came::RefusedRead(error.kind())),
        Ok(()) if seen.len() < written.now.len() => worst = worst.or(Came::Absent),
        Ok(()) => {}
    }
    Ok(worst)
}
