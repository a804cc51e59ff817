//! [`Pattern`]: a path of which some segments may be anything.

use std::fmt;

use trellis_engine_traits::Result;
use trellis_tree::Path;

use crate::errors::invalid;

/// A path in which the segment `*` stands for any one segment.
///
/// ```
/// use trellis_query::Pattern;
/// use trellis_tree::Path;
///
/// let posts = Pattern::parse("users/*/posts")?;
/// assert!(posts.matches(&Path::parse("users/u1/posts")?));
/// assert!(!posts.matches(&Path::parse("users/u1")?));
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The path as written: `*` is a valid segment.
    path: Path,
}

/// One segment of a pattern.
pub(crate) const ANY: &[u8] = b"*";

impl Pattern {
    /// Reads `a/*/b`; the empty text is the root.
    ///
    /// # Errors
    /// As for [`Path::parse`]; also a `*` inside a longer segment is refused, because it would not
    /// mean what it looks like.
    pub fn parse(text: &str) -> Result<Self> {
        let path = Path::parse(text)?;
        if path.segments().any(|segment| segment.len() > 1 && segment.contains('*')) {
            return Err(invalid("* stands for a whole segment, as in users/*/posts"));
        }
        Ok(Self { path })
    }

    /// The pattern of this path alone, unless a segment of it is `*`.
    #[must_use]
    pub const fn exact(path: Path) -> Self {
        Self { path }
    }

    /// Whether any segment is `*`.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.levels().any(|level| level == ANY)
    }

    /// The path, when no segment is `*`.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        if self.has_wildcard() { None } else { Some(&self.path) }
    }

    /// The number of segments.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.path.depth()
    }

    /// Whether the first segment begins with `_`: the system's own paths, which `*` never takes.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.path.is_system()
    }

    /// Whether a path fits, segment by segment.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_key(path.key())
    }

    /// Whether the path with this key fits.
    pub(crate) fn matches_key(&self, key: &[u8]) -> bool {
        let mut segments = levels(key);
        let mut own = self.levels();
        loop {
            match (own.next(), segments.next()) {
                (None, None) => return true,
                (Some(level), Some(segment)) if level == ANY || level == segment => {}
                _ => return false,
            }
        }
    }

    /// The path key of the item, a child of a collection that fits, at or below which `key` lies.
    pub(crate) fn item_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let mut ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
        let depth = self.depth();
        let collection_end = match depth.checked_sub(1) {
            Some(last) => ends.nth(last)?,
            None => 0,
        };
        let collection = key.get(..collection_end)?;
        let item = key.get(..ends.next().unwrap_or(key.len()))?;
        let named = self.levels().next().is_some_and(|level| level != ANY);
        let system = key.first() == Some(&b'_');
        (self.matches_key(collection) && (named || !system)).then_some(item)
    }

    /// Whether every path that fits `other` fits this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // A `*` of the other is a segment here: only a `*` of our own takes it.
        self.matches_key(other.path.key())
    }

    /// The segments' bytes; `*` for any.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &[u8]> {
        levels(self.path.key())
    }

    /// The path up to the first `*`.
    #[must_use]
    pub fn base(&self) -> Path {
        let fixed = self.path.segments().take_while(|segment| segment.as_bytes() != ANY);
        // Segments of a valid path make a valid path.
        Path::from_segments(fixed).unwrap_or_default()
    }
}

/// The segments of a key.
pub(crate) fn levels(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == 0).filter(|segment| !segment.is_empty())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_a_key_is_the_child_of_a_fitting_collection() {
        let item = |pattern: &str, key: &'static str| {
            Pattern::parse(pattern).unwrap().item_of(key.as_bytes()).map(<[u8]>::to_vec)
        };
        assert_eq!(item("a/*", "a\0b\0c\0d").as_deref(), Some(&b"a\0b\0c"[..]));
        assert_eq!(item("a/*", "a\0b\0c").as_deref(), Some(&b"a\0b\0c"[..]));
        assert_eq!(item("a/*", "a\0b"), None);
        assert_eq!(item("a/*", "x\0b\0c"), None);
        assert_eq!(item("", "a\0b").as_deref(), Some(&b"a"[..]));
        assert_eq!(item("", "_a\0b"), None);
        assert_eq!(item("*", "_a\0b"), None);
        assert_eq!(item("_a", "_a\0b").as_deref(), Some(&b"_a\0b"[..]));
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_nothing_wider() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        assert!(pattern("a/*").covers(&pattern("a/b")));
        assert!(pattern("a/*").covers(&pattern("a/*")));
        assert!(!pattern("a/b").covers(&pattern("a/*")));
        assert!(!pattern("a/*").covers(&pattern("a/b/c")));
        assert!(pattern("").covers(&pattern("")));
        assert_eq!(pattern("a/b/*/c").base().to_string(), "a/b");
        assert!(Pattern::parse("a/b*").is_err());
    }
}
