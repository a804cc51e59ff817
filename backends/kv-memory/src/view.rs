//! One state of the store: persistent ordered maps, shared between the store and its snapshots.
//!
//! Invariants: cloning a view copies one pointer per space; changing a clone leaves the original
//! as it was. `live_bytes` is the sum of all key and value lengths.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use trellis_engine_traits::{
    At, CommitSeq, Direction, Guard, KeyRange, Op, Scan, ScanEnd, SpaceId, Visitor,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) seq: CommitSeq,
    pub(crate) live_bytes: u64,
    spaces: BTreeMap<SpaceId, OrdMap<Bytes, Bytes>>,
}

impl View {
    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Option<&Bytes> {
        self.spaces.get(&space)?.get(key)
    }

    pub(crate) fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> ScanEnd {
        let Some(map) = self.spaces.get(&scan.space) else { return ScanEnd::Exhausted };
        if scan.range.is_empty() {
            return ScanEnd::Exhausted;
        }
        let mut pairs = map.range::<_, [u8]>(bounds(&scan.range));
        match scan.direction {
            Direction::Forward => visit_all(&mut pairs, visit),
            Direction::Reverse => visit_all(&mut pairs.rev(), visit),
        }
    }

    /// The index of the first guard that does not hold.
    pub(crate) fn failed_guard(&self, guards: &[Guard]) -> Option<usize> {
        let read = |at: &At| self.get(at.space, &at.key);
        guards.iter().position(|guard| match guard {
            Guard::Absent(at) => read(at).is_some(),
            Guard::Present(at) => read(at).is_none(),
            Guard::Equals(at, value) => read(at) != Some(value),
        })
    }

    pub(crate) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put(at, value) => self.put(at, value),
                Op::Delete(at) => self.delete(at.space, &at.key),
                Op::DeleteRange(space, range) => self.delete_range(*space, range),
            }
        }
    }

    /// Copies key and value: a slice of a caller's large buffer would keep all of it alive.
    fn put(&mut self, at: &At, value: &Bytes) {
        let (key, value) = (Bytes::copy_from_slice(&at.key), Bytes::copy_from_slice(value));
        let (key_bytes, value_bytes) = (key.len() as u64, value.len() as u64);
        match self.spaces.entry(at.space).or_default().insert(key, value) {
            Some(old) => self.live_bytes -= old.len() as u64,
            None => self.live_bytes += key_bytes,
        }
        self.live_bytes += value_bytes;
    }

    fn delete(&mut self, space: SpaceId, key: &[u8]) {
        let Some(map) = self.spaces.get_mut(&space) else { return };
        if let Some(old) = map.remove(key) {
            self.live_bytes -= (key.len() + old.len()) as u64;
        }
    }

    fn delete_range(&mut self, space: SpaceId, range: &KeyRange) {
        let Some(map) = self.spaces.get(&space) else { return };
        if range.is_empty() {
            return;
        }
        let keys: Vec<Bytes> =
            map.range::<_, [u8]>(bounds(range)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.delete(space, &key);
        }
    }
}

/// The caller has seen to it that the range is not empty, which the map would refuse.
fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(&range.start), end)
}

fn visit_all<'a>(
    pairs: &mut dyn Iterator<Item = (&'a Bytes, &'a Bytes)>,
    visit: &mut Visitor<'_>,
) -> ScanEnd {
    for (key, value) in pairs {
        if visit(key, value).is_break() {
            return ScanEnd::Stopped;
        }
    }
    ScanEnd::Exhausted
}
