//! Endings: hidden at once, removed soon, kept over a restart, replaced with the value.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Check, Commit, Expiry, Operation};

use super::TreeWorld;
use super::tools::{
    commit, exists, get, input, keys, leasing, path, refused, rev, set, set_op, setting, until,
    update_op, when,
};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.ttl.hidden_at_once", &["tree.ttl.hidden"], hidden_at_once),
    Case::new("tree.ttl.removed_by_a_commit", &["tree.ttl.hidden"], removed),
    Case::new("tree.ttl.kept_over_a_restart", &["tree.ttl.restart"], kept_over_restart),
    Case::new("tree.ttl.due_while_closed", &["tree.ttl.restart", "tree.ttl.hidden"], while_closed),
    Case::new("tree.ttl.ends_with_its_value", &["tree.ttl.hidden"], ends_with_its_value),
    Case::new("tree.ttl.update_keeps_it", &["tree.ttl.hidden"], update_keeps_it),
    Case::new("tree.ttl.conditions_see_it_gone", &["tree.ttl.hidden"], conditions_see_it_gone),
    Case::new("tree.ttl.bad_times", &["tree.ttl.hidden"], bad_times),
];

fn hidden_at_once(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("s/a", json!({"x": 1, "y": {"z": 2}}), 10.0));
    commit(&tree, leasing("s/b", json!(1), 1000.0));
    set(&tree, "s/a/later", json!(true));
    let old = tree.view().unwrap();
    for flush in [false, true] {
        if flush {
            tree.flush().unwrap();
        }
        assert!(exists(&tree, "s/a/later"));
    }
    ground.clock().advance_ms(9_999);
    assert_eq!(get(&tree, "s/a/y/z"), json!(2), "not a millisecond too early");
    ground.clock().advance_ms(1);
    assert_eq!(get(&tree, "s/a"), Value::Null);
    assert_eq!(get(&tree, "s/a/y/z"), Value::Null);
    assert_eq!(get(&tree, "s"), json!({"b": 1}));
    assert_eq!(keys(&tree, "s"), ["b"]);
    assert!(!exists(&tree, "s/a/later"), "whatever is below it ends too");
    let view = tree.view().unwrap();
    assert_eq!(view.hash(&path("s/a")).unwrap(), None);
    assert_eq!(old.get(&path("s/a/x")).unwrap(), json!(1), "an older view shows its rev");
    ground.clock().advance_ms(1_000_000);
    assert!(!exists(&tree, "s"), "the last child gone, the object is gone");
}

fn removed(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    for n in 0..50 {
        commit(&tree, leasing(&format!("l/{n}"), json!(n), 1.0 + f64::from(n % 2)));
    }
    set(&tree, "stays", json!(1));
    let before = rev(&tree);
    ground.clock().advance_ms(1_000);
    until("what is due is removed", || rev(&tree) > before);
    assert_eq!(keys(&tree, "l").len(), 25);
    let between = rev(&tree);
    ground.clock().advance_ms(1_000);
    until("the rest is removed", || rev(&tree) > between);
    tree.flush().unwrap();
    assert_eq!(get(&tree, ""), json!({"stays": 1}));
    let tree = ground.reopen();
    assert_eq!(get(&tree, ""), json!({"stays": 1}));
}

fn kept_over_restart(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("a", json!({"x": 1}), 100.0));
    let at = 1_700_000_000_000 + 200_000;
    let expiry = Some(Expiry::AtMs(at));
    let timed = Operation::Set { path: path("b"), value: input(json!(1)), expiry };
    commit(&tree, Commit::new(vec![timed]));
    let mut tree = ground.reopen();
    for _ in 0..2 {
        ground.clock().advance_ms(40_000);
        assert_eq!(get(&tree, "a/x"), json!(1));
        tree = ground.reopen();
    }
    ground.clock().advance_ms(20_000);
    assert!(!exists(&tree, "a") && exists(&tree, "b"));
    tree = ground.reopen();
    ground.clock().advance_ms(99_999);
    assert!(exists(&tree, "b"));
    ground.clock().advance_ms(1);
    assert!(!exists(&tree, "b"));
}

