//! Figures for people and dashboards.

use serde::Serialize;

/// Where presence stands. What is "at the moment" returns to zero when nobody holds a lease;
/// counters count since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PresenceStats {
    /// Leases at the moment, those that are about to end included.
    pub leases: usize,
    /// Of these, the ones that a connection holds.
    pub held: usize,
    /// Of these, the ones that ended and whose writes have not run yet.
    pub ending: usize,
    /// Paths of stored writes at the moment.
    pub writes: usize,
    /// Bytes of stored writes at the moment.
    pub bytes: usize,
    /// Leases that ended.
    pub ended: u64,
    /// Paths of stored writes that ran.
    pub writes_run: u64,
    /// Paths of stored writes that could no longer be applied.
    pub writes_dropped: u64,
    /// Attempts to end a lease that have to be repeated.
    pub retries: u64,
}
