//! What a tree holds beside its journal, as plain pairs: what a copy consists of.
//!
//! The pairs of [`EntrySpace::ALL`] are the whole state. What a store holds besides is derived from
//! them: the order of endings follows from the endings.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result, SpaceId, Visitor};

use crate::leaf::Leaf;
use crate::path::Path;
use crate::record::{self, Remembered};
use crate::space;
use crate::space::{DATA, EXPIRY, KEYS, KEYS_TIME};
use crate::state::State;
use crate::view::View;

/// Pairs in the order of their keys.
pub(crate) type Pairs = Vec<(Bytes, Bytes)>;

/// What a pair takes in memory besides key and value.
const ENTRY_BYTES: usize = 64;

/// A kind of pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntrySpace {
    /// Path key -> stored leaf. A path key is the segments joined by 0x00.
    Leaves,
    /// Path key -> when the path ends: milliseconds since 1970, u64 big endian.
    Endings,
    /// Idempotency key -> the answer it stands for.
    Keys,
    /// When (as for endings) and idempotency key -> nothing: the order of forgetting.
    KeyTimes,
}

impl EntrySpace {
    /// Every kind, in the order of their numbers and of copies.
    pub const ALL: [Self; 4] = [Self::Leaves, Self::Endings, Self::Keys, Self::KeyTimes];

    /// The number that stands for the kind in archives; never given to another.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.space().0
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.number() == number)
    }

    /// The kind that comes after this one in a copy.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|space| *space > self)
    }

    pub(crate) const fn space(self) -> SpaceId {
        match self {
            Self::Leaves => DATA,
            Self::Endings => EXPIRY,
            Self::Keys => KEYS,
            Self::KeyTimes => KEYS_TIME,
        }
    }

    /// Refuses a pair that no tree would have written.
    pub(crate) fn check(self, key: &[u8], value: &[u8]) -> Result<()> {
        let fits = match self {
            Self::Leaves => is_path(key) && is_leaf(value),
            Self::Endings => is_path(key) && value.len() == 8,
            Self::Keys => record::decode::<Remembered>(value, "remembered answer").is_ok(),
            Self::KeyTimes => space::split_time_key(key).is_some() && value.is_empty(),
        };
        if fits {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, "an entry is none that a tree holds")
            .context("space", self.number()))
    }
}

/// Pairs of one kind from `start` on, about `bytes_max` bytes of them, and where to go on.
pub(crate) fn page(
    state: &State,
    space: EntrySpace,
    start: Bytes,
    bytes_max: usize,
) -> Result<(Pairs, Option<Bytes>)> {
    let mut page = Vec::new();
    let mut bytes = 0;
    let mut full = false;
    state.scan(space.space(), &KeyRange::new(start, None), &mut |key, value| {
        bytes += key.len() + value.len() + ENTRY_BYTES;
        page.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        full = bytes >= bytes_max;
        if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let next = match page.last() {
        Some((last, _)) if full => {
            let mut after = last.to_vec();
            after.push(0);
            Some(after.into())
        }
        _ => None,
    };
    Ok((page, next))
}

/// Whether a writer could have stored this leaf: an array that is no JSON would be served as it is.
fn is_leaf(value: &[u8]) -> bool {
    match Leaf::decode(value) {
        Ok(Leaf::Array(json)) => serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&json).is_ok(),
        decoded => decoded.is_ok(),
    }
}

/// Whether a writer could have named this path: a name that cannot be written could never be
/// removed.
fn is_path(key: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(key) else { return false };
    Path::from_segments(text.split('\0')).is_ok()
}

impl View {
    /// Visits the pairs of one kind from the key `start` on, ascending by key; `Break` ends it. To
    /// go on later, start at the last key with a zero byte behind it.
    ///
    /// What has ended and is not yet removed is visited as well: a copy is what is stored.
    ///
    /// # Caller must
    /// neither block nor read this tree from within `visit`, which runs inside the store's scan.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`, `Closed`; what was visited before is valid.
    pub fn visit_entries(
        &self,
        space: EntrySpace,
        start: &[u8],
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        let range = KeyRange::new(start.to_vec(), None);
        self.state().scan(space.space(), &range, visit)
    }
}
