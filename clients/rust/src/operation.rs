//! Operations and conditions of a commit, as the protocol writes them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// When a written value is to vanish.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Expiry {
    /// So many seconds after the commit.
    #[serde(rename = "ttl")]
    TtlSeconds(f64),
    /// At this time, in milliseconds since 1970.
    #[serde(rename = "expiresAt")]
    AtMs(u64),
}

/// What may go with a write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteOptions {
    /// When the value is to vanish.
    pub expiry: Option<Expiry>,
    /// The idempotency key; a random one when `None`. Name one to make a retry by another process,
    /// or after a restart, count once.
    pub key: Option<String>,
}

/// One operation of a commit.
///
/// ```
/// use trellis_client::Operation;
///
/// let operation = Operation::set("users/u1/visits", serde_json::json!({".sv": {"increment": 1}}));
/// assert_eq!(
///     serde_json::to_string(&operation).unwrap(),
///     r#"{"op":"set","path":"users/u1/visits","value":{".sv":{"increment":1}}}"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Replaces what is at a path.
    Set {
        /// Where.
        path: String,
        /// What; `null` deletes.
        value: Value,
        /// When it is to vanish.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        expiry: Option<Expiry>,
    },
    /// Sets many paths, none of which lies within another.
    Update {
        /// Path to value.
        updates: BTreeMap<String, Value>,
        /// When all of them are to vanish.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        expiry: Option<Expiry>,
    },
    /// Removes what is at a path.
    Delete {
        /// Where.
        path: String,
    },
    /// Adds a child under a new, time-ordered id.
    Push {
        /// The parent.
        path: String,
        /// What.
        value: Value,
        /// When it is to vanish.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        expiry: Option<Expiry>,
    },
}

impl Operation {
    /// Replaces what is at `path`.
    #[must_use]
    pub fn set(path: impl Into<String>, value: Value) -> Self {
        Self::Set { path: path.into(), value, expiry: None }
    }

    /// Sets many paths.
    #[must_use]
    pub fn update(updates: BTreeMap<String, Value>) -> Self {
        Self::Update { updates, expiry: None }
    }

    /// Removes what is at `path`.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::Delete { path: path.into() }
    }

    /// Adds a child of `path` under a new id.
    #[must_use]
    pub fn push(path: impl Into<String>, value: Value) -> Self {
        Self::Push { path: path.into(), value, expiry: None }
    }
}

/// What a condition asks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// That there is a value (`true`), or none (`false`).
    Exists(bool),
    /// That the value has this hash (the entity tag of REST, without quotes).
    Hash(String),
    /// That the value is this one.
    Value(Value),
    /// That nothing at or below the path changed after this commit.
    Rev(u64),
}

/// A condition of a commit.
///
/// ```
/// use trellis_client::{Check, Condition};
///
/// let condition = Condition { path: "a".to_owned(), check: Check::Exists(false) };
/// assert_eq!(serde_json::to_string(&condition).unwrap(), r#"{"path":"a","exists":false}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// Where.
    pub path: String,
    /// What must hold there.
    #[serde(flatten)]
    pub check: Check,
}
