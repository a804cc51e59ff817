//! Trims: only from the front, never a hole, never an offset twice.

use trellis_engine_traits::{Durability, ErrorKind};

use super::LogWorld;
use super::tools::{append, append_to, bounds, dump, main, refused, stream, texts};
use crate::Case;

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.trim.only_the_front", &["log.trim.front"], only_the_front),
    Case::new("log.trim.everything", &["log.trim.front", "log.append.dense"], everything),
    Case::new("log.trim.bounds", &["log.trim.bounds"], trim_bounds),
    Case::new("log.trim.step_by_step", &["log.trim.front"], step_by_step),
    Case::new("log.trim.after_reopen", &["log.trim.front", "log.append.dense"], after_reopen),
    Case::new("log.trim.large_records", &["log.trim.front"], large_records),
    Case::new("log.trim.unflushed", &["log.trim.front", "log.flush.durable"], unflushed),
];

fn fill(world: &LogWorld, count: u64) {
    append(&*world.engine(), (1..=count).map(|number| format!("{number}")));
}

/// Demands that the records from `before` on are there, and that none is missing between.
fn trimmed(world: &LogWorld, before: u64, next: u64) {
    let log = world.engine();
    let now = bounds(&*log, &main());
    assert!(now.first <= before, "records from {before} on must stay: {now:?}");
    assert_eq!(now.next, next, "a trim keeps `next`");
    for (offset, record) in dump(&*log, &main()) {
        assert_eq!(record, offset.to_string());
    }
}

fn only_the_front(world: &LogWorld) {
    fill(world, 20);
    for before in [5, 6, 20] {
        world.engine().trim(&main(), before).unwrap();
        trimmed(world, before, 21);
    }
    drop(world.reopen());
    trimmed(world, 20, 21);
}

fn everything(world: &LogWorld) {
    fill(world, 7);
    let log = world.engine();
    log.trim(&main(), 8).unwrap();
    trimmed(world, 8, 8);
    assert_eq!(append(&*log, ["8"]).first, 8, "an offset is never used twice");
    log.trim(&main(), 9).unwrap();
    drop(log);
    let log = world.reopen();
    assert_eq!(bounds(&*log, &main()).next, 9, "after a reopen");
    assert_eq!(append(&*log, ["9"]).first, 9, "an offset is never used twice");
    log.trim(&main(), 10).unwrap();
    drop(log);
    drop(world.reopen());
    drop(world.reopen());
    trimmed(world, 10, 10);
}

fn trim_bounds(world: &LogWorld) {
    let log = world.engine();
    refused(log.trim(&main(), 2), ErrorKind::InvalidInput, "beyond the end of nothing");
    fill(world, 10);
    for beyond in [12, 100, u64::MAX] {
        refused(log.trim(&main(), beyond), ErrorKind::InvalidInput, "beyond the end");
    }
    assert_eq!(bounds(&*log, &main()).first, 1, "a refused trim changed something");
    assert_eq!(texts(&*log).len(), 10);
    log.trim(&main(), 6).unwrap();
    let first = bounds(&*log, &main()).first;
    for below in 0..=first {
        log.trim(&main(), below).expect("below the first is nothing to do");
        assert_eq!(bounds(&*log, &main()).first, first);
    }
    trimmed(world, 6, 11);
}

fn step_by_step(world: &LogWorld) {
    for round in 0..60u64 {
        let log = world.engine();
        append(&*log, [(round * 2 + 1).to_string(), (round * 2 + 2).to_string()]);
        if round >= 5 {
            log.trim(&main(), round * 2 - 8).unwrap();
            trimmed(world, round * 2 - 8, round * 2 + 3);
        }
        drop(log);
        if round % 15 == 14 {
            drop(world.reopen());
        }
    }
}

fn after_reopen(world: &LogWorld) {
    fill(world, 10);
    let log = world.reopen();
    log.trim(&main(), 11).unwrap();
    assert_eq!(append(&*log, ["11"]).first, 11);
    log.flush(&main(), 12).unwrap();
    drop(log);
    drop(world.kill_and_reopen());
    trimmed(world, 11, 12);
}

fn large_records(world: &LogWorld) {
    let log = world.engine();
    let mut rng = world.rng("records");
    let big: Vec<_> = (0..12).map(|_| rng.bytes(1 << 20)).collect();
    for record in &big {
        append_to(&*log, &main(), [record], Durability::Buffered);
    }
    append_to(&*log, &stream("other"), ["beside"], Durability::Synced);
    log.trim(&main(), 9).unwrap();
    drop(log);
    let log = world.reopen();
    let now = bounds(&*log, &main());
    assert!(now.first <= 9 && now.next == 13, "{now:?}");
    for (offset, record) in dump(&*log, &main()) {
        assert!(record == big[offset as usize - 1], "record {offset} was changed");
    }
    assert_eq!(dump(&*log, &stream("other")).len(), 1);
}

fn unflushed(world: &LogWorld) {
    fill(world, 6);
    let log = world.engine();
    log.trim(&main(), 4).unwrap();
    log.flush(&main(), 7).unwrap();
    assert_eq!(bounds(&*log, &main()).durable_next, 7);
    drop(log);
    drop(world.kill_and_reopen());
    trimmed(world, 4, 7);
}
