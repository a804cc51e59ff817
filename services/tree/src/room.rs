//! When there is no room on the medium: what grows is refused, what makes room goes on.
//!
//! The log says so by refusing an append with `reason=storage_full`. From then on it keeps its last
//! room for what the tree gives it, and the tree gives it only commits that remove; what is in the
//! overlay is applied at once, and the journal that was kept only for followers is given up. The
//! store says so by refusing a batch; the overlay then takes commits that grow up to its bound, and
//! commits that remove up to half as much beyond it.
//!
//! Nothing has to be told that there is room again: each commit that grows asks.
//!
//! A table that holds a page of another node counts as full at some MiB (`memtable`): while a
//! database is filled, its own writers wait for batches as the pages do, in one queue.

use std::sync::atomic::Ordering;

use trellis_engine_traits::{Durability, Error, Expect, Result};

use crate::core::Core;
use crate::effect::Effect;
use crate::refusal::is_storage_full;

/// Whether a commit takes room for good. The note of an idempotency key does not count: it goes.
fn grows(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Put(..) | Effect::Expire(..)))
}

impl Core {
    /// Whether the log has refused an append for lack of room, and was not seen to have some since.
    pub(crate) fn log_is_full(&self) -> bool {
        self.log_full.load(Ordering::Acquire)
    }

    /// Notes that the log refused an append for lack of room, and sets free what can be.
    pub(crate) fn note_log_full(&self, error: &Error) {
        if !self.log_full.swap(true, Ordering::AcqRel) {
            tracing::warn!(%error, "no room: commits that grow are refused");
        }
        self.apply_now.store(true, Ordering::Release);
        self.apply_alarm.ring();
    }

    /// Refuses a commit that grows while there is no room.
    ///
    /// # Errors
    /// `Unavailable` with `reason=storage_full`; nothing was changed.
    pub(crate) fn check_room(&self, effects: &[Effect]) -> Result<()> {
        if !grows(effects) {
            return Ok(());
        }
        if self.log_is_full() {
            // An append of nothing asks the log whether it has room again.
            self.log.append(&self.journal, &[], Expect::Any, Durability::Buffered)?;
            self.log_full.store(false, Ordering::Release);
            tracing::info!("there is room again");
        }
        match self.apply_failure.lock().as_ref() {
            Some(failure) if is_storage_full(failure) && self.overlay_is_full() => {
                Err(failure.duplicate())
            }
            _ => Ok(()),
        }
    }

    /// Whether commits may be resolved although the overlay is at its bound and the store refuses
    /// it: only those that remove will pass.
    pub(crate) fn takes_removals(&self, failure: &Error) -> bool {
        let bytes_max = self.options.overlay_bytes_max;
        is_storage_full(failure) && self.overlay_bytes() < bytes_max.saturating_add(bytes_max / 2)
    }
}
