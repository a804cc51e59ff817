//! [`Pattern`]: a path in which a whole segment may be `*`.
//!
//! A `*` stands for any one key of an object; never for a place in an array, and as the first
//! segment never for a system path. A key that is itself `*` cannot be named alone.

use std::fmt;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::Path;

/// Wildcards of one pattern.
pub const WILDCARDS_MAX: usize = 8;

const ANY: &str = "*";

/// Where a subscription looks: a path, or all paths that fit its wildcards.
///
/// Limits are those of [`Path`], and 8 wildcards.
///
/// ```
/// use trellis_subscribe::Pattern;
///
/// let pattern = Pattern::parse("rooms/*/messages")?;
/// assert!(pattern.is_wild());
/// assert!(Pattern::parse("rooms//messages").is_err());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    path: Path,
    wildcards: usize,
}

impl Pattern {
    /// Reads `a/*/c`; the empty text is the root.
    ///
    /// # Errors
    /// Those of [`Path::parse`]; `TooLarge` beyond 8 wildcards.
    pub fn parse(text: &str) -> Result<Self> {
        Self::new(Path::parse(text)?)
    }

    /// The pattern that this path spells.
    ///
    /// # Errors
    /// `TooLarge` beyond 8 wildcards.
    pub fn new(path: Path) -> Result<Self> {
        let wildcards = path.segments().filter(|segment| *segment == ANY).count();
        if wildcards > WILDCARDS_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the path has too many wildcards")
                .operation("sub")
                .context("wildcards_max", WILDCARDS_MAX));
        }
        Ok(Self { path, wildcards })
    }

    /// The text of the pattern as a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a segment is a wildcard.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.wildcards > 0
    }

    /// The segments; `None` is a wildcard.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        self.path.segments().map(|segment| (segment != ANY).then_some(segment))
    }

    /// The part of a fitting path's key up to its last wildcard: that is stored, not a place in an
    /// array. `None` without wildcards.
    pub(crate) fn wild_part<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let last = self.segments().enumerate().filter(|(_, own)| own.is_none()).last()?.0;
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
        let end = ends.chain([key.len()]).nth(last)?;
        key.get(..end)
    }

    /// Whether what is at, above or below a path's key may matter here.
    pub(crate) fn concerns(&self, key: &[u8]) -> bool {
        let names = key.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut pairs = self.segments().zip(names).enumerate();
        let fits = pairs.all(|(depth, (own, name))| match own {
            Some(own) => own.as_bytes() == name,
            None => any_matches(depth, name),
        });
        fits && !(self.path.is_root() && key.first() == Some(&b'_'))
    }

    /// The segments of a path that stand where the wildcards are.
    pub(crate) fn captures<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a str> {
        let pairs = self.segments().zip(path.segments());
        pairs.filter_map(|(own, segment)| own.is_none().then_some(segment))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Whether a wildcard as segment number `depth` stands for this name.
pub(crate) fn any_matches(depth: usize, name: &[u8]) -> bool {
    depth > 0 || name.first() != Some(&b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_what_stands_at_the_wildcards() {
        let pattern = Pattern::parse("rooms/*/by/*").unwrap();
        let path = Path::parse("rooms/r1/by/ann").unwrap();
        assert_eq!(pattern.captures(&path).collect::<Vec<_>>(), ["r1", "ann"]);
        assert!(!Pattern::parse("rooms/*x").unwrap().is_wild());
    }

    #[test]
    fn one_wildcard_too_many_is_refused() {
        assert!(Pattern::parse(&["*"; WILDCARDS_MAX].join("/")).is_ok());
        let error = Pattern::parse(&["*"; WILDCARDS_MAX + 1].join("/")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_first_wildcard_leaves_system_paths_out() {
        assert!(!any_matches(0, b"_auth"));
        assert!(any_matches(1, b"_auth"));
        assert!(any_matches(0, b"auth"));
    }
}
