//! Seeded histories, compared step by step with vectors, and as a whole by a hash.
//!
//! A trim may keep more than asked, so the model follows the engine's `first`, within bounds; the
//! hash leaves out what depends on it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{
    Durability, ErrorKind, Expect, ReadBudget, ReadEnd, ReadStop, StreamId, StreamLog,
};

use super::LogWorld;
use super::tools::{bounds, dump, read, stream};
use crate::seed::hash;
use crate::{Case, Rng};

const PROMISES: &[&str] = &[
    "log.append.dense",
    "log.append.expect",
    "log.read.order",
    "log.read.budget",
    "log.trim.front",
    "log.streams.independent",
    "log.streams.listed",
    "log.close.durable",
];

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.model.vectors_first", PROMISES, |world| in_lockstep(world, "first", 500)),
    Case::new("log.model.vectors_second", PROMISES, |world| in_lockstep(world, "second", 500)),
    Case::new("log.model.vectors_long", PROMISES, |world| in_lockstep(world, "long", 20_000))
        .full(),
    Case::new("log.differential.trace", PROMISES, differential),
];

#[derive(Debug, Default)]
struct Modelled {
    /// Every record ever appended; the one of offset 1 first.
    records: Vec<Bytes>,
    first: u64,
    trimmed_before: u64,
}

impl Modelled {
    fn next(&self) -> u64 {
        self.records.len() as u64 + 1
    }

    /// What a read answers, with the budget's meaning.
    fn read(&self, from: u64, budget: ReadBudget) -> (Vec<(u64, Bytes)>, ReadEnd) {
        let (mut seen, mut bytes_left) = (Vec::new(), budget.bytes_max);
        for offset in from..self.next() {
            let record = &self.records[offset as usize - 1];
            let full = seen.len() >= budget.records_max || record.len() > bytes_left;
            if full && !seen.is_empty() {
                return (seen, ReadEnd { next: offset, stop: ReadStop::Budget });
            }
            bytes_left = bytes_left.saturating_sub(record.len());
            seen.push((offset, record.clone()));
        }
        (seen, ReadEnd { next: self.next(), stop: ReadStop::End })
    }
}

type Model = BTreeMap<StreamId, Modelled>;

fn draw_records(rng: &mut Rng) -> Vec<Bytes> {
    let count = rng.below(6);
    (0..count)
        .map(|_| {
            let len = [0, 1, 30, 600, 9_000][rng.below(5)];
            rng.bytes(len).into()
        })
        .collect()
}

/// Takes one random step on both sides; answers what was seen.
fn step(world: &LogWorld, model: &mut Model, rng: &mut Rng) -> String {
    let log = world.engine();
    let name = stream(["a", "ab", "b"][rng.below(3)]);
    let next = model.get(&name).map_or(1, Modelled::next);
    match rng.below(12) {
        0..=5 => append(&*log, model, rng, &name),
        6 | 7 => {
            let budget = ReadBudget { records_max: rng.below(9), bytes_max: rng.below(12_000) };
            compare_read(&*log, model, &name, rng.below(next as usize + 1) as u64, budget)
        }
        8 => compare_read(&*log, model, &name, 1, ReadBudget::UNLIMITED),
        9 => trim(&*log, model, &name, rng.below(next as usize + 1) as u64),
        10 => {
            log.flush(&name, next).unwrap();
            assert_eq!(bounds(&*log, &name).durable_next, next);
            "flushed".into()
        }
        _ if rng.one_in(4) => {
            drop(log);
            compare_all(&*world.reopen(), model);
            "reopened".into()
        }
        _ => format!("{:?}", log.streams(Some(&name), 2).unwrap()),
    }
}

