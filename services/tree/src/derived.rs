//! What a commit changes besides the data, derived from its effects: index entries and stamps.

use bytes::Bytes;

use crate::derivation::{Entry, subtree_key};
use crate::here::Stamp;
use crate::index::Definitions;
use crate::path;
use crate::stamping::Stamping;

/// What a commit changes in the space of indexes: removals first.
#[derive(Debug, Default)]
pub(crate) struct IndexEffects {
    /// Everything at and below these keys goes.
    pub(crate) clears: Vec<Bytes>,
    pub(crate) deletes: Vec<Bytes>,
    pub(crate) puts: Vec<Entry>,
    pub(crate) bytes: usize,
    /// What is kept from this commit on, where it defines or drops an index.
    pub(crate) definitions: Option<Definitions>,
}

impl IndexEffects {
    pub(crate) fn is_empty(&self) -> bool {
        self.clears.is_empty() && self.deletes.is_empty() && self.puts.is_empty()
    }

    /// Everything of an index goes.
    pub(crate) fn drop_index(&mut self, id: &str) {
        let of_index = |key: &Bytes| path::covers(id.as_bytes(), key);
        self.clears.retain(|key| !of_index(key));
        self.deletes.retain(|key| !of_index(key));
        self.puts.retain(|entry| !of_index(&entry.key));
        self.clears.push(subtree_key(id, b""));
    }
}

/// What a commit changes in the spaces of stamps. What its clears cover goes first.
#[derive(Debug, Default)]
pub(crate) struct StampEffects {
    /// Whether its clears clear stamps.
    pub(crate) is_stamped: bool,
    pub(crate) puts: Vec<(Bytes, Stamp)>,
    pub(crate) deletes: Vec<Bytes>,
    /// Keys of entries by rev that go.
    pub(crate) stale: Vec<Bytes>,
    /// Whether some stay behind that ought to go.
    pub(crate) leaves_stale: bool,
}

impl StampEffects {
    /// Leaves out what does not count.
    pub(crate) fn retain(&mut self, stamping: &Stamping) {
        self.puts.retain(|(key, stamp)| stamping.counts(key, stamp.rev));
    }
}
