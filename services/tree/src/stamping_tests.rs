//! Promises of stamps across openings: none is of a time when its path was not tracked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::cause::ChangeCause;
use crate::commit::Commit;
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::stamp::{Author, RemoteCommit, RemoteRule, Scope, StampedChange, Version};
use crate::stamped::StampedSince;
use crate::tree::Tree;
use crate::zones_tests::shown as shown_in;
use crate::zoning::{Endings, Tracking, Zone, Zoning};

/// Zones of some first segments.
#[derive(Debug)]
struct Segments(&'static [&'static str]);

impl Zoning for Segments {
    fn zone(&self, key: &[u8]) -> Zone {
        let first = key.split(|byte| *byte == 0).next().unwrap();
        let own = self.0.iter().position(|segment| segment.as_bytes() == first);
        let tracking = if own.is_some() { Tracking::Shared } else { Tracking::None };
        let id = own.map_or(u32::MAX, |at| u32::try_from(at).unwrap());
        let prefix_bytes = if own.is_some() { first.len() } else { 0 };
        Zone { id, prefix_bytes, tracking, endings: Endings::Here }
    }

    fn carved(&self, key: &[u8]) -> Vec<Bytes> {
        if key.is_empty() { self.tracked().within } else { Vec::new() }
    }

    fn any_tracked(&self, key: &[u8]) -> bool {
        key.is_empty() || self.zone(key).tracking != Tracking::None
    }

    fn tracked(&self) -> Scope {
        let mut within: Vec<_> =
            self.0.iter().map(|at| Bytes::from_static(at.as_bytes())).collect();
        within.sort();
        Scope { within, except: Vec::new() }
    }
}

/// A store and a log that outlive their tree; or a log alone, from which each open replays all.
struct Disks {
    kv: Option<MemoryDisk>,
    log: trellis_log_memory::MemoryDisk,
}

fn each_kind(test: impl Fn(&Disks)) {
    for kv in [Some(MemoryDisk::new()), None] {
        test(&Disks { kv, log: trellis_log_memory::MemoryDisk::new() });
    }
}

impl Disks {
    fn open(&self, zones: Option<&'static [&'static str]>) -> Tree {
        let kv = self.kv.as_ref().map_or_else(MemoryKv::new, |disk| MemoryKv::on(disk).unwrap());
        let log = MemoryLog::on(&self.log).unwrap();
        let zoning = zones.map(|zones| Arc::new(Segments(zones)) as Arc<dyn Zoning>);
        let options = TreeOptions { zoning, ..TreeOptions::default() };
        Tree::open(Arc::new(kv), Arc::new(log), Runtime::system(), options).unwrap()
    }

    /// Opens, writes and closes; returns the newest rev.
    fn write(&self, zones: Option<&'static [&'static str]>, changes: &[(&str, &str)]) -> u64 {
        let tree = self.open(zones);
        for (path, json) in changes {
            set(&tree, path, json);
        }
        let rev = tree.position().rev;
        tree.close().unwrap();
        rev
    }
}

fn set(tree: &Tree, path: &str, json: &str) -> u64 {
    let (path, value) = (Path::parse(path).unwrap(), Input::parse(json.as_bytes()).unwrap());
    tree.commit(Commit::set(path, value)).unwrap().rev
}

fn scope(within: &[&str]) -> Scope {
    let key = |path: &&str| Path::parse(path).unwrap().key().clone();
    Scope { within: within.iter().map(key).collect(), except: Vec::new() }
}

/// Paths of a scope, and whether they have a version.
fn stamped(tree: &Tree, within: &[&str]) -> BTreeMap<String, bool> {
    let view = tree.view().unwrap();
    let page = view.stamped_page(&scope(within), b"", usize::MAX, usize::MAX).unwrap();
    let path = |key: &Bytes| String::from_utf8_lossy(key).replace('\0', "/");
    page.ops.iter().map(|op| (path(&op.key), op.version != Version::ZERO)).collect()
}

fn shown(of: &[(&str, bool)]) -> BTreeMap<String, bool> {
    of.iter().map(|(path, is_stamped)| ((*path).to_owned(), *is_stamped)).collect()
}

