//! Six workloads: what is done to a tree while something fails.

use serde_json::{Value, json};
use trellis_tree::{Commit, Expiry, Input, Operation, Path};

/// One step of a workload.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Commit(Commit),
    /// Brings everything into the store.
    Flush,
    /// Moves the clock.
    Pass(u64),
}

/// A workload of one writer, or the one of several.
#[derive(Debug, Clone, Copy)]
pub(super) enum Workload {
    Serial(fn() -> Vec<Step>),
    /// [`nth`] of each of [`WRITERS`], at once.
    Concurrent,
}

pub(super) const SETS: Workload = Workload::Serial(sets);
pub(super) const UPDATES: Workload = Workload::Serial(updates);
pub(super) const INCREMENTS: Workload = Workload::Serial(increments);
pub(super) const SUBTREES: Workload = Workload::Serial(subtrees);
pub(super) const ENDINGS: Workload = Workload::Serial(endings);
pub(super) const WRITERS_AT_ONCE: Workload = Workload::Concurrent;

pub(super) const WRITERS: usize = 4;
pub(super) const COMMITS_EACH: u64 = 8;

fn path(text: &str) -> Path {
    Path::parse(text).expect("a good path")
}

fn input(value: Value) -> Input {
    Input::from_json(value).expect("a good value")
}

fn set(at: &str, value: Value) -> Operation {
    Operation::Set { path: path(at), value: input(value), expiry: None }
}

fn commit(operation: Operation) -> Step {
    Step::Commit(Commit::new(vec![operation]))
}

/// What is written when all is over.
pub(super) fn afterwards(n: u64) -> Commit {
    Commit::new(vec![set("afterwards", json!(n))])
}

fn fill(bytes: usize) -> String {
    "f".repeat(bytes)
}

fn sets() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..24 {
        steps.push(commit(set(&format!("s/{}", n % 7), json!({"n": n, "fill": fill(n * 37)}))));
        if n % 11 == 10 {
            steps.push(Step::Flush);
        }
    }
    steps
}

fn updates() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..16 {
        let updates = (0..5)
            .map(|part| {
                let at = format!("u{part}/{}", (n + part) % 4);
                (path(&at), input(json!({"n": n, "fill": fill(n * 20), "part": part})))
            })
            .chain([(path(&format!("gone/{}", n % 3)), Input::null())])
            .chain([(path(&format!("gone/{}", (n + 1) % 3)), input(json!(n)))])
            .collect();
        steps.push(commit(Operation::Update { updates, expiry: None }));
        if n % 6 == 5 {
            steps.push(Step::Flush);
        }
    }
    steps
}

fn increments() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..20_i64 {
        let operations = vec![
            set(&format!("count/{}", n % 3), json!({".sv": {"increment": n}})),
            set("sum", json!({".sv": {"increment": 1}})),
            set("list", json!({".sv": {"append": [n]}})),
        ];
        let key = format!("key-{n:03}-{}", "k".repeat(80));
        steps.push(Step::Commit(Commit::new(operations).with_key(key)));
        if n % 8 == 7 {
            steps.push(Step::Flush);
        }
    }
    steps
}

fn subtrees() -> Vec<Step> {
    let tree = |n: usize| {
        let leaves = (0..12).map(|leaf| (format!("{leaf:02}"), json!(fill(n * 9 + leaf))));
        json!({"n": n, "leaves": Value::Object(leaves.collect())})
    };
    let mut steps = Vec::new();
    for n in 0..12 {
        steps.push(commit(set(&format!("t/{}", n % 3), tree(n))));
        match n % 4 {
            1 => steps.push(commit(Operation::Delete { path: path(&format!("t/{}", n % 3)) })),
            2 => {
                let both = vec![
                    Operation::Delete { path: path(&format!("t/{}/leaves", n % 3)) },
                    set(&format!("t/{}/leaves/03", n % 3), json!(n)),
                ];
                steps.push(Step::Commit(Commit::new(both)));
            }
            3 => {
                steps.push(Step::Flush);
                steps.push(commit(set("t", Value::Null)));
            }
            _ => {}
        }
    }
    steps
}

fn endings() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..16 {
        steps.push(commit(Operation::Set {
            path: path(&format!("e/{}", n % 5)),
            value: input(json!({"n": n, "fill": fill(n * 29)})),
            expiry: Some(Expiry::TtlSeconds(if n % 3 == 0 { 60.0 } else { 1.0 })),
        }));
        steps.push(commit(set(&format!("kept/{n}"), json!(n))));
        if n % 4 == 3 {
            steps.push(Step::Pass(700));
        }
        if n % 6 == 5 {
            steps.push(Step::Flush);
        }
    }
    steps
}

/// Commit `n` of a writer: it shows in four places, and counts once.
pub(super) fn nth(writer: usize, n: u64) -> Commit {
    let fill_bytes = usize::try_from(n * 41 % 500).unwrap_or(0);
    let updates = vec![
        (path(&format!("w{writer}/a")), input(json!({"n": n, "fill": fill(fill_bytes)}))),
        (path(&format!("w{writer}/b")), input(json!(n))),
        (path(&format!("log/{writer}/{n}")), input(json!(n))),
    ];
    Commit::new(vec![
        Operation::Update { updates, expiry: None },
        Operation::Delete { path: path(&format!("scratch/{writer}")) },
        set(&format!("scratch/{writer}/{n}"), json!([n])),
        set("sum", json!({".sv": {"increment": 1}})),
    ])
    .with_key(format!("{writer}-{n}"))
}
