//! The promises of `StreamLog`, kept by the memory log and broken by each of its mutants.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trellis_conformance::{Need, log};
use trellis_engine_traits::{
    Durability, ErrorKind, Expect, Offset, ReadBudget, ReadStop, StreamId, StreamLog,
};
use trellis_log_memory::mutants::Mutant;
use trellis_log_memory::{Fault, MemoryDisk, MemoryLog};

fn id(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

fn bytes(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

fn read(log: &dyn StreamLog, name: &str, from: Offset) -> Vec<(Offset, Bytes)> {
    let mut seen = Vec::new();
    log.read(&id(name), from, ReadBudget::UNLIMITED, &mut |offset, record| {
        seen.push((offset, Bytes::copy_from_slice(record)));
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

fn append(log: &dyn StreamLog, texts: &[&'static str], durability: Durability) {
    log.append(&id("s"), &bytes(texts), Expect::Any, durability).unwrap();
}

#[test]
fn append_dense_expect_empty_and_visible() {
    let log = MemoryLog::new();
    append(&log, &["a", "b"], Durability::Buffered);
    let refused = log.append(&id("s"), &bytes(&["x"]), Expect::Next(2), Durability::Synced);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    let empty = log.append(&id("s"), &[], Expect::Next(3), Durability::Synced).unwrap();
    assert_eq!((empty.first, empty.next), (3, 3));
    append(&log, &["c"], Durability::Synced);
    let expected: Vec<(Offset, Bytes)> = (1..).zip(bytes(&["a", "b", "c"])).collect();
    assert_eq!(read(&log, "s", 1), expected);
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 4);
}

#[test]
fn append_of_no_records_does_not_create_a_stream() {
    let log = MemoryLog::new();
    log.append(&id("s"), &[], Expect::Any, Durability::Synced).unwrap();
    assert!(log.streams(None, 10).unwrap().is_empty());
}

#[test]
fn read_budget_stops_but_visits_one() {
    let log = MemoryLog::new();
    append(&log, &["aaaa", "b", "c"], Durability::Buffered);
    let ends = |records_max, bytes_max| {
        let budget = ReadBudget { records_max, bytes_max };
        log.read(&id("s"), 1, budget, &mut |_, _| ControlFlow::Continue(())).unwrap()
    };
    assert_eq!((ends(0, 0).next, ends(0, 0).stop), (2, ReadStop::Budget));
    assert_eq!(ends(9, 5).next, 3);
    assert_eq!((ends(3, 6).next, ends(3, 6).stop), (4, ReadStop::End));
    let stop = log.read(&id("s"), 1, ReadBudget::UNLIMITED, &mut |_, _| ControlFlow::Break(()));
    let stop = stop.unwrap();
    assert_eq!((stop.next, stop.stop), (2, ReadStop::Stopped));
}

#[test]
fn trim_is_exact_and_keeps_next() {
    let log = MemoryLog::new();
    append(&log, &["a", "b", "c"], Durability::Buffered);
    assert_eq!(log.trim(&id("s"), 5).unwrap_err().kind(), ErrorKind::InvalidInput);
    log.trim(&id("s"), 3).unwrap();
    log.trim(&id("s"), 1).unwrap();
    assert_eq!(read(&log, "s", 3).len(), 1);
    let below = log.read(&id("s"), 2, ReadBudget::UNLIMITED, &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(below.unwrap_err().fact("first"), Some("3"));
    log.trim(&id("s"), 4).unwrap();
    append(&log, &["d"], Durability::Buffered);
    assert_eq!(read(&log, "s", 4).len(), 1);
}

#[test]
fn power_loss_keeps_a_prefix_with_what_was_durable() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::on(&disk).unwrap();
    append(&log, &["a"], Durability::Synced);
    append(&log, &["b"], Durability::Buffered);
    disk.lose_power();
    assert_eq!(log.bounds(&id("s")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(read(&MemoryLog::on(&disk).unwrap(), "s", 1).len(), 1);
}

#[test]
fn open_is_exclusive_and_close_is_idempotent_and_durable() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::on(&disk).unwrap();
    assert_eq!(MemoryLog::on(&disk).unwrap_err().kind(), ErrorKind::Locked);
    append(&log, &["a"], Durability::Buffered);
    log.close().unwrap();
    log.close().unwrap();
    disk.lose_power();
    assert_eq!(log.streams(None, 1).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(read(&MemoryLog::on(&disk).unwrap(), "s", 1).len(), 1);
}

#[test]
fn faults_are_clean_or_poison() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::on(&disk).unwrap();
    append(&log, &["a"], Durability::Synced);
    disk.fail_once(Fault::Append);
    let full = log.append(&id("s"), &bytes(&["b"]), Expect::Any, Durability::Synced);
    assert_eq!(full.unwrap_err().kind(), ErrorKind::Unavailable);
    append(&log, &["b"], Durability::Synced);
    disk.fail_once(Fault::Flush);
    assert_eq!(log.flush(&id("s"), 3).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let after = log.append(&id("s"), &bytes(&["c"]), Expect::Any, Durability::Buffered);
    assert_eq!(after.unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(read(&log, "s", 1).len(), 2);
}

#[test]
fn damage_is_named_and_never_the_end() {
    let disk = MemoryDisk::new();
    let log = MemoryLog::on(&disk).unwrap();
    append(&log, &["a", "b", "c"], Durability::Synced);
    assert!(disk.damage(&id("s"), 2) && !disk.damage(&id("s"), 9));
    let mut seen = 0;
    let outcome = log.read(&id("s"), 1, ReadBudget::UNLIMITED, &mut |_, _| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((seen, outcome.unwrap_err().fact("offset")), (1, Some("2")));
}

#[test]
fn streams_are_listed_in_pages() {
    let log = MemoryLog::new();
    for name in ["b", "a", "c"] {
        log.append(&id(name), &bytes(&["x"]), Expect::Any, Durability::Buffered).unwrap();
    }
    assert_eq!(log.streams(None, 2).unwrap(), [id("a"), id("b")]);
    assert_eq!(log.streams(Some(&id("b")), 2).unwrap(), [id("c")]);
    assert!(log.streams(None, 0).unwrap().is_empty());
}

/// A run over every promise that a mutant breaks, written down; an honest log's differs.
fn story(
    open: &dyn Fn(&MemoryDisk) -> trellis_engine_traits::Result<Box<dyn StreamLog>>,
) -> String {
    let disk = MemoryDisk::new();
    let mut lines = Vec::new();
    let log = open(&disk).unwrap();
    let mut note = |line: String| lines.push(line);
    note(format!("{:?}", log.profile()));
    let read = |log: &dyn StreamLog, name: &str, from, budget| {
        let mut seen = Vec::new();
        let end = log.read(&id(name), from, budget, &mut |offset, record| {
            seen.push((offset, record.len(), record.last().copied()));
            ControlFlow::Continue(())
        });
        format!("{seen:?} {end:?}")
    };
    let all = ReadBudget::UNLIMITED;
    for (name, texts) in [("s", vec!["aa", "bb", "cc"]), ("t", vec!["x"]), ("u", vec!["y", "z"])] {
        note(format!(
            "{:?}",
            log.append(&id(name), &bytes(&texts), Expect::Any, Durability::Buffered)
        ));
        note(format!("{:?} {}", log.bounds(&id(name)), read(&*log, name, 1, all)));
    }
    note(format!("{:?}", log.profile()));
    note(format!(
        "{:?}",
        log.append(&id("s"), &bytes(&["n"]), Expect::Next(9), Durability::Synced)
    ));
    note(format!("{:?}", log.append(&id("s"), &[], Expect::Any, Durability::Buffered)));
    for extra in [0, 1] {
        let large = [Bytes::from(vec![0; log.profile().limits.record_bytes_max + extra])];
        note(format!(
            "{:?}",
            log.append(&id("l"), &large, Expect::Any, Durability::Buffered).is_ok()
        ));
    }
    note(format!("{:?}", log.bounds(&id("l"))));
    note(read(&*log, "s", 1, ReadBudget { records_max: 1, bytes_max: 1 }));
    note(format!("{:?} {:?}", log.flush(&id("s"), 4), log.bounds(&id("s"))));
    disk.fail_once(Fault::Append);
    note(format!(
        "{:?}",
        log.append(&id("s"), &bytes(&["f"]), Expect::Any, Durability::Synced).is_ok()
    ));
    note(format!("{:?}", log.trim(&id("s"), 99).is_ok()));
    note(format!("{:?} {}", log.trim(&id("s"), 3), read(&*log, "s", 3, all)));
    note(format!("{} {}", read(&*log, "s", 1, all), read(&*log, "s", 77, all)));
    note(format!("{} {:?}", read(&*log, "t", 1, all), log.trim(&id("u"), 3)));
    note(format!("{:?}", log.append(&id("u"), &bytes(&["v"]), Expect::Any, Durability::Synced)));
    note(format!("{:?}", log.append(&id("s"), &bytes(&["w"]), Expect::Any, Durability::Synced)));
    note(format!("{:?} {:?}", log.streams(None, 9), log.streams(Some(&id("s")), 9)));
    disk.damage(&id("t"), 1);
    note(format!("{} {}", read(&*log, "t", 1, all), open(&disk).is_ok()));
    note(format!(
        "{:?}",
        log.append(&id("s"), &bytes(&["p", "q"]), Expect::Any, Durability::Buffered)
    ));
    drop(log);
    let log = open(&disk).unwrap();
    note(format!("{:?}", log.bounds(&id("s"))));
    note(format!("{:?}", log.append(&id("s"), &bytes(&["b"]), Expect::Any, Durability::Buffered)));
    note(format!("{:?} {:?} {:?}", log.close(), log.close(), log.bounds(&id("s"))));
    drop(log);
    let log = open(&disk).unwrap();
    note(format!("{:?}", log.bounds(&id("s"))));
    disk.fail_once(Fault::Flush);
    note(format!("{:?}", log.flush(&id("s"), 1).is_ok()));
    note(format!(
        "{:?}",
        log.append(&id("s"), &bytes(&["g"]), Expect::Any, Durability::Synced).is_ok()
    ));
    lines.join("\n")
}

#[test]
fn every_mutant_behaves_unlike_the_honest_log() {
    let honest = story(&|disk| Ok(Box::new(MemoryLog::on(disk)?)));
    assert_eq!(honest, story(&|disk| Ok(Box::new(MemoryLog::on(disk)?))));
    for mutant in Mutant::ALL {
        let told = story(&|disk| Ok(Box::new(MemoryLog::with_mutant(disk, *mutant)?)));
        assert!(honest != told, "{mutant:?}, breaking {}, goes unseen", mutant.breaks());
    }
}

/// Every promise of `StreamLog`, by the suite that holds all logs to them.
#[test]
fn conforms() {
    let disks = Mutex::new(HashMap::<PathBuf, Arc<MemoryDisk>>::new());
    let factory = log::Factory::new("log-memory", move |dir| {
        let disk = Arc::clone(disks.lock().unwrap().entry(dir.to_path_buf()).or_default());
        Ok(Arc::new(MemoryLog::on(&disk)?))
    })
    .offers(&[Need::Volatile]);
    let _shown = log::suite(&factory);
}
