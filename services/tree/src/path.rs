//! Paths: validated segments, and the key encoding that keeps a subtree one contiguous range.
//!
//! A key is the segments joined by 0x00. No segment holds a control character, so 0x00 sorts below
//! every segment byte: `a`, `a/b`, `a!` stand in this order, and everything below `a` lies between
//! `a\0` and `a\x01`.

use std::fmt;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

/// Bytes of a segment.
pub const SEGMENT_BYTES_MAX: usize = 768;
/// Segments of a path.
pub const DEPTH_MAX: usize = 64;
/// Bytes of an encoded path.
pub const PATH_BYTES_MAX: usize = 1024;

/// A place in the tree: segments of UTF-8 without control characters, case-sensitive, never
/// normalised. The root has no segment.
///
/// A segment has 1 to 768 bytes, a path at most 64 segments and 1,024 bytes.
///
/// ```
/// use trellis_tree::Path;
///
/// let path = Path::parse("users/u1/e-mail@example.org")?;
/// assert_eq!(path.segments().count(), 3);
/// assert_eq!(path.parent().unwrap().to_string(), "users/u1");
/// assert!(Path::parse("users//u1").is_err());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path {
    /// Segments joined by 0x00; valid UTF-8.
    key: Bytes,
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message).operation("path")
}

impl Path {
    /// The root of the tree.
    #[must_use]
    pub const fn root() -> Self {
        Self { key: Bytes::new() }
    }

    /// Reads `a/b/c`; the empty text is the root.
    ///
    /// # Errors
    /// `InvalidInput` for an empty segment or a control character, `TooLarge` beyond a limit.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() { Ok(Self::root()) } else { Self::from_segments(text.split('/')) }
    }

    /// The path of these segments.
    ///
    /// # Errors
    /// As for [`Path::parse`]; also a segment that contains `/`.
    pub fn from_segments<I, S>(segments: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut key = Vec::new();
        for (depth, segment) in segments.into_iter().enumerate() {
            if depth >= DEPTH_MAX {
                return Err(Error::new(ErrorKind::TooLarge, "the path has too many segments")
                    .context("depth_max", DEPTH_MAX));
            }
            push_segment(&mut key, depth == 0, segment.as_ref())?;
        }
        Ok(Self { key: key.into() })
    }

    /// The path of one more segment.
    ///
    /// # Errors
    /// As for [`Path::from_segments`].
    pub fn child(&self, segment: &str) -> Result<Self> {
        if self.depth() >= DEPTH_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the path has too many segments")
                .context("depth_max", DEPTH_MAX));
        }
        let mut key = Vec::with_capacity(self.key.len() + 1 + segment.len());
        key.extend_from_slice(&self.key);
        push_segment(&mut key, self.is_root(), segment)?;
        Ok(Self { key: key.into() })
    }

    /// The path that `other` names below this one.
    ///
    /// # Errors
    /// As for [`Path::from_segments`].
    pub fn join(&self, other: &Self) -> Result<Self> {
        Self::from_segments(self.segments().chain(other.segments()))
    }

    /// The path without its last segment; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.key.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        Some(Self { key: self.key.slice(..end) })
    }

    /// The segments, first to last.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        // The key was made from valid text and 0x00 only.
        let text = std::str::from_utf8(&self.key).unwrap_or_default();
        text.split('\0').filter(|segment| !segment.is_empty())
    }

    /// The last segment; `None` for the root.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.segments().last()
    }

    /// The number of segments.
    #[must_use]
    pub fn depth(&self) -> usize {
        depth(&self.key)
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.key.is_empty()
    }

    /// Whether the first segment begins with `_`: the system's own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.key.first() == Some(&b'_')
    }

    /// Whether `other` is this path or lies below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.key, &other.key)
    }

    /// The bytes under which the path is stored: its segments joined by 0x00. Everything at and
    /// below a path lies between its key and its key with 0x01 appended.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The path of a key, as [`Path::key`] gives it; segments are not checked.
    ///
    /// # Errors
    /// `Corrupt` when it is not UTF-8.
    ///
    /// ```
    /// use trellis_tree::Path;
    ///
    /// let path = Path::parse("users/u1")?;
    /// assert_eq!(path.key().as_ref(), b"users\0u1");
    /// assert_eq!(Path::from_key(path.key())?, path);
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn from_key(key: &[u8]) -> Result<Self> {
        if std::str::from_utf8(key).is_err() {
            return Err(Error::new(ErrorKind::Corrupt, "a stored key is not a path"));
        }
        Ok(Self { key: Bytes::copy_from_slice(key) })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(segment)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Path {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Path {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Refuses what is no segment.
pub(crate) fn check_segment(segment: &str) -> Result<()> {
    if segment.is_empty() {
        return Err(invalid("a path segment is empty; write a/b without doubled or outer slashes"));
    }
    if segment.len() > SEGMENT_BYTES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, "a path segment is too long")
            .context("segment_bytes_max", SEGMENT_BYTES_MAX));
    }
    if segment.bytes().any(|byte| byte < 0x20 || byte == 0x7F) {
        return Err(invalid("a path segment holds a control character"));
    }
    if segment.contains('/') {
        return Err(invalid("a key holds '/', which separates path segments"));
    }
    Ok(())
}

