//! An append that fails cleanly takes its commits with it, and nothing else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::Check;

use super::TreeWorld;
use super::ground::Ground;
use super::tools::{
    block_on, commit, exists, get, incrementing, input, keys, path, rev, set, setting, until, when,
};
use crate::{Case, Flag, Need};

const PROVES: &[&str] = &["tree.commit.atomic", "tree.commit.order"];
const NEEDS: &[Need] = &[Need::WriteFault];

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.append_fails.leaves_nothing", PROVES, leaves_nothing).needs(NEEDS),
    Case::new("tree.append_fails.under_writers", PROVES, under_writers).needs(NEEDS),
    Case::new("tree.append_fails.queued_behind", PROVES, queued_behind).needs(NEEDS),
];

/// Brings everything into the store. Where the log is there too, that may meet the last fault, and
/// is tried again after a second.
fn apply_all(ground: &Ground, tree: &trellis_tree::Tree) {
    until("the store takes everything", || {
        let is_applied = tree.flush().is_ok();
        if !is_applied {
            ground.clock().advance_ms(1_000);
        }
        is_applied
    });
}

fn leaves_nothing(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!({"x": 1}));
    let (mut round, mut attempt) = (0, 0);
    while round < 5 {
        attempt += 1;
        assert!(attempt < 100, "no commit met a fault");
        let before = (rev(&tree), get(&tree, ""));
        world.throw(Flag::FailWrite);
        let request = || {
            setting("a", json!("lost"))
                .with_key(format!("k{attempt}"))
                .when(when("a", Check::Exists))
        };
        let Err(error) = tree.commit(request()) else {
            // Where the log is in the tree's store, what goes there by itself may have met it.
            set(&tree, "a", before.1["a"].clone());
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!((rev(&tree), get(&tree, "")), before, "it left nothing");
        assert!(!exists(&tree, "a/lost"));
        let next = commit(&tree, incrementing("n", 1));
        assert_eq!(next.rev, before.0 + 1, "revs stay dense");
        let retried = commit(&tree, request());
        assert!(!retried.replayed, "its key is free");
        set(&tree, "a", json!({"x": round}));
        if round == 2 {
            apply_all(&ground, &tree);
        }
        round += 1;
    }
    let before = get(&tree, "");
    assert_eq!(before, json!({"a": {"x": 4}, "n": 5}));
    apply_all(&ground, &tree);
    drop(tree);
    assert_eq!(get(&ground.reopen(), ""), before);
}

/// Each attempt has a path of its own: what failed must never be seen, what was acknowledged must.
fn under_writers(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let revs = Mutex::new(Vec::new());
    let failures = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..16 {
            let (tree, revs, failures) = (&tree, &revs, &failures);
            scope.spawn(move || {
                let mut mine = 0;
                for attempt in 0..60 {
                    if writer == 0 && attempt % 6 == 3 {
                        world.throw(Flag::FailWrite);
                    }
                    let at = format!("w{writer:02}/{attempt:02}");
                    let only_if = match mine {
                        0 => Check::Absent,
                        _ => Check::Value(input(json!(mine))),
                    };
                    let request = trellis_tree::Commit::new(vec![
                        super::tools::set_op(&at, json!(attempt)),
                        super::tools::set_op(&format!("count/{writer:02}"), json!(mine + 1)),
                    ]);
                    let count = format!("count/{writer:02}");
                    match tree.commit(request.when(when(&count, only_if))) {
                        Ok(done) => {
                            mine += 1;
                            revs.lock().unwrap().push(done.rev);
                            assert!(exists(tree, &at));
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                            failures.fetch_add(1, Ordering::Relaxed);
                            assert!(!exists(tree, &at), "a failed commit can be seen");
                        }
                    }
                }
            });
        }
    });
    let mut revs = revs.into_inner().unwrap();
    revs.sort_unstable();
    let count = revs.len() as u64;
    assert_eq!(revs, (1..=count).collect::<Vec<_>>(), "revs stay dense");
    assert!(failures.load(Ordering::Relaxed) >= 5, "the fault was not met");
    let check = |tree: &trellis_tree::Tree| {
        let total: u64 = (0..16)
            .map(|writer| {
                let counted = get(tree, &format!("count/{writer:02}")).as_u64().unwrap_or(0);
                assert_eq!(keys(tree, &format!("w{writer:02}")).len() as u64, counted);
                counted
            })
            .sum();
        assert_eq!((total, rev(tree)), (count, count));
    };
    check(&tree);
    apply_all(&ground, &tree);
    check(&tree);
    drop(tree);
    check(&ground.reopen());
}

/// A failure while groups wait behind it: they fall with it, and none of them can be seen.
fn queued_behind(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let (mut count, mut failures) = (0, 0);
    for round in 0..20 {
        world.throw(Flag::FailWrite);
        let pending: Vec<_> = (0..100)
            .map(|n| (n, tree.submit(setting(&format!("q/{round:02}-{n:02}"), json!(n)))))
            .collect();
        let mut failed = 0;
        for (n, one) in pending {
            let at = format!("q/{round:02}-{n:02}");
            match block_on(one) {
                Ok(done) => {
                    count += 1;
                    assert_eq!(done.rev, count, "answered in order, without a gap");
                    assert_eq!(get(&tree, &at), json!(n));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    failed += 1;
                    assert_eq!(get(&tree, &at), Value::Null);
                }
            }
        }
        failures += failed;
        assert_eq!(rev(&tree), count);
    }
    // After a refusal for lack of room the overlay is applied at once: where the journal is in the
    // store, that may meet a fault in a commit's place.
    assert!(failures > 0, "no fault was met");
    let children = |tree: &trellis_tree::Tree| {
        let page = tree.view().unwrap().children(&path("q"), None, 10_000, None).unwrap();
        page.items.len() as u64
    };
    assert_eq!(children(&tree), count);
    apply_all(&ground, &tree);
    drop(tree);
    let tree = ground.reopen();
    assert_eq!((children(&tree), rev(&tree)), (count, count));
}
