//! A commit and its answer in the form in which they travel: whole, with conditions and key.
//!
//! Values travel as the JSON text that a client would send, so that any version reads them.

use serde::{Deserialize, Serialize};

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCommit {
    /// Conditions.
    pub conditions: Vec<WireCondition>,
    /// Operations.
    pub operations: Vec<WireOperation>,
    /// The idempotency key.
    pub key: Option<String>,
}

/// A condition; paths are texts, as clients write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCondition {
    /// Where.
    pub path: String,
    /// What.
    pub check: WireCheck,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireCheck {
    /// There is a value.
    Exists,
    /// There is none.
    Absent,
    /// It has this hash.
    Hash(String),
    /// It is this one.
    Value(String),
    /// Nothing changed there after this rev of the authority.
    Rev(u64),
}

/// When a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum WireExpiry {
    /// Seconds after the commit, as bits of an f64.
    TtlSecondsBits(u64),
    /// At a time, in milliseconds since 1970.
    AtMs(u64),
}

impl Eq for WireExpiry {}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireOperation {
    /// Replaces what is at a path.
    Set(String, String, Option<WireExpiry>),
    /// Replaces what is at many paths.
    Update(Vec<(String, String)>, Option<WireExpiry>),
    /// Removes.
    Delete(String),
    /// Adds a child.
    Push(String, String, Option<WireExpiry>),
}

/// What came of a forwarded commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireAnswer {
    /// It is committed.
    Committed(WireCommitted),
    /// It is not, or nobody knows.
    Failed(WireFailure),
}

/// A commit's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCommitted {
    /// The log of the node that committed it: 32 hexadecimal digits.
    pub log_id: String,
    /// Its rev there.
    pub rev: u64,
    /// The commit of the answering node by which it has it too.
    pub reached: u64,
    /// Whether it was committed before, under the same key.
    pub replayed: bool,
    /// For each operation the id that a push made, and what transforms came to.
    pub results: Vec<WireResult>,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireResult {
    /// The id that a push made.
    pub pushed: Option<String>,
    /// Paths and the JSON texts that transforms came to.
    pub resolved: Vec<(String, String)>,
}

/// Why a commit did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireFailure {
    /// The code of the error's kind.
    pub kind: String,
    /// The sentence.
    pub message: String,
    /// Its facts.
    pub facts: Vec<(String, String)>,
    /// The path that is to blame.
    pub path: Option<String>,
    /// Conditions that did not hold.
    pub failed: Vec<WireFailedCondition>,
}

/// A condition that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireFailedCondition {
    /// Where.
    pub path: String,
    /// The JSON text of what is there.
    pub value: String,
    /// Its hash.
    pub hash: Option<String>,
    /// Whether the value was too large to answer.
    pub too_large: bool,
}
