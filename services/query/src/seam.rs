//! [`Indexes`]: what the planner asks of whoever keeps indexes, and the entries of an index.
//!
//! An entry is the encodings of the index's fields, each inverted where the field descends, then
//! the child's key as it is: [`entry`] makes it and [`entry_key`] finds the key in it.
//!
//! Deliberately absent: where entries are stored, how they are built and who declares them.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};
use trellis_tree::View;

use crate::definition::IndexDefinition;
use crate::encoding::{FieldValue, encode_key, encode_value, encoded_len};
use crate::field::Field;

/// Indexes that can be read at a view.
///
/// Invariant: every index that is named here has, at every view for which it is named, exactly one
/// entry for each child of each collection that its path fits, as the children are stored: what is
/// due and not yet removed still has its entry.
pub trait Indexes: fmt::Debug + Send + Sync {
    /// The indexes that are complete at this view.
    fn ready(&self, view: &View) -> Vec<Arc<IndexDefinition>>;

    /// Visits entries of one collection in a range, ascending or descending; the visitor neither
    /// blocks nor reads the tree.
    ///
    /// # Errors
    /// As for every read; `NotFound` when the index is no longer there.
    fn scan(
        &self,
        view: &View,
        index: &IndexDefinition,
        collection: &[u8],
        range: &KeyRange,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()>;

    /// The first collection with entries whose path key is not below `from`.
    ///
    /// # Errors
    /// As for [`Indexes::scan`].
    fn first_collection(
        &self,
        view: &View,
        index: &IndexDefinition,
        from: &[u8],
    ) -> Result<Option<Bytes>>;
}

/// No index at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIndexes;

impl Indexes for NoIndexes {
    fn ready(&self, _: &View) -> Vec<Arc<IndexDefinition>> {
        Vec::new()
    }

    fn scan(
        &self,
        _: &View,
        _: &IndexDefinition,
        _: &[u8],
        _: &KeyRange,
        _: bool,
        _: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }

    fn first_collection(&self, _: &View, _: &IndexDefinition, _: &[u8]) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

/// The entry of a child; `values` are what the index's fields hold, in their order.
#[must_use]
pub fn entry(index: &IndexDefinition, key: &[u8], values: &[FieldValue]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 * values.len() + key.len());
    for (order, value) in index.fields.iter().zip(values) {
        match order.field {
            Field::Key => encode_key(key, order.descending, &mut bytes),
            _ => encode_value(value, order.descending, &mut bytes),
        }
    }
    bytes.extend_from_slice(key);
    bytes
}

/// The child's key in an entry; `None` when these are not the bytes of one.
#[must_use]
pub fn entry_key<'a>(index: &IndexDefinition, entry: &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = entry;
    for order in &index.fields {
        rest = rest.get(encoded_len(rest, order.descending)?..)?;
    }
    Some(rest)
}
