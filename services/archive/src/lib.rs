//! Archives: a tree, or what happened to it since a rev, as one stream of bytes.
//!
//! Purpose: backup, restore and the move from one store to another are the same act, and this is
//! what travels between the two sides: the same bytes in a file, in a pipe and over a connection.
//!
//! A full archive is taken from a tree that goes on being written, without a long read: entries
//! page by page, each page at a rev of its own, then the journal's records from the rev at which
//! the reading began. Records are plain puts and removals, so that both together give exactly the
//! state at any rev from that of the last page on. An incremental archive is the records alone.
//!
//! # Format, version 1
//! All numbers are little endian. `TRELLIS` and a zero byte, the version as u32, then chunks:
//!
//! | bytes | |
//! |---|---|
//! | 1 | kind: 1 header, 2 entries, 3 end of entries, 4 records, 5 trailer |
//! | 4 | length of the payload, at most [`CHUNK_BYTES_MAX`] |
//! | length | payload |
//! | 16 | the first bytes of BLAKE3 over the tag before this chunk, kind, length and payload |
//!
//! The tag before the first chunk is that of the first twelve bytes. So each tag proves everything
//! before it, in its order, and that of the trailer the whole archive.
//!
//! - header: 1 full or 2 incremental (u8), log id (16), epoch (u64), the position before the first
//!   record (rev u64, hash 16), when it was begun (ms since 1970, u64);
//! - entries: kind of pair (u8), how many (u32), then for each the lengths of key and value (u32
//!   each), key, value; ascending through the whole archive;
//! - end of entries: the rev of the last page (u64);
//! - records: how many (u32), then for each its length (u32) and the record as it stands in the
//!   journal;
//! - trailer: how many entries and records in all (u64 each), the position after the last record
//!   (rev u64, hash 16), the time of the last record (u64, 0 without one). Nothing follows.
//!
//! Invariants:
//! 1. Whatever is damaged, missing or too much is found, and answered with `corrupt` and the
//!    position; no bytes make the reader panic or take more memory than one chunk.
//! 2. An archive without its trailer is cut short, and never taken for a whole one.
//!
//! Deliberately absent: files and directories, which are the platform's, and compression.

mod backup;
mod decode;
mod encode;
mod format;
mod restore;

pub use backup::{Backup, BackupReader};
pub use decode::{ArchiveReader, Chunk, Entries, parse};
pub use format::{ArchiveKind, CHUNK_BYTES_MAX, Header, Summary, TRAILER_CHUNK_BYTES, Trailer};
pub use restore::{Restore, Until};
