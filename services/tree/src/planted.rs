//! Mistakes that tests plant on purpose, to see that they would be found. Nothing here is API.
//!
//! One switch for the whole process, off unless a test turns it on; a test that does runs in a
//! process of its own.

use std::sync::atomic::{AtomicU8, Ordering};

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Planted {
    /// None.
    None = 0,
    /// A record of the same version wins, whatever its bytes: `>=` for `>`.
    VersionCheckLoose,
    /// A clear takes what lies in zones of others below it.
    ClearNotClipped,
    /// A clear takes what is newer below it.
    ClearTakesNewer,
    /// What comes in is not looked for above: an older leaf comes back below a newer clear.
    AncestorsIgnored,
    /// A leaf that gives way leaves nothing behind that hides what is older below it.
    LeafLeavesNothing,
    /// A tombstone is forgotten at once.
    TombForgotten,
    /// An ending is taken over whatever its version.
    EndingOverwrites,
    /// What a page does not name stays.
    ReplaceKeepsAbsent,
    /// What a page does not name goes, known to the source or not.
    FillTakesUnknown,
    /// A removal that is applied whatever the versions takes what is newer below it.
    RemovalTakesAll,
}

impl Planted {
    /// All but [`Planted::None`].
    pub const MISTAKES: [Self; 10] = [
        Self::VersionCheckLoose,
        Self::ClearNotClipped,
        Self::ClearTakesNewer,
        Self::AncestorsIgnored,
        Self::LeafLeavesNothing,
        Self::TombForgotten,
        Self::EndingOverwrites,
        Self::ReplaceKeepsAbsent,
        Self::FillTakesUnknown,
        Self::RemovalTakesAll,
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

/// The mistake that is planted.
#[must_use]
pub fn planted() -> Planted {
    let now = NOW.load(Ordering::Relaxed);
    let planted = Planted::MISTAKES.into_iter().find(|mistake| *mistake as u8 == now);
    planted.unwrap_or(Planted::None)
}
