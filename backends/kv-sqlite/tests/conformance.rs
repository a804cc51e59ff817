//! The store keeps the contract of `KvBackend`, on files that are closed, reopened and copied as a
//! crash would leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_conformance::{Need, kv};
use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt,
    MaintenanceBudget, Result, Scan, SpaceId, WriteBatch,
};
use trellis_kv_sqlite::{SqliteKv, SqliteOptions};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("new/directories/tree.sqlite")
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.0.path().join("new/directories/tree.sqlite-wal")
    }

    /// With a small log, so that it starts again within a test.
    fn open(&self) -> Result<Box<dyn KvBackend>> {
        let options = SqliteOptions { wal_bytes_max: 64 << 10, ..SqliteOptions::default() };
        Ok(Box::new(SqliteKv::open(&self.path(), options)?))
    }

    /// What a crash of the process would leave at this moment.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir_all(copy.path().parent().unwrap()).unwrap();
        std::fs::copy(self.path(), copy.path()).unwrap();
        std::fs::copy(self.log_path(), copy.log_path()).unwrap();
        copy
    }
}

/// A file of another kind is refused with what it is, and stays as it was.
#[test]
fn foreign_files_are_refused() {
    let place = Place::new();
    drop(place.open().unwrap());
    let connection = || rusqlite::Connection::open(place.path()).unwrap();
    connection().pragma_update(None, "user_version", 2).unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Unsupported);
    std::fs::write(place.path(), vec![b'x'; 10_000]).unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Corrupt);
    std::fs::remove_file(place.path()).unwrap();
    connection().execute_batch("CREATE TABLE theirs (it)").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Unsupported);
    let place = Place::new();
    std::fs::write(place.0.path().join("new"), "a file where a directory is needed").unwrap();
    assert_eq!(kind(place.open()), ErrorKind::InvalidInput);
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
    let mut found = 0;
    for _ in 0..20 {
        let mut damaged = sound.clone();
        let page = random.below(damaged.len() / 4096) * 4096;
        damaged[page..page + 4096].fill(0xA5);
        std::fs::write(place.path(), damaged).unwrap();
        let Ok(store) = place.open() else { continue };
        found += usize::from(store.check().is_ok_and(|check| !check.damage.is_empty()));
        let Ok(snapshot) = store.snapshot() else { continue };
        for key in 0..=255u8 {
            drop(snapshot.get(A, &[key]));
        }
        let scan = Scan::forward(A, KeyRange::all());
        drop(snapshot.scan(&scan, &mut |_, _| ControlFlow::Continue(())));
        drop(store.commit(&WriteBatch::new().put(A, vec![3], "x"), Durability::Synced));
    }
    assert!(found > 0, "a check that finds none of twenty damages is none");
}

/// The log does not grow for ever beside a view that is always held, and the view stays readable.
#[test]
fn the_log_starts_again_beside_the_newest_view() {
    let place = Place::new();
    let store = place.open().unwrap();
    let mut view = store.snapshot().unwrap();
    for round in 0..200u32 {
        let before = pairs(&*view, &Scan::forward(A, KeyRange::all()));
        let batch = (0..10u8).fold(WriteBatch::new(), |batch, key| {
            batch.put(A, vec![key], [&round.to_be_bytes()[..], &[key; 2000]].concat())
        });
        store.commit(&batch, Durability::Buffered).unwrap();
        assert_eq!(pairs(&*view, &Scan::forward(A, KeyRange::all())), before);
        view = store.snapshot().unwrap();
        assert_eq!(view.get(A, &[3]).unwrap().unwrap()[..4], round.to_be_bytes());
    }
    let log_bytes = std::fs::metadata(place.log_path()).unwrap().len();
    assert!(log_bytes < 512 << 10, "{log_bytes}");
}

/// Maintenance gives what was deleted back to the file system.
#[test]
fn maintenance_reclaims() {
    let place = Place::new();
    let store = place.open().unwrap();
    for key in 0..100u8 {
        put(&*store, A, &[key], &[key; 50_000]);
    }
    store.maintain(MaintenanceBudget { time: Duration::ZERO }).unwrap();
    let full = store.usage().unwrap().disk_bytes;
    let batch = WriteBatch::new().delete_range(A, KeyRange::prefix(&[1]));
    store.commit(&batch, Durability::Buffered).unwrap();
    let batch = WriteBatch::new().delete_range(A, KeyRange::new(vec![2], None));
    store.commit(&batch, Durability::Buffered).unwrap();
    let mut reclaimed = 0;
    loop {
        let budget = MaintenanceBudget { time: Duration::from_millis(5) };
        let report = store.maintain(budget).unwrap();
        reclaimed += report.reclaimed_bytes;
        if !report.more {
            break;
        }
    }
    assert!(reclaimed > 4_000_000, "{reclaimed}");
    let left = store.usage().unwrap().disk_bytes;
    assert!(left + 3_000_000 < full, "{full} {left}");
    assert_eq!(keys(&*store, &Scan::forward(A, KeyRange::all())), [vec![0]]);
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
    let factory = kv::Factory::new("kv-sqlite", |dir| {
        Ok(Arc::new(SqliteKv::open(&dir.join("store.sqlite"), SqliteOptions::default())?))
    })
    .offers(&[Need::Disk, Need::ReclaimDisk]);
    let _shown = kv::suite(&factory);
}
