//! The store keeps the contract of `KvBackend`, on files that are closed, reopened and copied as a
//! crash would leave them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{
    At, CommitSeq, Direction, Durability, ErrorKind, Guard, KeyRange, KvBackend, KvSnapshot,
    KvSnapshotExt, MaintenanceBudget, Op, Persistence, Result, Scan, ScanEnd, SpaceId, WriteBatch,
};
use trellis_kv_sled::{SledKv, SledOptions};

const ROUNDS: usize = 400;

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

const A: SpaceId = SpaceId(1);
const B: SpaceId = SpaceId(2);

type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

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

/// `kv.scan.order`, `kv.scan.bounds`, `kv.scan.stop`, `kv.scan.spaces`, `kv.get.exact`.
#[test]
fn scans_keep_order_bounds_stop_and_space() {
    let place = Place::new();
    let store = place.open().unwrap();
    for key in [&b""[..], b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\xff"] {
        put(&*store, A, key, key);
        put(&*store, SpaceId(0), key, b"decoy");
        put(&*store, B, key, b"decoy");
        put(&*store, SpaceId(255), key, b"decoy");
    }
    let range = KeyRange::new("a", Some(Bytes::from("b")));
    assert_eq!(keys(&*store, &Scan::forward(A, range.clone())), ["a".as_bytes(), b"a\0", b"a\xff"]);
    assert_eq!(keys(&*store, &Scan::reverse(A, range)), [b"a\xff".as_slice(), b"a\0", b"a"]);
    assert_eq!(keys(&*store, &Scan::reverse(A, KeyRange::all())).len(), 7);
    assert_eq!(keys(&*store, &Scan::forward(SpaceId(255), KeyRange::all())).len(), 7);
    for (start, end) in [("b", "a"), ("a", "a"), ("", "")] {
        let range = KeyRange::new(start, Some(Bytes::from(end)));
        assert!(keys(&*store, &Scan::forward(A, range.clone())).is_empty());
        assert!(keys(&*store, &Scan::reverse(A, range)).is_empty());
    }
    let snapshot = store.snapshot().unwrap();
    let mut seen = 0;
    let end = snapshot.scan(&Scan::forward(A, KeyRange::all()), &mut |_, _| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((end.unwrap(), seen), (ScanEnd::Stopped, 2));
    let end = snapshot.scan(&Scan::forward(SpaceId(9), KeyRange::all()), &mut |_, _| panic!());
    assert_eq!(end.unwrap(), ScanEnd::Exhausted);
    assert_eq!(snapshot.get(A, b"a\xff\xff").unwrap(), None);
    assert_eq!(snapshot.get(A, b"").unwrap().as_deref(), Some(&b""[..]));
}

/// `kv.commit.guards`: tested against the state before the batch, and nothing changed on failure.
#[test]
fn a_failed_guard_changes_nothing() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&*store, A, b"there", b"1");
    let there = || At::new(A, "there");
    let failing = [
        Guard::Absent(there()),
        Guard::Present(At::new(B, "there")),
        Guard::Equals(there(), Bytes::from("2")),
        Guard::Equals(At::new(A, "absent"), Bytes::new()),
    ];
    for guard in failing {
        let batch = WriteBatch::new()
            .guard(Guard::Present(there()))
            .guard(guard)
            .put(A, "new", "x")
            .delete(A, "there");
        assert_eq!(kind(store.commit(&batch, Durability::Buffered)), ErrorKind::Conflict);
        assert_eq!(keys(&*store, &Scan::forward(A, KeyRange::all())), ["there"]);
    }
    let batch = WriteBatch::new()
        .guard(Guard::Equals(there(), Bytes::from("1")))
        .guard(Guard::Absent(At::new(A, "new")))
        .put(A, "new", "x");
    store.commit(&batch, Durability::Synced).unwrap();
    assert_eq!(keys(&*store, &Scan::forward(A, KeyRange::all())), ["new", "there"]);
}

/// `kv.commit.guard_race`: exactly one of the racing commits succeeds.
#[test]
fn one_of_racing_guards_wins() {
    let place = Place::new();
    let store = place.open().unwrap();
    let batch = WriteBatch::new().guard(Guard::Absent(At::new(A, "one"))).put(A, "one", "x");
    let wins = thread::scope(|scope| {
        let race = || store.commit(&batch, Durability::Buffered).is_ok();
        let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum::<usize>()
    });
    assert_eq!(wins, 1);
}

