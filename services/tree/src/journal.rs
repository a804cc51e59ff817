//! Reading the journal: the records after a rev, as bytes and as what others may know of them.
//!
//! Records are handed on as they stand: what follows a tree, or copies it, appends the same bytes
//! and has the same history, which the chained hashes prove.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, ReadBudget, Result};

use crate::core::{Core, closed};
use crate::record::{self, Record};
use crate::tree::Tree;

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

impl Tree {
    /// The newest visible commit and the hash of its record.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core().position()
    }

    /// The records after `after` in order: about `bytes_max` bytes of them, at least one if there
    /// is one, none beyond the newest visible commit. Empty when there is none.
    ///
    /// Whoever reads on from page to page holds the journal meanwhile
    /// ([`Tree::hold_journal_after`]).
    ///
    /// # Errors
    /// `NotFound` when the journal no longer reaches back that far, `InvalidInput` for a rev that
    /// is not there yet, `Corrupt` for a damaged record, `Closed`; those of the journal.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trellis_kv_memory::MemoryKv;
    /// use trellis_log_memory::MemoryLog;
    /// use trellis_runtime::Runtime;
    /// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
    ///
    /// # let options = TreeOptions::default();
    /// # let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    /// let tree = Tree::open(kv, log, Runtime::system(), options)?;
    /// let before = tree.position();
    /// tree.commit(Commit::set(Path::parse("a")?, Input::parse(b"1")?)).unwrap();
    /// let records = tree.read_journal(before.rev, 1 << 20)?;
    /// assert_eq!(before.advance(&records[0])?, tree.position());
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn read_journal(&self, after: u64, bytes_max: usize) -> Result<Vec<JournalRecord>> {
        let core = self.core();
        core.check_reach(after)?;
        let visible = core.visible.load(Ordering::Acquire);
        let mut records = Vec::new();
        if after == visible {
            return Ok(records);
        }
        let mut failure = None;
        let mut bytes_left = bytes_max;
        let from = after + 1 - core.base;
        let read = core.log.read(&core.journal, from, ReadBudget::UNLIMITED, &mut |_, bytes| {
            match JournalRecord::decode(Bytes::copy_from_slice(bytes)) {
                Ok(record) if record.rev <= visible => {
                    let last = record.rev == visible;
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    records.push(record);
                    if last || bytes_left == 0 {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Break(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(out_of_reach(after)),
            Err(error) => Err(error),
            Ok(_) => failure.map_or(Ok(records), Err),
        }
    }
}

fn out_of_reach(after: u64) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "the journal no longer reaches back to this rev; take a full copy instead",
    )
    .context("after_rev", after)
}

impl Core {
    pub(crate) fn position(&self) -> Position {
        let hash = self.visible_chain.lock();
        Position { rev: self.visible.load(Ordering::Acquire), hash: *hash }
    }

    /// Whether the journal holds everything after a rev.
    pub(crate) fn check_reach(&self, after: u64) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let visible = self.visible.load(Ordering::Acquire);
        if after > visible {
            return Err(Error::new(ErrorKind::InvalidInput, "this rev is not there yet")
                .context("rev", after)
                .context("visible_rev", visible));
        }
        let first = self.log.bounds(&self.journal)?.first;
        if after < self.base || after + 1 - self.base < first {
            return Err(out_of_reach(after).context("first_rev", first + self.base));
        }
        Ok(())
    }
}
