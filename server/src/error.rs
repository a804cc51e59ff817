//! Errors as a client sees them: a stable code, a sentence, sometimes a path, and a status.
//!
//! Invariant: a message of the medium (file names, native errors) goes to the log, not to clients.

use std::fmt::Write as _;

use axum::http::StatusCode;
use trellis_engine_traits::{Error, ErrorKind, Retry};
use trellis_tree::{CommitError, FailedCondition};

/// A refusal on its way to a client.
#[derive(Debug)]
pub(crate) struct WireError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) path: Option<String>,
    pub(crate) failed: Vec<FailedCondition>,
    /// The definition of the index to add, as JSON text.
    pub(crate) index: Option<Box<str>>,
    pub(crate) status: StatusCode,
    /// Seconds after which the same request may succeed.
    pub(crate) retry_after_s: Option<u32>,
}

impl WireError {
    /// An error of `kind` with a sentence for people.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            code: kind.code(),
            message: message.into(),
            path: None,
            failed: Vec::new(),
            index: None,
            status: status_of(kind),
            retry_after_s: (kind == ErrorKind::Busy || kind == ErrorKind::Unavailable).then_some(1),
        }
    }

    /// The request contradicts the protocol.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A limit was passed.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// Names the path that the error is about, unless one is named already.
    pub(crate) fn at(mut self, path: impl Into<String>) -> Self {
        self.path.get_or_insert_with(|| path.into());
        self
    }

    /// Replaces the status, where REST has a finer one than the kind's.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let mut message = error.message().to_owned();
        if is_callers(kind) {
            for (name, value) in error.facts().iter().filter(|(name, _)| !is_of_a_query(name)) {
                let _infallible = write!(message, "; {name}={value}");
            }
        } else {
            tracing::warn!(error = %error, "a request failed");
        }
        let mut wire = Self::new(kind, message);
        if error.fact("reason") == Some("storage_full") {
            wire.code = "storage_full";
            wire.status = StatusCode::INSUFFICIENT_STORAGE;
        }
        if let Some((code, status)) = error.fact("reason").and_then(of_replication) {
            wire.code = code;
            wire.status = status;
        }
        if error.fact("reason") == Some("index_required") {
            wire.code = "index_required";
            wire.status = StatusCode::UNPROCESSABLE_ENTITY;
            wire.index = error.fact("index").map(Box::from);
        }
        if error.retry_advice() != Retry::SameRequest {
            wire.retry_after_s = None;
        }
        wire
    }
}

impl From<CommitError> for WireError {
    fn from(refused: CommitError) -> Self {
        let mut wire = Self::from(refused.error);
        wire.path = refused.path;
        wire.failed = refused.failed;
        wire
    }
}

/// The code and the status of a refusal that depends on which node owns a path.
fn of_replication(reason: &str) -> Option<(&'static str, StatusCode)> {
    Some(match reason {
        "mixed_routing" => ("mixed_routing", StatusCode::BAD_REQUEST),
        "read_only_path" => ("read_only_path", StatusCode::FORBIDDEN),
        "source_owned" => ("source_owned", StatusCode::FORBIDDEN),
        "write_rejected" => ("write_rejected", StatusCode::FORBIDDEN),
        "upstream_unavailable" => ("upstream_unavailable", StatusCode::SERVICE_UNAVAILABLE),
        "upstream_timeout" => ("upstream_timeout", StatusCode::GATEWAY_TIMEOUT),
        _ => return None,
    })
}

/// Facts of a query that the code and a field of their own say, or the message already.
fn is_of_a_query(fact: &str) -> bool {
    matches!(fact, "reason" | "index")
}

/// Whether an error of this kind is about the request rather than about the server's medium.
const fn is_callers(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Conflict
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::Denied
    )
}

/// The HTTP status of each kind; docs/protocol.md has the table.
const fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Busy
        | ErrorKind::Unavailable
        | ErrorKind::Locked
        | ErrorKind::Closed
        | ErrorKind::Poisoned => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::OutcomeUnknown | ErrorKind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_node_owns_a_path_is_told_by_a_code_of_its_own() {
        for (kind, reason, status) in [
            (ErrorKind::InvalidInput, "mixed_routing", 400),
            (ErrorKind::Denied, "read_only_path", 403),
            (ErrorKind::Denied, "source_owned", 403),
            (ErrorKind::Denied, "write_rejected", 403),
            (ErrorKind::Unavailable, "upstream_unavailable", 503),
            (ErrorKind::OutcomeUnknown, "upstream_timeout", 504),
        ] {
            let wire = WireError::from(Error::new(kind, "no").context("reason", reason));
            assert_eq!((wire.code, wire.status.as_u16()), (reason, status));
            assert_eq!(wire.message, "no", "the reason is the code");
        }
    }
}
