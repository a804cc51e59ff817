//! A tree in memory, and indexes that are computed anew at every look.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use trellis_engine_traits::{KeyRange, Result};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_query::{
    Answer, FieldValue, IndexDefinition, Indexes, Page, Queries, QuerySpec, entry,
};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Input, Leaf, Path, Tree, TreeOptions, View};

use crate::reference;

pub(crate) fn open() -> Tree {
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    Tree::open(kv, log, Runtime::system(), TreeOptions::default()).unwrap()
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

pub(crate) fn set(tree: &Tree, at: &str, value: Value) {
    tree.commit(Commit::set(path(at), Input::from_json(value).unwrap())).unwrap();
}

pub(crate) fn spec(json: Value) -> QuerySpec {
    QuerySpec::from_json(&json).unwrap()
}

pub(crate) fn page(queries: &Queries, view: &View, spec: &QuerySpec) -> Page {
    match queries.run(view, spec, 1 << 24).unwrap() {
        Answer::Page(page) => page,
        Answer::Totals(totals) => panic!("a page was asked for: {totals}"),
    }
}

/// The keys of the items of a query's first page.
pub(crate) fn keys(tree: &Tree, json: Value) -> Vec<String> {
    let page = page(&Queries::new(tree), &tree.view().unwrap(), &spec(json));
    page.items.iter().map(|item| item.key().to_owned()).collect()
}

/// Indexes whose entries are computed from the data at every look: right by construction, so that
/// what is tested is the planner and the reading.
#[derive(Debug)]
pub(crate) struct Computed(pub(crate) Vec<Arc<IndexDefinition>>);

impl Computed {
    pub(crate) fn of(definitions: &[Value]) -> Arc<Self> {
        let read = |json: &Value| Arc::new(IndexDefinition::from_json(json).unwrap());
        Arc::new(Self(definitions.iter().map(read).collect()))
    }

    fn entries(&self, view: &View, index: &IndexDefinition, collection: &[u8]) -> Vec<Vec<u8>> {
        let collection = Path::from_key(collection).unwrap();
        let value = view.get(&collection).unwrap();
        let mut entries: Vec<Vec<u8>> = reference::children(&value)
            .map(|(key, item)| {
                let values = index.fields.iter().map(|order| {
                    field_value(reference::field(key, item, &order.field.to_string()))
                });
                entry(index, key.as_bytes(), &values.collect::<Vec<_>>())
            })
            .collect();
        entries.sort();
        entries
    }
}

fn field_value(value: Option<Value>) -> FieldValue {
    let Some(value) = value else { return FieldValue::Absent };
    match Input::from_json(value).unwrap().as_leaf() {
        Some(Leaf::EmptyObject) | None => FieldValue::Object,
        Some(leaf) => FieldValue::Leaf(leaf.clone()),
    }
}

impl Indexes for Computed {
    fn ready(&self, _: &View) -> Vec<Arc<IndexDefinition>> {
        self.0.clone()
    }

    fn scan(
        &self,
        view: &View,
        index: &IndexDefinition,
        collection: &[u8],
        range: &KeyRange,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut entries = self.entries(view, index, collection);
        entries.retain(|entry| range.contains(entry));
        if reverse {
            entries.reverse();
        }
        for entry in entries {
            if visit(&entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn first_collection(
        &self,
        view: &View,
        index: &IndexDefinition,
        from: &[u8],
    ) -> Result<Option<Bytes>> {
        let root = view.get(&Path::root()).unwrap();
        let mut keys: Vec<Bytes> = reference::collections(&root, &index.path)
            .into_iter()
            .filter(|(_, value)| reference::children(value).next().is_some())
            .map(|(at, _)| Path::from_segments(at).unwrap().key().clone())
            .filter(|key| key.as_ref() >= from)
            .collect();
        keys.sort();
        Ok(keys.into_iter().next())
    }
}
