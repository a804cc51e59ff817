//! When a lease was last heard of, shared between its holder and the worker; and the worker's time.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use trellis_runtime::Clock;

/// A day: moments before the clock's zero can be written down, too.
const ZERO_MS: u64 = 86_400_000;

/// Milliseconds on a clock that is never set back; not the time of day.
pub(crate) fn moment_ms(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX / 2).saturating_add(ZERO_MS)
}

/// The same moment as the clock's own time.
pub(crate) fn of_moment(moment_ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(moment_ms.saturating_sub(ZERO_MS))
}

const NEW: u8 = 0;
const OPEN: u8 = 1;
const ENDED: u8 = 2;

/// A holder's end of a lease. Who takes a lease over brings a beat of its own.
#[derive(Debug)]
pub(crate) struct Beat {
    last_ms: AtomicU64,
    ttl_ms: AtomicU64,
    state: AtomicU8,
}

impl Beat {
    /// A beat of a lease that the worker does not know yet.
    pub(crate) const fn new(now_ms: u64, ttl_ms: u64) -> Self {
        Self {
            last_ms: AtomicU64::new(now_ms),
            ttl_ms: AtomicU64::new(ttl_ms),
            state: AtomicU8::new(NEW),
        }
    }

    /// It was heard of.
    pub(crate) fn touch(&self, now_ms: u64) {
        self.last_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms.load(Ordering::Relaxed)
    }

    /// How long the lease lasts, as far as the worker has said.
    pub(crate) fn ttl_ms(&self) -> u64 {
        self.ttl_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ttl_ms(&self, ttl_ms: u64) {
        self.ttl_ms.store(ttl_ms, Ordering::Relaxed);
    }

    /// Whether the worker has not met it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.state.load(Ordering::Acquire) == NEW
    }

    /// Whether it stands for no lease any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDED
    }

    pub(crate) fn open(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.state.store(ENDED, Ordering::Release);
    }
}
