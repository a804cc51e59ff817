//! What is there after a close, after a loss of power, and for whoever comes a second time.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Commit, Tree, TreeOptions};

use super::tools::{
    commit, get, incrementing, leasing, leaves, path, refused, rev, set, setting, small_overlay,
};
use super::{Ground, TreeWorld};
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.reopen.everything", &["tree.commit.durable", "tree.commit.order"], everything),
    Case::new("tree.reopen.last_clone_closes", &["tree.commit.durable"], last_clone),
    Case::new("tree.reopen.unapplied", &["tree.commit.durable"], unapplied),
    Case::new("tree.reopen.smaller_overlay", &["tree.commit.durable"], smaller_overlay),
    Case::new("tree.reopen.identity", &["tree.commit.order"], identity),
    Case::new("tree.reopen.loss_of_power", &["tree.commit.durable", "tree.commit.atomic"], power)
        .needs(&[Need::PowerLoss]),
    Case::new("tree.reopen.power_lost_while_applied", &["tree.commit.durable"], power_applied)
        .needs(&[Need::PowerLoss]),
    Case::new("tree.open.once", &["tree.open.exclusive"], once),
];

/// Writes a bit of everything, and answers what must be there.
fn write_all(tree: &Tree, ground: &Ground, rounds: u64) -> Vec<(String, String)> {
    for n in 0..rounds {
        set(tree, &format!("plain/{}", n % 17), json!({"n": n, "s": "x".repeat(100)}));
        commit(tree, incrementing("sum", 1).with_key(format!("k{n}")));
        if n % 5 == 0 {
            commit(tree, Commit::delete(path(&format!("plain/{}", n % 13))));
            commit(tree, leasing(&format!("lease/{}", n % 3), json!(n), 1e6));
        }
        if n % 11 == 0 {
            tree.flush().unwrap();
        }
    }
    let _ = ground;
    leaves(tree, "")
}

fn everything(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    for _ in 0..4 {
        let (before, at) = (write_all(&tree, &ground, 40), rev(&tree));
        tree = ground.reopen();
        assert_eq!(rev(&tree), at, "the rev goes on where it was");
        assert_eq!(leaves(&tree, ""), before);
        assert!(commit(&tree, incrementing("sum", 1).with_key("k7")).replayed);
    }
    assert_eq!(get(&tree, "sum"), json!(40), "the keys held over every reopen");
}

fn last_clone(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.open(TreeOptions::default()).unwrap();
    let clone = tree.clone();
    set(&tree, "a", json!(1));
    drop(tree);
    set(&clone, "b", json!(2));
    drop(clone);
    let tree = ground.tree();
    assert_eq!(get(&tree, ""), json!({"a": 1, "b": 2}));
}

/// A close that brought nothing into the store leaves all of it to the journal: the tree is shut
/// by loss of power, or closed; with an overlay that is never full nothing was applied before.
fn unapplied(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    for round in 0..3 {
        for n in 0..200 {
            set(&tree, &format!("r{round}/{n:03}"), json!(n));
        }
        assert!(tree.stats().unwrap().applied_rev <= round * 200, "nothing is applied by itself");
        tree = ground.reopen();
        let view = tree.view().unwrap();
        let page = view.children(&path(&format!("r{round}")), None, 1000, None).unwrap();
        assert_eq!(page.items.len(), 200);
    }
}

fn smaller_overlay(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let before = write_all(&tree, &ground, 60);
    let tree = ground.reopen_with(small_overlay());
    assert_eq!(leaves(&tree, ""), before);
    let before = write_all(&tree, &ground, 60);
    let stats = tree.stats().unwrap();
    assert!(stats.batches > 1, "an overlay this small is applied all the time: {stats:?}");
    let tree = ground.reopen();
    assert_eq!(leaves(&tree, ""), before);
}

fn identity(world: &TreeWorld) {
    let ground = world.engine();
    let first = ground.tree().identity();
    assert_eq!(first.log_id.len(), 32);
    for opened in 1..=20 {
        let identity = ground.reopen().identity();
        assert_eq!(identity.log_id, first.log_id, "the same history");
        assert_eq!(identity.epoch, first.epoch + opened, "every open is an epoch");
    }
    let other = Ground::in_memory();
    other.runtime().random().next_u64();
    let tree = other.open(TreeOptions::default()).unwrap();
    assert_ne!(tree.identity().log_id, first.log_id);
    tree.close().unwrap();
}

/// Loses power under an open tree, and opens what is left.
pub(super) fn cut(world: &TreeWorld, ground: &Ground, options: TreeOptions) -> Tree {
    world.throw(crate::Flag::LosePower);
    // Its engines are gone: how it closes says nothing.
    drop(ground.close());
    ground.tree_with(options)
}

fn power(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    for _ in 0..5 {
        let (before, at) = (write_all(&tree, &ground, 30), rev(&tree));
        tree = cut(world, &ground, TreeOptions::default());
        assert_eq!((rev(&tree), leaves(&tree, "")), (at, before), "all that was acknowledged");
        assert!(commit(&tree, incrementing("sum", 1).with_key("k3")).replayed);
    }
}

/// The moment of the loss is drawn while writers and the background are at work.
fn power_applied(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("moments");
    let mut tree = ground.tree_with(small_overlay());
    let mut acknowledged = [0_u64; 3];
    for round in 0..12 {
        let lose_at = 1 + rng.below(40) as u64;
        std::thread::scope(|scope| {
            for (writer, last) in acknowledged.iter_mut().enumerate() {
                let tree = &tree;
                scope.spawn(move || {
                    loop {
                        let n = *last + 1;
                        let fill = "z".repeat(300);
                        let side = json!({"n": n, "fill": fill});
                        let both = json!({"a": side.clone(), "b": side});
                        match tree.commit(setting(&format!("w{writer}"), both)) {
                            Ok(_) => *last = n,
                            Err(_) => return,
                        }
                        if *last % 64 == lose_at && writer == 0 {
                            world.throw(crate::Flag::LosePower);
                        }
                    }
                });
            }
        });
        drop(ground.close());
        tree = ground.tree_with(small_overlay());
        for (writer, last) in acknowledged.iter_mut().enumerate() {
            let both = get(&tree, &format!("w{writer}"));
            assert_eq!(both["a"], both["b"], "half a commit in round {round}");
            let found = both["a"]["n"].as_u64().unwrap_or(0);
            assert!(found == *last || found == *last + 1, "{found} is there, {last} was told");
            *last = found;
        }
    }
    assert_ne!(get(&tree, "w0"), Value::Null);
}

fn once(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!(1));
    refused(ground.open(TreeOptions::default()), ErrorKind::Locked, "a second tree on its data");
    set(&tree, "a", json!(2));
    assert_eq!(get(&tree, "a"), json!(2), "the first one goes on");
    let tree = ground.reopen();
    assert_eq!(get(&tree, "a"), json!(2));
}
