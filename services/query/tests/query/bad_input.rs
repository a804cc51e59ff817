//! What is wrong is refused, typed, with what to do; what is merely empty is answered.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_query::{IndexDefinition, LiveQuery, Pattern, Queries, QuerySpec};
use trellis_tree::{Commit, Input};

use crate::bed::{self, keys, page, set, spec};

fn refusal(json: Value) -> (ErrorKind, String) {
    let error = QuerySpec::from_json(&json).expect_err(&json.to_string());
    (error.kind(), error.message().to_owned())
}

fn conditions(count: usize) -> Value {
    (0..count).map(|n| json!([format!("f{n}"), "exists"])).collect()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(["a", "exists"]), |inner, _| json!({ "or": [inner] }))
}

#[test]
fn what_contradicts_the_shape_is_invalid_and_says_what_is_wanted() {
    let with = |member: &str, value: Value| json!({ "path": "c", member: value });
    let bad = [
        (json!([]), "object"),
        (json!({}), "path"),
        (json!({ "path": 1 }), "path"),
        (json!({ "path": "a//b" }), "segment"),
        (json!({ "path": "a/b*" }), "*"),
        (json!({ "path": "c", "wher": [] }), "where"),
        (with("where", json!({})), "list"),
        (with("where", json!(["a", "=", 1])), "condition"),
        (with("where", json!([[]])), "condition"),
        (with("where", json!([["a"]])), "condition"),
        (with("where", json!([["a", "=", 1, 2]])), "operators"),
        (with("where", json!([["a", "="]])), "operators"),
        (with("where", json!([["a", "~", 1]])), "starts-with"),
        (with("where", json!([[1, "=", 1]])), "strings"),
        (with("where", json!([["$rev", "=", 1]])), "$value"),
        (with("where", json!([["", "=", 1]])), "field"),
        (with("where", json!([["a//b", "=", 1]])), "segment"),
        (with("where", json!([["a", "exists", true]])), "no value"),
        (with("where", json!([["a", ">", null]])), "null"),
        (with("where", json!([["a", "between", [1, "a"]]])), "one kind"),
        (with("where", json!([["a", "between", [1]]])), "two values"),
        (with("where", json!([["a", "between", [null, 1]]])), "two values"),
        (with("where", json!([["a", "in", 1]])), "list"),
        (with("where", json!([["a", "starts-with", 1]])), "string"),
        (with("where", json!([["a", "contains", null]])), "null"),
        (with("where", json!([["a", "=", {}]])), "compare"),
        (with("where", json!([["a", "=", { "b": 1 }]])), "compare"),
        (with("where", json!([["a", "=", { ".sv": "timestamp" }]])), "compare"),
        (with("where", json!([["$key", "=", 1]])), "$key"),
        (with("where", json!([["$key", "in", ["a", 1]]])), "$key"),
        (with("where", json!([{ "or": [] }])), "at least one"),
        (with("where", json!([{ "or": [["a", "exists"]], "and": [["a", "exists"]] }])), "group"),
        (with("where", json!([{ "nor": [["a", "exists"]] }])), "group"),
        (with("orderBy", json!([])), "at least one"),
        (with("orderBy", json!(1)), "orderBy"),
        (with("orderBy", json!([["a", "up"]])), "asc"),
        (with("orderBy", json!(["a", "a"])), "twice"),
        (with("limit", json!(0)), "1000"),
        (with("limit", json!(-1)), "1000"),
        (with("limit", json!(1.5)), "1000"),
        (with("limit", json!("10")), "1000"),
        (with("cursor", json!(1)), "nextCursor"),
        (with("select", json!("a")), "list"),
        (with("select", json!(["$key"])), "key"),
        (with("count", json!(1)), "true or false"),
        (with("aggregate", json!({})), "groupBy"),
        (with("aggregate", json!({ "median": ["a"] })), "median"),
        (with("aggregate", json!({ "sum": "a" })), "list"),
        (json!({ "path": "c", "count": true, "limit": 1 }), "limit"),
        (json!({ "path": "c", "count": true, "orderBy": "a" }), "orderBy"),
        (json!({ "path": "c", "count": true, "aggregate": { "count": true } }), "inside"),
    ];
    for (json, part) in bad {
        let text = json.to_string();
        let (kind, message) = refusal(json);
        assert_eq!(kind, ErrorKind::InvalidInput, "{text}: {message}");
        assert!(message.contains(part), "{text}: {message:?} names {part:?}");
    }
    assert!(QuerySpec::parse(b"{\"path\":").is_err());
}

