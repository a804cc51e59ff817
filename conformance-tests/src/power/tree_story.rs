//! A tree that lives, loses power at every point, and must not have lost what it acknowledged.
//!
//! As in [`super::log_story`], over the store and the journal together: the store may be older than
//! the journal, the journal trimmed behind it. What is expected of a rev is known by itself:
//! commits change a small model of leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use trellis_engine_traits::Result as EngineResult;
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{Commit, Tree, TreeOptions};

use super::image::Image;
use super::medium::{Betrayal, Medium, Recording};
use super::points::{Budget, fork};
use super::stand::{Place, Stand};
use crate::Rng;
use crate::tree::tools::{block_on, commit, delete_op, leaves, rev, set_op, update_op};

/// Leaves by path, as JSON text.
type Leaves = BTreeMap<String, String>;

/// The leaves at each rev, from 0 on.
type History = Vec<Leaves>;

/// What is known when the power goes.
#[derive(Debug, Clone)]
struct Known {
    history: History,
    /// The last rev that was answered for.
    durable: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { history: vec![Leaves::new()], durable: 0 }
    }
}

/// What one life knew, and when.
struct Past {
    recording: Recording,
    began: usize,
    opened: usize,
    before: Known,
    history: History,
    /// Revs by the operations after which their commit was asked for.
    begun: Vec<(usize, u64)>,
    /// Revs by the operations after which they were acknowledged.
    durable: Vec<(usize, u64)>,
}

impl Past {
    fn known_at(&self, at: usize) -> Known {
        if at < self.opened {
            return self.before.clone();
        }
        let noted = |notes: &[(usize, u64)]| {
            let until = notes.iter().filter(|(operations, _)| *operations <= at);
            until.map(|(_, rev)| *rev).max().unwrap_or(0)
        };
        let history = self.history[..=noted(&self.begun) as usize].to_vec();
        Known { history, durable: noted(&self.durable) }
    }
}

/// Opens a tree whose journal is trimmed early and whose store lags only a little.
fn open(stand: &Stand, place: &Place, rng: &mut Rng) -> EngineResult<Tree> {
    let (kv, log) = stand.open_engines(place)?;
    let runtime = Runtime::new(RuntimeOptions {
        clock: Arc::new(SimulatedClock::at(1_700_000_000_000)),
        random: Arc::new(SeededRandom::new(rng.next_u64())),
        ..RuntimeOptions::default()
    });
    let options = TreeOptions {
        overlay_bytes_max: [4 << 10, 64 << 10][rng.below(2)],
        journal_retain_bytes: 2 << 10,
        ..TreeOptions::default()
    };
    let opened = Tree::open(Arc::clone(&kv), Arc::clone(&log), runtime, options);
    if opened.is_err() {
        drop(log.close().and(kv.close()));
    }
    opened
}

/// A random commit, and what it makes of the leaves.
fn next_commit(rng: &mut Rng, leaves: &Leaves, rev: u64) -> (Commit, Leaves) {
    let mut after = leaves.clone();
    after.insert("rev".to_owned(), rev.to_string());
    let mut operations = vec![set_op("rev", json!({".sv": {"increment": 1}}))];
    let branch = format!("b{}", rng.below(6));
    match rng.below(5) {
        0 => {
            operations.push(delete_op(&branch));
            after.retain(|path, _| !path.starts_with(&format!("{branch}/")));
        }
        1 => {
            let fill = "f".repeat(rng.below(3000));
            let changed: Vec<_> = (0..1 + rng.below(8))
                .map(|leaf| (format!("{branch}/l{leaf}"), format!("{rev}-{leaf}-{fill}")))
                .collect();
            let updates: Vec<_> =
                changed.iter().map(|(path, text)| (path.as_str(), json!(text))).collect();
            operations.push(update_op(&updates));
            after.extend(changed.iter().map(|(path, text)| (path.clone(), format!("{text:?}"))));
        }
        _ => {
            let path = format!("{branch}/l{}", rng.below(8));
            operations.push(set_op(&path, json!(rev)));
            after.insert(path, rev.to_string());
        }
    }
    (Commit::new(operations), after)
}

fn must_hold(tree: &Tree, expected: &Leaves, what: &str) -> Result<(), String> {
    let found: Leaves = leaves(tree, "").into_iter().collect();
    if found == *expected {
        return Ok(());
    }
    let differs = |path: &&String| found.get(*path) != expected.get(*path);
    let path = found.keys().chain(expected.keys()).find(differs);
    Err(format!("{what}: rev {} is not what was written, see {path:?}", rev(tree)))
}

/// Whether an opened tree holds one of the revs it may hold, whole; answers which.
fn found(tree: &Tree, known: &Known) -> Result<u64, String> {
    let found = rev(tree);
    let last = known.history.len() as u64 - 1;
    if found < known.durable || found > last {
        let durable = known.durable;
        return Err(format!("rev {found}; {durable} was acknowledged, {last} was the last"));
    }
    must_hold(tree, &known.history[found as usize], "after an open")?;
    Ok(found)
}

