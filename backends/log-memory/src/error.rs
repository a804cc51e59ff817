//! Every failure of this log, by kind. There is no native error beneath.

use trellis_engine_traits::{Error, ErrorKind, Offset};

pub(crate) const BACKEND: &str = "memory";

fn error(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    error(ErrorKind::Closed, "the log was closed")
}

pub(crate) fn locked() -> Error {
    error(ErrorKind::Locked, "this memory disk is open already; close the other log first")
}

pub(crate) fn poisoned() -> Error {
    error(ErrorKind::Poisoned, "an earlier flush failed; open the log anew to append")
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

pub(crate) fn damaged(offset: Offset) -> Error {
    error(ErrorKind::Corrupt, "the record is damaged; restore it from a backup")
        .context("offset", offset)
}

pub(crate) fn append_fault() -> Error {
    error(ErrorKind::Unavailable, "the medium is full").context("reason", "storage_full")
}

pub(crate) fn flush_fault() -> Error {
    error(ErrorKind::OutcomeUnknown, "the flush failed; open the log anew to learn the outcome")
}