/// Checks a segment and appends it to a key.
pub(crate) fn push_segment(key: &mut Vec<u8>, first: bool, segment: &str) -> Result<()> {
    check_segment(segment)?;
    if !first {
        key.push(0);
    }
    key.extend_from_slice(segment.as_bytes());
    if key.len() > PATH_BYTES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, "the path is too long")
            .context("path_bytes_max", PATH_BYTES_MAX));
    }
    Ok(())
}

/// Segments of a key.
pub(crate) fn depth(key: &[u8]) -> usize {
    if key.is_empty() { 0 } else { key.iter().filter(|byte| **byte == 0).count() + 1 }
}

/// Whether `key` is `ancestor` or lies below it.
pub(crate) fn covers(ancestor: &[u8], key: &[u8]) -> bool {
    ancestor.is_empty()
        || key.strip_prefix(ancestor).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// The keys of `key` itself and everything below it.
pub(crate) fn subtree(key: &[u8]) -> KeyRange {
    if key.is_empty() {
        return KeyRange::all();
    }
    KeyRange::new(Bytes::copy_from_slice(key), Some(after_subtree(key)))
}

/// The keys below `key`, without itself.
pub(crate) fn below(key: &[u8]) -> KeyRange {
    if key.is_empty() {
        return KeyRange::all();
    }
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    KeyRange::new(start, Some(after_subtree(key)))
}

/// The first key that is neither `key` nor below it.
pub(crate) fn after_subtree(key: &[u8]) -> Bytes {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(1);
    end.into()
}

/// The proper ancestors of a key, longest first, without the root.
pub(crate) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == 0)
        .filter_map(move |(at, _)| key.get(..at))
}

/// Sorted, without what another covers.
pub(crate) fn outermost(mut keys: Vec<Bytes>) -> Vec<Bytes> {
    keys.sort_unstable();
    let mut outer: Vec<Bytes> = Vec::new();
    for key in keys {
        // Siblings never stand between a key and what is below it.
        if !outer.last().is_some_and(|last| covers(last, &key)) {
            outer.push(key);
        }
    }
    outer
}

/// The parts of a range that are in no subtree of `edges`.
pub(crate) fn between(range: &KeyRange, edges: &[Bytes]) -> Vec<KeyRange> {
    let mut parts = Vec::new();
    let mut start = range.start.clone();
    for edge in edges.iter().filter(|edge| range.contains(edge)) {
        parts.push(KeyRange::new(start, Some(edge.clone())));
        start = after_subtree(edge);
    }
    parts.push(KeyRange::new(start, range.end.clone()));
    parts.retain(|part| !part.is_empty());
    parts
}
