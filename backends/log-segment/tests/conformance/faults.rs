//! What a failing medium does to a log.

use std::io::ErrorKind::{Other, StorageFull};

use bytes::Bytes;
use trellis_engine_traits::{Appended, Durability, ErrorKind, Expect, Result, StreamLog};

use crate::files::Operation;
use crate::{Bench, append, id, read, try_read};

fn try_append(log: &dyn StreamLog, bytes: usize) -> Result<Appended> {
    let record = [Bytes::from(vec![9; bytes])];
    log.append(&id("s"), &record, Expect::Any, Durability::Synced)
}

#[test]
fn a_failed_flush_poisons_appends_but_not_reads() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    append(&log, "s", &[b"a"], Durability::Synced);
    append(&log, "t", &[b"a"], Durability::Synced);
    bench.files.fail(Operation::SyncData, "s/", 0, Other);
    assert_eq!(try_append(&log, 5).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let syncs = bench.files.syncs();
    assert_eq!(try_append(&log, 5).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(log.flush(&id("s"), 2).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(log.trim(&id("s"), 2).unwrap_err().kind(), ErrorKind::Poisoned);
    let other = log.append(&id("t"), &[Bytes::new()], Expect::Any, Durability::Buffered);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(read(&log, "s", 1)[0], (1, b"a".to_vec()));
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 2);
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(bench.files.syncs(), syncs, "a flush that failed is not asked again");
    let log = bench.open();
    assert!(read(&log, "s", 1).len() <= 2);
    try_append(&log, 5).unwrap();
}

#[test]
fn a_full_medium_at_creation_is_clean() {
    for (operation, name) in [
        (Operation::Open, "durable"),
        (Operation::Open, ".new"),
        (Operation::Write(0), ".new"),
        (Operation::Write(100), ".new"),
        (Operation::SyncData, ".new"),
        (Operation::Rename, ".new"),
    ] {
        let bench = Bench::new(8192);
        let log = bench.open();
        bench.files.fail(operation, name, 0, StorageFull);
        let failure = try_append(&log, 100).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unavailable, "{operation:?}");
        assert_eq!(failure.fact("reason"), Some("storage_full"));
        assert!(log.streams(None, 9).unwrap().is_empty());
        assert_eq!(try_append(&log, 100).unwrap().first, 1);
        assert!(bench.files.is_done());
    }
}

#[test]
fn a_full_medium_at_a_new_segment_is_clean() {
    for operation in [Operation::Open, Operation::Write(77), Operation::Rename] {
        let bench = Bench::new(8192);
        let log = bench.open();
        try_append(&log, 4000).unwrap();
        bench.files.fail(operation, ".new", 0, StorageFull);
        assert_eq!(try_append(&log, 4000).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(read(&log, "s", 1).len(), 1);
        assert_eq!(try_append(&log, 4000).unwrap().first, 2);
        drop(log);
        assert_eq!(read(&bench.open(), "s", 1).len(), 2);
    }
}

#[test]
fn a_failed_fill_or_frame_is_clean_and_leaves_nothing() {
    for (bytes, part) in [(100, 0), (100, 60), (100_000, 5000), (300_000, 200_000)] {
        let bench = Bench::new(1 << 20);
        let log = bench.open();
        append(&log, "s", &[b"a"], Durability::Synced);
        bench.files.fail(Operation::Write(part), ".new", 0, StorageFull);
        let failure = try_append(&log, bytes).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unavailable);
        drop(log);
        let log = bench.open();
        assert_eq!(read(&log, "s", 1).len(), 1);
        assert_eq!(try_append(&log, bytes).unwrap().first, 2);
        assert_eq!(read(&log, "s", 2).len(), 1);
    }
}

#[test]
fn a_frame_that_can_neither_be_written_nor_undone_poisons() {
    for undo in [Operation::SetLen, Operation::SyncData] {
        let bench = Bench::new(1 << 20);
        let log = bench.open();
        append(&log, "s", &[b"a"], Durability::Synced);
        bench.files.fail(Operation::Write(60), ".new", 0, Other);
        bench.files.fail(undo, ".new", 0, Other);
        assert_eq!(try_append(&log, 100).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(try_append(&log, 100).unwrap_err().kind(), ErrorKind::Poisoned);
        drop(log);
        assert_eq!(read(&bench.open(), "s", 1).len(), 1);
    }
}

#[test]
fn a_new_segment_that_may_not_be_there_poisons() {
    let bench = Bench::new(8192);
    let log = bench.open();
    try_append(&log, 4000).unwrap();
    bench.files.fail(Operation::SyncDir, "streams/s", 0, Other);
    assert_eq!(try_append(&log, 4000).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(try_append(&log, 10).unwrap_err().kind(), ErrorKind::Poisoned);
    drop(log);
    let log = bench.open();
    assert_eq!(try_append(&log, 10).unwrap().first, 2);
}

#[test]
fn a_trim_that_fails_midway_leaves_no_hole() {
    for removed in 0..5 {
        let bench = Bench::new(8192);
        let log = bench.open();
        for _ in 0..50 {
            append(&log, "s", &[&[7; 500]], Durability::Buffered);
        }
        bench.files.fail(Operation::Remove, ".segment", removed, Other);
        assert_eq!(log.trim(&id("s"), 51).unwrap_err().kind(), ErrorKind::Unavailable);
        let first = log.bounds(&id("s")).unwrap().first;
        assert_eq!(first, 1 + 7 * removed as u64);
        assert_eq!(read(&log, "s", first).len() as u64, 51 - first);
        drop(log);
        let log = bench.open();
        assert_eq!(read(&log, "s", first).len() as u64, 51 - first);
        log.trim(&id("s"), 51).unwrap();
        assert!(try_read(&log, "s", 50).1.is_some());
    }
}