/// Promise: what was committed without stamps reaches a follower, by a snapshot and not otherwise.
#[test]
fn what_was_committed_while_it_was_off_is_told_as_a_whole() {
    each_kind(|disks| {
        disks.write(Some(&["a"]), &[("a/x", "1"), ("a/y", "2"), ("a/z", "3"), ("a/z", "null")]);
        let off = disks.write(None, &[("a/x", "5"), ("a/y", "null"), ("a/new", "6")]);
        let tree = disks.open(Some(&["a"]));
        assert_eq!(tree.stamped_since(), StampedSince { oldest: off, newest: off });
        assert_eq!(tree.gc_floor().unwrap(), off);
        assert_eq!(tree.read_commits(off - 1, 1).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tree.replication_stats().unwrap().by_rev_entries, 0, "no stamp is left");
        let rev = set(&tree, "a/late", "7");
        assert_eq!(tree.read_commits(off, 1).unwrap()[0].position.rev, rev);
        let (view, all) = (tree.view().unwrap(), scope(&["a"]));
        let page = view.stamped_page(&all, b"", usize::MAX, usize::MAX).unwrap();
        // A follower that has what was there before.
        let follower = Disks { kv: None, log: trellis_log_memory::MemoryDisk::new() };
        let follower = follower.open(Some(&["a"]));
        set(&follower, "a", r#"{"x":1,"y":2}"#);
        let rule = RemoteRule::Replace { from: Bytes::new(), until: None };
        let (author, cause) = (Author::default(), ChangeCause::Request);
        let live = |op: &&crate::stamp::StampedOp| matches!(op.change, StampedChange::Put(_));
        let ops = page.ops.iter().filter(live).cloned().collect();
        let commit =
            RemoteCommit { author, cause, ops, scope: all.clone(), rule, notes: Vec::new() };
        follower.apply_remote(commit).unwrap();
        let held = shown_in(&follower, &all);
        assert_eq!((&held, held.len()), (&shown_in(&tree, &all), 3));
        drop(view);
        tree.close().unwrap();
        // Nothing changes at an open as before.
        let tree = disks.open(Some(&["a"]));
        assert_eq!(tree.stamped_since(), StampedSince { oldest: off, newest: off });
        assert_eq!(shown_in(&tree, &all), held);
        assert_eq!(tree.replication_stats().unwrap().by_rev_entries, 1);
    });
}

/// Promise: who opens a tree and commits nothing takes no stamps away.
#[test]
fn an_opening_that_commits_nothing_voids_nothing() {
    each_kind(|disks| {
        disks.write(Some(&["a"]), &[("a/x", "1")]);
        for _ in 0..2 {
            disks.write(None, &[]);
        }
        let tree = disks.open(Some(&["a"]));
        assert_eq!(tree.stamped_since(), StampedSince::default());
        assert_eq!(stamped(&tree, &["a"]), shown(&[("a/x", true)]));
    });
}

/// Promise: without a zoning stamps go, once they say nothing any more.
#[test]
fn stamps_go_when_nothing_is_tracked() {
    each_kind(|disks| {
        disks.write(Some(&["a"]), &[("a/x", "1")]);
        disks.write(None, &[("a/x", "2")]);
        let stats = disks.open(None).replication_stats().unwrap();
        assert_eq!((stats.by_rev_entries, stats.gc_floor), (0, 0));
    });
}

/// Promise: more that is tracked takes no stamps away from what is, and is told as a whole.
#[test]
fn what_comes_is_told_as_a_whole_and_what_stays_keeps_its_stamps() {
    each_kind(|disks| {
        let both: &'static [&'static str] = &["b", "a"];
        disks.write(Some(&["a"]), &[("a/x", "1"), ("a/y", "2"), ("a/y", "null"), ("b/x", "1")]);
        let begun = disks.write(Some(&["a"]), &[("b/y", "1"), ("b/y", "null"), ("a/z", "3")]);
        let tree = disks.open(Some(both));
        assert_eq!(tree.stamped_since(), StampedSince { oldest: 0, newest: begun });
        assert_eq!(tree.gc_floor().unwrap(), begun);
        let old = [("a/x", true), ("a/y", true), ("a/z", true), ("b/x", false)];
        assert_eq!(stamped(&tree, &["a", "b"]), shown(&old));
        tree.close().unwrap();
        // What is tracked no longer has no stamps, also when it is tracked again.
        disks.write(Some(both), &[("b/z", "1"), ("b/w", "1"), ("a/w", "1")]);
        disks.write(Some(&["a"]), &[("b/z", "2")]);
        let tree = disks.open(Some(both));
        let now = stamped(&tree, &["a", "b"]);
        let old = [("a/w", true), ("a/x", true), ("a/y", true), ("a/z", true)];
        let new = [("b/w", false), ("b/x", false), ("b/z", false)];
        assert_eq!(now, shown(&[&old[..], &new].concat()));
        assert_eq!(tree.replication_stats().unwrap().by_rev_entries, 4);
    });
}
