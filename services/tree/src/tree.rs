//! [`Tree`]: open, commit, view, close.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, KvBackend, Result, StreamLog};
use trellis_runtime::{Runtime, Worker, completion};

use crate::answer::{CommitError, Committed};
use crate::commit::Commit;
use crate::core::Core;
use crate::options::TreeOptions;
use crate::pending::PendingCommit;
use crate::recover;
use crate::refusal::closed;
use crate::view::View;
use crate::work::Work;
use crate::zoning::Passage;

/// A JSON tree on a store and a journal. Cheap to clone; the last clone to go closes it.
///
/// ```
/// use std::sync::Arc;
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
///
/// let tree = Tree::open(
///     Arc::new(MemoryKv::new()),
///     Arc::new(MemoryLog::new()),
///     Runtime::system(),
///     TreeOptions::default(),
/// )?;
/// let path = Path::parse("users/u1/name")?;
/// tree.commit(Commit::set(path.clone(), Input::parse(br#""Alice""#)?))?;
/// assert_eq!(tree.view()?.get(&path)?, "Alice");
/// tree.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tree {
    handle: Arc<Handle>,
}

/// Whose history this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 32 hexadecimal digits, new for a new journal.
    pub log_id: String,
    /// Raised at every open.
    pub epoch: u64,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    workers: Mutex<Vec<Worker>>,
    closed: Mutex<bool>,
}

impl Tree {
    /// Opens a tree: checks that store and journal belong together, and replays what the store
    /// lacks.
    ///
    /// # Errors
    /// `Locked` when the data is open elsewhere, `Corrupt` when store and journal do not fit or a
    /// record is damaged, `Unsupported` for a newer format; those of the engines.
    ///
    /// # Cost
    /// Reads the journal behind the store's rev: at most some overlay sizes.
    pub fn open(
        kv: Arc<dyn KvBackend>,
        log: Arc<dyn StreamLog>,
        runtime: Arc<Runtime>,
        options: TreeOptions,
    ) -> Result<Self> {
        let core = Arc::new(recover::open(kv, log, Arc::clone(&runtime), options)?);
        Self::start(core, &runtime)
    }

    pub(crate) fn start(core: Arc<Core>, runtime: &Runtime) -> Result<Self> {
        let handle = Handle { core, workers: Mutex::default(), closed: Mutex::default() };
        type Stage = (&'static str, fn(&Arc<Core>));
        let threads: [Stage; 5] = [
            ("resolve", Core::run_resolve),
            ("flush", Core::run_flush),
            ("answer", Core::run_answer),
            ("apply", Core::run_apply),
            ("upkeep", Core::run_upkeep),
        ];
        for (name, run) in threads {
            let core = Arc::clone(&handle.core);
            let worker = runtime.spawn_worker(name, move || supervise(&core, run))?;
            handle.workers.lock().push(worker);
        }
        Ok(Self { handle: Arc::new(handle) })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Commits and waits until it is durable and visible.
    ///
    /// # Errors
    /// `Conflict` with each condition that did not hold; `InvalidInput`, `TooLarge`, `Denied`,
    /// `Busy`, `Unavailable`, `Closed`, `Poisoned`: nothing changed. `OutcomeUnknown`: the commit
    /// may be there after a reopen; repeat it with the same idempotency key.
    ///
    /// # Cost
    /// One journal flush, shared with whoever commits at the same time.
    pub fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let commit = match self.pass(commit) {
            Passage::Here(commit) => commit,
            Passage::Elsewhere(pending) => return pending.wait(),
            Passage::Refused(error) => return Err(error),
        };
        let bytes = self.check_size(&commit)?;
        self.core().commit(Work::Commit(commit), bytes)
    }

    /// Commits without waiting. Submissions of one caller are committed in the order of its calls.
    pub fn submit(&self, commit: Commit) -> PendingCommit {
        let commit = match self.pass(commit) {
            Passage::Here(commit) => commit,
            Passage::Elsewhere(pending) => return pending,
            Passage::Refused(error) => return PendingCommit::refused(error),
        };
        let bytes = match self.check_size(&commit) {
            Ok(bytes) => bytes,
            Err(error) => return PendingCommit::refused(error.into()),
        };
        let (answer, receiver) = completion();
        self.core().enqueue(Work::Commit(commit), bytes, answer);
        PendingCommit { receiver }
    }

    /// Bytes that a request takes while it waits.
    fn check_size(&self, commit: &Commit) -> Result<usize> {
        let limits = &self.core().options.limits;
        let bytes = commit.bytes();
        // Escapes and keys make a request larger than what it stores, never twice as large.
        let bytes_max = limits.commit_bytes_max.saturating_mul(2);
        if bytes > bytes_max {
            return Err(Error::new(ErrorKind::TooLarge, "the commit is too large; split it")
                .operation("commit")
                .context("commit_bytes_max", limits.commit_bytes_max));
        }
        Ok(bytes)
    }

    /// A consistent view of everything acknowledged so far.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`.
    ///
    /// # Cost
    /// Well below a microsecond, unless something is due and not yet removed.
    pub fn view(&self) -> Result<View> {
        Ok(View::new(self.core().reader()?, Arc::clone(&self.core().views)))
    }

    /// Whose history this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let core = self.core();
        Identity { log_id: format!("{:032x}", core.log_id), epoch: core.epoch }
    }

