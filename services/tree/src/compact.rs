//! Compaction: the journal that nobody was promised goes, and the store gives free what it can.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use serde::Serialize;
use trellis_engine_traits::{ErrorKind, MaintenanceBudget, Persistence, ReadBudget, Result};

use crate::core::Core;
use crate::record::Record;
use crate::tree::Tree;

/// Journal between two places at which it may be cut.
const STEP_BYTES: u64 = 1 << 20;
/// Records read at a time.
const BUDGET: ReadBudget = ReadBudget { records_max: 4096, bytes_max: 8 << 20 };

/// What a compaction came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Bytes of the store's files before and after.
    pub store_bytes: (u64, u64),
    /// The first rev in the journal before and after.
    pub journal_first_rev: (u64, u64),
    /// Why the store was not compacted, and what to do about it.
    pub postponed: Option<String>,
}

impl Tree {
    /// Brings everything into the store, removes journal beyond what the options retain, and has
    /// the store compact its files. Readers and writers go on where the engine lets them.
    ///
    /// # Errors
    /// Those of the engines; nothing is lost.
    ///
    /// # Cost
    /// Up to a rewrite of the store's files.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trellis_kv_memory::MemoryKv;
    /// use trellis_log_memory::MemoryLog;
    /// use trellis_runtime::Runtime;
    /// use trellis_tree::{Tree, TreeOptions};
    ///
    /// # let options = TreeOptions::default();
    /// # let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    /// let tree = Tree::open(kv, log, Runtime::system(), options)?;
    /// assert_eq!(tree.compact()?.postponed, None);
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn compact(&self) -> Result<Compaction> {
        self.flush()?;
        let core = self.core();
        let first = || -> Result<u64> { Ok(core.log.bounds(&core.journal)?.first + core.base) };
        let (store_before, journal_before) = (core.kv.usage()?.disk_bytes, first()?);
        // The journal that is read is not trimmed meanwhile; what was applied is, after that.
        let hold = self.hold_whole_journal()?;
        let retained_from = core.retained_from()?;
        drop(hold);
        if let Some(rev) = retained_from {
            core.trim_journal(rev);
        }
        let mut postponed = None;
        loop {
            match core.kv.maintain(MaintenanceBudget::UNBOUNDED) {
                Ok(report) if report.more => {}
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Busy => {
                    postponed = Some(error.message().to_owned());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Compaction {
            store_bytes: (store_before, core.kv.usage()?.disk_bytes),
            journal_first_rev: (journal_before, first()?),
            postponed,
        })
    }
}

/// The journal up to a rev.
struct Mark {
    rev: u64,
    bytes: u64,
    at_ms: u64,
}

impl Core {
    /// The rev up to which the journal is applied, too old or too far back.
    fn retained_from(&self) -> Result<Option<u64>> {
        // A store in memory is made anew from its journal.
        if self.kv.profile().persistence == Persistence::Volatile {
            return Ok(None);
        }
        let applied_rev = self.layers.read().applied_rev;
        let bounds = self.log.bounds(&self.journal)?;
        let (mut marks, mut bytes, mut from) = (VecDeque::new(), 0_u64, bounds.first);
        let mut next_mark = STEP_BYTES;
        while from < bounds.next {
            let mut failure = None;
            let end = self.log.read(&self.journal, from, BUDGET, &mut |_, stored| {
                bytes += u64::try_from(stored.len()).unwrap_or(0);
                if bytes < next_mark {
                    return ControlFlow::Continue(());
                }
                next_mark = bytes + STEP_BYTES;
                match Record::decode(stored) {
                    Ok(record) if record.rev > applied_rev => {}
                    Ok(Record { rev, at_ms, .. }) => marks.push_back(Mark { rev, bytes, at_ms }),
                    Err(error) => failure = Some(error),
                }
                ControlFlow::Continue(())
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            from = end.next.max(from + 1);
        }
        let age_ms = u64::try_from(self.options.journal_retain_age.as_millis()).unwrap_or(u64::MAX);
        let young_from = self.runtime.clock().now_ms().saturating_sub(age_ms);
        let far = |mark: &Mark| bytes - mark.bytes > self.options.journal_retain_bytes;
        let beyond = marks.iter().take_while(|mark| far(mark) || mark.at_ms < young_from);
        Ok(beyond.last().map(|mark| mark.rev))
    }
}
