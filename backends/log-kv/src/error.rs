//! Failures of this log, and what the store's failures mean to it.

use trellis_engine_traits::{Error, ErrorKind, Offset, StreamId};

pub(crate) const BACKEND: &str = "kv-log";

fn error(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    error(ErrorKind::Closed, "the log was closed")
}

pub(crate) fn poisoned() -> Error {
    error(ErrorKind::Poisoned, "an earlier write failed; open the log anew to append")
}

pub(crate) fn unflushed() -> Error {
    error(ErrorKind::OutcomeUnknown, "an earlier write failed; reading after a reopen tells")
}

/// Another log was opened on the same store after this one.
pub(crate) fn shut_out() -> Error {
    error(ErrorKind::Locked, "another log was opened on this store; this one may write no more")
}

pub(crate) fn conflict(expected: Offset, next: Offset) -> Error {
    error(ErrorKind::Conflict, "the stream's next offset is not the expected one")
        .context("expected", expected)
        .context("next", next)
}

pub(crate) fn trimmed(first: Offset) -> Error {
    error(ErrorKind::NotFound, "the records asked for were trimmed").context("first", first)
}

pub(crate) fn beyond(next: Offset) -> Error {
    error(ErrorKind::InvalidInput, "the offset lies beyond the end of the stream")
        .context("next", next)
}

pub(crate) fn damaged(stream: &StreamId, offset: Offset) -> Error {
    error(ErrorKind::Corrupt, "a stored record is missing or altered; restore it from a backup")
        .context("stream", stream)
        .context("offset", offset)
}

pub(crate) fn damaged_streams() -> Error {
    error(ErrorKind::Corrupt, "the list of streams is altered; restore the store from a backup")
}

pub(crate) fn newer_format(found: u8) -> Error {
    error(ErrorKind::Unsupported, "the log was written by a newer version; update this program")
        .context("format", found)
}

pub(crate) fn store_too_small(batch_bytes_max: usize) -> Error {
    error(ErrorKind::Unsupported, "the store's batches are too small to hold a log")
        .context("batch_bytes_max", batch_bytes_max)
}

/// Whether nobody can say, after this failure of the store, what it holds.
pub(crate) fn poisons(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::OutcomeUnknown | ErrorKind::Poisoned => true,
        ErrorKind::Conflict
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidInput
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported
        | ErrorKind::Denied
        | ErrorKind::Closed
        | ErrorKind::Locked
        | ErrorKind::Busy
        | ErrorKind::Unavailable
        | ErrorKind::Corrupt => false,
    }
}

/// Whether the store says that there is no room on the medium.
pub(crate) fn is_storage_full(error: &Error) -> bool {
    error.fact("reason") == Some("storage_full")
}
