//! Commits: order, conditions, idempotency keys, updates, pushes, who may write where.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Check, Commit, Input, Operation, Path};

use super::TreeWorld;
use super::tools::{
    block_on, commit, delete_op, exists, get, incrementing, input, path, push_op, refused, rev,
    set, set_op, setting, update_op, when,
};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.commit.operations_in_order", &["tree.commit.atomic"], operations_in_order),
    Case::new("tree.commit.refused_whole", &["tree.commit.atomic"], refused_whole),
    Case::new("tree.commit.dense_revs", &["tree.commit.order"], dense_revs),
    Case::new("tree.commit.submissions_in_order", &["tree.commit.order"], submissions_in_order),
    Case::new("tree.condition.each_kind", &["tree.commit.conditions"], each_kind),
    Case::new("tree.condition.all_must_hold", &["tree.commit.conditions"], all_must_hold),
    Case::new("tree.condition.answers_what_is_there", &["tree.commit.conditions"], answers),
    Case::new("tree.condition.rev", &["tree.commit.conditions"], rev_condition),
    Case::new("tree.condition.see_the_state_before", &["tree.commit.conditions"], state_before),
    Case::new("tree.key.repeated", &["tree.commit.key"], key_repeated),
    Case::new("tree.key.other_request", &["tree.commit.key"], key_other_request),
    Case::new("tree.key.not_taken_by_a_refusal", &["tree.commit.key"], key_after_refusal),
    Case::new("tree.key.of_no_effect", &["tree.commit.key"], key_of_no_effect),
    Case::new("tree.key.first_answer", &["tree.commit.key"], key_first_answer),
    Case::new("tree.update.one_commit", &["tree.update.whole"], update_one_commit),
    Case::new("tree.update.overlap_refused", &["tree.update.whole"], overlap_refused),
    Case::new("tree.push.ids_increase", &["tree.push.increasing"], push_ids),
    Case::new("tree.commit.roots", &["tree.commit.atomic"], roots),
];

fn operations_in_order(world: &TreeWorld) {
    let tree = world.engine().tree();
    let operations = vec![
        set_op("a", json!({"x": 1, "y": 2})),
        delete_op("a/x"),
        set_op("a/z", json!(3)),
        set_op("b", json!(1)),
        set_op("b", json!({".sv": {"increment": 4}})),
        set_op("c/d", json!(1)),
        delete_op("c"),
        set_op("c/e", json!(2)),
    ];
    let done = commit(&tree, Commit::new(operations));
    assert_eq!((done.rev, done.results.len(), done.replayed), (1, 8, false));
    for _ in 0..2 {
        assert_eq!(
            get(&tree, ""),
            json!({"a": {"y": 2, "z": 3}, "b": 5, "c": {"e": 2}}),
            "a later operation sees the earlier ones"
        );
        tree.flush().unwrap();
    }
}

fn refused_whole(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "a", json!([1]));
    set(&tree, "b", json!(i64::MAX));
    let before = (rev(&tree), get(&tree, ""));
    let bad = [
        set_op("a/0", json!(1)),
        set_op("b", json!({".sv": {"multiply": 1e308}})),
        Operation::Set { path: Path::root(), value: input(json!({})), expiry: None },
        Operation::Delete { path: Path::root() },
    ];
    for (index, bad) in bad.into_iter().enumerate() {
        let operations = vec![set_op("n/x", json!(1)), delete_op("b"), bad.clone()];
        let refusal = match index {
            1 => {
                let operations = vec![set_op("n/x", json!(1)), set_op("b", json!(1e300)), bad];
                tree.commit(Commit::new(operations))
            }
            _ => tree.commit(Commit::new(operations)),
        };
        refused(refusal, ErrorKind::InvalidInput, "a commit with one bad operation");
        assert_eq!((rev(&tree), get(&tree, "")), before, "nothing of it is there");
    }
    assert_eq!(set(&tree, "n", json!(2)), before.0 + 1, "a refusal takes no rev");
}

fn dense_revs(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    for expected in 1..=60 {
        assert_eq!(set(&tree, &format!("k/{}", expected % 7), json!(expected)), expected);
        assert_eq!(rev(&tree), expected);
        match expected % 20 {
            5 => tree.flush().unwrap(),
            10 => tree = ground.reopen(),
            _ => {}
        }
    }
}

