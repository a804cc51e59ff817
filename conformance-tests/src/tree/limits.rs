//! Every limit accepts its own value, and refuses one more with `too_large`.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{
    Check, Commit, DEPTH_MAX, Input, Limits, PATH_BYTES_MAX, Path, SEGMENT_BYTES_MAX, TreeOptions,
};

use super::TreeWorld;
use super::tools::{
    commit, delete_op, exists, get, keys, path, refused, set, set_op, setting, when,
};
use crate::Case;

const PROVES: &[&str] = &["tree.limits.exact"];

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.limits.path", PROVES, path_limits),
    Case::new("tree.limits.stored_path", PROVES, stored_path),
    Case::new("tree.limits.nesting", PROVES, nesting),
    Case::new("tree.limits.leaf", PROVES, leaf),
    Case::new("tree.limits.leaf_by_default", PROVES, leaf_by_default),
    Case::new("tree.limits.commit", PROVES, commit_bytes),
    Case::new("tree.limits.commit_by_default", PROVES, commit_by_default),
    Case::new("tree.limits.operations", PROVES, operations),
    Case::new("tree.limits.key", PROVES, key),
];

fn segments(count: usize) -> String {
    vec!["d"; count].join("/")
}

fn path_limits(_: &TreeWorld) {
    assert_eq!((SEGMENT_BYTES_MAX, PATH_BYTES_MAX, DEPTH_MAX), (768, 1024, 64));
    let (long, most) = ("s".repeat(768), "t".repeat(255));
    assert!(Path::parse(&long).is_ok() && Path::parse(&segments(64)).is_ok());
    assert!(Path::parse(&format!("{long}/{most}")).is_ok(), "1,024 bytes");
    let umlauts = "ü".repeat(384);
    assert!(Path::parse(&umlauts).is_ok(), "bytes are counted");
    let over = [
        format!("{long}s"),
        format!("{umlauts}s"),
        format!("{long}/{most}t"),
        format!("a/{long}/{most}"),
        segments(65),
    ];
    for text in over {
        refused(Path::parse(&text), ErrorKind::TooLarge, "a path one beyond a limit");
    }
    let deep = path(&segments(64));
    refused(deep.child("d"), ErrorKind::TooLarge, "the 65th segment");
    refused(deep.join(&path("d")), ErrorKind::TooLarge, "the 65th segment");
    refused(path(&long).child(&format!("{most}t")), ErrorKind::TooLarge, "the 1,025th byte");
}

/// The longest paths are stored, listed, removed and end like any other.
fn stored_path(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let long = format!("{}/{}", "s".repeat(768), "t".repeat(255));
    let deep = segments(64);
    for at in [&long, &deep] {
        commit(&tree, super::tools::leasing(at, json!(1), 100.0));
        assert_eq!(get(&tree, at), json!(1));
        tree.flush().unwrap();
        assert_eq!(get(&tree, at), json!(1));
        commit(&tree, super::tools::incrementing(at, 1).with_key("k".repeat(64) + &at[..64]));
    }
    assert_eq!(keys(&tree, &"s".repeat(768)), ["t".repeat(255)]);
    assert_eq!(keys(&tree, &segments(63)), ["d"]);
    let tree = ground.reopen();
    for at in [&long, &deep] {
        assert_eq!(get(&tree, at), json!(2));
        commit(&tree, Commit::delete(path(at)));
        assert!(!exists(&tree, at));
    }
    let child = json!({"t".repeat(256): 1});
    let over = tree.commit(setting(&"s".repeat(768), child));
    refused(over, ErrorKind::TooLarge, "a path and a value that make 1,025 bytes");
    tree.flush().unwrap();
    assert_eq!(get(&tree, ""), Value::Null);
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({"d": inner}))
}

fn nesting(world: &TreeWorld) {
    let tree = world.engine().tree();
    for above in [1, 10, 60, 64] {
        let at = segments(above);
        set(&tree, &at, nested(64 - above));
        assert_eq!(get(&tree, &segments(64)), json!(1), "64 levels below {above}");
        let over = tree.commit(setting(&at, nested(65 - above)));
        refused(over, ErrorKind::TooLarge, &format!("65 levels below {above}"));
        assert_eq!(get(&tree, &segments(64)), json!(1));
        tree.flush().unwrap();
        commit(&tree, Commit::delete(path("d")));
    }
}

fn limited(limits: Limits) -> TreeOptions {
    TreeOptions { limits, ..TreeOptions::default() }
}

