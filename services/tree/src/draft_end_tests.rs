//! Promises of what ends in a tree that is divided: who removes it, in which versions and commits,
//! and what stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;

use trellis_engine_traits::ErrorKind;
use trellis_log_memory::MemoryDisk;
use trellis_runtime::SimulatedClock;

use crate::cause::ChangeCause;
use crate::commit::Commit;
use crate::draft::Draft;
use crate::draft_end::ENDED_ITEMS_MAX;
use crate::input::Input;
use crate::options::{Limits, TreeOptions};
use crate::stamp::{StampedChange, StampedOp};
use crate::stamped::LoggedCommit;
use crate::tree::Tree;
use crate::work::Work;
use crate::zones_tests::{
    HOUR_MS, all, apply, exact_entries, get, in_zones, path, same, set, tree, tree_on, zones,
    zones_ended_elsewhere,
};

fn set_ending(tree: &Tree, at: &str, json: &str, ends_ms: u64) -> LoggedCommit {
    let rev = set_ending_here(tree, at, json, ends_ms);
    tree.read_commits(rev - 1, 1).unwrap().remove(0)
}

fn set_ending_here(tree: &Tree, at: &str, json: &str, ends_ms: u64) -> u64 {
    let expiry = Some(crate::commit::Expiry::AtMs(ends_ms));
    let value = Input::parse(json.as_bytes()).unwrap();
    let operation = crate::commit::Operation::Set { path: path(at), value, expiry };
    let commit = Commit { operations: vec![operation], ..Commit::default() };
    tree.commit(commit).unwrap().rev
}

