//! The hybrid logical clock: milliseconds of the wall clock and a counter in one number that never
//! goes backwards, not across restarts and not when the wall clock does.

/// Milliseconds take the upper 48 bits, the counter the lower 16.
const COUNTER_BITS: u32 = 16;

/// A clock that has shown `last` and goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// Goes on behind a time that was shown before, for example in the last record.
    #[must_use]
    pub const fn after(last: u64) -> Self {
        Self { last }
    }

    /// The last time shown or seen.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// The time of a new event; higher than all shown or seen before. A full counter carries into
    /// the milliseconds.
    pub fn tick(&mut self, wall_ms: u64) -> u64 {
        let wall = wall_ms.min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS;
        self.last = wall.max(self.last.saturating_add(1));
        self.last
    }

    /// Takes note of another node's time: what happens here next is later.
    pub fn see(&mut self, remote: u64) {
        self.last = self.last.max(remote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_shows_a_time_twice_nor_an_earlier_one() {
        let mut clock = HybridClock::after(7 << 16);
        let times: Vec<u64> = [5, 9, 9, 3, 9, 10].map(|wall| clock.tick(wall)).into();
        assert!(times.is_sorted_by(|one, other| one < other), "{times:?}");
        assert_eq!(times.last(), Some(&(10 << 16)), "it follows the wall clock");
    }

    #[test]
    fn what_happens_after_a_remote_time_is_later() {
        let mut clock = HybridClock::default();
        clock.see((90 << 16) | 0xffff);
        assert_eq!(clock.tick(5), 91 << 16, "a full counter carries into the milliseconds");
    }
}
