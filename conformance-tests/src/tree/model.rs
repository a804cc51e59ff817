//! Random commits against a plain map, on an overlay so small that frozen, active and stored
//! layers mix; and the trace of answers that every combination shares with the tree in memory.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Check, Commit, CommitError, Committed, Operation, Tree};

use super::reference::Reference;
use super::tools::{
    delete_op, exists, get, input, keys, leaves, path, push_op, rev, set_op, small_overlay, when,
};
use super::{Ground, TreeWorld};
use crate::seed::hash;
use crate::{Case, Rng};

const STEPS: usize = 400;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new(
        "tree.model.random_commits",
        &["tree.value.exact", "tree.commit.atomic", "tree.commit.order", "tree.commit.durable"],
        random_commits,
    ),
    Case::new(
        "tree.model.same_trace_as_memory",
        &["tree.value.exact", "tree.value.order", "tree.commit.conditions", "tree.commit.key"],
        same_trace,
    ),
];

/// A tree, what it must hold, and what it has answered.
struct Run<'a> {
    ground: &'a Ground,
    tree: Tree,
    map: Reference,
    rng: Rng,
    rev: u64,
    trace: u64,
    old_keys: Vec<(Commit, u64)>,
}

fn draw_path(rng: &mut Rng) -> String {
    let names = ["a", "b", "c", "c!", "a b", "é", "0"];
    let depth = 1 + rng.below(4);
    let names: Vec<_> = (0..depth).map(|_| names[rng.below(names.len())]).collect();
    names.join("/")
}

fn draw_value(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(if depth < 3 { 11 } else { 8 }) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([rng.below(9), {"x": []}]),
        3 => json!("s".repeat(rng.below(300))),
        4 => json!(rng.one_in(2)),
        5 => json!(0.5 + rng.below(100) as f64),
        6 | 7 => json!(rng.below(1000)),
        _ => {
            let names = ["a", "b", "c", "c!", "a b"];
            let count = rng.below(4);
            let members = (0..count)
                .map(|_| (names[rng.below(names.len())].to_owned(), draw_value(rng, depth + 1)));
            Value::Object(members.collect())
        }
    }
}

/// Text without sign or case of chance: the kind of a refusal, or rev and results.
fn answer_text(outcome: &Result<Committed, CommitError>) -> String {
    match outcome {
        Ok(done) => {
            let results: Vec<_> = done
                .results
                .iter()
                .map(|result| {
                    let resolved = result.resolved.iter();
                    let resolved: Vec<_> =
                        resolved.map(|(at, json)| format!("{at}={}", json.get())).collect();
                    format!("{:?}{resolved:?}", result.pushed)
                })
                .collect();
            format!("{} {} {results:?}", done.rev, done.replayed)
        }
        Err(error) => {
            let failed: Vec<_> =
                error.failed.iter().map(|one| (one.path.to_string(), &one.hash)).collect();
            format!("{} {:?} {failed:?}", error.kind(), error.path)
        }
    }
}

impl<'a> Run<'a> {
    fn new(ground: &'a Ground, rng: Rng) -> Self {
        let tree = ground.tree_with(small_overlay());
        let (map, old_keys) = (Reference::default(), Vec::new());
        Self { ground, tree, map, rng, rev: 0, trace: 0, old_keys }
    }

    fn note(&mut self, text: &str) {
        self.trace = hash(format!("{:x} {text}", self.trace).as_bytes());
    }

