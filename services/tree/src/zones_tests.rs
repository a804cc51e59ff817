//! Promises of a tree that is divided: a large removal is one clear, who removes what is due, and
//! what is collected.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;

use bytes::Bytes;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::{Runtime, RuntimeOptions, SimulatedClock};

use crate::{
    Commit, Endings, Input, LoggedCommit, Path, Scope, StampedChange, StampedOp, Tracking, Tree,
    TreeOptions, Zone, Zoning,
};

const HOUR_MS: u64 = 3_600_000;

/// Zones by their prefixes.
#[derive(Debug)]
struct Zones(Vec<(&'static str, Tracking, Endings)>);

impl Zones {
    fn prefix(&self, at: usize) -> Bytes {
        Path::parse(self.0[at].0).unwrap().key().clone()
    }
}

impl Zoning for Zones {
    fn zone(&self, key: &[u8]) -> Zone {
        let own = (0..self.0.len()).filter(|at| crate::path::covers(&self.prefix(*at), key));
        let own = own.max_by_key(|at| self.prefix(*at).len());
        let none = Zone {
            id: u32::MAX,
            prefix_bytes: 0,
            tracking: Tracking::None,
            endings: Endings::Here,
        };
        own.map_or(none, |at| {
            let (_, tracking, endings) = self.0[at];
            let prefix_bytes = self.prefix(at).len();
            Zone { id: u32::try_from(at).unwrap(), prefix_bytes, tracking, endings }
        })
    }

    fn carved(&self, key: &[u8]) -> Vec<Bytes> {
        let below = (0..self.0.len()).map(|at| self.prefix(at));
        let below = below.filter(|prefix| **prefix != *key && crate::path::covers(key, prefix));
        crate::merge::outermost(below.collect())
    }

    fn tracked(&self) -> Scope {
        let mut scope = Scope::default();
        for (at, (_, tracking, _)) in self.0.iter().enumerate() {
            let is_tracked = *tracking != Tracking::None;
            let list = if is_tracked { &mut scope.within } else { &mut scope.except };
            list.push(self.prefix(at));
        }
        scope
    }

    fn any_tracked(&self, key: &[u8]) -> bool {
        let meets = |at: usize| {
            let prefix = self.prefix(at);
            crate::path::covers(&prefix, key) || crate::path::covers(key, &prefix)
        };
        (0..self.0.len()).any(|at| self.0[at].1 != Tracking::None && meets(at))
    }
}

fn zones() -> Zones {
    Zones(vec![
        ("s", Tracking::Shared, Endings::Everywhere),
        ("s/ext", Tracking::Owned, Endings::Here),
        ("s/deep/er/own", Tracking::None, Endings::Here),
        ("o", Tracking::Owned, Endings::Here),
        ("f", Tracking::Owned, Endings::Elsewhere),
    ])
}

fn tree(clock: &Arc<SimulatedClock>) -> Tree {
    let clock = Arc::clone(clock) as Arc<dyn trellis_runtime::Clock>;
    let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
    let options = TreeOptions { zoning: Some(Arc::new(zones())), ..TreeOptions::default() };
    Tree::open(Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()), runtime, options).unwrap()
}

fn new_tree() -> Tree {
    tree(&Arc::new(SimulatedClock::at(HOUR_MS)))
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn set(tree: &Tree, at: &str, json: &str) -> LoggedCommit {
    let commit = Commit::set(path(at), Input::parse(json.as_bytes()).unwrap());
    let rev = tree.commit(commit).unwrap().rev;
    tree.read_commits(rev - 1, 1).unwrap().remove(0)
}

fn get(tree: &Tree, at: &str) -> serde_json::Value {
    tree.view().unwrap().get(&path(at)).unwrap()
}

fn told(commit: &LoggedCommit) -> Vec<(String, &'static str)> {
    let kind = |op: &StampedOp| match op.change {
        StampedChange::Put(_) => "put",
        StampedChange::Tomb => "tomb",
        StampedChange::Clear => "clear",
        StampedChange::Ending(Some(_)) => "ends",
        StampedChange::Ending(None) => "stays",
    };
    let key = |op: &StampedOp| String::from_utf8_lossy(&op.key).replace('\0', "/");
    commit.ops.iter().map(|op| (key(op), kind(op))).collect()
}

fn named(ops: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    ops.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect()
}

fn all() -> Scope {
    let within = ["s", "o", "f"].map(|at| path(at).key().clone());
    Scope { within: within.into(), except: Vec::new() }
}

fn exact_entries(tree: &Tree) {
    let (stats, mut ops) = (tree.replication_stats().unwrap(), 0);
    let page = tree.view().unwrap().stamped_page(&all(), b"", usize::MAX, usize::MAX).unwrap();
    ops += page.ops.len() as u64;
    // What no zone tracks is in the page too where it is in the scope.
    let untracked = page.ops.iter().filter(|op| op.key.starts_with(b"s\0deep\0er\0own")).count();
    assert_eq!(stats.by_rev_entries, ops - untracked as u64);
}

fn set_ending(tree: &Tree, at: &str, json: &str, ends_ms: u64) -> LoggedCommit {
    let expiry = Some(crate::Expiry::AtMs(ends_ms));
    let value = Input::parse(json.as_bytes()).unwrap();
    let operation = crate::Operation::Set { path: path(at), value, expiry };
    let commit = Commit { operations: vec![operation], ..Commit::default() };
    let rev = tree.commit(commit).unwrap().rev;
    tree.read_commits(rev - 1, 1).unwrap().remove(0)
}

/// Promise: what another node removes is hidden, stays, and keeps nobody waiting.
#[test]
fn what_ends_elsewhere_is_hidden_until_it_is_removed() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let tree = tree(&clock);
    set_ending(&tree, "f/a", "1", HOUR_MS + 50);
    set_ending(&tree, "o/a", "1", HOUR_MS + 50);
    clock.advance_ms(1000);
    tree.settle().unwrap();
    assert_eq!(get(&tree, "f/a"), serde_json::Value::Null, "hidden");
    let page = tree.view().unwrap().stamped_page(&all(), b"", 100, 1 << 20).unwrap();
    let live = |op: &&StampedOp| matches!(op.change, StampedChange::Put(_));
    let live: Vec<_> = page.ops.iter().filter(live).map(|op| &op.key[..]).collect();
    assert_eq!(live, [b"f\0a"], "one stays, the other went");
}

/// Promise: what is gone is collected once it is old and seen, and the floor says so.
#[test]
fn what_is_gone_is_collected() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let tree = tree(&clock);
    set(&tree, "s/a", r#"{"b":1}"#);
    let tomb = set(&tree, "s/a/b", "null").position.rev;
    clock.advance_ms(10_000);
    set(&tree, "s/c", "1");
    let late = set(&tree, "s/c", "null").position.rev;
    assert_eq!(tree.collect(u64::MAX, 20_000).unwrap(), crate::Collected::default());
    assert_eq!(tree.collect(tomb - 1, 5000).unwrap().removed, 0, "not seen by all");
    let collected = tree.collect(tomb, 5000).unwrap();
    assert_eq!((collected.removed, collected.gc_floor), (1, tomb));
    assert_eq!(tree.collect(late, 5000).unwrap().removed, 0, "too young");
    let stats = tree.replication_stats().unwrap();
    assert_eq!((stats.tombstones, stats.clears, stats.by_rev_entries), (1, 0, 1));
    exact_entries(&tree);
}

/// Promise: a subtree of many leaves goes as one record and one clear.
#[test]
fn a_large_removal_is_one_clear() {
    let tree = new_tree();
    for part in 0..10 {
        let leaves: Vec<String> = (0..2000).map(|at| format!("\"k{at}\":{at}")).collect();
        set(&tree, &format!("s/big/{part}"), &format!("{{{}}}", leaves.join(",")));
    }
    let removed = set(&tree, "s/big", "null");
    assert_eq!(told(&removed), named(&[("s/big", "clear")]));
    assert!(removed.bytes < 1000, "{} bytes", removed.bytes);
    let page = tree.view().unwrap().stamped_page(&all(), b"", 100, 1 << 20).unwrap();
    assert_eq!(page.ops.len(), 1);
    let delta = tree.view().unwrap().stamped_since(&all(), 0, None, 100, 1 << 20).unwrap();
    assert_eq!(delta.ops.len(), 1, "entries that were left behind are not told");
}
