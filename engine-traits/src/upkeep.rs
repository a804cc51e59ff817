//! Upkeep of a store: maintenance, the space it takes, the check of its files.

use std::time::Duration;

/// How much one slice of maintenance may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceBudget {
    /// A soft limit on the time taken.
    pub time: Duration,
}

impl MaintenanceBudget {
    /// No limit: everything that makes the files smaller, however long it takes and whoever waits
    /// for it meanwhile.
    pub const UNBOUNDED: Self = Self { time: Duration::MAX };
}

/// What one slice of maintenance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaintenanceReport {
    /// Bytes given back to the file system.
    pub reclaimed_bytes: u64,
    /// Whether another slice would find work.
    pub more: bool,
}

/// What an engine says after it checked its own files.
///
/// ```
/// use trellis_engine_traits::EngineCheck;
///
/// let clean = EngineCheck::complete();
/// assert!(clean.damage.is_empty() && clean.skipped.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineCheck {
    /// A sentence for each damage found; no keys and no values.
    pub damage: Vec<String>,
    /// Why not everything was checked, and what to do about it.
    pub skipped: Option<String>,
}

impl EngineCheck {
    /// Everything was checked, and nothing found.
    #[must_use]
    pub const fn complete() -> Self {
        Self { damage: Vec::new(), skipped: None }
    }

    /// Nothing was found, and not everything checked.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { damage: Vec::new(), skipped: Some(why.into()) }
    }

    /// One damage was found.
    #[must_use]
    pub fn damaged(what: impl Into<String>) -> Self {
        Self { damage: vec![what.into()], skipped: None }
    }
}

/// The space that a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceUsage {
    /// Bytes of live keys and values, as exactly as the engine can tell without reading them all.
    pub live_bytes: u64,
    /// Bytes of all files; 0 for a volatile store.
    pub disk_bytes: u64,
}
