//! Promises of the reads of replication: page by page, delta by delta, commit by commit a second
//! tree comes to hold the same, in the same versions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::{Fault, MemoryDisk, MemoryLog};
use trellis_runtime::Runtime;

use crate::cause::ChangeCause;
use crate::commit::Commit;
use crate::input::Input;
use crate::memtable::PAGED_BYTES_MAX;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::stamp::{Author, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp, Version};
use crate::tree::Tree;
use crate::zones_tests::shown;
use crate::zoning::{Endings, Tracking, Zone, Zoning};

/// One zone for all that is no system path.
#[derive(Debug)]
struct Whole;

impl Zoning for Whole {
    fn zone(&self, key: &[u8]) -> Zone {
        let own = key.starts_with(b"_");
        let tracking = if own { Tracking::None } else { Tracking::Shared };
        Zone { id: u32::from(own), prefix_bytes: 0, tracking, endings: Endings::Everywhere }
    }

    fn carved(&self, _key: &[u8]) -> Vec<Bytes> {
        Vec::new()
    }

    fn any_tracked(&self, key: &[u8]) -> bool {
        !key.starts_with(b"_")
    }
}

fn tree() -> Tree {
    let options = TreeOptions { zoning: Some(Arc::new(Whole)), ..TreeOptions::default() };
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    Tree::open(kv, log, Runtime::system(), options).unwrap()
}

fn set(tree: &Tree, path: &str, json: &str) -> u64 {
    let (path, value) = (Path::parse(path).unwrap(), Input::parse(json.as_bytes()).unwrap());
    tree.commit(Commit::set(path, value)).unwrap().rev
}

fn scope(within: &[&str]) -> Scope {
    let key = |path: &&str| Path::parse(path).unwrap().key().clone();
    Scope { within: within.iter().map(key).collect(), except: Vec::new() }
}

fn apply(tree: &Tree, scope: &Scope, ops: Vec<StampedOp>) {
    let version = ops.iter().map(|op| op.version).max().unwrap_or_default();
    let (author, cause) = (Author { version, via: Vec::new() }, ChangeCause::Request);
    let (scope, rule) = (scope.clone(), RemoteRule::Merge);
    let commit = RemoteCommit { author, cause, ops, scope, rule, notes: Vec::new() };
    tree.apply_remote(commit).unwrap();
}

