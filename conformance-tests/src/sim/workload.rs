//! Random commits, and what each of them means to the model.

use std::fmt::Write as _;

use trellis_tree::{Commit, Expiry, Input, Operation, Path};

use super::model::{Change, Key, covers};
use crate::Rng;

/// Names that a path is made of: few, so that writers meet; the last two only resemble another.
const NAMES: &[&str] = &["a", "b", "c", "d", "ab", "a-b"];
/// Levels below a place.
const DEPTH_MAX: usize = 4;

/// A commit that a caller asks for, and what it means.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) commit: Commit,
    /// The id of a push is not known yet: its changes are below the path, with `?` in its stead.
    pub(super) changes: Vec<Change>,
    /// Something in it ends by itself.
    pub(super) ends: bool,
    /// For people.
    pub(super) text: String,
}

/// Places where one writes, each an absolute path.
#[derive(Debug, Clone)]
pub(super) struct Places(pub(super) Vec<String>);

/// The next commit of a writer. Each value occurs once in a run: `serial` counts them.
pub(super) fn wish(rng: &mut Rng, places: &Places, serial: &mut u64, endings: bool) -> Wish {
    let mut wish = Wish {
        commit: Commit::new(Vec::new()),
        changes: Vec::new(),
        ends: false,
        text: String::new(),
    };
    let place = &places.0[rng.below(places.0.len())];
    match rng.below(16) {
        0..=6 => {
            let path = somewhere(DEPTH_MAX, rng, place);
            wish.set(rng, &path, serial, endings);
        }
        7..=9 => wish.delete(&somewhere(DEPTH_MAX, rng, place)),
        10 => {
            let path = somewhere(3, rng, place);
            wish.push(rng, &path, serial);
        }
        11..=13 => {
            let above = somewhere(2, rng, place);
            wish.update(rng, &above, serial);
        }
        14 => wish.pair(rng, place, serial),
        _ => {
            // Two operations of one commit, of which the later sees the earlier.
            let path = somewhere(2, rng, place);
            wish.set(rng, &path, serial, false);
            wish.delete(&somewhere(3, rng, place));
        }
    }
    wish
}

/// At or below a place, fewer than so many levels.
fn somewhere(levels: usize, rng: &mut Rng, place: &str) -> String {
    let mut path = place.to_owned();
    for _ in 0..rng.below(levels) {
        path.push('/');
        path.push_str(NAMES[rng.below(NAMES.len())]);
    }
    path
}

fn key_of(path: &str) -> Key {
    path.replace('/', "\0").into_bytes()
}

fn parsed(path: &str) -> Path {
    Path::parse(path).expect("a path of plain names")
}

/// A value's JSON text, and its leaves seen from it.
fn value(rng: &mut Rng, serial: &mut u64, depth: usize) -> (String, Vec<(Key, String)>) {
    *serial += 1;
    if depth > 0 && rng.one_in(2) {
        let mut members = std::collections::BTreeMap::new();
        for _ in 0..1 + rng.below(3) {
            members.insert(NAMES[rng.below(NAMES.len())], value(rng, serial, depth - 1));
        }
        let mut leaves = Vec::new();
        let mut text = Vec::new();
        for (name, (inner, below)) in members {
            text.push(format!("\"{name}\":{inner}"));
            leaves.extend(below.into_iter().map(|(key, leaf)| {
                let empty = key.is_empty();
                let key = if empty { name.into() } else { [name.as_bytes(), &[0], &key].concat() };
                (key, leaf)
            }));
        }
        return (format!("{{{}}}", text.join(",")), leaves);
    }
    let leaf = match rng.below(12) {
        0 => "{}".to_owned(),
        1 => format!("[{serial}]"),
        2 => format!("\"{serial}:{}\"", "x".repeat(rng.below(40))),
        _ => serial.to_string(),
    };
    (leaf.clone(), vec![(Key::new(), leaf)])
}

