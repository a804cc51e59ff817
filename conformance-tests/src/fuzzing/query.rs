//! Queries: their JSON, and the cursors that come back with it.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_query::{Answer, LIMIT_MAX, Queries, QuerySpec};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};

pub(super) const WORDS: &[&str] = &[
    "\"path\":\"c\"",
    "\"c/*\"",
    "\"where\":[",
    "\"orderBy\":",
    "\"limit\":",
    "\"cursor\":",
    "\"select\":[",
    "\"count\":true",
    "\"aggregate\":{\"groupBy\":[\"a\"]}",
    "{\"or\":[",
    "{\"and\":[",
    "[\"a\",\"=\",1]",
    "\"between\",[1,2]",
    "\"in\",[1,null]",
    "\"starts-with\"",
    "\"contains\"",
    "\"exists\"]",
    "\"absent\"]",
    "\"!=\"",
    "\"<=\"",
    "\"$key\"",
    "\"$value\"",
    "\"desc\"",
    "null",
    "{\".bytes\":\"YQ==\"}",
    "-0.0",
    "9007199254740993",
    "\\u0000",
    "\\u0001",
    "_",
    "-",
];

/// A small tree in memory, of every kind of value.
static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    let tree = Tree::open(kv, log, Runtime::system(), TreeOptions::default()).expect("a tree");
    let value = json!({
        "k1": { "a": 1, "b": "x" }, "k2": { "a": 1.5, "p": { "x": [1, "a"] } }, "k3": true,
        "k4": { "a": "x".repeat(300), "b": { ".bytes": "YQ==" } }, "k5": {}, "k6": [1],
    });
    let value = Input::from_json(value).expect("a value");
    tree.commit(Commit::set(Path::parse("c").expect("a path"), value)).expect("it is committed");
    tree
});

/// A query is refused, or means the same when written and read again, and is answered: with a page
/// within its limit whose cursor goes on, or with a refusal that is the caller's. What stands
/// behind a line feed is a cursor: it is never taken, because this tree did not hand it out.
pub(super) fn text(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (json, cursor) = (parts.next().unwrap_or_default(), parts.next());
    let Ok(spec) = QuerySpec::parse(json) else { return };
    let again = QuerySpec::from_json(&spec.to_json()).expect("what is written is read");
    assert_eq!(again, spec, "another query when read again");
    assert_eq!(again.fingerprint(), spec.fingerprint());
    let queries = Queries::new(&TREE);
    let view = TREE.view().expect("a view");
    queries.explain(&view, &spec).err().iter().for_each(callers);
    match queries.run(&view, &spec, 1 << 20) {
        Ok(answer) => answered(&answer, &spec),
        Err(error) => callers(&error),
    }
    if let Some(cursor) = cursor.and_then(|cursor| std::str::from_utf8(cursor).ok())
        && spec.totals.is_none()
    {
        let spec = QuerySpec { cursor: Some(cursor.to_owned()), ..spec };
        let refused = queries.run(&view, &spec, 1 << 20).expect_err("a cursor of nobody");
        assert_eq!(refused.fact("reason"), Some("cursor"), "{refused:?}");
    }
}

fn callers(error: &trellis_engine_traits::Error) {
    let fine = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge);
    assert!(fine, "not the caller's: {error:?}");
}

fn answered(answer: &Answer, spec: &QuerySpec) {
    let json: Value = serde_json::from_slice(&answer.to_json()).expect("an answer is JSON");
    let Answer::Page(page) = answer else {
        assert!(json.get("count").or_else(|| json.get("groups")).is_some());
        return;
    };
    assert!(page.items.len() <= spec.limit && spec.limit <= LIMIT_MAX);
    if let Some(cursor) = &page.next_cursor {
        let next = QuerySpec { cursor: Some(cursor.clone()), ..spec.clone() };
        let view = TREE.view().expect("a view");
        let Ok(Answer::Page(next)) = Queries::new(&TREE).run(&view, &next, 1 << 20) else {
            panic!("its own cursor is taken");
        };
        assert!(!next.items.is_empty(), "a cursor where nothing follows");
        assert!(next.items.iter().all(|item| !page.items.contains(item)), "an item comes twice");
    }
}
