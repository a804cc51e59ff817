//! The store as a whole: profile, flush, maintenance, usage, exclusive opening.

use std::time::Duration;

use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, MaintenanceBudget, Persistence, Result,
};

use super::KvWorld;
use super::tools::{SPACE, batch, commit, dump, dump_of, get, names, put, puts, refused};
use crate::{Case, Need};

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.profile.constant", &["kv.profile.constant"], profile_constant),
    Case::new("kv.profile.minima", &["kv.profile.constant", "kv.commit.limits"], minima),
    Case::new("kv.profile.disk", &["kv.profile.constant"], profile_disk).needs(&[Need::Disk]),
    Case::new("kv.profile.volatile", &["kv.profile.constant"], profile_volatile)
        .needs(&[Need::Volatile]),
    Case::new("kv.flush.any_given_number", &["kv.flush.durable"], flush_given),
    Case::new("kv.flush.unknown_number", &["kv.flush.unknown_seq"], flush_unknown),
    Case::new("kv.maintain.changes_nothing", &["kv.maintain.harmless"], maintain_harmless),
    Case::new("kv.maintain.beside_others", &["kv.maintain.harmless"], maintain_beside),
    Case::new("kv.maintain.reclaims", &["kv.maintain.harmless", "kv.usage.plausible"], reclaims)
        .needs(&[Need::ReclaimDisk])
        .otherwise(reclaims_nothing),
    Case::new("kv.maintain.unbounded", &["kv.maintain.harmless"], maintain_unbounded),
    Case::new("kv.check.finds_nothing", &["kv.check.harmless"], check_finds_nothing),
    Case::new("kv.check.beside_others", &["kv.check.harmless"], check_beside),
    Case::new("kv.usage.live_bytes", &["kv.usage.plausible"], usage_live),
    Case::new("kv.usage.disk_bytes", &["kv.usage.plausible"], usage_disk).needs(&[Need::Disk]),
    Case::new("kv.usage.no_disk", &["kv.usage.plausible"], usage_volatile).needs(&[Need::Volatile]),
    Case::new("kv.open.locked", &["kv.open.exclusive"], open_locked),
];

fn profile_constant(world: &KvWorld) {
    let kv = world.engine();
    let before = kv.profile().clone();
    assert!(!before.name.is_empty());
    let seq = put(&*kv, "k", "v");
    assert_eq!(*kv.profile(), before, "after a commit");
    kv.flush(seq).unwrap();
    let wrong =
        kv.commit(&puts([(vec![0; before.limits.key_bytes_max + 1], "")]), Durability::Synced);
    assert!(wrong.is_err());
    assert_eq!(*kv.profile(), before, "after an error");
    kv.maintain(MaintenanceBudget { time: Duration::from_millis(1) }).unwrap();
    kv.close().unwrap();
    assert_eq!(*kv.profile(), before, "after closing");
    drop(kv);
    assert_eq!(*world.reopen().profile(), before, "after a reopen");
}

fn minima(world: &KvWorld) {
    let limits = world.engine().profile().limits;
    assert!(limits.key_bytes_max >= 1_100, "{limits:?}");
    assert!(limits.value_bytes_max >= 16 << 20, "{limits:?}");
    assert!(limits.batch_ops_max >= 1_000_000, "{limits:?}");
    assert!(limits.batch_bytes_max >= 64 << 20, "{limits:?}");
}

fn profile_disk(world: &KvWorld) {
    assert_eq!(world.engine().profile().persistence, Persistence::Disk);
}

fn profile_volatile(world: &KvWorld) {
    assert_eq!(world.engine().profile().persistence, Persistence::Volatile);
}

fn flush_given(world: &KvWorld) {
    let kv = world.engine();
    let first = put(&*kv, "a", "1");
    let second = put(&*kv, "b", "2");
    kv.flush(second).expect("the newest");
    kv.flush(first).expect("an older one");
    kv.flush(second).expect("once more");
    let third = kv.commit(&puts([("c", "3")]), Durability::Synced).unwrap();
    kv.flush(third).expect("one that was synced already");
    kv.flush(kv.snapshot().unwrap().seq()).expect("the number of a view");
    assert_eq!(names(&*kv), ["a", "b", "c"]);
    drop(kv);
    assert_eq!(names(&*world.kill_and_reopen()), ["a", "b", "c"]);
}

fn flush_unknown(world: &KvWorld) {
    let kv = world.engine();
    let fresh = kv.snapshot().unwrap().seq();
    for unknown in [CommitSeq(fresh.0 + 1), CommitSeq(u64::MAX)] {
        refused(kv.flush(unknown), ErrorKind::InvalidInput, "a number never given out");
    }
    let seq = put(&*kv, "k", "v");
    for unknown in [seq.0 + 1, seq.0 + 1_000, u64::MAX - 1, u64::MAX] {
        let result = kv.flush(CommitSeq(unknown));
        refused(result, ErrorKind::InvalidInput, "a number never given out");
    }
    kv.flush(seq).expect("the store goes on");
    assert_eq!(get(&*kv, "k").unwrap(), "v");
}

