//! A child process commits from four threads and is killed; the parent looks at what is left.
//!
//! Commit `n` of writer `w` writes `n` to three places and adds one to a counter, under a key of
//! its own: what is found says which commits there are, whole, and each of them once.

use serde_json::{Value, json};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Tree};

use super::tools::{commit, get, keys, rev, set_op, small_overlay, update_op};
use super::{Ground, TreeWorld};
use crate::crash::{rounds, run_and_kill, say};
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[Case::new(
    "tree.crash.killed_anywhere",
    &["tree.commit.durable", "tree.commit.atomic", "tree.commit.order", "tree.commit.key"],
    killed,
)
.needs(&[Need::AllOnDisk, Need::Child])];

const WRITERS: usize = 4;

fn nth(writer: usize, n: u64) -> Commit {
    let (a, b, log) = (format!("w{writer}/a"), format!("w{writer}/b"), format!("log/{writer}/{n}"));
    let fill = "f".repeat((n % 300) as usize);
    let updates =
        [(a.as_str(), json!({"n": n, "fill": fill})), (b.as_str(), json!(n)), (&log, json!(n))];
    let sum = set_op("sum", json!({".sv": {"increment": 1}}));
    Commit::new(vec![update_op(&updates), sum]).with_key(format!("{writer}-{n}"))
}

fn last_of(tree: &Tree, writer: usize) -> u64 {
    get(tree, &format!("w{writer}/b")).as_u64().unwrap_or(0)
}

/// The child's side: commits until it is killed, and says what was acknowledged.
pub fn crash_child(ground: &Ground) {
    let tree =
        ground.open_on(Runtime::system(), small_overlay()).expect("the child opens the tree");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let tree = &tree;
            scope.spawn(move || {
                let last = last_of(tree, writer);
                if last > 0 {
                    let again = commit(tree, nth(writer, last));
                    assert!(again.replayed, "a repetition was taken for a new commit");
                }
                for n in last + 1.. {
                    let done = commit(tree, nth(writer, n));
                    assert!(!done.replayed);
                    say(&format!("{writer} {n} {}", done.rev));
                }
            });
        }
    });
}

fn killed(world: &TreeWorld) {
    let mut rng = world.rng("kills");
    let ground = world.engine();
    for round in 0..rounds() {
        let command = world.factory().child_command(world.dir());
        let said = run_and_kill(command, &mut rng, 80);
        let mut acknowledged = [0_u64; WRITERS];
        let mut rev_told = 0;
        for line in &said {
            let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            let last = &mut acknowledged[numbers[0] as usize];
            *last = numbers[1].max(*last);
            rev_told = numbers[2].max(rev_told);
        }
        let tree = ground.tree();
        let mut total = 0;
        for (writer, told) in acknowledged.iter().enumerate() {
            let last = last_of(&tree, writer);
            assert!(last >= *told, "round {round}: {told} was acknowledged, {last} is the last");
            let a = get(&tree, &format!("w{writer}/a/n"));
            assert_eq!(a.as_u64().unwrap_or(0), last, "round {round}: half a commit");
            let log = keys(&tree, &format!("log/{writer}"));
            assert_eq!(log.len() as u64, last, "round {round}: commits are missing");
            let newest = get(&tree, &format!("log/{writer}/{last}"));
            assert_eq!(newest, if last > 0 { json!(last) } else { Value::Null });
            total += last;
        }
        assert_eq!(get(&tree, "sum").as_u64().unwrap_or(0), total, "each commit counts once");
        assert_eq!(rev(&tree), total, "each commit is one rev");
        assert!(rev_told <= total, "round {round}: rev {rev_told} was acknowledged");
        drop(tree);
        ground.close().unwrap();
    }
    assert!(rev(&ground.tree()) > 0, "no child committed anything");
}
