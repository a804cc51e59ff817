//! What a copy of a live tree asks of it: journal that stays, and writes that wait outside.
//!
//! Both are guards: what they hold back goes on when they are dropped, however the copy ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trellis_engine_traits::{ErrorKind, KvBackend, Result, StreamLog};
use trellis_runtime::Runtime;

use crate::core::Core;
use crate::journal::Position;
use crate::options::TreeOptions;
use crate::recover;
use crate::refusal::closed;
use crate::tree::Tree;

/// Keeps the journal after a rev from being trimmed, until it is dropped.
///
/// The journal grows meanwhile: by what is written, on the disk that it is on.
#[derive(Debug)]
pub struct JournalHold {
    core: Arc<Core>,
    after: u64,
}

/// Writes are refused with `Unavailable` until this is dropped; reads go on.
#[derive(Debug)]
pub struct WritePause {
    core: Arc<Core>,
}

impl Tree {
    /// As [`Tree::open`], with writes paused from the beginning, so that not even what is due is
    /// removed before the guard is dropped.
    ///
    /// # Errors
    /// As for [`Tree::open`].
    pub fn open_paused(
        kv: Arc<dyn KvBackend>,
        log: Arc<dyn StreamLog>,
        runtime: Arc<Runtime>,
        options: TreeOptions,
    ) -> Result<(Self, WritePause)> {
        let core = Arc::new(recover::open(kv, log, Arc::clone(&runtime), options)?);
        let pause = WritePause::begin(&core);
        Ok((Self::start(core, &runtime)?, pause))
    }

    /// Keeps the journal from the newest visible commit on, and says which that is.
    ///
    /// # Errors
    /// `Closed`; those of the journal.
    pub fn hold_journal(&self) -> Result<(JournalHold, Position)> {
        let mut holds = self.core().holds.lock();
        // Under the lock: what is after the newest commit cannot be trimmed before it is held.
        let position = self.position();
        let hold = self.enter_hold(&mut holds, position.rev)?;
        Ok((hold, position))
    }

    /// Keeps every journal record after `rev`.
    ///
    /// # Errors
    /// `NotFound` when some of them were already trimmed, `InvalidInput` for a rev that is not
    /// there yet, `Closed`; those of the journal.
    pub fn hold_journal_after(&self, rev: u64) -> Result<JournalHold> {
        // The lock is held while the journal is trimmed: what is found is what is kept.
        self.enter_hold(&mut self.core().holds.lock(), rev)
    }

    /// Keeps every record that is there.
    pub(crate) fn hold_whole_journal(&self) -> Result<JournalHold> {
        let core = self.core();
        let mut holds = core.holds.lock();
        // Under the lock: it cannot be trimmed in between.
        let first = core.log.bounds(&core.journal)?.first;
        self.enter_hold(&mut holds, first + core.base - 1)
    }

    fn enter_hold(&self, holds: &mut BTreeMap<u64, usize>, rev: u64) -> Result<JournalHold> {
        let core = self.core();
        core.check_reach(rev)?;
        *holds.entry(rev).or_default() += 1;
        Ok(JournalHold { core: Arc::clone(core), after: rev })
    }

    /// Refuses writes with `Unavailable` until the guard is dropped; reads go on.
    ///
    /// When it returns, every write that was accepted before is answered, and neither the rev nor
    /// the content changes any more: endings and old idempotency keys wait as well. Pauses of
    /// several callers add up.
    ///
    /// # Errors
    /// `Closed`.
    ///
    /// # Cost
    /// Waits for what is under way: some flushes.
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
    /// let commit = || Ok::<_, trellis_engine_traits::Error>(
    ///     Commit::set(Path::parse("a")?, Input::parse(b"1")?)
    /// );
    /// let pause = tree.pause_writes()?;
    /// assert!(tree.commit(commit()?).is_err());
    /// drop(pause);
    /// assert!(tree.commit(commit()?).is_ok());
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn pause_writes(&self) -> Result<WritePause> {
        let core = self.core();
        if core.stopping.load(Ordering::Acquire) {
            return Err(closed());
        }
        let pause = WritePause::begin(core);
        let mut stages = core.stages.lock();
        while !stages.is_idle() {
            core.requests.notify_all();
            core.progress.wait_for(&mut stages, Duration::from_millis(50));
        }
        drop(stages);
        // A writer who walks through the pipeline by itself holds the resolver.
        drop(core.resolver.lock());
        Ok(pause)
    }

    /// Whether writes are paused at the moment.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.core().is_paused()
    }
}

impl JournalHold {
    /// The rev after which the journal is kept.
    #[must_use]
    pub fn after(&self) -> u64 {
        self.after
    }
}

impl Drop for JournalHold {
    fn drop(&mut self) {
        let mut holds = self.core.holds.lock();
        if let Some(count) = holds.get_mut(&self.after) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.after);
            }
        }
    }
}

impl WritePause {
    /// Refuses what comes from now on; what is under way goes on.
    pub(crate) fn begin(core: &Arc<Core>) -> Self {
        core.pauses.fetch_add(1, Ordering::AcqRel);
        Self { core: Arc::clone(core) }
    }
}

impl Drop for WritePause {
    fn drop(&mut self) {
        self.core.pauses.fetch_sub(1, Ordering::AcqRel);
        self.core.upkeep_alarm.ring();
    }
}

impl Core {
    pub(crate) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Gives the journal up to a rev free, as far as nobody holds it.
    pub(crate) fn trim_journal(&self, up_to: u64) {
        let holds = self.holds.lock();
        let held = holds.first_key_value().map_or(u64::MAX, |(rev, _)| *rev);
        let up_to = up_to.min(held);
        if up_to <= self.base {
            return;
        }
        let Err(error) = self.log.trim(&self.journal, up_to + 1 - self.base) else { return };
        tracing::warn!(%error, "the journal could not be trimmed; trying again later");
        // A log may flush before it trims: if that failed, it takes nothing more.
        if matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Poisoned) {
            self.set_poison(error);
        }
    }
}
