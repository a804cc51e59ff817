//! The overlay's sorted table: every version that somebody may still have to see.
//!
//! Commits are entered when they are resolved and become visible when they are durable: a reader
//! asks for the newest version at or before its rev. A cleared subtree is one entry, not one for
//! each leaf; at the same rev a put wins over a clear, because a commit clears first.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use trellis_engine_traits::{KeyRange, Op, SpaceId, WriteBatch};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::derivation::path_part;
use crate::derived::{IndexEffects, StampEffects};
use crate::effect::Effect;
use crate::here::Stamp;
use crate::path;
use crate::record::{self, Remembered};
use crate::space::{
    self, BY_REV, DATA, EXPIRY, EXPIRY_TIME, INDEX, KEYS, KEYS_TIME, META, SPACES, STALE_KEY, STAMP,
};

/// What the table itself costs for an entry, besides key and value.
const ENTRY_BYTES: usize = 160;
/// What an older version costs, besides its value.
const VERSION_BYTES: usize = 64;
/// Bytes of a table that holds pages: it is applied from here on, and is full at twice that.
pub(crate) const PAGED_BYTES_MAX: usize = 3 << 20;

fn length(value: &Option<Bytes>) -> usize {
    value.as_ref().map_or(0, Bytes::len)
}

/// What a table says of a key.
pub(crate) enum Found {
    /// It has this value.
    Value(Bytes),
    /// It was removed.
    Absent,
    /// Nothing: ask the layer below.
    Unknown,
}

#[derive(Debug)]
struct Versions {
    rev: u64,
    value: Option<Bytes>,
    /// Ascending; only what a reader may still ask for.
    older: Vec<(u64, Option<Bytes>)>,
}

#[derive(Debug, Default)]
pub(crate) struct MemTable {
    spaces: [BTreeMap<Bytes, Versions>; SPACES],
    /// Path key -> revs at which everything at and below it was removed, ascending.
    clears: BTreeMap<Bytes, Vec<u64>>,
    /// The same for keys of indexes.
    index_clears: BTreeMap<Bytes, Vec<u64>>,
    /// Whether what is cleared is cleared of stamps too.
    is_stamped: bool,
    /// Whether a clear left entries by rev behind.
    leaves_stale: bool,
    /// Whether pages of another node are among what was entered.
    is_paged: bool,
    /// Which keys may be here: spares a read that finds nothing the way down the tree.
    filter: Filter,
    bytes: usize,
}

impl MemTable {
    /// A bound on the memory that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is entered comes from a page of another node.
    pub(crate) fn note_page(&mut self) {
        self.is_paged = true;
    }

    /// Whether there is enough in it for a batch, where so much may be in the whole overlay. Pages
    /// come in the order of their keys and are not written over: larger batches of them would
    /// spare the store nothing.
    pub(crate) fn is_due(&self, overlay_bytes_max: usize) -> bool {
        let due_bytes = if self.is_paged { PAGED_BYTES_MAX } else { usize::MAX };
        self.bytes >= due_bytes.min(overlay_bytes_max / 2)
    }

    /// Whether pages have to wait until it is applied.
    pub(crate) fn is_full_of_pages(&self) -> bool {
        self.is_paged && self.bytes >= 2 * PAGED_BYTES_MAX
    }

    /// Whether a clear left entries by rev behind.
    pub(crate) fn leaves_stale(&self) -> bool {
        self.leaves_stale
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spaces.iter().all(BTreeMap::is_empty)
            && self.clears.is_empty()
            && self.index_clears.is_empty()
    }

    pub(crate) fn has_clears(&self, space: SpaceId) -> bool {
        self.clears_of(space).is_some()
    }

    /// What was cleared of a space, if anything was.
    fn clears_of(&self, space: SpaceId) -> Option<&BTreeMap<Bytes, Vec<u64>>> {
        let clears = match space {
            DATA | EXPIRY => &self.clears,
            STAMP if self.is_stamped => &self.clears,
            INDEX => &self.index_clears,
            _ => return None,
        };
        (!clears.is_empty()).then_some(clears)
    }

