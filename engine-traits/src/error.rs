//! The one error of all engines and services.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong, as far as a caller's next step depends on it. Names are stable on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A guard or a condition did not hold. Nothing was changed.
    Conflict,
    /// What was asked for does not exist, or no longer does (a trimmed log position).
    NotFound,
    /// What was to be created exists.
    AlreadyExists,
    /// The request contradicts the contract. Nothing was changed.
    InvalidInput,
    /// A documented limit was exceeded; the message names it. Nothing was changed.
    TooLarge,
    /// The engine does not offer this, or the build does not contain it.
    Unsupported,
    /// The caller may not do this.
    Denied,
    /// The handle was closed.
    Closed,
    /// Another process, or another handle of this one, has the data open.
    Locked,
    /// A bounded resource is in use; the same request may succeed later.
    Busy,
    /// The medium or the peer cannot be used at the moment (disk full, no connection). Nothing was
    /// changed.
    Unavailable,
    /// A write failed after it may have become durable. Reading after a reopen tells.
    OutcomeUnknown,
    /// Stored bytes are not what was written.
    Corrupt,
    /// An earlier flush failed: writes are refused until a reopen; reads go on.
    Poisoned,
}

impl ErrorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Conflict,
        Self::NotFound,
        Self::AlreadyExists,
        Self::InvalidInput,
        Self::TooLarge,
        Self::Unsupported,
        Self::Denied,
        Self::Closed,
        Self::Locked,
        Self::Busy,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::Corrupt,
        Self::Poisoned,
    ];

    /// The code that stands for this kind on the wire; frozen within a major version.
    ///
    /// ```
    /// assert_eq!(trellis_engine_traits::ErrorKind::TooLarge.code(), "too_large");
    /// ```
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::InvalidInput => "invalid",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Closed => "closed",
            Self::Locked => "locked",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Corrupt => "corrupt",
            Self::Poisoned => "poisoned",
        }
    }

    /// The kind with this wire code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The retry advice that fits this kind when an engine gives no other.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::Busy | Self::Unavailable | Self::Locked => Retry::SameRequest,
            Self::OutcomeUnknown | Self::Poisoned | Self::Closed => Retry::AfterReopen,
            Self::Conflict
            | Self::NotFound
            | Self::AlreadyExists
            | Self::InvalidInput
            | Self::TooLarge
            | Self::Unsupported
            | Self::Denied
            | Self::Corrupt => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whether the same request can succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Not without a change to the request or the data.
    Never,
    /// Later, unchanged.
    SameRequest,
    /// After the engine has been opened anew.
    AfterReopen,
}

/// The result of every engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One error for all traits; as large as a pointer.
///
/// `Display` is one line for people, `Debug` shows every part. Messages hold no key, no value and
/// no secret.
///
/// ```
/// use trellis_engine_traits::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::TooLarge, "the key is longer than the engine accepts")
///     .backend("redb")
///     .operation("commit")
///     .context("key_bytes_max", 1024);
/// assert_eq!(error.kind(), ErrorKind::TooLarge);
/// assert_eq!(
///     error.to_string(),
///     "too_large: the key is longer than the engine accepts (redb commit; key_bytes_max=1024)"
/// );
/// assert_eq!(size_of::<Error>(), size_of::<usize>());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: String,
    backend: Option<&'static str>,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`, with the retry advice that fits it.
    ///
    /// `message` says what happened and, where it can, what to do next.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.retry(),
            message: message.into(),
            backend: None,
            operation: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// Names the engine that failed; the first name given stays.
    #[must_use]
    pub fn backend(mut self, name: &'static str) -> Self {
        self.0.backend.get_or_insert(name);
        self
    }

    /// Names the operation that failed; the first name given stays.
    #[must_use]
    pub fn operation(mut self, name: &'static str) -> Self {
        self.0.operation.get_or_insert(name);
        self
    }

    /// Adds a fact: a limit, a size, a file name. Never a key, a value or a secret.
    #[must_use]
    pub fn context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Keeps the native error.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Replaces the retry advice.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request can succeed later.
    #[must_use]
    pub fn retry_advice(&self) -> Retry {
        self.0.retry
    }

    /// The sentence for people, without kind, engine or context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts added with [`Error::context`], in order.
    #[must_use]
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The fact of this name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(fact, _)| *fact == name).map(|(_, value)| value.as_str())
    }

    /// The same error once more, for a second waiter of the same failed flush; the native error
    /// becomes text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut copy = Self::new(self.kind(), self.message()).retry(self.0.retry);
        copy.0.backend = self.0.backend;
        copy.0.operation = self.0.operation;
        copy.0.context.clone_from(&self.0.context);
        copy.0.source = self.0.source.as_ref().map(|source| source.to_string().into());
        copy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        let place = [self.0.backend, self.0.operation];
        let mut parts: Vec<String> = Vec::new();
        let place: Vec<&str> = place.into_iter().flatten().collect();
        if !place.is_empty() {
            parts.push(place.join(" "));
        }
        parts.extend(self.0.context.iter().map(|(name, value)| format!("{name}={value}")));
        if let Some(source) = &self.0.source {
            parts.push(format!("cause: {source}"));
        }
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join("; ")) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("message", &self.0.message)
            .field("backend", &self.0.backend)
            .field("operation", &self.0.operation)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
