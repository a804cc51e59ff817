//! Reading the journal: the records after a rev, as bytes and as what others may know of them.
//!
//! Records are handed on as they stand: what follows a tree, or copies it, appends the same bytes
//! and has the same history, which the chained hashes prove.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::record::{self, Record};

/// A point of a history: a rev, and the hash of the record that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The commit; 0 before the first.
    pub rev: u64,
    /// The hash of its record; all 0 where it is not known, as in an empty tree.
    pub hash: [u8; 16],
}

impl Position {
    /// Whether the hash is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.hash != [0; 16]
    }

    /// The position after a record, if the record continues this one.
    ///
    /// # Errors
    /// `Corrupt` when the record has another rev, or was made after another history.
    pub fn advance(self, record: &JournalRecord) -> Result<Self> {
        if record.rev != self.rev.saturating_add(1) {
            return Err(Error::new(ErrorKind::Corrupt, "the journal has a gap")
                .context("rev_expected", self.rev.saturating_add(1))
                .context("rev", record.rev));
        }
        if self.is_known() && record.previous != self.hash {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the journal does not continue this history: it belongs to another one",
            )
            .context("rev", record.rev));
        }
        Ok(Self { rev: record.rev, hash: record::chain(&record.bytes) })
    }
}

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// The number of its commit.
    pub rev: u64,
    /// The opening in which it was made.
    pub epoch: u64,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: u64,
    /// The hash of the record before it.
    pub previous: [u8; 16],
    /// The record as it stands in the journal.
    pub bytes: Bytes,
}

impl JournalRecord {
    /// Reads a record's bytes; any bytes may be given.
    ///
    /// # Errors
    /// `Corrupt` when they are no record, `Unsupported` for a newer format.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let record = Record::decode(&bytes)?;
        let Record { rev, epoch, at_ms, prev, .. } = record;
        Ok(Self { rev, epoch, at_ms, previous: prev, bytes })
    }
}
