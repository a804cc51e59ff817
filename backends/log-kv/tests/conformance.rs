//! The promises of `StreamLog`, kept by a log on a store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod store;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store::Store;
use trellis_conformance::{Need, log};
use trellis_engine_traits::{
    Durability, ErrorKind, Expect, KvBackend, Offset, ReadBudget, ReadStop, StreamId, StreamLog,
};
use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_kv::{KvLog, RECORDS_SPACE, STREAMS_SPACE};

fn id(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

fn open(store: &Arc<Store>) -> KvLog {
    KvLog::new(Arc::<Store>::clone(store) as Arc<dyn KvBackend>, false).unwrap()
}

fn append(log: &KvLog, name: &str, texts: &[&'static str], durability: Durability) {
    let records: Vec<Bytes> =
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    log.append(&id(name), &records, Expect::Any, durability).unwrap();
}

fn read(log: &KvLog, name: &str, from: Offset) -> Vec<(Offset, Vec<u8>)> {
    let mut seen = Vec::new();
    log.read(&id(name), from, ReadBudget::UNLIMITED, &mut |offset, record| {
        seen.push((offset, record.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

fn read_error(log: &KvLog, name: &str, from: Offset) -> trellis_engine_traits::Error {
    log.read(&id(name), from, ReadBudget::UNLIMITED, &mut |_, _| ControlFlow::Continue(()))
        .unwrap_err()
}

#[test]
fn append_dense_expect_empty_and_listed() {
    let log = open(&Store::new());
    append(&log, "b", &["1", "2"], Durability::Buffered);
    append(&log, "a", &["x"], Durability::Buffered);
    let record = [Bytes::from_static(b"3")];
    let refused = log.append(&id("b"), &record, Expect::Next(2), Durability::Synced);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    let taken = log.append(&id("b"), &record, Expect::Next(3), Durability::Buffered).unwrap();
    assert_eq!((taken.first, taken.next), (3, 4));
    assert_eq!(log.append(&id("c"), &[], Expect::Any, Durability::Synced).unwrap().next, 1);
    assert_eq!(log.streams(None, 9).unwrap(), [id("a"), id("b")]);
    assert_eq!(log.streams(Some(&id("a")), 1).unwrap(), [id("b")]);
    assert_eq!(read(&log, "b", 2), [(2, b"2".to_vec()), (3, b"3".to_vec())]);
}

#[test]
fn streams_whose_names_begin_alike_are_independent() {
    let log = open(&Store::new());
    for name in ["a", "a-", "a.b", "ab"] {
        append(&log, name, &["1", "2"], Durability::Buffered);
    }
    log.trim(&id("a"), 3).unwrap();
    assert_eq!(log.bounds(&id("a")).unwrap().first, 3);
    for name in ["a-", "a.b", "ab"] {
        assert_eq!(read(&log, name, 1).len(), 2);
    }
}

#[test]
fn durable_next_follows_flushes_and_power_loss_keeps_the_prefix() {
    let store = Store::new();
    let log = open(&store);
    append(&log, "s", &["1"], Durability::Synced);
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 2);
    append(&log, "s", &["2", "3"], Durability::Buffered);
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 2);
    append(&log, "t", &["1"], Durability::Buffered);
    log.flush(&id("s"), 4).unwrap();
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 4);
    append(&log, "s", &["4"], Durability::Buffered);
    store.lose_power();
    let log = open(&store);
    assert_eq!((read(&log, "s", 1).len(), read(&log, "t", 1).len()), (3, 1));
    assert_eq!(log.bounds(&id("s")).unwrap().durable_next, 4);
}

#[test]
fn trim_bounds_and_reads_outside() {
    let log = open(&Store::new());
    append(&log, "s", &["1", "2", "3"], Durability::Buffered);
    assert_eq!(log.trim(&id("s"), 5).unwrap_err().kind(), ErrorKind::InvalidInput);
    log.trim(&id("s"), 3).unwrap();
    log.trim(&id("s"), 0).unwrap();
    assert_eq!(read_error(&log, "s", 2).fact("first"), Some("3"));
    assert_eq!(read_error(&log, "s", 5).kind(), ErrorKind::InvalidInput);
    assert!(read(&log, "s", 4).is_empty());
    log.trim(&id("s"), 4).unwrap();
    append(&log, "s", &["4"], Durability::Buffered);
    assert_eq!(read(&log, "s", 4), [(4, b"4".to_vec())]);
}

#[test]
fn read_budget_stops_but_visits_one() {
    let log = open(&Store::new());
    append(&log, "s", &["aaaa", "b", "c"], Durability::Buffered);
    let end = |records_max, bytes_max| {
        let budget = ReadBudget { records_max, bytes_max };
        let end = log.read(&id("s"), 1, budget, &mut |_, _| ControlFlow::Continue(())).unwrap();
        (end.next, end.stop)
    };
    assert_eq!(end(0, 0), (2, ReadStop::Budget));
    assert_eq!(end(9, 5), (3, ReadStop::Budget));
    assert_eq!(end(3, 6), (4, ReadStop::End));
}

#[test]
fn large_records_are_split_where_values_are_small() {
    let store = Store::with_values_of(1 << 20);
    let log = open(&store);
    let limits = log.profile().limits;
    let large: Bytes = (0..limits.record_bytes_max).map(|at| (at >> 10) as u8).collect();
    let exact = Bytes::from(vec![7; (1 << 20) - 5]);
    let records = [large.clone(), Bytes::new(), exact.clone()];
    log.append(&id("s"), &records, Expect::Any, Durability::Synced).unwrap();
    let seen = read(&log, "s", 1);
    assert!(seen[0].1 == large && seen[1].1.is_empty() && seen[2].1 == exact);
    let over = [Bytes::from(vec![0; limits.record_bytes_max + 1])];
    let refused = log.append(&id("s"), &over, Expect::Any, Durability::Synced);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooLarge);
    store.damage(RECORDS_SPACE, |key, _| !key.ends_with(&[3]));
    assert_eq!(read_error(&log, "s", 1).fact("offset"), Some("1"));
}

#[test]
fn damage_is_corrupt_and_named_never_the_end() {
    let store = Store::new();
    let log = open(&store);
    append(&log, "s", &["one", "two", "three"], Durability::Synced);
    for bit in 0..(5 + 3) * 8 {
        let flip = |key: &[u8], value: &mut Vec<u8>| {
            if key.ends_with(&[2, 0]) {
                value[bit / 8] ^= 1 << (bit % 8);
            }
            true
        };
        store.damage(RECORDS_SPACE, flip);
        let failure = read_error(&log, "s", 1);
        assert_eq!((failure.kind(), failure.fact("offset")), (ErrorKind::Corrupt, Some("2")));
        store.damage(RECORDS_SPACE, flip);
    }
    assert_eq!(read(&log, "s", 1).len(), 3);
    store.damage(RECORDS_SPACE, |key, _| !key.ends_with(&[3, 0]));
    assert_eq!(read_error(&log, "s", 1).fact("offset"), Some("3"));
    store.damage(STREAMS_SPACE, |key, value| {
        if key == b"s" {
            value[8] ^= 1;
        }
        true
    });
    let failure = KvLog::new(store, false).unwrap_err();
    assert_eq!((failure.kind(), failure.fact("stream")), (ErrorKind::Corrupt, Some("s")));
}

#[test]
fn a_newer_format_is_refused() {
    let store = Store::new();
    open(&store).close().unwrap();
    store.damage(STREAMS_SPACE, |_, value| {
        value[0] = 2;
        true
    });
    let failure = KvLog::new(store, false).unwrap_err();
    assert_eq!((failure.kind(), failure.fact("format")), (ErrorKind::Unsupported, Some("2")));
}

#[test]
fn store_failures_are_clean_or_poison() {
    let store = Store::new();
    let log = open(&store);
    let record = [Bytes::from_static(b"x")];
    let try_append = || log.append(&id("s"), &record, Expect::Any, Durability::Synced);
    store.fail_commit(ErrorKind::Unavailable);
    assert_eq!(try_append().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(try_append().unwrap().first, 1);
    store.fail_commit(ErrorKind::OutcomeUnknown);
    assert_eq!(try_append().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(try_append().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(read(&log, "s", 1).len(), 1);
    assert_eq!(log.close().unwrap_err().kind(), ErrorKind::OutcomeUnknown);

    let log = open(&store);
    append(&log, "s", &["y"], Durability::Buffered);
    store.fail_flush(ErrorKind::OutcomeUnknown);
    assert_eq!(log.flush(&id("s"), 2).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let after = log.append(&id("s"), &record, Expect::Any, Durability::Buffered);
    assert_eq!(after.unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn close_is_idempotent_durable_and_leaves_a_shared_store_open() {
    let store = Store::new();
    let log = open(&store);
    append(&log, "s", &["1"], Durability::Buffered);
    log.close().unwrap();
    log.close().unwrap();
    assert_eq!(log.bounds(&id("s")).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!store.is_closed());
    store.lose_power();
    let log = KvLog::new(Arc::<Store>::clone(&store), true).unwrap();
    assert_eq!(read(&log, "s", 1).len(), 1);
    log.close().unwrap();
    assert!(store.is_closed());
}

#[test]
fn a_second_log_on_the_same_store_shuts_the_first_out() {
    let store = Store::new();
    let (first, second) = (open(&store), open(&store));
    let record = [Bytes::from_static(b"x")];
    let refused = first.append(&id("s"), &record, Expect::Any, Durability::Synced);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Locked);
    append(&second, "s", &["y"], Durability::Synced);
    assert_eq!(read(&second, "s", 1), [(1, b"y".to_vec())]);
}

#[test]
fn random_calls_agree_with_a_model() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TRELLIS_SEED={seed}");
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let store = Store::new();
    let mut log = open(&store);
    let mut model: BTreeMap<StreamId, (Offset, Vec<Vec<u8>>)> = BTreeMap::new();
    for _ in 0..800 {
        let stream = id(["a", "b", "b-1"][draw(3) as usize]);
        let (first, records) = model.entry(stream.clone()).or_insert((1, Vec::new()));
        match draw(10) {
            0 => {
                log.close().unwrap();
                log = open(&store);
            }
            1 => {
                let before = 1 + draw(records.len() as u64 + 1);
                log.trim(&stream, before).unwrap();
                *first = before.max(*first);
            }
            2 => log.flush(&stream, records.len() as u64 + 1).unwrap(),
            _ => {
                let new: Vec<Vec<u8>> =
                    (0..draw(4)).map(|_| vec![draw(256) as u8; draw(40) as usize]).collect();
                let sent: Vec<Bytes> = new.iter().cloned().map(Bytes::from).collect();
                let expect = Expect::Next(records.len() as u64 + 1);
                log.append(&stream, &sent, expect, Durability::Buffered).unwrap();
                records.extend(new);
            }
        }
        let bounds = log.bounds(&stream).unwrap();
        assert_eq!((bounds.first, bounds.next), (*first, records.len() as u64 + 1));
        let from = *first + draw(bounds.next - *first + 1);
        let expected: Vec<(Offset, Vec<u8>)> =
            (1..).zip(records.iter().cloned()).skip(from as usize - 1).collect();
        assert_eq!(read(&log, stream.as_str(), from), expected);
    }
}

/// Every promise of `StreamLog`, by the suite that holds all logs to them.
#[test]
fn conforms() {
    let disks = Mutex::new(HashMap::<PathBuf, MemoryDisk>::new());
    let factory = log::Factory::new("log-kv", move |dir| {
        let disk = disks.lock().unwrap().entry(dir.to_path_buf()).or_default().clone();
        Ok(Arc::new(KvLog::new(Arc::new(MemoryKv::on(&disk)?), true)?))
    })
    .offers(&[Need::Volatile]);
    let _shown = log::suite(&factory);
}
