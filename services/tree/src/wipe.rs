//! [`Wipe`]: what a merge removes where something has to stay, and what it came by.

use std::collections::HashMap;

use bytes::Bytes;
use trellis_engine_traits::KeyRange;

use crate::here::Stamp;
use crate::path;
use crate::stamp::Version;

/// What goes: all that is here in a range, but what is kept and what lies in subtrees of `edges`.
pub(crate) struct Wipe<'k> {
    /// Of keys, those of endings among them.
    pub(crate) range: KeyRange,
    /// In order.
    pub(crate) kept: &'k [Bytes],
    /// In order.
    pub(crate) edges: &'k [Bytes],
    /// Of kept paths that are written again, in order, the version: all below one may go at once
    /// if it is older and nothing of it is kept.
    pub(crate) over: &'k Over<'k>,
    /// Whether what is live leaves a record behind that is just newer, so that whoever follows
    /// this node is told; and what is not live stays. If not, all goes because of a record that
    /// tells it.
    pub(crate) leaves: bool,
}

/// Keys in order, with a version each.
pub(crate) type Over<'k> = [(&'k Bytes, Version)];

/// The version of a key.
pub(crate) fn version_in(over: &Over<'_>, key: &[u8]) -> Option<Version> {
    let at = over.binary_search_by(|(own, _)| (***own).cmp(key)).ok()?;
    over.get(at).map(|(_, version)| *version)
}

/// What is here of kept keys, as a wipe came by.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) leaves: HashMap<Bytes, Bytes>,
    pub(crate) stamps: HashMap<Bytes, Stamp>,
    pub(crate) endings: HashMap<Bytes, u64>,
    /// Of tombstones and clears that are not kept, and are above something that is, the version.
    pub(crate) extra: HashMap<Bytes, Version>,
}

impl Wipe<'_> {
    pub(crate) fn is_kept(&self, key: &[u8]) -> bool {
        self.kept.binary_search_by(|kept| (**kept).cmp(key)).is_ok()
    }

    pub(crate) fn edge_over(&self, key: &[u8]) -> Option<&Bytes> {
        let next = self.edges.partition_point(|edge| **edge <= *key);
        let edge = self.edges.get(next.checked_sub(1)?)?;
        path::covers(edge, key).then_some(edge)
    }

    /// Whether a key of `keys` lies in a range.
    pub(crate) fn any(keys: &[Bytes], range: &KeyRange) -> bool {
        let next = keys.partition_point(|at| *at < range.start);
        keys.get(next).is_some_and(|at| range.contains(at))
    }

    /// Whether everything at and below a path may go.
    fn may_clear(&self, key: &[u8]) -> bool {
        let (whole, below) = (path::subtree(key), path::below(key));
        let is_inside = match (&whole.end, &self.range.end) {
            (Some(end), Some(last)) => end <= last,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let kept = if version_in(self.over, key).is_some() { &below } else { &whole };
        *key >= *self.range.start
            && is_inside
            && !Self::any(self.edges, &whole)
            && !Self::any(self.kept, kept)
    }

    /// The highest path at or above a key that may go as a whole; `None`: the key alone.
    pub(crate) fn highest(&self, key: &Bytes) -> Option<Bytes> {
        let above = path::ancestors(key).take_while(|ancestor| self.may_clear(ancestor));
        above.last().map(|ancestor| key.slice(..ancestor.len()))
    }
}
