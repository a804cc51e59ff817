//! What a tree asks of whoever knows the topology: which paths are stamped, who may write where.
//!
//! The tree knows no modes and no peers. Both traits are answered in memory, at once.

use std::fmt;

use bytes::Bytes;

use crate::answer::CommitError;
use crate::commit::Commit;
use crate::pending::PendingCommit;
use crate::stamp::Scope;

/// How a zone is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// No stamps: nobody replicates it, and it costs nothing.
    None,
    /// Stamps. One node at a time writes here, so a clear is logged only when it removes something.
    Owned,
    /// Stamps. Several nodes write here: every clear is logged, even of nothing, because another
    /// node may have something there.
    Shared,
}

/// Who removes what is due in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endings {
    /// This node, as it would without replication.
    Here,
    /// Every node, each removal just later than what it removes: nodes that know the same remove in
    /// the same versions, and whatever one has not heard of is nothing that it removes.
    Everywhere,
    /// Another node: here it is hidden and stays until that one's removal arrives.
    Elsewhere,
}

/// The zone of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// Tells zones apart: rules of merging hold within one.
    pub id: u32,
    /// Bytes of the key of the zone's prefix, 0 for the root.
    pub prefix_bytes: usize,
    /// How it is kept.
    pub tracking: Tracking,
    /// Who removes what is due.
    pub endings: Endings,
}

/// Divides the tree into zones; constant while a tree is open.
pub trait Zoning: Send + Sync + fmt::Debug {
    /// The zone of a path's key.
    fn zone(&self, key: &[u8]) -> Zone;

    /// Keys of the prefixes of other zones strictly below a path's key, in order: what a removal
    /// of the path leaves alone. None covers another.
    fn carved(&self, key: &[u8]) -> Vec<Bytes>;

    /// Keys of the prefixes strictly below a path's key that belong to other nodes alone, in order:
    /// what a removal asked for here leaves as it is. Other zones below go with their path, each
    /// cleared on its own. None covers another.
    fn kept(&self, _key: &[u8]) -> Vec<Bytes> {
        Vec::new()
    }

    /// Whether anything at or below a path's key is stamped.
    fn any_tracked(&self, key: &[u8]) -> bool;

    /// The part of the tree that is stamped. A tree remembers it: what was not in it when the tree
    /// was open last has to be told to every follower as a whole. All of the tree, if not said.
    fn tracked(&self) -> Scope {
        Scope { within: vec![Bytes::new()], except: Vec::new() }
    }
}

/// Zonings are the same when they are one: they are made once, at open.
impl PartialEq for dyn Zoning {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self, other)
    }
}

impl Eq for dyn Zoning {}

/// Where a caller's commit goes.
#[derive(Debug)]
pub enum Passage {
    /// Into this tree.
    Here(Commit),
    /// To the node that owns the paths; the answer is that node's.
    Elsewhere(PendingCommit),
    /// Nowhere.
    Refused(CommitError),
}

/// Decides where each commit goes that is not a service's own ([`Commit::system`]): one door for
/// every way in.
pub trait Gate: Send + Sync + fmt::Debug {
    /// Must not block.
    fn pass(&self, commit: Commit) -> Passage;

    /// Refuses what is not this tree's to write. Asked for what a service keeps and commits itself
    /// later, as its own.
    ///
    /// # Errors
    /// `Denied`, with the reason.
    fn check_here(&self, commit: &Commit) -> Result<(), CommitError>;
}
