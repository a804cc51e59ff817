//! The store keeps the contract of `KvBackend`, on files that are closed, reopened and copied as a
//! crash would leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_conformance::{Need, kv};
use trellis_engine_traits::{
    CommitSeq, Durability, EngineCheck, ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt,
    Result, Scan, SpaceId, WriteBatch,
};
use trellis_kv_redb::{RedbKv, RedbOptions};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("new/directories/tree.redb")
    }

    fn open(&self) -> Result<Box<dyn KvBackend>> {
        Ok(Box::new(RedbKv::open(&self.path(), RedbOptions::default())?))
    }

    /// What a crash of the process would leave at this moment.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir_all(copy.path().parent().unwrap()).unwrap();
        std::fs::copy(self.path(), copy.path()).unwrap();
        copy
    }
}

/// A file of another kind is refused with what it is, and stays as it was.
#[test]
fn foreign_files_are_refused() {
    let place = Place::new();
    drop(place.open().unwrap());
    std::fs::write(place.path(), vec![b'x'; 10_000]).unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Corrupt);
    std::fs::remove_file(place.path()).unwrap();
    let other = redb::Database::create(place.path()).unwrap();
    let transaction = other.begin_write().unwrap();
    let definition = redb::TableDefinition::<u64, u64>::new("theirs");
    drop(transaction.open_table(definition).unwrap());
    transaction.commit().unwrap();
    drop(other);
    assert_eq!(kind(place.open()), ErrorKind::Unsupported);
    let place = Place::new();
    std::fs::write(place.0.path().join("new"), "a file where a directory is needed").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::InvalidInput);
}

/// A file that was being made when the process was killed is made anew; it never has the name of
/// the store before it is whole.
#[test]
fn a_creation_that_was_cut_short_is_done_again() {
    let place = Place::new();
    drop(place.open().unwrap());
    let whole = std::fs::read(place.path()).unwrap();
    let unfinished = place.path().with_extension("redb.new");
    for kept in [0, 9, 4096, whole.len()] {
        std::fs::remove_file(place.path()).unwrap();
        let mut part = whole[..kept].to_vec();
        part.iter_mut().take(9).for_each(|byte| *byte = 0);
        std::fs::write(&unfinished, part).unwrap();
        let store = place.open().unwrap();
        put(&*store, A, b"key", b"value");
        assert!(!unfinished.exists());
        drop(store);
        let store = place.open().unwrap();
        assert_eq!(store.snapshot().unwrap().get(A, b"key").unwrap().unwrap(), &b"value"[..]);
    }
    // While one process makes it, another one waits for nothing and destroys nothing.
    std::fs::remove_file(place.path()).unwrap();
    let making = std::fs::File::create(&unfinished).unwrap();
    making.lock().unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Locked);
}

/// Damage anywhere in the file never ends the process: every answer is the truth or an error.
#[test]
fn damage_is_answered() {
    let place = Place::new();
    let store = place.open().unwrap();
    for key in 0..=255u8 {
        put(&*store, A, &[key], &[key; 1000]);
    }
    store.close().unwrap();
    let sound = std::fs::read(place.path()).unwrap();
    let mut random = Random(1);
    for round in 0..90 {
        let mut damaged = sound.clone();
        let page = random.below(damaged.len() / 4096) * 4096;
        if round < 20 {
            damaged[page..page + 4096].fill(0xA5);
        } else {
            // The heads of pages, where redb looks up lengths and positions.
            damaged[page + random.below(64)] ^= 1 << random.below(8);
        }
        std::fs::write(place.path(), damaged).unwrap();
        let Ok(store) = place.open() else { continue };
        let Ok(snapshot) = store.snapshot() else { continue };
        for key in 0..=255u8 {
            drop(snapshot.get(A, &[key]));
        }
        let scan = Scan::forward(A, KeyRange::all());
        drop(snapshot.scan(&scan, &mut |_, _| ControlFlow::Continue(())));
        drop(store.commit(&WriteBatch::new().put(A, vec![3], "x"), Durability::Synced));
        drop((snapshot, store.close()));
    }
}

/// One byte of a value that changed behind redb's back is found by a check, and by nothing else.
#[test]
fn a_check_finds_a_changed_value() {
    let place = Place::new();
    let store = place.open().unwrap();
    for key in 0..=255u8 {
        put(&*store, A, &[key], &[key; 1000]);
    }
    let view = store.snapshot().unwrap();
    assert!(store.check().unwrap().skipped.unwrap().contains("stop the server"), "a view is open");
    drop(view);
    assert_eq!(store.check().unwrap(), EngineCheck::complete());
    store.close().unwrap();
    let mut file = std::fs::read(place.path()).unwrap();
    let value = file.windows(1000).rposition(|bytes| bytes == [77; 1000]).unwrap();
    file[value + 500] ^= 1;
    std::fs::write(place.path(), file).unwrap();
    let store = place.open().unwrap();
    let found = store.check().unwrap();
    assert_eq!((found.damage.len(), found.skipped), (1, None));
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

/// A small generator: the point is to replay a seed, not its quality.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Every promise of `KvBackend`, by the suite that holds all stores to them.
#[test]
fn conforms() {
    let factory = kv::Factory::new("kv-redb", |dir| {
        Ok(Arc::new(RedbKv::open(&dir.join("store.redb"), RedbOptions::default())?))
    })
    .offers(&[Need::Disk]);
    let _shown = kv::suite(&factory);
}
