//! Endings: hidden at once when due, removed by an ordinary commit within a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trellis_engine_traits::{Error, Result};

use crate::core::Core;
use crate::draft::Draft;
use crate::effect::Effect;
use crate::endings::{entries, first_due_ms, is_current, own_entries};
use crate::image::Image;
use crate::reader::Reader;
use crate::space::KEYS_TIME;
use crate::spared::Told;
use crate::state::State;
use crate::tree::Tree;
use crate::view::View;
use crate::work::Work;

/// Endings in one commit.
const SWEEP_MAX: usize = 1000;
/// How often keys are looked through for old ones.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How long upkeep waits after a commit that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How long upkeep sleeps when nothing calls for it.
const IDLE: Duration = Duration::from_secs(60);

/// What removes the paths that have ended, the earliest first, as far as it fits into one commit:
/// of the last path there may be some left.
pub(crate) fn due_effects(
    core: &Core,
    state: &State,
    now_ms: u64,
) -> Result<(Vec<Effect>, Vec<Image>, Told)> {
    let zoning = core.options.zoning.as_deref();
    let found = own_entries(zoning, state, now_ms, SWEEP_MAX)?;
    let mut draft = Draft::new(state, core.any_expiry()).in_zones(zoning);
    let mut used = Vec::new();
    for (at, key) in found {
        if is_current(state, at, &key)? && !draft.end(&key)? {
            break;
        }
        used.push(Effect::Unindex(key, at));
    }
    let (mut effects, images, told) = draft.finish()?;
    effects.append(&mut used);
    Ok((effects, images, told))
}

/// What forgets idempotency keys that are old enough.
pub(crate) fn forget_effects(core: &Core, state: &State, now_ms: u64) -> Result<Vec<Effect>> {
    let age = u64::try_from(core.options.keys_retain_age.as_millis()).unwrap_or(u64::MAX);
    let Some(until) = now_ms.checked_sub(age) else { return Ok(Vec::new()) };
    let found = entries(state, KEYS_TIME, until, SWEEP_MAX)?;
    Ok(found.into_iter().map(|(at, key)| Effect::Forget(key, at)).collect())
}

impl Tree {
    /// Removes what is due now, by ordinary commits; when it returns, they are visible. What
    /// becomes due later is not waited for.
    ///
    /// # Errors
    /// Why it could not be committed, as for a delete: `Unavailable` while writes are paused,
    /// `Poisoned`, `Closed`. What is due stays hidden.
    ///
    /// # Cost
    /// Nothing when nothing is due, else a commit for each thousand endings, or fewer where their
    /// leaves have to be removed one by one: what was written below since, where several nodes do.
    pub fn settle(&self) -> Result<()> {
        self.core().check_open()?;
        let now_ms = self.core().runtime.clock().now_ms();
        if self.core().next_due_ms.load(Ordering::Acquire) > now_ms {
            return Ok(());
        }
        self.core().settle(now_ms)
    }

    /// What [`Tree::settle`] leaves, with nothing hidden: the state at its rev exactly as the
    /// commits made it, and as [`Change::after`](crate::Change::after) shows it. So a follower that
    /// began before, and skips what is at or before the view's rev, misses nothing and sees nothing
    /// twice. What became due while it was taken is in it, and is removed within a second.
    ///
    /// # Errors
    /// As for [`Tree::settle`].
    pub fn settled_view(&self) -> Result<View> {
        self.settle()?;
        let core = self.core();
        core.check_open()?;
        let (state, _) = core.open_state();
        Ok(View::new(Reader::unhidden(state), Arc::clone(&core.views)))
    }
}