/// `kv.commit.limits`, `kv.flush.unknown_seq`.
#[test]
fn limits_and_numbers_are_checked() {
    let place = Place::new();
    let store = place.open().unwrap();
    let limits = store.profile().limits;
    let key = vec![7u8; limits.key_bytes_max];
    let large = vec![8u8; limits.value_bytes_max];
    let batch = WriteBatch::new().put(A, key.clone(), large.clone());
    let seq = store.commit(&batch, Durability::Synced).unwrap();
    let too_long = WriteBatch::new().put(A, "x", "y").put(A, [&key[..], b"x"].concat(), "x");
    assert_eq!(kind(store.commit(&too_long, Durability::Buffered)), ErrorKind::TooLarge);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.get(A, &key).unwrap().as_deref(), Some(&large[..]));
    assert_eq!(snapshot.get(A, b"x").unwrap(), None);
    assert_eq!(snapshot.get(A, &[&key[..], b"x"].concat()).unwrap(), None);
    assert_eq!(kind(store.flush(CommitSeq(seq.0 + 1))), ErrorKind::InvalidInput);
    store.flush(seq).unwrap();
}

/// `kv.open.exclusive`, `kv.close.idempotent`, `kv.close.durable`.
#[test]
fn close_is_durable_final_and_frees_the_files() {
    let place = Place::new();
    let store = place.open().unwrap();
    assert_eq!(kind(place.open()), ErrorKind::Locked);
    let seq = put(&*store, A, b"kept", b"1");
    let snapshot = store.snapshot().unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(kind(snapshot.get(A, b"kept")), ErrorKind::Closed);
    let scan = Scan::forward(A, KeyRange::all());
    assert_eq!(
        kind(snapshot.scan(&scan, &mut |_, _| ControlFlow::Continue(()))),
        ErrorKind::Closed
    );
    assert_eq!(kind(store.snapshot()), ErrorKind::Closed);
    assert_eq!(kind(store.commit(&WriteBatch::new(), Durability::Synced)), ErrorKind::Closed);
    assert_eq!(kind(store.flush(seq)), ErrorKind::Closed);
    let budget = MaintenanceBudget { time: Duration::from_millis(1) };
    assert_eq!(kind(store.maintain(budget)), ErrorKind::Closed);
    assert_eq!(kind(store.usage()), ErrorKind::Closed);

    let again = place.open().unwrap();
    assert_eq!(keys(&*again, &scan), ["kept"]);
    drop((snapshot, store));
    put(&*again, A, b"more", b"2");
    drop(again);
    assert_eq!(keys(&*place.open().unwrap(), &scan), ["kept", "more"]);
}

