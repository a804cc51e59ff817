//! What a caller gets back.

use std::fmt;

use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::path::Path;

/// A commit that is durable and visible.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// The commit's number; the current one when nothing changed.
    pub rev: u64,
    /// One for each operation.
    pub results: Vec<OperationResult>,
    /// Whether an earlier commit with the same idempotency key gave this answer.
    pub replayed: bool,
    /// The commit at the node that owns the paths, when it was made there.
    pub upstream: Option<UpstreamCommit>,
}

/// A commit that another node made for a caller of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamCommit {
    /// That node's log: 32 hexadecimal digits, as in [`Identity`](crate::Identity).
    pub log_id: String,
    /// The commit's number there.
    pub rev: u64,
    /// Whether it is visible here already, as [`Committed::rev`] or before.
    pub applied: bool,
}

/// What an operation came to.
#[derive(Debug, Clone, Default)]
pub struct OperationResult {
    /// The id that a push made.
    pub pushed: Option<String>,
    /// What each transform came to.
    pub resolved: Vec<(Path, Box<RawValue>)>,
}

/// Why a commit did not happen.
#[derive(Debug)]
pub struct CommitError {
    /// The reason.
    pub error: Error,
    /// The path that is to blame, where one is.
    pub path: Option<String>,
    /// Each condition that did not hold.
    pub failed: Vec<FailedCondition>,
}

/// A condition that did not hold, and what is there instead.
#[derive(Debug, Clone)]
pub struct FailedCondition {
    /// Where.
    pub path: Path,
    /// The current value; `null` when absent or too large to answer.
    pub value: Box<RawValue>,
    /// Its hash; `None` when absent, or when hashing what is too large to answer would read too
    /// much beside the other conditions.
    pub hash: Option<String>,
    /// Whether the value was too large to answer.
    pub too_large: bool,
}

impl CommitError {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    pub(crate) fn at(path: &Path, error: Error) -> Self {
        Self { error, path: Some(path.to_string()), failed: Vec::new() }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self { error, path: None, failed: Vec::new() }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        error.error
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

pub(crate) type Outcome = Result<Committed, CommitError>;
