//! Values read back as they were written; null is absence; the order is that of the keys' bytes.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::Commit;

use super::TreeWorld;
use super::tools::{
    commit, delete_op, exists, get, input, keys, leaves, parsed, path, refused, set, set_op,
    setting, update_op,
};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.value.reads_back", &["tree.value.exact"], reads_back),
    Case::new("tree.value.numbers", &["tree.value.exact"], numbers),
    Case::new("tree.value.bytes", &["tree.value.exact"], bytes),
    Case::new("tree.value.any_key", &["tree.value.exact", "tree.value.order"], any_key),
    Case::new("tree.value.arrays_are_one_value", &["tree.value.exact"], arrays),
    Case::new("tree.value.replaced_whole", &["tree.value.exact"], replaced_whole),
    Case::new("tree.null.at_every_depth", &["tree.value.null"], null_at_every_depth),
    Case::new("tree.null.last_child", &["tree.value.null"], last_child),
    Case::new("tree.null.empty_object", &["tree.value.null", "tree.value.exact"], empty_object),
    Case::new("tree.order.siblings", &["tree.value.order"], siblings),
    Case::new("tree.order.decoys_survive_a_delete", &["tree.value.order"], decoys_survive),
    Case::new("tree.order.pages", &["tree.value.order"], pages),
];

/// Names whose bytes stand around a separator, or mean something to some engine.
const DECOYS: [&str; 12] =
    ["a", "a ", "a!", "a%", "a*", "a-b", "a.b", "a0", "a[", "a_b", "a\u{7f0}", "aa"];

fn reads_back(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let value = json!({
        "t": true, "f": false, "i": i64::MIN, "x": 1.5, "s": "\u{1F600} \"\\\n\u{0}", "e": {},
        "a": [1, null, [], {"x": {}}, "é"], "..sv": "escaped", "n": {"deep": {"er": "v"}},
        "bytes": {".bytes": "AAEC"},
    });
    set(&tree, "v", value.clone());
    let check = |tree: &trellis_tree::Tree| {
        assert_eq!(get(tree, "v"), value);
        assert_eq!(get(tree, "v/a/0"), json!(1));
        assert_eq!(get(tree, "v/a/3/x"), json!({}));
        assert_eq!(get(tree, "v/.sv"), json!("escaped"));
        assert_eq!(get(tree, "v/n/deep"), json!({"er": "v"}));
        assert_eq!(get(tree, "v/none"), Value::Null);
    };
    check(&tree);
    tree.flush().unwrap();
    check(&tree);
    check(&ground.reopen());
}

fn numbers(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let texts = [
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "-0.25",
        "1e300",
        "5e-324",
        "0.1",
        "9007199254740993",
        "123456789012345680000",
        "31.245270191439438",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
    ];
    for (index, text) in texts.iter().enumerate() {
        commit(&tree, Commit::set(path(&format!("n/{index:02}")), parsed(text)));
    }
    commit(
        &tree,
        Commit::set(path("array"), parsed("[123456789012345680000,0.30000000000000004]")),
    );
    for _ in 0..2 {
        for ((at, json), text) in leaves(&tree, "n").into_iter().zip(texts) {
            let [back, expected] = [json.as_str(), text].map(|text| text.parse::<f64>().unwrap());
            assert_eq!(back.to_bits(), expected.to_bits(), "{at}: {json}, not {text}");
            assert_eq!(
                json.parse::<i64>().ok(),
                text.parse::<i64>().ok(),
                "{at}: whole numbers are exact"
            );
        }
        let array = get(&tree, "array").to_string();
        assert_eq!(array, "[1.2345678901234568e+20,0.30000000000000004]");
        tree.flush().unwrap();
    }
}

