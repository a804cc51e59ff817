//! Several threads at once: races for a guard, lost updates, write skew, torn views.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, Guard, KvBackend, Result, WriteBatch,
};

use super::KvWorld;
use super::tools::{SPACE, at, batch, bytes, commit, dump, dump_of, get, get_of, put, puts};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.race.one_creates", &["kv.commit.guard_race"], one_creates),
    Case::new("kv.race.one_replaces", &["kv.commit.guard_race"], one_replaces),
    Case::new("kv.race.no_lost_update", &["kv.commit.guard_race"], no_lost_update),
    Case::new("kv.race.no_write_skew", &["kv.commit.guard_race"], no_write_skew),
    Case::new("kv.race.numbers_are_unique", &["kv.commit.order"], unique_numbers),
    Case::new("kv.race.views_are_whole", &["kv.snapshot.frozen"], whole_views),
    Case::new("kv.race.views_follow_numbers", &["kv.snapshot.current"], views_follow_numbers),
    Case::new("kv.race.synced_together", &["kv.commit.synced"], synced_together),
];

const THREADS: usize = 4;

/// Runs `action` in several threads at once; answers what each said.
fn together<T: Send>(action: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(THREADS);
    let (barrier, action) = (&barrier, &action);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                scope.spawn(move || {
                    barrier.wait();
                    action(index)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Whether the commit won; any error but `Conflict` ends the case.
fn won(result: Result<CommitSeq>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            false
        }
    }
}

fn one_creates(world: &KvWorld) {
    let kv = world.engine();
    for round in 0..40 {
        let key = format!("{round:02}");
        let durability = if round % 4 == 0 { Durability::Synced } else { Durability::Buffered };
        let winners = together(|index| {
            let create = puts([(&key, index.to_string())]).guard(Guard::Absent(at(&key)));
            won(kv.commit(&create, durability))
        });
        let winner = winners.iter().position(|won| *won).expect("one wins");
        assert_eq!(winners.iter().filter(|won| **won).count(), 1, "exactly one wins");
        assert_eq!(get(&*kv, &key).unwrap(), winner.to_string());
    }
}

fn one_replaces(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "start");
    for round in 0..40 {
        let before = get(&*kv, "k").unwrap();
        let winners = together(|index| {
            let replace = puts([("k", format!("{round} by {index}"))])
                .guard(Guard::Equals(at("k"), before.clone()));
            won(kv.commit(&replace, Durability::Buffered))
        });
        assert_eq!(winners.iter().filter(|won| **won).count(), 1, "exactly one wins");
    }
}

fn no_lost_update(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "count", "0");
    together(|_| {
        let mut left = 50;
        while left > 0 {
            let before = get(&*kv, "count").unwrap();
            let count: u32 = std::str::from_utf8(&before).unwrap().parse().unwrap();
            let add = puts([("count", (count + 1).to_string())])
                .guard(Guard::Equals(at("count"), before));
            left -= u32::from(won(kv.commit(&add, Durability::Buffered)));
        }
    });
    assert_eq!(get(&*kv, "count").unwrap(), (50 * THREADS).to_string());
}

fn no_write_skew(world: &KvWorld) {
    let kv = world.engine();
    for _ in 0..40 {
        let all = (0..THREADS).map(|index| (format!("on{index}"), "yes"));
        commit(&*kv, &puts(all));
        together(|index| {
            let view = kv.snapshot().unwrap();
            let others = (0..THREADS).filter(|other| *other != index);
            let on: Vec<_> = others
                .map(|other| at(format!("on{other}")))
                .filter(|other| get_of(&*view, &other.key).unwrap() == "yes")
                .collect();
            if on.is_empty() {
                return;
            }
            let leave =
                on.into_iter().fold(puts([(format!("on{index}"), "no")]), |batch, other| {
                    batch.guard(Guard::Equals(other, bytes("yes")))
                });
            won(kv.commit(&leave, Durability::Buffered));
        });
        let on = dump(&*kv).iter().filter(|(_, value)| value == "yes").count();
        assert!(on >= 1, "each left because another stayed");
    }
}

fn unique_numbers(world: &KvWorld) {
    let kv = world.engine();
    let given = together(|index| {
        let mut mine = Vec::new();
        for round in 0..60 {
            mine.push(put(&*kv, format!("{index}"), round.to_string()));
        }
        assert!(mine.is_sorted(), "one thread's commits are in order");
        mine
    });
    let mut all: Vec<_> = given.concat();
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a number was given out twice");
}

fn whole_views(world: &KvWorld) {
    let kv = world.engine();
    let name = |index: usize| format!("cell{index:02}");
    let all = |value: u64| puts((0..30).map(|index| (name(index), value.to_string())));
    commit(&*kv, &all(0));
    let done = AtomicBool::new(false);
    together(|index| {
        if index == 0 {
            for value in 1..=150 {
                commit(&*kv, &all(value));
            }
            done.store(true, Ordering::Release);
            return;
        }
        let mut last = 0u64;
        while !done.load(Ordering::Acquire) {
            let view = kv.snapshot().unwrap();
            let pairs = dump_of(&*view, SPACE);
            let first = &pairs[0].1;
            assert!(pairs.iter().all(|(_, value)| value == first), "a torn view: {pairs:?}");
            assert_eq!(get_of(&*view, name(index)).as_ref(), Some(first), "get and scan differ");
            let value = std::str::from_utf8(first).unwrap().parse().unwrap();
            assert!(value >= last, "a later view is older");
            last = value;
        }
    });
}

fn views_follow_numbers(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "n", "0");
    let (newest, done) = (AtomicU64::new(0), AtomicBool::new(false));
    together(|index| {
        if index == 0 {
            for value in 1..=200u64 {
                put(&*kv, "n", value.to_string());
                newest.store(value, Ordering::Release);
            }
            done.store(true, Ordering::Release);
            return;
        }
        let mut last: Option<(CommitSeq, u64)> = None;
        while !done.load(Ordering::Acquire) {
            let returned = newest.load(Ordering::Acquire);
            let view = kv.snapshot().unwrap();
            let value =
                std::str::from_utf8(&get_of(&*view, "n").unwrap()).unwrap().parse().unwrap();
            assert!(value >= returned, "commit {returned} had returned; the view holds {value}");
            let now = (view.seq(), value);
            if let Some(last) = last.replace(now) {
                assert_eq!(now.0.cmp(&last.0), now.1.cmp(&last.1), "{now:?} after {last:?}");
            }
        }
    });
}

fn synced_together(world: &KvWorld) {
    let kv = world.engine();
    let durable = |batch: &WriteBatch| KvBackend::commit(&*kv, batch, Durability::Synced).unwrap();
    together(|index| {
        for round in 0..15 {
            durable(&batch().put(SPACE, format!("{index}/{round:02}"), "v"));
        }
    });
    drop(kv);
    assert_eq!(dump(&*world.kill_and_reopen()).len(), 15 * THREADS);
}
