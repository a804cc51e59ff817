//! A child process writes and is killed; another writes into files that may not grow.
//!
//! Batch `n` is a function of the seed and `n`, and writes `n` under one key: what is found after
//! the crash says how many batches there must be, and what they must have left.

use trellis_engine_traits::{
    Durability, ErrorKind, Guard, KeyRange, KvBackend, KvSnapshotExt as _, Scan, SpaceId,
    WriteBatch,
};

use super::KvWorld;
use super::reference::{Reference, draw_batch};
use super::tools::{at, bytes, dump_of, get};
use crate::child::{rounds, run_and_kill, run_capped, say, told};
use crate::{Case, Need, Seed};

const SEED: &str = "TRELLIS_CRASH_SEED";
const VALUE_BYTES: &str = "TRELLIS_CRASH_VALUE_BYTES";
const NEEDS: &[Need] = &[Need::Disk, Need::Child];

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new(
        "kv.crash.killed_anywhere",
        &["kv.commit.atomic", "kv.commit.prefix", "kv.commit.synced", "kv.commit.order"],
        killed,
    )
    .needs(NEEDS),
    Case::new("kv.crash.locked_for_others", &["kv.open.exclusive"], locked_for_others).needs(NEEDS),
    Case::new(
        "kv.fault.files_cannot_grow",
        &["kv.commit.atomic", "kv.commit.prefix", "kv.poison.writes"],
        files_cannot_grow,
    )
    .needs(NEEDS),
];

/// The `n`th batch of a history; it applies only to the state that the one before left.
fn nth_batch(seed: u64, n: u64, value_bytes: usize) -> (WriteBatch, Durability) {
    let mut rng = Seed(seed).of(&n.to_string()).rng();
    let mut batch = draw_batch(&mut rng);
    batch.guards = vec![match n {
        1 => Guard::Absent(at("last")),
        _ => Guard::Equals(at("last"), bytes((n - 1).to_string())),
    }];
    for cell in 0..6 {
        batch = batch.put(SpaceId(9), format!("cell{cell}"), n.to_string());
    }
    if value_bytes > 0 {
        batch = batch.put(SpaceId(9), format!("bulk{n:06}"), rng.bytes(value_bytes));
    }
    batch = batch.put(SpaceId(7), "last", n.to_string());
    (batch, if rng.one_in(3) { Durability::Buffered } else { Durability::Synced })
}

fn last_of(kv: &dyn KvBackend) -> u64 {
    get(kv, "last").map_or(0, |value| std::str::from_utf8(&value).unwrap().parse().unwrap())
}

/// The child's side of the crash cases: commits until it is killed or cannot go on, and says what
/// was acknowledged. A program that a [`Factory::child`](crate::Factory::child) starts opens the
/// store and calls this.
///
/// # Panics
/// When the store breaks its contract, or the parent did not set the environment.
pub fn crash_child(kv: &dyn KvBackend) {
    let (seed, value_bytes) = (told(SEED), told(VALUE_BYTES) as usize);
    let mut next = last_of(kv) + 1;
    say(&format!("opened {}", next - 1));
    let mut failures = 0;
    while failures < 6 && next < 100_000 {
        let (batch, durability) = nth_batch(seed, next, value_bytes);
        match kv.commit(&batch, durability) {
            Ok(_) => {
                let word = if durability == Durability::Synced { "synced" } else { "buffered" };
                say(&format!("{word} {next}"));
                next += 1;
            }
            Err(error) => {
                failures += 1;
                say(&format!("failed {next} {}", error.kind()));
                eprintln!("{error:?}");
                reads_go_on(kv, next);
            }
        }
    }
    if let Err(error) = kv.close() {
        say(&format!("close-failed {next} {}", error.kind()));
    }
}

/// Demands that reads go on, and show all that was acknowledged. Only sled may refuse them: after a
/// write of its own failed it fetches no page that it does not hold.
fn reads_go_on(kv: &dyn KvBackend, next: u64) {
    let view = kv.snapshot().expect("reads go on");
    let whole = Scan::forward(SpaceId(7), KeyRange::all());
    match view.collect(&whole, usize::MAX).and_then(|_| view.get(SpaceId(7), b"last")) {
        Err(error) if kv.profile().name == "sled" && error.kind() == ErrorKind::Unavailable => {}
        Err(error) => panic!("reads do not go on: {error:?}"),
        Ok(last) => {
            let last = last.map_or(0, |last| std::str::from_utf8(&last).unwrap().parse().unwrap());
            assert!(last + 1 >= next, "{last} is the last, {next} was next");
        }
    }
}