fn bytes(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let all: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [("all", all.clone()), ("none", Vec::new()), ("zeros", vec![0; 70_000])] {
        let input = trellis_tree::Input::bytes(bytes);
        commit(&tree, Commit::set(path(&format!("b/{name}")), input));
    }
    for _ in 0..2 {
        let text = get(&tree, "b/all");
        let again = input(text.clone());
        assert_eq!(again, trellis_tree::Input::bytes(all.clone()), "{text}");
        assert_eq!(get(&tree, "b/none"), json!({".bytes": ""}));
        let zeros = get(&tree, "b/zeros");
        assert_eq!(input(zeros), trellis_tree::Input::bytes(vec![0; 70_000]));
        tree.flush().unwrap();
    }
}

fn any_key(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let names = [
        " ",
        "!",
        "\"",
        "#",
        "$",
        "%",
        "%2F",
        "'",
        "*",
        ".",
        "..",
        "0",
        "00",
        "A",
        "[0]",
        "\\",
        "_",
        "a b",
        "k:v",
        "null",
        "é",
        "e\u{301}",
        "\u{80}",
        "\u{ffff}",
        "\u{10ffff}",
        "日本",
    ];
    for name in names {
        set(&tree, &format!("k/{name}"), json!(name));
    }
    let mut sorted: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    sorted.sort();
    for _ in 0..2 {
        assert_eq!(keys(&tree, "k"), sorted);
        for name in names {
            assert_eq!(get(&tree, &format!("k/{name}")), json!(name));
        }
        tree.flush().unwrap();
    }
    let whole = get(&tree, "k");
    assert_eq!(whole.as_object().unwrap().len(), names.len());
    set(&tree, "copy", whole.clone());
    assert_eq!(get(&tree, "copy"), whole);
}

fn arrays(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "arr", json!([{"b": 1, "a": 2}, [], null]));
    assert_eq!(get(&tree, "arr"), json!([{"b": 1, "a": 2}, [], null]));
    assert_eq!(leaves(&tree, "arr").len(), 1);
    for at in ["arr/0", "arr/x", "arr/0/b/c"] {
        refused(tree.commit(setting(at, json!(1))), ErrorKind::InvalidInput, "a write into one");
    }
    assert_eq!(get(&tree, "arr/0/a"), json!(2));
    set(&tree, "arr", json!([]));
    tree.flush().unwrap();
    assert_eq!(get(&tree, "arr"), json!([]));
    set(&tree, "arr", json!({"0": "now an object"}));
    set(&tree, "arr/1", json!(1));
    assert_eq!(get(&tree, "arr"), json!({"0": "now an object", "1": 1}));
}

fn replaced_whole(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let shapes = [json!({"a": {"b": 1}, "c": 2}), json!(3), json!({"a": 4}), json!([5]), json!({})];
    for flush in [false, true] {
        for from in &shapes {
            for to in &shapes {
                set(&tree, "r", from.clone());
                if flush {
                    tree.flush().unwrap();
                }
                set(&tree, "r", to.clone());
                assert_eq!(get(&tree, "r"), *to, "{from} replaced by {to}");
            }
        }
    }
    // A leaf on the way gives way to the object that the path makes of it.
    set(&tree, "r", json!("leaf"));
    set(&tree, "r/a/b", json!(1));
    assert_eq!(get(&tree, "r"), json!({"a": {"b": 1}}));
}

fn null_at_every_depth(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!({"b": {"c": 1, "d": null}, "e": {"f": {"g": null}}}));
    assert_eq!(get(&tree, "a"), json!({"b": {"c": 1}}));
    assert!(!exists(&tree, "a/e") && !exists(&tree, "a/b/d"));
    commit(&tree, Commit::new(vec![update_op(&[("a/b", Value::Null), ("a/x", json!(1))])]));
    assert_eq!(get(&tree, "a"), json!({"x": 1}));
    let before = super::tools::rev(&tree);
    for at in ["nothing", "nothing/here", "a/x/y"] {
        set(&tree, at, Value::Null);
        commit(&tree, Commit::new(vec![delete_op(at)]));
    }
    assert_eq!(get(&tree, ""), json!({"a": {"x": 1}}));
    assert_eq!(super::tools::rev(&tree), before, "removing nothing is no change");
}