/// Maintains until nothing is left to do, or long enough.
fn maintain_all(kv: &dyn KvBackend) -> u64 {
    let mut reclaimed_bytes = 0;
    for _ in 0..200 {
        let slice = kv.maintain(MaintenanceBudget { time: Duration::from_millis(20) }).unwrap();
        reclaimed_bytes += slice.reclaimed_bytes;
        if !slice.more {
            break;
        }
    }
    reclaimed_bytes
}

fn maintain_harmless(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("values");
    for round in 0..20 {
        let part = (0..100).map(|index| (format!("k{index:03}/{round}"), rng.bytes(300)));
        commit(&*kv, &puts(part));
    }
    let snapshot = kv.snapshot().unwrap();
    let all = dump(&*kv);
    commit(&*kv, &batch().delete_range(SPACE, super::tools::range("k020", "k080")));
    let rest = dump(&*kv);
    kv.maintain(MaintenanceBudget { time: Duration::ZERO }).expect("no time is little time");
    maintain_all(&*kv);
    assert!(dump(&*kv) == rest, "what can be read changed");
    assert!(dump_of(&*snapshot, SPACE) == all, "an open view changed");
    drop(snapshot);
    maintain_all(&*kv);
    assert!(dump(&*kv) == rest, "what can be read changed");
    drop(kv);
    assert!(dump(&*world.reopen()) == rest, "after a reopen");
}

fn maintain_beside(world: &KvWorld) {
    let budget = MaintenanceBudget { time: Duration::from_millis(2) };
    beside_others(world, &|kv| {
        kv.maintain(budget).unwrap();
    });
}

/// Compaction may need the store without views, and says so; it loses nothing either way.
fn maintain_unbounded(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("values");
    for round in 0..30 {
        let part = (0..20).map(|index| (format!("k{round:02}/{index:02}"), rng.bytes(9_000)));
        commit(&*kv, &puts(part));
    }
    let snapshot = kv.snapshot().unwrap();
    let all = dump(&*kv);
    let seq = commit(&*kv, &batch().delete_range(SPACE, super::tools::range("k02", "k28")));
    kv.flush(seq).unwrap();
    let rest = dump(&*kv);
    let whole = || -> Result<()> {
        while kv.maintain(MaintenanceBudget::UNBOUNDED)?.more {}
        Ok(())
    };
    if let Err(error) = whole() {
        assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    }
    assert!(dump_of(&*snapshot, SPACE) == all, "an open view changed");
    drop(snapshot);
    whole().expect("without views");
    assert!(dump(&*kv) == rest, "what can be read changed");
    put(&*kv, "later", "v");
    drop(kv);
    let kv = world.reopen();
    assert_eq!(get(&*kv, "later").unwrap(), "v");
    assert_eq!(dump(&*kv).len(), rest.len() + 1, "after a reopen");
}

fn check_finds_nothing(world: &KvWorld) {
    let kv = world.engine();
    assert_eq!(kv.check().unwrap().damage, Vec::<String>::new(), "an empty store");
    let mut rng = world.rng("values");
    for round in 0..20 {
        let part = (0..50).map(|index| (format!("k{index:03}/{round}"), rng.bytes(700)));
        commit(&*kv, &puts(part));
    }
    commit(&*kv, &batch().delete_range(SPACE, super::tools::range("k010", "k030")));
    let all = dump(&*kv);
    assert_eq!(kv.check().unwrap().damage, Vec::<String>::new());
    assert!(dump(&*kv) == all, "what can be read changed");
    put(&*kv, "later", "v");
    assert_eq!(kv.check().unwrap().damage, Vec::<String>::new(), "after more commits");
    drop(kv);
    let kv = world.reopen();
    assert_eq!(kv.check().unwrap().damage, Vec::<String>::new(), "after a reopen");
    assert_eq!(dump(&*kv).len(), all.len() + 1);
}

fn check_beside(world: &KvWorld) {
    beside_others(world, &|kv| {
        assert_eq!(kv.check().unwrap().damage, Vec::<String>::new());
    });
}

/// Works while one writes and one reads; neither may notice.
fn beside_others(world: &KvWorld, work: &dyn Fn(&dyn KvBackend)) {
    let kv = world.engine();
    commit(&*kv, &puts((0..200).map(|index| (format!("fixed{index:03}"), [7u8; 500]))));
    let kv = &*kv;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60u32 {
                commit(kv, &puts([("moving", round.to_string())]));
            }
        });
        let reader = scope.spawn(|| {
            while !writer.is_finished() {
                let seen = dump(kv);
                let fixed = seen.iter().filter(|(key, _)| key.starts_with(b"fixed")).count();
                assert_eq!(fixed, 200);
            }
            writer.join().unwrap();
        });
        while !reader.is_finished() {
            work(kv);
            std::thread::yield_now();
        }
        reader.join().unwrap();
    });
    assert_eq!(get(kv, "moving").unwrap(), "59");
}

