//! Transforms: each one, against every kind of present value, resolved once inside the commit.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Commit, Input, Tree};

use super::TreeWorld;
use super::tools::{commit, get, incrementing, refused, set, setting, update_op};
use crate::Case;

const PROVES: &[&str] = &["tree.transform.resolved"];

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.transform.each", PROVES, each),
    Case::new("tree.transform.answered", PROVES, answered),
    Case::new("tree.transform.journal_holds_results", PROVES, journal_holds_results),
    Case::new("tree.transform.bad_arguments", PROVES, bad_arguments),
];

/// Present value, transform, result.
fn table(now_ms: u64) -> Vec<(Value, Value, Value)> {
    let none = Value::Null;
    vec![
        (none.clone(), json!("timestamp"), json!(now_ms)),
        (json!(5), json!({"increment": 2}), json!(7)),
        (json!(5), json!({"increment": -7}), json!(-2)),
        (json!(5), json!({"increment": 0.5}), json!(5.5)),
        (none.clone(), json!({"increment": 3}), json!(3)),
        (json!("text"), json!({"increment": 3}), json!(3)),
        (json!(i64::MAX), json!({"increment": 1}), json!(9_223_372_036_854_775_808.0)),
        (json!(5), json!({"multiply": 3}), json!(15)),
        (none.clone(), json!({"multiply": 3}), json!(0)),
        (json!(5), json!({"min": 3}), json!(3)),
        (json!(5), json!({"min": 9}), json!(5)),
        (none.clone(), json!({"min": 9}), json!(9)),
        (json!(5), json!({"max": 5.5}), json!(5.5)),
        (json!(5), json!({"max": 3}), json!(5)),
        (none.clone(), json!({"max": -1}), json!(-1)),
        (json!(true), json!("toggle"), json!(false)),
        (json!(false), json!("toggle"), json!(true)),
        (none.clone(), json!("toggle"), json!(true)),
        (json!([1]), json!({"append": [2, [3]]}), json!([1, 2, [3]])),
        (json!([1]), json!({"append": 2}), json!([1, 2])),
        (none.clone(), json!({"append": [1]}), json!([1])),
        (
            json!([1, "a"]),
            json!({"union": ["a", "b", {"x": 1}, "b"]}),
            json!([1, "a", "b", {"x": 1}]),
        ),
        (json!([1, {"x": 1}]), json!({"union": [{"x": 1}]}), json!([1, {"x": 1}])),
        (json!([1, 2, 1, 3]), json!({"remove": [1, 9]}), json!([2, 3])),
        (none.clone(), json!({"remove": [1]}), json!([])),
        (json!("there"), json!({"setIfAbsent": "new"}), json!("there")),
        (none, json!({"setIfAbsent": "new"}), json!("new")),
    ]
}

fn each(world: &TreeWorld) {
    let tree = world.engine().tree();
    for flush in [false, true] {
        for (present, transform, result) in table(1_700_000_000_000) {
            set(&tree, "t", present.clone());
            if flush {
                tree.flush().unwrap();
            }
            set(&tree, "t", json!({".sv": transform}));
            assert_eq!(get(&tree, "t"), result, "{transform} of {present}");
        }
    }
    set(&tree, "id", json!({".sv": "pushId"}));
    assert_eq!(get(&tree, "id").as_str().unwrap().len(), 20);
}

fn answered(world: &TreeWorld) {
    let tree = world.engine().tree();
    set(&tree, "a", json!({"n": 1}));
    let updates =
        [("a/n", json!({".sv": {"increment": 1}})), ("b", json!({"deep": {".sv": "toggle"}}))];
    let done = commit(&tree, Commit::new(vec![update_op(&updates), update_op(&updates)]));
    let resolved: Vec<Vec<(String, String)>> = done
        .results
        .iter()
        .map(|result| {
            let all = result.resolved.iter();
            all.map(|(path, json)| (path.to_string(), json.get().to_owned())).collect()
        })
        .collect();
    let pair = |n: &str, deep: &str| {
        vec![("a/n".to_owned(), n.to_owned()), ("b/deep".to_owned(), deep.to_owned())]
    };
    assert_eq!(resolved, [pair("2", "true"), pair("3", "false")]);
    assert_eq!(get(&tree, ""), json!({"a": {"n": 3}, "b": {"deep": false}}));
}

/// A transform that were resolved again at a replay of the journal would give another result.
fn journal_holds_results(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    set(&tree, "n", json!(0));
    for _ in 0..10 {
        commit(&tree, incrementing("n", 1));
    }
    set(&tree, "at", json!({".sv": "timestamp"}));
    set(&tree, "id", json!({".sv": "pushId"}));
    let all = |tree: &Tree| (get(tree, "n"), get(tree, "at"), get(tree, "id"));
    let before = all(&tree);
    assert_eq!(before.0, json!(10));
    ground.clock().advance_ms(60_000);
    drop(tree);
    for _ in 0..3 {
        assert_eq!(all(&ground.reopen()), before);
    }
}

fn bad_arguments(world: &TreeWorld) {
    let tree = world.engine().tree();
    let texts = [
        r#"{".sv": "unknown"}"#,
        r#"{".sv": {"increment": "1"}}"#,
        r#"{".sv": {"increment": null}}"#,
        r#"{".sv": {}}"#,
        r#"{".sv": null}"#,
        r#"{".sv": 1}"#,
        r#"{".sv": "toggle", "x": 1}"#,
        r#"{".sv": {"increment": 1, "max": 2}}"#,
        r#"{".sv": "increment"}"#,
        r#"{".sv": {"setIfAbsent": {"a": 1}}}"#,
        r#"{".bytes": "?"}"#,
        r#"{".bytes": 1}"#,
        r#"{".bytes": "AA==", "x": 1}"#,
    ];
    for text in texts {
        refused(Input::parse(text.as_bytes()), ErrorKind::InvalidInput, text);
    }
    set(&tree, "n", json!(1e308));
    let huge = tree.commit(setting("n", json!({".sv": {"multiply": 10}})));
    refused(huge, ErrorKind::InvalidInput, "a result beyond f64");
    assert_eq!(get(&tree, "n"), json!(1e308));
}
