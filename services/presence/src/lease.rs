//! A lease in the worker's memory.

use std::sync::Arc;

use crate::beat::Beat;
use crate::options::PresenceOptions;

/// Renewals are noted at whole seconds, so that those of many leases share a commit.
const NOTE_GRID_MS: u64 = 1_000;

/// What the worker knows of a lease; its stored writes are in the tree.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Its holder's; its own while nobody holds it.
    pub(crate) beat: Arc<Beat>,
    pub(crate) ttl_ms: u64,
    /// Whether a connection holds it.
    pub(crate) is_held: bool,
    /// Whether something may be stored of it.
    pub(crate) is_durable: bool,
    /// Paths and bytes of its stored writes.
    pub(crate) paths: usize,
    pub(crate) bytes: usize,
    /// What was heard last when it was last noted durably.
    pub(crate) noted_ms: u64,
    /// When it may be noted again.
    pub(crate) next_note_ms: u64,
    /// When the worker looks at it.
    pub(crate) due_ms: u64,
}

impl Lease {
    pub(crate) fn new(beat: Arc<Beat>, ttl_ms: u64) -> Self {
        let noted_ms = beat.last_ms();
        Self {
            beat,
            ttl_ms,
            is_held: false,
            is_durable: false,
            paths: 0,
            bytes: 0,
            noted_ms,
            next_note_ms: 0,
            due_ms: 0,
        }
    }

    /// When it ends unless it is renewed.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.beat.last_ms().saturating_add(self.ttl_ms)
    }

    /// When the worker has to look at it next.
    pub(crate) fn next_look_ms(&self) -> u64 {
        if self.is_durable { self.ends_ms().min(self.next_note_ms) } else { self.ends_ms() }
    }

    /// Its renewals are noted now, and next after a third of its time.
    pub(crate) fn noted(&mut self, heard_ms: u64, now_ms: u64) {
        self.noted_ms = heard_ms;
        self.note_again(now_ms, self.ttl_ms / 3);
    }

    /// It may be noted after this time again.
    pub(crate) fn note_again(&mut self, now_ms: u64, after_ms: u64) {
        let next = now_ms.saturating_add(after_ms.max(1));
        self.next_note_ms = next.next_multiple_of(NOTE_GRID_MS);
    }

    /// Whether a renewal is worth a commit now.
    pub(crate) fn wants_note(&self, now_ms: u64) -> bool {
        self.is_durable && now_ms >= self.next_note_ms && self.beat.last_ms() > self.noted_ms
    }
}

/// The last moment that a lease was heard of, as a restart finds it: as long before now as what is
/// left of its time wants, and never so long that nobody could come back.
pub(crate) fn heard_before(
    left_ms: u64,
    ttl_ms: u64,
    now_ms: u64,
    options: &PresenceOptions,
) -> u64 {
    let grace = u64::try_from(options.restart_grace.as_millis()).unwrap_or(u64::MAX);
    let left = left_ms.max(grace).min(ttl_ms);
    now_ms.saturating_add(left).saturating_sub(ttl_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_leaves_the_remaining_time_and_time_to_come_back() {
        let options = PresenceOptions::default();
        let now = 1_000_000;
        let ends = |left, ttl| heard_before(left, ttl, now, &options) + ttl - now;
        assert_eq!(ends(30_000, 45_000), 30_000);
        assert_eq!(ends(0, 45_000), 10_000);
        assert_eq!(ends(90_000, 45_000), 45_000, "a clock that was set");
    }

    #[test]
    fn notes_are_a_third_of_the_time_apart_and_share_moments() {
        let mut lease = Lease::new(Arc::new(Beat::new(5_000, 45_000)), 45_000);
        lease.is_durable = true;
        lease.noted(5_000, 5_400);
        assert_eq!(lease.next_note_ms, 21_000);
        assert!(!lease.wants_note(30_000), "nothing was heard since");
        lease.beat.touch(7_000);
        assert!(!lease.wants_note(20_999));
        assert!(lease.wants_note(21_000));
    }
}
