//! Several threads at once: races for an offset, whole appends, readers beside writers.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use trellis_engine_traits::{Durability, ErrorKind, Expect, ReadBudget, StreamLog};

use super::LogWorld;
use super::tools::{append, append_to, bounds, dump, main, read, records, stream};
use crate::Case;

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.race.one_takes_the_offset", &["log.append.expect"], one_takes),
    Case::new("log.race.retried_until_taken", &["log.append.expect"], retried),
    Case::new("log.race.appends_stay_whole", &["log.append.dense", "log.read.order"], stay_whole),
    Case::new("log.race.readers_see_prefixes", &["log.append.visible"], readers),
    Case::new("log.race.trims_beside_reads", &["log.trim.front", "log.read.trimmed"], trims),
    Case::new("log.race.synced_together", &["log.append.synced"], synced_together),
    Case::new("log.race.streams_together", &["log.streams.independent"], streams_together),
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

fn try_at(log: &dyn StreamLog, offset: u64, text: &str) -> bool {
    match log.append(&main(), &records([text]), Expect::Next(offset), Durability::Buffered) {
        Ok(at) => {
            assert_eq!(at.first, offset);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            false
        }
    }
}

fn one_takes(world: &LogWorld) {
    let log = world.engine();
    for offset in 1..=50 {
        let winners = together(|index| try_at(&*log, offset, &index.to_string()));
        assert_eq!(winners.iter().filter(|won| **won).count(), 1, "exactly one takes {offset}");
        let winner = winners.iter().position(|won| *won).unwrap();
        assert_eq!(dump(&*log, &main()).last().unwrap().1, winner.to_string());
    }
}

fn retried(world: &LogWorld) {
    let log = world.engine();
    together(|index| {
        for round in 0..50 {
            while !try_at(&*log, bounds(&*log, &main()).next, &format!("{index}/{round}")) {}
        }
    });
    let mut all: Vec<_> = dump(&*log, &main()).into_iter().map(|(_, record)| record).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 50 * THREADS, "each record once");
}

fn stay_whole(world: &LogWorld) {
    let log = world.engine();
    together(|index| {
        for round in 0..50 {
            append(&*log, (0..4).map(|part| format!("{index}/{round}/{part}")));
        }
    });
    let all = dump(&*log, &main());
    assert_eq!(all.len(), 200 * THREADS);
    for group in all.chunks(4) {
        let text = |at: usize| String::from_utf8(group[at].1.to_vec()).unwrap();
        let head = text(0);
        let head = head.strip_suffix("/0").expect("an append begins a group");
        for part in 1..4 {
            assert_eq!(text(part), format!("{head}/{part}"), "two appends are mixed");
        }
    }
}

fn readers(world: &LogWorld) {
    let log = world.engine();
    let done = AtomicBool::new(false);
    together(|index| {
        if index == 0 {
            for round in 0..150u64 {
                let durability =
                    if round % 30 == 0 { Durability::Synced } else { Durability::Buffered };
                let first = round * 2 + 1;
                let at = append_to(
                    &*log,
                    &main(),
                    [first, first + 1].map(|n| n.to_string()),
                    durability,
                );
                assert_eq!(at.first, first);
            }
            done.store(true, Ordering::Release);
            return;
        }
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let next = bounds(&*log, &main()).next;
            let (seen, _) = read(&*log, &main(), 1, ReadBudget::UNLIMITED).unwrap();
            let count = seen.len() as u64;
            assert!(count + 1 >= next && count >= last, "{count} records, {next} was next");
            assert_eq!(count % 2, 0, "half an append is visible");
            assert!(seen.iter().all(|(offset, record)| *record == offset.to_string()));
            last = count;
        }
    });
}

fn trims(world: &LogWorld) {
    let log = world.engine();
    let done = AtomicBool::new(false);
    append(&*log, (1..=20u64).map(|offset| offset.to_string()));
    together(|index| {
        if index == 0 {
            for offset in 21..200u64 {
                append(&*log, [offset.to_string()]);
                log.trim(&main(), offset - 15).unwrap();
            }
            done.store(true, Ordering::Release);
            return;
        }
        while !done.load(Ordering::Acquire) {
            let from = bounds(&*log, &main()).first;
            match read(&*log, &main(), from, ReadBudget::UNLIMITED) {
                Ok((seen, _)) => {
                    let offsets = seen.iter().map(|(offset, _)| *offset);
                    assert!(offsets.eq(from..from + seen.len() as u64), "a hole from {from}");
                    assert!(seen.iter().all(|(offset, record)| *record == offset.to_string()));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
            }
        }
    });
    let all = dump(&*log, &main());
    assert!(all.len() >= 15, "a trim took too much");
}

fn synced_together(world: &LogWorld) {
    let log = world.engine();
    together(|index| {
        for round in 0..15 {
            append_to(&*log, &main(), [format!("{index}/{round}")], Durability::Synced);
        }
    });
    drop(log);
    assert_eq!(dump(&*world.kill_and_reopen(), &main()).len(), 15 * THREADS);
}

fn streams_together(world: &LogWorld) {
    let log = world.engine();
    let name = |index: usize| stream(&format!("s{index}"));
    together(|index| {
        for round in 0..60u64 {
            let at = append_to(&*log, &name(index), [round.to_string()], Durability::Buffered);
            assert_eq!(at.first, round + 1, "another stream took an offset");
        }
        log.flush(&name(index), 61).unwrap();
    });
    drop(log);
    let log = world.kill_and_reopen();
    for index in 0..THREADS {
        assert_eq!(dump(&*log, &name(index)).len(), 60);
    }
}
