//! The one error of the client.

use std::fmt;

use serde_json::Value;

/// Where a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientErrorKind {
    /// The server answered with an error; [`ClientError::code`] says which.
    Refused,
    /// No answer within the deadline. A write may have happened; sending it again under the same
    /// key is safe.
    Deadline,
    /// No connection could be made.
    Unreachable,
    /// The client was closed.
    Closed,
    /// The request cannot be sent: it is larger than the server takes, or no JSON.
    Invalid,
    /// The server's answer does not fit the protocol.
    Protocol,
}

impl ClientErrorKind {
    const fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::Unreachable => "unreachable",
            Self::Closed => "closed",
            Self::Invalid => "invalid",
            Self::Protocol => "protocol",
        }
    }
}

/// A condition of a commit that did not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedCondition {
    /// The path of the condition.
    pub path: String,
    /// The value there now; `null` when absent, or too large for the answer.
    pub value: Value,
    /// The hash of that value; `None` when absent.
    pub hash: Option<String>,
}

/// Why a request failed; as large as a pointer.
///
/// ```
/// fn is_lost_race(error: &trellis_client::ClientError) -> bool {
///     error.code() == "conflict" && !error.failed().is_empty()
/// }
/// ```
pub struct ClientError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ClientErrorKind,
    code: String,
    message: String,
    path: Option<String>,
    failed: Vec<FailedCondition>,
}

impl ClientError {
    pub(crate) fn new(kind: ClientErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code: kind.code().to_owned(),
            message: message.into(),
            path: None,
            failed: Vec::new(),
        }))
    }

    pub(crate) fn refused(
        code: String,
        message: String,
        path: Option<String>,
        failed: Vec<FailedCondition>,
    ) -> Self {
        Self(Box::new(Inner { kind: ClientErrorKind::Refused, code, message, path, failed }))
    }

    /// Where the request failed.
    #[must_use]
    pub fn kind(&self) -> ClientErrorKind {
        self.0.kind
    }

    /// The server's code (`conflict`, `too_large`, ...), or the name of the kind.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// A sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The path the error is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// The conditions that did not hold, with the current values.
    #[must_use]
    pub fn failed(&self) -> &[FailedCondition] {
        &self.0.failed
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ClientErrorKind::Deadline | ClientErrorKind::Unreachable => true,
            ClientErrorKind::Refused => {
                let later =
                    ["busy", "unavailable", "storage_full", "locked", "upstream_unavailable"];
                later.contains(&self.code())
            }
            _ => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        match &self.0.path {
            Some(path) => write!(f, " (path {path:?})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ClientError {}