/// `kv.snapshot.frozen` beside a writer: no reader ever sees a part of a batch.
#[test]
fn readers_never_see_a_torn_batch() {
    let place = Place::new();
    let store = place.open().unwrap();
    let round = |value: u32| {
        (0..100u32).fold(WriteBatch::new(), |batch, key| {
            batch.put(A, key.to_be_bytes().to_vec(), value.to_be_bytes().to_vec())
        })
    };
    store.commit(&round(0), Durability::Buffered).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = || {
            while !done.load(Ordering::Relaxed) {
                let snapshot = store.snapshot().unwrap();
                let first = snapshot.get(A, &7u32.to_be_bytes()).unwrap().unwrap();
                let scan = Scan::forward(A, KeyRange::all());
                let seen = pairs(&*snapshot, &scan);
                assert_eq!(seen.len(), 100);
                assert!(seen.iter().all(|(_, value)| *value == first));
            }
        };
        scope.spawn(read);
        scope.spawn(read);
        for value in 1..60 {
            store.commit(&round(value), Durability::Buffered).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// `kv.usage.plausible`, `kv.maintain.harmless`.
#[test]
fn usage_follows_what_is_stored() {
    let place = Place::new();
    let store = place.open().unwrap();
    let before = store.usage().unwrap().live_bytes;
    for key in 0..64u8 {
        put(&*store, A, &[key], &[key; 16 << 10]);
    }
    let full = store.usage().unwrap();
    assert!(full.live_bytes >= before + (1 << 20), "{full:?}");
    let on_disk = store.profile().persistence == Persistence::Disk;
    assert_eq!(full.disk_bytes > 1 << 20, on_disk, "{full:?}");
    let batch = WriteBatch::new().delete_range(A, KeyRange::all());
    store.commit(&batch, Durability::Synced).unwrap();
    put(&*store, A, b"k", b"v");
    assert!(store.usage().unwrap().live_bytes < before + (1 << 18));
    let budget = MaintenanceBudget { time: Duration::from_millis(50) };
    let _report = store.maintain(budget).unwrap();
    assert_eq!(keys(&*store, &Scan::forward(A, KeyRange::all())), ["k"]);
}

/// Everything at once against a model, with snapshots that are kept beside later commits, and
/// reopens: `kv.commit.order`, `kv.delete_range.exact`, `kv.snapshot.outlives`.
#[test]
fn random_histories_match_a_model() {
    let seed = std::env::var("TRELLIS_SEED").map_or_else(
        |_| std::hash::RandomState::new().build_hasher().finish(),
        |seed| seed.parse().expect("TRELLIS_SEED is a number"),
    );
    println!("TRELLIS_SEED={seed}");
    let mut random = Random(seed | 1);
    let place = Place::new();
    let mut store = place.open().unwrap();
    let mut model = Model::new();
    let mut kept: Vec<(Box<dyn KvSnapshot>, Model)> = Vec::new();
    let mut last = CommitSeq(0);
    for _ in 0..ROUNDS {
        match random.below(20) {
            0 => {
                kept.clear();
                store.close().unwrap();
                store = place.open().unwrap();
                last = CommitSeq(0);
            }
            1 => store.flush(last).unwrap(),
            2..5 => kept.push((store.snapshot().unwrap(), model.clone())),
            5 if !kept.is_empty() => drop(kept.remove(random.below(kept.len()))),
            _ => {
                let durability = [Durability::Buffered, Durability::Synced][random.below(8) / 7];
                let ops = random.ops(&mut model);
                let seq = store.commit(&WriteBatch { guards: vec![], ops }, durability).unwrap();
                assert!(seq > last);
                last = seq;
            }
        }
        if let Some((snapshot, model)) = kept.get(random.below(kept.len().max(1))) {
            compare(&**snapshot, model, &mut random);
        }
        compare(&*store.snapshot().unwrap(), &model, &mut random);
    }
}

fn compare(snapshot: &dyn KvSnapshot, model: &Model, random: &mut Random) {
    let (space, range) = (random.space(), random.range());
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = model
        .iter()
        .filter(|((at, key), _)| *at == space.0 && range.contains(key))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    let reverse = random.below(2) == 1;
    if reverse {
        expected.reverse();
    }
    let direction = if reverse { Direction::Reverse } else { Direction::Forward };
    let seen = pairs(snapshot, &Scan { space, range, direction });
    assert!(
        seen.iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .eq(expected.iter().map(|(key, value)| (&key[..], &value[..])))
    );
    let key = random.key();
    let expected = model.get(&(space.0, key.clone()));
    assert_eq!(snapshot.get(space, &key).unwrap().as_deref(), expected.map(|value| &value[..]));
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

    fn space(&mut self) -> SpaceId {
        SpaceId([0, 1, 2, 255][self.below(4)])
    }

    /// Few letters, so that keys meet.
    fn key(&mut self) -> Vec<u8> {
        (0..self.below(4)).map(|_| [0, 1, b'a', 255][self.below(4)]).collect()
    }

    fn range(&mut self) -> KeyRange {
        let end = (self.below(3) > 0).then(|| self.key().into());
        KeyRange::new(self.key(), end)
    }

    fn ops(&mut self, model: &mut Model) -> Vec<Op> {
        let mut ops = Vec::new();
        for _ in 0..self.below(30) {
            let (space, key) = (self.space(), self.key());
            match self.below(8) {
                0 => {
                    let range = self.range();
                    model.retain(|(at, key), _| *at != space.0 || !range.contains(key));
                    ops.push(Op::DeleteRange(space, range));
                }
                1 | 2 => {
                    model.remove(&(space.0, key.clone()));
                    ops.push(Op::Delete(At::new(space, key)));
                }
                _ => {
                    let value = vec![self.below(256) as u8; [0, 3, 300, 9000][self.below(4)]];
                    model.insert((space.0, key.clone()), value.clone());
                    ops.push(Op::Put(At::new(space, key), value.into()));
                }
            }
        }
        ops
    }
}
