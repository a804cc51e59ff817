//! Writes whose paths another node owns: sent there whole, and answered with what came of it.

use std::time::Duration;

use trellis_tree::{Commit, CommitError, Committed};

/// Nodes that a forwarded write passes at most.
pub const HOPS_MAX: u8 = 3;

/// Names a write that this node forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(pub u64);

/// A write to be forwarded, or that was.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardRequest {
    /// The commit, whole. Its key makes a repetition harmless: whoever forwards gives it one.
    pub commit: Commit,
    /// For how long the caller waits from now on.
    pub wait: Duration,
    /// Nodes that it has passed: 0 at the node where it was made.
    pub hops: u8,
}

/// A forwarded write that was committed.
#[derive(Debug, Clone)]
pub struct ForwardedCommit {
    /// The answer; `rev` is that of the log that committed it.
    pub committed: Committed,
    /// That log: 32 hexadecimal digits.
    pub log_id: String,
    /// Its rev in that log.
    pub rev: u64,
    /// Whether this node has applied it too: what is read here from now on includes it.
    pub applied: bool,
}

/// What came of a write that this node forwarded.
///
/// Errors: `Unavailable` with the fact `reason=upstream_unavailable` when it was not sent;
/// `OutcomeUnknown` with `reason=upstream_timeout` when it was, and no answer came; otherwise those
/// of the node that owns the paths, in its words.
pub type ForwardOutcome = Result<ForwardedCommit, CommitError>;

/// What came of a peer's write that this node was to route.
pub type RoutedOutcome = Result<RoutedCommit, CommitError>;

/// A peer's write that was committed, here or further up.
#[derive(Debug, Clone)]
pub struct RoutedCommit {
    /// The answer.
    pub committed: Committed,
    /// The log that committed it: 32 hexadecimal digits.
    pub log_id: String,
    /// Its rev there.
    pub rev: u64,
    /// The commit of this node's log that includes it; 0 when it has not arrived here yet.
    pub reached: u64,
}