/// Stores and removes a few megabytes; answers the bytes on disk in between.
fn grow_and_shrink(world: &KvWorld) -> u64 {
    let kv = world.engine();
    let mut rng = world.rng("bulk");
    for round in 0..8 {
        let part = (0..16).map(|index| (format!("{round}/{index:02}"), rng.bytes(65_536)));
        commit(&*kv, &puts(part));
    }
    let seq = put(&*kv, "keep", "this");
    kv.flush(seq).unwrap();
    let full_bytes = kv.usage().unwrap().disk_bytes;
    commit(&*kv, &batch().delete_range(SPACE, super::tools::range("0", "8")));
    let seq = kv.commit(&puts([("keep", "that")]), Durability::Synced).unwrap();
    kv.flush(seq).unwrap();
    full_bytes
}

fn reclaims(world: &KvWorld) {
    let full_bytes = grow_and_shrink(world);
    let kv = world.engine();
    assert!(kv.profile().optional.contains(&trellis_engine_traits::Ability::ReclaimDisk));
    maintain_all(&*kv);
    drop(kv);
    let kv = world.reopen();
    maintain_all(&*kv);
    let left_bytes = kv.usage().unwrap().disk_bytes;
    assert!(left_bytes < full_bytes / 2, "{left_bytes} bytes are left of {full_bytes}");
    assert_eq!(get(&*kv, "keep").unwrap(), "that");
}

fn reclaims_nothing(world: &KvWorld) {
    grow_and_shrink(world);
    let kv = world.engine();
    assert!(!kv.profile().optional.contains(&trellis_engine_traits::Ability::ReclaimDisk));
    match kv.maintain(MaintenanceBudget { time: Duration::from_millis(20) }) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}"),
    }
    assert_eq!(get(&*kv, "keep").unwrap(), "that");
}

fn usage_live(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("bulk");
    let empty_bytes = kv.usage().unwrap().live_bytes;
    let mut last_bytes = empty_bytes;
    for round in 0..4 {
        let part = (0..16).map(|index| (format!("{round}/{index:02}"), rng.bytes(65_536)));
        let seq = commit(&*kv, &puts(part));
        kv.flush(seq).unwrap();
        let live_bytes = kv.usage().unwrap().live_bytes;
        assert!(live_bytes > last_bytes, "a MiB more, and {live_bytes} after {last_bytes}");
        last_bytes = live_bytes;
    }
    let grown = last_bytes - empty_bytes;
    assert!((3 << 20..8 << 20).contains(&grown), "4 MiB stored, {grown} bytes more");
    let seq = commit(&*kv, &batch().delete_range(SPACE, KeyRange::all()));
    kv.flush(seq).unwrap();
    maintain_all(&*kv);
    let left = kv.usage().unwrap().live_bytes;
    assert!(left < empty_bytes + (1 << 20), "all removed, and {left} bytes are live");
}

fn usage_disk(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("bulk");
    commit(&*kv, &puts((0..64).map(|index| (format!("{index:02}"), rng.bytes(65_536)))));
    let seq = kv.commit(&puts([("last", "v")]), Durability::Synced).unwrap();
    kv.flush(seq).unwrap();
    let told = kv.usage().unwrap().disk_bytes;
    let (length, allocated) = bytes_of_files(world.dir());
    let (least, most) = (length.min(allocated), length.max(allocated));
    let slack = 1 << 20;
    assert!(
        told + slack >= least && told <= most + slack,
        "{told} bytes are told; the files are {length} bytes long and take {allocated}"
    );
    assert!(told > 4 << 20, "4 MiB of chance cannot take {told} bytes");
}

/// Length and allocation of all files under `dir`.
fn bytes_of_files(dir: &std::path::Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let (length, allocated) = if meta.is_dir() {
            bytes_of_files(&entry.path())
        } else {
            (meta.len(), meta.blocks() * 512)
        };
        sum = (sum.0 + length, sum.1 + allocated);
    }
    sum
}

fn usage_volatile(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", vec![1; 100_000]);
    assert_eq!(kv.usage().unwrap().disk_bytes, 0, "a volatile store has no files");
}

fn open_locked(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "1");
    for _ in 0..3 {
        refused(world.open_again(), ErrorKind::Locked, "a second open");
    }
    put(&*kv, "k", "2");
    assert_eq!(get(&*kv, "k").unwrap(), "2", "the first open goes on");
    drop(kv);
    assert_eq!(get(&*world.reopen(), "k").unwrap(), "2", "free again after a close");
    assert_eq!(get(&*world.kill_and_reopen(), "k").unwrap(), "2", "free again after a drop");
}
