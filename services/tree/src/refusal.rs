//! Refusals that several stages of a commit tell, in the same words.

use trellis_engine_traits::{Error, ErrorKind};

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the tree was closed")
}

pub(crate) fn paused() -> Error {
    Error::new(ErrorKind::Unavailable, "writes are paused for a migration; try again later")
        .operation("commit")
}

pub(crate) fn over(message: &'static str, limit: &'static str, value: usize) -> Error {
    Error::new(ErrorKind::TooLarge, message).operation("commit").context(limit, value)
}

/// Whether an error says that there is no room on the medium.
pub(crate) fn is_storage_full(error: &Error) -> bool {
    error.fact("reason") == Some("storage_full")
}
