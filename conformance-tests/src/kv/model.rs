//! Seeded histories, compared step by step with a sorted map, and as a whole by a hash.
//!
//! The history depends on the seed alone, not on the engine: that each engine agrees with the map
//! means that all agree with each other.

use trellis_engine_traits::{
    ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt, Scan, SpaceId,
};

use super::KvWorld;
use super::reference::{Reference, Step, draw};
use crate::Case;
use crate::seed::hash;

const PROMISES: &[&str] = &[
    "kv.commit.order",
    "kv.commit.guards",
    "kv.delete_range.exact",
    "kv.get.exact",
    "kv.scan.order",
    "kv.scan.bounds",
    "kv.snapshot.frozen",
    "kv.close.durable",
];

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.model.map_first", PROMISES, |world| in_lockstep(world, "first", 500)),
    Case::new("kv.model.map_second", PROMISES, |world| in_lockstep(world, "second", 500)),
    Case::new("kv.model.map_long", PROMISES, |world| in_lockstep(world, "long", 20_000)).full(),
    Case::new("kv.differential.trace", PROMISES, differential),
];

/// Answers steps; the views it keeps end with a reopen.
trait Answers {
    fn answer(&mut self, step: &Step) -> String;
}

#[derive(Default)]
struct Map {
    now: Reference,
    held: Vec<Reference>,
}

impl Answers for Map {
    fn answer(&mut self, step: &Step) -> String {
        match step {
            Step::Commit(batch, _) => if self.now.apply(batch) { "ok" } else { "conflict" }.into(),
            Step::Get(space, key) => format!("{:?}", self.now.get(*space, key)),
            Step::Scan(scan, limit) => format!("{:?}", self.now.scan(scan, *limit)),
            Step::Hold => {
                self.held.push(self.now.clone());
                "held".into()
            }
            Step::Recall(index, scan) => match self.held.get(*index) {
                Some(view) => format!("{:?}", view.scan(scan, usize::MAX)),
                None => "none".into(),
            },
            Step::Reopen => {
                self.held.clear();
                "reopened".into()
            }
        }
    }
}

struct Store<'a> {
    world: &'a KvWorld,
    held: Vec<Box<dyn KvSnapshot>>,
}

impl Answers for Store<'_> {
    fn answer(&mut self, step: &Step) -> String {
        let kv = self.world.engine();
        match step {
            Step::Commit(batch, durability) => match kv.commit(batch, *durability) {
                Ok(_) => "ok".into(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                    "conflict".into()
                }
            },
            Step::Get(space, key) => {
                format!("{:?}", kv.snapshot().unwrap().get(*space, key).unwrap())
            }
            Step::Scan(scan, limit) => {
                format!("{:?}", kv.snapshot().unwrap().collect(scan, *limit).unwrap())
            }
            Step::Hold => {
                self.held.push(kv.snapshot().unwrap());
                "held".into()
            }
            Step::Recall(index, scan) => match self.held.get(*index) {
                Some(view) => format!("{:?}", view.collect(scan, usize::MAX).unwrap()),
                None => "none".into(),
            },
            Step::Reopen => {
                self.held.clear();
                drop(kv);
                drop(self.world.reopen());
                "reopened".into()
            }
        }
    }
}

fn in_lockstep(world: &KvWorld, label: &str, steps: usize) {
    let mut rng = world.rng(label);
    let (mut map, mut store) = (Map::default(), Store { world, held: Vec::new() });
    for number in 0..steps {
        let step = draw(&mut rng, map.held.len());
        let (expected, found) = (map.answer(&step), store.answer(&step));
        assert!(
            found == expected,
            "step {number}, {step:?}:\nfound    {found}\nexpected {expected}"
        );
    }
    compare_all(&map.now, &*world.engine());
}

fn compare_all(map: &Reference, kv: &dyn KvBackend) {
    let view = kv.snapshot().unwrap();
    for space in [7, 8, 0] {
        let scan = Scan::forward(SpaceId(space), KeyRange::all());
        assert!(view.collect(&scan, usize::MAX).unwrap() == map.scan(&scan, usize::MAX));
    }
}

/// The hash of every answer to one history.
fn trace_hash(answers: &mut dyn Answers, mut rng: crate::Rng) -> u64 {
    let (mut trace, mut held) = (0, 0);
    for _ in 0..400 {
        let step = draw(&mut rng, held);
        match step {
            Step::Hold => held += 1,
            Step::Reopen => held = 0,
            _ => {}
        }
        trace = hash(format!("{trace} {}", answers.answer(&step)).as_bytes());
    }
    trace
}

fn differential(world: &KvWorld) {
    let expected = trace_hash(&mut Map::default(), world.rng("trace"));
    let found = trace_hash(&mut Store { world, held: Vec::new() }, world.rng("trace"));
    assert_eq!(found, expected, "the same history has another trace than on every other engine");
}
