//! Failures of this log, and what the file system's failures mean to it.

use std::io;
use std::path::Path;

use trellis_engine_traits::{Error, ErrorKind, Offset, StreamId};

pub(crate) const BACKEND: &str = "segment";

fn error(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend(BACKEND)
}

pub(crate) fn closed() -> Error {
    error(ErrorKind::Closed, "the log was closed")
}

pub(crate) fn locked(path: &Path) -> Error {
    error(ErrorKind::Locked, "the log is open already, here or in another process")
        .context("file", path.display())
}

pub(crate) fn poisoned() -> Error {
    error(ErrorKind::Poisoned, "an earlier flush failed; open the log anew to write")
}

/// A write or a flush failed, and nobody can say what the medium holds.
pub(crate) fn unknown(cause: io::Error) -> Error {
    error(ErrorKind::OutcomeUnknown, "the medium failed; reading after a reopen tells what it has")
        .source(cause)
}

/// Another call's flush failed while this one waited for it.
pub(crate) fn unknown_by_other() -> Error {
    error(ErrorKind::OutcomeUnknown, "a flush failed; reading after a reopen tells what is there")
}

pub(crate) fn conflict(expected: Offset, next: Offset) -> Error {
    error(ErrorKind::Conflict, "the stream's next offset is not the expected one")
        .context("expected", expected)
        .context("next", next)
}

pub(crate) fn too_many_records() -> Error {
    error(ErrorKind::TooLarge, "the append has more records than one frame can describe")
        .context("frame_bytes_max", u32::MAX)
}

pub(crate) fn trimmed(first: Offset) -> Error {
    error(ErrorKind::NotFound, "the records asked for were trimmed").context("first", first)
}

pub(crate) fn beyond(next: Offset) -> Error {
    error(ErrorKind::InvalidInput, "the offset lies beyond the end of the stream")
        .context("next", next)
}

pub(crate) fn bad_option(name: &'static str, least: u64) -> Error {
    error(ErrorKind::InvalidInput, "an option is out of range").context(name, format!(">={least}"))
}

pub(crate) fn newer_format(path: &Path, found: &str) -> Error {
    error(ErrorKind::Unsupported, "the log was written by a newer version; update this program")
        .context("file", path.display())
        .context("format", found)
}

pub(crate) fn not_a_log(path: &Path) -> Error {
    error(ErrorKind::Corrupt, "the file does not say that this directory is a log; restore it")
        .context("file", path.display())
}

/// Damage at `offset`; nothing was changed.
pub(crate) fn damaged(stream: &StreamId, offset: Offset, path: &Path) -> Error {
    let message = "stored records are damaged or missing; restore the file from a backup";
    error(ErrorKind::Corrupt, message)
        .context("stream", stream)
        .context("offset", offset)
        .context("file", path.display())
}

/// The medium cannot be used at the moment, and nothing was changed.
pub(crate) fn medium(cause: io::Error, path: &Path) -> Error {
    let (reason, message) = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("storage_full", "the medium is full; free some space")
        }
        io::ErrorKind::PermissionDenied => ("permission", "the file may not be used"),
        io::ErrorKind::ReadOnlyFilesystem => ("read_only", "the medium cannot be written"),
        io::ErrorKind::NotFound => ("missing", "a file is not there"),
        _ => ("io", "the medium failed"),
    };
    error(ErrorKind::Unavailable, message)
        .context("reason", reason)
        .context("file", path.display())
        .source(cause)
}
