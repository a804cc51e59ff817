//! What replication knows of a path besides its value: who wrote it when, and in which commit here.
//!
//! The state that nodes agree on is a set of *stamped* records, one a path: a live leaf, a
//! tombstone (a leaf was here), or a clear (a subtree was emptied). Of two records of a path that
//! of the higher [`Version`] wins; of the same version, the greater stored bytes. Besides, within a
//! zone:
//!
//! 1. a record at a path, of whatever kind, hides every one strictly below it of a lower version;
//! 2. a live leaf gives way to any record strictly below it of a higher version (endings aside),
//!    and to a live leaf of the same version: a clear of the leaf's version is left in its place.
//!
//! What is hidden is forgotten. Both rules look at versions only, so the same records give the same
//! state in any order, however often they come. Of equal versions a leaf is greater than a clear,
//! and a clear greater than a tombstone. A leaf without a stamp, written before there were
//! any, counts as [`Version::ZERO`].
//!
//! Stamps are derived from the journal's records in the same instant as the data, and are in no
//! copy: a restored tree is another node with another history.

use bytes::Bytes;

use crate::cause::ChangeCause;
use crate::path::Path;

/// When a record was written, on the hybrid logical clock, and by whom: a total order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Version {
    /// 48 bits of milliseconds since 1970, 16 bits of counter.
    pub hlc: u64,
    /// The author: the low 64 bits of its log id; 0 for what ended by itself.
    pub origin: u64,
}

impl Version {
    /// Older than every commit.
    pub const ZERO: Self = Self { hlc: 0, origin: 0 };

    /// The least version that is greater.
    pub(crate) const fn next(self) -> Self {
        match self.origin.checked_add(1) {
            Some(origin) => Self { hlc: self.hlc, origin },
            None => Self { hlc: self.hlc.saturating_add(1), origin: 0 },
        }
    }

    /// The milliseconds since 1970 in it.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.hlc >> 16
    }
}

/// What a stamped record says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StampedChange {
    /// A leaf is here, in its stored bytes.
    Put(Bytes),
    /// A leaf was here.
    Tomb,
    /// Everything at and below was removed.
    Clear,
    /// When what is at and below ends, in milliseconds since 1970; `None`: no longer. A record of
    /// its own beside the path's leaf, hidden like whatever is below.
    Ending(Option<u64>),
}

/// One stamped record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StampedOp {
    /// The path's key: segments joined by 0x00.
    pub key: Bytes,
    /// Who wrote it when.
    pub version: Version,
    /// What.
    pub change: StampedChange,
}

/// Where a commit comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Author {
    /// Its version: that of each op which has no other.
    pub version: Version,
    /// The nodes that relayed it, the author aside, oldest first; at most [`VIA_MAX`].
    pub via: Vec<u64>,
}

/// Relays that a commit passes at most.
pub const VIA_MAX: usize = 8;

/// A part of the tree: all at and below some paths, without all at and below others.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Scope {
    /// Keys of the paths in it; an empty key is the root.
    pub within: Vec<Bytes>,
    /// Keys of paths that are not.
    pub except: Vec<Bytes>,
}

impl Scope {
    /// Whether a path's key lies in it: the longest prefix of the two lists decides.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        let longest = |prefixes: &[Bytes]| {
            let covering = prefixes.iter().filter(|prefix| crate::path::covers(prefix, key));
            covering.map(|prefix| prefix.len() + 1).max().unwrap_or(0)
        };
        let within = longest(&self.within);
        within > 0 && within > longest(&self.except)
    }
}

/// How a remote commit meets what is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteRule {
    /// The merge of the two rules above.
    Merge,
    /// As `Merge`; but where something of it would lose to what is here, the whole of it counts as
    /// it is. For a commit that comes in its order and touches only what its source alone writes:
    /// versions would keep it out where this node wrote under a clock that was ahead, before it
    /// followed.
    Follow,
    /// The ops are all that the interval `from..until` of the scope holds, whatever is here: what
    /// is not among them goes, and versions here do not matter. What goes leaves tombstones that
    /// are just newer, so that whoever follows this node by merging is told. Outside of the
    /// interval a leaf speaks for all at and below its path, what removes for what is older there.
    Replace {
        /// The first key.
        from: Bytes,
        /// The key behind the last one; `None`: to the end.
        until: Option<Bytes>,
    },
    /// As `Merge`, and what is not among the ops in the interval goes if its stamp's rev here is at
    /// most `known_rev`: the source knew it, so it has removed it since. It leaves a tombstone too.
    Fill {
        /// The first key.
        from: Bytes,
        /// The key behind the last one; `None`: to the end.
        until: Option<Bytes>,
        /// What the source has of this node.
        known_rev: u64,
    },
    /// As `Merge`, and what an op loses to is written once more, as it is: whoever follows this
    /// node is told of it again. For what was found to differ: the other end may have forgotten the
    /// removal that wins here, or never have known it.
    Settle,
}

/// A commit of another node, to be applied here as one.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteCommit {
    /// Where it comes from; `via` names the nodes that relayed it, the peer that sent it included
    /// unless that is the author.
    pub author: Author,
    /// Why it happened there.
    pub cause: ChangeCause,
    /// What it changes, in keys of this node.
    pub ops: Vec<StampedOp>,
    /// What of this node it may touch: whatever else it names is clipped.
    pub scope: Scope,
    /// How it meets what is here.
    pub rule: RemoteRule,
    /// Leaves of system paths that belong to it, such as the position it stands for: written in the
    /// same commit, even if nothing else is.
    pub notes: Vec<(Path, crate::input::Input)>,
}

/// What came of a remote commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteApplied {
    /// The newest rev then: of its commit, or of the last one when nothing changed.
    pub rev: u64,
    /// Ops that changed something.
    pub applied: usize,
    /// Ops that were here already.
    pub known: usize,
    /// Ops that lost to a higher version here.
    pub lost: usize,
    /// Ops that won over another node's value here (a conflict, not an update in order).
    pub won: usize,
    /// Ops outside the scope.
    pub clipped: usize,
}
