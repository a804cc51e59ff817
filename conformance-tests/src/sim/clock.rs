//! A node's clock: the time of the simulation, and how wrong this node has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use trellis_runtime::{Alarm, Clock};

/// The wall clock of the simulation's beginning: in the year 2026.
pub(super) const BEGINNING_MS: u64 = 1_780_000_000_000;

/// The time of the simulation, in milliseconds since its beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Time(Arc<AtomicU64>);

impl Time {
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A clock that is `skew_ms` off. It wakes nobody: what waits for a time would otherwise run in a
/// thread of its own, and no run would be as the one before.
#[derive(Debug)]
pub(super) struct NodeClock {
    time: Time,
    skew_ms: Arc<AtomicI64>,
}

impl NodeClock {
    pub(super) fn new(time: &Time, skew_ms: &Arc<AtomicI64>) -> Self {
        Self { time: time.clone(), skew_ms: Arc::clone(skew_ms) }
    }
}

impl Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        (BEGINNING_MS + self.time.now()).saturating_add_signed(skew)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.time.now())
    }

    fn watch(&self, _alarm: &Arc<Alarm>) {}

    fn runs(&self) -> bool {
        false
    }
}