    /// Enters a commit. Versions that nobody at or after `needed_from` can ask for go.
    pub(crate) fn enter(
        &mut self,
        rev: u64,
        at_ms: u64,
        effects: &[Effect],
        key: Option<&(String, Remembered)>,
        needed_from: u64,
    ) {
        let mut put = |space: SpaceId, key: Bytes, value: Option<Bytes>| {
            self.put(space, key, rev, value, needed_from);
        };
        for effect in effects {
            match effect {
                Effect::Put(key, value) => put(DATA, key.clone(), Some(value.clone())),
                Effect::Delete(key) => put(DATA, key.clone(), None),
                Effect::Expire(key, at) => {
                    put(EXPIRY, key.clone(), Some(at.to_be_bytes().to_vec().into()));
                    put(EXPIRY_TIME, space::time_key(*at, key), Some(Bytes::new()));
                }
                Effect::Unexpire(key) => put(EXPIRY, key.clone(), None),
                Effect::Unindex(key, at) => put(EXPIRY_TIME, space::time_key(*at, key), None),
                Effect::Forget(key, at) => {
                    put(KEYS, key.clone(), None);
                    put(KEYS_TIME, space::time_key(*at, key), None);
                }
                Effect::Clear(_) | Effect::Mark(_) | Effect::Collect(_) => {}
            }
        }
        if let Some((key, answer)) = key
            && let Ok(stored) = record::encode(answer)
        {
            let key = Bytes::copy_from_slice(key.as_bytes());
            put(KEYS_TIME, space::time_key(at_ms, &key), Some(Bytes::new()));
            put(KEYS, key, Some(stored));
        }
        for effect in effects {
            if let Effect::Clear(key) = effect {
                self.bytes += ENTRY_BYTES + key.len();
                self.clears.entry(key.clone()).or_default().push(rev);
            }
        }
    }

    /// Enters what a commit that was just entered changes of indexes.
    pub(crate) fn enter_index(&mut self, rev: u64, changes: IndexEffects, needed_from: u64) {
        for key in changes.deletes {
            self.put(INDEX, key, rev, None, needed_from);
        }
        for entry in changes.puts {
            self.put(INDEX, entry.key, rev, Some(entry.value), needed_from);
        }
        for key in changes.clears {
            self.bytes += ENTRY_BYTES + key.len();
            self.index_clears.entry(key).or_default().push(rev);
        }
    }

    /// Enters what a commit that was just entered changes of stamps.
    pub(crate) fn enter_stamps(&mut self, rev: u64, changes: StampEffects, needed_from: u64) {
        self.is_stamped |= changes.is_stamped;
        self.leaves_stale |= changes.leaves_stale;
        for stale in changes.stale {
            self.put(BY_REV, stale, rev, None, needed_from);
        }
        for key in changes.deletes {
            self.put(STAMP, key, rev, None, needed_from);
        }
        // One buffer for the entries by rev of a commit, and most stamps of one are the same.
        let length = changes.puts.iter().map(|(key, _)| 8 + key.len()).sum();
        let mut buffer = BytesMut::with_capacity(length);
        let mut last: Option<(Stamp, Bytes)> = None;
        for (key, stamp) in changes.puts {
            buffer.extend_from_slice(&stamp.rev.to_be_bytes());
            buffer.extend_from_slice(&key);
            let by_rev = buffer.split().freeze();
            self.put(BY_REV, by_rev, rev, Some(Bytes::new()), needed_from);
            let same = last.take().filter(|(before, _)| *before == stamp);
            let (_, stored) = last.insert(same.unwrap_or_else(|| (stamp, stamp.encode())));
            self.put(STAMP, key, rev, Some(stored.clone()), needed_from);
        }
    }

    /// Whether a leaf has any version here.
    pub(crate) fn has_leaf(&self, key: &[u8]) -> bool {
        self.spaces.get(usize::from(DATA.0)).is_some_and(|leaves| leaves.contains_key(key))
    }

    /// Enters what a leaf was at a rev before all commits that are here.
    pub(crate) fn enter_base(&mut self, key: Bytes, rev: u64, value: Option<Bytes>) {
        self.put(DATA, key, rev, value, rev);
    }

