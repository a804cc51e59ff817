//! [`Effect`]: one plain change, as commits are resolved into and as the journal holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One plain change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    /// Removes a path and everything below it; comes before the puts of its commit.
    Clear(Bytes),
    /// Stores a leaf.
    Put(Bytes, Bytes),
    /// Removes a leaf.
    Delete(Bytes),
    /// A path ends at this time.
    Expire(Bytes, u64),
    /// A path no longer ends.
    Unexpire(Bytes),
    /// An entry of the order of endings is used up.
    Unindex(Bytes, u64),
    /// An idempotency key is forgotten.
    Forget(Bytes, u64),
    /// The path was emptied within its zone; what that removed is in other effects.
    Mark(Bytes),
    /// The stamp of this key, of something that is gone, is forgotten.
    Collect(Bytes),
}

impl Effect {
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Clear(key)
            | Self::Put(key, _)
            | Self::Delete(key)
            | Self::Expire(key, _)
            | Self::Unexpire(key)
            | Self::Unindex(key, _)
            | Self::Mark(key)
            | Self::Collect(key) => key,
            // Keys to be forgotten belong to no path.
            Self::Forget(..) => &[],
        }
    }
}
