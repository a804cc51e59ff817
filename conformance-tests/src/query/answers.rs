//! Answers against a plain reference, with the tree's own indexes and without, while it is written,
//! applied and reopened.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_query::{
    Answer, FIELD_INDEXES, IndexDefinition, LOOKED_MAX, NoIndexes, Page, Queries, QuerySpec,
    create_index,
};
use trellis_tree::{Tree, TreeOptions, View};

use super::draw::Draw;
use super::reference;
use crate::tree::TreeWorld;
use crate::tree::tools::{commit, delete_op, leasing, path, refused, set, setting, small_overlay};
use crate::{Case, Rng};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("query.answer.random", &["query.answer.exact"], random),
    Case::new("query.answer.endings", &["query.answer.exact"], endings),
    Case::new("query.page.beside_writers", &["query.cursor.stable"], beside_writers),
    Case::new("query.page.own_cursors", &["query.cursor.own", "query.cursor.stable"], own_cursors),
    Case::new("query.bound.looked_at", &["query.bound.named", "query.answer.exact"], looked_at),
];

const ANSWER_BYTES: usize = 16 << 20;

/// Options under which indexes are kept and the overlay is applied all the time.
pub(super) fn options() -> TreeOptions {
    TreeOptions { derivation: Some(&FIELD_INDEXES), ..small_overlay() }
}

pub(super) fn draw(world: &TreeWorld, label: &str) -> Draw {
    Draw::new(world.rng(label).next_u64())
}

pub(super) fn spec(query: &Value) -> QuerySpec {
    QuerySpec::from_json(query).expect("a good query")
}

pub(super) fn page(queries: &Queries, view: &View, query: &Value) -> Page {
    match queries.run(view, &spec(query), ANSWER_BYTES).expect("it is answered") {
        Answer::Page(page) => page,
        Answer::Totals(totals) => panic!("a page was asked for: {totals}"),
    }
}

/// Some commits at random.
pub(super) fn stir(draw: &Draw, tree: &Tree) {
    for _ in 0..draw.below(5) {
        let at = match draw.below(3) {
            0 => format!("u/{}/c/{}", draw.key(), draw.key()),
            _ => format!("c/{}", draw.key()),
        };
        // A path that leads into an array is refused, and nothing changes.
        match draw.below(12) {
            0 => drop(tree.commit(trellis_tree::Commit::new(vec![delete_op("c")]))),
            1 => drop(tree.commit(setting(&format!("u/{}", draw.key()), draw.leaf()))),
            2 => drop(tree.commit(trellis_tree::Commit::new(vec![delete_op(&at)]))),
            _ => drop(tree.commit(setting(&at, draw.item()))),
        }
    }
}

fn indexed(draw: &Draw, tree: &Tree) {
    for definition in draw.indexes(&["c", "u/*/c", "*/*/*"]) {
        let definition = IndexDefinition::from_json(&definition).expect("a definition");
        let index = create_index(tree, &definition).expect("it is defined");
        let hour = std::time::Duration::from_secs(3600);
        assert!(tree.wait_for_index(&index.id, hour).expect("it is built"));
    }
}

pub(super) fn paths_and_values(page: &Page) -> Vec<(String, Value)> {
    let value = |text: &String| serde_json::from_str(text).expect("a value is JSON");
    let item = |item: &trellis_query::Item| {
        (item.path.to_string(), item.value.as_ref().map(value).unwrap_or_default())
    };
    page.items.iter().map(item).collect()
}

fn random(world: &TreeWorld) {
    let draw = draw(world, "queries");
    let ground = world.engine();
    let mut tree = ground.tree_with(options());
    for round in 0..120 {
        if round % 40 == 0 {
            indexed(&draw, &tree);
        }
        if round % 60 == 30 {
            tree = ground.reopen_with(options());
        }
        stir(&draw, &tree);
        let view = tree.settled_view().expect("a view");
        let mut query = draw.query(&["c", "u/*/c", "u/b/c", "*/*", "", "u/*"]);
        let root = view.get(&path("")).expect("it is read");
        let expected = reference::matches(&root, &query);
        query["limit"] = 1000.into();
        let without = Queries::with_indexes(&tree, std::sync::Arc::new(NoIndexes));
        for queries in [without, Queries::new(&tree)] {
            let plan = queries.explain(&view, &spec(&query)).expect("it is explained");
            let found = paths_and_values(&page(&queries, &view, &query));
            assert_eq!(found, expected, "round {round}: {query} {plan}");
        }
    }
}

