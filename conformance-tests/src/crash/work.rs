//! What a writer does: a pure function of the seed and of one line of the trail.
//!
//! A writer's own places are written by nobody else, in the order of its commits. The shared ones
//! are everybody's; whoever touches them has an idempotency key, which tells the rev afterwards.

use serde_json::{Value, json};
use trellis_tree::{Check, Commit, Condition, Expiry, Operation};

use crate::tree::tools::{delete_op, input, path, push_op, set_op, update_op, when};
use crate::{Rng, Seed};

/// One submission, as the trail has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) writer: usize,
    /// Counts the writer's submissions.
    pub(super) n: u64,
    /// When a lease ends that this one takes.
    pub(super) ends_ms: u64,
    /// The writer's newest submission that was committed.
    pub(super) last: u64,
}

/// A change, in words that the tree and the model both understand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Put(String, Value),
    Lease(String, Value, u64),
    Many(Vec<(String, Value)>),
    Delete(String),
    Add(String, i64),
    Push(String, Value),
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Demand {
    Absent(String),
    Exists(String),
    Is(String, Value),
}

/// A commit to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) key: Option<String>,
    pub(super) demands: Vec<Demand>,
    pub(super) changes: Vec<Change>,
}

/// Where the number of a writer's newest commit is.
pub(super) fn marker(writer: usize) -> String {
    format!("w/{writer}/n")
}

/// Places that belong to all: (what everybody writes in pairs, sums, locks, lists).
fn shared(rng: &mut Rng, kind: &str) -> String {
    format!("{kind}/{}", rng.below(3))
}

/// What a submission asks for.
pub(super) fn task(seed: Seed, of: Submission) -> Task {
    let Submission { writer, n, ends_ms, last } = of;
    let mut rng = seed.of(&format!("{writer}/{n}")).rng();
    let own = |name: &str| format!("w/{writer}/{name}");
    let fill = "f".repeat(rng.below(300));
    let me = json!([writer, n]);
    let mark = Change::Put(own("n"), json!(n));
    let (mut demands, mut keyed) = (Vec::new(), true);
    let changes = match rng.below(20) {
        0..=3 => {
            let pair = shared(&mut rng, "pair");
            vec![Change::Many(vec![
                (own("a"), json!({"n": n})),
                (own(&format!("b/{}", n % 5)), json!({"n": n, "fill": fill})),
                (own("n"), json!(n)),
                (format!("{pair}/x"), me.clone()),
                (format!("{pair}/y"), me),
            ])]
        }
        4..=7 => {
            let sum = shared(&mut rng, "sum");
            vec![Change::Add(sum, 1 + n as i64 % 5), Change::Add("total".into(), 1), mark]
        }
        8 | 9 => {
            keyed = !rng.one_in(4);
            let value = json!({"one": n, "two": {"three": [n], "four": fill}});
            vec![mark, Change::Put(own(&format!("box/{}", n % 4)), value)]
        }
        10 => {
            keyed = rng.one_in(2);
            vec![Change::Delete(own("box")), Change::Put(own("box/0/one"), json!(n)), mark]
        }
        11 => vec![Change::Delete(own("box")), mark],
        12 => {
            let kind = ["pair", "list"][rng.below(2)];
            vec![Change::Delete(shared(&mut rng, kind)), mark]
        }
        13 | 14 => {
            let value = json!({"of": n, "part": {"a": n, "b": [n]}});
            vec![Change::Lease(own(&format!("lease/{}", n % 3)), value, ends_ms), mark]
        }
        15 if rng.one_in(2) => vec![mark, Change::Delete(own("lease"))],
        15 => vec![mark, Change::Put(own(&format!("lease/{}", n % 3)), json!({"for": "good"}))],
        16 | 17 => {
            let lock = shared(&mut rng, "lock");
            demands.push(Demand::Absent(lock.clone()));
            vec![Change::Put(lock, me), mark]
        }
        18 => {
            let lock = shared(&mut rng, "lock");
            let holds = if last == 0 {
                Demand::Absent(own("n"))
            } else {
                Demand::Is(own("n"), json!(last))
            };
            demands.extend([Demand::Exists(lock.clone()), holds]);
            vec![Change::Delete(lock), mark]
        }
        _ => vec![Change::Push(shared(&mut rng, "list"), me), mark],
    };
    let key = keyed.then(|| format!("{writer}-{n}"));
    Task { key, demands, changes }
}

impl Task {
    /// The task as a commit.
    pub(super) fn commit(&self) -> Commit {
        let operations = self.changes.iter().map(Change::operation).collect();
        let conditions = self.demands.iter().map(Demand::condition).collect();
        Commit { conditions, operations, key: self.key.clone(), system: false }
    }

    /// What the commit answers besides its rev: results of sums and ids of pushes, in order.
    pub(super) fn answers_something(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Add(..) | Change::Push(..)))
    }
}

impl Change {
    fn operation(&self) -> Operation {
        match self {
            Self::Put(at, value) => set_op(at, value.clone()),
            Self::Lease(at, value, ends_ms) => Operation::Set {
                path: path(at),
                value: input(value.clone()),
                expiry: Some(Expiry::AtMs(*ends_ms)),
            },
            Self::Many(updates) => {
                let updates: Vec<_> =
                    updates.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
                update_op(&updates)
            }
            Self::Delete(at) => delete_op(at),
            Self::Add(at, by) => set_op(at, json!({".sv": {"increment": by}})),
            Self::Push(at, value) => push_op(at, value.clone()),
        }
    }
}

impl Demand {
    fn condition(&self) -> Condition {
        match self {
            Self::Absent(at) => when(at, Check::Absent),
            Self::Exists(at) => when(at, Check::Exists),
            Self::Is(at, value) => when(at, Check::Value(input(value.clone()))),
        }
    }
}