#[test]
fn each_limit_takes_its_own_value_and_refuses_one_more() {
    let fields = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>();
    let query = |member: &str, value: Value| json!({ "path": "c", member: value });
    type Make = fn(usize) -> Value;
    let limits: [(&str, Make, usize); 4] = [
        ("limit", |count| json!(count), 1_000),
        ("where", conditions, 100),
        ("where", |levels| json!([nested(levels)]), 8),
        ("where", |count| json!([["a", "in", vec![1; count]]]), 1_000),
    ];
    for (member, make, max) in limits {
        QuerySpec::from_json(&query(member, make(max))).unwrap();
        let (kind, message) = refusal(query(member, make(max + 1)));
        assert_eq!(kind, ErrorKind::TooLarge, "{member} {max}: {message}");
    }
    QuerySpec::from_json(&query("orderBy", json!(fields(4)))).unwrap();
    assert_eq!(refusal(query("orderBy", json!(fields(5)))).0, ErrorKind::TooLarge);
    QuerySpec::from_json(&query("select", json!(fields(100)))).unwrap();
    assert_eq!(refusal(query("select", json!(fields(101)))).0, ErrorKind::TooLarge);
    QuerySpec::from_json(&query("aggregate", json!({ "sum": fields(8) }))).unwrap();
    let more = query("aggregate", json!({ "sum": fields(9) }));
    assert_eq!(refusal(more).0, ErrorKind::TooLarge);
    let index =
        |count: usize| IndexDefinition::from_json(&json!({ "path": "c", "fields": fields(count) }));
    index(4).unwrap();
    assert_eq!(index(5).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(index(0).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn nothing_to_find_is_an_empty_answer() {
    let tree = bed::open();
    set(&tree, "c", json!({ "a": { "n": 1 }, "b": 2 }));
    set(&tree, "leaf", json!("text"));
    set(&tree, "list", json!([{ "n": 1 }]));
    set(&tree, "empty", json!({}));
    let none: Vec<String> = Vec::new();
    for path in ["missing", "c/a/n", "leaf", "list", "empty", "missing/*/x", "*/*/*/*"] {
        assert_eq!(keys(&tree, json!({ "path": path })), none, "{path}");
        let count = spec(json!({ "path": path, "count": true }));
        let answer = Queries::new(&tree).run(&tree.view().unwrap(), &count, 1 << 20).unwrap();
        assert_eq!(answer.to_json(), b"{\"count\":0}", "{path}");
    }
    for conditions in [
        json!([["n", "=", 1], ["n", "=", 2]]),
        json!([["n", ">", 2], ["n", "<", 1]]),
        json!([["n", "exists"], ["n", "absent"]]),
        json!([["$key", "absent"]]),
        json!([["n", "in", []]]),
        json!([["n", "between", [2, 1]]]),
    ] {
        let query = json!({ "path": "c", "where": conditions });
        assert_eq!(keys(&tree, query.clone()), none, "{query}");
        let plan = Queries::new(&tree).explain(&tree.view().unwrap(), &spec(query)).unwrap();
        assert_eq!((&plan["plan"], &plan["scanned"]), (&json!("empty"), &json!(0)));
    }
}

#[test]
fn a_pattern_takes_no_system_path_and_any_level_may_be_a_wildcard() {
    let tree = bed::open();
    set(&tree, "a/b/x", json!({ "k": 1 }));
    let value = Input::from_json(json!({ "k": 1 })).unwrap();
    let mut commit = Commit::set(bed::path("_system/b/x"), value);
    commit.system = true;
    tree.commit(commit).unwrap();
    let paths = |path: &str| {
        let spec = spec(json!({ "path": path }));
        let page = page(&Queries::new(&tree), &tree.view().unwrap(), &spec);
        page.items.iter().map(|item| item.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(paths("*/*/*"), ["a/b/x/k"]);
    assert_eq!(paths("*"), ["a/b"]);
    assert_eq!(paths(""), ["a"]);
    assert_eq!(paths("_system/*/*"), ["_system/b/x/k"]);
    assert!(Pattern::parse(&vec!["*"; 64].join("/")).is_ok());
    assert_eq!(paths(&vec!["*"; 64].join("/")), Vec::<String>::new());
    assert_eq!(refusal(json!({ "path": vec!["*"; 65].join("/") })).0, ErrorKind::TooLarge);
}

#[test]
fn a_cursor_is_taken_by_its_own_query_in_its_own_database_only() {
    let tree = bed::open();
    set(&tree, "c", json!({ "a": 1, "b": 2, "d": 3 }));
    let queries = Queries::new(&tree);
    let view = tree.view().unwrap();
    let query = json!({ "path": "c", "orderBy": "$value", "limit": 1 });
    let cursor = page(&queries, &view, &spec(query.clone())).next_cursor.unwrap();
    let ask = |queries: &Queries, mut query: Value, cursor: &str| {
        query["cursor"] = cursor.into();
        queries.run(&view, &spec(query), 1 << 20)
    };
    let refused = |queries: &Queries, query: Value, cursor: &str| {
        let error = ask(queries, query, cursor).expect_err(cursor);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.fact("reason"), Some("cursor"));
    };
    ask(&queries, query.clone(), &cursor).unwrap();
    // The size of a page and what is selected may differ.
    let other = json!({ "path": "c", "orderBy": ["$value", "asc"], "limit": 2, "select": [] });
    ask(&queries, other, &cursor).unwrap();
    refused(&queries, json!({ "path": "c", "limit": 1 }), &cursor);
    refused(&queries, json!({ "path": "d", "orderBy": "$value" }), &cursor);
    let filtered = json!({ "path": "c", "orderBy": "$value", "where": [["$value", ">", 0]] });
    refused(&queries, filtered, &cursor);
    let stranger = bed::open();
    refused(&Queries::new(&stranger), query.clone(), &cursor);
    for bad in ["", "!", "AAAA", &"A".repeat(9_000), &cursor[1..], &format!("{cursor}A")] {
        refused(&queries, query.clone(), bad);
    }
    for at in 0..cursor.len() {
        let mut bytes = cursor.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        refused(&queries, query.clone(), std::str::from_utf8(&bytes).unwrap());
    }
    let spec = spec(json!({ "path": "c", "cursor": cursor }));
    let live = LiveQuery::start(&queries, &view, spec, 1 << 20).unwrap_err();
    assert_eq!(live.kind(), ErrorKind::InvalidInput);
}

#[test]
fn too_many_groups_are_refused() {
    let tree = bed::open();
    let items = (0..1_001).map(|n| (format!("k{n}"), json!(n)));
    set(&tree, "c", items.collect::<serde_json::Map<_, _>>().into());
    let query = spec(json!({ "path": "c", "aggregate": { "groupBy": ["$value"], "count": true } }));
    let run = || Queries::new(&tree).run(&tree.view().unwrap(), &query, 1 << 20);
    assert_eq!(run().unwrap_err().kind(), ErrorKind::TooLarge);
    set(&tree, "c/k0", Value::Null);
    run().unwrap();
}
