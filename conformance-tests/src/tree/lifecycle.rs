//! A closed tree answers `Closed`; a poisoned one refuses writes, and reads go on.

use serde_json::json;
use trellis_engine_traits::ErrorKind;

use super::TreeWorld;
use super::tools::{block_on, commit, get, incrementing, path, refused, rev, set, setting};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.closed.every_method", &["tree.open.exclusive"], every_method),
    Case::new("tree.closed.drains", &["tree.commit.durable", "tree.commit.order"], drains),
    Case::new("tree.closed.under_writers", &["tree.commit.durable"], under_writers),
    Case::new("tree.poison.reads_go_on", &["tree.poison.reads"], poisoned)
        .needs(&[Need::FlushFault]),
    Case::new("tree.poison.many_writers", &["tree.poison.reads", "tree.commit.atomic"], many)
        .needs(&[Need::FlushFault]),
];

fn every_method(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!(1));
    let (view, identity) = (tree.view().unwrap(), tree.identity());
    tree.close().unwrap();
    refused(tree.commit(setting("a", json!(2))), ErrorKind::Closed, "a commit");
    refused(block_on(tree.submit(setting("a", json!(2)))), ErrorKind::Closed, "a submission");
    refused(tree.view(), ErrorKind::Closed, "a view");
    refused(tree.stats(), ErrorKind::Closed, "the figures");
    refused(tree.flush(), ErrorKind::Closed, "a flush");
    // A view of before is answered or refused, and never shows anything else.
    match view.get(&path("a")) {
        Ok(value) => assert_eq!(value, json!(1)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}"),
    }
    drop(view);
    assert_eq!(tree.identity(), identity);
    assert_eq!(tree.options(), &trellis_tree::TreeOptions::default());
    tree.close().expect("closing twice is no error");
    ground.close().unwrap();
    assert_eq!(get(&ground.tree(), "a"), json!(1));
}

/// What was submitted before the close is committed, or refused for being too late.
fn drains(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let pending: Vec<_> =
        (0..200).map(|n| tree.submit(setting(&format!("d/{n}"), json!(n)))).collect();
    tree.close().unwrap();
    for one in pending {
        block_on(one).expect("it was submitted before the close");
    }
    ground.close().unwrap();
    let tree = ground.tree();
    assert_eq!(super::tools::keys(&tree, "d").len(), 200);
    assert_eq!(rev(&tree), 200);
}

fn under_writers(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let started = std::sync::Barrier::new(5);
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (tree, started) = (&tree, &started);
                scope.spawn(move || {
                    let mut last = 0;
                    loop {
                        match tree.commit(setting(&format!("w{writer}/{}", last + 1), json!(1))) {
                            Ok(_) => last += 1,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                                return last;
                            }
                        }
                        if last == 20 {
                            started.wait();
                        }
                    }
                })
            })
            .collect();
        started.wait();
        tree.close().unwrap();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    ground.close().unwrap();
    let tree = ground.tree();
    for (writer, last) in acknowledged.iter().enumerate() {
        let found = super::tools::keys(&tree, &format!("w{writer}")).len() as u64;
        assert_eq!(found, *last, "exactly what was acknowledged to writer {writer}");
    }
}

fn poisoned(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!(1));
    assert_eq!(tree.stats().unwrap().poisoned, None);
    world.throw(Flag::FailFlush);
    let doubtful = || incrementing("n", 1).with_key("doubtful");
    refused(tree.commit(doubtful()), ErrorKind::OutcomeUnknown, "a commit whose flush failed");
    for _ in 0..2 {
        refused(tree.commit(setting("b", json!(1))), ErrorKind::Poisoned, "a later commit");
        let pending = tree.submit(setting("b", json!(1)));
        refused(block_on(pending), ErrorKind::Poisoned, "a later submission");
        assert_eq!(get(&tree, "a"), json!(1), "reads go on");
        assert_eq!(super::tools::keys(&tree, ""), ["a"], "and show what was acknowledged");
        assert_eq!(rev(&tree), 1);
    }
    assert!(tree.stats().unwrap().poisoned.is_some());
    drop(tree);
    drop(ground.close());
    let tree = ground.tree();
    assert_eq!(get(&tree, "a"), json!(1));
    // The retry with the same key counts once, whatever became of the first attempt.
    commit(&tree, doubtful());
    assert_eq!(get(&tree, "n"), json!(1));
    assert_eq!(tree.stats().unwrap().poisoned, None);
    set(&tree, "b", json!(1));
}

fn many(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let attempts: Vec<(u64, bool)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let tree = &tree;
                scope.spawn(move || {
                    let mut last = 0;
                    loop {
                        let both = json!({"a": last + 1, "b": last + 1});
                        match tree.commit(setting(&format!("w{writer:02}"), both)) {
                            Ok(_) => last += 1,
                            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                                return (last, true);
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
                                return (last, false);
                            }
                        }
                        if writer == 0 && last == 30 {
                            world.throw(Flag::FailFlush);
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let check = |tree: &trellis_tree::Tree, reopened: bool| {
        for (writer, (last, unknown)) in attempts.iter().enumerate() {
            let both = get(tree, &format!("w{writer:02}"));
            assert_eq!(both["a"], both["b"], "half a commit");
            let found = both["a"].as_u64().unwrap_or(0);
            let may_be_more = reopened && *unknown && found == last + 1;
            assert!(found == *last || may_be_more, "writer {writer}: {found}, told {last}");
        }
    };
    assert!(attempts.iter().any(|(_, unknown)| *unknown), "nobody met the fault");
    check(&tree, false);
    drop(tree);
    drop(ground.close());
    let tree = ground.tree();
    check(&tree, true);
    set(&tree, "after", json!(1));
}
