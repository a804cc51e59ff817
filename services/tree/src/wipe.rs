//! What a merge removes where something has to stay: as few clears and deletes as do it.
//!
//! It walks what is here in order, some at a time; a subtree that holds nothing which stays goes as
//! one clear, and the walk jumps behind it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Held, Stamp, ending_key, ending_path};
use crate::merge::Merge;
use crate::path;
use crate::stamp::{StampedChange, Version};

/// Keys looked at in one go; the last one's bytes may go beyond.
const CHUNK_KEYS_MAX: usize = 512;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What goes: all that is here in a range, but what is kept and what lies in subtrees of `edges`.
pub(crate) struct Wipe<'k> {
    /// Of keys, those of endings among them.
    pub(crate) range: KeyRange,
    /// In order.
    pub(crate) kept: &'k [Bytes],
    /// In order.
    pub(crate) edges: &'k [Bytes],
    /// Whether a kept path may be cleared when nothing below it is kept, because it is written
    /// again.
    pub(crate) over_kept: bool,
}

/// What is here of kept keys, as a wipe came by.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) leaves: HashMap<Bytes, Bytes>,
    pub(crate) stamps: HashMap<Bytes, Stamp>,
    pub(crate) endings: HashMap<Bytes, u64>,
    /// Whether anything live went.
    pub(crate) removed_live: bool,
}

/// One thing that is here.
enum Found {
    Leaf(Bytes),
    Ending(u64),
    Stamp(Stamp),
}

#[derive(Clone, Copy)]
enum Space {
    Leaves,
    Endings,
    Stamps,
}

impl Wipe<'_> {
    fn is_kept(&self, key: &[u8]) -> bool {
        self.kept.binary_search_by(|kept| (**kept).cmp(key)).is_ok()
    }

    fn edge_over(&self, key: &[u8]) -> Option<&Bytes> {
        let next = self.edges.partition_point(|edge| **edge <= *key);
        let edge = self.edges.get(next.checked_sub(1)?)?;
        path::covers(edge, key).then_some(edge)
    }

    /// Whether everything at and below a path may go.
    fn may_clear(&self, key: &[u8]) -> bool {
        let end = path::after_subtree(key);
        let any = |keys: &[Bytes], from: &[u8]| {
            let next = keys.partition_point(|at| **at < *from);
            keys.get(next).is_some_and(|at| *at < end)
        };
        let below = path::below(key);
        let is_inside =
            *key >= *self.range.start && self.range.end.as_ref().is_none_or(|last| end <= *last);
        is_inside
            && !any(self.edges, key)
            && !any(self.kept, if self.over_kept { &below.start } else { key })
    }

    /// The highest path at or above a key that may go as a whole; `None`: the key alone.
    fn highest(&self, key: &Bytes) -> Option<Bytes> {
        let above = path::ancestors(key).take_while(|ancestor| self.may_clear(ancestor));
        above.last().map(|ancestor| key.slice(..ancestor.len()))
    }
}

impl Merge<'_> {
    /// Removes, and tells what it came by of what is kept.
    ///
    /// # Errors
    /// Those of reading what is here.
    pub(crate) fn wipe(&mut self, wipe: &Wipe<'_>) -> Result<Passed> {
        let mut passed = Passed::default();
        self.wipe_space(wipe, Space::Leaves, &mut passed)?;
        if self.here.any_ending() {
            self.wipe_space(wipe, Space::Endings, &mut passed)?;
        }
        self.wipe_space(wipe, Space::Stamps, &mut passed)?;
        Ok(passed)
    }

    fn wipe_space(&mut self, wipe: &Wipe<'_>, space: Space, passed: &mut Passed) -> Result<()> {
        let mut range = wipe.range.clone();
        if matches!(space, Space::Endings)
            && let Some(path) = ending_path(&range.start)
        {
            // Endings are in the order of their paths.
            range.start = Bytes::copy_from_slice(path);
        }
        loop {
            let (chunk, is_last) = self.chunk(space, &range)?;
            let mut next = None;
            for (key, found) in chunk {
                if next.as_ref().is_some_and(|next| key < *next) {
                    continue;
                }
                let behind = self.wipe_one(wipe, &key, found, passed);
                next = Some(behind.unwrap_or_else(|| [&key[..], &[0]].concat().into()));
            }
            match next {
                Some(next) if !is_last => range.start = next,
                _ => return Ok(()),
            }
            if range.is_empty() {
                return Ok(());
            }
        }
    }

    /// What is here from the start of a range, some of it, and whether that is all. Endings are
    /// under their paths.
    fn chunk(&self, space: Space, range: &KeyRange) -> Result<(Vec<(Bytes, Found)>, bool)> {
        let mut chunk: Vec<(Bytes, Found)> = Vec::new();
        let (mut bytes, mut is_last) = (0, true);
        let mut add = |key: &[u8], found: Found| {
            if chunk.len() >= CHUNK_KEYS_MAX || bytes >= CHUNK_BYTES_MAX {
                is_last = false;
                return ControlFlow::Break(());
            }
            bytes += key.len() + if let Found::Leaf(leaf) = &found { leaf.len() } else { 0 };
            chunk.push((Bytes::copy_from_slice(key), found));
            ControlFlow::Continue(())
        };
        match space {
            Space::Leaves => self.here.scan_leaves(range, &mut |key, leaf| {
                add(key, Found::Leaf(Bytes::copy_from_slice(leaf)))
            })?,
            Space::Endings => {
                self.here.scan_endings(range, &mut |key, at| add(key, Found::Ending(at)))?;
            }
            Space::Stamps => {
                self.here.scan_stamps(range, &mut |key, stamp| add(key, Found::Stamp(stamp)))?;
            }
        }
        Ok((chunk, is_last))
    }

    /// Removes one thing, or the subtree around it; returns where the walk goes on, if it jumps.
    fn wipe_one(
        &mut self,
        wipe: &Wipe<'_>,
        found_at: &Bytes,
        found: Found,
        passed: &mut Passed,
    ) -> Option<Bytes> {
        if let Some(edge) = wipe.edge_over(found_at) {
            return Some(path::after_subtree(edge));
        }
        let key = match &found {
            Found::Ending(_) => ending_key(found_at),
            Found::Leaf(_) | Found::Stamp(_) => found_at.clone(),
        };
        if !wipe.range.contains(&key) {
            return None;
        }
        if wipe.is_kept(&key) {
            match found {
                Found::Leaf(leaf) => drop(passed.leaves.insert(key, leaf)),
                Found::Ending(at) => drop(passed.endings.insert(key, at)),
                Found::Stamp(stamp) => drop(passed.stamps.insert(key, stamp)),
            }
            return None;
        }
        if self.is_settled(&key) {
            return None;
        }
        passed.removed_live |= !matches!(found, Found::Stamp(_));
        if let Some(whole) = wipe.highest(&key) {
            let behind = path::after_subtree(&whole);
            self.wiped.insert(whole);
            return Some(behind);
        }
        if let Found::Leaf(leaf) = found {
            let held = Held { version: Version::ZERO, change: StampedChange::Put(leaf) };
            self.keep_before(&key, &held);
        }
        self.own.insert(key, None);
        None
    }
}