    /// One to three operations, and what they make of the map; `None` when they are refused.
    fn draw_commit(&mut self) -> (Commit, Option<Reference>) {
        let rng = &mut self.rng;
        let mut map = self.map.clone();
        let mut good = true;
        let mut operations = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let at = draw_path(rng);
            match rng.below(8) {
                0 | 1 => {
                    good &= map.set(&at, &Value::Null);
                    operations.push(delete_op(&at));
                }
                2 => {
                    let present = map.leaf(&at).filter(|value| value.is_number());
                    let sum = match present.map(|value| (value.as_i64(), value.as_f64())) {
                        Some((None, Some(real))) => json!(real + 3.0),
                        Some((Some(whole), _)) => json!(whole + 3),
                        _ => json!(3),
                    };
                    good &= map.set(&at, &sum);
                    operations.push(set_op(&at, json!({".sv": {"increment": 3}})));
                }
                3 => {
                    let mut updates = Vec::new();
                    for name in ["k", "l", "m"] {
                        let below = format!("{at}/{name}");
                        let value = draw_value(rng, 1);
                        good = good && map.set(&below, &value);
                        updates.push((path(&below), input(value)));
                    }
                    operations.push(Operation::Update { updates, expiry: None });
                }
                _ => {
                    let value = draw_value(rng, 0);
                    good = good && map.set(&at, &value);
                    operations.push(set_op(&at, value));
                }
            }
        }
        (Commit::new(operations), good.then_some(map))
    }

    /// A condition and whether it holds.
    fn draw_condition(&mut self) -> (String, Check, bool) {
        let at = draw_path(&mut self.rng);
        let there = self.map.exists(&at);
        // What an array holds is there for readers, and no leaf of the map.
        let there = there || exists(&self.tree, &at);
        if self.rng.one_in(2) { (at, Check::Exists, there) } else { (at, Check::Absent, !there) }
    }

    fn step(&mut self, step: usize) {
        match self.rng.below(40) {
            0 => self.tree.flush().unwrap(),
            1 => self.tree = self.ground.reopen_with(small_overlay()),
            2 => {
                let push = Commit::new(vec![push_op("z", json!(step))]);
                let done = self.tree.commit(push).unwrap();
                let id = done.results[0].pushed.clone().unwrap();
                assert!(self.map.set(&format!("z/{id}"), &json!(step)));
                self.rev += 1;
            }
            3 if !self.old_keys.is_empty() => {
                let drawn = self.rng.below(self.old_keys.len());
                let (commit, rev) = self.old_keys[drawn].clone();
                let done = self.tree.commit(commit).unwrap();
                assert_eq!((done.rev, done.replayed), (rev, true), "step {step}");
            }
            _ => self.commit(step),
        }
    }

    fn commit(&mut self, step: usize) {
        let (mut commit, mut next) = self.draw_commit();
        let mut conflict = false;
        if self.rng.one_in(4) {
            let (at, check, holds) = self.draw_condition();
            commit = commit.when(when(&at, check));
            conflict = !holds;
        }
        let keyed = self.rng.one_in(5);
        if keyed {
            commit = commit.with_key(format!("key-{step}"));
        }
        let outcome = self.tree.commit(commit.clone());
        self.note(&answer_text(&outcome));
        if conflict {
            next = None;
        }
        match (outcome, next) {
            (Ok(done), Some(map)) => {
                // A commit that changes nothing takes no rev.
                assert!(done.rev == self.rev || done.rev == self.rev + 1, "step {step}");
                assert!(done.rev > self.rev || map == self.map, "step {step}: no rev for a change");
                if keyed && done.rev > self.rev {
                    self.old_keys.push((commit, done.rev));
                }
                (self.rev, self.map) = (done.rev, map);
            }
            (Err(error), None) => {
                let kind = if conflict { ErrorKind::Conflict } else { ErrorKind::InvalidInput };
                assert_eq!(error.kind(), kind, "step {step}: {error:?} {commit:?}");
            }
            (outcome, next) => panic!("step {step}: {outcome:?}, not {next:?}, for {commit:?}"),
        }
    }

    /// Compares tree and map, by every way to read.
    fn compare(&mut self, step: usize) {
        assert_eq!(rev(&self.tree), self.rev, "step {step}");
        let found: Vec<(String, Value)> = leaves(&self.tree, "")
            .into_iter()
            .map(|(at, json)| (at, serde_json::from_str(&json).unwrap()))
            .collect();
        assert_eq!(found, self.map.leaves(), "step {step}");
        let view = self.tree.view().unwrap();
        let mut text = String::new();
        for _ in 0..6 {
            let at = draw_path(&mut self.rng);
            let json = view.get_json(&path(&at), usize::MAX).unwrap();
            text += &String::from_utf8(json).unwrap();
            text += &format!("{:?}", view.hash(&path(&at)).unwrap());
            text += &keys(&self.tree, &at).join(",");
            assert_eq!(view.exists(&path(&at)).unwrap(), get(&self.tree, &at) != Value::Null);
            if self.map.exists(&at) {
                assert!(view.exists(&path(&at)).unwrap(), "step {step}: {at}");
            }
        }
        drop(view);
        self.note(&text);
    }

    fn steps(mut self, steps: usize) -> u64 {
        for step in 0..steps {
            self.step(step);
            if step % 8 == 0 {
                self.compare(step);
            }
        }
        self.tree = self.ground.reopen();
        self.compare(steps);
        self.trace
    }
}

fn random_commits(world: &TreeWorld) {
    Run::new(&world.engine(), world.rng("commits")).steps(STEPS);
}

fn same_trace(world: &TreeWorld) {
    let memory = Ground::in_memory();
    let expected = Run::new(&memory, world.rng("trace")).steps(STEPS);
    memory.close().unwrap();
    let found = Run::new(&world.engine(), world.rng("trace")).steps(STEPS);
    assert_eq!(found, expected, "the answers are not those of the tree in memory");
}
