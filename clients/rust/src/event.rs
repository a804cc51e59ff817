//! What a subscription tells, from JSON text to types.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{ClientError, ClientErrorKind};

/// What a subscription tells next.
#[derive(Debug, Clone, PartialEq)]
pub enum SubscriptionEvent {
    /// Everything that is there: the first event, unless the subscription goes on from a
    /// [`Position`].
    Snapshot {
        /// The value; the items of a query; a map of path to value for a path with wildcards.
        data: Value,
        /// The commit it is as of.
        rev: u64,
    },
    /// What one commit changed.
    Changes(Changes),
    /// What was missed cannot be told one by one any more: everything that is there, which takes
    /// the place of all that was told before.
    Reset {
        /// As in `Snapshot`.
        data: Value,
        /// The commit it is as of.
        rev: u64,
    },
}

/// What one commit changed for a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// The commit.
    pub rev: u64,
    /// The idempotency key of the commit, when it was made on this very connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why there was a commit, when it was nobody's request: `ttl` for what was due to vanish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The changes in the order removed, added, moved, changed, value.
    #[serde(rename = "events")]
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: ChangeKind,
    /// The key of the child or the item; `None` for a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The path, where the subscription has wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the wildcards stand for, in the order of the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<String>,
    /// The new value (`Value::Null`: there is none any more); `None` in the modes `patch`, where
    /// `patch` says it, and `notify`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// What changed below: relative path to new value, `null` for what is gone; `""` is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<BTreeMap<String, Value>>,
    /// Of an item that was added or moved: the key of the item before it; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What happened to a child, an item or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is gone, or left the window of the query.
    Removed,
    /// It is new, or entered the window.
    Added,
    /// It stands elsewhere in the window.
    Moved,
    /// Its value is another.
    Changed,
    /// The value subscribed to is another.
    Value,
}

/// A `null` that is there, unlike a field that is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// How far a subscription has come: what a later one can go on from, in another process too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Everything up to this commit was told.
    pub rev: u64,
    /// The history that the commit is of.
    pub epoch: String,
}

/// The changes of a frame's JSON text.
pub(crate) fn parse_changes(text: &str) -> Result<Changes, ClientError> {
    serde_json::from_str(text).map_err(|error| no_protocol(&error))
}

/// The data of a snapshot's JSON text.
pub(crate) fn parse_data(text: &str) -> Result<Value, ClientError> {
    serde_json::from_str(text).map_err(|error| no_protocol(&error))
}

fn no_protocol(error: &serde_json::Error) -> ClientError {
    let message = format!("an event does not fit the protocol: {error}");
    ClientError::new(ClientErrorKind::Protocol, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_becomes_changes() {
        let text = r#"{"sub":"4","rev":42,"cause":"ttl","events":[
            {"type":"removed","key":"a"},
            {"type":"added","key":"b","path":"r/1/b","captures":["1"],"value":null,"after":null},
            {"type":"changed","key":"c","patch":{"x/y":1,"z":null}}]}"#;
        let changes = parse_changes(text).expect("a frame");
        assert_eq!((changes.rev, changes.cause.as_deref()), (42, Some("ttl")));
        assert_eq!(changes.changes[0].kind, ChangeKind::Removed);
        assert_eq!(changes.changes[0].value, None);
        assert_eq!(changes.changes[1].value, Some(Value::Null));
        assert_eq!(changes.changes[1].captures, ["1"]);
        let patch = changes.changes[2].patch.as_ref().expect("a patch");
        assert_eq!(patch["x/y"], 1);
        assert_eq!(patch["z"], Value::Null);
    }

    #[test]
    fn an_unknown_change_is_an_error_and_no_silence() {
        let error = parse_changes(r#"{"rev":1,"events":[{"type":"renamed"}]}"#);
        assert_eq!(error.expect_err("refused").kind(), ClientErrorKind::Protocol);
    }
}
