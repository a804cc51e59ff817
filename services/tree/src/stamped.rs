//! What those who replicate a tree read of it: its identity, its commits, pages of stamped records.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::{LoggedCommit, Scope, StampedOp, Tree, View};

/// A page of what a scope holds, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampedPage {
    /// Live leaves, tombstones, clears and endings; what was never stamped has
    /// [`Version::ZERO`](crate::Version::ZERO).
    pub ops: Vec<StampedOp>,
    /// The key where the next page starts; `None` after the last.
    pub next: Option<Bytes>,
    /// Bytes of keys and values in it.
    pub bytes: usize,
}

/// A page of what changed in a scope after a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampedDelta {
    /// What is there now, in the order of the commits that changed it last.
    pub ops: Vec<StampedOp>,
    /// A cursor for the next page; `None` after the last.
    pub next: Option<Bytes>,
}

/// Sums over what a scope shows: equal where two nodes hold the same in the same versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeDigest {
    /// 256 sums, by a byte of the key's hash.
    pub buckets: Vec<u128>,
    /// Their sum.
    pub total: u128,
    /// Leaves and endings summed up.
    pub leaves: u64,
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Followers that have less than this commit can no longer be told by revs what is gone.
    pub gc_floor: u64,
    /// Tombstones and clears that went.
    pub removed: u64,
}

/// What replication keeps in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ReplicationStats {
    /// Entries of the order of revs.
    pub by_rev_entries: u64,
    /// Stamps of leaves and endings that are gone.
    pub tombstones: u64,
    /// Stamps of subtrees that were emptied.
    pub clears: u64,
    /// See [`Collected::gc_floor`].
    pub gc_floor: u64,
    /// The oldest commit in the journal.
    pub journal_first_rev: u64,
    /// Bytes appended to the journal since open.
    pub journal_bytes: u64,
}

fn not_yet() -> Error {
    Error::new(ErrorKind::Unsupported, "stamps are not kept yet")
}

impl Tree {
    /// The node's id, which is that of its log.
    #[must_use]
    pub fn node_id(&self) -> u128 {
        self.core().log_id
    }

    /// The node's id in versions: its low 64 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub fn origin(&self) -> u64 {
        self.core().log_id as u64
    }

    /// The hash of the record at a rev; `None` when it was trimmed or is not there yet.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn hash_at(&self, rev: u64) -> Result<Option<[u8; 16]>> {
        let _ = rev;
        Err(not_yet())
    }

    /// Commits after a rev, durable ones only, in order; some `bytes_max` bytes of them.
    ///
    /// # Errors
    /// `NotFound` when the next one was trimmed; those of the journal.
    pub fn read_commits(&self, after: u64, bytes_max: usize) -> Result<Vec<LoggedCommit>> {
        let _ = (after, bytes_max);
        Err(not_yet())
    }

    /// Removes tombstones and clears that are old enough and that everybody has seen.
    ///
    /// # Errors
    /// As for a commit.
    pub fn collect(&self, floor_rev: u64, older_than_ms: u64) -> Result<Collected> {
        let _ = (floor_rev, older_than_ms);
        Err(not_yet())
    }

    /// What replication keeps.
    ///
    /// # Errors
    /// Those of the engines.
    ///
    /// # Cost
    /// Reads every stamp.
    pub fn replication_stats(&self) -> Result<ReplicationStats> {
        Err(not_yet())
    }
}

impl View {
    /// A page of what a scope holds, from a key on. Before the first key of a prefix of the scope
    /// comes the newest clear above it in its zone, as one of the prefix.
    ///
    /// # Errors
    /// Those of reading.
    pub fn stamped_page(
        &self,
        scope: &Scope,
        start: &[u8],
        items_max: usize,
        bytes_max: usize,
    ) -> Result<StampedPage> {
        let _ = (scope, start, items_max, bytes_max);
        Err(not_yet())
    }

    /// A page of what changed after a commit and up to the view's.
    ///
    /// # Errors
    /// Those of reading.
    pub fn stamped_since(
        &self,
        scope: &Scope,
        after_rev: u64,
        start: Option<Bytes>,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<StampedDelta> {
        let _ = (scope, after_rev, start, items_max, bytes_max);
        Err(not_yet())
    }

    /// The digest of a scope.
    ///
    /// # Errors
    /// Those of reading.
    ///
    /// # Cost
    /// Reads everything in the scope.
    pub fn scope_digest(&self, scope: &Scope) -> Result<ScopeDigest> {
        let _ = scope;
        Err(not_yet())
    }
}
