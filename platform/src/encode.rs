//! From a host's types to the tree's: paths and values.
//!
//! Invariant: a value is refused rather than changed. JSON has no NaN and no infinities; serde_json
//! would write `null` for them, and `null` deletes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Input, Path};

use crate::finite;

/// What names a place in the tree: a [`Path`], or its text.
///
/// ```
/// use trellis::{IntoPath, Path};
///
/// assert_eq!("users/u1".into_path()?, Path::parse("users/u1")?);
/// assert!("users//u1".into_path().is_err());
/// # Ok::<(), trellis::Error>(())
/// ```
pub trait IntoPath {
    /// Checks and converts.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no path.
    fn into_path(self) -> Result<Path>;
}

impl IntoPath for Path {
    fn into_path(self) -> Result<Path> {
        Ok(self)
    }
}

impl IntoPath for &Path {
    fn into_path(self) -> Result<Path> {
        Ok(self.clone())
    }
}

impl IntoPath for &str {
    fn into_path(self) -> Result<Path> {
        Path::parse(self)
    }
}

impl IntoPath for String {
    fn into_path(self) -> Result<Path> {
        Path::parse(&self)
    }
}

impl IntoPath for &String {
    fn into_path(self) -> Result<Path> {
        Path::parse(self)
    }
}

/// A value of any serialisable type, checked.
///
/// # Errors
/// `InvalidInput` for a value that JSON or the tree cannot hold.
pub(crate) fn input<V: Serialize + ?Sized>(value: &V) -> Result<Input> {
    finite::check(value).map_err(|source| refused(source.to_string()))?;
    let json = serde_json::to_vec(value).map_err(|source| refused(source.to_string()))?;
    Input::parse(&json)
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the value cannot be stored: {reason}"))
        .operation("encode")
}

/// The stored JSON as a host's type; `None` where nothing is stored.
///
/// # Errors
/// `InvalidInput` when the value does not fit the type.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<Option<T>> {
    if json == b"null" {
        return Ok(None);
    }
    serde_json::from_slice(json).map(Some).map_err(|error| {
        // The parser's own message may quote the value.
        Error::new(ErrorKind::InvalidInput, "the stored value does not fit the type asked for")
            .operation("get")
            .context("line", error.line())
            .context("column", error.column())
    })
}
