//! What is there after a close, a drop, a loss of power, damage, a failed flush.

use trellis_engine_traits::{Durability, ErrorKind, Expect, ReadBudget, StreamLog};

use super::LogWorld;
use super::tools::{
    append, append_synced, append_to, bounds, dump, main, read, records, refused, stream, texts,
};
use crate::{Case, Flag, Need};

const POWER: &[Need] = &[Need::PowerLoss];
const FLUSH_FAULT: &[Need] = &[Need::FlushFault];

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.close.keeps_buffered", &["log.close.durable"], close_keeps_buffered),
    Case::new("log.kill.keeps_synced", &["log.append.synced", "log.recover.prefix"], kill_synced),
    Case::new("log.kill.keeps_flushed", &["log.flush.durable"], kill_flushed),
    Case::new(
        "log.kill.leaves_whole_appends",
        &["log.append.atomic", "log.recover.prefix"],
        kill_whole,
    ),
    Case::new("log.power.keeps_synced", &["log.append.synced"], power_synced).needs(POWER),
    Case::new("log.power.keeps_flushed", &["log.flush.durable"], power_flushed).needs(POWER),
    Case::new("log.power.keeps_closed", &["log.close.durable"], power_closed).needs(POWER),
    Case::new(
        "log.power.leaves_a_prefix",
        &["log.recover.prefix", "log.append.atomic", "log.append.dense", "log.bounds.durable"],
        power_prefix,
    )
    .needs(POWER),
    Case::new("log.damage.is_corrupt", &["log.recover.damage"], damage).needs(&[Need::Damage]),
    Case::new("log.poison.after_synced_append", &["log.poison.writes"], poison_by_append)
        .needs(FLUSH_FAULT),
    Case::new("log.poison.after_flush", &["log.poison.writes"], poison_by_flush).needs(FLUSH_FAULT),
    Case::new("log.poison.ends_with_reopen", &["log.poison.writes"], poison_ends)
        .needs(FLUSH_FAULT),
    Case::new("log.fault.write_appends_nothing", &["log.append.clean_failure"], write_fault)
        .needs(&[Need::WriteFault]),
];

fn close_keeps_buffered(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    append_synced(&*log, ["b"]);
    append(&*log, ["c", "d"]);
    append_to(&*log, &stream("other"), ["e"], Durability::Buffered);
    drop(log);
    let log = world.reopen();
    assert_eq!(texts(&*log), ["a", "b", "c", "d"]);
    assert_eq!(dump(&*log, &stream("other")).len(), 1);
    assert_eq!(bounds(&*log, &main()).durable_next, 5, "what an open found is durable");
}

fn kill_synced(world: &LogWorld) {
    let log = world.engine();
    let mut all = Vec::new();
    for round in 0..20 {
        let record = format!("{round}");
        if round % 4 == 3 {
            append_synced(&*log, [&record]);
        } else {
            append(&*log, [&record]);
        }
        all.push(record);
    }
    append(&*log, ["only buffered"]);
    all.push("only buffered".to_owned());
    drop(log);
    let found = texts(&*world.kill_and_reopen());
    assert!(found.len() >= 20, "a synced append, or one before it, is gone: {found:?}");
    assert_eq!(found[..], all[..found.len()], "not a prefix of what was appended");
}

fn kill_flushed(world: &LogWorld) {
    let mut durable = 0;
    for count in 1..8u64 {
        let log = world.engine();
        let next = append(&*log, (0..count).map(|index| format!("{count}/{index}"))).next;
        log.flush(&main(), next).unwrap();
        durable += count;
        drop(log);
        let found = dump(&*world.kill_and_reopen(), &main());
        assert_eq!(found.len() as u64, durable, "a flushed record is gone");
    }
}