    fn put(
        &mut self,
        space: SpaceId,
        key: Bytes,
        rev: u64,
        value: Option<Bytes>,
        needed_from: u64,
    ) {
        self.filter.insert(key_hash(space, &key));
        let Some(entries) = self.spaces.get_mut(usize::from(space.0)) else { return };
        let value_bytes = value.as_ref().map_or(0, Bytes::len);
        let key_bytes = key.len();
        match entries.entry(key) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                self.bytes += ENTRY_BYTES + key_bytes + value_bytes;
                slot.insert(Versions { rev, value, older: Vec::new() });
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let versions = slot.get_mut();
                self.bytes += value_bytes;
                if versions.rev == rev {
                    self.bytes = self.bytes.saturating_sub(length(&versions.value));
                    versions.value = value;
                    return;
                }
                self.bytes += VERSION_BYTES;
                let replaced = std::mem::replace(&mut versions.value, value);
                versions.older.push((std::mem::replace(&mut versions.rev, rev), replaced));
                // The newest version at or before `needed_from` and all later ones are needed.
                let keep = versions.older.partition_point(|(old, _)| *old <= needed_from);
                for (_, gone) in versions.older.drain(..keep.saturating_sub(1)) {
                    self.bytes = self.bytes.saturating_sub(VERSION_BYTES + length(&gone));
                }
            }
        }
    }

    /// The newest version of a key at or before `at`; `hash` is the key's [`key_hash`].
    pub(crate) fn get(&self, space: SpaceId, key: &[u8], hash: u64, at: u64) -> Found {
        if !self.has_clears(space) && !self.filter.may_hold(hash) {
            return Found::Unknown;
        }
        let entry = self.spaces.get(usize::from(space.0)).and_then(|entries| entries.get(key));
        let version = entry.and_then(|versions| versions.at(at));
        let cleared = self.cleared(space, key, at).map_or(0, |(rev, _)| rev);
        match version {
            Some((rev, value)) if rev >= cleared => {
                value.map_or(Found::Absent, |value| Found::Value(value.clone()))
            }
            _ if cleared > 0 => Found::Absent,
            _ => Found::Unknown,
        }
    }

    /// The newest clear at or before `at` that covers a key, and the length of its path.
    pub(crate) fn cleared(&self, space: SpaceId, key: &[u8], at: u64) -> Option<(u64, usize)> {
        let clears = self.clears_of(space)?;
        let key = if space == INDEX { path_part(key) } else { key };
        let paths = std::iter::once(key).chain(path::ancestors(key));
        paths
            .filter_map(|path| {
                let revs = clears.get(path)?;
                let newest = revs.iter().rev().find(|rev| **rev <= at)?;
                Some((*newest, path.len()))
            })
            .max()
    }

    /// Entries of a range at or before `at`, at most `limit`: their value, or that they are gone.
    /// Returns whether there may be more.
    pub(crate) fn collect(
        &self,
        space: SpaceId,
        range: &KeyRange,
        at: u64,
        limit: usize,
        into: &mut Vec<(Bytes, Option<Bytes>)>,
    ) -> bool {
        let Some(entries) = self.spaces.get(usize::from(space.0)) else { return false };
        if entries.is_empty() || range.is_empty() {
            return false;
        }
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for (key, versions) in entries.range::<Bytes, _>((Bound::Included(&range.start), end)) {
            let Some((rev, value)) = versions.at(at) else { continue };
            let cleared = self.cleared(space, key, at).is_some_and(|(cleared, _)| cleared > rev);
            into.push((key.clone(), if cleared { None } else { value.cloned() }));
            if into.len() >= limit {
                return true;
            }
        }
        false
    }

    /// As [`MemTable::collect`], from the end of the range down.
    pub(crate) fn collect_reverse(
        &self,
        space: SpaceId,
        range: &KeyRange,
        at: u64,
        limit: usize,
        into: &mut Vec<(Bytes, Option<Bytes>)>,
    ) -> bool {
        let Some(entries) = self.spaces.get(usize::from(space.0)) else { return false };
        if entries.is_empty() || range.is_empty() {
            return false;
        }
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(&range.start), end);
        for (key, versions) in entries.range::<Bytes, _>(bounds).rev() {
            let Some((rev, value)) = versions.at(at) else { continue };
            let cleared = self.cleared(space, key, at).is_some_and(|(cleared, _)| cleared > rev);
            into.push((key.clone(), if cleared { None } else { value.cloned() }));
            if into.len() >= limit {
                return true;
            }
        }
        false
    }

    /// Whether any version after `rev` touches the path or what is below it.
    pub(crate) fn changed_after(&self, rev: u64, key: &[u8]) -> bool {
        let range = path::subtree(key);
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(&range.start), end);
        let touched = |space: SpaceId| {
            self.spaces.get(usize::from(space.0)).is_some_and(|entries| {
                entries.range::<Bytes, _>(bounds).any(|(_, versions)| versions.rev > rev)
            })
        };
        let cleared =
            self.clears.range::<Bytes, _>(bounds).any(|(_, revs)| revs.last() > Some(&rev))
                || self.cleared(DATA, key, u64::MAX).is_some_and(|(cleared, _)| cleared > rev);
        // A path may also lead into an array, which is a leaf above it.
        let above = path::ancestors(key).any(|ancestor| {
            let entry = self.spaces.get(usize::from(DATA.0)).and_then(|all| all.get(ancestor));
            entry.is_some_and(|versions| versions.rev > rev)
        });
        cleared || above || touched(DATA) || touched(EXPIRY)
    }

    /// Forgets every version after `rev`: they were never durable.
    pub(crate) fn roll_back(&mut self, rev: u64) {
        for entries in &mut self.spaces {
            entries.retain(|_, versions| {
                while versions.rev > rev {
                    match versions.older.pop() {
                        Some((older, value)) => {
                            versions.rev = older;
                            versions.value = value;
                        }
                        None => return false,
                    }
                }
                true
            });
        }
        for clears in [&mut self.clears, &mut self.index_clears] {
            clears.retain(|_, revs| {
                revs.retain(|cleared| *cleared <= rev);
                !revs.is_empty()
            });
        }
        let entries = self.spaces.iter().flatten();
        let values = entries.map(|(key, versions)| {
            let older = versions.older.iter().map(|(_, value)| VERSION_BYTES + length(value));
            ENTRY_BYTES + key.len() + length(&versions.value) + older.sum::<usize>()
        });
        let clears = self.clears.len() + self.index_clears.len();
        self.bytes = values.sum::<usize>() + clears * ENTRY_BYTES;
    }

    /// The newest state of everything in the table, sorted, as one batch: clears first.
    ///
    /// Indexes and stamps come before the data: of a batch that a store takes in parts, a replay
    /// derives them once more from data that is still what it was, or finds them all there.
    pub(crate) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        // At once, so that growing does not take twice the room. Three more: what goes along.
        let clears = self.index_clears.len() + 3 * self.clears.len();
        batch.ops.reserve_exact(self.spaces.iter().map(BTreeMap::len).sum::<usize>() + clears + 3);
        if self.leaves_stale {
            // Before what it tells of: a store may take a batch in parts.
            batch = batch.put(META, STALE_KEY, Bytes::new());
        }
        for key in self.index_clears.keys() {
            batch.ops.push(Op::DeleteRange(INDEX, path::subtree(key)));
        }
        self.add_entries(INDEX, &mut batch);
        // What is told by rev is derived from the stamps before, so these come after it.
        self.add_entries(BY_REV, &mut batch);
        let stamps = self.is_stamped.then_some(STAMP);
        for key in self.clears.keys() {
            for space in stamps.into_iter().chain([DATA, EXPIRY]) {
                batch.ops.push(Op::DeleteRange(space, path::subtree(key)));
            }
        }
        self.add_entries(STAMP, &mut batch);
        for space in [DATA, EXPIRY, EXPIRY_TIME, KEYS, KEYS_TIME] {
            self.add_entries(space, &mut batch);
        }
        batch
    }

    fn add_entries(&self, space: SpaceId, batch: &mut WriteBatch) {
        let Some(entries) = self.spaces.get(usize::from(space.0)) else { return };
        for (key, versions) in entries {
            let cleared = self.cleared(space, key, u64::MAX).map_or(0, |(rev, _)| rev);
            let at = trellis_engine_traits::At::new(space, key.clone());
            match &versions.value {
                Some(value) if versions.rev >= cleared => {
                    batch.ops.push(Op::Put(at, value.clone()));
                }
                // What a clear covers, its range removes.
                _ if cleared > 0 => {}
                _ => batch.ops.push(Op::Delete(at)),
            }
        }
    }
}

