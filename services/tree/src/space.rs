//! The spaces of a store, and the keys of its own notes.

use bytes::Bytes;
use trellis_engine_traits::SpaceId;

/// The store's own notes.
pub(crate) const META: SpaceId = SpaceId(0);
/// Path key -> leaf.
pub(crate) const DATA: SpaceId = SpaceId(1);
/// Path key -> when it ends, u64 big endian.
pub(crate) const EXPIRY: SpaceId = SpaceId(2);
/// When (u64 big endian), path key -> nothing.
pub(crate) const EXPIRY_TIME: SpaceId = SpaceId(3);
/// Idempotency key -> remembered answer.
pub(crate) const KEYS: SpaceId = SpaceId(4);
/// When (u64 big endian), idempotency key -> nothing.
pub(crate) const KEYS_TIME: SpaceId = SpaceId(5);
/// Index id, collection and sort key, child -> length of the sort key: derived from the data.
pub(crate) const INDEX: SpaceId = SpaceId(6);
/// Path key -> its stamp: derived from the records.
pub(crate) const STAMP: SpaceId = SpaceId(7);
/// Rev (u64 big endian), path key -> nothing: derived from the records.
pub(crate) const BY_REV: SpaceId = SpaceId(8);
/// How many spaces the overlay holds, `META` among them unused.
pub(crate) const SPACES: usize = 9;

/// The key of an ordered-by-time entry.
pub(crate) fn time_key(at_ms: u64, key: &[u8]) -> Bytes {
    let mut time_key = Vec::with_capacity(8 + key.len());
    time_key.extend_from_slice(&at_ms.to_be_bytes());
    time_key.extend_from_slice(key);
    time_key.into()
}

/// Time and key of an ordered-by-time entry.
pub(crate) fn split_time_key(time_key: &[u8]) -> Option<(u64, &[u8])> {
    let (time, key) = time_key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), key))
}

/// The key of [`Applied`] in the store's notes.
pub(crate) const APPLIED_KEY: &[u8] = b"applied";
/// Where the store says how far it has come with indexes.
pub(crate) const INDEXES_KEY: &[u8] = b"indexes";
/// Where the store says that entries may be left behind.
pub(crate) const STALE_KEY: &[u8] = b"stale";
/// Where the store says which stamps it holds.
pub(crate) const STAMPING_KEY: &[u8] = b"stamping";
