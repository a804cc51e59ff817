//! [`Places`]: where a key stands to the items of a pattern, and where the next item can be.

use bytes::Bytes;
use trellis_engine_traits::KeyRange;

use crate::bounds::Intervals;
use crate::encoding::encode_key;
use crate::pattern::{ANY, Pattern};

/// The tag of a key's encoding.
const KEY_TAG: u8 = 0x40;

/// Whose children the items are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Collections<'a> {
    /// Those of every path that fits.
    Fitting(&'a Pattern),
    /// Those of the path with this key, in which `*` is a name like any other.
    Only(&'a [u8]),
}

/// A pattern and the keys that its items may have.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// The collection's segments; `None` takes any.
    levels: Vec<Option<&'a [u8]>>,
    keys: &'a Intervals,
    base: Bytes,
    exact: bool,
}

/// Where a key stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At or below an item, whose path is the first `len` bytes, its own key from `key_at` on.
    /// `expanded` bytes lead to what the last `*` takes.
    Item { len: usize, key_at: usize, expanded: usize },
    /// Elsewhere; the next item lies from `next` on, or before it when going backwards. `None`:
    /// just go on.
    Between { next: Option<Bytes>, expanded: usize },
}

impl<'a> Places<'a> {
    pub(crate) fn new(collections: Collections<'a>, keys: &'a Intervals) -> Self {
        match collections {
            Collections::Fitting(pattern) => {
                let levels = pattern.levels().map(|level| (level != ANY).then_some(level));
                let base = pattern.base().key().clone();
                Self { levels: levels.collect(), keys, base, exact: !pattern.has_wildcard() }
            }
            Collections::Only(key) => {
                let levels = crate::pattern::levels(key).map(Some).collect();
                Self { levels, keys, base: Bytes::copy_from_slice(key), exact: true }
            }
        }
    }

    /// Everything that can hold an item.
    pub(crate) fn range(&self) -> KeyRange {
        let start = below(&self.base);
        let mut range = KeyRange::new(start, Some(behind(&self.base)));
        if self.exact {
            if let Some(first) = self.keys.iter().next() {
                range.start = range.start.max(key_start(&self.base, &first.start));
            }
            if let Some(last) = self.keys.iter().next_back().and_then(|last| last.end.as_ref())
                && let Some(end) = key_end(&self.base, last)
            {
                range.end = Some(range.end.map_or(end.clone(), |old| old.min(end)));
            }
        }
        range
    }

    pub(crate) fn of(&self, key: &[u8], reverse: bool) -> Place {
        let mut start = 0;
        let mut expanded = 0;
        let between = |next, expanded| Place::Between { next, expanded };
        for (depth, level) in self.levels.iter().enumerate() {
            let Some(end) = segment_end(key, start) else { return between(None, expanded) };
            let segment = key.get(start..end).unwrap_or_default();
            let parent = key.get(..start.saturating_sub(1)).unwrap_or_default();
            match level {
                None if depth == 0 && segment.first() == Some(&b'_') => {
                    return between(Some(beyond_system(reverse)), 0);
                }
                None => expanded = end,
                Some(level) if segment != *level => {
                    return between(Some(toward(parent, segment, level, reverse)), expanded);
                }
                Some(_) => {}
            }
            start = end + 1;
        }
        let Some(end) = segment_end(key, start) else { return between(None, expanded) };
        let segment = key.get(start..end).unwrap_or_default();
        if self.levels.is_empty() && segment.first() == Some(&b'_') {
            return between(Some(beyond_system(reverse)), 0);
        }
        let parent = key.get(..start.saturating_sub(1)).unwrap_or_default();
        match self.other_key(parent, segment, reverse) {
            Some(next) => between(Some(next), expanded),
            None => Place::Item { len: end, key_at: start, expanded },
        }
    }

    /// Where to go on when no item may have this key; `None` when one may.
    fn other_key(&self, parent: &[u8], segment: &[u8], reverse: bool) -> Option<Bytes> {
        if self.keys.is_all() {
            return None;
        }
        let mut encoded = Vec::with_capacity(segment.len() + 2);
        encode_key(segment, false, &mut encoded);
        if reverse {
            let Some(interval) = self.keys.at_or_before(&encoded) else {
                return Some(below(parent));
            };
            let end = interval.end.as_ref().filter(|end| ***end <= *encoded)?;
            return Some(key_end(parent, end).unwrap_or_else(|| behind(parent)));
        }
        let Some(interval) = self.keys.at_or_after(&encoded) else {
            return Some(behind(parent));
        };
        (*interval.start > *encoded).then(|| key_start(parent, &interval.start))
    }
}

/// Where a segment that begins at `start` ends; `None` when there is none.
fn segment_end(key: &[u8], start: usize) -> Option<usize> {
    let rest = key.get(start..).filter(|rest| !rest.is_empty())?;
    Some(start + rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()))
}

/// From one segment toward the wanted one among its siblings, or past the parent.
fn toward(parent: &[u8], segment: &[u8], wanted: &[u8], reverse: bool) -> Bytes {
    let ahead = if reverse { segment > wanted } else { segment < wanted };
    let mut target = below(parent).to_vec();
    match (ahead, reverse) {
        (true, _) => {
            target.extend_from_slice(wanted);
            if reverse { after_subtree(&target) } else { target.into() }
        }
        (false, true) => target.into(),
        (false, false) => behind(parent),
    }
}

/// Past the system's paths, which only their name leads to.
fn beyond_system(reverse: bool) -> Bytes {
    Bytes::from_static(if reverse { b"_" } else { b"`" })
}

/// The first key that is neither `key` nor below it.
pub(crate) fn after_subtree(key: &[u8]) -> Bytes {
    [key, &[1]].concat().into()
}

/// Behind everything below a path.
pub(crate) fn behind(parent: &[u8]) -> Bytes {
    // No text begins with this byte.
    if parent.is_empty() { Bytes::from_static(&[0xFF]) } else { after_subtree(parent) }
}

/// Where what is below a path begins.
pub(crate) fn below(parent: &[u8]) -> Bytes {
    if parent.is_empty() { Bytes::new() } else { [parent, &[0]].concat().into() }
}

/// Where the child of this encoded key, or what comes after it, begins.
fn key_start(parent: &[u8], encoded: &[u8]) -> Bytes {
    match encoded.split_first() {
        Some((&KEY_TAG, rest)) => {
            let rest = rest.strip_suffix(&[0]).unwrap_or(rest);
            [&below(parent), rest].concat().into()
        }
        Some((tag, _)) if *tag > KEY_TAG => behind(parent),
        _ => below(parent),
    }
}

/// Where the children with smaller encoded keys end; `None` when all are smaller.
fn key_end(parent: &[u8], encoded: &[u8]) -> Option<Bytes> {
    match encoded.split_first() {
        Some((tag, _)) if *tag > KEY_TAG => None,
        _ => Some(key_start(parent, encoded)),
    }
}
