//! What a caller asks for: conditions and operations that are one.

use crate::input::{Input, input_size};
use crate::path::Path;

/// When a value ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expiry {
    /// This many seconds after the commit; more than 0.
    TtlSeconds(f64),
    /// At this time, in milliseconds since 1970.
    AtMs(u64),
}

/// One change of a commit. A later one sees the earlier ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Replaces what is at a path; a null removes it. Without an expiry, an old one ends.
    Set {
        /// Where; neither the root nor a system path.
        path: Path,
        /// What.
        value: Input,
        /// When it ends.
        expiry: Option<Expiry>,
    },
    /// Replaces what is at many paths; none may lie below another. Keeps expiries.
    Update {
        /// Where and what.
        updates: Vec<(Path, Input)>,
        /// When each of them ends.
        expiry: Option<Expiry>,
    },
    /// Removes what is at and below a path; that nothing is there is no error.
    Delete {
        /// Where.
        path: Path,
    },
    /// Adds a child with a new, time-ordered id.
    Push {
        /// The parent.
        path: Path,
        /// What.
        value: Input,
        /// When it ends.
        expiry: Option<Expiry>,
    },
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// There is a value.
    Exists,
    /// There is none.
    Absent,
    /// The value has this hash.
    Hash(String),
    /// The value is this one.
    Value(Input),
    /// Nothing at or below the path changed after this rev. A rev that the journal no longer
    /// reaches back to counts as changed.
    Rev(u64),
}

/// A check of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Where.
    pub path: Path,
    /// What must hold there.
    pub check: Check,
}

/// Conditions and operations: all or nothing, in one round trip.
///
/// ```
/// use trellis_tree::{Check, Commit, Condition, Input, Operation, Path};
///
/// let path = Path::parse("users/u1")?;
/// let value = Input::parse(br#"{"name":"Alice"}"#)?;
/// let commit = Commit::new(vec![Operation::Set { path: path.clone(), value, expiry: None }])
///     .when(Condition { path, check: Check::Absent })
///     .with_key("create-u1");
/// assert_eq!(commit.operations.len(), 1);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// All must hold before.
    pub conditions: Vec<Condition>,
    /// Done in order.
    pub operations: Vec<Operation>,
    /// Makes a repetition harmless.
    pub key: Option<String>,
    /// Whether system paths may be written: for services, never for a client's request.
    pub system: bool,
}

impl Commit {
    /// Operations without conditions.
    #[must_use]
    pub fn new(operations: Vec<Operation>) -> Self {
        Self { operations, ..Self::default() }
    }

    /// Replaces what is at a path.
    #[must_use]
    pub fn set(path: Path, value: Input) -> Self {
        Self::new(vec![Operation::Set { path, value, expiry: None }])
    }

    /// Removes what is at a path.
    #[must_use]
    pub fn delete(path: Path) -> Self {
        Self::new(vec![Operation::Delete { path }])
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Makes a repetition with the same key harmless for 24 h.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Bytes that it takes while it waits, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|condition| {
            let value = match &condition.check {
                Check::Value(value) => input_size(value),
                Check::Exists | Check::Absent | Check::Hash(_) | Check::Rev(_) => 64,
            };
            condition.path.key().len() + value
        });
        let operations = self.operations.iter().map(|operation| match operation {
            Operation::Set { path, value, .. } | Operation::Push { path, value, .. } => {
                path.key().len() + input_size(value)
            }
            Operation::Delete { path } => path.key().len(),
            Operation::Update { updates, .. } => {
                updates.iter().map(|(path, value)| path.key().len() + input_size(value)).sum()
            }
        });
        64 + conditions.sum::<usize>() + operations.sum::<usize>()
    }
}
