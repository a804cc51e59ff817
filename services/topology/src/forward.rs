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

/// What came of a write that this node forwarded: [`Committed::upstream`] names the commit, and
/// says whether this node has applied it too.
///
/// Errors: `Unavailable` with the fact `reason=upstream_unavailable` when it was not sent;
/// `OutcomeUnknown` with `reason=upstream_timeout` when it was, and no answer came; otherwise those
/// of the node that owns the paths, in its words.
pub type ForwardOutcome = Result<Committed, CommitError>;

/// What came of a peer's write that this node was to route: as [`ForwardOutcome`] when it was sent
/// further up, or as its own tree answered.
pub type RoutedOutcome = Result<Committed, CommitError>;
