//! Commits of many operations: each sees what those before it did.

use serde_json::json;
use trellis_runtime::{Random, SeededRandom};
use trellis_tree::{Commit, Operation, Tree};

use crate::{Bed, get, input, path, set};

/// Members that an object has before each commit, and one that it has not.
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "new"];

fn draw(random: &dyn Random, below: usize) -> usize {
    let mut byte = [0];
    random.fill(&mut byte).unwrap();
    usize::from(byte[0]) % below
}

fn draw_operation(random: &dyn Random) -> Operation {
    let name = if draw(random, 3) == 0 { "new" } else { NAMES[draw(random, NAMES.len())] };
    let below = if draw(random, 8) == 0 { "/a" } else { "" };
    let path = path(&format!("all/{name}{below}"));
    match draw(random, 6) {
        0 => Operation::Set { path, value: input(json!(draw(random, 4))), expiry: None },
        1 | 2 => {
            let value = input(json!({"a": 1, "c": {"b": 2, "e": draw(random, 4)}}));
            Operation::Set { path, value, expiry: None }
        }
        _ => Operation::Delete { path },
    }
}

fn everything(tree: &Tree) -> serde_json::Value {
    get(tree, "")
}

/// Promise: operations of one commit do together what they do one by one, also where many removals
/// stand before a write.
#[test]
fn operations_of_one_commit_do_what_they_do_one_by_one() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(4);
    println!("TRELLIS_SEED={seed}");
    let random = SeededRandom::new(seed);
    let (one, other) = (Bed::new().open(), Bed::new().open());
    for round in 0..150 {
        for tree in [&one, &other] {
            let members = NAMES[..6].iter().map(|name| ((*name).to_owned(), json!({"x": 1})));
            set(tree, "all", serde_json::Value::Object(members.collect()));
        }
        let count = 1 + draw(&random, 20);
        let operations: Vec<Operation> = (0..count).map(|_| draw_operation(&random)).collect();
        for operation in &operations {
            other.commit(Commit::new(vec![operation.clone()])).unwrap();
        }
        one.commit(Commit::new(operations.clone())).unwrap();
        assert_eq!(everything(&one), everything(&other), "round {round}: {operations:?}");
        if round % 20 == 0 {
            one.flush().unwrap();
        }
    }
}
