//! What the cases about indexes write, and how they tell that an index is what it should be.

use std::time::Duration;

use std::sync::Arc;

use serde_json::{Value, json};
use trellis_query::{FIELD_INDEXES, IndexDefinition, NoIndexes, Queries, QuerySpec, create_index};
use trellis_tree::{CheckOptions, Commit, Operation, Tree, TreeOptions};

use crate::Rng;
use crate::tree::tools::{commit, input, path, set, small_overlay};

/// More than one chunk of a build.
pub(super) const ITEMS: usize = 5000;
const ANSWER_BYTES: usize = 16 << 20;

/// Options under which indexes are kept and the overlay is applied all the time.
pub(super) fn options() -> TreeOptions {
    TreeOptions {
        derivation: Some(&FIELD_INDEXES),
        apply_after: Duration::from_millis(20),
        ..small_overlay()
    }
}

/// One field, several, descending, the item itself, its key, and wildcard paths.
pub(super) fn definitions() -> Vec<IndexDefinition> {
    let all = [
        json!({"path": "c", "fields": ["f"]}),
        json!({"path": "c", "fields": [["f", "desc"], "g/h"]}),
        json!({"path": "w/*/c", "fields": ["f", "$key"]}),
        json!({"path": "*", "fields": [["$value", "desc"]]}),
    ];
    all.iter().map(|json| IndexDefinition::from_json(json).expect("a definition")).collect()
}

pub(super) fn create(tree: &Tree, definition: &IndexDefinition) -> String {
    create_index(tree, definition).expect("it is defined").id
}

/// Waits until every index is ready.
pub(super) fn all_ready(tree: &Tree) {
    for index in tree.indexes() {
        let wait = Duration::from_secs(3600);
        assert!(tree.wait_for_index(&index.id, wait).expect("it is built"), "{index:?}");
    }
}

fn text(rng: &mut Rng) -> Value {
    match rng.below(8) {
        // Longer than what an order looks at, and different behind it.
        0 => json!("l".repeat(255 + rng.below(3)) + ["a", "b"][rng.below(2)]),
        1 => json!([rng.below(3)]),
        2 => json!(0.5 + rng.below(3) as f64),
        3 => json!({".bytes": "AAE="}),
        _ => json!(rng.below(6)),
    }
}

/// Items in few commits, where no other write of these cases removes them.
pub(super) fn fill(tree: &Tree) {
    let numbers: Vec<usize> = (0..ITEMS).collect();
    for some in numbers.chunks(1000) {
        let item = |n: &usize| (path(&format!("other/n{n:05}")), input(json!({"f": n % 97})));
        let updates = some.iter().map(item).collect();
        commit(tree, Commit::new(vec![Operation::Update { updates, expiry: None }]));
    }
}

/// A random write at, above, below or beside what is indexed.
pub(super) fn write(tree: &Tree, rng: &mut Rng) {
    let base = match rng.below(3) {
        0 => format!("w/k{}/c", rng.below(3)),
        1 => format!("other/k{}", rng.below(3)),
        _ => "c".to_owned(),
    };
    let item = format!("{base}/k{}", rng.below(12));
    let value = text(rng);
    let (at, value) = match rng.below(12) {
        0..4 => (format!("{item}/f"), value),
        4 => (format!("{item}/g"), json!({"h": value, "i": {}})),
        5 | 6 => (item, json!({"f": value, "g": {"h": 1}, "other": true})),
        7 => (item, json!(rng.below(6))),
        8 => (item, Value::Null),
        9 => (format!("{item}/f"), Value::Null),
        10 if rng.one_in(3) => (base, Value::Null),
        11 if rng.one_in(6) => ("w".to_owned(), json!(1)),
        _ => (format!("{item}/other"), json!(rng.below(3))),
    };
    set(tree, &at, value);
}

/// Demands that queries answer the same with indexes and without, at one view.
pub(super) fn agrees(tree: &Tree, rng: &mut Rng, context: &str) {
    let with = Queries::with_indexes(tree, Arc::new(FIELD_INDEXES));
    let without = Queries::with_indexes(tree, Arc::new(NoIndexes));
    let view = tree.view().expect("a view");
    let direction = ["asc", "desc"][rng.below(2)];
    let value = text(rng);
    let queries = [
        json!({"path": "c", "where": [["f", "=", value]]}),
        json!({"path": "c", "where": [["f", ">=", rng.below(6)]], "orderBy": [["f", direction]]}),
        json!({"path": "c", "orderBy": [["f", direction], "g/h"], "limit": 1 + rng.below(9)}),
        json!({"path": "w/*/c", "where": [["f", "between", [1, 4]]], "orderBy": ["f"]}),
        json!({"path": "w/k1/c", "where": [["f", "exists"]], "orderBy": [["f", "desc"]]}),
        json!({"path": "other", "orderBy": [["$value", direction]]}),
        json!({"path": "c", "where": [["f", "starts-with", "lll"]], "count": true}),
    ];
    for query in queries {
        let spec = QuerySpec::parse(query.to_string().as_bytes()).expect("a query");
        let run = |queries: &Queries| {
            let answer = queries.run(&view, &spec, ANSWER_BYTES).expect("it is answered");
            String::from_utf8(answer.to_json()).expect("JSON is text")
        };
        assert_eq!(run(&with), run(&without), "{context}: {query}");
    }
}

/// Demands that every index holds exactly the entries that deriving it anew would give.
pub(super) fn is_exact(tree: &Tree, context: &str) {
    tree.flush().expect("the store takes it");
    let report = tree.check(&CheckOptions::default()).expect("it is checked");
    let skipped = report.skipped.iter().filter(|skipped| skipped.starts_with("index"));
    assert_eq!((&report.findings, skipped.count()), (&Vec::new(), 0), "{context}");
}
