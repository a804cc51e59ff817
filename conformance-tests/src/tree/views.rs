//! Views: one rev however long they are read, and never less than was acknowledged before.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use trellis_tree::Commit;

use super::TreeWorld;
use super::tools::{commit, get, path, rev, set, small_overlay, update_op};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.view.one_rev", &["tree.read.snapshot"], one_rev),
    Case::new("tree.view.while_applied", &["tree.read.snapshot"], while_applied),
    Case::new("tree.view.many", &["tree.read.snapshot"], many),
    Case::new("tree.view.own_writes", &["tree.read.own_writes"], own_writes),
    Case::new("tree.view.whole_commits", &["tree.commit.atomic", "tree.read.snapshot"], whole),
    Case::new("tree.view.bounded", &["tree.read.snapshot"], bounded),
];

fn one_rev(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "t", json!({"a": 1, "b": {"c": 2}}));
    let view = tree.view().unwrap();
    let hash = view.hash(&path("t")).unwrap();
    set(&tree, "t/a", json!(9));
    tree.flush().unwrap();
    commit(&tree, Commit::delete(path("t")));
    tree.flush().unwrap();
    set(&tree, "t", json!("new"));
    tree.flush().unwrap();
    assert_eq!(view.rev(), 1);
    assert_eq!(view.get(&path("t")).unwrap(), json!({"a": 1, "b": {"c": 2}}));
    assert_eq!(view.hash(&path("t")).unwrap(), hash);
    assert!(view.exists(&path("t/b/c")).unwrap());
    assert_eq!(view.children(&path("t"), None, 10, None).unwrap().items.len(), 2);
    assert_eq!(get(&tree, "t"), json!("new"));
}

/// A view opened before, and one between every two commits, while the overlay is frozen and
/// applied under them.
fn while_applied(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    let mut views = Vec::new();
    for n in 0_u64..60 {
        views.push((n, tree.view().unwrap()));
        let filler = "f".repeat(600);
        let updates = [
            ("x/n", json!(n)),
            ("x/y", if n % 3 == 0 { Value::Null } else { json!({"n": n, "f": filler}) }),
        ];
        let key = format!("log/{n:03}");
        let log = (key.as_str(), json!(filler));
        let [first, second] = updates;
        commit(&tree, Commit::new(vec![update_op(&[first, second, log])]));
    }
    tree.flush().unwrap();
    for (n, view) in &views {
        assert_eq!(view.rev(), *n);
        let expected = n.checked_sub(1).map_or(Value::Null, |last| json!(last));
        assert_eq!(view.get(&path("x/n")).unwrap(), expected);
        let below = n.checked_sub(1).filter(|last| last % 3 != 0);
        let expected = below.map_or(Value::Null, |last| json!(last));
        assert_eq!(view.get(&path("x/y/n")).unwrap(), expected);
        let log = view.children(&path("log"), None, 1000, None).unwrap().items.len();
        assert_eq!(log as u64, *n);
    }
}

fn many(world: &TreeWorld) {
    let tree = world.engine().tree();
    for n in 0..40 {
        set(&tree, "v", json!(n));
        if n % 10 == 0 {
            tree.flush().unwrap();
        }
    }
    let views: Vec<_> = (0..100).map(|_| tree.view().unwrap()).collect();
    assert!(tree.stats().unwrap().views >= 100);
    set(&tree, "v", json!("after"));
    tree.flush().unwrap();
    std::thread::scope(|scope| {
        for view in &views {
            scope.spawn(move || assert_eq!(view.get(&path("v")).unwrap(), json!(39)));
        }
    });
    drop(views);
    assert_eq!(tree.stats().unwrap().views, 0);
}

fn own_writes(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let tree = &tree;
            scope.spawn(move || {
                for n in 0..60 {
                    let at = format!("own/{writer}");
                    let done = set(tree, &at, json!({"n": n, "fill": "x".repeat(200)}));
                    assert!(rev(tree) >= done);
                    assert_eq!(get(tree, &format!("{at}/n")), json!(n));
                }
            });
        }
    });
}

/// Readers compare what one commit wrote to two places, by every way to read.
fn whole(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    let done = AtomicBool::new(false);
    let write = |n: u64| {
        let fill = "y".repeat(400);
        let side = json!({"n": n, "fill": fill});
        let alternate = if n.is_multiple_of(2) { Value::Null } else { json!(n) };
        update_op(&[("p/a", side.clone()), ("p/b/c", side), ("p/z", alternate)])
    };
    commit(&tree, Commit::new(vec![write(1)]));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (tree, done) = (&tree, &done);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    let view = tree.view().unwrap();
                    let a = view.get(&path("p/a/n")).unwrap();
                    let whole = view.get(&path("p")).unwrap();
                    assert_eq!(whole["a"]["n"], a, "a read of one view differs from another");
                    assert_eq!(whole["b"]["c"]["n"], a, "half a commit");
                    let n = a.as_u64().unwrap();
                    assert!(n >= last, "time goes back");
                    last = n;
                    assert_eq!(view.rev(), n);
                    let z = if n % 2 == 0 { Value::Null } else { json!(n) };
                    assert_eq!(view.get(&path("p/z")).unwrap(), z);
                }
            });
        }
        for n in 2..=200 {
            commit(&tree, Commit::new(vec![write(n)]));
        }
        done.store(true, Ordering::Release);
    });
}

fn bounded(world: &TreeWorld) {
    use trellis_engine_traits::ErrorKind;
    let tree = world.engine().tree();
    set(&tree, "a", json!({"text": "x".repeat(1000), "y": 1}));
    for _ in 0..2 {
        let view = tree.view().unwrap();
        let exact = view.get_json(&path("a"), usize::MAX).unwrap().len();
        assert_eq!(view.get_json(&path("a"), exact).unwrap().len(), exact);
        let mut out = b"before".to_vec();
        let over = view.append_json(&path("a"), exact - 1, &mut out);
        super::tools::refused(over, ErrorKind::TooLarge, "a value beyond the bound");
        assert_eq!(out, b"before", "the buffer is as it was");
        tree.flush().unwrap();
    }
}
