//! When many receivers are woken.
//!
//! Waking one ends in a call of the system for its socket, which costs more than all else that is
//! done for a frame. So many are woken in rounds: while receivers of one are on their way, and for
//! most of that time again, what is committed waits in the mailboxes and goes out together. The
//! time after is what the receivers' sockets and clients take, which nobody here sees, and for
//! writers that wait for them: without it what they send next would always be a round behind, and
//! each round half as large. After that, commits that are under way are waited for.
//!
//! Invariants: a commit after a pause, with none behind it, waits for nothing; a receiver that does
//! not come holds up one round, and that not beyond [`ROUND_MAX`]; nobody waits by looking again
//! and again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_tree::FollowerBell;

use crate::mailbox::Mailbox;

/// From so many receivers on they are woken in rounds.
pub(crate) const MANY: usize = 64;
/// Which part of a mailbox may fill while its receiver waits and is not woken.
pub(crate) const HELD_BACK_PART: usize = 8;
/// How long a round is waited for.
pub(crate) const ROUND_MAX: Duration = Duration::from_millis(20);
/// How long at most commits under way are waited for, for each receiver: some part of what it takes
/// to wake them all.
const GATHER: Duration = Duration::from_micros(3);
/// And for however many.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// Mailboxes in which something was put, and whose receivers nobody woke for it yet.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    /// One of them fills while its receiver waits, however often it watches the same.
    pub(crate) is_full: bool,
}

/// The receivers of the newest round that have not come yet.
#[derive(Debug, Default)]
pub(crate) struct Round {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    number: u64,
    left: usize,
    /// Rung when the last one has come.
    bell: Option<FollowerBell>,
}

impl Round {
    /// Whom to tell that a round is over.
    pub(crate) fn tell(&self, bell: FollowerBell) {
        self.state.lock().bell = Some(bell);
    }

    /// A new round: those who are late for the one before are no longer waited for.
    fn begin(&self) {
        let mut state = self.state.lock();
        state.number += 1;
        state.left = 0;
    }

    /// One more receiver is woken; the number of the round, to leave it with.
    pub(crate) fn enter(&self) -> u64 {
        let mut state = self.state.lock();
        state.left += 1;
        state.number
    }

    /// A receiver has come, or is gone.
    pub(crate) fn leave(&self, number: u64) {
        let mut state = self.state.lock();
        if state.number != number {
            return;
        }
        state.left = state.left.saturating_sub(1);
        let bell = if state.left == 0 { state.bell.clone() } else { None };
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// Whether nobody is on the way.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().left == 0
    }
}

/// The publisher's side: when the next round may begin.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the round began that is under way.
    begun: Option<Duration>,
    rest_until: Duration,
    /// Until when commits under way are waited for.
    gathers_until: Option<Duration>,
}

impl Pace {
    /// Begins a round.
    pub(crate) fn begin(&mut self, round: &Round, now: Duration) {
        round.begin();
        self.begun = Some(now);
        self.gathers_until = None;
    }

    /// Whether it is worth waiting for what is under way, once the next round may begin.
    pub(crate) fn gathers(&mut self, receivers: usize, now: Duration) -> bool {
        let receivers = u32::try_from(receivers).unwrap_or(u32::MAX);
        let gather = GATHER.saturating_mul(receivers).min(GATHER_MAX);
        now < *self.gathers_until.get_or_insert(now.saturating_add(gather))
    }

    /// How long the next round has to wait yet, unless this one ends earlier. To be asked when the
    /// bell rings: that is when the rest begins.
    pub(crate) fn wait(&mut self, round: &Round, now: Duration) -> Duration {
        if let Some(begun) = self.begun {
            let taken = now.saturating_sub(begun);
            if taken < ROUND_MAX && !round.is_over() {
                return ROUND_MAX.saturating_sub(taken);
            }
            self.begun = None;
            self.rest_until = now.saturating_add(rest(taken.min(ROUND_MAX)));
        }
        self.rest_until.saturating_sub(now)
    }

    /// How long to wait for anything to happen, while receivers are held back.
    pub(crate) fn patience(&mut self, round: &Round, now: Duration) -> Duration {
        let wait = self.wait(round, now);
        match self.gathers_until {
            Some(until) if wait.is_zero() => until.saturating_sub(now),
            _ => wait,
        }
    }
}

/// How long nobody is woken after a round that took so long: much less falls back into halves,
/// much more leaves the processors idle.
fn rest(taken: Duration) -> Duration {
    taken * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_round_is_followed_by_a_rest_and_a_pause_by_none() {
        let (round, mut pace) = (Round::default(), Pace::default());
        assert_eq!(pace.wait(&round, Duration::ZERO), Duration::ZERO);
        pace.begin(&round, Duration::ZERO);
        let numbers = [round.enter(), round.enter()];
        assert_eq!(pace.wait(&round, 5 * MS), ROUND_MAX - 5 * MS);
        round.leave(numbers[0]);
        assert_eq!(pace.wait(&round, 6 * MS), ROUND_MAX - 6 * MS);
        round.leave(numbers[1]);
        assert_eq!(pace.wait(&round, 8 * MS), rest(8 * MS));
        assert_eq!(pace.wait(&round, 13 * MS), MS);
        assert_eq!(pace.wait(&round, 14 * MS), Duration::ZERO);
    }

    #[test]
    fn commits_under_way_are_waited_for_as_long_as_it_is_worth_it() {
        let (round, mut pace) = (Round::default(), Pace::default());
        assert_eq!(pace.patience(&round, MS), Duration::ZERO);
        assert!(pace.gathers(1_000, MS));
        assert_eq!(pace.patience(&round, 2 * MS), 2 * MS);
        assert!(!pace.gathers(1_000, 4 * MS));
        pace.begin(&round, 4 * MS);
        assert!(pace.gathers(1_000_000, 5 * MS) && !pace.gathers(1_000_000, 10 * MS));
    }

    #[test]
    fn who_does_not_come_holds_up_one_round_and_only_so_long() {
        let (round, mut pace) = (Round::default(), Pace::default());
        pace.begin(&round, Duration::ZERO);
        let late = round.enter();
        assert_eq!(pace.wait(&round, ROUND_MAX), rest(ROUND_MAX));
        let next = ROUND_MAX * 2;
        assert_eq!(pace.wait(&round, next), Duration::ZERO);
        pace.begin(&round, next);
        let number = round.enter();
        // It counts no more, not even when it comes.
        round.leave(late);
        assert_eq!(pace.wait(&round, next), ROUND_MAX);
        round.leave(number);
        assert_eq!(pace.wait(&round, next), Duration::ZERO);
    }
}
