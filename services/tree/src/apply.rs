//! *Apply*: the overlay goes into the store in large sorted batches, and the journal is trimmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trellis_engine_traits::{ErrorKind, MaintenanceBudget, Persistence, Result};

use crate::batch::{SMALL_BATCH_BYTES, apply_batch, commit_in_parts};
use crate::build::Step;
use crate::core::Core;
use crate::indexing;
use crate::record::{self, Applied, Chain};
use crate::refusal::is_storage_full;
use crate::seal::{self, SealedSnapshot};
use crate::space::{APPLIED_KEY, META};
use crate::state::Layers;

/// How long to wait before a refused batch is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Time for one slice of the store's own upkeep after a batch.
const MAINTENANCE: Duration = Duration::from_millis(20);

/// Where the journal stood after a batch: rev, its bytes since open, time.
#[derive(Debug, Clone, Copy)]
struct Mark {
    rev: u64,
    bytes: u64,
    at: Duration,
}

impl Core {
    /// The apply thread.
    pub(crate) fn run_apply(self: &Arc<Self>) {
        let clock = Arc::clone(self.runtime.clock());
        let mut marks = VecDeque::new();
        // Never none at all, which would keep a core busy with looking.
        let apply_after = self.options.apply_after.max(Duration::from_millis(1));
        loop {
            // The ring of a close may have ended the wait for another attempt.
            if self.is_closed() {
                return;
            }
            self.build_until_due(clock.monotonic().saturating_add(apply_after));
            if self.is_closed() {
                return;
            }
            let asked = self.apply_now.load(Ordering::Acquire);
            while !self.apply_once(&mut marks) {
                if self.is_closed() || self.poison.lock().is_some() {
                    break;
                }
                self.apply_alarm.wait(clock.as_ref(), Some(clock.monotonic() + RETRY));
            }
            if asked {
                self.apply_now.store(false, Ordering::Release);
            }
            let _stages = self.stages.lock();
            self.progress.notify_all();
            self.requests.notify_all();
        }
    }

    /// Waits until the overlay has to be applied; builds indexes and tidies up meanwhile.
    fn build_until_due(&self, deadline: Duration) {
        let clock = self.runtime.clock().as_ref();
        loop {
            let asked = self.apply_now.load(Ordering::Acquire);
            if asked || self.overlay_wants_room() || self.is_closed() {
                return;
            }
            let now = clock.monotonic();
            if now >= deadline {
                return;
            }
            let step = match self.build_step() {
                Step::Idle => self.sweep_step(),
                step => step,
            };
            match step {
                Step::Built => {}
                Step::WantsBatch => return,
                Step::Idle => self.apply_alarm.wait(clock, Some(deadline)),
                Step::Refused => self.apply_alarm.wait(clock, Some(deadline.min(now + RETRY))),
            }
        }
    }

    fn overlay_wants_room(&self) -> bool {
        self.overlay_is_due() && self.poison.lock().is_none()
    }

