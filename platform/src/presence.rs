//! The leases of a database: writes that run when somebody who holds one is gone.
//!
//! Started when they are first asked for, as a server does at once: an embedded database that never
//! asks runs nothing that an earlier server stored.

use std::sync::Arc;

use trellis_engine_traits::Result;
use trellis_presence::{Presence, PresenceOptions, PresenceStats};

use crate::handle::Trellis;

impl Trellis {
    /// The leases of this database. Those that are stored go on from the first call on, and end
    /// when their remaining time is over.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no thread.
    ///
    /// ```
    /// use trellis::{LeaseWrite, Path, Trellis};
    ///
    /// let db = Trellis::memory()?;
    /// let lease = db.presence()?.hold()?;
    /// lease.store(LeaseWrite::Delete { path: Path::parse("online/alice")? }).wait()?;
    /// db.set("online/alice", true)?;
    /// lease.end().wait()?;
    /// assert!(!db.exists("online/alice")?);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn presence(&self) -> Result<Presence> {
        let mut presence = self.presence_slot().lock();
        if let Some(presence) = &*presence {
            return Ok(presence.clone());
        }
        let options = PresenceOptions {
            leases_max: self.config().server.leases_max,
            ..PresenceOptions::default()
        };
        let runtime = Arc::clone(self.runtime());
        let started = Presence::start(self.tree().clone(), runtime, options)?;
        Ok(presence.insert(started).clone())
    }

    /// Where the leases stand; all zero while nobody has asked for one.
    #[must_use]
    pub fn presence_stats(&self) -> PresenceStats {
        self.presence_slot().lock().as_ref().map(Presence::stats).unwrap_or_default()
    }
}
