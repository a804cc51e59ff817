//! Many writers at once: nothing is lost, nothing counts twice, and of those who race one wins.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Check, Commit};

use super::TreeWorld;
use super::tools::{
    block_on, commit, get, incrementing, input, keys, path, push_op, rev, set_op, setting,
    small_overlay, when,
};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new(
        "tree.many.increments",
        &["tree.commit.order", "tree.transform.resolved"],
        increments,
    ),
    Case::new("tree.many.keyed_increments", &["tree.commit.key"], keyed_increments),
    Case::new("tree.many.one_wins", &["tree.commit.conditions"], one_wins),
    Case::new("tree.many.compare_and_set", &["tree.commit.conditions"], compare_and_set),
    Case::new("tree.many.pushes", &["tree.push.increasing"], pushes),
    Case::new("tree.many.same_key_at_once", &["tree.commit.key"], same_key_at_once),
    Case::new("tree.many.flushes", &["tree.commit.order", "tree.commit.durable"], flushes),
];

const WRITERS: usize = 64;

/// Runs `work` in as many threads, all beginning together.
fn together(count: usize, work: impl Fn(usize) + Sync) {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        for index in 0..count {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(index);
            });
        }
    });
}

fn increments(world: &TreeWorld) {
    let tree = world.engine().tree();
    together(WRITERS, |writer| {
        for n in 0..8 {
            let own = set_op(&format!("w/{writer}/{n}"), json!(n));
            let sum = set_op("sum", json!({".sv": {"increment": 1}}));
            let done = commit(&tree, Commit::new(vec![own, sum]));
            // The result that was answered is the one of this commit: the sum is its rev.
            assert_eq!(done.results[1].resolved[0].1.get(), done.rev.to_string());
        }
    });
    assert_eq!(get(&tree, "sum"), json!(WRITERS * 8));
    assert_eq!(rev(&tree), WRITERS as u64 * 8);
    assert_eq!(keys(&tree, "w").len(), WRITERS);
    let stats = tree.stats().unwrap();
    assert!(stats.groups <= stats.commits);
}

fn keyed_increments(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    together(WRITERS, |writer| {
        for n in 0..5 {
            let request = || incrementing("sum", 1).with_key(format!("{writer}-{n}"));
            let first = commit(&tree, request());
            let again = commit(&tree, request());
            assert_eq!((first.rev, again.rev), (again.rev, first.rev));
            assert!(again.replayed && !first.replayed);
        }
    });
    assert_eq!(get(&tree, "sum"), json!(WRITERS * 5));
    assert_eq!(rev(&tree), WRITERS as u64 * 5, "a repetition takes no rev");
}

fn one_wins(world: &TreeWorld) {
    let tree = world.engine().tree();
    for round in 0..10 {
        let (at, winners) = (format!("lock/{round}"), AtomicUsize::new(0));
        together(16, |writer| {
            let request = setting(&at, json!(writer)).when(when(&at, Check::Absent));
            match tree.commit(request) {
                Ok(_) => {
                    winners.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                    assert_eq!(error.failed[0].value.get(), get(&tree, &at).to_string());
                }
            }
        });
        assert_eq!(winners.load(Ordering::Relaxed), 1, "round {round}");
    }
}

/// A counter kept by conditions alone, by value and by hash.
fn compare_and_set(world: &TreeWorld) {
    const EACH: usize = 10;
    let tree = world.engine().tree();
    commit(&tree, setting("c", json!({"n": 0})));
    together(8, |writer| {
        let mut done = 0;
        while done < EACH {
            let view = tree.view().unwrap();
            let present = view.get(&path("c")).unwrap();
            let check = match writer % 3 {
                0 => Check::Value(input(present.clone())),
                1 => Check::Hash(view.hash(&path("c")).unwrap().unwrap()),
                _ => Check::Rev(view.rev()),
            };
            let next = json!({"n": present["n"].as_u64().unwrap() + 1});
            match tree.commit(setting("c", next).when(when("c", check))) {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
            }
        }
    });
    assert_eq!(get(&tree, "c/n"), json!(8 * EACH));
}

fn pushes(world: &TreeWorld) {
    let tree = world.engine().tree();
    together(16, |writer| {
        let mut last = String::new();
        for n in 0..20 {
            let push = commit(&tree, Commit::new(vec![push_op("list", json!([writer, n]))]));
            let id = push.results[0].pushed.clone().unwrap();
            assert!(id > last, "ids of one caller increase");
            last = id;
        }
    });
    let all = keys(&tree, "list");
    assert_eq!(all.len(), 16 * 20, "no two pushes share an id");
    let mut next = [0; 16];
    let list = get(&tree, "list");
    for id in &all {
        let writer = list[id][0].as_u64().unwrap() as usize;
        assert_eq!(list[id][1], json!(next[writer]), "the list is in the order of the pushes");
        next[writer] += 1;
    }
}

fn same_key_at_once(world: &TreeWorld) {
    let tree = world.engine().tree();
    for round in 0..10 {
        let firsts = AtomicUsize::new(0);
        let key = format!("round{round}");
        together(12, |_| {
            let done = commit(&tree, incrementing("n", 1).with_key(key.clone()));
            assert_eq!(done.rev, round + 1, "everybody gets the first answer");
            firsts.fetch_add(usize::from(!done.replayed), Ordering::Relaxed);
        });
        assert_eq!(firsts.load(Ordering::Relaxed), 1);
        assert_eq!(get(&tree, "n"), json!(round + 1));
    }
}

/// Commits, submissions, flushes and views, all at once, on an overlay that is always full.
fn flushes(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(small_overlay());
    together(8, |worker| {
        for n in 0..40 {
            match worker {
                0 => tree.flush().unwrap(),
                1 => assert_eq!(tree.stats().unwrap().poisoned, None),
                2 => {
                    let pending = (0..4).map(|k| tree.submit(setting(&format!("s/{k}"), json!(n))));
                    for one in pending.collect::<Vec<_>>() {
                        block_on(one).unwrap();
                    }
                }
                3 => {
                    commit(&tree, Commit::delete(path("big")));
                }
                _ => {
                    let value = json!({"w": worker, "n": n, "fill": "q".repeat(500)});
                    let at = format!("big/{worker}/{}", n % 5);
                    let keep = set_op(&format!("keep/{worker}"), json!(n));
                    commit(&tree, Commit::new(vec![set_op(&at, value), keep]));
                }
            }
        }
    });
    for worker in 4..8 {
        assert_eq!(get(&tree, &format!("keep/{worker}")), json!(39));
    }
    assert_eq!(get(&tree, "s"), json!({"0": 39, "1": 39, "2": 39, "3": 39}));
    let before: Value = get(&tree, "");
    drop(tree);
    assert_eq!(get(&ground.reopen(), ""), before);
}
