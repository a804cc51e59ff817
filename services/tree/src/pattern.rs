//! Patterns of collections: paths in which `*` as a whole segment stands for any one.
//!
//! The children of a collection are its items. Patterns of the root and those that begin with `*`
//! leave system paths out.

use std::fmt;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::path::{self, Path};

/// The first key behind those of system paths: `_` is 0x5F.
const AFTER_SYSTEM: &[u8] = b"`";

/// The paths of collections: `users`, `users/*/posts`.
///
/// ```
/// use trellis_tree::{Path, Pattern};
///
/// let pattern = Pattern::parse("users/*/posts")?;
/// assert!(pattern.matches(&Path::parse("users/u1/posts")?));
/// assert!(!pattern.matches(&Path::parse("users/u1")?));
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// `None` stands for any segment.
    segments: Vec<Option<String>>,
}

/// Where a key lies, as a pattern sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// At or below an item, whose key has this length.
    Item(usize),
    /// At or above collections.
    Above,
    /// Elsewhere; keys that may match begin here, if there are any.
    Outside(Option<Bytes>),
}

impl Pattern {
    /// Reads `users/*/posts`; the empty text is the root, whose children are then the items.
    ///
    /// # Errors
    /// As for [`Path::parse`]; `Denied` for system paths.
    pub fn parse(text: &str) -> Result<Self> {
        let path = Path::parse(text)?;
        if path.is_system() {
            return Err(Error::new(ErrorKind::Denied, "paths that begin with _ are the system's"));
        }
        let any_or = |segment: &str| (segment != "*").then(|| segment.to_owned());
        Ok(Self { segments: path.segments().map(any_or).collect() })
    }

    /// Whether this is the path of a collection.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        path.depth() == self.segments.len() && self.locate(path.key()) == Located::Above
    }

    /// Whether a segment stands for any.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.segments.iter().any(Option::is_none)
    }

    /// The segments; `None` stands for any one.
    pub fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        self.segments.iter().map(Option::as_deref)
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Located {
        let mut at = 0;
        for wanted in &self.segments {
            let Some(rest) = key.get(at..).filter(|rest| !rest.is_empty()) else {
                return Located::Above;
            };
            let segment = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            let any = at > 0 || segment.first() != Some(&b'_');
            let order = match wanted {
                Some(wanted) => segment.cmp(wanted.as_bytes()),
                None if any => std::cmp::Ordering::Equal,
                None => return Located::Outside(Some(Bytes::from_static(AFTER_SYSTEM))),
            };
            let before = key.get(..at).unwrap_or_default();
            match (order, wanted) {
                (std::cmp::Ordering::Less, Some(wanted)) => {
                    let next = [before, wanted.as_bytes()].concat();
                    return Located::Outside(Some(next.into()));
                }
                (std::cmp::Ordering::Greater, _) => {
                    let parent = before.split_last().map(|(_, parent)| parent);
                    return Located::Outside(parent.map(path::after_subtree));
                }
                _ => at += segment.len() + 1,
            }
        }
        match key.get(at..).filter(|rest| !rest.is_empty()) {
            None => Located::Above,
            Some(rest) if at == 0 && rest.first() == Some(&b'_') => {
                Located::Outside(Some(Bytes::from_static(AFTER_SYSTEM)))
            }
            Some(rest) => {
                let child = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                Located::Item(at + child.len())
            }
        }
    }

    /// The keys among which all collections and items are.
    pub(crate) fn range(&self) -> KeyRange {
        let literal = self.segments.iter().map_while(Option::as_deref).collect::<Vec<_>>();
        path::subtree(literal.join("\0").as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(segment.unwrap_or("*"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(pattern: &str, path: &str) -> Located {
        Pattern::parse(pattern).unwrap().locate(&path.replace('/', "\0").into_bytes())
    }

    fn jump(path: &str) -> Located {
        Located::Outside(Some(path.replace('/', "\0").into_bytes().into()))
    }

    #[test]
    fn a_key_is_located_at_above_below_and_beside_collections() {
        assert_eq!(located("users", "users/u1/name"), Located::Item(8));
        assert_eq!(located("users", "users/u1"), Located::Item(8));
        assert_eq!(located("users", "users"), Located::Above);
        assert_eq!(located("users", "user"), jump("users"));
        assert_eq!(located("users", "users2"), Located::Outside(None));
        assert_eq!(located("u/*/posts", "u/a/posts/p/x"), Located::Item(11));
        assert_eq!(located("u/*/posts", "u/a"), Located::Above);
        assert_eq!(located("u/*/posts", "u/a/about"), jump("u/a/posts"));
        assert_eq!(located("u/*/posts", "u/a/zoo"), jump("u/a\u{1}"));
        assert_eq!(located("", "users/u1"), Located::Item(5));
        assert_eq!(located("", "_auth/x"), jump("`"));
        assert_eq!(located("*", "_auth/x"), jump("`"));
        assert_eq!(located("*", "a/_x"), Located::Item(4));
    }

    #[test]
    fn a_jump_always_leads_ahead() {
        for pattern in ["", "*", "b", "b/*", "b/*/m", "*/m", "*/*"] {
            for key in ["a", "b", "b/a", "b/a/a", "b/a/m", "b/a/m/k", "b/a/z", "c", "_x", "z/z/z"] {
                let bytes = key.replace('/', "\0").into_bytes();
                if let Located::Outside(Some(next)) =
                    Pattern::parse(pattern).unwrap().locate(&bytes)
                {
                    assert!(*next > *bytes, "{pattern} {key}");
                }
            }
        }
    }
}