impl Versions {
    fn at(&self, at: u64) -> Option<(u64, Option<&Bytes>)> {
        if self.rev <= at {
            return Some((self.rev, self.value.as_ref()));
        }
        let newest = self.older.iter().rev().find(|(rev, _)| *rev <= at)?;
        Some((newest.0, newest.1.as_ref()))
    }
}

/// The hash of a key under which a table's filter knows it.
pub(crate) fn key_hash(space: SpaceId, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, u64::from(space.0))
}

/// A Bloom filter of two probes, made with the first key. With the 100,000 keys that a full table
/// holds it is wrong for about one absent key in thirty.
#[derive(Debug, Default)]
struct Filter(Vec<u64>);

impl Filter {
    const WORDS: usize = 1 << 14;

    fn probes(hash: u64) -> [(usize, u64); 2] {
        [hash, hash >> 32].map(|half| {
            // The low 20 bits of each half: 14 choose the word, 6 the bit.
            let word = usize::try_from((half >> 6) & 0x3FFF).unwrap_or(0);
            (word, 1 << (half & 63))
        })
    }

    fn insert(&mut self, hash: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; Self::WORDS];
        }
        for (word, bit) in Self::probes(hash) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn may_hold(&self, hash: u64) -> bool {
        !self.0.is_empty()
            && Self::probes(hash)
                .iter()
                .all(|(word, bit)| self.0.get(*word).is_some_and(|word| word & bit != 0))
    }
}