fn submissions_in_order(world: &TreeWorld) {
    const EACH: usize = 150;
    let tree = world.engine().tree();
    let revs: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let tree = &tree;
                scope.spawn(move || {
                    let pending: Vec<_> = (0..EACH)
                        .map(|n| tree.submit(setting(&format!("last/{caller}"), json!(n))))
                        .collect();
                    let answers = pending.into_iter().map(|one| block_on(one).unwrap().rev);
                    answers.collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let mut all: Vec<u64> = revs.iter().flatten().copied().collect();
    for (caller, revs) in revs.iter().enumerate() {
        assert!(revs.is_sorted(), "caller {caller} was answered out of order: {revs:?}");
        assert_eq!(get(&tree, &format!("last/{caller}")), json!(EACH - 1), "the last one wins");
    }
    all.sort_unstable();
    assert_eq!(all, (1..=4 * EACH as u64).collect::<Vec<_>>(), "revs are dense");
}

/// Each check that holds for `at`, and each that does not.
fn checks(tree: &trellis_tree::Tree, at: &str) -> (Vec<Check>, Vec<Check>) {
    let view = tree.view().unwrap();
    let now = rev(tree);
    match view.hash(&path(at)).unwrap() {
        Some(hash) => {
            let value = Input::from_json(view.get(&path(at)).unwrap()).unwrap();
            let good = vec![Check::Exists, Check::Hash(hash), Check::Value(value), Check::Rev(now)];
            let other = Check::Value(input(json!("other")));
            (good, vec![Check::Absent, Check::Hash("0".repeat(32)), other, Check::Rev(0)])
        }
        None => {
            let nothing = Check::Value(Input::null());
            let bad = vec![
                Check::Exists,
                Check::Hash("0".repeat(32)),
                Check::Value(input(json!({}))),
                Check::Value(input(json!(0))),
            ];
            (vec![Check::Absent, nothing, Check::Rev(now)], bad)
        }
    }
}

fn each_kind(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "leaf", json!("x"));
    set(&tree, "object", json!({"b": [1, {"z": 1, "y": 2}], "a": {"c": 1.0, "d": {}}}));
    set(&tree, "empty", json!({}));
    let mut count = 0;
    for _ in 0..2 {
        for at in ["leaf", "object", "object/a", "empty", "absent", "leaf/below"] {
            let (good, bad) = checks(&tree, at);
            for check in good {
                commit(&tree, setting("counter", json!(count)).when(when(at, check)));
                count += 1;
            }
            for check in bad {
                let what = format!("{check:?} of {at}");
                let refusal = tree.commit(setting("counter", json!(-1)).when(when(at, check)));
                refused(refusal, ErrorKind::Conflict, &what);
                assert_eq!(get(&tree, "counter"), json!(count - 1), "{what}");
            }
        }
        tree.flush().unwrap();
    }
}

fn all_must_hold(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "a", json!(1));
    let two = |first: Check, second: Check| {
        setting("b", json!(1)).when(when("a", first)).when(when("c", second))
    };
    let refusal = tree.commit(two(Check::Exists, Check::Exists));
    let refusal = refused(refusal, ErrorKind::Conflict, "the second does not hold");
    assert_eq!(refusal.failed.len(), 1);
    assert_eq!(refusal.failed[0].path, path("c"));
    let refusal = tree.commit(two(Check::Absent, Check::Exists));
    let refusal = refused(refusal, ErrorKind::Conflict, "neither holds");
    let failed: Vec<_> = refusal.failed.iter().map(|one| one.path.to_string()).collect();
    assert_eq!(failed, ["a", "c"], "each condition that failed is answered");
    assert!(!exists(&tree, "b"));
    commit(&tree, two(Check::Exists, Check::Absent));
    // Conditions alone are a question.
    let only = Commit::default().when(when("a", Check::Value(input(json!(1)))));
    let now = rev(&tree);
    assert_eq!(commit(&tree, only).rev, now);
}

fn answers(world: &TreeWorld) {
    let tree = world.engine().tree();
    let large = "x".repeat(80 << 10);
    for (at, value) in [("a", json!({"n": 1})), ("b", json!("text")), ("large", json!(large))] {
        set(&tree, at, value.clone());
        let refusal = tree.commit(setting("z", json!(1)).when(when(at, Check::Absent)));
        let refusal = refused(refusal, ErrorKind::Conflict, "it is there");
        let failed = &refusal.failed[0];
        assert_eq!(failed.hash, tree.view().unwrap().hash(&path(at)).unwrap());
        assert_eq!(failed.too_large, at == "large");
        let shown: Value = serde_json::from_str(failed.value.get()).unwrap();
        assert_eq!(shown, if at == "large" { Value::Null } else { value });
    }
    let refusal = tree.commit(setting("z", json!(1)).when(when("none", Check::Exists)));
    let refusal = refused(refusal, ErrorKind::Conflict, "it is not there");
    assert_eq!((refusal.failed[0].value.get(), &refusal.failed[0].hash), ("null", &None));
}

