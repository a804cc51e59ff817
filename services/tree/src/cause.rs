//! Why a commit happened: in the journal's records, and as followers and other nodes are told.

use serde::{Deserialize, Serialize};

/// Why a commit happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeCause {
    /// Somebody asked for it.
    Request,
    /// Something was due.
    Ttl,
    /// Upkeep of the tree's own notes; it changes no value.
    Upkeep,
}