fn append(log: &dyn StreamLog, model: &mut Model, rng: &mut Rng, name: &StreamId) -> String {
    let records = draw_records(rng);
    let next = model.get(name).map_or(1, Modelled::next);
    let durability = if rng.one_in(12) { Durability::Synced } else { Durability::Buffered };
    let expect = match rng.below(4) {
        0 => Expect::Next(next),
        1 if rng.one_in(2) => Expect::Next((next + 1).saturating_sub(rng.below(3) as u64)),
        _ => Expect::Any,
    };
    let result = log.append(name, &records, expect, durability);
    match expect {
        Expect::Next(other) if other != next => {
            assert_eq!(result.expect_err("a wrong offset").kind(), ErrorKind::Conflict);
            "conflict".into()
        }
        _ => {
            let at = result.unwrap();
            assert_eq!((at.first, at.next), (next, next + records.len() as u64));
            if !records.is_empty() {
                let fresh = || Modelled { first: 1, trimmed_before: 1, records: Vec::new() };
                model.entry(name.clone()).or_insert_with(fresh).records.extend(records);
            }
            format!("{at:?}")
        }
    }
}

fn compare_read(
    log: &dyn StreamLog,
    model: &mut Model,
    name: &StreamId,
    from: u64,
    budget: ReadBudget,
) -> String {
    let fresh = Modelled { first: 1, trimmed_before: 1, records: Vec::new() };
    let modelled = model.get(name).unwrap_or(&fresh);
    let found = read(log, name, from, budget);
    if from < modelled.first {
        assert_eq!(found.expect_err("below the first").kind(), ErrorKind::NotFound);
        return String::new();
    }
    let (found, end) = found.unwrap();
    let expected = modelled.read(from, budget);
    let lengths =
        |all: &[(u64, Bytes)]| all.iter().map(|(_, record)| record.len()).collect::<Vec<_>>();
    assert!(
        (&found, end) == (&expected.0, expected.1),
        "{name} from {from} within {budget:?}: found {:?} {end:?}, expected {:?} {:?}",
        lengths(&found),
        lengths(&expected.0),
        expected.1
    );
    // Below what was trimmed, engines may differ in what they still show.
    if from >= modelled.trimmed_before { format!("{found:?} {end:?}") } else { String::new() }
}

fn trim(log: &dyn StreamLog, model: &mut Model, name: &StreamId, before: u64) -> String {
    log.trim(name, before).unwrap();
    let now = bounds(log, name);
    if let Some(modelled) = model.get_mut(name) {
        modelled.trimmed_before = modelled.trimmed_before.max(before);
        assert!(now.first >= modelled.first, "what was trimmed came back");
        assert!(now.first <= modelled.trimmed_before, "a trim took too much");
        assert_eq!(now.next, modelled.next());
        modelled.first = now.first;
    }
    "trimmed".into()
}

fn compare_all(log: &dyn StreamLog, model: &mut Model) {
    let names: Vec<_> = model.keys().cloned().collect();
    assert_eq!(log.streams(None, usize::MAX).unwrap(), names);
    for (name, modelled) in model {
        let first = bounds(log, name).first;
        assert!(first <= modelled.trimmed_before, "{name}: records are gone after a reopen");
        modelled.first = first;
        assert!(dump(log, name) == modelled.read(first, ReadBudget::UNLIMITED).0, "{name}");
    }
}

fn in_lockstep(world: &LogWorld, label: &str, steps: usize) {
    let (mut rng, mut model) = (world.rng(label), Model::new());
    for _ in 0..steps {
        step(world, &mut model, &mut rng);
    }
    compare_all(&*world.engine(), &mut model);
}

fn differential(world: &LogWorld) {
    let (mut rng, mut model, mut trace) = (world.rng("trace"), Model::new(), 0);
    for _ in 0..400 {
        trace = hash(format!("{trace} {}", step(world, &mut model, &mut rng)).as_bytes());
    }
    // The model answered the same at each step, so its last state is the trace's; what the engine
    // shows of it must be the same read in any pieces.
    let log = world.engine();
    for (name, modelled) in &model {
        let (mut from, mut pieces) = (modelled.trimmed_before.max(modelled.first), Vec::new());
        while from < modelled.next() {
            let end = log
                .read(name, from, ReadBudget::UNLIMITED, &mut |offset, record| {
                    pieces.push((offset, Bytes::copy_from_slice(record)));
                    if rng.one_in(3) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .unwrap();
            from = end.next;
        }
        let start = modelled.trimmed_before.max(modelled.first);
        assert!(pieces == modelled.read(start, ReadBudget::UNLIMITED).0, "{name}, trace {trace}");
    }
}
