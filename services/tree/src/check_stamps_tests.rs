//! What a check must find in stamps, what it must not, and what repair makes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::check::check;
use crate::commit::{Commit, Expiry, Operation};
use crate::finding::{CheckOptions, CheckReport, FindingKind, Remedy};
use crate::here::{Stamp, StampKind, ending_key};
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::repair::repair;
use crate::seal::seal;
use crate::space::{BY_REV, DATA, STAMP, time_key};
use crate::stale_tests::{Disks, set};
use crate::stamp::Version;

fn checked(disks: &Disks) -> CheckReport {
    let (kv, log) = (MemoryKv::on(&disks.kv).unwrap(), MemoryLog::on(&disks.log).unwrap());
    check(Some(&kv), Some(&log), &CheckOptions::default()).unwrap()
}

fn found(disks: &Disks) -> Vec<(FindingKind, String, Remedy)> {
    let findings = checked(disks).findings.into_iter();
    findings.map(|finding| (finding.kind, finding.place, finding.remedy)).collect()
}

fn change(disks: &Disks, batch: WriteBatch) {
    MemoryKv::on(&disks.kv).unwrap().commit(&batch, Durability::Synced).unwrap();
}

fn put(batch: WriteBatch, space: SpaceId, key: &[u8], value: &[u8]) -> WriteBatch {
    batch.put(space, key.to_vec(), seal(space, key, value))
}

/// A closed tree in which things were written, removed, emptied, and end.
fn written() -> Disks {
    let disks = Disks::new();
    let tree = disks.open();
    set(&tree, "a", r#"{"x":1,"y":{"z":2}}"#);
    set(&tree, "a/x", "null");
    set(&tree, "b", r#"{"c":{"d":1,"e":2}}"#);
    set(&tree, "b/c", "null");
    set(&tree, "a/y", "7");
    set(&tree, "a/y/w", "8");
    for (path, ends) in [("e", 1 << 50), ("f/g", 1 << 51)] {
        let (path, value) = (Path::parse(path).unwrap(), Input::parse(b"1").unwrap());
        let operations = vec![Operation::Set { path, value, expiry: Some(Expiry::AtMs(ends)) }];
        tree.commit(Commit { operations, ..Commit::default() }).unwrap();
    }
    set(&tree, "f/g", "2");
    set(&tree, "e/h", "2");
    tree.close().unwrap();
    disks
}

/// Promise: nothing is found in what a tree wrote, also when it was replicated once and is not now.
#[test]
fn nothing_is_found_in_what_was_written() {
    let disks = written();
    let report = checked(&disks);
    assert!(report.is_clean() && report.stamps > 5, "{report:?}");
    let tree = disks.open();
    set(&tree, "root", "1");
    assert!(tree.check(&CheckOptions::default()).unwrap().is_clean());
    tree.close().unwrap();
    assert!(checked(&disks).is_clean());
    let tree = disks.open_with(TreeOptions::default());
    set(&tree, "root", "null");
    tree.close().unwrap();
    assert_eq!(found(&disks), [], "void stamps say nothing");
}

/// Promise: what a large removal leaves behind is no finding, whenever one looks.
#[test]
fn what_is_tidied_up_later_is_no_finding() {
    let disks = Disks::new();
    let tree = disks.open();
    let leaves = (0..9000).map(|at| format!("\"k{at}\":{at}")).collect::<Vec<_>>();
    set(&tree, "big", &format!("{{{}}}", leaves.join(",")));
    tree.flush().unwrap();
    set(&tree, "big", "null");
    assert!(tree.check(&CheckOptions::default()).unwrap().is_clean());
    tree.flush().unwrap();
    assert!(tree.check(&CheckOptions::default()).unwrap().is_clean());
    tree.close().unwrap();
    assert!(checked(&disks).is_clean());
}

/// Promise: each kind of damage is named, and repaired.
#[test]
fn damaged_stamps_are_named_and_repaired() {
    let disks = written();
    let stamp = |rev, kind| Stamp { version: Version { hlc: 7, origin: 7 }, rev, kind }.encode();
    let lost = {
        let kv = MemoryKv::on(&disks.kv).unwrap();
        let stored = kv.snapshot().unwrap().get(STAMP, b"f\0g").unwrap().unwrap();
        let rev = Stamp::decode(&stored[..stored.len() - 4]).unwrap().rev;
        time_key(rev, b"f\0g")
    };
    let batch = WriteBatch::new().delete(BY_REV, lost);
    let batch = put(batch, STAMP, b"nobody", &stamp(3, StampKind::Live));
    let batch = put(batch, BY_REV, &time_key(3, b"nobody"), b"");
    let no_ending = ending_key(b"nothing");
    let batch = put(batch, STAMP, &no_ending, &stamp(4, StampKind::Live));
    let batch = put(batch, BY_REV, &time_key(4, &no_ending), b"");
    let batch = put(batch, STAMP, b"unreadable", b"?");
    let batch = put(batch, BY_REV, b"short", b"");
    let batch = put(batch, BY_REV, &time_key(2, b"stray"), b"");
    change(&disks, batch);
    let places = ["the stamp of f/g", "the stamp of nobody", "the stamp of nothing/\u{2}"];
    let all = found(&disks);
    let found_at = |place: &str| all.iter().filter(|found| found.1.starts_with(place)).count();
    assert_eq!(places.map(found_at), [1, 1, 1], "{all:?}");
    let named = |kind, place: &str, remedy| {
        assert!(all.contains(&(kind, place.to_owned(), remedy)), "{place}: {all:?}");
    };
    named(FindingKind::MissingIndex, "the stamp of f/g", Remedy::Derive);
    named(FindingKind::StrayIndex, "the stamp of nobody", Remedy::Derive);
    named(FindingKind::Shape, "the stamp of unreadable", Remedy::Remove);
    named(FindingKind::Shape, "the order of revs: short", Remedy::Derive);
    named(FindingKind::StrayIndex, "the order of revs: stray at 2", Remedy::Derive);
    assert_eq!(all.len(), 6, "{all:?}");
    let (kv, log) = (MemoryKv::on(&disks.kv).unwrap(), MemoryLog::on(&disks.log).unwrap());
    let options = CheckOptions::default();
    let repaired = repair(&kv, Some(&log), &Runtime::system(), &options, &mut |_| Ok(())).unwrap();
    assert!(repaired.report.is_clean(), "{:?}", repaired.report.findings);
    assert!(kv.snapshot().unwrap().get(DATA, b"f\0g").unwrap().is_some(), "no data goes");
}
