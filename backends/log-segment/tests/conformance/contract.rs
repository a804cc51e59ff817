//! What a healthy log does.

use std::ops::ControlFlow;
use std::sync::Barrier;

use bytes::Bytes;
use trellis_engine_traits::{
    Durability, ErrorKind, Expect, Offset, ReadBudget, ReadStop, StreamLog,
};
use trellis_log_segment::{SegmentLog, SegmentOptions};

use crate::{Bench, append, id, read, segment_name, try_read};

#[test]
fn append_is_dense_and_readable_and_survives_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let log = SegmentLog::open(directory.path(), SegmentOptions::default()).unwrap();
    append(&log, "s", &[b"a", b"", b"c"], Durability::Buffered);
    append(&log, "s", &[b"d"], Durability::Synced);
    let expected: Vec<(Offset, Vec<u8>)> =
        (1..).zip([b"a".to_vec(), vec![], b"c".to_vec(), b"d".to_vec()]).collect();
    assert_eq!(read(&log, "s", 1), expected);
    drop(log);
    let log = SegmentLog::open(directory.path(), SegmentOptions::default()).unwrap();
    assert_eq!(read(&log, "s", 1), expected);
    let bounds = log.bounds(&id("s")).unwrap();
    assert_eq!((bounds.first, bounds.next, bounds.durable_next), (1, 5, 5));
}

#[test]
fn expect_and_empty_appends() {
    let log = Bench::new(8192).open();
    let record = [Bytes::from_static(b"x")];
    let wrong = log.append(&id("s"), &record, Expect::Next(2), Durability::Synced).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Conflict);
    assert_eq!(log.append(&id("s"), &[], Expect::Next(1), Durability::Synced).unwrap().next, 1);
    assert!(log.streams(None, 9).unwrap().is_empty());
    assert_eq!(log.append(&id("s"), &record, Expect::Next(1), Durability::Synced).unwrap().next, 2);
    let again = log.append(&id("s"), &record, Expect::Next(1), Durability::Synced).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(read(&log, "s", 1).len(), 1);
}

