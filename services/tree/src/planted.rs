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
    /// A leaf does not look for what is newer below it.
    LeafKeepsItsPlace,
    /// A tombstone is forgotten at once.
    TombForgotten,
    /// What is due at the source keeps no version of its own: the receiver's is taken.
    EndingOverwrites,
    /// What a page does not name stays.
    ReplaceKeepsAbsent,
    /// What a page does not name goes, known to the source or not.
    FillTakesUnknown,
    /// Notes are written in a commit of their own.
    NotesApart,
    /// Collection does not ask who still needs what it removes.
    CollectIgnoresSlots,
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