fn endings(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(options());
    let definition = json!({"path": "c", "fields": ["n"]});
    let definition = IndexDefinition::from_json(&definition).expect("a definition");
    let index = create_index(&tree, &definition).expect("it is defined");
    for n in 0..20 {
        set(&tree, &format!("c/k{n:02}"), json!({ "n": n }));
    }
    commit(&tree, leasing("c/k03/n", json!(3), 10.0));
    commit(&tree, leasing("c/k05", json!({ "n": 5 }), 10.0));
    let hour = std::time::Duration::from_secs(3600);
    assert!(tree.wait_for_index(&index.id, hour).expect("it is built"));
    let first = || {
        let query = json!({"path": "c", "where": [["n", "<", 7]], "orderBy": "n"});
        let page = page(&Queries::new(&tree), &tree.settled_view().expect("a view"), &query);
        page.items.iter().map(|item| item.key().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(first(), ["k00", "k01", "k02", "k03", "k04", "k05", "k06"]);
    ground.clock().advance_ms(10_000);
    assert_eq!(first(), ["k00", "k01", "k02", "k04", "k06"], "what has ended fits nothing");
    let absent = json!({"path": "c", "where": [["n", "absent"]]});
    // A view that still hides what is due answers the same, without the index.
    let page = page(&Queries::new(&tree), &tree.view().expect("a view"), &absent);
    assert_eq!(page.items.len(), 0, "an object whose last member ended is gone");
}

fn beside_writers(world: &TreeWorld) {
    let draw = draw(world, "pages");
    let ground = world.engine();
    let tree = ground.tree_with(options());
    indexed(&draw, &tree);
    let queries = Queries::new(&tree);
    for round in 0..20 {
        stir(&draw, &tree);
        let mut query = draw.query(&["c", "u/*/c"]);
        query["limit"] = (1 + draw.below(3)).into();
        let mut stays: Option<Vec<(String, Value)>> = None;
        let mut found: Vec<String> = Vec::new();
        loop {
            let view = tree.settled_view().expect("a view");
            let root = view.get(&path("")).expect("it is read");
            let now = reference::matches(&root, &query);
            let same = stays.take().unwrap_or_else(|| now.clone());
            stays = Some(same.into_iter().filter(|item| now.contains(item)).collect());
            let page = page(&queries, &view, &query);
            found.extend(page.items.iter().map(|item| item.path.to_string()));
            let Some(cursor) = page.next_cursor else { break };
            query["cursor"] = cursor.into();
            stir(&draw, &tree);
        }
        let stays: Vec<String> = stays.into_iter().flatten().map(|(path, _)| path).collect();
        let told: Vec<&String> = found.iter().filter(|own| stays.contains(own)).collect();
        assert_eq!(told, stays.iter().collect::<Vec<_>>(), "round {round}: {found:?} of {query}");
    }
}

fn own_cursors(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(options());
    set(&tree, "c", json!({"a": 3, "b": 1, "d": 2, "e": 1}));
    let mut query = json!({"path": "c", "orderBy": ["$value", "desc"], "limit": 1});
    let mut found = Vec::new();
    let mut last = String::new();
    drop(tree);
    // A cursor outlives the process.
    loop {
        let tree = ground.reopen_with(options());
        let page = page(&Queries::new(&tree), &tree.settled_view().expect("a view"), &query);
        found.extend(page.items.iter().map(|item| item.key().to_owned()));
        let Some(cursor) = page.next_cursor else { break };
        query["cursor"] = cursor.clone().into();
        last = cursor;
    }
    assert_eq!(found, ["a", "d", "e", "b"]);
    let tree = ground.tree();
    let ask = |mut query: Value, cursor: &str| {
        query["cursor"] = cursor.into();
        Queries::new(&tree).run(&tree.view().expect("a view"), &spec(&query), ANSWER_BYTES)
    };
    refused(ask(json!({"path": "c"}), &last), ErrorKind::InvalidInput, "another query's cursor");
    let mut rng: Rng = world.rng("tampered");
    for _ in 0..50 {
        let mut bytes = last.clone().into_bytes();
        let at = rng.below(bytes.len());
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let cursor = String::from_utf8(bytes).expect("text");
        refused(ask(query.clone(), &cursor), ErrorKind::InvalidInput, "a tampered cursor");
    }
}

fn looked_at(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground
        .tree_with(TreeOptions { derivation: Some(&FIELD_INDEXES), ..TreeOptions::default() });
    let many: serde_json::Map<String, Value> =
        (0..LOOKED_MAX).map(|n| (format!("k{n:05}"), json!({"n": n % 100}))).collect();
    set(&tree, "c", many.into());
    let query = json!({"path": "c", "where": [["n", "=", 7]], "orderBy": ["$key", "desc"]});
    let run = || {
        let view = tree.settled_view().expect("a view");
        Queries::new(&tree).run(&view, &spec(&query), ANSWER_BYTES)
    };
    let before = run().expect("as many may be looked at");
    set(&tree, "c/a", json!(1));
    let error = refused(run(), ErrorKind::TooLarge, "one more child");
    assert_eq!(error.fact("reason"), Some("index_required"));
    let definition: Value =
        serde_json::from_str(error.fact("index").expect("the index")).expect("it is JSON");
    let definition = IndexDefinition::from_json(&definition).expect("it can be added as it is");
    let index = create_index(&tree, &definition).expect("it is defined");
    let hour = std::time::Duration::from_secs(3600);
    assert!(tree.wait_for_index(&index.id, hour).expect("it is built"));
    assert_eq!(run().expect("the index serves it"), before);
}
