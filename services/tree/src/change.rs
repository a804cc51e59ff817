//! [`Change`]: one commit as whoever follows a tree sees it, with the states around it.
//!
//! Invariant: the versions that its states need stay in the tables as long as a change of the same
//! group is held, because the group is counted among the open views from before it became visible.

use std::fmt;
use std::sync::Arc;

use trellis_engine_traits::Result;

use crate::cause::ChangeCause;
use crate::effect::Effect;
use crate::journal::Position;
use crate::reader::Reader;
use crate::record::Record;
use crate::state::{Layers, State};
use crate::view::View;
use crate::views::Views;

/// What a change takes while it waits, besides its keys and values.
const CHANGE_BYTES: usize = 256;
/// What each of its effects takes, besides key and value: as in the table that it keeps alive.
const EFFECT_BYTES: usize = 160;

/// One plain change of a commit.
///
/// Keys are those of paths: [`Path::key`](crate::Path::key) and
/// [`Path::from_key`](crate::Path::from_key).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeEffect<'a> {
    /// The path and everything below it was removed, before the puts of the same commit.
    Cleared(&'a [u8]),
    /// The leaf was stored, in the bytes of [`Leaf::decode`](crate::Leaf::decode).
    Put(&'a [u8], &'a [u8]),
    /// The leaf was removed.
    Deleted(&'a [u8]),
}

impl<'a> ChangeEffect<'a> {
    /// The key of the path that it is about.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Cleared(key) | Self::Put(key, _) | Self::Deleted(key) => key,
        }
    }
}

/// A commit that became visible, as a follower or a history hands it on. Cheap to clone.
///
/// Whoever holds one keeps old versions in memory and on disk, as with a [`View`]: drop it within
/// seconds.
#[derive(Clone)]
pub struct Change {
    record: Arc<Record>,
    states: Arc<States>,
}

/// From which the states around the changes of a group are read.
pub(crate) struct States {
    views: Arc<Views>,
    layers: Arc<Layers>,
    /// The rev registered among the open views, so that its versions and all later ones stay.
    pinned: Option<u64>,
}

impl States {
    /// States whose tables nobody else changes.
    pub(crate) fn own(views: &Arc<Views>, layers: Layers) -> Arc<Self> {
        Arc::new(Self { views: Arc::clone(views), layers: Arc::new(layers), pinned: None })
    }

    /// States of the tree's own tables from `rev` on; called before anything after it is visible.
    pub(crate) fn pinned(views: &Arc<Views>, layers: Arc<Layers>, rev: u64) -> Arc<Self> {
        views.open(rev);
        Arc::new(Self { views: Arc::clone(views), layers, pinned: Some(rev) })
    }
}

impl Drop for States {
    fn drop(&mut self) {
        if let Some(rev) = self.pinned {
            self.views.close(rev);
        }
    }
}

/// Records of one group as they were entered into the overlay, and the tables they were entered
/// into: valid for every state around them, because tables are exchanged under the resolver's lock.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) layers: Arc<Layers>,
    pub(crate) records: Vec<Record>,
    /// The last record, and its hash.
    pub(crate) last: Position,
}

impl Change {
    pub(crate) fn new(record: Record, states: Arc<States>) -> Self {
        // The states tell what was before.
        Self { record: Arc::new(Record { images: None, ..record }), states }
    }

    /// The number of the commit.
    #[must_use]
    pub fn rev(&self) -> u64 {
        self.record.rev
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        self.record.at_ms
    }

    /// Why it was made.
    #[must_use]
    pub fn cause(&self) -> ChangeCause {
        self.record.cause
    }

    /// The idempotency key that it was made with.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.record.key.as_ref().map(|(key, _)| key.as_str())
    }

    /// What it changed, in the order in which it takes effect: clears, then single leaves, each of
    /// these in the order of their keys. Endings are not told.
    pub fn effects(&self) -> impl Iterator<Item = ChangeEffect<'_>> {
        self.record.effects.iter().filter_map(|effect| match effect {
            Effect::Clear(key) => Some(ChangeEffect::Cleared(key)),
            Effect::Put(key, value) => Some(ChangeEffect::Put(key, value)),
            Effect::Delete(key) => Some(ChangeEffect::Deleted(key)),
            Effect::Expire(..)
            | Effect::Unexpire(_)
            | Effect::Unindex(..)
            | Effect::Forget(..)
            | Effect::Mark(_)
            | Effect::Collect(_) => None,
        })
    }

    /// The tree as it was just before the commit. Nothing is hidden by the clock: what is due is
    /// there until a commit removes it.
    ///
    /// # Errors
    /// `Closed`; reads of the view as those of any other.
    pub fn before(&self) -> Result<View> {
        self.view(self.record.rev - 1)
    }

    /// The tree as the commit left it, as [`Change::before`].
    ///
    /// # Errors
    /// As for [`Change::before`].
    pub fn after(&self) -> Result<View> {
        self.view(self.record.rev)
    }

    fn view(&self, at: u64) -> Result<View> {
        let States { views, layers, .. } = &*self.states;
        views.check_open()?;
        views.open(at);
        let state = State { layers: Arc::clone(layers), at };
        Ok(View::new(Reader::unhidden(state), Arc::clone(views)))
    }

    /// A bound on the memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let effects = self.record.effects.iter().map(|effect| {
            let value = if let Effect::Put(_, value) = effect { value.len() } else { 0 };
            EFFECT_BYTES + effect.key().len() + value
        });
        CHANGE_BYTES + effects.sum::<usize>()
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No keys and no values: they belong to whoever wrote them.
        f.debug_struct("Change")
            .field("rev", &self.record.rev)
            .field("cause", &self.record.cause)
            .field("effects", &self.record.effects.len())
            .finish_non_exhaustive()
    }
}