fn kill_whole(world: &LogWorld) {
    let mut next = 1u64;
    for round in 0..12 {
        let log = world.engine();
        for appended in 0..4 {
            let parts = (next..next + 3).map(|offset| offset.to_string());
            let synced = (round + appended) % 5 == 0;
            if synced {
                append_synced(&*log, parts)
            } else {
                append(&*log, parts)
            };
            next += 3;
        }
        drop(log);
        let found = texts(&*world.kill_and_reopen());
        assert_eq!(found.len() % 3, 0, "half an append: {found:?}");
        next = found.len() as u64 + 1;
        let expected: Vec<_> = (1..next).map(|offset| offset.to_string()).collect();
        assert_eq!(found, expected, "not a prefix of what was appended");
    }
}

fn power_synced(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["before"]);
    append_synced(&*log, ["synced"]);
    drop(log);
    assert_eq!(texts(&*world.lose_power_and_reopen()), ["before", "synced"]);
}

fn power_flushed(world: &LogWorld) {
    let log = world.engine();
    let next = append(&*log, ["a", "b"]).next;
    log.flush(&main(), next).unwrap();
    drop(log);
    assert_eq!(texts(&*world.lose_power_and_reopen()), ["a", "b"]);
}

fn power_closed(world: &LogWorld) {
    append(&*world.engine(), ["a"]);
    world.close();
    world.throw(Flag::LosePower);
    assert_eq!(texts(&*world.engine()), ["a"]);
}

fn power_prefix(world: &LogWorld) {
    let mut rng = world.rng("appends");
    let mut next = 1u64;
    for _ in 0..30 {
        let log = world.engine();
        let mut durable = next;
        for _ in 0..rng.below(12) {
            // Three records an append: `next` is 1 more than a multiple of three, or an append
            // was torn.
            let parts = (next..next + 3).map(|offset| offset.to_string());
            if rng.one_in(4) {
                append_synced(&*log, parts);
                durable = next + 3;
            } else {
                append(&*log, parts);
                if rng.one_in(5) {
                    log.flush(&main(), next + 3).unwrap();
                }
            }
            next += 3;
            durable = durable.max(bounds(&*log, &main()).durable_next);
        }
        drop(log);
        let log = world.lose_power_and_reopen();
        let found = texts(&*log);
        next = found.len() as u64 + 1;
        assert!(next >= durable, "below {durable} was durable; {next} is next");
        assert_eq!(found.len() % 3, 0, "half an append: {found:?}");
        let expected: Vec<_> = (1..next).map(|offset| offset.to_string()).collect();
        assert_eq!(found, expected, "not a prefix of what was appended");
    }
}

fn damage(world: &LogWorld) {
    const DAMAGED: u64 = 23;
    let mut rng = world.rng("records");
    let all: Vec<_> = (0..60).map(|_| rng.bytes(400)).collect();
    let log = world.engine();
    for part in all.chunks(4) {
        append_synced(&*log, part);
    }
    drop(log);
    world.close();
    let damaged = match world.factory().damage_hook() {
        Some(hook) => hook(world.dir(), main().as_str(), DAMAGED),
        None => flip_in_files(world.dir(), &all[DAMAGED as usize - 1][100..300]),
    };
    assert!(damaged, "the record was not found in the files");
    let log = match world.open_again() {
        Ok(log) => log,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            return;
        }
    };
    let (mut seen, first) = (Vec::new(), log.bounds(&main()).map(|bounds| bounds.first));
    let result = log.read(&main(), 1, ReadBudget::UNLIMITED, &mut |offset, record| {
        seen.push((offset, bytes::Bytes::copy_from_slice(record)));
        std::ops::ControlFlow::Continue(())
    });
    refused(result, ErrorKind::Corrupt, "reading a damaged record");
    assert!(first.is_err() || first.is_ok_and(|first| first == 1));
    for (offset, record) in &seen {
        assert!(*offset < DAMAGED, "record {offset} was shown although {DAMAGED} is damaged");
        assert!(record == &all[*offset as usize - 1], "record {offset} was changed");
    }
    // However it closes: it may not claim that the damaged record is the end.
    drop(log.close());
    drop(log);
    if let Ok(log) = world.open_again() {
        let again = read(&*log, &main(), 1, ReadBudget::UNLIMITED);
        refused(again, ErrorKind::Corrupt, "reading a damaged record after another open");
        drop(log.close());
    }
}

