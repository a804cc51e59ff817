//! [`Position`]: where an item stands in a query's order, as bytes that sort that way.
//!
//! The encodings of the order's fields, then the item's key and the key of its path, each ended by
//! 0x00, inverted where the last field descends: so no two items stand at the same place, and the
//! whole order turned round is the same order backwards.

use std::cmp::Ordering;

use crate::encoding::{encode_key, encode_value, encoded_len, invert_from};
use crate::field::Field;
use crate::needed::{Needed, Values};
use crate::spec::{Order, QuerySpec};

/// A place in an order, and the item that stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    bytes: Vec<u8>,
    /// How many of them are the order's fields.
    values_len: usize,
    /// The key of the item's path.
    pub(crate) path: Vec<u8>,
}

impl Position {
    /// The place of an item whose fields were read.
    pub(crate) fn of(spec: &QuerySpec, needed: &Needed, values: &Values, path: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(32 + 2 * path.len());
        for order in &spec.order {
            match order.field {
                Field::Key => encode_key(own_key(path), order.descending, &mut bytes),
                _ => {
                    let value = needed.value(values, &order.field);
                    encode_value(value, order.descending, &mut bytes);
                }
            }
        }
        Self::at(spec, bytes, path)
    }

    /// The place of an item with these encodings of the order's fields.
    pub(crate) fn at(spec: &QuerySpec, mut bytes: Vec<u8>, path: &[u8]) -> Self {
        let values_len = bytes.len();
        bytes.extend_from_slice(own_key(path));
        bytes.push(0);
        bytes.extend_from_slice(path);
        bytes.push(0);
        if spec.ties_descend() {
            invert_from(&mut bytes, values_len);
        }
        Self { bytes, values_len, path: path.to_vec() }
    }

    /// The encodings of the order's fields.
    pub(crate) fn values(&self) -> &[u8] {
        self.bytes.get(..self.values_len).unwrap_or_default()
    }

    /// The encoding of one field of the order, ascending; `None` for one that is not in it.
    pub(crate) fn value(&self, orders: &[Order], field: &Field) -> Option<Vec<u8>> {
        let mut rest = self.values();
        for order in orders {
            let len = encoded_len(rest, order.descending)?;
            if order.field == *field {
                let mut own = rest.get(..len)?.to_vec();
                if order.descending {
                    invert_from(&mut own, 0);
                }
                return Some(own);
            }
            rest = rest.get(len..)?;
        }
        None
    }

    /// The item's own key.
    pub(crate) fn key(&self) -> &[u8] {
        own_key(&self.path)
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

/// The last segment of a path's key.
pub(crate) fn own_key(path: &[u8]) -> &[u8] {
    let start = path.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
    path.get(start..).unwrap_or_default()
}

/// The path's key without its last segment.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == 0).unwrap_or(0);
    path.get(..end).unwrap_or_default()
}
