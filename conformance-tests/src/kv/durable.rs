//! What is there after a close, a drop, a loss of power, a failed flush.

use trellis_engine_traits::{Durability, ErrorKind, KvBackend};

use super::KvWorld;
use super::tools::{SPACE, batch, commit, dump, get, names, put, puts, refused};
use crate::{Case, Flag, Need};

const POWER: &[Need] = &[Need::PowerLoss];
const FLUSH_FAULT: &[Need] = &[Need::FlushFault];

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.close.keeps_buffered", &["kv.close.durable"], close_keeps_buffered),
    Case::new("kv.close.keeps_all_again", &["kv.close.durable"], close_keeps_all_again),
    Case::new("kv.kill.keeps_synced", &["kv.commit.synced", "kv.commit.prefix"], kill_synced),
    Case::new("kv.kill.keeps_flushed", &["kv.flush.durable"], kill_flushed),
    Case::new("kv.power.keeps_synced", &["kv.commit.synced"], power_synced).needs(POWER),
    Case::new("kv.power.keeps_flushed", &["kv.flush.durable"], power_flushed).needs(POWER),
    Case::new("kv.power.keeps_closed", &["kv.close.durable"], power_closed).needs(POWER),
    Case::new(
        "kv.power.leaves_a_prefix",
        &["kv.commit.prefix", "kv.commit.atomic", "kv.commit.synced"],
        power_prefix,
    )
    .needs(POWER),
    Case::new("kv.poison.after_synced_commit", &["kv.poison.writes"], poison_by_commit)
        .needs(FLUSH_FAULT),
    Case::new("kv.poison.after_flush", &["kv.poison.writes"], poison_by_flush).needs(FLUSH_FAULT),
    Case::new("kv.poison.ends_with_reopen", &["kv.poison.writes"], poison_ends).needs(FLUSH_FAULT),
    Case::new("kv.fault.write_changes_nothing", &["kv.commit.atomic"], write_fault)
        .needs(&[Need::WriteFault]),
];

fn close_keeps_buffered(world: &KvWorld) {
    let kv = world.engine();
    kv.commit(&puts([("a", "1")]), Durability::Buffered).unwrap();
    kv.commit(&puts([("b", "2")]), Durability::Synced).unwrap();
    kv.commit(&puts([("c", "3")]).delete(SPACE, "a"), Durability::Buffered).unwrap();
    drop(kv);
    let kv = world.reopen();
    assert_eq!(names(&*kv), ["b", "c"]);
    assert_eq!(get(&*kv, "c").unwrap(), "3");
}

fn close_keeps_all_again(world: &KvWorld) {
    let mut all = Vec::new();
    for round in 0..6 {
        let kv = world.reopen();
        for index in 0..30 {
            let key = format!("{round}/{index:02}");
            put(&*kv, &key, &key);
            all.push(key);
        }
    }
    assert_eq!(names(&*world.reopen()), all);
    world.close();
    assert_eq!(names(&*world.kill_and_reopen()), all, "an open that wrote nothing, dropped");
}

fn kill_synced(world: &KvWorld) {
    let kv = world.engine();
    let mut all = Vec::new();
    for round in 0..20u32 {
        let key = format!("{round:02}");
        let durability = if round % 4 == 3 { Durability::Synced } else { Durability::Buffered };
        kv.commit(&puts([(&key, "v")]), durability).unwrap();
        all.push(key);
    }
    put(&*kv, "20", "only buffered");
    all.push("20".to_owned());
    drop(kv);
    let found = names(&*world.kill_and_reopen());
    assert!(found.len() >= 20, "a synced commit, or one before it, is gone: {found:?}");
    assert_eq!(found[..], all[..found.len()], "not a prefix of the commits");
}

fn kill_flushed(world: &KvWorld) {
    for durable in 1..8 {
        let kv = world.engine();
        let mut last = put(&*kv, format!("{durable}/0"), "v");
        for index in 1..durable {
            last = put(&*kv, format!("{durable}/{index}"), "v");
        }
        kv.flush(last).unwrap();
        drop(kv);
        let found = names(&*world.kill_and_reopen());
        let mine = found.iter().filter(|key| key.starts_with(&format!("{durable}/"))).count();
        assert_eq!(mine, durable, "a flushed commit is gone");
    }
}

fn power_synced(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "a", "before the synced one");
    kv.commit(&puts([("b", "synced")]), Durability::Synced).unwrap();
    drop(kv);
    let kv = world.lose_power_and_reopen();
    assert_eq!(names(&*kv), ["a", "b"]);
}

fn power_flushed(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "a", "1");
    let seq = put(&*kv, "b", "2");
    kv.flush(seq).unwrap();
    drop(kv);
    assert_eq!(names(&*world.lose_power_and_reopen()), ["a", "b"]);
}

fn power_closed(world: &KvWorld) {
    put(&*world.engine(), "a", "1");
    world.close();
    world.throw(Flag::LosePower);
    assert_eq!(names(&*world.engine()), ["a"]);
}