fn rev_condition(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a/b", json!(1));
    let at = set(&tree, "other", json!(1));
    let unchanged = |tree: &trellis_tree::Tree, path: &str, since: u64| {
        let probe = Commit::default().when(when(path, Check::Rev(since)));
        match tree.commit(probe) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                false
            }
        }
    };
    for _ in 0..2 {
        assert!(unchanged(&tree, "a", at) && unchanged(&tree, "a/b", at));
        tree.flush().unwrap();
    }
    set(&tree, "a!", json!(1));
    set(&tree, "ab/c", json!(1));
    assert!(unchanged(&tree, "a", at), "neighbours are none of it");
    let since = rev(&tree);
    set(&tree, "a/x/y", json!(1));
    for _ in 0..2 {
        assert!(!unchanged(&tree, "a", since) && !unchanged(&tree, "a/x", since), "below it");
        assert!(unchanged(&tree, "a/b", since), "beside it");
        tree.flush().unwrap();
    }
    let since = rev(&tree);
    commit(&tree, Commit::delete(path("a")));
    assert!(!unchanged(&tree, "a/b", since) && !unchanged(&tree, "a", since), "above it");
    let tree = ground.reopen();
    assert!(unchanged(&tree, "a", rev(&tree)));
    assert!(!unchanged(&tree, "a/b", since), "the journal is asked after a reopen too");
}

fn state_before(world: &TreeWorld) {
    let tree = world.engine().tree();
    commit(&tree, setting("a", json!(1)).when(when("a", Check::Absent)));
    refused(
        tree.commit(setting("a", json!(2)).when(when("a", Check::Value(input(json!(2)))))),
        ErrorKind::Conflict,
        "a condition about what the commit itself writes",
    );
    let (first, second) = (
        tree.submit(setting("s", json!(1))),
        tree.submit(setting("s", json!(2)).when(when("s", Check::Value(input(json!(1)))))),
    );
    block_on(first).unwrap();
    block_on(second).expect("it sees what was submitted before");
    assert_eq!(get(&tree, "s"), json!(2));
}

fn key_repeated(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    let first = commit(&tree, incrementing("n", 1).with_key("once"));
    assert!(!first.replayed);
    for round in 0..4 {
        let again = commit(&tree, incrementing("n", 1).with_key("once"));
        assert_eq!((again.rev, again.replayed), (first.rev, true), "round {round}");
        assert_eq!(get(&tree, "n"), json!(1));
        match round {
            0 => tree.flush().unwrap(),
            1 => tree = ground.reopen(),
            _ => {
                set(&tree, "other", json!(round));
            }
        }
    }
    assert!(!commit(&tree, incrementing("n", 1).with_key("twice")).replayed);
    assert_eq!(get(&tree, "n"), json!(2));
    // Keys end after 24 hours.
    let before = rev(&tree);
    ground.clock().advance_ms(25 * 3600 * 1000);
    super::tools::until("old keys are forgotten", || rev(&tree) > before);
    assert!(!commit(&tree, incrementing("n", 1).with_key("once")).replayed);
}

fn key_other_request(world: &TreeWorld) {
    let tree = world.engine().tree();
    commit(&tree, setting("a", json!(1)).with_key("k"));
    let others = [
        setting("a", json!(2)),
        setting("b", json!(1)),
        Commit::delete(path("a")),
        setting("a", json!(1)).when(when("a", Check::Exists)),
        Commit::new(vec![set_op("a", json!(1)), set_op("b", json!(1))]),
    ];
    for other in others {
        let refusal = tree.commit(other.with_key("k"));
        refused(refusal, ErrorKind::InvalidInput, "the key with another request");
    }
    assert_eq!(get(&tree, ""), json!({"a": 1}));
}

fn key_after_refusal(world: &TreeWorld) {
    let tree = world.engine().tree();
    let request = || setting("a", json!(1)).when(when("b", Check::Exists)).with_key("k");
    refused(tree.commit(request()), ErrorKind::Conflict, "the condition does not hold");
    set(&tree, "b", json!(1));
    assert!(!commit(&tree, request()).replayed, "a refused commit leaves its key free");
    commit(&tree, Commit::delete(path("b")));
    assert!(commit(&tree, request()).replayed, "a replay does not ask the conditions again");
}

/// A commit that changed nothing was answered too: repeated later it still changes nothing.
fn key_of_no_effect(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let request = || Commit::delete(path("x")).with_key("k");
    let first = commit(&tree, request());
    set(&tree, "x", json!(1));
    drop(tree);
    let again = commit(&ground.reopen(), request());
    assert_eq!((again.rev, again.replayed), (first.rev, true));
    assert_eq!(get(&ground.tree(), "x"), json!(1));
}

