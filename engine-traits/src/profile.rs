//! What an engine says of itself: the parts of a profile that all traits share.
//!
//! A profile never changes while an engine is open, and never weakens a mandatory promise: order,
//! isolation, atomicity and durability hold on every engine, natively or emulated.

/// Where an engine's data is after the process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// Gone. `Synced` means no more than `Buffered`.
    Volatile,
    /// On a local disk; what was `Synced` survives loss of power.
    Disk,
    /// On other machines; what was `Synced` survives loss of this one.
    Remote,
}

/// A mandatory promise that an engine lacks by nature and that its adapter provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Semantic {
    /// Frozen views: the adapter keeps writers away, or keeps old versions, while one is open.
    SnapshotIsolation,
    /// Loss of power: the adapter syncs files that the engine only hands to the kernel.
    PowerLossDurability,
    /// Removing a whole key range: the adapter lists the keys and removes each.
    RangeDelete,
}

/// An ability that an engine may lack; asking for it then answers
/// [`Unsupported`](crate::ErrorKind::Unsupported).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// [`KvBackend::maintain`](crate::KvBackend::maintain) gives space back to the file system.
    ReclaimDisk,
}
