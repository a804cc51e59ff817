//! Slots: how far each follower has come, and what is kept for it.

use std::time::Duration;

/// What is kept for followers, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOptions {
    /// Journal kept for a slot; beyond it the slot is invalid, and its follower filled anew.
    pub tail_bytes_max: u64,
    /// Age of journal kept for a slot.
    pub tail_age_max: Duration,
    /// Time after which a slot whose follower is away is invalid.
    pub idle_max: Duration,
    /// Slots at most.
    pub slots_max: usize,
    /// Age of tombstones and clears before they are collected.
    pub collect_age: Duration,
    /// Time after which a slot that moved is written.
    pub persist_after: Duration,
    /// Revs after which a slot that moved is written.
    pub persist_revs: u64,
}

impl Default for SlotOptions {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            tail_bytes_max: 256 << 20,
            tail_age_max: 7 * day,
            idle_max: day,
            slots_max: 256,
            collect_age: day,
            persist_after: Duration::from_secs(5),
            persist_revs: 10_000,
        }
    }
}