/// Behind one that could not be appended nothing is applied, though there is room again: the notes
/// would say that it is there.
#[test]
fn a_chain_ends_where_the_journal_had_no_room() {
    let disk = MemoryDisk::new();
    let options = TreeOptions { zoning: Some(Arc::new(Whole)), ..TreeOptions::default() };
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::on(&disk).unwrap()));
    let tree = Tree::open(kv, log, Runtime::system(), options).unwrap();
    let note = Path::parse("_repl/feeds/f").unwrap();
    let with = |n: u64| {
        let version = Version { hlc: n << 16, origin: 7 };
        let change = StampedChange::Put(Bytes::from_static(b"\x05x"));
        let ops = vec![StampedOp { key: Bytes::from(format!("a\0{n}")), version, change }];
        let (author, cause) = (Author { version, via: Vec::new() }, ChangeCause::Request);
        let notes = vec![(note.clone(), Input::from_json(n.into()).unwrap())];
        let (scope, rule) = (scope(&["a"]), RemoteRule::Merge);
        RemoteCommit { author, cause, ops, scope, rule, notes }
    };
    disk.fail_once(Fault::Append);
    // More than are resolved at a time.
    let failed = tree.submit_remotes((1..3_000).map(with).collect());
    for one in failed {
        assert_eq!(one.wait().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(tree.view().unwrap().get(&note).unwrap().is_null());
    for one in tree.submit_remotes((1..3_000).map(with).collect()) {
        one.wait().unwrap();
    }
    assert_eq!(tree.view().unwrap().get(&note).unwrap(), 2_999);
}

/// Pages go into the store by small batches: a fill takes little of the room that the overlay has.
#[test]
fn pages_take_little_of_the_overlay() {
    let tree = tree();
    let key = |number: u64| Bytes::from(format!("a\0{number:08}"));
    let stored = Bytes::from([&b"\x05"[..], &[b'x'; 50 << 10]].concat());
    let page = |number: u64| {
        let version = Version { hlc: 1 << 16, origin: 7 };
        let put = |number| StampedOp {
            key: key(number),
            version,
            change: StampedChange::Put(stored.clone()),
        };
        let (from, until) = (20 * number, 20 * number + 20);
        let (ops, author) = ((from..until).map(put).collect(), Author { version, via: Vec::new() });
        let rule = RemoteRule::Replace { from: key(from), until: Some(key(until)) };
        let (cause, scope) = (ChangeCause::Request, scope(&["a"]));
        RemoteCommit { author, cause, ops, scope, rule, notes: Vec::new() }
    };
    // Two tables, each full, and what was taken to be resolved by then.
    let bound = 2 * (2 * PAGED_BYTES_MAX + (2 << 20));
    for one in tree.submit_remotes((0..32).map(page).collect()) {
        one.wait().unwrap();
        assert!(tree.stats().unwrap().overlay_bytes <= bound);
    }
    assert!(bound < (32 << 20) && tree.options().overlay_bytes_max > bound);
}

/// In its order from the only node that writes it, what comes counts, in the one commit that has
/// its note; merged, it would lose to what a clock that was ahead left here.
#[test]
fn what_its_only_author_says_counts_whatever_the_versions() {
    for (rule, holds) in [(RemoteRule::Merge, "mine"), (RemoteRule::Follow, "theirs")] {
        let tree = tree();
        let at = set(&tree, "a", r#"{"x":"mine"}"#);
        let version = Version { hlc: 7 << 16, origin: 7 };
        let text = |text: &str| StampedChange::Put([b"\x05", text.as_bytes()].concat().into());
        let op = |key: &'static str, change| StampedOp { key: key.into(), version, change };
        let ops = vec![op("a\0x", text("theirs")), op("a\0y", text("theirs"))];
        let (author, cause) = (Author { version, via: Vec::new() }, ChangeCause::Request);
        let scope = scope(&["a"]);
        let commit = RemoteCommit { author, cause, ops, scope, rule, notes: Vec::new() };
        let applied = tree.apply_remote(commit).unwrap();
        let shown = tree.view().unwrap().get(&Path::parse("a").unwrap()).unwrap();
        assert_eq!(shown["x"], holds);
        assert_eq!(shown.get("y").is_some(), holds == "theirs", "{shown}");
        assert!(applied.rev <= at + 1, "at most one commit");
    }
}

fn write(tree: &Tree) -> u64 {
    set(tree, "a/b/c", "1");
    set(tree, "a/b/d", r#"{"e":2,"f":{}}"#);
    set(tree, "a", r#"{"g":3,"b":{"c":4}}"#);
    let middle = set(tree, "h", "5");
    set(tree, "a/b", "null");
    set(tree, "i", r#"{"j":[6],"k":"7"}"#);
    set(tree, "i/j", "null");
    middle
}

fn same(one: &Tree, other: &Tree, scope: &Scope) {
    assert_eq!(shown(one, scope), shown(other, scope));
    assert!(!shown(one, scope).is_empty(), "something is compared");
}

/// Promise: pages of any size hold everything once, in order.
#[test]
fn a_tree_filled_by_pages_holds_the_same() {
    for items_max in [1, 2, 3, 100] {
        for scope in [scope(&["a", "i"]), Scope { within: vec![Bytes::new()], ..Scope::default() }]
        {
            let (source, copy) = (tree(), tree());
            write(&source);
            let (mut start, mut keys) = (Bytes::new(), Vec::new());
            loop {
                let page =
                    source.view().unwrap().stamped_page(&scope, &start, items_max, 1000).unwrap();
                keys.extend(page.ops.iter().map(|op| op.key.clone()));
                apply(&copy, &scope, page.ops);
                let Some(next) = page.next else { break };
                start = next;
            }
            assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
            same(&source, &copy, &scope);
        }
    }
}

/// Promise: an ending is told with its leaf's page or the next one, wherever pages and reads end,
/// in its version.
#[test]
fn endings_are_in_pages_wherever_these_end() {
    let disk = MemoryDisk::new();
    let write = |zoning: Option<Arc<dyn Zoning>>, name: &str| {
        let options = TreeOptions { zoning, ..TreeOptions::default() };
        let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::on(&disk).unwrap()));
        let tree = Tree::open(kv, log, Runtime::system(), options).unwrap();
        let updates = (0..600).map(|number| {
            let path = Path::parse(&format!("a/{number:04}{name}")).unwrap();
            (path, Input::parse(b"1").unwrap())
        });
        let expiry = Some(crate::commit::Expiry::AtMs(1 << 46));
        let update = crate::commit::Operation::Update { updates: updates.collect(), expiry };
        let commit = Commit { operations: vec![update], ..Commit::default() };
        tree.commit(commit).unwrap();
        tree
    };
    write(None, "unstamped").close().unwrap();
    let tree = write(Some(Arc::new(Whole)), "stamped");
    let view = tree.view().unwrap();
    for items_max in [1, 2, 510, 511, 1000, usize::MAX] {
        let (mut start, mut ops) = (Bytes::new(), Vec::new());
        loop {
            let page = view.stamped_page(&scope(&["a"]), &start, items_max, 1 << 20).unwrap();
            ops.extend(page.ops);
            let Some(next) = page.next else { break };
            start = next;
        }
        let endings = ops.iter().filter(|op| op.change == StampedChange::Ending(Some(1 << 46)));
        assert_eq!((ops.len(), endings.count()), (2400, 1200), "{items_max} at a time");
        let is_stamped = |op: &&StampedOp| op.version != Version::ZERO;
        assert_eq!(ops.iter().filter(is_stamped).count(), 1200, "{items_max} at a time");
    }
}

/// Promise: who follows a part is told of what was removed above it.
#[test]
fn a_removal_above_a_scope_is_one_of_the_scope() {
    let source = tree();
    set(&source, "a/b/c", "1");
    let before = set(&source, "a/b/d", "2");
    set(&source, "a", r#"{"x":1}"#);
    let scope = scope(&["a/b"]);
    let view = source.view().unwrap();
    let page = view.stamped_page(&scope, b"", 1, 1).unwrap();
    assert_eq!(page.next, None);
    let delta = view.stamped_since(&scope, before, None, 1, 1).unwrap();
    for ops in [&page.ops, &delta.ops] {
        let [op] = &ops[..] else { panic!("{ops:?}") };
        assert_eq!((op.key.as_ref(), &op.change), (&b"a\0b"[..], &StampedChange::Clear));
    }
}

/// Promise: what changed after a commit is told once, as it is now.
#[test]
fn a_tree_that_was_away_is_level_after_the_delta() {
    for items_max in [1, 2, 100] {
        let (source, copy) = (tree(), tree());
        let middle = write(&source);
        let all = Scope { within: vec![Bytes::new()], ..Scope::default() };
        for commit in source.read_commits(0, usize::MAX).unwrap() {
            if commit.position.rev <= middle {
                apply(&copy, &all, commit.ops);
            }
        }
        let mut next = None;
        loop {
            let view = source.view().unwrap();
            let delta = view.stamped_since(&all, middle, next, items_max, 1000).unwrap();
            assert!(delta.ops.len() <= items_max);
            apply(&copy, &all, delta.ops);
            next = delta.next;
            if next.is_none() {
                break;
            }
        }
        same(&source, &copy, &all);
    }
}

/// Promise: commits are read as they were made, and known by their hashes.
#[test]
fn commits_read_back_with_author_and_hash() {
    let source = tree();
    write(&source);
    let commits = source.read_commits(2, usize::MAX).unwrap();
    assert_eq!(commits.len() as u64, source.position().rev - 2);
    for commit in &commits {
        let rev = commit.position.rev;
        assert_eq!(source.hash_at(rev).unwrap(), Some(commit.position.hash));
        assert_eq!(commit.author.version.origin, source.origin());
        assert!(commit.ops.iter().all(|op| op.version == commit.author.version));
    }
    let in_order = |one: &Version, other: &Version| one < other;
    assert!(commits.iter().map(|commit| commit.author.version).is_sorted_by(in_order));
    assert_eq!(source.hash_at(source.position().rev + 1).unwrap(), None);
    assert_eq!(source.read_commits(source.position().rev, 1).unwrap(), Vec::new());
}

/// Promise: there is exactly one entry by rev for each stamp.
#[test]
fn each_stamp_has_one_entry_by_rev() {
    let source = tree();
    write(&source);
    write(&source);
    let stats = source.replication_stats().unwrap();
    let all = Scope { within: vec![Bytes::new()], ..Scope::default() };
    let page = source.view().unwrap().stamped_page(&all, b"", 1000, 1 << 20).unwrap();
    assert_eq!(stats.by_rev_entries, page.ops.len() as u64);
    let tombs = page.ops.iter().filter(|op| op.change == StampedChange::Tomb).count();
    assert_eq!(stats.tombstones, tombs as u64);
}

/// Promise: with a journal that is flushed for every commit, what is visible is durable, so that
/// who is woken for it can send it on and has not to ask again.
#[test]
fn what_is_visible_is_there_to_be_sent_on() {
    let tree = tree();
    let last = tree.position().rev + 2_000;
    let reading = tree.clone();
    let missed = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut after = last - 2_000;
            let mut missed = 0;
            while after < last {
                let visible = reading.position().rev;
                if visible > after {
                    let commits = reading.read_commits(after, usize::MAX).unwrap();
                    let read = commits.last().map_or(after, |commit| commit.position.rev);
                    missed += usize::from(read < visible);
                    after = visible;
                }
                std::hint::spin_loop();
            }
            missed
        });
        for number in 0..2_000 {
            set(&tree, "a", &number.to_string());
        }
        reader.join().unwrap()
    });
    assert_eq!(missed, 0);
}
