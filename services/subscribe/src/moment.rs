//! [`Moment`]: one commit with the states around it, and which leaves it really changed.
//!
//! A commit says which leaves it stored, which it removed and which subtrees it emptied first. Here
//! that is put in the order of keys, compared with the state before, and read in ranges, so that
//! each subscription looks at its own part only.
//!
//! Invariant: the work for a range follows what the commit did there and what it removed there,
//! never the size of the tree.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Change, ChangeEffect, Path, View};

use crate::request::Event;

/// A leaf that is stored (`Some`) or removed.
pub(crate) type Entry<'c> = (&'c [u8], Option<&'c [u8]>);

/// A leaf that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedLeaf {
    pub(crate) key: Bytes,
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
}

/// One commit, sorted, with the states around it.
#[derive(Debug)]
pub(crate) struct Moment<'c> {
    change: &'c Change,
    /// Emptied subtrees, none inside another, in the order of their keys.
    clears: Vec<&'c [u8]>,
    /// In the order of their keys.
    entries: Vec<Entry<'c>>,
    before: OnceCell<View>,
    after: OnceCell<View>,
}

impl<'c> Moment<'c> {
    pub(crate) fn new(change: &'c Change) -> Self {
        let mut clears: Vec<&[u8]> = Vec::new();
        let mut entries = Vec::new();
        for effect in change.effects() {
            match effect {
                ChangeEffect::Cleared(key) => clears.push(key),
                ChangeEffect::Put(key, value) => entries.push((key, Some(value))),
                ChangeEffect::Deleted(key) => entries.push((key, None)),
            }
        }
        clears.sort_unstable();
        // Sorted, what lies inside another stands behind it.
        clears.dedup_by(|later, first| covers(first, later));
        entries.sort_unstable_by_key(|(key, _)| *key);
        let (before, after) = (OnceCell::new(), OnceCell::new());
        Self { change, clears, entries, before, after }
    }

