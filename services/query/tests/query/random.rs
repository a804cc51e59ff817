//! Random queries on random data against the reference, with and without indexes.
//!
//! `TRELLIS_QUERY_ROUNDS` says how many; `TRELLIS_SEED` replays a run.

use serde_json::{Value, json};
use trellis_query::Queries;
use trellis_tree::{Commit, Input, Path, Tree};

use crate::bed::{self, Computed, path};
use crate::draw::Draw;
use crate::reference;

const PATHS: [&str; 7] = ["c", "u/*/c", "u/b/c", "*", "*/*", "", "u/*"];
const INDEXED: [&str; 6] = ["c", "u/*/c", "u/*/c", "*/*/*", "*/*", "*"];

/// Some commits at random.
pub(crate) fn stir(draw: &Draw, tree: &Tree) {
    for _ in 0..draw.below(6) {
        let at = match draw.below(3) {
            0 => format!("u/{}/c/{}", draw.key(), draw.key()),
            _ => format!("c/{}", draw.key()),
        };
        match draw.below(12) {
            0 => drop(tree.commit(Commit::delete(path(&at)))),
            1 => drop(tree.commit(Commit::delete(path("c")))),
            2 => tree.flush().unwrap(),
            3 => put(tree, &format!("u/{}", draw.key()), draw.leaf()),
            4 => {
                let many: serde_json::Map<String, Value> =
                    (0..60).map(|n| (format!("m{n}"), json!(n))).collect();
                put(tree, &format!("{at}/pad"), many.into());
            }
            _ => put(tree, &at, draw.item()),
        }
    }
}

/// Sets a value where the path does not lead into an array.
fn put(tree: &Tree, at: &str, value: Value) {
    drop(tree.commit(Commit::set(path(at), Input::from_json(value).unwrap())));
}

pub(crate) fn rounds(fallback: u64) -> u64 {
    let given = std::env::var("TRELLIS_QUERY_ROUNDS").ok();
    given.and_then(|rounds| rounds.parse().ok()).unwrap_or(fallback)
}

#[test]
fn queries_answer_what_the_reference_answers_with_and_without_indexes() {
    let draw = Draw::seeded();
    let tree = bed::open();
    for round in 0..rounds(2_000) {
        stir(&draw, &tree);
        let view = tree.view().unwrap();
        let mut query = draw.query(&PATHS);
        let root = view.get(&Path::root()).unwrap();
        let expected = reference::matches(&root, &query);
        query["limit"] = 1000.into();
        let mut indexes = draw.indexes(&INDEXED);
        if draw.below(2) == 0 {
            indexes = draw.index_for(&query).into_iter().collect();
        }
        for queries in [Queries::new(&tree), Queries::with_indexes(&tree, Computed::of(&indexes))] {
            let page = bed::page(&queries, &view, &bed::spec(query.clone()));
            let found: Vec<(String, Value)> = page
                .items
                .iter()
                .map(|item| {
                    let value = serde_json::from_str(item.value.as_ref().unwrap()).unwrap();
                    (item.path.to_string(), value)
                })
                .collect();
            let plan = queries.explain(&view, &bed::spec(query.clone())).unwrap();
            assert_eq!(found, expected, "round {round}: {query} {indexes:?} {plan}");
            assert_eq!(page.next_cursor, None);
            match draw.below(3) {
                0 => paged(&draw, &queries, &view, &query, &expected),
                1 => counted(&queries, &view, &query, expected.len()),
                _ => grouped(&draw, &queries, &view, &query, &expected),
            }
        }
    }
}

/// The pages by cursor, one after the other, are the whole.
fn paged(
    draw: &Draw,
    queries: &Queries,
    view: &trellis_tree::View,
    query: &Value,
    expected: &[(String, Value)],
) {
    let mut query = query.clone();
    query["limit"] = (1 + draw.below(5)).into();
    let mut found = Vec::new();
    loop {
        let page = bed::page(queries, view, &bed::spec(query.clone()));
        assert!(page.items.len() as u64 <= query["limit"].as_u64().unwrap());
        found.extend(page.items.iter().map(|item| item.path.to_string()));
        match page.next_cursor {
            Some(cursor) => query["cursor"] = cursor.into(),
            None => break,
        }
        assert!(found.len() <= expected.len(), "{query}");
    }
    let expected: Vec<&String> = expected.iter().map(|(path, _)| path).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
}

fn counted(queries: &Queries, view: &trellis_tree::View, query: &Value, expected: usize) {
    let mut query = query.clone();
    let members = query.as_object_mut().unwrap();
    members.remove("limit");
    members.remove("orderBy");
    members.insert("count".into(), true.into());
    let answer = queries.run(view, &bed::spec(query.clone()), 1 << 20).unwrap();
    let json: Value = serde_json::from_slice(&answer.to_json()).unwrap();
    assert_eq!(json, json!({ "count": expected }), "{query}");
}

fn grouped(
    draw: &Draw,
    queries: &Queries,
    view: &trellis_tree::View,
    query: &Value,
    expected: &[(String, Value)],
) {
    let fields = |most: u64| -> Vec<&str> {
        let mut fields: Vec<&str> = (0..draw.below(most + 1)).map(|_| draw.field()).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    };
    let (by, of) = (fields(2), fields(2));
    let mut query = query.clone();
    let members = query.as_object_mut().unwrap();
    members.remove("limit");
    members.remove("orderBy");
    let aggregate = json!({
        "groupBy": by, "count": true, "sum": of, "min": of, "max": of, "avg": of,
    });
    members.insert("aggregate".into(), aggregate);
    let answer = queries.run(view, &bed::spec(query.clone()), 1 << 20).unwrap();
    let found: Value = serde_json::from_slice(&answer.to_json()).unwrap();
    let mut found = found["groups"].as_array().unwrap().clone();
    let mut expected = reference::groups(expected, &by, &of);
    let text = |group: &Value| group["key"].to_string();
    found.sort_by_key(text);
    expected.sort_by_key(text);
    assert_eq!(found, expected, "{query}");
}
