//! What a scope holds, record by record in the order of keys: leaves, stamps and endings, each read
//! by a scan of its own and merged a slice at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Stamp, StampKind, ending_key, ending_path, ending_paths_from};
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

    /// Visits every record in a range, in the order of keys, until the visitor breaks; `items` are
    /// wanted, about. What was never stamped has no version. The visitor may read the state.
    ///
    /// # Errors
    /// Those of reading, and of the visitor.
    pub(crate) fn visit_stamped(
        &self,
        range: &KeyRange,
        items: usize,
        visit: &mut dyn FnMut(Seen<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut rest = range.clone();
        // One more, so that it is known where the next page begins.
        let entries = items.clamp(1, SLICE_ENTRIES - 1) + 1;
        loop {
            let mut slice = Slice { end: rest.end.clone(), entries, ..Slice::default() };
            slice.read_leaves(self, &rest)?;
            slice.read_stamps(self, &rest)?;
            slice.read_endings(self, &rest)?;
            if slice.visit(visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            match slice.end {
                Some(end) if Some(&end) != rest.end.as_ref() => rest.start = end,
                _ => return Ok(ControlFlow::Continue(())),
            }
        }
    }
}

fn ending(stored: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(stored.try_into().ok()?))
}

/// A record as a scan comes by it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) version: Version,
    pub(crate) change: SeenChange<'a>,
}

/// As [`StampedChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenChange<'a> {
    Put(&'a [u8]),
    Tomb,
    Clear,
    Ending(Option<u64>),
}

/// Records with one buffer for the keys and the leaves of all.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    buffer: Vec<u8>,
    /// Where the key ends and where the leaf does; what is no leaf as it is.
    records: Vec<(usize, usize, Version, Option<StampedChange>)>,
}

impl Packed {
    pub(crate) fn push(&mut self, seen: Seen<'_>) {
        self.buffer.extend_from_slice(seen.key);
        let key_end = self.buffer.len();
        let other = match seen.change {
            SeenChange::Put(leaf) => {
                self.buffer.extend_from_slice(leaf);
                None
            }
            SeenChange::Tomb => Some(StampedChange::Tomb),
            SeenChange::Clear => Some(StampedChange::Clear),
            SeenChange::Ending(at) => Some(StampedChange::Ending(at)),
        };
        self.records.push((key_end, self.buffer.len(), seen.version, other));
    }

    /// The records; each keeps the whole buffer.
    pub(crate) fn into_ops(self) -> impl Iterator<Item = StampedOp> {
        let buffer = Bytes::from(self.buffer);
        let mut begin = 0;
        self.records.into_iter().map(move |(key_end, end, version, other)| {
            let key = buffer.slice(begin..key_end);
            begin = end;
            let put = || StampedChange::Put(buffer.slice(key_end..end));
            StampedOp { key, version, change: other.unwrap_or_else(put) }
        })
    }
}

/// A leaf in a slice's buffer.
#[derive(Debug)]
struct Leaf {
    begin: usize,
    key_end: usize,
    end: usize,
    version: Version,
}

/// What is no leaf.
#[derive(Debug, Default)]
struct Found {
    stamp: Option<Stamp>,
    ending: Option<u64>,
}

impl Found {
    fn seen<'a>(&self, key: &'a [u8]) -> Option<Seen<'a>> {
        let version = self.stamp.map_or(Version::ZERO, |stamp| stamp.version);
        let is_ending = ending_path(key).is_some();
        let change = match (self.ending, self.stamp.map(|stamp| stamp.kind)) {
            (Some(at), _) => SeenChange::Ending(Some(at)),
            (_, Some(StampKind::Tomb | StampKind::Live)) if is_ending => SeenChange::Ending(None),
            (_, Some(StampKind::Clear)) => SeenChange::Clear,
            (_, Some(StampKind::Tomb)) => SeenChange::Tomb,
            // A stamp without what it stands for: a check finds it.
            (_, Some(StampKind::Live) | None) => return None,
        };
        Some(Seen { key, version, change })
    }
}

