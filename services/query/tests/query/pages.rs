//! Pages, selections, plans and bounds.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_query::{LOOKED_MAX, NoIndexes, Queries};
use trellis_tree::{Commit, Tree};

use crate::bed::{self, Computed, keys, page, path, set, spec};
use crate::draw::Draw;
use crate::{random, reference};

fn many(count: usize) -> Value {
    let item = |n: usize| (format!("k{n:05}"), json!({ "n": n, "even": n.is_multiple_of(2) }));
    (0..count).map(item).collect::<serde_json::Map<_, _>>().into()
}

fn explained(tree: &Tree, queries: &Queries, query: Value) -> Value {
    queries.explain(&tree.view().unwrap(), &spec(query)).unwrap()
}

#[test]
fn pages_repeat_nothing_and_miss_nothing_that_stays_while_writes_go_on() {
    let draw = Draw::seeded();
    let tree = bed::open();
    let all = [
        Queries::with_indexes(&tree, std::sync::Arc::new(NoIndexes)),
        Queries::with_indexes(&tree, Computed::of(&draw.indexes(&["c", "u/*/c"]))),
    ];
    for round in 0..random::rounds(2_000) / 10 {
        let mut query = draw.query(&["c", "u/*/c"]);
        query["limit"] = (1 + draw.below(3)).into();
        let queries = &all[usize::try_from(draw.below(2)).unwrap()];
        let view = tree.view().unwrap();
        let root = |view: &trellis_tree::View| view.get(&path("")).unwrap();
        // What is the same, and fits, at every page.
        let mut stays: Option<Vec<(String, Value)>> = None;
        let mut found: Vec<String> = Vec::new();
        drop(view);
        for _ in 0..200 {
            let view = tree.view().unwrap();
            let now = reference::matches(&root(&view), &query);
            let same = stays.take().unwrap_or_else(|| now.clone());
            stays = Some(same.into_iter().filter(|item| now.contains(item)).collect());
            let page = page(queries, &view, &spec(query.clone()));
            found.extend(page.items.iter().map(|item| item.path.to_string()));
            match page.next_cursor {
                Some(cursor) => query["cursor"] = cursor.into(),
                None => break,
            }
            random::stir(&draw, &tree);
        }
        let stays: Vec<&String> = stays.as_ref().unwrap().iter().map(|(path, _)| path).collect();
        for path in &stays {
            let times = found.iter().filter(|own| own == path).count();
            assert_eq!(times, 1, "round {round}: {path} in {found:?} of {query}");
        }
        // Those that stayed came in their order, whatever came and went between them.
        let told: Vec<&String> = found.iter().filter(|own| stays.contains(own)).collect();
        assert_eq!(told, stays, "round {round}: {query}");
    }
}

#[test]
fn a_page_ends_before_its_bytes_do_and_goes_on_there() {
    let tree = bed::open();
    set(&tree, "c", json!({ "a": "x".repeat(400), "b": "y".repeat(400), "d": "z".repeat(900) }));
    let queries = Queries::new(&tree);
    let view = tree.view().unwrap();
    let mut query = json!({ "path": "c" });
    let mut found = Vec::new();
    loop {
        let answer = queries.run(&view, &spec(query.clone()), 1_000).unwrap();
        let json: Value = serde_json::from_slice(&answer.to_json()).unwrap();
        assert!(answer.to_json().len() < 1_200);
        let items = json["items"].as_array().unwrap();
        found.extend(items.iter().map(|item| item["key"].as_str().unwrap().to_owned()));
        if json["nextCursor"].is_null() {
            break;
        }
        query["cursor"] = json["nextCursor"].clone();
    }
    assert_eq!(found, ["a", "b", "d"]);
    let refused = queries.run(&view, &spec(json!({ "path": "c" })), 100).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert!(refused.message().contains("select"));
}

