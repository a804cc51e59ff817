//! A node's clock: the time of the simulation, and how wrong this node has it.
//!
//! The threads of a tree would make each run another one. So for them no time passes: the thread
//! that removes what is due never finds anything due, and the one that applies the overlay does so
//! only when it is asked to. When that one sleeps, this clock is the one to know: [`Rest`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use trellis_runtime::{Alarm, Clock};

/// How a tree's thread is called that removes what is due.
const UPKEEP: &str = "trellis-upkeep";
/// How the one is called that applies the overlay.
const APPLY: &str = "trellis-apply";
/// For a thread of a tree; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Whether the thread of a tree that applies its overlay has nothing left to do.
#[derive(Debug, Default)]
pub(super) struct Rest {
    alarms: Mutex<Vec<Arc<Alarm>>>,
    /// How often it has gone to sleep.
    sleeps: Mutex<u64>,
    slept: Condvar,
}

impl Rest {
    /// Waits until the thread has done whatever there was to do when this was called.
    pub(super) fn wait(&self) {
        // It may just have fallen asleep before it is woken the first time, with work to do; the
        // second time it has looked.
        for _ in 0..2 {
            let before = *self.sleeps.lock();
            self.alarms.lock().iter().for_each(|alarm| alarm.ring());
            let mut sleeps = self.sleeps.lock();
            while *sleeps <= before {
                let waited = self.slept.wait_for(&mut sleeps, PATIENCE);
                assert!(!waited.timed_out(), "a thread of the tree does not come to rest");
            }
        }
    }
}

/// A clock that is `skew_ms` off. It wakes nobody.
#[derive(Debug)]
pub(super) struct NodeClock {
    time: Time,
    skew_ms: Arc<AtomicI64>,
    rest: Arc<Rest>,
}

impl NodeClock {
    pub(super) fn new(time: &Time, skew_ms: &Arc<AtomicI64>) -> Self {
        Self { time: time.clone(), skew_ms: Arc::clone(skew_ms), rest: Arc::default() }
    }

    pub(super) fn rest(&self) -> Arc<Rest> {
        Arc::clone(&self.rest)
    }
}

fn is_thread(name: &str) -> bool {
    std::thread::current().name() == Some(name)
}

impl Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        if is_thread(UPKEEP) {
            return 0;
        }
        let skew = self.skew_ms.load(Ordering::Relaxed);
        (BEGINNING_MS + self.time.now()).saturating_add_signed(skew)
    }

    fn monotonic(&self) -> Duration {
        if is_thread(APPLY) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.time.now())
    }

    fn watch(&self, alarm: &Arc<Alarm>) {
        self.rest.alarms.lock().push(Arc::clone(alarm));
    }

    /// Asked by a thread that is about to sleep, when nobody has woken it since it looked.
    fn runs(&self) -> bool {
        if is_thread(APPLY) {
            *self.rest.sleeps.lock() += 1;
            self.rest.slept.notify_all();
        }
        false
    }
}