#[test]
fn reads_go_on_across_segments_and_keep_the_budget() {
    let log = Bench::new(8192).open();
    for number in 0..100u8 {
        append(&log, "s", &[&[number; 500]], Durability::Buffered);
    }
    for from in 1..=101u64 {
        let seen = read(&log, "s", from);
        assert_eq!(seen.len() as u64, 101 - from);
        let right = |(offset, record): &(Offset, Vec<u8>)| *record == vec![*offset as u8 - 1; 500];
        assert!(seen.iter().all(right));
    }
    let end = |from, records_max, bytes_max| {
        let budget = ReadBudget { records_max, bytes_max };
        let end = log.read(&id("s"), from, budget, &mut |_, _| ControlFlow::Continue(())).unwrap();
        (end.next, end.stop)
    };
    assert_eq!(end(1, 0, 0), (2, ReadStop::Budget));
    assert_eq!(end(1, 40, usize::MAX), (41, ReadStop::Budget));
    assert_eq!(end(90, usize::MAX, 1499), (92, ReadStop::Budget));
    assert_eq!(end(100, 1, 500), (101, ReadStop::End));
    let stop = |offset, _: &[u8]| {
        if offset == 60 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = log.read(&id("s"), 20, ReadBudget::UNLIMITED, &mut { stop }).unwrap();
    assert_eq!((stopped.next, stopped.stop), (61, ReadStop::Stopped));
    assert_eq!(try_read(&log, "s", 102).1.unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn records_and_appends_up_to_the_limits_and_not_beyond() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    let limits = log.profile().limits;
    append(&log, "s", &[b"small"], Durability::Buffered);
    let largest: Bytes = (0..limits.record_bytes_max).map(|at| (at >> 8) as u8).collect();
    log.append(&id("s"), std::slice::from_ref(&largest), Expect::Any, Durability::Synced).unwrap();
    append(&log, "s", &[b"after"], Durability::Synced);
    let over = [Bytes::from(vec![0; limits.record_bytes_max + 1])];
    let refused = log.append(&id("s"), &over, Expect::Any, Durability::Synced).unwrap_err();
    assert_eq!(refused.fact("record_bytes_max"), Some("20971520"));
    drop(log);
    assert_eq!(bench.segments("s").len(), 3);
    let log = bench.open();
    let seen = read(&log, "s", 1);
    assert!(seen.len() == 3 && seen[1].1 == largest && seen[2].1 == b"after");
}

#[test]
fn trim_removes_whole_segments_and_keeps_next() {
    let bench = Bench::new(8192);
    let log = bench.open();
    for _ in 0..50 {
        append(&log, "s", &[&[7; 500]], Durability::Buffered);
        append(&log, "t", &[&[8; 500]], Durability::Buffered);
    }
    assert_eq!(log.trim(&id("s"), 52).unwrap_err().kind(), ErrorKind::InvalidInput);
    log.trim(&id("s"), 0).unwrap();
    assert_eq!(log.bounds(&id("s")).unwrap().first, 1);
    log.trim(&id("s"), 30).unwrap();
    let first = log.bounds(&id("s")).unwrap().first;
    assert!(1 < first && first <= 30);
    assert_eq!(read(&log, "s", first).len() as u64, 51 - first);
    assert_eq!(try_read(&log, "s", first - 1).1.unwrap().fact("first"), Some(&*first.to_string()));
    log.trim(&id("s"), 51).unwrap();
    let bounds = log.bounds(&id("s")).unwrap();
    assert_eq!((bounds.first, bounds.next, bounds.durable_next), (51, 51, 51));
    assert_eq!(bench.segments("s"), [bench.path("s", &segment_name(51))]);
    drop(log);
    let log = bench.open();
    assert_eq!(log.bounds(&id("s")).unwrap(), bounds);
    assert_eq!(log.streams(None, 9).unwrap(), [id("s"), id("t")]);
    append(&log, "s", &[b"x"], Durability::Synced);
    assert_eq!(read(&log, "s", 51), [(51, b"x".to_vec())]);
    assert_eq!(read(&log, "t", 1).len(), 50);
}

#[test]
fn open_is_exclusive_and_close_is_idempotent_and_durable() {
    let bench = Bench::new(8192);
    let log = bench.open();
    assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Locked);
    append(&log, "s", &[b"a"], Durability::Buffered);
    let syncs = bench.files.syncs();
    log.close().unwrap();
    assert_eq!(bench.files.syncs(), syncs + 1);
    log.close().unwrap();
    let record = [Bytes::from_static(b"x")];
    for failure in [
        log.append(&id("s"), &record, Expect::Any, Durability::Synced).unwrap_err(),
        log.bounds(&id("s")).unwrap_err(),
        log.trim(&id("s"), 1).unwrap_err(),
        log.flush(&id("s"), 1).unwrap_err(),
        log.streams(None, 1).unwrap_err(),
        try_read(&log, "s", 1).1.unwrap(),
    ] {
        assert_eq!(failure.kind(), ErrorKind::Closed);
    }
    assert_eq!(read(&bench.open(), "s", 1).len(), 1);
}

#[test]
fn durable_next_follows_flushes() {
    let log = Bench::new(8192).open();
    let durable = || log.bounds(&id("s")).unwrap().durable_next;
    append(&log, "s", &[b"a", b"b"], Durability::Buffered);
    assert_eq!(durable(), 1);
    assert_eq!(log.flush(&id("s"), 4).unwrap_err().kind(), ErrorKind::InvalidInput);
    log.flush(&id("s"), 2).unwrap();
    assert_eq!(durable(), 3);
    append(&log, "s", &[b"c"], Durability::Buffered);
    assert_eq!(durable(), 3);
    append(&log, "s", &[b"d"], Durability::Synced);
    assert_eq!(durable(), 5);
}

#[test]
fn of_racing_appends_each_offset_is_won_once_and_all_are_there() {
    let bench = Bench::new(16 << 10);
    let log = bench.open();
    let start = Barrier::new(4);
    let wins: usize = std::thread::scope(|scope| {
        let racer = |racer: u8| {
            let (log, start) = (&log, &start);
            move || {
                start.wait();
                let mut wins = 0;
                for turn in 0..200u64 {
                    let record = [Bytes::from(vec![racer; 100])];
                    let expect = Expect::Next(turn + 1);
                    wins += usize::from(
                        log.append(&id("race"), &record, expect, Durability::Synced).is_ok(),
                    );
                    append(log, "any", &[&turn.to_le_bytes()], Durability::Synced);
                }
                wins
            }
        };
        let racers: Vec<_> = (0..4).map(|number| scope.spawn(racer(number))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(read(&log, "race", 1).len(), wins);
    assert_eq!(read(&log, "any", 1).len(), 800);
    assert_eq!(log.bounds(&id("any")).unwrap().durable_next, 801);
}
