//! Endings: hidden at once when due, removed by an ordinary commit within a second.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result, SpaceId};

use crate::core::Core;
use crate::draft::Draft;
use crate::record::{EXPIRY, EXPIRY_TIME, Effect, KEYS_TIME, split_time_key};
use crate::resolve::Work;
use crate::state::State;

/// Endings in one commit.
const SWEEP_MAX: usize = 1000;
/// How often keys are looked through for old ones.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How long upkeep sleeps when nothing calls for it.
const IDLE: Duration = Duration::from_secs(60);

/// Entries of a time-ordered space up to `until_ms`, at most `limit`: time and key.
fn entries(
    state: &State,
    space: SpaceId,
    until_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>> {
    let end = until_ms.saturating_add(1).to_be_bytes().to_vec();
    let mut found = Vec::new();
    state.scan(space, &KeyRange::new(Bytes::new(), Some(end.into())), &mut |time_key, _| {
        if let Some((at, key)) = split_time_key(time_key) {
            found.push((at, Bytes::copy_from_slice(key)));
        }
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

fn is_current(state: &State, at: u64, key: &[u8]) -> Result<bool> {
    Ok(state.get(EXPIRY, key)?.is_some_and(|stored| *stored == at.to_be_bytes()))
}

/// The keys of paths that have ended and are still there.
pub(crate) fn due(core: &Core, state: &State, now_ms: u64) -> Result<Vec<Bytes>> {
    if core.next_due_ms.load(Ordering::Acquire) > now_ms {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    for (at, key) in entries(state, EXPIRY_TIME, now_ms, usize::MAX)? {
        if is_current(state, at, &key)? {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// What removes the paths that have ended, the earliest first.
pub(crate) fn due_effects(core: &Core, state: &State, now_ms: u64) -> Result<Vec<Effect>> {
    let found = entries(state, EXPIRY_TIME, now_ms, SWEEP_MAX)?;
    let mut draft = Draft::new(state, core.any_expiry());
    let mut used = Vec::new();
    for (at, key) in found {
        if is_current(state, at, &key)? {
            draft.remove(&key)?;
            draft.expire(&key, None);
        }
        used.push(Effect::Unindex(key, at));
    }
    let mut effects = draft.into_effects();
    effects.append(&mut used);
    Ok(effects)
}

/// What forgets idempotency keys that are old enough.
pub(crate) fn forget_effects(core: &Core, state: &State, now_ms: u64) -> Result<Vec<Effect>> {
    let age = u64::try_from(core.options.keys_retain_age.as_millis()).unwrap_or(u64::MAX);
    let Some(until) = now_ms.checked_sub(age) else { return Ok(Vec::new()) };
    let found = entries(state, KEYS_TIME, until, SWEEP_MAX)?;
    Ok(found.into_iter().map(|(at, key)| Effect::Forget(key, at)).collect())
}

/// When the next path ends; `u64::MAX` when none does.
pub(crate) fn first_due_ms(state: &State) -> Result<u64> {
    let first = entries(state, EXPIRY_TIME, u64::MAX - 1, 1)?;
    Ok(first.first().map_or(u64::MAX, |(at, _)| *at))
}

impl Core {
    /// The upkeep thread: endings, old keys, and flushes of what was acknowledged before.
    pub(crate) fn run_upkeep(self: &Arc<Self>) {
        let clock = Arc::clone(self.runtime.clock());
        let mut forget_at = clock.monotonic();
        while !self.stopping.load(Ordering::Acquire) {
            let now_ms = clock.now_ms();
            if self.next_due_ms.load(Ordering::Acquire) <= now_ms {
                self.sweep(now_ms);
            }
            let now = clock.monotonic();
            if now >= forget_at {
                self.repeat(&Work::ForgetKeys);
                forget_at = now + FORGET_EVERY;
            }
            let interval = self.options.durability.interval();
            if interval.is_some() {
                self.flush_visible();
            }
            let due_in = self.next_due_ms.load(Ordering::Acquire).saturating_sub(clock.now_ms());
            // Even a wall clock that is set is followed within the second that is promised.
            let due_in = Duration::from_millis(due_in).min(IDLE);
            let wait = interval.map_or(due_in, |interval| due_in.min(interval));
            let any = self.any_expiry();
            let wait = if any { wait.min(Duration::from_millis(500)) } else { wait };
            let deadline = clock.monotonic() + wait;
            self.upkeep_alarm.wait(clock.as_ref(), Some(deadline));
        }
    }

    fn sweep(&self, now_ms: u64) {
        self.repeat(&Work::Expire);
        // Whatever was entered meanwhile lowered the bound itself; it is raised to what is there.
        let resolver = self.resolver.lock();
        match first_due_ms(&self.newest()) {
            Ok(first) => self.next_due_ms.store(first, Ordering::Release),
            Err(error) => tracing::warn!(%error, now_ms, "endings could not be read; trying again"),
        }
        drop(resolver);
    }

    /// Repeats upkeep work until it finds nothing more to do.
    fn repeat(&self, work: &Work) {
        loop {
            let work = match work {
                Work::ForgetKeys => Work::ForgetKeys,
                _ => Work::Expire,
            };
            let before = self.visible.load(Ordering::Acquire);
            match self.commit(work, 64) {
                Ok(committed) if committed.rev > before => {}
                Ok(_) => return,
                Err(error) => {
                    if !self.stopping.load(Ordering::Acquire) {
                        tracing::warn!(%error, "upkeep could not be committed; trying again");
                    }
                    return;
                }
            }
        }
    }

    /// Makes what is visible durable.
    pub(crate) fn flush_visible(&self) {
        let visible = self.visible.load(Ordering::Acquire);
        if self.durable.load(Ordering::Acquire) >= visible || self.poison.lock().is_some() {
            return;
        }
        match self.log.flush(&self.journal, visible + 1 - self.base) {
            Ok(()) => {
                self.durable.fetch_max(visible, Ordering::AcqRel);
            }
            Err(error) => {
                tracing::error!(%error, "the journal could not be flushed");
                self.poison.lock().get_or_insert(error);
            }
        }
    }
}
