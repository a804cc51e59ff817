//! sled's errors to ours, each kind by name.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use trellis_engine_traits::{Error, ErrorKind, Result};

pub(crate) const BACKEND: &str = "sled";

fn new(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    new(ErrorKind::Closed, "the store was closed; open it anew")
}

pub(crate) fn locked() -> Error {
    new(ErrorKind::Locked, "another process or handle has the directory open; close it first")
}

pub(crate) fn poisoned() -> Error {
    new(ErrorKind::Poisoned, "an earlier write or sync failed; close the store and open it anew")
}

pub(crate) fn corrupt(message: &str) -> Error {
    new(ErrorKind::Corrupt, message)
}

pub(crate) fn unsupported(message: &str) -> Error {
    new(ErrorKind::Unsupported, message)
}

pub(crate) fn guard_failed(index: usize) -> Error {
    new(ErrorKind::Conflict, "a guard of the batch does not hold").context("guard_index", index)
}

pub(crate) fn unknown_seq(asked: u64, last: u64) -> Error {
    new(ErrorKind::InvalidInput, "no commit has this number yet")
        .operation("flush")
        .context("asked_seq", asked)
        .context("last_seq", last)
}

/// A commit or sync that failed on its way to the medium.
pub(crate) fn outcome_unknown(cause: Error) -> Error {
    new(
        ErrorKind::OutcomeUnknown,
        "writing to the medium failed; reopen and read to learn what is there",
    )
    .source(cause)
}

pub(crate) fn storage_full() -> Error {
    new(ErrorKind::Unavailable, "the disk is full; make room and try again")
        .context("reason", "storage_full")
}

pub(crate) fn io(error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            return storage_full().source(error);
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "no permission; make the directory writable for this user")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            (ErrorKind::InvalidInput, "the path has to name a directory")
        }
        io::ErrorKind::WouldBlock => return locked().source(error),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Corrupt, "a file is shorter than it was, or not sled's")
        }
        _ => (ErrorKind::Unavailable, "the directory cannot be used at the moment"),
    };
    new(kind, message).source(error)
}

pub(crate) fn sled(error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => io(error),
        sled::Error::Corruption { .. } => corrupt("sled found damage in a file").source(error),
        sled::Error::CollectionNotFound(_) => {
            corrupt("the directory's trees are not those of a Trellis store").source(error)
        }
        sled::Error::Unsupported(_) => {
            unsupported("sled refuses the directory or the call").source(error)
        }
        sled::Error::ReportableBug(_) => {
            new(ErrorKind::Unavailable, "sled stopped over a mistake of its own").source(error)
        }
    }
}

/// Runs a call of sled; sled panics on some damage, which is an answer here and no end of the
/// process.
pub(crate) fn damage_caught<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(corrupt("sled stopped over damage in a file")))
}
