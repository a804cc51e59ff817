//! The bytes of a frame: the records of one append.
//!
//! Numbers are little endian, checksums CRC-32.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `TLF1`, never zero |
//! | 4 | 4 | checksum of everything from 44 on |
//! | 8 | 4 | bytes of the whole frame |
//! | 12 | 4 | records, at least one |
//! | 16 | 8 | offset of the first record |
//! | 24 | 8 | `durable_next` when the frame was written: proves that earlier records were durable |
//! | 32 | 8 | nonce of the segment, so that bytes of another file never match |
//! | 40 | 4 | checksum of 0 to 40 |
//! | 44 | | per record: length (4), checksum of offset, length and bytes (4), bytes |
//!
//! Every bit is covered: the header by its checksum, the body by the one in the header, and each
//! record by its own, so that a read need not hold a whole frame.

use bytes::Bytes;
use trellis_engine_traits::Offset;

pub(crate) const FRAME_HEADER_BYTES: usize = 44;
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
const MAGIC: [u8; 4] = *b"TLF1";

/// A header whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) body_sum: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) records: u32,
    pub(crate) first: Offset,
    pub(crate) durable_next: Offset,
    pub(crate) nonce: u64,
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|chunk| u32::from_le_bytes(*chunk))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The bytes that the frame of `records` takes; `None` if more than a frame can say.
pub(crate) fn frame_bytes(records: &[Bytes]) -> Option<u32> {
    let bodies = records.iter().map(|record| record.len() + RECORD_HEADER_BYTES).sum::<usize>();
    u32::try_from(bodies + FRAME_HEADER_BYTES).ok()
}

/// The checksum of a record at its place.
pub(crate) fn record_sum(offset: Offset, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&(record.len() as u64).to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

/// Writes the frame of `records` into `into`, which it clears; `frame_bytes` is their size.
pub(crate) fn encode(
    into: &mut Vec<u8>,
    records: &[Bytes],
    frame_bytes: u32,
    place: (Offset, Offset, u64),
) {
    let (first, durable_next, nonce) = place;
    into.clear();
    into.reserve(frame_bytes as usize);
    into.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let mut count = 0u32;
    for (offset, record) in (first..).zip(records) {
        // `frame_bytes` fits 32 bits, so each length and the count do.
        into.extend_from_slice(&(record.len() as u32).to_le_bytes());
        into.extend_from_slice(&record_sum(offset, record).to_le_bytes());
        into.extend_from_slice(record);
        count += 1;
    }
    let Some((header, body)) = into.split_first_chunk_mut::<FRAME_HEADER_BYTES>() else { return };
    let mut fields = Vec::with_capacity(FRAME_HEADER_BYTES);
    fields.extend_from_slice(&MAGIC);
    fields.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    fields.extend_from_slice(&frame_bytes.to_le_bytes());
    fields.extend_from_slice(&count.to_le_bytes());
    fields.extend_from_slice(&first.to_le_bytes());
    fields.extend_from_slice(&durable_next.to_le_bytes());
    fields.extend_from_slice(&nonce.to_le_bytes());
    let sum = crc32fast::hash(&fields);
    fields.extend_from_slice(&sum.to_le_bytes());
    header.copy_from_slice(&fields);
}

impl FrameHeader {
    /// The header at the beginning of `bytes`, if it is one of this segment.
    pub(crate) fn parse(bytes: &[u8], nonce: u64) -> Option<Self> {
        let (header, sum) = bytes.get(..FRAME_HEADER_BYTES)?.split_last_chunk::<4>()?;
        if !header.starts_with(&MAGIC) || crc32fast::hash(header) != u32::from_le_bytes(*sum) {
            return None;
        }
        let found = Self {
            body_sum: u32_at(header, 4)?,
            frame_bytes: u32_at(header, 8)?,
            records: u32_at(header, 12)?,
            first: u64_at(header, 16)?,
            durable_next: u64_at(header, 24)?,
            nonce: u64_at(header, 32)?,
        };
        let least = FRAME_HEADER_BYTES as u64 + u64::from(found.records) * 8;
        let sensible = found.records > 0
            && u64::from(found.frame_bytes) >= least
            && found.durable_next <= found.first
            && found.first.checked_add(u64::from(found.records)).is_some();
        (sensible && found.nonce == nonce).then_some(found)
    }

    /// The offset after the frame's last record.
    pub(crate) fn next(&self) -> Offset {
        self.first + u64::from(self.records)
    }
}

/// The position of the first thing in `bytes` that begins like a header.
pub(crate) fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}
