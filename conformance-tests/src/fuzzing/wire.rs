//! WebSocket frames.

use trellis_server::fuzzing::frame as read;
use trellis_tree::{Commit, Operation};

pub(super) const WORDS: &[&str] = &[
    r#""id":"1""#,
    r#""op":"set""#,
    r#""op":"update""#,
    r#""op":"push""#,
    r#""op":"delete""#,
    r#""op":"commit""#,
    r#""op":"batch""#,
    r#""op":"children""#,
    r#""path":"a/b""#,
    r#""value":null"#,
    r#""ttl":1e400"#,
    r#""ttl":-0"#,
    r#""expiresAt":18446744073709551615"#,
    r#""if":[]"#,
    r#""ops":[]"#,
    r#"{".sv":{"increment":1}}"#,
    r#"{".sv":"pushId"}"#,
    r#"{".bytes":"AAE="}"#,
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "[[[[",
    "{\"a\":",
    "1e309",
    "-0",
    "9223372036854775808",
    "$serde_json::private::RawValue",
    "\u{7f}",
    "\u{202e}",
];

/// Longest id that a request may have.
const ID_BYTES_MAX: usize = 256;
/// The codes that a frame can be refused with before it reaches a tree.
const CODES: [&str; 3] = ["invalid", "too_large", "unsupported"];

/// A frame is understood, or refused with a known code; its id is never lost between the two.
pub(super) fn frame(input: &[u8]) {
    // A socket hands on text that is UTF-8 only.
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = read(text);
    if let Some(id) = &read.id {
        assert!(id.len() <= ID_BYTES_MAX, "an id of {} bytes", id.len());
    }
    match read.outcome {
        Ok(commit) => {
            assert!(read.id.is_some(), "an understood request without an id");
            commit.iter().for_each(sensible);
        }
        Err(code) => assert!(CODES.contains(&code), "refused with {code}"),
    }
}

/// A commit asks for something, at paths that can be written down and read again.
pub(super) fn sensible(commit: &Commit) {
    assert!(!commit.system, "a client may not claim to be the system");
    assert!(!commit.operations.is_empty() || !commit.conditions.is_empty(), "an empty commit");
    commit.conditions.iter().for_each(|condition| super::path::holds(&condition.path));
    commit.operations.iter().for_each(operation);
}

/// The paths of an operation can be written down and read again.
pub(super) fn operation(operation: &Operation) {
    match operation {
        Operation::Set { path, .. } | Operation::Delete { path } | Operation::Push { path, .. } => {
            super::path::holds(path)
        }
        Operation::Update { updates, .. } => {
            updates.iter().for_each(|(path, _)| super::path::holds(path));
        }
    }
}
