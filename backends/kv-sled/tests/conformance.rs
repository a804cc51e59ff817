//! The store keeps the contract of `KvBackend`, on files that are closed, reopened and copied as a
//! crash would leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use bytes::Bytes;
use trellis_conformance::{Need, kv};
use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt, Result, Scan,
    SpaceId, WriteBatch,
};
use trellis_kv_sled::{SledKv, SledOptions};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("new/directories/tree.sled")
    }

    fn open(&self) -> Result<Box<dyn KvBackend>> {
        Ok(Box::new(SledKv::open(&self.path(), SledOptions::default())?))
    }

    /// What a crash of the process would leave at this moment.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        copy_directory(&self.path(), &copy.path());
        copy
    }
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A directory of another kind is refused with what it is, and stays as it was.
#[test]
fn foreign_directories_are_refused() {
    let place = Place::new();
    std::fs::create_dir_all(place.path()).unwrap();
    std::fs::write(place.path().join("letter"), "theirs").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Unsupported);
    let place = Place::new();
    let other = sled::open(place.path()).unwrap();
    other.insert("theirs", "1").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Locked);
    drop(other);
    assert_eq!(kind(place.open()), ErrorKind::Unsupported);
    let place = Place::new();
    std::fs::write(place.0.path().join("new"), "a file where a directory is needed").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::InvalidInput);
}

/// `kv.snapshot.outlives`: views of many states at once, over commits that overwrite, remove and
/// add the same keys, and in the order in which they are dropped.
#[test]
fn views_of_many_states_stay_frozen() {
    let place = Place::new();
    let store = place.open().unwrap();
    let scan = Scan::forward(A, KeyRange::all());
    let mut views = Vec::new();
    for round in 0..60u8 {
        let mut batch = WriteBatch::new();
        for key in 0..50u8 {
            batch = match (key ^ round) % 3 {
                0 => batch.delete(A, vec![key]),
                _ => batch.put(A, vec![key], vec![round; 40]),
            };
        }
        store.commit(&batch, Durability::Buffered).unwrap();
        if round % 4 != 1 {
            let view = store.snapshot().unwrap();
            let seen = pairs(&*view, &scan);
            views.push((view, seen));
        }
        if round % 7 == 6 {
            let (view, seen) = views.remove(views.len() / 2);
            assert_eq!(pairs(&*view, &scan), seen);
        }
    }
    for (view, seen) in views {
        assert_eq!(pairs(&*view, &scan), seen);
        let reversed = pairs(&*view, &Scan::reverse(A, KeyRange::all()));
        assert!(reversed.iter().eq(seen.iter().rev()));
    }
}

/// `kv.commit.synced`, `kv.flush.durable`, `kv.commit.prefix`: what was promised is in the files
/// while the store is still open.
#[test]
fn a_crash_keeps_what_was_promised() {
    let place = Place::new();
    let store = place.open().unwrap();
    let scan = Scan::forward(A, KeyRange::all());
    let first = WriteBatch::new().put(A, "1", "synced");
    store.commit(&first, Durability::Synced).unwrap();
    assert_eq!(keys(&*place.crashed().open().unwrap(), &scan), ["1"]);
    let seq = put(&*store, A, b"2", b"buffered");
    store.flush(seq).unwrap();
    assert_eq!(keys(&*place.crashed().open().unwrap(), &scan), ["1", "2"]);
    put(&*store, A, b"3", b"buffered");
    put(&*store, A, b"4", b"buffered");
    store.commit(&WriteBatch::new(), Durability::Synced).unwrap();
    assert_eq!(keys(&*place.crashed().open().unwrap(), &scan), ["1", "2", "3", "4"]);
    put(&*store, A, b"5", b"buffered");
    put(&*store, A, b"6", b"buffered");
    let left = keys(&*place.crashed().open().unwrap(), &scan);
    let all: Vec<Bytes> = (1..=6).map(|key: u8| key.to_string().into()).collect();
    assert!((4..=6).contains(&left.len()) && left == all[..left.len()], "{left:?}");
}

#[test]
fn what_a_kill_left_of_a_summary_does_not_stop_an_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sled");
    let store = SledKv::open(&path, SledOptions::default()).unwrap();
    put(&store, A, b"1", b"kept");
    store.close().unwrap();
    drop(store);
    std::fs::write(path.join("snap.00000000000132E5.generating"), b"").unwrap();
    let store = SledKv::open(&path, SledOptions::default()).unwrap();
    assert_eq!(keys(&store, &Scan::forward(A, KeyRange::all())), ["1"]);
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
    let factory = kv::Factory::new("kv-sled", |dir| {
        Ok(Arc::new(SledKv::open(&dir.join("store.sled"), SledOptions::default())?))
    })
    .offers(&[Need::Disk])
    // One pool of threads serves all sled stores of a process, until it ends.
    .engine_threads(128);
    let _shown = kv::suite(&factory);
}
