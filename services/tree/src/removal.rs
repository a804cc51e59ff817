//! A merge removes what a [`Wipe`] names: as few clears and deletes as do it.
//!
//! It walks what is here in order, some at a time; a subtree that holds nothing which stays goes as
//! one clear, and the walk jumps behind it.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Held, Stamp, StampKind, ending_key, ending_paths_from};
use crate::merge::Merge;
use crate::path;
use crate::stamp::{StampedChange, Version};
use crate::wipe::{Passed, Wipe, version_in};

/// Keys looked at in one go; the last one's bytes may go beyond.
const CHUNK_KEYS_MAX: usize = 512;
const CHUNK_BYTES_MAX: usize = 1 << 20;

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
        if matches!(space, Space::Endings) {
            range.start = ending_paths_from(&range.start);
        }
        loop {
            let (chunk, is_last) = self.chunk(space, &range)?;
            let mut next = None;
            for (key, found) in chunk {
                if next.as_ref().is_some_and(|next| key < *next) {
                    continue;
                }
                let behind = self.wipe_one(wipe, &key, found, passed)?;
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
    ) -> Result<Option<Bytes>> {
        if let Some(edge) = wipe.edge_over(found_at) {
            return Ok(Some(path::after_subtree(edge)));
        }
        let key = match &found {
            Found::Ending(_) => ending_key(found_at),
            Found::Leaf(_) | Found::Stamp(_) => found_at.clone(),
        };
        if !wipe.range.contains(&key) {
            return Ok(None);
        }
        if wipe.is_kept(&key) {
            match found {
                Found::Leaf(leaf) => drop(passed.leaves.insert(key, leaf)),
                Found::Ending(at) => drop(passed.endings.insert(key, at)),
                Found::Stamp(stamp) => drop(passed.stamps.insert(key, stamp)),
            }
            return Ok(None);
        }
        if self.is_settled(&key) {
            return Ok(None);
        }
        if let (Found::Stamp(stamp), true) = (&found, wipe.leaves) {
            // It stays, unless it hides what is kept.
            if stamp.kind != StampKind::Live && Wipe::any(wipe.kept, &path::below(&key)) {
                passed.extra.insert(key, stamp.version);
            }
            return Ok(None);
        }
        if let Some(whole) = wipe.highest(&key)
            && let Some(left) = self.left_behind(wipe, &whole, &path::subtree(&whole))?
        {
            let behind = path::after_subtree(&whole);
            if let Some(version) = left.0 {
                let change = StampedChange::Clear;
                self.own.insert(whole.clone(), Some(Held { version, change }));
            }
            self.wiped.insert(whole);
            return Ok(Some(behind));
        }
        let alone = KeyRange::new(key.clone(), Some([&key[..], &[0]].concat().into()));
        let left = self.left_behind(wipe, &key, &alone)?.and_then(|left| left.0);
        let change = match found {
            Found::Leaf(leaf) => {
                let (version, change) = (Version::ZERO, StampedChange::Put(leaf));
                self.keep_before(&key, &Held { version, change });
                StampedChange::Tomb
            }
            Found::Ending(_) => StampedChange::Ending(None),
            Found::Stamp(_) => StampedChange::Tomb,
        };
        self.own.insert(key, left.map(|version| Held { version, change }));
        Ok(None)
    }

    /// The version of the record that is left behind of what goes: the next one, so that it wins
    /// over that wherever it is, and over nothing else. `None` where a kept record above would not
    /// hide it all.
    fn left_behind(&self, wipe: &Wipe<'_>, key: &Bytes, gone: &KeyRange) -> Result<Option<Left>> {
        if !wipe.leaves {
            return Ok(Some(Left(None)));
        }
        let mut newest = Version::ZERO;
        self.here.scan_stamps(gone, &mut |_, stamp| {
            newest = newest.max(stamp.version);
            ControlFlow::Continue(())
        })?;
        if let Some(over) = version_in(wipe.over, key) {
            return Ok((newest < over).then_some(Left(None)));
        }
        Ok(Some(Left(Some(newest.next()))))
    }
}

/// What is left behind: a record of this version, or nothing.
struct Left(Option<Version>);
