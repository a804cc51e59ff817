//! [`Field`]: what a condition, an order or an index looks at in an item.

use std::fmt;

use trellis_engine_traits::Result;
use trellis_tree::Path;

use crate::errors::invalid;

/// A part of an item.
///
/// ```
/// use trellis_query::Field;
///
/// assert_eq!(Field::parse("$key")?, Field::Key);
/// assert_eq!(Field::parse("profile/age")?.to_string(), "profile/age");
/// assert!(Field::parse("$rev").is_err());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The item's own key.
    Key,
    /// The item itself.
    Value,
    /// What stands at this path below the item.
    Path(Path),
}

impl Field {
    /// Reads `$key`, `$value` or a path below the item.
    ///
    /// # Errors
    /// `InvalidInput` for another name that begins with `$` and for what is no path; `TooLarge`
    /// for a path beyond its limits.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "$key" => Ok(Self::Key),
            "$value" => Ok(Self::Value),
            "" => Err(invalid("a field has a name: a path below the item, $key or $value")),
            _ if text.starts_with('$') => {
                Err(invalid("unknown field: those with $ are $key and $value"))
            }
            _ => Path::parse(text).map(Self::Path),
        }
    }

    /// The bytes of the path below the item; empty for `$value`, `None` for `$key`.
    pub(crate) fn below(&self) -> Option<&[u8]> {
        match self {
            Self::Key => None,
            Self::Value => Some(&[]),
            Self::Path(path) => Some(path.key()),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("$key"),
            Self::Value => f.write_str("$value"),
            Self::Path(path) => path.fmt(f),
        }
    }
}