    pub(crate) fn change(&self) -> &'c Change {
        self.change
    }

    pub(crate) fn clears(&self) -> &[&'c [u8]] {
        &self.clears
    }

    pub(crate) fn entries(&self) -> &[Entry<'c>] {
        &self.entries
    }

    pub(crate) fn before(&self) -> Result<&View> {
        once(&self.before, || self.change.before())
    }

    pub(crate) fn after(&self) -> Result<&View> {
        once(&self.after, || self.change.after())
    }

    /// Whether the commit emptied a subtree that holds this key.
    pub(crate) fn is_cleared(&self, key: &[u8]) -> bool {
        // The last clear at or before the key is the only one that can hold it, as none is inside
        // another and what sorts between a subtree's root and a key below it lies inside too.
        let at = self.clears.partition_point(|clear| *clear <= key);
        at.checked_sub(1).and_then(|at| self.clears.get(at)).is_some_and(|own| covers(own, key))
    }

    /// The entries at and below a key.
    pub(crate) fn entries_in(&self, base: &[u8]) -> &[Entry<'c>] {
        let start = self.entries.partition_point(|(key, _)| *key < base);
        let rest = self.entries.get(start..).unwrap_or_default();
        let end = rest.partition_point(|(key, _)| covers(base, key));
        rest.get(..end).unwrap_or_default()
    }

    /// The emptied subtrees within that of `base`, from the one that holds or follows the key
    /// `from` on; `base` itself, when it lies in one.
    pub(crate) fn regions<'r>(
        &'r self,
        base: &'r [u8],
        from: &[u8],
    ) -> impl Iterator<Item = &'r [u8]> {
        let whole = self.is_cleared(base).then_some(base);
        let from = from.max(base);
        let start = self.clears.partition_point(|clear| *clear < from);
        let start = match start.checked_sub(1).and_then(|at| self.clears.get(at)) {
            Some(clear) if covers(clear, from) => start - 1,
            _ => start,
        };
        let rest = self.clears.get(start..).filter(|_| whole.is_none()).unwrap_or_default();
        whole.into_iter().chain(rest.iter().copied().take_while(move |clear| covers(base, clear)))
    }

    /// Whether a leaf above a key changed, or a subtree that holds it was emptied.
    pub(crate) fn is_above(&self, key: &[u8]) -> bool {
        let entry =
            |above: &[u8]| self.entries.binary_search_by_key(&above, |(own, _)| own).is_ok();
        self.is_cleared(key) || ancestors(key).any(entry)
    }

    /// The first changed leaf at or below `base` whose key is not before `from`.
    pub(crate) fn first_change(&self, base: &[u8], from: &[u8]) -> Result<Option<ChangedLeaf>> {
        let mut found = None;
        self.changes(base, from, &mut |leaf| {
            found = Some(leaf);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Visits the changed leaves at and below `base` from the key `from` on, in their order. From
    /// the root, system paths are left out.
    ///
    /// `visit` may run inside the store's scan: it reads no state.
    pub(crate) fn changes(
        &self,
        base: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(ChangedLeaf) -> ControlFlow<()>,
    ) -> Result<()> {
        let entries = self.entries_in(base);
        let start = entries.partition_point(|(key, _)| *key < from);
        let mut entries = entries.get(start..).unwrap_or_default();
        for region in self.regions(base, from) {
            let (ahead, rest) = entries.split_at(entries.partition_point(|(key, _)| *key < region));
            if self.singles(ahead, base, visit)?.is_break() {
                return Ok(());
            }
            let (inside, rest) =
                rest.split_at(rest.partition_point(|(key, _)| covers(region, key)));
            entries = rest;
            let hidden = base.is_empty() && is_system(region);
            let passed = from > region && !covers(region, from);
            if !hidden && !passed && self.region(region, from, inside, visit)?.is_break() {
                return Ok(());
            }
        }
        self.singles(entries, base, visit).map(|_| ())
    }

    /// Entries outside of what was emptied.
    fn singles(
        &self,
        entries: &[Entry<'c>],
        base: &[u8],
        visit: &mut dyn FnMut(ChangedLeaf) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        for (key, new) in entries {
            if base.is_empty() && is_system(key) {
                continue;
            }
            let old = self.before()?.leaf(&Path::from_key(key)?)?.map(|leaf| leaf.encode());
            if old.as_deref() != *new {
                let (key, new) = (Bytes::copy_from_slice(key), new.map(Bytes::copy_from_slice));
                if visit(ChangedLeaf { key, old, new }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A subtree that was emptied, and what was stored in it by the same commit.
    fn region(
        &self,
        region: &[u8],
        from: &[u8],
        entries: &[Entry<'c>],
        visit: &mut dyn FnMut(ChangedLeaf) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut puts = entries.iter().filter_map(|(key, new)| Some((*key, (*new)?))).peekable();
        let mut flow = ControlFlow::Continue(());
        let added = |key: &[u8], new: &[u8]| ChangedLeaf {
            key: Bytes::copy_from_slice(key),
            old: None,
            new: Some(Bytes::copy_from_slice(new)),
        };
        let after = (from > region).then_some(from);
        self.before()?.leaves(&Path::from_key(region)?, after, &mut |key, stored| {
            while let Some((own, new)) = puts.next_if(|(own, _)| *own < key) {
                flow = visit(added(own, new));
                if flow.is_break() {
                    return flow;
                }
            }
            let new = puts.next_if(|(own, _)| *own == key).map(|(_, new)| new);
            if new != Some(stored) {
                let (old, new) = (Bytes::copy_from_slice(stored), new.map(Bytes::copy_from_slice));
                flow = visit(ChangedLeaf { key: Bytes::copy_from_slice(key), old: Some(old), new });
            }
            flow
        })?;
        for (own, new) in puts {
            if flow.is_break() {
                break;
            }
            flow = visit(added(own, new));
        }
        Ok(flow)
    }
}

fn once(cell: &OnceCell<View>, open: impl FnOnce() -> Result<View>) -> Result<&View> {
    if let Some(view) = cell.get() {
        return Ok(view);
    }
    let opened = open()?;
    Ok(cell.get_or_init(|| opened))
}

/// Whether `key` is `above` or lies below it.
pub(crate) fn covers(above: &[u8], key: &[u8]) -> bool {
    above.is_empty()
        || key.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// The proper ancestors of a key, longest first, without the root.
pub(crate) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = key.iter().enumerate().rev().filter(|(_, byte)| **byte == 0);
    ends.filter_map(|(at, _)| key.get(..at))
}

/// Whether a key is that of a system path.
pub(crate) fn is_system(key: &[u8]) -> bool {
    key.first() == Some(&b'_')
}

/// The part of a key below its base.
pub(crate) fn relative<'a>(base: &[u8], key: &'a [u8]) -> &'a [u8] {
    let skip = if base.is_empty() { 0 } else { (base.len() + 1).min(key.len()) };
    key.get(skip..).unwrap_or_default()
}

/// Whether anything is stored at or below a path; places in arrays are not.
pub(crate) fn is_stored(view: &View, path: &Path) -> Result<bool> {
    let mut found = false;
    view.leaves(path, None, &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// What a commit told a topic.
pub(crate) fn event(change: &Change, body: bytes::Bytes) -> Event {
    let commit_key = change.key().map(Arc::from);
    Event { rev: change.rev(), cause: change.cause(), commit_key, body }
}

pub(crate) fn too_large(bytes_max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "what is watched does not fit a frame; use mode notify, or watch a narrower path",
    )
    .operation("sub")
    .context("frame_bytes_max", bytes_max)
}