impl Wish {
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        let _infallible = self.text.write_fmt(what);
    }

    fn set(&mut self, rng: &mut Rng, path: &str, serial: &mut u64, endings: bool) {
        let (text, leaves) = value(rng, serial, 2);
        let mut expiry = None;
        if endings && rng.one_in(8) {
            expiry = Some(Expiry::TtlSeconds((1 + rng.below(60)) as f64));
            self.ends = true;
        }
        self.note(format_args!("set {path} {text}{}", expiry.map_or("", |_| " ends")));
        self.replace(&key_of(path), leaves);
        let value = Input::parse(text.as_bytes()).expect("a value");
        self.commit.operations.push(Operation::Set { path: parsed(path), value, expiry });
    }

    fn delete(&mut self, path: &str) {
        self.note(format_args!("delete {path}"));
        self.replace(&key_of(path), Vec::new());
        self.commit.operations.push(Operation::Delete { path: parsed(path) });
    }

    fn push(&mut self, rng: &mut Rng, path: &str, serial: &mut u64) {
        let (text, leaves) = value(rng, serial, 1);
        self.note(format_args!("push {path} {text}"));
        self.replace(&key_of(&format!("{path}/?")), leaves);
        let value = Input::parse(text.as_bytes()).expect("a value");
        self.commit.operations.push(Operation::Push { path: parsed(path), value, expiry: None });
    }

    fn update(&mut self, rng: &mut Rng, above: &str, serial: &mut u64) {
        let mut updates = Vec::new();
        let mut names = NAMES.to_vec();
        for _ in 0..1 + rng.below(3) {
            let name = names.swap_remove(rng.below(names.len()));
            let path = format!("{above}/{name}");
            if rng.one_in(4) {
                self.note(format_args!("update {path} null"));
                self.replace(&key_of(&path), Vec::new());
                updates.push((parsed(&path), Input::null()));
            } else {
                let (text, leaves) = value(rng, serial, 1);
                self.note(format_args!("update {path} {text}"));
                self.replace(&key_of(&path), leaves);
                updates.push((parsed(&path), Input::parse(text.as_bytes()).expect("a value")));
            }
        }
        self.commit.operations.push(Operation::Update { updates, expiry: None });
    }

    /// Two leaves that are always written together, by everybody.
    fn pair(&mut self, rng: &mut Rng, place: &str, serial: &mut u64) {
        *serial += 1;
        let above = format!("{place}/{PAIR}{}", rng.below(2));
        let mut updates = Vec::new();
        for side in ["left", "right"] {
            let path = format!("{above}/{side}");
            self.replace(&key_of(&path), vec![(Key::new(), serial.to_string())]);
            updates.push((parsed(&path), Input::parse(serial.to_string().as_bytes()).unwrap()));
        }
        self.note(format_args!("pair {above} {serial}"));
        self.commit.operations.push(Operation::Update { updates, expiry: None });
    }

    /// What is at and below a key is now these leaves, seen from it.
    fn replace(&mut self, key: &[u8], leaves: Vec<(Key, String)>) {
        self.changes.retain(|change| !covers(key, &change.key));
        // A leaf above that this commit wrote gives way to what is below it.
        for change in self.changes.iter_mut().filter(|change| covers(&change.key, key)) {
            change.leaf = change.leaf.take().filter(|_| leaves.is_empty());
        }
        let above = |change: &Change| change.leaf.is_some() && covers(&change.key, key);
        if leaves.is_empty() && self.changes.iter().any(above) {
            // Nothing is below a leaf, and removing nothing leaves it.
            return;
        }
        let scalar = matches!(&leaves[..], [(below, _)] if below.is_empty());
        if !scalar {
            self.changes.push(Change { key: key.to_vec(), leaf: None });
        }
        self.changes.extend(leaves.into_iter().map(|(below, leaf)| {
            let key = if below.is_empty() { key.to_vec() } else { [key, &[0], &below].concat() };
            Change { key, leaf: Some(leaf) }
        }));
    }
}

/// How the names of pairs begin.
pub(super) const PAIR: &str = "pair";