impl Core {
    /// The upkeep thread: endings, old keys, and flushes of what was acknowledged before.
    pub(crate) fn run_upkeep(self: &Arc<Self>) {
        let clock = Arc::clone(self.runtime.clock());
        let mut forget_at = clock.monotonic();
        while !self.stopping.load(Ordering::Acquire) {
            let now_ms = clock.now_ms();
            let mut at_least = Duration::ZERO;
            if self.next_due_ms.load(Ordering::Acquire) <= now_ms {
                let is_left = !self.sweep() || self.next_due_ms.load(Ordering::Acquire) <= now_ms;
                at_least = if is_left { AFTER_FAILURE } else { at_least };
            }
            let now = clock.monotonic();
            if now >= forget_at {
                self.forget_keys();
                forget_at = now + FORGET_EVERY;
            }
            let interval = self.options.durability.interval();
            if interval.is_some() {
                // What went wrong is logged, and every writer is told.
                let _poisoned = self.flush_visible();
            }
            let due_in = self.next_due_ms.load(Ordering::Acquire).saturating_sub(clock.now_ms());
            // Even a wall clock that is set is followed within the second that is promised.
            let due_in = Duration::from_millis(due_in).min(IDLE);
            let wait = interval.map_or(due_in, |interval| due_in.min(interval));
            let any = self.any_expiry();
            let wait = if any { wait.min(Duration::from_millis(500)) } else { wait };
            let wait = wait.max(at_least);
            let deadline = clock.monotonic() + wait;
            self.upkeep_alarm.wait(clock.as_ref(), Some(deadline));
        }
    }

    /// Removes what is due; `false` when that failed and has to be tried again.
    fn sweep(self: &Arc<Self>) -> bool {
        let settled = self.settle(self.runtime.clock().now_ms());
        if let Err(error) = &settled {
            self.tell(error);
        }
        settled.is_ok()
    }

    /// Removes what is due at a time, by ordinary commits; when it returns, they are visible.
    ///
    /// # Errors
    /// Why it could not be committed; it stays hidden.
    pub(crate) fn settle(self: &Arc<Self>, now_ms: u64) -> Result<()> {
        loop {
            {
                // Nothing is entered while the resolver is held, so nothing lowers the bound
                // meanwhile.
                let _resolver = self.resolver.lock();
                let newest = self.newest();
                let visible = self.visible.load(Ordering::Acquire);
                let shown = State { layers: Arc::clone(&newest.layers), at: visible };
                // What is removed and not yet visible is still to be hidden, and what is added and
                // not yet visible will be.
                let first = first_due_ms(&newest)?.min(first_due_ms(&shown)?);
                let zoning = self.options.zoning.as_deref();
                let is_owed = |state: &State| -> Result<bool> {
                    Ok(!own_entries(zoning, state, now_ms, SWEEP_MAX)?.is_empty())
                };
                if first > now_ms || (zoning.is_some() && !is_owed(&newest)? && !is_owed(&shown)?) {
                    let _views = self.views.revs.lock();
                    // What another node removes is hidden until then.
                    self.next_due_ms.store(first, Ordering::Release);
                    return Ok(());
                }
            }
            self.commit(Work::Expire, 64).map_err(|refused| refused.error)?;
        }
    }

    fn tell(&self, error: &Error) {
        if !self.stopping.load(Ordering::Acquire) && !self.is_paused() {
            tracing::warn!(%error, "upkeep could not be committed; trying again");
        }
    }

    /// Forgets what idempotency keys are old enough; what is left is tried again later.
    fn forget_keys(self: &Arc<Self>) {
        loop {
            let before = self.visible.load(Ordering::Acquire);
            match self.commit(Work::ForgetKeys, 64) {
                Ok(committed) if committed.rev > before => {}
                Ok(_) => return,
                Err(refused) => return self.tell(&refused.error),
            }
        }
    }

    /// Makes what is visible durable.
    ///
    /// # Errors
    /// Why it is not; writes are refused from then on.
    pub(crate) fn flush_visible(&self) -> Result<()> {
        let visible = self.visible.load(Ordering::Acquire);
        if self.durable.load(Ordering::Acquire) >= visible {
            return Ok(());
        }
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned);
        }
        if let Err(error) = self.log.flush(&self.journal, visible + 1 - self.base) {
            tracing::error!(%error, "the journal was not flushed: no writes until a reopen");
            self.set_poison(error.duplicate());
            return Err(error);
        }
        self.durable.fetch_max(visible, Ordering::AcqRel);
        Ok(())
    }
}