/// What the scans found so far, whole before `end`.
#[derive(Debug, Default)]
struct Slice {
    /// Keys and bytes of the leaves.
    buffer: Vec<u8>,
    /// In the order of their keys.
    leaves: Vec<Leaf>,
    others: BTreeMap<Bytes, Found>,
    /// Entries of each kind read at most.
    entries: usize,
    end: Option<Bytes>,
}

impl Slice {
    /// A scan ended early, behind a key.
    fn cut(&mut self, last: &[u8]) {
        let end: Bytes = [last, &[0][..]].concat().into();
        if self.end.as_ref().is_none_or(|own| end < *own) {
            self.end = Some(end);
        }
    }

    fn seen(&self, leaf: &Leaf) -> Option<Seen<'_>> {
        let key = self.buffer.get(leaf.begin..leaf.key_end)?;
        let change = SeenChange::Put(self.buffer.get(leaf.key_end..leaf.end)?);
        Some(Seen { key, version: leaf.version, change })
    }

    fn visit(
        &self,
        visit: &mut dyn FnMut(Seen<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let is_whole = |key: &[u8]| self.end.as_ref().is_none_or(|end| *key < **end);
        let mut others = self.others.iter().peekable();
        for seen in self.leaves.iter().filter_map(|leaf| self.seen(leaf)) {
            while let Some((key, other)) = others.next_if(|(key, _)| ***key < *seen.key) {
                if let Some(seen) = other.seen(key).filter(|_| is_whole(key))
                    && visit(seen)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if is_whole(seen.key) && visit(seen)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for (key, other) in others {
            if let Some(seen) = other.seen(key).filter(|_| is_whole(key))
                && visit(seen)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read_leaves(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let mut last = None;
        state.scan(DATA, rest, &mut |key, stored| {
            let begin = self.buffer.len();
            self.buffer.extend_from_slice(key);
            let key_end = self.buffer.len();
            self.buffer.extend_from_slice(stored);
            let (end, version) = (self.buffer.len(), Version::ZERO);
            self.leaves.push(Leaf { begin, key_end, end, version });
            if self.leaves.len() < self.entries && end < SLICE_BYTES {
                return ControlFlow::Continue(());
            }
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        Ok(())
    }

    fn read_stamps(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let (mut left, mut last, mut failure) = (2 * self.entries, None, None);
        let range = KeyRange::new(rest.start.clone(), self.end.clone());
        let Self { buffer, leaves, others, .. } = self;
        let mut leaves = leaves.iter_mut().peekable();
        state.scan(STAMP, &range, &mut |key, stored| {
            match Stamp::decode(stored) {
                Ok(stamp) => {
                    let key_of = |leaf: &Leaf| buffer.get(leaf.begin..leaf.key_end);
                    while leaves.next_if(|leaf| key_of(leaf) < Some(key)).is_some() {}
                    match leaves.next_if(|leaf| key_of(leaf) == Some(key)) {
                        Some(leaf) => leaf.version = stamp.version,
                        None => {
                            let found = Found { stamp: Some(stamp), ending: None };
                            others.insert(Bytes::copy_from_slice(key), found);
                        }
                    }
                }
                Err(error) => failure = Some(error),
            }
            left -= 1;
            if left > 0 && failure.is_none() {
                return ControlFlow::Continue(());
            }
            last = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        failure.map_or(Ok(()), Err)
    }

    fn read_endings(&mut self, state: &State, rest: &KeyRange) -> Result<()> {
        let (mut left, mut last) = (self.entries, None);
        // Keys of endings sort as their paths do.
        let range = KeyRange::new(ending_paths_from(&rest.start), self.end.clone());
        state.scan(EXPIRY, &range, &mut |path, stored| {
            let key = ending_key(path);
            self.others.entry(key.clone()).or_default().ending = ending(stored);
            left -= 1;
            if left > 0 {
                return ControlFlow::Continue(());
            }
            last = Some(key);
            ControlFlow::Break(())
        })?;
        last.into_iter().for_each(|last| self.cut(&last));
        Ok(())
    }
}
