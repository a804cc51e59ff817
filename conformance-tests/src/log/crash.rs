//! A child process appends and is killed; another appends to files that may not grow.
//!
//! Append `n` of a stream is a function of the seed, the stream and the offset that it begins
//! with: what is found after the crash says where each append must have ended.

use trellis_engine_traits::{Durability, ErrorKind, Expect, StreamId, StreamLog};

use super::LogWorld;
use super::tools::{append, bounds, dump, main, stream, texts};
use crate::child::{rounds, run_and_kill, run_capped, say, told};
use crate::{Case, Need, Seed};

const SEED: &str = "TRELLIS_CRASH_SEED";
const RECORD_BYTES: &str = "TRELLIS_CRASH_RECORD_BYTES";
const NEEDS: &[Need] = &[Need::Disk, Need::Child];
const STREAMS: [&str; 2] = ["left", "right"];

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new(
        "log.crash.killed_anywhere",
        &["log.append.atomic", "log.append.synced", "log.recover.prefix", "log.append.dense"],
        killed,
    )
    .needs(NEEDS),
    Case::new("log.crash.locked_for_others", &["log.open.exclusive"], locked_for_others)
        .needs(NEEDS),
    Case::new(
        "log.fault.files_cannot_grow",
        &["log.append.clean_failure", "log.append.atomic", "log.poison.writes"],
        files_cannot_grow,
    )
    .needs(NEEDS),
];

/// The records of the append that begins with offset `first`.
fn append_at(seed: u64, stream: &str, first: u64, record_bytes: usize) -> Vec<bytes::Bytes> {
    let mut rng = Seed(seed).of(&format!("{stream}/{first}")).rng();
    let count = 1 + rng.below(5);
    (0..count)
        .map(|_| {
            let len = if record_bytes > 0 { record_bytes } else { rng.below(700) };
            rng.bytes(len).into()
        })
        .collect()
}

/// The child's side of the crash cases: appends until it is killed or cannot go on, and says what
/// was acknowledged. A program that a [`Factory::child`](crate::Factory::child) starts opens the
/// log and calls this.
///
/// # Panics
/// When the log breaks its contract, or the parent did not set the environment.
pub fn crash_child(log: &dyn StreamLog) {
    let (seed, record_bytes) = (told(SEED), told(RECORD_BYTES) as usize);
    let mut failures = 0;
    say("opened");
    let mut rng = Seed(seed).of("order").rng();
    // A log of small segments never meets the cap on its files.
    let appends_max = if record_bytes > 0 { 250 } else { u64::MAX };
    for _ in 0..appends_max {
        if failures == 6 {
            break;
        }
        let name = STREAMS[rng.below(STREAMS.len())];
        let id = stream(name);
        let next = bounds(log, &id).next;
        let records = append_at(seed, name, next, record_bytes);
        let synced = !rng.one_in(3);
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        match log.append(&id, &records, Expect::Next(next), durability) {
            Ok(at) => {
                say(&format!("{} {name} {}", if synced { "synced" } else { "buffered" }, at.next));
            }
            Err(error) => {
                failures += 1;
                eprintln!("{error:?}");
                say(&format!("failed {name} {}", error.kind()));
                dump_if_whole(log, &id);
            }
        }
    }
    if let Err(error) = log.close() {
        say(&format!("close-failed {}", error.kind()));
    }
}

/// Reads go on after a failure.
fn dump_if_whole(log: &dyn StreamLog, id: &StreamId) {
    let read = super::tools::read(log, id, 1, trellis_engine_traits::ReadBudget::UNLIMITED);
    if let Err(error) = read {
        assert_ne!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        panic!("reads do not go on: {error:?}");
    }
}

/// Demands that a stream holds whole appends of the history and nothing else; answers its end.
fn holds_appends(log: &dyn StreamLog, seed: u64, name: &str, record_bytes: usize) -> u64 {
    let found = dump(log, &stream(name));
    let next = found.len() as u64 + 1;
    let mut first = 1;
    while first < next {
        let expected = append_at(seed, name, first, record_bytes);
        let there = &found[first as usize - 1..];
        assert!(there.len() >= expected.len(), "half of the append at {first} of {name} is there");
        assert!(
            there.iter().zip(&expected).all(|((_, record), expected)| record == expected),
            "the append at {first} of {name} was changed"
        );
        first += expected.len() as u64;
    }
    next
}