#[test]
fn only_what_is_selected_is_told() {
    let draw = Draw::seeded();
    let tree = bed::open();
    let fields = ["p/x", "tags", "b", "missing", "p"];
    for _ in 0..random::rounds(2_000) / 20 {
        random::stir(&draw, &tree);
        let item = tree.view().unwrap().get(&path("c")).unwrap();
        for select in [&fields[..1], &fields[..4], &fields[1..]] {
            let query = json!({ "path": "c", "select": select });
            let page = page(&Queries::new(&tree), &tree.view().unwrap(), &spec(query));
            for found in &page.items {
                let value: Value = serde_json::from_str(found.value.as_ref().unwrap()).unwrap();
                let expected = reference::selected(&item[found.key()], select);
                assert_eq!(value, expected, "{} {select:?}", found.key());
            }
        }
    }
    set(&tree, "c", json!({ "a": { "..sv": 1 } }));
    let query = json!({ "path": "c", "select": [".sv"] });
    let page = page(&Queries::new(&tree), &tree.view().unwrap(), &spec(query));
    assert_eq!(page.items[0].value.as_deref(), Some("{\"..sv\":1}"), "it can be written again");
}

#[test]
fn ten_thousand_children_may_be_looked_at_and_then_the_index_is_named() {
    let tree = bed::open();
    set(&tree, "c", many(LOOKED_MAX));
    let query = json!({ "path": "c", "where": [["even", "=", true]], "orderBy": [["n", "desc"]] });
    let expected: Vec<String> = (0..3).map(|n| format!("k{:05}", LOOKED_MAX - 2 - 2 * n)).collect();
    assert_eq!(keys(&tree, query.clone())[..3], expected);
    set(&tree, "c/one-more", json!(1));
    let queries = Queries::new(&tree);
    let refused = queries.run(&tree.view().unwrap(), &spec(query.clone()), 1 << 20).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.fact("reason"), Some("index_required"));
    let definition: Value = serde_json::from_str(refused.fact("index").unwrap()).unwrap();
    assert_eq!(definition, json!({ "path": "c", "fields": ["even", "n"] }));
    let plan = explained(&tree, &queries, query.clone());
    assert_eq!(plan["suggestion"], definition);
    assert_eq!(plan["complete"], false);
    assert_eq!(plan["scanned"], LOOKED_MAX);
    let indexed = Queries::with_indexes(&tree, Computed::of(&[definition]));
    let found = page(&indexed, &tree.view().unwrap(), &spec(query.clone()));
    let found: Vec<&str> = found.items.iter().map(|item| item.key()).collect();
    assert_eq!(found[..3], expected);
    let plan = explained(&tree, &indexed, query);
    assert_eq!((&plan["plan"], &plan["direction"]), (&json!("index"), &json!("reverse")));
    assert_eq!(plan["scanned"], 0, "the entries alone tell");
}

#[test]
fn a_count_of_a_large_collection_is_served_by_the_index_that_is_named_for_it() {
    let tree = bed::open();
    set(&tree, "c", many(LOOKED_MAX + 1));
    let query = json!({ "path": "c", "count": true });
    let refused = Queries::new(&tree).run(&tree.view().unwrap(), &spec(query.clone()), 1 << 20);
    let refused = refused.unwrap_err();
    let definition: Value = serde_json::from_str(refused.fact("index").unwrap()).unwrap();
    let indexed = Queries::with_indexes(&tree, Computed::of(&[definition]));
    let counted = indexed.run(&tree.view().unwrap(), &spec(query.clone()), 1 << 20).unwrap();
    assert_eq!(counted.to_json(), format!("{{\"count\":{}}}", LOOKED_MAX + 1).as_bytes());
    assert_eq!(explained(&tree, &indexed, query)["scanned"], 0, "the entries alone tell");
    let groups = json!({ "path": "c", "aggregate": { "groupBy": ["even"], "count": true } });
    let refused = indexed.run(&tree.view().unwrap(), &spec(groups), 1 << 20).unwrap_err();
    assert_eq!((refused.kind(), refused.fact("index")), (ErrorKind::TooLarge, None));
}

#[test]
fn an_index_does_not_stand_in_the_way_of_a_page_in_the_order_of_the_keys() {
    let tree = bed::open();
    set(&tree, "c", many(LOOKED_MAX + 1));
    let query = json!({ "path": "c", "where": [["n", ">=", 0]], "limit": 2 });
    assert_eq!(keys(&tree, query.clone()), ["k00000", "k00001"]);
    let index = json!({ "path": "c", "fields": ["n"] });
    let indexed = Queries::with_indexes(&tree, Computed::of(&[index]));
    let found = page(&indexed, &tree.view().unwrap(), &spec(query));
    let found: Vec<&str> = found.items.iter().map(|item| item.key()).collect();
    assert_eq!(found, ["k00000", "k00001"]);
    let none = json!({ "path": "c", "where": [["n", ">=", LOOKED_MAX]], "limit": 2 });
    assert_eq!(explained(&tree, &indexed, none)["plan"], "index", "the narrower one comes first");
}

