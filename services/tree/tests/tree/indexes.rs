//! Indexes are derived in the same instant as their data: whatever happens, an index that is ready
//! is what deriving it anew would give.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use trellis_engine_traits::{KeyRange, Result};
use trellis_tree::{Derivation, Derived, INDEXES_PATH, Item, Pattern};

use super::*;

/// Orders items by the stored bytes of one field, then by another.
#[derive(Debug)]
struct ByFields {
    collections: Pattern,
    fields: Vec<String>,
}

#[derive(Debug)]
struct Plain;

static PLAIN: Plain = Plain;

impl Derivation for Plain {
    fn version(&self) -> u32 {
        1
    }

    fn define(&self, definition: &Value) -> Result<Arc<dyn Derived>> {
        let fields = definition["fields"].as_array().cloned().unwrap_or_default();
        let fields = fields.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let collections = Pattern::parse(definition["path"].as_str().unwrap_or_default())?;
        Ok(Arc::new(ByFields { collections, fields }))
    }
}

impl Derived for ByFields {
    fn collections(&self) -> &Pattern {
        &self.collections
    }

    fn sort_key(&self, item: &Item<'_>) -> Result<Vec<u8>> {
        let mut sort = Vec::new();
        for field in &self.fields {
            let leaf = item.leaf(field.replace('/', "\0").as_bytes())?;
            append(&mut sort, leaf.as_deref());
        }
        Ok(sort)
    }
}

fn append(sort: &mut Vec<u8>, leaf: Option<&[u8]>) {
    sort.extend(leaf.into_iter().flatten().flat_map(|byte| [2 | byte >> 4, 16 | byte & 15]));
    sort.push(1);
}

fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.options.derivation = Some(&PLAIN);
    bed.options.overlay_bytes_max = 8 << 10;
    bed
}

fn define(tree: &Tree, id: &str, definition: Value) {
    let path = path(&format!("{INDEXES_PATH}/{id}"));
    let commit = Commit { system: true, ..Commit::set(path, input(definition)) };
    tree.commit(commit).unwrap();
}

fn drop_index(tree: &Tree, id: &str) {
    let path = path(&format!("{INDEXES_PATH}/{id}"));
    tree.commit(Commit { system: true, ..Commit::delete(path) }).unwrap();
}

