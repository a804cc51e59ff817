//! The indexes that a tree keeps, as queries read them: what a definition derives of an item, and
//! [`Indexes`] at a view.
//!
//! An index is named after its definition, so that the same definition is the same index on every
//! node, and defining it twice does nothing.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use trellis_engine_traits::{KeyRange, Result};
use trellis_tree::{Derivation, Derived, Item, Leaf, View};

use crate::definition::IndexDefinition;
use crate::encoding::{FieldValue, encode_key, encode_value};
use crate::seam::Indexes;

/// Hexadecimal digits of an index's name.
const NAME_DIGITS: usize = 8;

/// What a tree is opened with so that it keeps indexes of fields
/// ([`TreeOptions::derivation`](trellis_tree::TreeOptions::derivation)).
pub static FIELD_INDEXES: FieldIndexes = FieldIndexes;

/// Derives index entries from the fields of items, and reads them.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use trellis_query::{FIELD_INDEXES, IndexDefinition, Indexes, create_index};
/// use trellis_tree::{Tree, TreeOptions};
///
/// # let (kv, log) = (trellis_kv_memory::MemoryKv::new(), trellis_log_memory::MemoryLog::new());
/// # let runtime = trellis_runtime::Runtime::system();
/// let options = TreeOptions { derivation: Some(&FIELD_INDEXES), ..TreeOptions::default() };
/// let tree = Tree::open(Arc::new(kv), Arc::new(log), runtime, options)?;
/// let json = serde_json::json!({"path": "users", "fields": ["age"]});
/// let index = create_index(&tree, &IndexDefinition::from_json(&json)?)?;
/// assert!(tree.wait_for_index(&index.id, Duration::from_secs(60))?);
/// assert_eq!(FIELD_INDEXES.ready(&tree.view()?)[0].to_json(), json);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct FieldIndexes;

/// An index that a tree keeps.
#[derive(Debug)]
struct FieldIndex {
    definition: Arc<IndexDefinition>,
    collections: trellis_tree::Pattern,
}

impl Derivation for FieldIndexes {
    fn version(&self) -> u32 {
        1
    }

    fn define(&self, definition: &Value) -> Result<Arc<dyn Derived>> {
        let definition = Arc::new(IndexDefinition::from_json(definition)?);
        let collections = trellis_tree::Pattern::parse(&definition.path.to_string())?;
        Ok(Arc::new(FieldIndex { definition, collections }))
    }
}

impl Derived for FieldIndex {
    fn collections(&self) -> &trellis_tree::Pattern {
        &self.collections
    }

    fn sort_key(&self, item: &Item<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(16 * self.definition.fields.len());
        for order in &self.definition.fields {
            match order.field.below() {
                Some(below) => encode_value(&value(item, below)?, order.descending, &mut bytes),
                None => encode_key(item.name(), order.descending, &mut bytes),
            }
        }
        Ok(bytes)
    }
}

fn value(item: &Item<'_>, below: &[u8]) -> Result<FieldValue> {
    Ok(match item.leaf(below)? {
        Some(stored) => FieldValue::Leaf(Leaf::decode(&stored)?),
        None if item.is_object(below)? => FieldValue::Object,
        None => FieldValue::Absent,
    })
}

impl Indexes for FieldIndexes {
    fn ready(&self, view: &View) -> Vec<Arc<IndexDefinition>> {
        let indexes = view.indexes().into_iter().filter_map(|index| {
            let derived: &dyn Any = index.derived.as_ref();
            let index = derived.downcast_ref::<FieldIndex>()?;
            Some(Arc::clone(&index.definition))
        });
        indexes.collect()
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
        view.scan_index(&index_name(index), collection, range, reverse, visit)
    }

    fn first_collection(
        &self,
        view: &View,
        index: &IndexDefinition,
        from: &[u8],
    ) -> Result<Option<Bytes>> {
        view.index_collection(&index_name(index), from)
    }
}

/// The name of the index of a definition: 8 hexadecimal digits.
#[must_use]
pub fn index_name(definition: &IndexDefinition) -> String {
    let json = definition.to_json().to_string();
    blake3::hash(json.as_bytes()).to_hex().chars().take(NAME_DIGITS).collect()
}