    /// How the tree was opened.
    #[must_use]
    pub fn options(&self) -> &TreeOptions {
        &self.core().options
    }

    /// Brings everything acknowledged into the store, and makes it durable there.
    ///
    /// # Errors
    /// Why the store does not take it; the journal holds it all the same. `Poisoned`, `Closed`.
    pub fn flush(&self) -> Result<()> {
        if self.core().stopping.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.handle.flush()
    }

    /// Finishes what is under way, brings everything into the store and closes both engines.
    /// Idempotent; every later call answers `Closed`.
    ///
    /// # Errors
    /// Why the overlay could not be applied, or those of the engines; the tree is closed all the
    /// same, and the journal holds what the store lacks.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}

impl Handle {
    fn flush(&self) -> Result<()> {
        let core = &self.core;
        let target = core.visible.load(Ordering::Acquire);
        loop {
            // Under the lock with which an apply tells of its end, or its telling could be missed.
            let mut stages = core.stages.lock();
            if core.layers.read().applied_rev >= target {
                return Ok(());
            }
            if let Some(poisoned) = core.poisoned() {
                return Err(poisoned);
            }
            if core.is_closed() {
                return Err(closed());
            }
            if let Some(failure) = core.apply_failure.lock().as_ref() {
                return Err(failure.duplicate());
            }
            core.apply_now.store(true, Ordering::Release);
            core.apply_alarm.ring();
            core.progress.wait_for(&mut stages, Duration::from_millis(50));
        }
    }

    fn close(&self) -> Result<()> {
        let core = &self.core;
        // A second caller waits for the first.
        let mut done = self.closed.lock();
        if std::mem::replace(&mut *done, true) {
            return Ok(());
        }
        core.stopping.store(true, Ordering::Release);
        core.upkeep_alarm.ring();
        core.requests.notify_all();
        {
            let mut stages = core.stages.lock();
            while !stages.is_idle() {
                core.requests.notify_all();
                core.progress.wait_for(&mut stages, Duration::from_millis(50));
            }
        }
        // A writer who walks through the pipeline by itself holds the resolver.
        drop(core.resolver.lock());
        let applied = self.flush();
        core.views.closed.store(true, Ordering::Release);
        core.wake_followers();
        core.ring_bells();
        {
            let _stages = core.stages.lock();
            core.requests.notify_all();
            core.groups.notify_all();
            core.answers.notify_all();
            core.progress.notify_all();
        }
        core.apply_alarm.ring();
        core.upkeep_alarm.ring();
        for worker in std::mem::take(&mut *self.workers.lock()) {
            worker.join();
        }
        let log = core.log.close();
        let kv = core.kv.close();
        applied.and(log).and(kv)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the tree did not close cleanly; its journal holds everything");
        }
    }
}

/// Runs a stage. A panic is a defect, of which nobody knows what it left behind: writes are refused
/// from then on, and the stage goes on so that whoever waits is told.
fn supervise(core: &Arc<Core>, run: fn(&Arc<Core>)) {
    while catch_unwind(AssertUnwindSafe(|| run(core))).is_err() {
        tracing::error!("a stage of the pipeline broke down: no writes until a reopen");
        core.set_poison(Error::new(
            ErrorKind::OutcomeUnknown,
            "a stage of the pipeline broke down",
        ));
        core.stages.lock().drop_lost();
    }
}