/// Promise: every node removes what is due in the same version, so that nothing is sent back and
/// forth; what is newer stays.
#[test]
fn what_ends_everywhere_ends_alike() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    apply(&other, &set_ending(&one, "s/a", r#"{"b":1,"c":2}"#, HOUR_MS + 50));
    apply(&other, &set_ending(&one, "s/d", "3", HOUR_MS + 60));
    // Older than now: the removal has to be later than what it removes.
    apply(&other, &set_ending(&one, "s/e", "4", 5));
    clock.advance_ms(1000);
    let versions = [&one, &other].map(|tree| {
        tree.settle().unwrap();
        assert_eq!(get(tree, "s"), serde_json::Value::Null);
        exact_entries(tree);
        let view = tree.view().unwrap();
        let page = view.stamped_page(&all(), b"", 100, 1 << 20).unwrap();
        assert!(page.ops.iter().all(|op| op.version.origin == 0), "{:?}", page.ops);
        page.ops
    });
    assert_eq!(versions[0], versions[1]);
    for commit in one.read_commits(3, usize::MAX).unwrap() {
        assert_eq!(apply(&other, &commit).applied, 0, "it is there already");
    }
}

/// Promise: what came from another node after the end stays when the end is carried out.
#[test]
fn what_is_newer_than_an_end_stays() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    apply(&other, &set_ending(&one, "s/a", r#"{"b":1,"c":{"d":2}}"#, HOUR_MS + 50));
    let late = {
        clock.advance_ms(40);
        let pause = other.pause_writes().unwrap();
        clock.advance_ms(60);
        // Ended here, and still there at the other node.
        one.settle().unwrap();
        let late = set(&one, "s/a/c/late", "3");
        drop(pause);
        late
    };
    apply(&other, &late);
    other.settle().unwrap();
    for tree in [&one, &other] {
        assert_eq!(get(tree, "s/a"), serde_json::json!({"c": {"late": 3}}));
    }
    same(&one, &other);
}

/// Promise: who carries out an end before it hears that the path was written anew does not win over
/// that.
#[test]
fn what_was_written_anew_in_time_stays_however_late_it_is_heard_of() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    apply(&other, &set_ending(&one, "s/a", r#"{"b":1,"c":2}"#, HOUR_MS + 50));
    clock.advance_ms(40);
    let anew = [set_ending(&one, "s/a", r#"{"b":3}"#, HOUR_MS + 5000), set(&one, "s/a/d", "4")];
    clock.advance_ms(60);
    other.settle().unwrap();
    assert_eq!(get(&other, "s"), serde_json::Value::Null);
    for commit in &anew {
        apply(&other, commit);
    }
    for tree in [&one, &other] {
        tree.settle().unwrap();
        assert_eq!(get(tree, "s/a"), serde_json::json!({"b": 3, "d": 4}));
        exact_entries(tree);
    }
    same(&one, &other);
}

/// Promise: an end goes for what was written below its path since it was set, at every node alike.
#[test]
fn what_was_written_below_since_ends_too() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let (one, other) = (tree(&clock), tree(&clock));
    apply(&other, &set_ending(&one, "s/a", r#"{"b":{"x":1,"y":2},"c":2,"d":3}"#, HOUR_MS + 50));
    clock.advance_ms(10);
    apply(&other, &set(&one, "s/a/b/x", "4"));
    apply(&other, &set_ending(&one, "s/a/e", r#"{"f":5}"#, HOUR_MS + 900));
    apply(&other, &set(&one, "s/a/d", "null"));
    let late = set(&one, "s/a/late", "6");
    clock.advance_ms(100);
    for tree in [&one, &other] {
        tree.settle().unwrap();
        assert_eq!(get(tree, "s"), serde_json::Value::Null);
    }
    apply(&other, &late);
    for commit in one.read_commits(0, usize::MAX).unwrap() {
        apply(&other, &commit);
    }
    for tree in [&one, &other] {
        assert_eq!(get(tree, "s"), serde_json::Value::Null);
        exact_entries(tree);
    }
    same(&one, &other);
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

/// More than goes into one commit, in as many parts as are small enough for one each.
fn many(at: &str) -> Vec<(String, String)> {
    let leaves = |part: usize| (0..5000).map(move |leaf| format!("\"k{part}{leaf:04}\":1"));
    let part = |part| format!("{{{}}}", leaves(part).collect::<Vec<_>>().join(","));
    (0..2).map(|number| (format!("{at}/p{number}"), part(number))).collect()
}

fn is_null(tree: &Tree, at: &str) -> bool {
    get(tree, at) == serde_json::Value::Null
}

/// Promise: an end is carried out however much was written below its path since, in bounded
/// commits; all of it is hidden until the last one, here and at who is told; meanwhile who writes
/// there is told to try again.
#[test]
fn what_is_much_ends_in_bounded_commits() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let one = tree(&clock);
    let told = tree_on(&clock, &MemoryDisk::new(), in_zones(Some(zones_ended_elsewhere())));
    let other = tree(&Arc::new(SimulatedClock::at(HOUR_MS)));
    set_ending(&one, "s/room", r#"{"name":"a","old":{"b":1,"c":2}}"#, HOUR_MS + 50);
    clock.advance_ms(10);
    for (at, json) in many("s/room") {
        set(&one, &at, &json);
    }
    let commits = one.read_commits(0, usize::MAX).unwrap();
    for commit in &commits {
        apply(&told, commit);
        apply(&other, commit);
    }
    let pause = one.pause_writes().unwrap();
    clock.advance_ms(1000);
    let room = path("s/room");
    let state = one.core().newest();
    let zones = zones();
    let mut draft = Draft::new(&state, true).in_zones(Some(&zones));
    assert!(!draft.end(room.key()).unwrap(), "there is more");
    assert_eq!(draft.items(), ENDED_ITEMS_MAX);
    let write = Commit::set(path("s/room/new"), Input::parse(b"1").unwrap());
    let resolved = one.core().resolver.lock().resolve(one.core(), &Work::Commit(write));
    assert_eq!(resolved.answer.unwrap_err().error.kind(), ErrorKind::Busy);
    drop(pause);
    one.settle().unwrap();
    assert!(is_null(&one, "s"));
    let ends = one.read_commits(commits.len() as u64, usize::MAX).unwrap();
    assert!(ends.len() >= 2, "{}", ends.len());
    for commit in &ends {
        assert_eq!(commit.cause, ChangeCause::Ttl);
        assert!(commit.ops.len() <= ENDED_ITEMS_MAX + 1, "{}", commit.ops.len());
        apply(&told, commit);
        assert!(is_null(&told, "s"), "hidden until all of it is gone");
    }
    // Where it is not yet due, what others end goes as they end it.
    for commit in &ends {
        apply(&other, commit);
    }
    for tree in [&told, &other] {
        assert!(is_null(tree, "s"));
        exact_entries(tree);
        same(&one, tree);
    }
}

/// Promise: who writes where something ended is not refused for the leaves of what ended.
#[test]
fn what_ended_does_not_count_as_the_writers() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let limits = Limits { commit_operations_max: 10, ..Limits::default() };
    let options = TreeOptions { limits, ..in_zones(Some(zones())) };
    let tree = tree_on(&clock, &MemoryDisk::new(), options);
    set_ending(&tree, "s/room", r#"{"a":1}"#, HOUR_MS + 50);
    clock.advance_ms(10);
    (0..20).for_each(|at| drop(set(&tree, &format!("s/room/m{at}"), "1")));
    let pause = tree.pause_writes().unwrap();
    clock.advance_ms(1000);
    let write = Commit::set(path("s/room/new"), Input::parse(b"1").unwrap());
    let mut resolver = tree.core().resolver.lock();
    let resolved = resolver.resolve(tree.core(), &Work::Commit(write));
    tree.core().roll_back(&mut resolver);
    drop((resolver, pause));
    resolved.answer.unwrap();
}

/// Promise: who ends what was written before anything was tracked is followed.
#[test]
fn what_was_never_stamped_ends_at_others_too() {
    let clock = Arc::new(SimulatedClock::at(HOUR_MS));
    let log = MemoryDisk::new();
    let before = tree_on(&clock, &log, in_zones(None));
    for at in ["s/object", "s/written"] {
        set_ending_here(&before, at, r#"{"b":1,"c":{"d":2}}"#, HOUR_MS + 50);
    }
    set_ending_here(&before, "s/leaf", "3", HOUR_MS + 50);
    set_ending_here(&before, "s/written/inner", "4", HOUR_MS + 90_000);
    before.close().unwrap();
    let one = tree_on(&clock, &log, in_zones(Some(zones())));
    let told = tree_on(&clock, &MemoryDisk::new(), in_zones(Some(zones_ended_elsewhere())));
    let mut filled = set(&one, "s/written/x", "5");
    filled.ops = one.view().unwrap().stamped_page(&all(), b"", 100, 1 << 20).unwrap().ops;
    apply(&told, &filled);
    assert_eq!(get(&told, "s"), get(&one, "s"));
    let since = one.position().rev;
    clock.advance_ms(1000);
    one.settle().unwrap();
    for commit in one.read_commits(since, usize::MAX).unwrap() {
        apply(&told, &commit);
    }
    for tree in [&one, &told] {
        let view = tree.view().unwrap();
        let page = view.stamped_page(&all(), b"", 100, 1 << 20).unwrap();
        let is_gone = |op: &StampedOp| {
            !matches!(op.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)))
        };
        assert!(page.ops.iter().all(is_gone), "{:?}", page.ops);
    }
}

/// Promise: a zone inside that is written here goes with its path, whatever else was written in
/// there; what belongs to others stays.
#[test]
fn a_zone_inside_goes_with_its_path() {
    for writes in [&["s/z/mine/x"][..], &["s/z/mine/x", "s/z/late"], &[]] {
        let clock = Arc::new(SimulatedClock::at(HOUR_MS));
        let tree = tree(&clock);
        set(&tree, "s/ext/y", "1");
        set_ending(&tree, "s/z", r#"{"a":{"b":1},"mine":{"c":2}}"#, HOUR_MS + 50);
        clock.advance_ms(10);
        writes.iter().for_each(|at| drop(set(&tree, at, "3")));
        clock.advance_ms(1000);
        tree.settle().unwrap();
        assert_eq!(get(&tree, "s"), serde_json::json!({"ext": {"y": 1}}), "{writes:?}");
        exact_entries(&tree);
    }
}
