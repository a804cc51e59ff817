//! When to dial again: full jitter, so that a thousand edges do not come back at once.

use std::time::Duration;

use crate::message::RefusalReason;

/// The shortest ceiling of a wait.
const LEAST: Duration = Duration::from_millis(250);
/// The longest wait for a peer that is away.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait for a peer that refuses what it is sent: somebody has to change something.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// A link whose feeds were live for so long was healthy.
const HEALTHY: Duration = Duration::from_secs(10);

/// How a link ended, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It could not be reached, or went away, or is busy.
    Away,
    /// Its credentials, its plan or its versions were refused.
    Refused,
}

impl From<RefusalReason> for Ended {
    fn from(reason: RefusalReason) -> Self {
        use RefusalReason as R;
        match reason {
            R::DualAuthority | R::NoAuthority | R::PushNotAccepted | R::Unsupported | R::Denied => {
                Self::Refused
            }
            R::DuplicateNode | R::Busy | R::Protocol | R::Stalled | R::Failed | R::Closing => {
                Self::Away
            }
        }
    }
}

/// The waits between links to one peer.
///
/// ```
/// use std::time::Duration;
/// use trellis_topology::{Backoff, Ended};
///
/// let mut backoff = Backoff::default();
/// let half = u64::MAX / 2;
/// assert_eq!(backoff.wait(Ended::Away, Duration::ZERO, half).as_millis(), 124);
/// assert_eq!(backoff.wait(Ended::Away, Duration::ZERO, half).as_millis(), 249);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after a link ended whose feeds were live for `live`; `random` is any 64
    /// random bits.
    pub fn wait(&mut self, ended: Ended, live: Duration, random: u64) -> Duration {
        if live >= HEALTHY {
            self.failures = 0;
        }
        let longest = match ended {
            Ended::Away => LONGEST,
            Ended::Refused => LONGEST_REFUSED,
        };
        let doubled = LEAST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(20);
        let ceiling = u64::try_from(doubled.min(longest).as_millis()).unwrap_or(u64::MAX);
        // The upper half of the product: the random number as a fraction of the ceiling.
        let share = (u128::from(ceiling) * u128::from(random)) >> 64;
        Duration::from_millis(u64::try_from(share).unwrap_or(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_ceiling_and_begin_anew_after_a_healthy_link() {
        let mut backoff = Backoff::default();
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            longest = backoff.wait(Ended::Away, Duration::ZERO, u64::MAX);
        }
        assert_eq!(longest, LONGEST - Duration::from_millis(1));
        let refused = backoff.wait(Ended::Refused, Duration::ZERO, u64::MAX);
        assert_eq!(refused, LONGEST_REFUSED - Duration::from_millis(1));
        assert!(backoff.wait(Ended::Away, HEALTHY, u64::MAX) < LEAST);
    }

    #[test]
    fn waits_are_spread_over_the_whole_time() {
        let wait = |random| Backoff { failures: 30 }.wait(Ended::Away, Duration::ZERO, random);
        assert_eq!(wait(0), Duration::ZERO);
        assert_eq!(wait(u64::MAX / 4).as_millis(), 7_499);
    }
}
