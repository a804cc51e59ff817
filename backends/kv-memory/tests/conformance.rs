//! The store keeps the contract of `KvBackend`, across close and reopen of one memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use trellis_conformance::{Need, kv};
use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt, Result, Scan,
    SpaceId, WriteBatch,
};
use trellis_kv_memory::{Fault, MemoryDisk, MemoryKv, Mutant};

struct Place(MemoryDisk);

impl Place {
    fn new() -> Self {
        Self(MemoryDisk::new())
    }

    fn open(&self) -> Result<Box<dyn KvBackend>> {
        Ok(Box::new(MemoryKv::on(&self.0)?))
    }
}

/// `kv.poison.writes`, and a full medium changes nothing.
#[test]
fn faults_answer_what_they_mean() {
    let place = Place::new();
    let store = place.open().unwrap();
    let seq = put(&*store, A, b"a", b"1");
    place.0.fail_once(Fault::Commit);
    let batch = WriteBatch::new().put(A, "b", "2");
    let full = store.commit(&batch, Durability::Synced).unwrap_err();
    assert_eq!((full.kind(), full.fact("reason")), (ErrorKind::Unavailable, Some("storage_full")));
    place.0.fail_once(Fault::Flush);
    assert_eq!(kind(store.flush(seq)), ErrorKind::OutcomeUnknown);
    assert_eq!(kind(store.flush(seq)), ErrorKind::Poisoned);
    assert_eq!(kind(store.commit(&batch, Durability::Buffered)), ErrorKind::Poisoned);
    assert_eq!(keys(&*store, &Scan::forward(A, KeyRange::all())), ["a"]);
    assert_eq!(kind(store.close()), ErrorKind::OutcomeUnknown);
    put(&*place.open().unwrap(), A, b"b", b"2");
}

/// Every mutant opens, takes writes and names the promise it breaks.
#[test]
fn mutants_work_apart_from_what_they_break() {
    for mutant in Mutant::ALL {
        let store = MemoryKv::with_mutant(*mutant);
        let batch = WriteBatch::new().put(A, "a", "1").put(A, "b", "2");
        store.commit(&batch, Durability::Synced).unwrap();
        assert!(!keys(&store, &Scan::forward(A, KeyRange::all())).is_empty());
        assert!(mutant.breaks().starts_with("kv."));
    }
}

const A: SpaceId = SpaceId(1);

fn kind<T>(answer: Result<T>) -> ErrorKind {
    answer.map(drop).expect_err("an error was promised").kind()
}

fn pairs(snapshot: &dyn KvSnapshot, scan: &Scan) -> Vec<(Bytes, Bytes)> {
    snapshot.collect(scan, usize::MAX).unwrap()
}

fn keys(store: &dyn KvBackend, scan: &Scan) -> Vec<Bytes> {
    let snapshot = store.snapshot().unwrap();
    pairs(&*snapshot, scan).into_iter().map(|(key, _)| key).collect()
}

fn put(store: &dyn KvBackend, space: SpaceId, key: &[u8], value: &[u8]) -> CommitSeq {
    let batch = WriteBatch::new().put(space, key.to_vec(), value.to_vec());
    store.commit(&batch, Durability::Buffered).unwrap()
}

/// Every promise of `KvBackend`, by the suite that holds all stores to them.
#[test]
fn conforms() {
    let disks = Mutex::new(HashMap::<PathBuf, MemoryDisk>::new());
    let factory = kv::Factory::new("kv-memory", move |dir| {
        let disk = disks.lock().unwrap().entry(dir.to_owned()).or_default().clone();
        Ok(Arc::new(MemoryKv::on(&disk)?))
    })
    .offers(&[Need::Volatile]);
    let _shown = kv::suite(&factory);
}
