//! The errors of this engine, each kind by name.

use trellis_engine_traits::{Error, ErrorKind};

pub(crate) const BACKEND: &str = "memory";

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed; open it anew").backend(BACKEND)
}

pub(crate) fn locked() -> Error {
    Error::new(ErrorKind::Locked, "another handle has this memory open; close it first")
        .backend(BACKEND)
        .operation("open")
}

pub(crate) fn poisoned() -> Error {
    Error::new(ErrorKind::Poisoned, "an earlier flush failed; close the store and open it anew")
        .backend(BACKEND)
}

pub(crate) fn guard_failed(index: usize) -> Error {
    Error::new(ErrorKind::Conflict, "a guard of the batch does not hold")
        .backend(BACKEND)
        .operation("commit")
        .context("guard_index", index)
}

pub(crate) fn unknown_seq(asked: u64, last: u64) -> Error {
    Error::new(ErrorKind::InvalidInput, "no commit has this number yet")
        .backend(BACKEND)
        .operation("flush")
        .context("asked_seq", asked)
        .context("last_seq", last)
}

pub(crate) fn storage_full() -> Error {
    Error::new(ErrorKind::Unavailable, "the medium is full; make room and try again")
        .backend(BACKEND)
        .operation("commit")
        .context("reason", "storage_full")
}

pub(crate) fn outcome_unknown(operation: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "syncing failed; reopen and read to learn what is there")
        .backend(BACKEND)
        .operation(operation)
}