fn wrong(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}

fn live(stand: &Stand, place: &Place, before: Known, rng: &mut Rng) -> Result<Past, String> {
    let began = place.medium.now();
    let tree = open(stand, place, rng).map_err(|error| wrong("open", error))?;
    let opened = place.medium.now();
    let mut rev = found(&tree, &before)?;
    let mut history = before.history.clone();
    history.truncate(rev as usize + 1);
    let (mut begun, mut durable) = (vec![(0, rev)], vec![(0, rev)]);
    for _ in 0..rng.below(25) {
        match rng.below(8) {
            0 => tree.flush().map_err(|error| wrong("flush", error))?,
            1 => {
                // Several at once: they share groups.
                let pending: Vec<_> = (0..1 + rng.below(6))
                    .map(|_| {
                        rev += 1;
                        let (commit, leaves) = next_commit(rng, &history[rev as usize - 1], rev);
                        history.push(leaves);
                        begun.push((place.medium.now(), rev));
                        tree.submit(commit)
                    })
                    .collect();
                for pending in pending {
                    let done = block_on(pending).map_err(|error| wrong("a commit", error))?;
                    durable.push((place.medium.now(), done.rev));
                }
            }
            _ => {
                rev += 1;
                let (request, leaves) = next_commit(rng, &history[rev as usize - 1], rev);
                history.push(leaves);
                begun.push((place.medium.now(), rev));
                let done = tree.commit(request).map_err(|error| wrong("a commit", error))?;
                durable.push((place.medium.now(), done.rev));
            }
        }
    }
    if rng.one_in(2) {
        tree.close().map_err(|error| wrong("close", error))?;
    }
    let recording = place.medium.recording();
    // What it still writes is of no interest.
    drop(tree.close());
    Ok(Past { recording, began, opened, before, history, begun, durable })
}

/// Opens an image, and says what is wrong with it.
fn judge(stand: &Stand, place: &Place, known: &Known, rng: &mut Rng) -> Result<(), String> {
    let tree = open(stand, place, rng).map_err(|error| wrong("an open after power loss", error))?;
    let judged = found(&tree, known).and_then(|rev| {
        let (request, after) = next_commit(rng, &known.history[rev as usize], rev + 1);
        let done = commit(&tree, request);
        must_hold(&tree, &after, "after the next commit")?;
        Ok((done.rev, after))
    });
    let closed = tree.close().map_err(|error| wrong("close", error));
    let (last, after) = judged?;
    closed?;
    let tree = open(stand, place, rng).map_err(|error| wrong("a clean open", error))?;
    let held = must_hold(&tree, &after, "after a clean open");
    let same = rev(&tree) == last;
    tree.close().map_err(|error| wrong("close", error))?;
    held?;
    if same { Ok(()) } else { Err(format!("a clean open is not at rev {last}")) }
}

/// Lives and images until the budget is used up; the first image that is wrong ends it.
///
/// # Errors
/// What is wrong with an image.
pub(super) fn run(
    stand: &Stand,
    budget: &mut Budget,
    betrayal: Betrayal,
    mut rng: Rng,
) -> Result<(), String> {
    while budget.left() {
        let mut place = Place {
            medium: Medium::holding(Image::default(), betrayal),
            dir: stand.dir().into(),
            segment_bytes: [8192, 16384][rng.below(2)],
        };
        let mut known = Known::default();
        for _ in 0..1 + rng.below(5) {
            let past = live(stand, &place, known, &mut fork(&mut rng))?;
            let heir = judge_all(stand, &place, &past, budget, &mut rng)?;
            let killed_at = past.began + rng.below(past.recording.len() - past.began + 1);
            match heir {
                Some((image, heritage)) if !rng.one_in(4) => {
                    place.medium = Medium::holding(image, betrayal);
                    known = heritage;
                }
                _ => {
                    place.medium = Medium::left_by_kill(&past.recording, killed_at, betrayal);
                    known = past.known_at(killed_at);
                }
            }
        }
    }
    Ok(())
}

/// Draws images of a life and judges each; answers one of them, and what is known of it.
fn judge_all(
    stand: &Stand,
    place: &Place,
    past: &Past,
    budget: &mut Budget,
    rng: &mut Rng,
) -> Result<Option<(Image, Known)>, String> {
    let all = past.recording.len();
    let points = budget.points(past.began, past.opened, all, rng);
    let mut outcome = Ok(());
    let mut heir = None;
    let mut draws = fork(rng);
    past.recording.images(&points, &mut draws, |point, image| {
        if outcome.is_err() {
            return;
        }
        let known = past.known_at(point);
        let medium = Medium::holding(image.clone(), Betrayal::None);
        let at = Place { medium, ..place.clone() };
        let opened = past.opened;
        outcome = judge(stand, &at, &known, &mut fork(rng))
            .map_err(|what| format!("{what} (operation {point} of {all}, open from {opened} on)"));
        if heir.is_none() || rng.one_in(points.len()) {
            heir = Some((image, known));
        }
    });
    outcome.map(|()| heir)
}