#[test]
fn what_no_index_can_serve_says_so_instead_of_naming_one() {
    let tree = bed::open();
    set(&tree, "c", many(LOOKED_MAX + 1));
    let query = json!({ "path": "c", "where": [["n", "contains", 1]] });
    let queries = Queries::new(&tree);
    let refused = queries.run(&tree.view().unwrap(), &spec(query), 1 << 20).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.fact("reason"), None);
}

#[test]
fn ranges_and_order_of_keys_look_only_at_what_they_name() {
    let tree = bed::open();
    set(&tree, "c", many(20_000));
    let queries = Queries::new(&tree);
    for (condition, first, count) in [
        (json!(["$key", "starts-with", "k0123"]), "k01230", 10),
        (json!(["$key", "between", ["k19990", "k19999"]]), "k19990", 10),
        (json!(["$key", ">=", "k19990"]), "k19990", 10),
        (json!(["$key", "<", "k00010"]), "k00000", 10),
        (json!(["$key", "in", ["k00007", "k19007", "none"]]), "k00007", 2),
        (json!(["$key", "=", "k12345"]), "k12345", 1),
    ] {
        let mut query = json!({ "path": "c", "where": [condition] });
        let found = keys(&tree, query.clone());
        assert_eq!((found[0].as_str(), found.len()), (first, count), "{query}");
        assert_eq!(explained(&tree, &queries, query.clone())["scanned"], count, "{query}");
        query["orderBy"] = json!([["$key", "desc"]]);
        let mut backwards = keys(&tree, query.clone());
        backwards.reverse();
        assert_eq!(backwards, found, "{query}");
        assert_eq!(explained(&tree, &queries, query.clone())["scanned"], count, "{query}");
    }
    let last = json!({ "path": "c", "orderBy": [["$key", "desc"]], "limit": 2 });
    assert_eq!(keys(&tree, last.clone()), ["k19999", "k19998"]);
    assert_eq!(explained(&tree, &queries, last)["scanned"], 3);
}

#[test]
fn a_field_is_found_behind_thousands_of_others_that_are_jumped_over() {
    let tree = bed::open();
    let wide = |n: usize| {
        let mut members: serde_json::Map<String, Value> =
            (0..3_000).map(|m| (format!("m{m}"), json!(m))).collect();
        members.extend(["a", "b", "zz"].map(|field| (field.to_owned(), json!(n))));
        Value::Object(members)
    };
    for n in 0..20 {
        set(&tree, &format!("c/k{n:02}"), wide(n));
    }
    let conditions = json!([["zz", ">=", 18], ["b", ">=", 18], ["a", ">=", 18]]);
    for direction in ["asc", "desc"] {
        let order = json!(["$key", direction]);
        let query = json!({ "path": "c", "where": conditions, "orderBy": order, "select": ["zz"] });
        let found: BTreeSet<String> = keys(&tree, query).into_iter().collect();
        assert_eq!(found, BTreeSet::from(["k18".into(), "k19".into()]), "{direction}");
    }
}

#[test]
fn an_item_that_has_ended_is_in_no_answer() {
    let tree = bed::open();
    set(&tree, "c", json!({ "a": 1, "b": 2 }));
    let at_ms = 1;
    let expiry = Some(trellis_tree::Expiry::AtMs(at_ms));
    let mut commit = Commit::set(path("c/b"), trellis_tree::Input::parse(b"2").unwrap());
    for operation in &mut commit.operations {
        if let trellis_tree::Operation::Set { expiry: own, .. } = operation {
            *own = expiry;
        }
    }
    tree.commit(commit).unwrap();
    assert_eq!(keys(&tree, json!({ "path": "c" })), ["a"]);
    assert_eq!(keys(&tree, json!({ "path": "c", "orderBy": [["$key", "desc"]] })), ["a"]);
}
