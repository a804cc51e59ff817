//! The bytes in the store.
//!
//! | space | key | value |
//! |---|---|---|
//! | 200 | `00 "open"` | format (1 byte, 1), number of the open (u64) |
//! | 200 | stream name | first (u64), next (u64), CRC-32 of key, first and next (u32) |
//! | 201 | stream name, `00`, offset (u64, big endian), part (1 byte) | CRC-32 of key and the rest (u32), parts that follow (1 byte), bytes |
//!
//! Numbers in values are little endian; offsets in keys big endian, so that byte order is their
//! order. A record has one part unless the store's values are smaller than records may be.

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Offset, SpaceId, StreamId};

/// The space of a store that holds the extents of the streams.
pub const STREAMS_SPACE: SpaceId = SpaceId(200);

/// The space of a store that holds the records.
pub const RECORDS_SPACE: SpaceId = SpaceId(201);

/// The key of the number of the open; before every stream name.
pub(crate) const OPEN_KEY: &[u8] = b"\0open";

/// The format that this version writes.
pub(crate) const FORMAT: u8 = 1;

/// Bytes of a part's value beside the record's.
pub(crate) const PART_OVERHEAD_BYTES: usize = 5;

/// The extent of a stream as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Offset,
    pub(crate) next: Offset,
}

/// One stored part of a record.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) offset: Offset,
    pub(crate) number: u8,
    pub(crate) following: u8,
    pub(crate) bytes: &'a [u8],
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

pub(crate) fn open_value(opens: u64) -> Bytes {
    let mut value = vec![FORMAT];
    value.extend_from_slice(&opens.to_le_bytes());
    value.into()
}

/// Format and number of the open.
pub(crate) fn read_open(value: &[u8]) -> Option<(u8, u64)> {
    let (format, rest) = value.split_first()?;
    let opens = rest.first_chunk::<8>().map_or(0, |opens| u64::from_le_bytes(*opens));
    Some((*format, opens))
}

pub(crate) fn stream_key(stream: &StreamId) -> Bytes {
    Bytes::copy_from_slice(stream.as_str().as_bytes())
}

pub(crate) fn extent_value(stream: &StreamId, extent: Extent) -> Bytes {
    let mut value = Vec::with_capacity(20);
    value.extend_from_slice(&extent.first.to_le_bytes());
    value.extend_from_slice(&extent.next.to_le_bytes());
    let sum = checksum(stream.as_str().as_bytes(), &value);
    value.extend_from_slice(&sum.to_le_bytes());
    value.into()
}

/// The stored extent; `None` if the value is damaged.
pub(crate) fn read_extent(key: &[u8], value: &[u8]) -> Option<Extent> {
    let (numbers, sum) = value.split_at_checked(16)?;
    if *sum != checksum(key, numbers).to_le_bytes() {
        return None;
    }
    let (first, next) = (numbers.first_chunk::<8>()?, numbers.last_chunk::<8>()?);
    let extent = Extent { first: u64::from_le_bytes(*first), next: u64::from_le_bytes(*next) };
    (1 <= extent.first && extent.first <= extent.next).then_some(extent)
}

pub(crate) fn part_key(stream: &StreamId, offset: Offset, part: u8) -> Bytes {
    let name = stream.as_str().as_bytes();
    let mut key = Vec::with_capacity(name.len() + 10);
    key.extend_from_slice(name);
    key.push(0);
    key.extend_from_slice(&offset.to_be_bytes());
    key.push(part);
    key.into()
}

/// The keys of the records `from..to`.
pub(crate) fn records_range(stream: &StreamId, from: Offset, to: Offset) -> KeyRange {
    KeyRange::new(part_key(stream, from, 0), Some(part_key(stream, to, 0)))
}

pub(crate) fn part_value(key: &[u8], following: u8, bytes: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(bytes.len() + PART_OVERHEAD_BYTES);
    value.extend_from_slice(&[0; 4]);
    value.push(following);
    value.extend_from_slice(bytes);
    if let Some((sum, rest)) = value.split_first_chunk_mut::<4>() {
        *sum = checksum(key, rest).to_le_bytes();
    }
    value.into()
}

/// The stored part; `None` if key or value is damaged.
pub(crate) fn read_part<'a>(key: &[u8], value: &'a [u8]) -> Option<Part<'a>> {
    let (sum, rest) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != checksum(key, rest) {
        return None;
    }
    let (number, before) = key.split_last()?;
    let (following, bytes) = rest.split_first()?;
    let offset = u64::from_be_bytes(*before.last_chunk::<8>()?);
    Some(Part { offset, number: *number, following: *following, bytes })
}
