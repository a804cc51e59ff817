//! What a service above tells the tree of indexes: how items become sort keys.
//!
//! The tree keeps the entries of indexes in the same instant and in the same batch as the data, and
//! knows nothing of what they are for. A definition is a value at `_indexes/<id>`: it is committed,
//! copied and restored like any other, and counts from exactly its commit on.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use trellis_engine_traits::{KeyRange, Result};

use crate::pattern::Pattern;

/// The system path below which definitions are.
pub const INDEXES_PATH: &str = "_indexes";
/// Bytes of a sort key: with id, collection and child a key stays below what every store takes.
pub const SORT_KEY_BYTES_MAX: usize = 2560;

/// Turns definitions into indexes. Stateless: given to a tree when it is opened
/// ([`TreeOptions::derivation`](crate::TreeOptions::derivation)).
pub trait Derivation: Send + Sync + fmt::Debug {
    /// Another number when the same data gives other entries: what another version derived is
    /// derived anew.
    fn version(&self) -> u32;

    /// Understands a definition.
    ///
    /// # Errors
    /// `InvalidInput` for one that makes no sense; the index is then not kept.
    fn define(&self, definition: &Value) -> Result<Arc<dyn Derived>>;
}

/// Derivations are told apart by what they derive.
impl PartialEq for dyn Derivation {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for dyn Derivation {}

/// One index: which items it has and in which order.
pub trait Derived: Any + Send + Sync + fmt::Debug {
    /// The collections whose children are its items.
    fn collections(&self) -> &Pattern;

    /// What orders an item among the others of its collection: at most [`SORT_KEY_BYTES_MAX`]
    /// bytes, none of which is a prefix of another item's of the collection.
    ///
    /// # Errors
    /// Those of reading.
    fn sort_key(&self, item: &Item<'_>) -> Result<Vec<u8>>;
}

/// An item in one state of the tree.
pub struct Item<'a> {
    key: &'a [u8],
    state: &'a dyn Look,
    /// Whether something was found, which spares a look for it.
    found: Cell<bool>,
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").finish_non_exhaustive()
    }
}

impl<'a> Item<'a> {
    pub(crate) fn new(key: &'a [u8], state: &'a dyn Look) -> Self {
        Self { key, state, found: Cell::new(false) }
    }

    fn exists(&self) -> Result<bool> {
        Ok(self.found.get() || self.state.leaf(self.key)?.is_some() || self.is_object(b"")?)
    }

    fn below(&self, field: &[u8]) -> Vec<u8> {
        if field.is_empty() { self.key.to_vec() } else { [self.key, b"\0", field].concat() }
    }

    /// The item's own key among those of its collection.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.key.rsplit(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The stored leaf at a path below the item, segments joined by 0x00; the item itself when
    /// empty.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    pub fn leaf(&self, field: &[u8]) -> Result<Option<Bytes>> {
        let leaf = self.state.leaf(&self.below(field))?;
        self.found.set(self.found.get() || leaf.is_some());
        Ok(leaf)
    }

    /// Whether an object with members is at a path below the item.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    ///
    /// # Cost
    /// A scan of one pair.
    pub fn is_object(&self, field: &[u8]) -> Result<bool> {
        let found = self.state.any_below(&self.below(field))?;
        self.found.set(self.found.get() || found);
        Ok(found)
    }
}

/// A state in which items are looked at.
pub(crate) trait Look {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>>;
    fn any_below(&self, key: &[u8]) -> Result<bool>;
}

/// An entry's place in the space of indexes: the id, the collection, the order, the child.
///
/// A collection and what is above it are prefixes that end before a 0x00, as in paths: removing a
/// subtree that holds collections is one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    /// Where the child's name begins, from the end of the collection on.
    pub(crate) value: Bytes,
}

/// What ends a collection's path in a key; no path holds it.
const MARK: [u8; 2] = [0, 1];

/// The key of everything of an index at and below a path.
pub(crate) fn subtree_key(id: &str, path: &[u8]) -> Bytes {
    if path.is_empty() {
        return Bytes::copy_from_slice(id.as_bytes());
    }
    [id.as_bytes(), b"\0", path].concat().into()
}

/// What the keys of a collection's entries begin with.
pub(crate) fn collection_prefix(id: &str, collection: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b"\0", collection, &MARK].concat()
}

/// The entries of a collection, from a sort key on and up to another.
pub(crate) fn entry_range(id: &str, collection: &[u8], sort: &KeyRange) -> KeyRange {
    let prefix = collection_prefix(id, collection);
    let start = [&*prefix, &*sort.start].concat();
    let end = match &sort.end {
        Some(end) => [&*prefix, &**end].concat(),
        // The mark ends with 0x01.
        None => [prefix.split_last().map_or(&[][..], |(_, rest)| rest), &[2]].concat(),
    };
    KeyRange::new(start, Some(end.into()))
}

/// The part of a key that paths are made of: up to the mark.
pub(crate) fn path_part(key: &[u8]) -> &[u8] {
    let end = key.windows(2).position(|pair| pair == MARK).unwrap_or(key.len());
    key.get(..end).unwrap_or_default()
}

impl Entry {
    /// The entry of an item, `None` when nothing is at it.
    pub(crate) fn of(
        id: &str,
        derived: &dyn Derived,
        item: &[u8],
        state: &dyn Look,
    ) -> Result<Option<Self>> {
        let looked = Item::new(item, state);
        let mut sort = derived.sort_key(&looked)?;
        if !looked.exists()? {
            return Ok(None);
        }
        // Too long a key would be refused by the store, and everything behind it with it.
        sort.truncate(SORT_KEY_BYTES_MAX);
        let at = item.iter().rposition(|byte| *byte == 0);
        let collection = at.and_then(|at| item.get(..at)).unwrap_or_default();
        let child = at.map_or(item, |at| item.get(at + 1..).unwrap_or_default());
        let mut key = collection_prefix(id, collection);
        let length = u16::try_from(sort.len()).unwrap_or(u16::MAX);
        key.append(&mut sort);
        key.extend_from_slice(child);
        Ok(Some(Self { key: key.into(), value: Bytes::copy_from_slice(&length.to_be_bytes()) }))
    }
}

/// What an entry's key says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntryParts<'a> {
    pub(crate) id: &'a str,
    pub(crate) collection: &'a [u8],
    pub(crate) child: &'a [u8],
}

impl<'a> EntryParts<'a> {
    /// Id, collection, sort key and child of a stored entry.
    pub(crate) fn split(key: &'a [u8], value: &[u8]) -> Option<Self> {
        let path_part = path_part(key);
        let mut parts = path_part.splitn(2, |byte| *byte == 0);
        let (id, collection) = (parts.next()?, parts.next()?);
        let rest = key.get(path_part.len() + MARK.len()..)?;
        let length = usize::from(u16::from_be_bytes(value.try_into().ok()?));
        let child = rest.get(length..)?;
        let id = std::str::from_utf8(id).ok()?;
        (!child.is_empty()).then_some(Self { id, collection, child })
    }

    /// The path key of the item.
    pub(crate) fn item(&self) -> Bytes {
        if self.collection.is_empty() {
            return Bytes::copy_from_slice(self.child);
        }
        [self.collection, b"\0", self.child].concat().into()
    }
}