fn leaf(world: &TreeWorld) {
    let limits = Limits { leaf_bytes_max: 100, ..Limits::default() };
    let tree = world.engine().tree_with(limited(limits));
    let text = |len: usize| json!("x".repeat(len));
    set(&tree, "s", text(100));
    set(&tree, "o", json!({"a": text(100), "b": text(100)}));
    commit(&tree, Commit::set(path("b"), Input::bytes(vec![7; 100])));
    let array = |len: usize| json!(["x".repeat(len - 4)]);
    set(&tree, "a", array(100));
    let before = get(&tree, "");
    let over = [
        setting("s", text(101)),
        setting("o", json!({"a": 1, "b": text(101)})),
        Commit::set(path("b"), Input::bytes(vec![7; 101])),
        setting("a", array(101)),
        setting("a", json!({".sv": {"append": ["x"]}})),
        Commit::new(vec![set_op("fine", json!(1)), set_op("s", text(101))]),
    ];
    for over in over {
        let refusal = refused(tree.commit(over), ErrorKind::TooLarge, "a leaf of 101 bytes");
        assert!(refusal.path.is_some(), "the path is named");
        assert_eq!(get(&tree, ""), before);
    }
}

fn leaf_by_default(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let most = Limits::default().leaf_bytes_max;
    let text = |len: usize| json!("x".repeat(len));
    refused(tree.commit(setting("s", text(most + 1))), ErrorKind::TooLarge, "a leaf beyond 10 MiB");
    set(&tree, "s", text(most));
    drop(tree);
    let tree = ground.reopen();
    assert!(get(&tree, "s") == text(most), "10 MiB read back");
    let view = tree.view().unwrap();
    let mut streamed = 0;
    view.stream_json(&path("s"), &mut |chunk| {
        streamed += chunk.len();
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(streamed, most + 2);
}

fn commit_bytes(world: &TreeWorld) {
    let limits = Limits { commit_bytes_max: 1000, ..Limits::default() };
    let tree = world.engine().tree_with(limited(limits));
    // The bytes of keys and stored values: "c/a" are 3, a text has one more than its length.
    let two = |second: usize| json!({"a": "x".repeat(500 - 4), "b": "x".repeat(second - 4)});
    refused(tree.commit(setting("c", two(501))), ErrorKind::TooLarge, "1,001 bytes");
    set(&tree, "c", two(500));
    commit(&tree, Commit::delete(path("c")));
    let parts = |second: usize| {
        let text = |len: usize| json!("x".repeat(len - 4));
        Commit::new(vec![set_op("c/a", text(500)), set_op("c/b", text(second))])
    };
    refused(tree.commit(parts(501)), ErrorKind::TooLarge, "1,001 bytes in two operations");
    assert!(!exists(&tree, "c"));
    commit(&tree, parts(500));
    let huge = tree.commit(setting("c", json!("x".repeat(100_000))));
    refused(huge, ErrorKind::TooLarge, "a commit far beyond");
}

fn commit_by_default(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let most = Limits::default().commit_bytes_max;
    let text = |length: usize| "x".repeat(length);
    let halves = |total: usize| json!({"a": text(most / 2 - 4), "b": text(total - most / 2 - 4)});
    refused(tree.commit(setting("c", halves(most + 1))), ErrorKind::TooLarge, "beyond 16 MiB");
    set(&tree, "c", halves(most));
    drop(tree);
    let tree = ground.reopen();
    let json = tree.view().unwrap().get_json(&path("c"), usize::MAX).unwrap();
    assert_eq!(json.len(), most - 8 + r#"{"a":"","b":""}"#.len(), "16 MiB read back");
}

fn operations(world: &TreeWorld) {
    let limits = Limits { commit_operations_max: 100, ..Limits::default() };
    let tree = world.engine().tree_with(limited(limits));
    let many = |count: usize| {
        Commit::new((0..count).map(|n| set_op(&format!("o/{n}"), json!(n))).collect())
    };
    commit(&tree, many(100));
    refused(tree.commit(many(101)), ErrorKind::TooLarge, "101 operations");
    let deletes = (0..101).map(|n| delete_op(&format!("none/{n}"))).collect();
    refused(tree.commit(Commit::new(deletes)), ErrorKind::TooLarge, "101 operations");
    let asking = |count: usize| {
        let one = setting("asked", json!(count));
        (1..count).fold(one, |all, _| all.when(when("o", Check::Exists)))
    };
    commit(&tree, asking(100));
    refused(tree.commit(asking(101)), ErrorKind::TooLarge, "an operation and 100 conditions");
    let leaves = |count: usize| {
        let members = (0..count).map(|n| (format!("{n}"), json!(n)));
        setting("leaves", Value::Object(members.collect()))
    };
    commit(&tree, leaves(100));
    commit(&tree, Commit::delete(path("leaves")));
    refused(tree.commit(leaves(101)), ErrorKind::TooLarge, "101 leaves");
    assert!(!exists(&tree, "leaves"));
}

fn key(world: &TreeWorld) {
    let tree = world.engine().tree();
    let keyed =
        |len: usize| setting("k", json!(len)).with_key("ü".repeat(len / 2) + &"k"[..len % 2]);
    commit(&tree, keyed(128));
    assert!(commit(&tree, keyed(128)).replayed);
    refused(tree.commit(keyed(129)), ErrorKind::TooLarge, "a key of 129 bytes");
    let empty = tree.commit(setting("k", json!(0)).with_key(""));
    assert!(empty.is_err(), "an empty key is none");
    assert_eq!(get(&tree, "k"), json!(128));
}