/// Demands that the store holds the first `last` batches and nothing else.
fn holds_batches(kv: &dyn KvBackend, seed: u64, last: u64, value_bytes: usize) {
    let mut map = Reference::default();
    for n in 1..=last {
        assert!(map.apply(&nth_batch(seed, n, value_bytes).0));
    }
    let view = kv.snapshot().unwrap();
    for space in [0, 7, 8, 9] {
        let expected = map.scan(&Scan::forward(SpaceId(space), KeyRange::all()), usize::MAX);
        assert!(
            dump_of(&*view, SpaceId(space)) == expected,
            "space {space} is not what the first {last} batches leave"
        );
    }
}

/// The number at the end of the last line that begins with one of `words`.
fn last_said(said: &[String], words: &[&str]) -> u64 {
    let numbers = said.iter().filter_map(|line| {
        let mut parts = line.split(' ');
        let word = parts.next()?;
        words.contains(&word).then(|| parts.next().unwrap().parse::<u64>().unwrap())
    });
    numbers.max().unwrap_or(0)
}

fn killed(world: &KvWorld) {
    let mut rng = world.rng("kills");
    let seed = rng.next_u64();
    let mut whole = 0;
    for round in 0..rounds(10) {
        let mut command = world.factory().child_command(world.dir());
        command.env(SEED, seed.to_string()).env(VALUE_BYTES, "0");
        let said = run_and_kill(command, &mut rng, 60);
        let synced = last_said(&said, &["synced", "opened"]);
        let begun = last_said(&said, &["synced", "buffered", "opened"]) + 1;
        let kv = world.engine();
        let last = last_of(&*kv);
        assert!(
            last >= synced.max(whole),
            "round {round}: {synced} was synced, {last} is the last"
        );
        assert!(last <= begun, "round {round}: {begun} was the last begun, {last} is there");
        holds_batches(&*kv, seed, last, 0);
        whole = last;
        drop(kv);
        world.close();
    }
    assert!(whole > 0, "no child committed anything");
}

fn locked_for_others(world: &KvWorld) {
    let kv = world.engine();
    super::tools::put(&*kv, "k", "v");
    let mut command = world.factory().child_command(world.dir());
    command.env(SEED, "1").env(VALUE_BYTES, "0");
    let output = command.output().expect("the child starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("open-failed locked"), "another process opened the store: {said}");
    assert_eq!(get(&*kv, "k").unwrap(), "v");
}

fn files_cannot_grow(world: &KvWorld) {
    let mut rng = world.rng("caps");
    for round in 0..3 {
        let seed = rng.next_u64();
        let dir = world.dir().join(format!("capped{round}"));
        std::fs::create_dir(&dir).unwrap();
        let mut command = world.factory().child_command(&dir);
        command.env(SEED, seed.to_string()).env(VALUE_BYTES, "50000");
        let cap = (6 << 20) + rng.below(4 << 20) as u64;
        let (status, said) = run_capped(&command, cap);
        assert!(status.success(), "the child did not end well ({status}): {said:?}");
        let failed: Vec<_> = said.iter().filter(|line| line.starts_with("failed")).collect();
        assert!(!failed.is_empty(), "nothing failed below {cap} bytes: {:?}", said.last());
        let mut unknown = false;
        for line in failed {
            let kind = line.rsplit(' ').next().unwrap();
            match kind {
                "unavailable" => assert!(!unknown, "after an unknown outcome: {said:?}"),
                "outcome_unknown" => assert!(!unknown, "twice unknown: {said:?}"),
                "poisoned" => assert!(unknown, "poisoned for no reason: {said:?}"),
                other => panic!("a full disk is answered with {other}"),
            }
            unknown |= kind == "outcome_unknown";
        }
        let synced = last_said(&said, &["synced"]);
        let accepted = last_said(&said, &["synced", "buffered"]);
        let kv = world.factory().open(&dir).expect("it opens again without the cap");
        let last = last_of(&*kv);
        assert!(last >= synced, "{synced} was synced, {last} is the last");
        assert!(last <= accepted + u64::from(unknown), "{last} was never acknowledged: {said:?}");
        holds_batches(&*kv, seed, last, 50_000);
        kv.close().unwrap();
    }
}