    /// Applies what the overlay holds; `false` when the store refused and it has to be tried again.
    fn apply_once(&self, marks: &mut VecDeque<Mark>) -> bool {
        let waiting = self.layers.read().frozen.is_some();
        if !waiting && !self.freeze() {
            if self.log_is_full() {
                let applied_rev = self.layers.read().applied_rev;
                self.trim(marks, applied_rev);
            }
            return true;
        }
        if !self.wait_visible() {
            return true;
        }
        match self.apply_frozen() {
            Ok(rev) => {
                *self.apply_failure.lock() = None;
                self.trim(marks, rev);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the store did not take a batch; trying again");
                if matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Poisoned) {
                    self.set_poison(error);
                } else {
                    *self.apply_failure.lock() = Some(error);
                }
                let _stages = self.stages.lock();
                self.requests.notify_all();
                false
            }
        }
    }

    /// Waits until the whole frozen table is visible; `false` when it never will be.
    fn wait_visible(&self) -> bool {
        let mut stages = self.stages.lock();
        loop {
            if self.poison.lock().is_some() || self.is_closed() {
                return false;
            }
            // What is rolled back lowers `frozen_rev`, so the table never has to wait for it.
            if self.visible.load(Ordering::Acquire) >= self.frozen_rev.load(Ordering::Acquire) {
                return true;
            }
            self.progress.wait_for(&mut stages, Duration::from_millis(100));
        }
    }

    /// One batch: the frozen table, and how far the store has come with it.
    fn apply_frozen(&self) -> Result<u64> {
        let layers = Arc::clone(&self.layers.read());
        let Some(frozen) = &layers.frozen else { return Ok(layers.applied_rev) };
        let rev = self.frozen_rev.load(Ordering::Acquire);
        self.flush_visible()?;
        let chain = self.chain_at(rev);
        let applied = Applied { log_id: self.log_id, rev, chain, hlc: self.newest_hlc() };
        let indexes = indexing::at_batch(&self.definitions(), &layers.indexes, rev);
        let batch = || {
            let derivation = self.options.derivation;
            indexing::note(frozen.read().batch(), derivation, &indexes, &layers.indexes, rev)
        };
        match apply_batch(self.kv.as_ref(), batch()?, &applied) {
            // A store counts on the safe side: what is too much at once may fit part by part. But
            // never into the last room, which is for what the journal takes of removals.
            Err(error) if is_storage_full(&error) && !self.log_is_full() => {
                let mut batch = batch()?.put(META, APPLIED_KEY, applied.encode()?);
                seal::seal_batch(&mut batch);
                commit_in_parts(self.kv.as_ref(), batch, SMALL_BATCH_BYTES)?;
            }
            taken => taken?,
        }
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        if frozen.read().leaves_stale() {
            self.sweep.lock().begin();
        }
        let store = SealedSnapshot::new(self.kv.snapshot()?);
        let mut current = self.layers.write();
        *current = Arc::new(Layers {
            active: Arc::clone(&current.active),
            frozen: None,
            store,
            applied_rev: rev,
            indexes: Arc::new(indexes),
        });
        Ok(rev)
    }

    /// The hash of the record at `rev`; read back from the journal unless it is the newest.
    fn chain_at(&self, rev: u64) -> Chain {
        let mut chain = Chain::default();
        let budget = trellis_engine_traits::ReadBudget { records_max: 1, bytes_max: usize::MAX };
        let read =
            self.log.read(&self.journal, rev.saturating_sub(self.base), budget, &mut |_, bytes| {
                chain = record::chain(bytes);
                std::ops::ControlFlow::Break(())
            });
        if let Err(error) = read {
            tracing::warn!(%error, "a record just written could not be read back");
        }
        chain
    }

    /// Gives journal free that is applied, and that nobody was promised; when the log is full, all
    /// that is applied.
    fn trim(&self, marks: &mut VecDeque<Mark>, rev: u64) {
        if self.kv.profile().persistence == Persistence::Volatile {
            return;
        }
        let now = self.runtime.clock().monotonic();
        let bytes = self.counters.journal_bytes.load(Ordering::Relaxed);
        marks.push_back(Mark { rev, bytes, at: now });
        let mut before = None;
        while let Some(oldest) = marks.front() {
            let old = now.saturating_sub(oldest.at) > self.options.journal_retain_age;
            let far = bytes.saturating_sub(oldest.bytes) > self.options.journal_retain_bytes;
            if !old && !far && !self.log_is_full() {
                break;
            }
            before = Some(oldest.rev);
            marks.pop_front();
        }
        if let Some(before) = before {
            self.trim_journal(before);
        }
        if let Err(error) = self.kv.maintain(MaintenanceBudget { time: MAINTENANCE }) {
            tracing::warn!(%error, "the store's upkeep failed; trying again later");
        }
    }
}
