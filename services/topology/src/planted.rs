//! Mistakes that tests plant on purpose, to see that they would be found. Nothing here is API.
//!
//! One switch for the whole process, off unless a test turns it on.

use std::sync::atomic::{AtomicU8, Ordering};

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Planted {
    /// None.
    None = 0,
    /// The tail begins where the source was at the end of the scan, not where it was before.
    SlotPinnedLate,
    /// What is said above a followed prefix is not said of the prefix.
    ProjectionIgnored,
    /// A page that does not come in time is done without.
    BootstrapSkipped,
    /// Where both write, a snapshot replaces.
    SyncReplaced,
    /// The position is written by itself, before the data that it stands for.
    PositionFirst,
    /// Tombstones are collected although a follower has not seen them.
    CollectIgnoresSlots,
}

impl Planted {
    /// All but [`Planted::None`].
    pub const MISTAKES: [Self; 6] = [
        Self::SlotPinnedLate,
        Self::ProjectionIgnored,
        Self::BootstrapSkipped,
        Self::SyncReplaced,
        Self::PositionFirst,
        Self::CollectIgnoresSlots,
    ];
}

static NOW: AtomicU8 = AtomicU8::new(0);

/// Plants a mistake, or [`Planted::None`] to take it back.
pub fn plant(mistake: Planted) {
    NOW.store(mistake as u8, Ordering::SeqCst);
}

/// Whether a mistake is planted.
#[must_use]
pub fn is_planted(mistake: Planted) -> bool {
    NOW.load(Ordering::Relaxed) == mistake as u8
}
