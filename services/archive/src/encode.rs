//! Values to the bytes of an archive, chunk by chunk.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{EntrySpace, JournalRecord, Position};

use crate::format::{
    self, CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, ENTRIES, ENTRIES_END, HEADER, Header, MAGIC, RECORDS,
    TRAILER, Tag, Trailer, VERSION,
};

/// Keeps what each chunk has to prove of those before it.
#[derive(Debug)]
pub(crate) struct Encoder {
    tag: Tag,
    pub(crate) trailer: Trailer,
}

/// Pairs of one kind on their way into a chunk.
#[derive(Debug)]
pub(crate) struct EntriesBody {
    bytes: Vec<u8>,
    count: u32,
}

impl EntriesBody {
    pub(crate) fn new(space: EntrySpace) -> Self {
        let mut bytes = vec![0; CHUNK_HEAD_BYTES];
        bytes.push(space.number());
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, count: 0 }
    }

    /// Adds a pair; returns the size so far.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> usize {
        for field in [key, value] {
            // No field is as long as a chunk may be.
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.count += 1;
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Encoder {
    /// Begins an archive: its first bytes, the header included.
    pub(crate) fn begin(header: &Header) -> Result<(Self, Vec<u8>)> {
        let mut start = MAGIC.to_vec();
        start.extend_from_slice(&VERSION.to_le_bytes());
        let trailer = Trailer { end: header.from, ..Trailer::default() };
        let mut encoder = Self { tag: format::first_tag(&start), trailer };
        let mut chunk = vec![0; CHUNK_HEAD_BYTES];
        header.encode(&mut chunk);
        start.append(&mut encoder.seal(HEADER, chunk)?);
        Ok((encoder, start))
    }

    pub(crate) fn entries(&mut self, body: EntriesBody) -> Result<Vec<u8>> {
        let EntriesBody { mut bytes, count } = body;
        let place = bytes.iter_mut().skip(CHUNK_HEAD_BYTES + 1);
        for (target, byte) in place.zip(count.to_le_bytes()) {
            *target = byte;
        }
        self.trailer.entries += u64::from(count);
        self.seal(ENTRIES, bytes)
    }

    pub(crate) fn entries_end(&mut self, rev: u64) -> Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_HEAD_BYTES];
        chunk.extend_from_slice(&rev.to_le_bytes());
        self.seal(ENTRIES_END, chunk)
    }

    /// Adds records; each has to continue the one before.
    pub(crate) fn records(&mut self, records: &[JournalRecord]) -> Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_HEAD_BYTES];
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        chunk.extend_from_slice(&count.to_le_bytes());
        for record in records {
            self.trailer.end = self.trailer.end.advance(record)?;
            self.trailer.end_ms = record.at_ms;
            self.trailer.records += 1;
            let length = u32::try_from(record.bytes.len()).unwrap_or(u32::MAX);
            chunk.extend_from_slice(&length.to_le_bytes());
            chunk.extend_from_slice(&record.bytes);
        }
        self.seal(RECORDS, chunk)
    }

    pub(crate) fn position(&self) -> Position {
        self.trailer.end
    }

    pub(crate) fn end(&mut self) -> Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_HEAD_BYTES];
        self.trailer.encode(&mut chunk);
        self.seal(TRAILER, chunk)
    }

    /// Fills in kind and length, for which the chunk has room in front, and adds the tag.
    fn seal(&mut self, kind: u8, mut chunk: Vec<u8>) -> Result<Vec<u8>> {
        let payload_bytes = chunk.len().saturating_sub(CHUNK_HEAD_BYTES);
        if payload_bytes > CHUNK_BYTES_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "a chunk of the archive is too large")
                .operation("backup")
                .context("chunk_bytes_max", CHUNK_BYTES_MAX));
        }
        let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes();
        let head = std::iter::once(kind).chain(length);
        for (target, byte) in chunk.iter_mut().zip(head) {
            *target = byte;
        }
        let (head, payload) = chunk.split_at_checked(CHUNK_HEAD_BYTES).unwrap_or_default();
        self.tag = format::next_tag(&self.tag, head, payload);
        chunk.extend_from_slice(&self.tag);
        Ok(chunk)
    }
}