fn while_closed(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("a", json!(1), 10.0));
    ground.close().unwrap();
    ground.clock().advance_ms(60_000);
    let tree = ground.tree();
    assert!(!exists(&tree, "a"), "hidden from the first moment");
    until("it is removed", || rev(&tree) > 1);
    assert!(!exists(&tree, "a"));
}

fn ends_with_its_value(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    for at in ["set", "gone", "parent/below", "again", "in_one"] {
        commit(&tree, leasing(at, json!({"v": 1}), 10.0));
    }
    set(&tree, "set", json!("kept"));
    commit(&tree, Commit::delete(path("gone")));
    set(&tree, "gone", json!("kept"));
    set(&tree, "parent", json!({"below": "kept"}));
    commit(&tree, leasing("again", json!("longer"), 20.0));
    let again = vec![set_op("in_one", Value::Null), set_op("in_one", json!("kept"))];
    commit(&tree, Commit::new(again));
    ground.clock().advance_ms(10_000);
    for at in ["set", "gone", "parent/below", "in_one"] {
        assert_eq!(get(&tree, at), json!("kept"), "the old ending of {at} went with the old value");
    }
    assert_eq!(get(&tree, "again"), json!("longer"));
    let tree = ground.reopen();
    assert_eq!(get(&tree, "parent/below"), json!("kept"));
    ground.clock().advance_ms(10_000);
    assert!(!exists(&tree, "again"));
    assert_eq!(get(&tree, "set"), json!("kept"));
}

fn update_keeps_it(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("a", json!({"v": 1}), 10.0));
    commit(&tree, leasing("b", json!(1), 10.0));
    commit(&tree, Commit::new(vec![update_op(&[("a/v", json!(2)), ("b", json!(2))])]));
    assert_eq!(get(&tree, "b"), json!(2));
    ground.clock().advance_ms(10_000);
    assert!(!exists(&tree, "a") && !exists(&tree, "b"));
}

fn conditions_see_it_gone(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("lock", json!("first"), 10.0));
    let take = || leasing("lock", json!("second"), 10.0).when(when("lock", Check::Absent));
    refused(tree.commit(take()), ErrorKind::Conflict, "it is held");
    ground.clock().advance_ms(10_000);
    commit(&tree, take());
    assert_eq!(get(&tree, "lock"), json!("second"));
    refused(tree.commit(take()), ErrorKind::Conflict, "it is held again");
    commit(&tree, leasing("n", json!(5), 10.0));
    ground.clock().advance_ms(10_000);
    commit(&tree, setting("n", json!({".sv": {"increment": 1}})));
    assert_eq!(get(&tree, "n"), json!(1), "a transform starts from nothing");
    ground.clock().advance_ms(100_000);
    assert_eq!(get(&tree, "n"), json!(1));
}

fn bad_times(world: &TreeWorld) {
    let tree = world.engine().tree();
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        let refusal = tree.commit(leasing("a", json!(1), seconds));
        refused(refusal, ErrorKind::InvalidInput, &format!("a ttl of {seconds}"));
    }
    commit(&tree, leasing("a", json!(1), 0.001));
    let past =
        Operation::Set { path: path("b"), value: input(json!(1)), expiry: Some(Expiry::AtMs(1)) };
    commit(&tree, Commit::new(vec![past]));
    assert!(!exists(&tree, "b"), "what ended in the past is not there");
    let never = Operation::Set {
        path: path("c"),
        value: input(json!(1)),
        expiry: Some(Expiry::AtMs(u64::MAX)),
    };
    commit(&tree, Commit::new(vec![never]));
    assert!(exists(&tree, "c"));
}
