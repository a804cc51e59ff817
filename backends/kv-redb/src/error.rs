//! redb's errors to ours, each kind by name.
//!
//! redb's enums are non-exhaustive; what a later version adds is `Unavailable` until it is named
//! here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    CommitError, CompactionError, DatabaseError, StorageError, TableError, TransactionError,
};
use trellis_engine_traits::{Error, ErrorKind, Result, Retry};

pub(crate) const BACKEND: &str = "redb";

fn new(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    new(ErrorKind::Closed, "the store was closed; open it anew")
}

pub(crate) fn poisoned() -> Error {
    new(ErrorKind::Poisoned, "an earlier write or sync failed; close the store and open it anew")
}

pub(crate) fn locked() -> Error {
    new(ErrorKind::Locked, "another process or handle has the file open; close it first")
}

pub(crate) fn corrupt(message: &str) -> Error {
    new(ErrorKind::Corrupt, message)
}

pub(crate) fn unsupported(message: &str) -> Error {
    new(ErrorKind::Unsupported, message)
}

pub(crate) fn guard_failed(index: usize) -> Error {
    new(ErrorKind::Conflict, "a guard of the batch does not hold")
        .operation("commit")
        .context("guard_index", index)
}

pub(crate) fn unknown_seq(asked: u64, last: u64) -> Error {
    new(ErrorKind::InvalidInput, "no commit has this number yet")
        .operation("flush")
        .context("asked_seq", asked)
        .context("last_seq", last)
}

/// A commit or sync that failed on its way to the medium.
pub(crate) fn outcome_unknown(cause: Error) -> Error {
    let reason = cause.fact("reason").map(str::to_owned);
    let error = new(
        ErrorKind::OutcomeUnknown,
        "writing to the medium failed; reopen and read to learn what is there",
    );
    let error = match reason {
        Some(reason) => error.context("reason", reason),
        None => error,
    };
    error.source(cause)
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
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Corrupt, "the file is not a redb database, or was damaged")
        }
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            (ErrorKind::InvalidInput, "the path has to name a file below directories")
        }
        _ => (ErrorKind::Unavailable, "the file cannot be used at the moment"),
    };
    new(kind, message).source(error)
}

pub(crate) fn storage(error: StorageError) -> Error {
    match error {
        StorageError::Io(error) => io(error),
        StorageError::Corrupted(_) => corrupt("redb found damage in the file").source(error),
        StorageError::ValueTooLarge(_) => {
            new(ErrorKind::TooLarge, "redb refuses a value of this size").source(error)
        }
        StorageError::Unsupported => {
            unsupported("the file system lacks what redb needs").source(error)
        }
        StorageError::PreviousIo | StorageError::LockPoisoned(_) => poisoned().source(error),
        StorageError::DatabaseClosed => closed(),
        StorageError::Backend(_) => {
            new(ErrorKind::Unavailable, "the file cannot be used at the moment").source(error)
        }
        _ => new(ErrorKind::Unavailable, "redb failed in a way unknown to this version")
            .source(error),
    }
}

pub(crate) fn database(error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            locked().source(error)
        }
        DatabaseError::UpgradeRequired(_) => {
            unsupported("the file has a format that this redb no longer reads").source(error)
        }
        DatabaseError::RepairAborted => {
            new(ErrorKind::Unavailable, "the file needs a repair, which was stopped").source(error)
        }
        DatabaseError::TransactionInProgress => {
            new(ErrorKind::Busy, "a write is in progress").source(error)
        }
        DatabaseError::Storage(error) => storage(error),
        _ => new(ErrorKind::Unavailable, "redb failed in a way unknown to this version")
            .source(error),
    }
}

pub(crate) fn compaction(error: CompactionError) -> Error {
    match error {
        CompactionError::Storage(error) => storage(error),
        _ => new(ErrorKind::Busy, "redb compacts only while nobody reads: stop the server first")
            .source(error),
    }
}

pub(crate) fn transaction(error: TransactionError) -> Error {
    match error {
        TransactionError::Storage(error) => storage(error),
        TransactionError::ReadTransactionStillInUse(_) | TransactionError::WouldBlock => {
            new(ErrorKind::Busy, "another transaction is in progress").source(error)
        }
        _ => new(ErrorKind::Unavailable, "redb failed in a way unknown to this version")
            .source(error),
    }
}

pub(crate) fn table(error: TableError) -> Error {
    match error {
        TableError::Storage(error) => storage(error),
        TableError::TableTypeMismatch { .. }
        | TableError::TableIsMultimap(_)
        | TableError::TableIsNotMultimap(_)
        | TableError::TypeDefinitionChanged { .. }
        | TableError::TableDoesNotExist(_)
        | TableError::TableExists(_)
        | TableError::TableAlreadyOpen(..) => {
            corrupt("the file's tables are not those of a Trellis store").source(error)
        }
        _ => new(ErrorKind::Unavailable, "redb failed in a way unknown to this version")
            .source(error),
    }
}

pub(crate) fn commit(error: CommitError) -> Error {
    match error {
        CommitError::Storage(error) => storage(error),
        CommitError::TransactionPoisoned => {
            new(ErrorKind::Unavailable, "redb gave the transaction up; nothing was changed")
                .retry(Retry::AfterReopen)
                .source(error)
        }
        _ => new(ErrorKind::Unavailable, "redb failed in a way unknown to this version")
            .source(error),
    }
}

/// Runs a read of redb; redb may panic on a file that was damaged from outside, which is an answer
/// here and no end of the process.
pub(crate) fn damage_caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(damaged()))
}

/// What a panic of redb means.
pub(crate) fn damaged() -> Error {
    corrupt("redb stopped over damage in the file")
}
