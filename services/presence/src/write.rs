//! Stored writes: what a caller asks for, and how it is kept until it runs.
//!
//! Values are kept as the JSON text that came, so that transforms are resolved when they run.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Input, Operation, Path, Tree};

use crate::options::PresenceOptions;

/// A write for the end of a lease, or its cancellation.
///
/// A lease has one write for a path: a later one replaces what was stored at or below its path.
/// They run in the order in which they were stored.
///
/// ```
/// use trellis_presence::LeaseWrite;
/// use trellis_tree::Path;
///
/// let path = Path::parse("status/alice")?;
/// let json = serde_json::from_str(r#"{"online":false,"since":{".sv":"timestamp"}}"#)?;
/// let _offline = LeaseWrite::Set { path, json };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub enum LeaseWrite {
    /// Replaces what is at a path; `null` removes it.
    Set {
        /// Where; neither the root nor a system path.
        path: Path,
        /// What, transforms included.
        json: Box<RawValue>,
    },
    /// Replaces what is at many paths, none below another; keeps expiries.
    Update {
        /// Where and what.
        updates: Vec<(Path, Box<RawValue>)>,
    },
    /// Removes what is at and below a path.
    Delete {
        /// Where.
        path: Path,
    },
    /// Drops what is stored at and below a path; the root stands for everything.
    Cancel {
        /// Where.
        path: Path,
    },
}

/// A checked [`LeaseWrite`].
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Store(StoredWrite),
    Cancel(Path),
}

/// A write as it is kept; removals are sets of `null`.
#[derive(Debug, Clone)]
pub(crate) struct StoredWrite {
    /// Whether it is an update, which keeps expiries.
    is_update: bool,
    parts: Vec<(Path, Box<RawValue>)>,
}

/// The text of a stored write.
#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(rename = "do")]
    verb: Verb,
    parts: Vec<(String, Box<RawValue>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Set,
    Update,
}

impl LeaseWrite {
    /// Checks everything that can be known now.
    pub(crate) fn check(self, tree: &Tree, options: &PresenceOptions) -> Result<Change> {
        let (is_update, parts) = match self {
            Self::Cancel { path } => return Ok(Change::Cancel(path)),
            Self::Set { path, json } => (false, vec![(path, json)]),
            Self::Delete { path } => (false, vec![(path, RawValue::NULL.to_owned())]),
            Self::Update { updates } => (true, updates),
        };
        if parts.is_empty() {
            let message = "the update names no path, so there is nothing to store";
            return Err(Error::new(ErrorKind::InvalidInput, message).operation("on-disconnect"));
        }
        let write = StoredWrite { is_update, parts };
        // Before anything is parsed: what is too large costs nothing.
        check_limits(write.paths(), write.json_bytes(), options)?;
        tree.check_operation(&write.operation()?)?;
        Ok(Change::Store(write))
    }
}

/// Refuses more paths or bytes than a lease may have.
pub(crate) fn check_limits(paths: usize, bytes: usize, options: &PresenceOptions) -> Result<()> {
    let over = |message: &str, limit, value| {
        let error = Error::new(ErrorKind::TooLarge, message).operation("on-disconnect");
        Err(error.context(limit, value))
    };
    if paths > options.writes_max {
        let message = "a lease would have too many stored writes; write their common parent, or \
                       cancel some";
        return over(message, "writes_max", options.writes_max);
    }
    if bytes > options.bytes_max {
        let message = "the stored writes of a lease would be too large; store less, or cancel some";
        return over(message, "bytes_max", options.bytes_max);
    }
    Ok(())
}

impl StoredWrite {
    /// Paths that it names.
    pub(crate) fn paths(&self) -> usize {
        self.parts.len()
    }

    fn json_bytes(&self) -> usize {
        self.parts.iter().map(|(_, json)| json.get().len()).sum()
    }

    /// Whether it names this path.
    pub(crate) fn names(&self, path: &str) -> bool {
        self.parts.iter().any(|(own, _)| own.to_string() == path)
    }

    /// The paths that it names.
    pub(crate) fn targets(&self) -> Vec<Path> {
        self.parts.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Forgets the parts at and below these paths; says whether there were any.
    pub(crate) fn forget(&mut self, above: &[Path]) -> bool {
        let before = self.parts.len();
        self.parts.retain(|(path, _)| !above.iter().any(|above| above.covers(path)));
        self.parts.len() < before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What runs.
    pub(crate) fn operation(&self) -> Result<Operation> {
        let part = |(path, json): &(Path, Box<RawValue>)| {
            Ok((path.clone(), Input::parse(json.get().as_bytes())?))
        };
        let mut updates = self.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
        if self.is_update {
            return Ok(Operation::Update { updates, expiry: None });
        }
        match updates.pop() {
            Some((path, value)) => Ok(Operation::Set { path, value, expiry: None }),
            None => Err(Error::new(ErrorKind::Corrupt, "a stored write names no path")),
        }
    }

    /// The text that is stored.
    pub(crate) fn to_text(&self) -> Result<String> {
        let verb = if self.is_update { Verb::Update } else { Verb::Set };
        let parts = self.parts.iter().map(|(path, json)| (path.to_string(), json.clone()));
        serde_json::to_string(&Text { verb, parts: parts.collect() }).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "the write cannot be written as JSON")
                .source(source)
        })
    }

    /// A write from its text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "a stored write is not what was written");
        let Text { verb, parts } =
            serde_json::from_str(text).map_err(|source| corrupt().source(source))?;
        let part = |(path, json): (String, Box<RawValue>)| {
            let path = Path::parse(&path)?;
            if path.is_root() || path.is_system() { Err(corrupt()) } else { Ok((path, json)) }
        };
        let parts = parts.into_iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(Self { is_update: matches!(verb, Verb::Update), parts })
    }
}
