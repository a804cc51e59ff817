//! What a scope holds, record by record in the order of keys: leaves, stamps and endings, each read
//! by a scan of its own and merged a slice at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Stamp, StampKind, ending_key, ending_path};
use crate::path::{self, between, outermost};
use crate::space::{DATA, EXPIRY, STAMP};
use crate::stamp::{Scope, StampedChange, StampedOp, Version};
use crate::state::State;
use crate::zoning::Zoning;

/// Entries of each kind read at a time.
const SLICE_ENTRIES: usize = 512;
/// Bytes of leaves read at a time.
const SLICE_BYTES: usize = 1 << 20;

/// The path of a record's key.
pub(crate) fn path_of(key: &[u8]) -> &[u8] {
    ending_path(key).unwrap_or(key)
}

/// The parts of a scope in order: ranges of keys that hold all of it, and what is not wanted of
/// them is told by [`Scope::covers`].
pub(crate) fn ranges(scope: &Scope) -> Vec<KeyRange> {
    let holds = |except: &&Bytes| !scope.within.iter().any(|key| path::covers(except, key));
    let edges = outermost(scope.except.iter().filter(holds).cloned().collect());
    let within = outermost(scope.within.clone());
    within.iter().flat_map(|prefix| between(&path::subtree(prefix), &edges)).collect()
}

/// The newest record above a prefix of the scope in its zone, as a clear of the prefix; `None` when
/// what is there is as new.
///
/// # Errors
/// Those of reading.
pub(crate) fn clear_above(
    state: &State,
    zoning: &dyn Zoning,
    prefix: &Bytes,
) -> Result<Option<StampedOp>> {
    let zone = zoning.zone(prefix);
    let mut newest = Version::ZERO;
    for above in path::ancestors(prefix).take_while(|above| above.len() >= zone.prefix_bytes) {
        if let Some(stamp) = state.stamp(above)? {
            newest = newest.max(stamp.version);
        }
    }
    let own = state.stamp(prefix)?.map_or(Version::ZERO, |stamp| stamp.version);
    let change = StampedChange::Clear;
    Ok((newest > own).then(|| StampedOp { key: prefix.clone(), version: newest, change }))
}

impl State {
    /// The stamp of a key.
    pub(crate) fn stamp(&self, key: &[u8]) -> Result<Option<Stamp>> {
        self.get(STAMP, key)?.map(|stored| Stamp::decode(&stored)).transpose()
    }

    /// The record of a key, if it is stamped.
    pub(crate) fn stamped_op(&self, key: &Bytes, stamp: Stamp) -> Result<Option<StampedOp>> {
        let change = match (stamp.kind, ending_path(key)) {
            (StampKind::Clear, _) => Some(StampedChange::Clear),
            (StampKind::Tomb, None) => Some(StampedChange::Tomb),
            (StampKind::Tomb, Some(_)) => Some(StampedChange::Ending(None)),
            (StampKind::Live, None) => self.get(DATA, key)?.map(StampedChange::Put),
            (StampKind::Live, Some(path)) => {
                Some(StampedChange::Ending(self.get(EXPIRY, path)?.as_deref().and_then(ending)))
            }
        };
        let version = stamp.version;
        Ok(change.map(|change| StampedOp { key: key.clone(), version, change }))
    }

    /// Visits every record in a range, in the order of keys, until the visitor breaks. What was
    /// never stamped has no version. The visitor may read the state.
    ///
    /// # Errors
    /// Those of reading, and of the visitor.
    pub(crate) fn visit_stamped(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(StampedOp) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut rest = range.clone();
        loop {
            let mut slice = Slice { end: rest.end.clone(), ..Slice::default() };
            slice.read_leaves(self, &rest)?;
            slice.read_stamps(self, &rest)?;
            slice.read_endings(self, &rest)?;
            let (found, end) = (std::mem::take(&mut slice.found), slice.end);
            for (key, record) in found {
                if end.as_ref().is_some_and(|end| key >= *end) {
                    break;
                }
                if let Some(op) = record.into_op(key)
                    && visit(op)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            match end {
                Some(end) if Some(&end) != rest.end.as_ref() => rest.start = end,
                _ => return Ok(ControlFlow::Continue(())),
            }
        }
    }
}

fn ending(stored: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(stored.try_into().ok()?))
}

#[derive(Debug, Default)]
struct Found {
    stamp: Option<Stamp>,
    leaf: Option<Bytes>,
    ending: Option<u64>,
}

impl Found {
    fn into_op(self, key: Bytes) -> Option<StampedOp> {
        let version = self.stamp.map_or(Version::ZERO, |stamp| stamp.version);
        let is_ending = ending_path(&key).is_some();
        let change = match (self.leaf, self.ending, self.stamp.map(|stamp| stamp.kind)) {
            (Some(leaf), ..) => StampedChange::Put(leaf),
            (_, Some(at), _) => StampedChange::Ending(Some(at)),
            (.., Some(StampKind::Tomb | StampKind::Live)) if is_ending => {
                StampedChange::Ending(None)
            }
            (.., Some(StampKind::Clear)) => StampedChange::Clear,
            (.., Some(StampKind::Tomb)) => StampedChange::Tomb,
            // A stamp without what it stands for: a check finds it.
            (.., Some(StampKind::Live) | None) => return None,
        };
        Some(StampedOp { key, version, change })
    }
}

/// What the scans found so far, whole before `end`.
#[derive(Debug, Default)]
struct Slice {
    found: BTreeMap<Bytes, Found>,
    end: Option<Bytes>,
}

impl Slice {
    fn at(&mut self, key: Bytes) -> &mut Found {
        self.found.entry(key).or_default()
    }

    /// A scan ended early, behind a key.
    fn cut(&mut self, last: &[u8]) {
        let end: Bytes = [last, &[0][..]].concat().into();
        if self.end.as_ref().is_none_or(|own| end < *own) {
            self.end = Some(end);
        }
    }

    fn read_leaves(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let (mut count, mut bytes, mut last) = (0, 0, None);
        state.scan(DATA, rest, &mut |key, stored| {
            (count, bytes) = (count + 1, bytes + stored.len());
            self.at(Bytes::copy_from_slice(key)).leaf = Some(Bytes::copy_from_slice(stored));
            if count < SLICE_ENTRIES && bytes < SLICE_BYTES {
                return ControlFlow::Continue(());
            }
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        Ok(())
    }

    fn read_stamps(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let (mut count, mut last, mut failure) = (0, None, None);
        let range = KeyRange::new(rest.start.clone(), self.end.clone());
        state.scan(STAMP, &range, &mut |key, stored| {
            match Stamp::decode(stored) {
                Ok(stamp) => self.at(Bytes::copy_from_slice(key)).stamp = Some(stamp),
                Err(error) => failure = Some(error),
            }
            count += 1;
            if count < SLICE_ENTRIES && failure.is_none() {
                return ControlFlow::Continue(());
            }
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        failure.map_or(Ok(()), Err)
    }

    fn read_endings(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let (mut count, mut last) = (0, None);
        // Keys of endings sort as their paths do.
        let start = ending_path(&rest.start)
            .map_or_else(|| rest.start.clone(), |path| rest.start.slice(..path.len()));
        let range = KeyRange::new(start, self.end.clone());
        state.scan(EXPIRY, &range, &mut |path, stored| {
            let key = ending_key(path);
            self.at(key.clone()).ending = ending(stored);
            count += 1;
            if count < SLICE_ENTRIES {
                return ControlFlow::Continue(());
            }
            last = Some(key);
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        Ok(())
    }
}
