//! Why a command failed, in a sentence that says what to do next.

use std::fmt;
use std::io;
use std::process::ExitCode;

use trellis_client::ClientError;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::CommitError;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The command was understood and failed.
    Failed(String),
    /// What was looked for was found: damage, or a difference.
    Damaged(String),
    /// What was asked for could not be looked at.
    Unchecked(String),
    /// Whoever read the output has enough (`trellis export | head`).
    BrokenPipe,
}

impl Failure {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Unchecked(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Damaged(_) => ExitCode::FAILURE,
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }

    /// A failure to read or write `what`.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::Failed(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed(message) | Self::Damaged(message) => {
                f.write_str(message)
            }
            Self::Unchecked(message) => write!(f, "could not look: {message}"),
            Self::BrokenPipe => f.write_str("nobody reads the output"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let advice = match error.kind() {
            ErrorKind::Locked => {
                "; another process has the data open: stop it, or talk to it with --url"
            }
            // A server's answer, which says by itself what to do.
            _ if error.fact("server").is_some() => "",
            ErrorKind::Unavailable => "; see whether the disk is full and the directory writable",
            ErrorKind::Corrupt => "; see `trellis check`, and restore a backup if it cannot repair",
            _ => "",
        };
        Self::Failed(format!("{error}{advice}"))
    }
}

impl From<CommitError> for Failure {
    fn from(refused: CommitError) -> Self {
        match refused.path {
            Some(path) => Self::Failed(format!("{} (path {path:?})", refused.error)),
            None => refused.error.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let advice = match error.code() {
            "unreachable" => {
                "; start one with `trellis serve`, name another with --url, or work on a closed \
                 database with --data"
            }
            "busy" | "unavailable" | "deadline" => "; try again",
            "storage_full" => "; make room on the server's disk",
            _ => "",
        };
        Self::Failed(format!("{error}{advice}"))
    }
}