fn key_first_answer(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let request = || {
        let stamp = set_op("t/at", json!({".sv": "timestamp"}));
        Commit::new(vec![push_op("list", json!(1)), stamp]).with_key("answer")
    };
    let first = commit(&tree, request());
    drop(tree);
    for reopen in [false, true] {
        ground.clock().advance_ms(5000);
        let tree = if reopen { ground.reopen() } else { ground.tree() };
        let again = commit(&tree, request());
        assert!(again.replayed);
        assert_eq!(again.results[0].pushed, first.results[0].pushed);
        let resolved = |done: &trellis_tree::Committed| {
            let all = done.results[1].resolved.iter();
            all.map(|(path, json)| (path.to_string(), json.get().to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(resolved(&again), resolved(&first));
        assert_eq!(super::tools::keys(&tree, "list").len(), 1);
    }
}

fn update_one_commit(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "u", json!({"keep": 1, "drop": 2, "deep": {"x": 1, "y": 2}}));
    let updates = [
        ("u/drop", Value::Null),
        ("u/deep/x", json!({"n": 1})),
        ("u/new", json!([1])),
        ("elsewhere/far", json!("v")),
    ];
    let done = commit(&tree, Commit::new(vec![update_op(&updates)]));
    assert_eq!((done.rev, rev(&tree)), (2, 2), "one commit");
    let whole = json!({
        "u": {"keep": 1, "deep": {"x": {"n": 1}, "y": 2}, "new": [1]}, "elsewhere": {"far": "v"},
    });
    assert_eq!(get(&tree, ""), whole);
    tree.flush().unwrap();
    let bad = [("u/keep", json!(9)), ("u/new/0", json!(1))];
    let refusal = tree.commit(Commit::new(vec![update_op(&bad)]));
    refused(refusal, ErrorKind::InvalidInput, "one path leads into an array");
    assert_eq!(get(&tree, ""), whole, "all or nothing");
}

fn overlap_refused(world: &TreeWorld) {
    let tree = world.engine().tree();
    for pair in [["a/b", "a"], ["a", "a/b/c"], ["a/b", "a/b"]] {
        let updates = pair.map(|at| (at, json!(1)));
        let refusal = tree.commit(Commit::new(vec![update_op(&updates)]));
        let refusal = refused(refusal, ErrorKind::InvalidInput, "paths that overlap");
        assert!(refusal.path.is_some(), "the path is named");
        assert!(!exists(&tree, "a"));
    }
    let beside = ["a", "a!", "ab", "a b", "b/a", "b/a!"].map(|at| (at, json!(1)));
    commit(&tree, Commit::new(vec![update_op(&beside)]));
    // Names that sort between a path and what is below it do not hide an overlap.
    let hidden = ["x", "x!", "x\u{20}", "x/y"].map(|at| (at, json!(1)));
    let refusal = tree.commit(Commit::new(vec![update_op(&hidden)]));
    refused(refusal, ErrorKind::InvalidInput, "an overlap behind decoys");
}

fn push_ids(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let (mut last, mut all) = (String::new(), Vec::new());
    for index in 0..300 {
        let pushes = vec![push_op("list", json!(index)), push_op("list", json!({"n": index}))];
        for result in commit(&tree, Commit::new(pushes)).results {
            let id = result.pushed.expect("a push answers its id");
            assert!(id.len() == 20 && id > last, "{id} after {last}");
            last.clone_from(&id);
            all.push(id);
        }
        if index % 50 == 0 {
            ground.clock().advance_ms(1);
        }
    }
    assert_eq!(super::tools::keys(&tree, "list"), all, "listed in the order of the pushes");
    let value = get(&tree, &format!("list/{last}"));
    assert_eq!(value, json!({"n": 299}));
}

fn roots(world: &TreeWorld) {
    let tree = world.engine().tree();
    for at in ["_auth", "_auth/x", "_"] {
        refused(tree.commit(setting(at, json!(1))), ErrorKind::Denied, "a system path");
        refused(tree.commit(Commit::delete(path(at))), ErrorKind::Denied, "a system path");
        let update = Commit::new(vec![update_op(&[("fine", json!(1)), (at, json!(1))])]);
        refused(tree.commit(update), ErrorKind::Denied, "a system path of an update");
    }
    let own = Commit { system: true, ..setting("_auth/x", json!(1)) };
    commit(&tree, own);
    assert_eq!(get(&tree, "_auth/x"), json!(1));
    set(&tree, "a/_b", json!(1));
    assert!(!exists(&tree, "fine"));
    let push = commit(&tree, Commit::new(vec![push_op("", json!(1))]));
    let id = push.results[0].pushed.clone().expect("a push at the root");
    assert_eq!(get(&tree, &id), json!(1));
}