/// What an index says at a view: collections and entries.
fn said(view: &View, id: &str) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let mut all = BTreeSet::new();
    let mut from = Vec::new();
    while let Some(collection) = view.index_collection(id, &from).unwrap() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (reverse, found) in [(false, &mut up), (true, &mut down)] {
            view.scan_index(id, &collection, &KeyRange::all(), reverse, &mut |entry| {
                found.push((collection.to_vec(), entry.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        down.reverse();
        assert_eq!(up, down, "an index reads the same both ways");
        all.extend(up);
        from = [&*collection, &[0]].concat();
    }
    all
}

/// What it should say.
fn derived(view: &View, derived: &dyn Derived, fields: &[&str]) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let depth = derived.collections().segments().count();
    let mut items = BTreeSet::new();
    view.leaves(&Path::root(), None, &mut |key, _| {
        let path = Path::from_key(key).unwrap();
        let collection = Path::from_segments(path.segments().take(depth)).unwrap();
        if path.depth() > depth && derived.collections().matches(&collection) {
            items.insert(Path::from_segments(path.segments().take(depth + 1)).unwrap());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    items
        .into_iter()
        .map(|item| {
            let mut entry = Vec::new();
            for field in fields {
                let at =
                    if field.is_empty() { item.clone() } else { item.join(&path(field)).unwrap() };
                let leaf = view.leaf(&at).unwrap().map(|leaf| leaf.encode());
                append(&mut entry, leaf.as_deref());
            }
            entry.extend_from_slice(item.last().unwrap().as_bytes());
            (item.parent().unwrap().key().to_vec(), entry)
        })
        .collect()
}

const DEFINITIONS: [(&str, &str, &[&str]); 4] = [
    ("one", "c", &["f"]),
    ("two", "c", &["f", "g/h"]),
    ("wild", "w/*/c", &["f", ""]),
    ("any", "*", &["f"]),
];

fn compare(tree: &Tree, context: &str) {
    let view = tree.view().unwrap();
    for index in view.indexes() {
        let (_, _, fields) = DEFINITIONS.iter().find(|(id, ..)| *id == index.id).unwrap();
        let expected = derived(&view, index.derived.as_ref(), fields);
        assert_eq!(said(&view, &index.id), expected, "{context}: index {}", index.id);
    }
}

fn create(tree: &Tree, which: usize) {
    let (id, path, fields) = DEFINITIONS[which];
    define(tree, id, json!({"path": path, "fields": fields}));
}

fn ready(tree: &Tree, id: &str) {
    assert!(tree.wait_for_index(id, Duration::from_secs(3600)).unwrap());
}

/// A random write somewhere at, above, below or beside what is indexed.
fn write(tree: &Tree, random: &mut dyn FnMut(u64) -> u64) {
    let key = |n| format!("k{n}");
    let base = match random(3) {
        0 => format!("w/{}/c", key(random(3))),
        1 => format!("c2/{}", key(random(3))),
        _ => "c".to_owned(),
    };
    let item = format!("{base}/{}", key(random(12)));
    let number = random(5);
    let (at, value) = match random(14) {
        0..4 => (format!("{item}/f"), json!(number)),
        4 => (format!("{item}/g/h"), json!("x".repeat(usize::try_from(number).unwrap()))),
        5 => (format!("{item}/g"), json!({"h": number, "i": {}})),
        6 => (item, json!({"f": number, "other": true, "tags": [1]})),
        7 => (item, json!(number)),
        8 => (item, Value::Null),
        9 => (format!("{item}/f"), Value::Null),
        10 => (format!("{item}/other/deep"), json!(number)),
        11 if random(4) == 0 => (base, Value::Null),
        12 if random(4) == 0 => (base, json!({"k1": {"f": number}, "k2": number, "k9": {}})),
        13 if random(8) == 0 => ("w".to_owned(), json!(number)),
        _ => (format!("{item}/g/h"), Value::Null),
    };
    set(tree, &at, value);
}

#[test]
fn an_index_is_what_deriving_it_anew_gives_after_whatever_was_committed() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TRELLIS_SEED={seed}");
    let source = SeededRandom::new(seed);
    let mut random = |below: u64| {
        let mut bytes = [0; 8];
        source.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % below
    };
    let bed = bed();
    let mut tree = bed.open();
    for step in 0..800 {
        match random(40) {
            0 => tree.flush().unwrap(),
            1 => create(&tree, usize::try_from(random(4)).unwrap()),
            2 if random(4) == 0 => {
                drop_index(&tree, DEFINITIONS[usize::try_from(random(4)).unwrap()].0)
            }
            3 if random(3) == 0 => {
                tree.close().unwrap();
                tree = bed.open();
            }
            4 => tree.indexes().iter().for_each(|index| ready(&tree, &index.id)),
            _ => write(&tree, &mut random),
        }
        compare(&tree, &format!("seed {seed} step {step}"));
    }
    tree.indexes().iter().for_each(|index| ready(&tree, &index.id));
    compare(&tree, "at the end");
}

#[test]
fn an_index_over_what_was_there_is_built_and_outlives_a_restart() {
    let bed = bed();
    let tree = bed.open();
    for n in 0..50 {
        set(&tree, &format!("c/{n:03}"), json!({"f": n % 7, "g": {"h": "x"}}));
    }
    create(&tree, 0);
    ready(&tree, "one");
    compare(&tree, "built");
    assert_eq!(said(&tree.view().unwrap(), "one").len(), 50);
    tree.close().unwrap();
    let tree = bed.open();
    assert!(tree.indexes()[0].ready, "it is not built a second time");
    assert_eq!(said(&tree.view().unwrap(), "one").len(), 50);
}

#[test]
fn a_view_keeps_its_index_when_it_is_dropped_and_made_anew() {
    let tree = bed().open();
    set(&tree, "c/a", json!({"f": 1}));
    create(&tree, 0);
    ready(&tree, "one");
    let before = tree.view().unwrap();
    drop_index(&tree, "one");
    let dropped = tree.view().unwrap();
    create(&tree, 0);
    let again = tree.view().unwrap();
    set(&tree, "c/b", json!({"f": 2}));
    assert_eq!(said(&before, "one").len(), 1);
    assert_eq!((before.indexes().len(), dropped.indexes().len(), again.indexes().len()), (1, 0, 0));
    drop((before, dropped, again));
    ready(&tree, "one");
    assert_eq!(said(&tree.view().unwrap(), "one").len(), 2);
}

#[test]
fn an_index_of_another_version_or_left_behind_by_others_is_made_anew() {
    let mut bed = bed();
    let tree = bed.open();
    create(&tree, 0);
    set(&tree, "c/a", json!({"f": 1}));
    ready(&tree, "one");
    tree.close().unwrap();
    // Whoever opens it without the derivation keeps no indexes.
    bed.options.derivation = None;
    let tree = bed.open();
    set(&tree, "c/a/f", json!(2));
    assert!(tree.indexes().is_empty());
    tree.close().unwrap();
    bed.options.derivation = Some(&PLAIN);
    let tree = bed.open();
    ready(&tree, "one");
    compare(&tree, "after others wrote");
}

#[test]
fn a_commit_that_would_change_too_many_entries_is_refused_and_changes_nothing() {
    let mut bed = bed();
    bed.options.overlay_bytes_max = 64 << 20;
    let tree = bed.open();
    for n in 0..60 {
        define(&tree, &format!("n{n}"), json!({"path": "c", "fields": [format!("f{n}")]}));
    }
    // More definitions and longer ids than anybody could have created are not kept.
    for n in 60..70 {
        define(&tree, &format!("n{n}"), json!({"path": "c", "fields": ["f"]}));
    }
    define(&tree, &"x".repeat(65), json!({"path": "c", "fields": ["f"]}));
    assert_eq!(tree.indexes().len(), 64);
    let items = |count: usize| {
        let all = (0..count).map(|n| (format!("{n:0700}"), json!(1)));
        input(Value::Object(all.collect()))
    };
    let before = tree.position();
    let refused = tree.commit(Commit::set(path("c"), items(1_500))).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.error.fact("index_bytes_max"), Some("67108864"));
    assert_eq!((tree.position(), get(&tree, "c")), (before, Value::Null));
    tree.commit(Commit::set(path("c"), items(300))).unwrap();
    tree.commit(Commit::delete(path("c"))).unwrap();
}

/// What the journal refuses is taken back out of the indexes, definitions among it.
#[test]
fn what_is_refused_with_its_group_leaves_no_trace_in_indexes() {
    let bed = bed();
    let tree = bed.open();
    set(&tree, "c/a", json!({"f": 1}));
    create(&tree, 0);
    ready(&tree, "one");
    for round in 0..20 {
        bed.log.fail_once(trellis_log_memory::Fault::Append);
        let commit = match round % 4 {
            0 => Commit::set(path("c/a/f"), input(json!(round))),
            1 => Commit::delete(path("c")),
            2 => Commit::delete(path(&format!("{INDEXES_PATH}/one"))),
            _ => {
                let definition = json!({"path": "c", "fields": ["f", "g/h"]});
                Commit::set(path(&format!("{INDEXES_PATH}/two")), input(definition))
            }
        };
        tree.commit(Commit { system: true, ..commit }).unwrap_err();
        assert_eq!(tree.indexes().len(), 1, "round {round}");
        compare(&tree, &format!("round {round}"));
        assert_eq!(tree.view().unwrap().indexes().len(), 1);
        set(&tree, &format!("c/k{}", round % 3), json!({"f": round}));
        compare(&tree, &format!("after round {round}"));
        if round % 3 == 0 {
            tree.flush().unwrap();
            ready(&tree, "one");
        }
    }
}