fn last_child(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    for flush in [false, true] {
        set(&tree, "a/b/c/d", json!(1));
        set(&tree, "a/b/x", json!(1));
        if flush {
            tree.flush().unwrap();
        }
        commit(&tree, Commit::delete(path("a/b/c/d")));
        assert!(!exists(&tree, "a/b/c") && exists(&tree, "a/b"));
        set(&tree, "a/b/x", Value::Null);
        assert!(!exists(&tree, "a") && keys(&tree, "").is_empty());
        assert_eq!(get(&tree, ""), Value::Null);
    }
}

fn empty_object(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "a", json!({"e": {}}));
    assert!(exists(&tree, "a/e"));
    assert_eq!(get(&tree, "a"), json!({"e": {}}));
    set(&tree, "a/e/x", json!(1));
    assert_eq!(get(&tree, "a"), json!({"e": {"x": 1}}));
    set(&tree, "a/e/x", Value::Null);
    assert!(!exists(&tree, "a"), "the last child gone, the object is gone");
    commit(&tree, Commit::new(vec![set_op("a", json!({})), set_op("a/b", json!({}))]));
    tree.flush().unwrap();
    assert_eq!(get(&tree, "a"), json!({"b": {}}));
}

/// A tree whose top level is the decoys, each with children.
fn plant(world: &TreeWorld) -> trellis_tree::Tree {
    let tree = world.engine().tree();
    for (index, name) in DECOYS.iter().rev().enumerate() {
        set(&tree, &format!("d/{name}/b"), json!(name));
        set(&tree, &format!("d/{name}/\u{20}/c"), json!(index));
        if index % 4 == 0 {
            tree.flush().unwrap();
        }
    }
    tree
}

fn siblings(world: &TreeWorld) {
    let tree = plant(world);
    let mut sorted = DECOYS.map(str::to_owned);
    sorted.sort();
    for _ in 0..2 {
        assert_eq!(keys(&tree, "d"), sorted);
        let mut last = String::new();
        for (at, _) in leaves(&tree, "d") {
            let parent = at.split('/').nth(1).unwrap().to_owned();
            assert!(parent >= last, "{parent} interleaves with {last}");
            last = parent;
        }
        let json = tree.view().unwrap().get_json(&path("d"), usize::MAX).unwrap();
        let text = String::from_utf8(json).unwrap();
        let places: Vec<_> = sorted.iter().map(|key| text.find(&format!("\"{key}\":{{"))).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?} in {text}");
        tree.flush().unwrap();
    }
}

fn decoys_survive(world: &TreeWorld) {
    let tree = plant(world);
    for (index, name) in DECOYS.iter().enumerate() {
        commit(&tree, Commit::delete(path(&format!("d/{name}"))));
        let mut left =
            DECOYS[index + 1..].iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        left.sort();
        assert_eq!(keys(&tree, "d"), left, "after {name:?} was removed");
        if index % 3 == 0 {
            tree.flush().unwrap();
        }
    }
    assert!(!exists(&tree, "d"));
}

fn pages(world: &TreeWorld) {
    let tree = plant(world);
    let mut sorted = DECOYS.map(str::to_owned).to_vec();
    sorted.sort();
    for limit in [1, 2, 5, 12, 13] {
        let view = tree.view().unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = view.children(&path("d"), after.as_deref(), limit, Some(1 << 20)).unwrap();
            assert!(page.items.len() <= limit);
            for child in &page.items {
                let value: Value =
                    serde_json::from_str(child.value.as_ref().unwrap().get()).unwrap();
                assert_eq!(value, get(&tree, &format!("d/{}", child.key)));
            }
            seen.extend(page.items.into_iter().map(|child| child.key));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, sorted, "pages of {limit}");
    }
    let mut streamed = Vec::new();
    let view = tree.view().unwrap();
    view.stream_json(&path("d"), &mut |chunk| {
        streamed.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(streamed, view.get_json(&path("d"), usize::MAX).unwrap());
    let shallow = view.shallow_json(&path("d"), 1 << 20).unwrap();
    let shallow: Value = serde_json::from_slice(&shallow).unwrap();
    assert_eq!(shallow.as_object().unwrap().len(), DECOYS.len());
}