fn power_prefix(world: &KvWorld) {
    let mut rng = world.rng("commits");
    let cells = ["w", "x", "y", "z"];
    let mut last = 0u32;
    for _ in 0..30 {
        let kv = world.engine();
        let mut synced = last;
        for _ in 0..rng.below(12) {
            last += 1;
            let number = last.to_string();
            let change = puts(cells.map(|cell| (cell, &number)));
            let change = change.put(SPACE, format!("n{last:05}"), "");
            if rng.one_in(4) {
                kv.commit(&change, Durability::Synced).unwrap();
                synced = last;
            } else {
                let seq = commit(&*kv, &change);
                if rng.one_in(5) {
                    kv.flush(seq).unwrap();
                    synced = last;
                }
            }
        }
        drop(kv);
        last = number_of_prefix(&*world.lose_power_and_reopen(), &cells);
        assert!(last >= synced, "commit {synced} was durable; the last one found is {last}");
    }
}

/// The number of the last commit; shows that it is whole and all before it are there.
fn number_of_prefix(kv: &dyn KvBackend, cells: &[&str]) -> u32 {
    let values: Vec<_> = cells.iter().map(|cell| get(kv, cell)).collect();
    assert!(values.windows(2).all(|two| two[0] == two[1]), "half a batch: {values:?}");
    let last: u32 = match &values[0] {
        Some(value) => std::str::from_utf8(value).unwrap().parse().unwrap(),
        None => 0,
    };
    let mut expected: Vec<_> = (1..=last).map(|number| format!("n{number:05}")).collect();
    expected.extend(cells.iter().filter(|_| last > 0).map(ToString::to_string));
    assert_eq!(names(kv), expected, "not a prefix of the commits");
    last
}

/// Demands that nothing can be written and everything read.
fn is_poisoned(kv: &dyn KvBackend) {
    let seq = kv.snapshot().unwrap().seq();
    for durability in [Durability::Buffered, Durability::Synced] {
        let result = kv.commit(&puts([("refused", "v")]), durability);
        refused(result, ErrorKind::Poisoned, "a commit after a failed flush");
    }
    refused(kv.flush(seq), ErrorKind::Poisoned, "a flush after a failed flush");
    assert_eq!(get(kv, "a").unwrap(), "1", "reads go on");
    assert!(!names(kv).contains(&"refused".to_owned()), "a refused commit is visible");
    dump(kv);
}

fn poison_by_commit(world: &KvWorld) {
    let kv = world.engine();
    kv.commit(&puts([("a", "1")]), Durability::Synced).unwrap();
    let view = kv.snapshot().unwrap();
    world.throw(Flag::FailFlush);
    let result = kv.commit(&puts([("b", "2")]), Durability::Synced);
    refused(result, ErrorKind::OutcomeUnknown, "a synced commit whose flush failed");
    is_poisoned(&*kv);
    is_poisoned(&*kv);
    assert_eq!(super::tools::get_of(&*view, "a").unwrap(), "1", "an open view stays readable");
    drop((view, kv));
    assert_eq!(get(&*world.kill_and_reopen(), "a").unwrap(), "1");
}

fn poison_by_flush(world: &KvWorld) {
    let kv = world.engine();
    kv.commit(&puts([("a", "1")]), Durability::Synced).unwrap();
    let seq = put(&*kv, "b", "2");
    world.throw(Flag::FailFlush);
    refused(kv.flush(seq), ErrorKind::OutcomeUnknown, "a flush that failed");
    is_poisoned(&*kv);
    drop(kv);
    assert_eq!(get(&*world.kill_and_reopen(), "a").unwrap(), "1");
}

fn poison_ends(world: &KvWorld) {
    let kv = world.engine();
    kv.commit(&puts([("a", "1")]), Durability::Synced).unwrap();
    world.throw(Flag::FailFlush);
    let failing = puts([("x", "1"), ("y", "1")]);
    refused(kv.commit(&failing, Durability::Synced), ErrorKind::OutcomeUnknown, "failed flush");
    if let Err(error) = kv.close() {
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    }
    kv.close().expect("closing twice is fine");
    drop(kv);
    let kv = world.kill_and_reopen();
    assert_eq!(get(&*kv, "a").unwrap(), "1");
    assert_eq!(get(&*kv, "x"), get(&*kv, "y"), "whole or not at all");
    kv.commit(&batch().put(SPACE, "b", "2"), Durability::Synced).expect("writes go on");
    assert_eq!(get(&*kv, "b").unwrap(), "2");
}

fn write_fault(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("a", "1"), ("b", "2")]));
    let before = dump(&*kv);
    for durability in [Durability::Buffered, Durability::Synced] {
        world.throw(Flag::FailWrite);
        let failing = puts([("a", "changed"), ("c", "3")]).delete(SPACE, "b");
        refused(kv.commit(&failing, durability), ErrorKind::Unavailable, "a full medium");
        assert_eq!(dump(&*kv), before, "nothing was changed");
    }
    put(&*kv, "c", "goes on");
    drop(kv);
    assert_eq!(names(&*world.reopen()), ["a", "b", "c"]);
}
