//! What can be set about leases.

use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};

/// The shortest time to live of a lease.
pub const TTL_MIN: Duration = Duration::from_secs(10);
/// The longest time to live of a lease.
pub const TTL_MAX: Duration = Duration::from_secs(600);

/// Limits of leases and of what is stored with them.
///
/// ```
/// use trellis_presence::PresenceOptions;
///
/// assert_eq!(PresenceOptions::default().ttl_default.as_secs(), 45);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceOptions {
    /// The time to live of a lease whose maker names none; from [`TTL_MIN`] to [`TTL_MAX`].
    pub ttl_default: Duration,
    /// Leases at once; one more is answered with `busy`.
    pub leases_max: usize,
    /// Paths that the stored writes of one lease name together; one more is `too_large`.
    pub writes_max: usize,
    /// Bytes of the stored writes of one lease, as JSON text; more is `too_large`. A commit must
    /// be able to hold them: at most half of the tree's `commit_bytes_max` is used.
    pub bytes_max: usize,
    /// Requests that may wait for the worker; one more is answered with `busy`.
    pub requests_max: usize,
    /// How long a lease lasts at least after a restart, if its time to live is not shorter: nobody
    /// could renew it while nothing ran.
    pub restart_grace: Duration,
}

impl Default for PresenceOptions {
    fn default() -> Self {
        Self {
            ttl_default: Duration::from_secs(45),
            leases_max: 100_000,
            writes_max: 100,
            bytes_max: 64 << 10,
            requests_max: 65_536,
            restart_grace: Duration::from_secs(10),
        }
    }
}

impl PresenceOptions {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        check_ttl(self.ttl_default).map(|_| ())
    }
}

/// The time to live in milliseconds.
///
/// # Errors
/// `InvalidInput` outside its bounds.
pub(crate) fn check_ttl(ttl: Duration) -> Result<u64> {
    if ttl < TTL_MIN || ttl > TTL_MAX {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the ttl of a lease is 10 to 600 seconds: renew it to keep it longer",
        )
        .operation("lease"));
    }
    Ok(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}