/// The highest `next` that was said of a stream in a line that begins with one of `words`.
fn last_said(said: &[String], name: &str, words: &[&str]) -> u64 {
    let numbers = said.iter().filter_map(|line| {
        let parts: Vec<_> = line.split(' ').collect();
        let matches = parts.len() == 3 && words.contains(&parts[0]) && parts[1] == name;
        matches.then(|| parts[2].parse::<u64>().unwrap())
    });
    numbers.max().unwrap_or(1)
}

fn killed(world: &LogWorld) {
    let mut rng = world.rng("kills");
    let seed = rng.next_u64();
    let mut whole = [1u64; STREAMS.len()];
    for round in 0..rounds(10) {
        let mut command = world.factory().child_command(world.dir());
        command.env(SEED, seed.to_string()).env(RECORD_BYTES, "0");
        let said = run_and_kill(command, &mut rng, 60);
        let log = world.engine();
        for (index, name) in STREAMS.into_iter().enumerate() {
            let next = holds_appends(&*log, seed, name, 0);
            let synced = last_said(&said, name, &["synced"]).max(whole[index]);
            assert!(next >= synced, "round {round}: {synced} was durable, {next} is next");
            let told = last_said(&said, name, &["synced", "buffered"]).max(whole[index]);
            let begun = told + append_at(seed, name, told, 0).len() as u64;
            assert!(next <= begun, "round {round}: {begun} was the last begun, {next} is next");
            whole[index] = next;
        }
        drop(log);
        world.close();
    }
    assert!(whole.iter().any(|next| *next > 1), "no child appended anything");
}

fn locked_for_others(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    let mut command = world.factory().child_command(world.dir());
    command.env(SEED, "1").env(RECORD_BYTES, "0");
    let output = command.output().expect("the child starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("open-failed locked"), "another process opened the log: {said}");
    append(&*log, ["b"]);
    assert_eq!(texts(&*log), ["a", "b"]);
    assert_eq!(bounds(&*log, &main()).next, 3);
}

fn files_cannot_grow(world: &LogWorld) {
    let mut rng = world.rng("caps");
    for round in 0..3 {
        let seed = rng.next_u64();
        let dir = world.dir().join(format!("capped{round}"));
        std::fs::create_dir(&dir).unwrap();
        let mut command = world.factory().child_command(&dir);
        command.env(SEED, seed.to_string()).env(RECORD_BYTES, "30000");
        let cap = (6 << 20) + rng.below(4 << 20) as u64;
        let (status, said) = run_capped(&command, cap);
        assert!(status.success(), "the child did not end well ({status}): {said:?}");
        let mut unknown = false;
        for line in said.iter().filter(|line| line.starts_with("failed")) {
            let kind = line.rsplit(' ').next().unwrap();
            match kind {
                "unavailable" => assert!(!unknown, "after an unknown outcome: {said:?}"),
                "outcome_unknown" => assert!(!unknown, "twice unknown: {said:?}"),
                "poisoned" => assert!(unknown, "poisoned for no reason: {said:?}"),
                other => panic!("a full disk is answered with {other}"),
            }
            unknown |= kind == "outcome_unknown";
        }
        let log = world.factory().open(&dir).expect("it opens again without the cap");
        for name in STREAMS {
            let next = holds_appends(&*log, seed, name, 30_000);
            let synced = last_said(&said, name, &["synced"]);
            assert!(next >= synced, "{synced} was durable, {next} is next");
            let told = last_said(&said, name, &["synced", "buffered"]);
            let begun = told + append_at(seed, name, told, 30_000).len() as u64;
            let most = if unknown { begun } else { told };
            assert!(next <= most, "{next} was never acknowledged: {said:?}");
        }
        log.close().unwrap();
    }
}
