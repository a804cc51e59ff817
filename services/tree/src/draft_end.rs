//! Ending: the removal of a path that is due, in the versions that its zones ask for.
//!
//! What is removed as a whole goes with one clear. Else each leaf and each ending goes by itself, a
//! bounded number in a commit, and the path's own ending last: until then all of it is hidden, here
//! and at whoever was told of a part.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result, SpaceId};

use crate::draft::Draft;
use crate::here::{Stamp, ending_key};
use crate::path::{self, between};
use crate::space::{DATA, EXPIRY, STAMP};
use crate::stamp::Version;
use crate::stamped_scan::path_of;
use crate::zoning::{Endings, Tracking};

/// What one commit removes because it ended: leaves, endings, and bytes of keys.
pub(crate) const ENDED_ITEMS_MAX: usize = 8192;
const ENDED_BYTES_MAX: usize = 4 << 20;
/// Keys read at a time.
const CHUNK_KEYS: usize = 512;

/// An end where every node carries it out.
#[derive(Debug, Clone, Copy)]
struct End {
    /// Just later than when it was set, and by nobody.
    set: Version,
    /// When it is due. What is later stays.
    due: Version,
}

impl Draft<'_> {
    /// Removes a path that is due, unless another node does; `false` when some of it is left for
    /// another commit. A draft that removed nothing yet removes something.
    pub(crate) fn end(&mut self, key: &Bytes) -> Result<bool> {
        let zone = self.zoning.map(|zoning| zoning.zone(key));
        let is_tracked = zone.filter(|zone| zone.tracking != Tracking::None);
        if is_tracked.is_some_and(|zone| zone.endings == Endings::Elsewhere) {
            return Ok(true);
        }
        if !self.has_room_to_end() {
            return Ok(false);
        }
        if let Some(at_ms) = self.expiry(key)? {
            let stamp = self.state.stamp(&ending_key(key))?;
            let set = stamp.map_or(Version::ZERO, |stamp| stamp.version);
            let set = Version { hlc: set.hlc.saturating_add(1), origin: 0 };
            let due = Version { hlc: at_ms.min(u64::MAX >> 16) << 16, origin: 0 }.max(set);
            if !self.end_zone(key, End { set, due })? {
                return Ok(false);
            }
        }
        self.expire(key, None);
        Ok(true)
    }

    fn has_room_to_end(&self) -> bool {
        self.items() < ENDED_ITEMS_MAX && self.bytes() < ENDED_BYTES_MAX
    }

    /// Where every node ends a path, each removal is just later than what it removes: who ends a
    /// path before it has heard that it was written anew must not win over that.
    fn end_zone(&mut self, key: &Bytes, end: End) -> Result<bool> {
        let zone = self.zoning.map(|zoning| zoning.zone(key));
        let is_everywhere = zone.is_some_and(|zone| {
            zone.tracking != Tracking::None && zone.endings == Endings::Everywhere
        });
        let end_here = is_everywhere.then_some(end);
        let carved = self.zoning.map(|zoning| zoning.carved(key)).unwrap_or_default();
        let is_whole = carved.is_empty()
            && match end_here {
                Some(end) => !self.is_written_since(key, end.set)?,
                None => true,
            };
        if is_whole {
            self.remove(key)?;
        } else {
            let in_zone = (DATA, path::subtree(key));
            for (space, range) in [in_zone, (EXPIRY, path::below(key))] {
                for gap in between(&range, &carved) {
                    if !self.end_each(space, gap, end_here)? {
                        return Ok(false);
                    }
                }
            }
            // They go with their path, but for what belongs to other nodes alone.
            let kept = self.zoning.map(|zoning| zoning.kept(key)).unwrap_or_default();
            for zone in carved.iter().filter(|zone| !kept.contains(zone)) {
                if !self.end_zone(zone, end)? {
                    return Ok(false);
                }
            }
        }
        if is_everywhere {
            self.tell_end(key.clone(), end.set);
        }
        Ok(true)
    }

    /// Removes, one by one, the leaves or the endings in a range, but what is later than the end.
    fn end_each(&mut self, space: SpaceId, mut rest: KeyRange, end: Option<End>) -> Result<bool> {
        loop {
            let mut chunk = Vec::new();
            self.state.scan(space, &rest, &mut |at, _| {
                chunk.push(Bytes::copy_from_slice(at));
                if chunk.len() < CHUNK_KEYS {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            let Some(last) = chunk.last() else { return Ok(true) };
            rest.start = [&last[..], &[0]].concat().into();
            for at in chunk {
                if !self.has_room_to_end() {
                    return Ok(false);
                }
                self.end_one(space, at, end)?;
            }
        }
    }

    fn end_one(&mut self, space: SpaceId, at: Bytes, end: Option<End>) -> Result<()> {
        let is_leaf = space == DATA;
        let stamp = self.state.stamp(&if is_leaf { at.clone() } else { ending_key(&at) })?;
        let version = stamp.map_or(Version::ZERO, |stamp| stamp.version);
        if end.is_some_and(|end| version > end.due) {
            return Ok(());
        }
        if is_leaf && self.take_leaf(&at)?.is_some() {
            self.delete(at.clone());
        } else if !is_leaf && self.expiry(&at)?.is_some() {
            self.expire(&at, None);
        } else {
            return Ok(());
        }
        if end.is_some() {
            self.tell_end(at, version.next());
        }
        Ok(())
    }

    /// A path's leaf and its ending are told in one version.
    fn tell_end(&mut self, key: Bytes, version: Version) {
        let told = self.told.endings.entry(key).or_default();
        *told = version.max(*told);
    }

    /// Whether something at or below a path was written after its end was set.
    fn is_written_since(&self, key: &Bytes, set: Version) -> Result<bool> {
        let mut found = Ok(false);
        self.state.scan(STAMP, &path::subtree(key), &mut |at, stored| {
            match Stamp::decode(stored) {
                Ok(stamp) => found = Ok(stamp.version > set && path_of(at) != key),
                Err(error) => found = Err(error),
            }
            if matches!(found, Ok(false)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        found
    }
}
