//! A bell that a background thread waits for, with a deadline on any clock.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::Clock;

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
