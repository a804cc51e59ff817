//! What the platform promises a host: settings that explain themselves, a data directory that
//! belongs to one process and one pair of engines, and the same calls for threads and for tasks.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic and start threads"
)]

#[path = "platform/calls.rs"]
mod calls;
#[path = "platform/config.rs"]
mod config;
#[path = "platform/copies.rs"]
mod copies;
#[path = "platform/copy_edges.rs"]
mod copy_edges;
#[path = "platform/indexes.rs"]
mod indexes;
#[path = "platform/nodes.rs"]
mod nodes;
#[path = "platform/opening.rs"]
mod opening;
#[path = "platform/replication_config.rs"]
mod replication_config;
#[path = "platform/upkeep.rs"]
mod upkeep;

use trellis::{Error, ErrorKind};

/// The error, of this kind, whose text holds each of the words.
fn assert_refused<T: std::fmt::Debug>(
    outcome: Result<T, Error>,
    kind: ErrorKind,
    words: &[&str],
) -> Error {
    let error = outcome.expect_err("this has to be refused");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
    error
}
