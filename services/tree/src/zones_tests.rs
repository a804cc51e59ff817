//! Promises of commits made here in a tree that is divided: what they tell others, what they leave
//! alone, and what is collected. Endings are in `draft_end_tests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;

use bytes::Bytes;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::{MemoryDisk, MemoryLog};
use trellis_runtime::{Runtime, RuntimeOptions, SimulatedClock};

use crate::cause::ChangeCause;
use crate::commit::{Commit, Operation};
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::stamp::{
    Author, RemoteApplied, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp,
};
use crate::stamped::LoggedCommit;
use crate::tree::Tree;
use crate::zoning::{Endings, Tracking, Zone, Zoning};

pub(crate) const HOUR_MS: u64 = 3_600_000;

/// Zones by their prefixes.
#[derive(Debug)]
pub(crate) struct Zones(Vec<(&'static str, Tracking, Endings)>);

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
        crate::path::outermost(below.collect())
    }

    fn kept(&self, key: &[u8]) -> Vec<Bytes> {
        let mut kept = self.carved(key);
        kept.retain(|zone| !zone.ends_with(b"mine"));
        kept
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

pub(crate) fn zones() -> Zones {
    Zones(vec![
        ("s", Tracking::Shared, Endings::Everywhere),
        ("s/ext", Tracking::Owned, Endings::Here),
        ("s/deep/er/own", Tracking::None, Endings::Here),
        ("s/z/mine", Tracking::Owned, Endings::Here),
        ("o", Tracking::Owned, Endings::Here),
        ("f", Tracking::Owned, Endings::Elsewhere),
    ])
}

pub(crate) fn tree(clock: &Arc<SimulatedClock>) -> Tree {
    tree_on(clock, &MemoryDisk::new(), in_zones(Some(zones())))
}

pub(crate) fn in_zones(zones: Option<Zones>) -> TreeOptions {
    let zoning = zones.map(|zones| Arc::new(zones) as Arc<dyn Zoning>);
    TreeOptions { zoning, ..TreeOptions::default() }
}

/// A tree of all that is in a log.
pub(crate) fn tree_on(clock: &Arc<SimulatedClock>, log: &MemoryDisk, options: TreeOptions) -> Tree {
    let clock = Arc::clone(clock) as Arc<dyn trellis_runtime::Clock>;
    let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
    let log = Arc::new(MemoryLog::on(log).unwrap());
    Tree::open(Arc::new(MemoryKv::new()), log, runtime, options).unwrap()
}

pub(crate) fn new_tree() -> Tree {
    tree(&Arc::new(SimulatedClock::at(HOUR_MS)))
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

pub(crate) fn set(tree: &Tree, at: &str, json: &str) -> LoggedCommit {
    let commit = Commit::set(path(at), Input::parse(json.as_bytes()).unwrap());
    let rev = tree.commit(commit).unwrap().rev;
    tree.read_commits(rev - 1, 1).unwrap().remove(0)
}

pub(crate) fn get(tree: &Tree, at: &str) -> serde_json::Value {
    tree.view().unwrap().get(&path(at)).unwrap()
}

pub(crate) fn told(commit: &LoggedCommit) -> Vec<(String, &'static str)> {
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

pub(crate) fn named(ops: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    ops.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect()
}

pub(crate) fn all() -> Scope {
    let within = ["s", "o", "f"].map(|at| path(at).key().clone());
    Scope { within: within.into(), except: Vec::new() }
}

pub(crate) fn apply(tree: &Tree, commit: &LoggedCommit) -> RemoteApplied {
    let LoggedCommit { author, ops, .. } = commit.clone();
    let (cause, rule) = (ChangeCause::Request, RemoteRule::Merge);
    let commit = RemoteCommit { author, cause, ops, scope: all(), rule, notes: Vec::new() };
    tree.apply_remote(commit).unwrap()
}

/// What a scope shows, with its versions.
pub(crate) fn shown(tree: &Tree, scope: &Scope) -> Vec<StampedOp> {
    let page = tree.view().unwrap().stamped_page(scope, b"", usize::MAX, usize::MAX).unwrap();
    let is_shown = |op: &StampedOp| {
        matches!(op.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)))
    };
    page.ops.into_iter().filter(is_shown).collect()
}

pub(crate) fn same(one: &Tree, other: &Tree) {
    assert_eq!(shown(one, &all()), shown(other, &all()));
}

/// Zones in which another node ends what is in the shared one.
pub(crate) fn zones_ended_elsewhere() -> Zones {
    let mut zones = zones();
    zones.0[0].2 = Endings::Elsewhere;
    zones
}

pub(crate) fn exact_entries(tree: &Tree) {
    let (stats, mut ops) = (tree.replication_stats().unwrap(), 0);
    let page = tree.view().unwrap().stamped_page(&all(), b"", usize::MAX, usize::MAX).unwrap();
    ops += page.ops.len() as u64;
    // What no zone tracks is in the page too where it is in the scope.
    let untracked = page.ops.iter().filter(|op| op.key.starts_with(b"s\0deep\0er\0own")).count();
    assert_eq!(stats.by_rev_entries, ops - untracked as u64);
}

/// Promise: a removal leaves alone what lies in zones carved out below it, and tells others that
/// its own zone was emptied.
#[test]
fn what_is_carved_out_stays() {
    let tree = new_tree();
    set(&tree, "s", r#"{"a":{"b":1,"c":2},"d":3,"deep":{"er":{"x":4,"own":{"y":5}},"z":6}}"#);
    set(&tree, "s/ext", r#"{"one":1}"#);
    assert_eq!(get(&tree, "s/deep/er/own/y"), 5, "a set reaches into what it names");
    let removed = set(&tree, "s", "null");
    assert_eq!(told(&removed), named(&[("s", "clear")]));
    let left = serde_json::json!({"deep": {"er": {"own": {"y": 5}}}, "ext": {"one": 1}});
    assert_eq!(get(&tree, "s"), left);
    exact_entries(&tree);
    let replaced = set(&tree, "s", r#"{"n":1,"ext":{"two":2}}"#);
    let ops = [("s", "clear"), ("s/ext/two", "put"), ("s/n", "put")];
    assert_eq!(told(&replaced), named(&ops));
    assert_eq!(get(&tree, "s/ext"), serde_json::json!({"one": 1, "two": 2}));
    let leaf = Commit::set(path("s"), Input::parse(b"7").unwrap());
    let refused = tree.commit(leaf).unwrap_err();
    assert_eq!(refused.error.fact("reason"), Some("source_owned"));
    exact_entries(&tree);
}

/// Promise: a removal that is applied whatever the versions here goes for its path, and below it
/// for what is older: its author left alone what is newer there.
#[test]
fn a_removal_that_is_insisted_on_leaves_what_is_newer_below() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    apply(&other, &set(&one, "s/a", r#"{"older":1,"same":2}"#));
    apply(&other, &set(&one, "s/leaf", "3"));
    clock.advance_ms(5);
    let removals = [set(&one, "s/a", "null"), set(&one, "s/leaf", "null")];
    clock.advance_ms(5);
    set(&other, "s/a/same", "4");
    set(&other, "s/leaf", "5");
    // The first once more at the end: nothing of it is left to be told.
    let again = removals[0].clone();
    for LoggedCommit { author, ops, .. } in removals.into_iter().chain([again]) {
        let rule = RemoteRule::Replace { from: Bytes::new(), until: Some(Bytes::new()) };
        let (cause, scope, notes) = (ChangeCause::Request, all(), Vec::new());
        let commit = RemoteCommit { author, cause, ops, scope, rule, notes };
        other.apply_remote(commit).unwrap();
    }
    assert_eq!(get(&other, "s"), serde_json::json!({"a": {"same": 4}}));
    exact_entries(&other);
}

/// Promise: where several nodes write, a removal of nothing is told; where one does, it is none.
#[test]
fn a_removal_of_nothing_speaks_for_others_where_they_write() {
    let tree = new_tree();
    assert_eq!(told(&set(&tree, "s/a", "null")), named(&[("s/a", "clear")]));
    let object = set(&tree, "s/b", r#"{"c":1}"#);
    assert_eq!(told(&object), named(&[("s/b", "clear"), ("s/b/c", "put")]));
    assert_eq!(told(&set(&tree, "s/d", "1")), named(&[("s/d", "put")]));
    let before = tree.position().rev;
    let nothing = Commit::set(path("o/a"), Input::parse(b"null").unwrap());
    tree.commit(nothing).unwrap();
    assert_eq!(tree.position().rev, before, "nothing to tell");
    assert_eq!(told(&set(&tree, "o/b", r#"{"c":1}"#)), named(&[("o/b/c", "put")]));
    exact_entries(&tree);
}

/// Promise: a leaf that gives way to what is written below it takes nothing along that another
/// node wrote below it meanwhile.
#[test]
fn a_leaf_gives_way_to_both_sides() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    let leaf = set(&one, "s/p", "1");
    apply(&other, &leaf);
    clock.advance_ms(5);
    let theirs = set(&other, "s/p/y", "2");
    clock.advance_ms(5);
    let ours = set(&one, "s/p/x", "3");
    let clear = ours.ops.iter().find(|op| op.change == StampedChange::Clear).unwrap();
    assert_eq!(clear.version, leaf.author.version, "it hides what the leaf did");
    apply(&one, &theirs);
    apply(&other, &ours);
    for tree in [&one, &other] {
        assert_eq!(get(tree, "s/p"), serde_json::json!({"x": 3, "y": 2}));
        exact_entries(tree);
    }
    same(&one, &other);
}

/// Promise: what is gone is collected once it is old and seen, and the floor says so.
#[test]
fn what_is_gone_is_collected() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let tree = tree(&clock);
    set(&tree, "s/a", r#"{"b":1}"#);
    let tomb = set(&tree, "s/a/b", "null").position.rev;
    clock.advance_ms(10_000);
    let late = set(&tree, "s/c", "null").position.rev;
    assert_eq!(tree.collect(u64::MAX, 20_000).unwrap(), crate::stamped::Collected::default());
    assert_eq!(tree.collect(tomb - 1, 5000).unwrap().removed, 1, "the clear under the object");
    let collected = tree.collect(tomb, 5000).unwrap();
    assert_eq!((collected.removed, collected.gc_floor), (1, tomb));
    assert_eq!(tree.collect(late, 5000).unwrap().removed, 0, "too young");
    let stats = tree.replication_stats().unwrap();
    assert_eq!((stats.tombstones, stats.clears, stats.by_rev_entries), (0, 1, 1));
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

/// Promise: what an update empties it empties for all who write there, also where it makes an
/// object of a leaf in the same commit, in whatever order it names the two.
#[test]
fn an_update_that_opens_a_leaf_speaks_for_what_it_empties() {
    for names in [["s/a/gone", "s/a/kept"], ["s/a/kept", "s/a/gone"]] {
        let tree = new_tree();
        set(&tree, "s/a", "1");
        let value = |name: &str| if name == "s/a/gone" { "null" } else { "2" };
        let updates = names.map(|name| (path(name), Input::parse(value(name).as_bytes()).unwrap()));
        let rev = tree
            .commit(Commit::new(vec![Operation::Update {
                updates: updates.to_vec(),
                expiry: None,
            }]))
            .unwrap()
            .rev;
        let commit = tree.read_commits(rev - 1, 1).unwrap().remove(0);
        let ops = [("s/a/gone", "clear"), ("s/a", "clear"), ("s/a/kept", "put")];
        assert_eq!(told(&commit), named(&ops), "{names:?}");
    }
}

/// Promise: where what another node shows loses to a removal here, the removal is told again, as
/// it was and by this node; what is told again changes nothing twice.
#[test]
fn what_wins_over_what_another_node_shows_is_told_again() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    let shown = [set(&other, "s/a/b", "1"), set(&other, "s/leaf", "2")];
    clock.advance_ms(5);
    for commit in &shown {
        assert_eq!(apply(&one, commit).applied, 1);
    }
    let removals = [set(&one, "s/a", "null"), set(&one, "s/leaf", "null")];
    for (shown, removal) in shown.iter().zip(&removals) {
        let before = one.position().rev;
        let author = Author { version: shown.author.version, via: Vec::new() };
        let (ops, rule) = (shown.ops.clone(), RemoteRule::Settle);
        let (cause, notes) = (ChangeCause::Request, Vec::new());
        let commit = RemoteCommit { author, cause, ops, scope: all(), rule, notes };
        assert_eq!(one.apply_remote(commit).unwrap().lost, 1);
        let again = one.read_commits(before, usize::MAX).unwrap().remove(0);
        assert_eq!(again.ops, removal.ops);
        assert_eq!(apply(&other, &again).applied, 1);
        assert_eq!(apply(&other, &again).applied, 0);
    }
    same(&one, &other);
    exact_entries(&one);
}
