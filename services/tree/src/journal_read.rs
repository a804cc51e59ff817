//! Reading the journal: the records after a rev, as bytes and as what others may know of them.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, ReadBudget, Result};

use crate::core::Core;
use crate::journal::{JournalRecord, Position};
use crate::refusal::closed;
use crate::tree::Tree;

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

impl Core {
    pub(crate) fn position(&self) -> Position {
        let hash = self.visible_chain.lock();
        Position { rev: self.visible.load(Ordering::Acquire), hash: *hash }
    }

    /// Whether the journal holds everything after a rev.
    pub(crate) fn check_reach(&self, after: u64) -> Result<()> {
        if self.is_closed() {
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

fn out_of_reach(after: u64) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "the journal no longer reaches back to this rev; take a full copy instead",
    )
    .context("after_rev", after)
}