/// Flips a bit wherever `pattern` stands in the files under `dir`; answers whether it did.
fn flip_in_files(dir: &std::path::Path, pattern: &[u8]) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found |= flip_in_files(&path, pattern);
            continue;
        }
        let mut content = std::fs::read(&path).unwrap();
        let places: Vec<_> = (0..content.len().saturating_sub(pattern.len() - 1))
            .filter(|place| content[*place] == pattern[0] && content[*place..].starts_with(pattern))
            .collect();
        for place in &places {
            content[place + pattern.len() / 2] ^= 0x10;
        }
        if !places.is_empty() {
            std::fs::write(&path, content).unwrap();
            found = true;
        }
    }
    found
}

/// Demands that nothing can be appended and everything read.
fn is_poisoned(log: &dyn StreamLog) {
    let next = bounds(log, &main()).next;
    for durability in [Durability::Buffered, Durability::Synced] {
        let result = log.append(&main(), &records(["refused"]), Expect::Any, durability);
        refused(result, ErrorKind::Poisoned, "an append after a failed flush");
    }
    assert_eq!(bounds(log, &main()).next, next);
    let (seen, _) = read(log, &main(), 1, ReadBudget::UNLIMITED).expect("reads go on");
    assert_eq!(seen[0], (1, "a".into()));
    assert_eq!(log.streams(None, 9).unwrap(), [main()]);
}

fn poison_by_append(world: &LogWorld) {
    let log = world.engine();
    append_synced(&*log, ["a"]);
    world.throw(Flag::FailFlush);
    let result = log.append(&main(), &records(["b"]), Expect::Any, Durability::Synced);
    refused(result, ErrorKind::OutcomeUnknown, "a synced append whose flush failed");
    is_poisoned(&*log);
    is_poisoned(&*log);
    drop(log);
    assert_eq!(texts(&*world.kill_and_reopen())[0], "a");
}

fn poison_by_flush(world: &LogWorld) {
    let log = world.engine();
    append_synced(&*log, ["a"]);
    let next = append(&*log, ["b"]).next;
    world.throw(Flag::FailFlush);
    refused(log.flush(&main(), next), ErrorKind::OutcomeUnknown, "a flush that failed");
    is_poisoned(&*log);
    refused(log.flush(&main(), next), ErrorKind::Poisoned, "a flush after a failed flush");
    drop(log);
    assert_eq!(texts(&*world.kill_and_reopen())[0], "a");
}

fn poison_ends(world: &LogWorld) {
    let log = world.engine();
    append_synced(&*log, ["a"]);
    world.throw(Flag::FailFlush);
    let result = log.append(&main(), &records(["b", "c"]), Expect::Any, Durability::Synced);
    refused(result, ErrorKind::OutcomeUnknown, "a synced append whose flush failed");
    if let Err(error) = log.close() {
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    }
    log.close().expect("closing twice is fine");
    drop(log);
    let log = world.kill_and_reopen();
    let found = texts(&*log);
    assert!(found == ["a"] || found == ["a", "b", "c"], "all or none: {found:?}");
    let at = append_synced(&*log, ["d"]);
    assert_eq!(at.first, found.len() as u64 + 1);
}

fn write_fault(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    for durability in [Durability::Buffered, Durability::Synced] {
        world.throw(Flag::FailWrite);
        let result = log.append(&main(), &records(["x", "y"]), Expect::Any, durability);
        refused(result, ErrorKind::Unavailable, "a full medium");
        assert_eq!(texts(&*log), ["a"], "nothing was appended");
        // Whoever goes on without asking may have the last room.
        append::<&str>(&*log, []);
    }
    assert_eq!(append(&*log, ["b"]).first, 2, "the log goes on");
    drop(log);
    assert_eq!(texts(&*world.reopen()), ["a", "b"]);
}
