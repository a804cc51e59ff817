//! The parts of an archive as plain values, and their bytes.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::Position;

/// What an archive begins with, before its version.
pub(crate) const MAGIC: &[u8; 8] = b"TRELLIS\0";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// Bytes of magic and version.
pub(crate) const START_BYTES: usize = 12;
/// Bytes of a chunk's kind and length.
pub(crate) const CHUNK_HEAD_BYTES: usize = 5;
/// Bytes of the last chunk of every archive.
pub const TRAILER_CHUNK_BYTES: usize = CHUNK_HEAD_BYTES + 48 + size_of::<Tag>();
/// The largest payload of a chunk: a journal record of the largest size fits.
pub const CHUNK_BYTES_MAX: usize = 32 << 20;

pub(crate) const HEADER: u8 = 1;
pub(crate) const ENTRIES: u8 = 2;
pub(crate) const ENTRIES_END: u8 = 3;
pub(crate) const RECORDS: u8 = 4;
pub(crate) const TRAILER: u8 = 5;

/// Proves a chunk and everything before it.
pub(crate) type Tag = [u8; 16];

pub(crate) fn first_tag(start: &[u8]) -> Tag {
    short(blake3::hash(start))
}

/// The tag after a chunk, given as kind, length and payload.
pub(crate) fn next_tag(before: &Tag, head: &[u8], payload: &[u8]) -> Tag {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(head).update(payload);
    short(hasher.finalize())
}

fn short(hash: blake3::Hash) -> Tag {
    let mut tag = Tag::default();
    for (target, byte) in tag.iter_mut().zip(hash.as_bytes()) {
        *target = *byte;
    }
    tag
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// Everything.
    Full,
    /// What happened since the end of another archive.
    Incremental,
}

/// What an archive says of itself before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it holds.
    pub kind: ArchiveKind,
    /// Whose history it is.
    pub log_id: u128,
    /// The source's opening at the time.
    pub epoch: u64,
    /// The position before its first record.
    pub from: Position,
    /// When it was begun, in milliseconds since 1970. Everything that was committed until then is
    /// in it.
    pub created_ms: u64,
}

impl Header {
    /// The history's id as the server shows it: 32 hexadecimal digits.
    #[must_use]
    pub fn log_id_text(&self) -> String {
        format!("{:032x}", self.log_id)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            ArchiveKind::Full => 1,
            ArchiveKind::Incremental => 2,
        });
        out.extend_from_slice(&self.log_id.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        encode_position(self.from, out);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self> {
        let mut fields = Fields(payload);
        let kind = match fields.array()? {
            [1] => ArchiveKind::Full,
            [2] => ArchiveKind::Incremental,
            _ => return Err(corrupt("the archive's kind is unknown")),
        };
        let log_id = u128::from_le_bytes(fields.array()?);
        let (epoch, from, created_ms) = (fields.u64()?, fields.position()?, fields.u64()?);
        fields.end()?;
        Ok(Self { kind, log_id, epoch, from, created_ms })
    }
}

/// What an archive says of itself at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailer {
    /// Entries in the archive.
    pub entries: u64,
    /// Records in the archive.
    pub records: u64,
    /// The position after its last record: the newest state that it holds.
    pub end: Position,
    /// The time of its last record, in milliseconds since 1970; 0 without one.
    pub end_ms: u64,
}

impl Trailer {
    /// Reads what the last [`TRAILER_CHUNK_BYTES`] bytes of an archive say, without proving it: for
    /// looking around among archives, never instead of reading them.
    ///
    /// # Errors
    /// `Corrupt` when they are no trailer, as in an archive that is cut short.
    pub fn peek(end: &[u8; TRAILER_CHUNK_BYTES]) -> Result<Self> {
        let mut fields = Fields(end);
        let [kind] = fields.array()?;
        let payload_bytes = TRAILER_CHUNK_BYTES - CHUNK_HEAD_BYTES - size_of::<Tag>();
        if kind != TRAILER || fields.length()? != payload_bytes {
            return Err(corrupt("the archive is cut short: it ends before its trailer"));
        }
        Self::decode(fields.bytes(payload_bytes)?)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        encode_position(self.end, out);
        out.extend_from_slice(&self.end_ms.to_le_bytes());
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self> {
        let mut fields = Fields(payload);
        let (entries, records) = (fields.u64()?, fields.u64()?);
        let (end, end_ms) = (fields.position()?, fields.u64()?);
        fields.end()?;
        Ok(Self { entries, records, end, end_ms })
    }
}

/// A whole archive, read and found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// What it says at its beginning.
    pub header: Header,
    /// The oldest rev that a full archive can be restored to; an incremental one's `from`.
    pub first_rev: u64,
    /// What it says at its end.
    pub trailer: Trailer,
    /// Its size.
    pub bytes: u64,
}

fn encode_position(position: Position, out: &mut Vec<u8>) {
    out.extend_from_slice(&position.rev.to_le_bytes());
    out.extend_from_slice(&position.hash);
}

pub(crate) fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, message).operation("read archive")
}

/// Takes the fields of a payload one by one.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| corrupt("a field is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| corrupt("a field is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn length(&mut self) -> Result<usize> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| corrupt("a length is too large"))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn position(&mut self) -> Result<Position> {
        Ok(Position { rev: self.u64()?, hash: self.array()? })
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(corrupt("a chunk is longer than its fields")) }
    }
}
