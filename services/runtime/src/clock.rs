//! Time: the system's, or one that a test moves.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

/// Where time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970, UTC. May step backwards when the system's clock is set.
    fn now_ms(&self) -> u64;

    /// Time since some fixed moment; never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Rings `alarm` whenever this clock is moved by hand; a clock that runs by itself ignores it.
    fn watch(&self, alarm: &Arc<Alarm>);

    /// Whether time passes by itself, so that waiting for a deadline makes sense.
    fn runs(&self) -> bool;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn watch(&self, _alarm: &Arc<Alarm>) {}

    fn runs(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is moved.
///
/// ```
/// use trellis_runtime::{Clock, SimulatedClock};
///
/// let clock = SimulatedClock::at(1_000);
/// clock.advance_ms(500);
/// assert_eq!(clock.now_ms(), 1_500);
/// ```
#[derive(Debug)]
pub struct SimulatedClock {
    now_ms: Mutex<u64>,
    alarms: Mutex<Vec<Weak<Alarm>>>,
}

impl SimulatedClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub const fn at(now_ms: u64) -> Self {
        Self { now_ms: Mutex::new(now_ms), alarms: Mutex::new(Vec::new()) }
    }

    /// Moves the clock and wakes whoever waits for a moment.
    pub fn advance_ms(&self, by_ms: u64) {
        {
            let mut now = self.now_ms.lock();
            *now = now.saturating_add(by_ms);
        }
        let mut alarms = self.alarms.lock();
        alarms.retain(|alarm| alarm.strong_count() > 0);
        for alarm in alarms.iter().filter_map(Weak::upgrade) {
            alarm.ring();
        }
    }
}

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        *self.now_ms.lock()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }

    fn watch(&self, alarm: &Arc<Alarm>) {
        self.alarms.lock().push(Arc::downgrade(alarm));
    }

    fn runs(&self) -> bool {
        false
    }
}

/// A bell: rings are remembered until the next wait returns.
#[derive(Debug, Default)]
pub struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Alarm {
    /// A bell that rings also when `clock` is moved by hand.
    #[must_use]
    pub fn new(clock: &dyn Clock) -> Arc<Self> {
        let alarm = Arc::new(Self::default());
        clock.watch(&alarm);
        alarm
    }

    /// Wakes the waiter, now or at its next wait.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.bell.notify_all();
    }

    /// Waits for a ring, or until `deadline` on the monotonic side of `clock`; `None` waits for a
    /// ring only. A clock moved by hand ends the wait too: check the time again.
    pub fn wait(&self, clock: &dyn Clock, deadline: Option<Duration>) {
        let mut rung = self.rung.lock();
        while !*rung {
            match deadline {
                Some(deadline) if clock.runs() => {
                    let left = deadline.saturating_sub(clock.monotonic());
                    if left.is_zero() || self.bell.wait_for(&mut rung, left).timed_out() {
                        break;
                    }
                }
                Some(deadline) if clock.monotonic() >= deadline => break,
                _ => self.bell.wait(&mut rung),
            }
        }
        *rung = false;
    }
}
