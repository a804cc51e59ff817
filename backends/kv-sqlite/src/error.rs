//! SQLite's errors to ours, each kind by name.
//!
//! rusqlite's enums are non-exhaustive; what a later version adds is `Unavailable` until it is
//! named here.

use std::io;

use rusqlite::ErrorCode;
use trellis_engine_traits::{Error, ErrorKind};

pub(crate) const BACKEND: &str = "sqlite";

fn new(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    new(ErrorKind::Closed, "the store was closed; open it anew")
}

pub(crate) fn locked() -> Error {
    new(ErrorKind::Locked, "another process or handle has the file open; close it first")
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

pub(crate) fn view_lost() -> Error {
    new(ErrorKind::Unavailable, "this view was lost; drop the snapshot and take another")
}

pub(crate) fn guard_failed(index: usize) -> Error {
    new(ErrorKind::Conflict, "a guard of the batch does not hold").context("guard_index", index)
}

pub(crate) fn unknown_seq(asked: u64, last: u64) -> Error {
    new(ErrorKind::InvalidInput, "no commit has this number yet")
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
            (ErrorKind::Denied, "no permission; make file and directory writable for this user")
        }
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            (ErrorKind::InvalidInput, "the path has to name a file below directories")
        }
        _ => (ErrorKind::Unavailable, "the file cannot be used at the moment"),
    };
    new(kind, message).source(error)
}

/// Whether SQLite says that it found no room: it then has changed nothing.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

pub(crate) fn sqlite(error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else {
        // Not from SQLite but from reading its answer: a row that is not what we wrote.
        return corrupt("a row has another shape than what was written").source(error);
    };
    let (kind, message) = match code {
        ErrorCode::DiskFull => return storage_full().source(error),
        ErrorCode::DatabaseCorrupt => (ErrorKind::Corrupt, "SQLite found damage in the file"),
        ErrorCode::NotADatabase => (ErrorKind::Corrupt, "the file is not an SQLite database"),
        ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::SchemaChanged
        | ErrorCode::Unknown => {
            (ErrorKind::Corrupt, "the file's tables are not those of a Trellis store")
        }
        ErrorCode::PermissionDenied
        | ErrorCode::ReadOnly
        | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::Denied, "no permission; make file and directory writable for this user")
        }
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed => {
            (ErrorKind::Busy, "another program uses the file at the moment")
        }
        ErrorCode::TooBig => (ErrorKind::TooLarge, "SQLite refuses a value of this size"),
        ErrorCode::OutOfMemory => (ErrorKind::Unavailable, "SQLite found no memory"),
        ErrorCode::CannotOpen => {
            (ErrorKind::Unavailable, "SQLite cannot open the file or those beside it")
        }
        ErrorCode::SystemIoFailure => (ErrorKind::Unavailable, "the medium failed"),
        ErrorCode::NoLargeFileSupport => {
            (ErrorKind::Unsupported, "the file system takes no file of this size")
        }
        ErrorCode::OperationAborted
        | ErrorCode::OperationInterrupted
        | ErrorCode::InternalMalfunction
        | ErrorCode::NotFound
        | ErrorCode::ApiMisuse
        | ErrorCode::ParameterOutOfRange => (ErrorKind::Unavailable, "SQLite stopped the call"),
        _ => (ErrorKind::Unavailable, "SQLite failed in a way unknown to this version"),
    };
    new(kind, message).source(error)
}
