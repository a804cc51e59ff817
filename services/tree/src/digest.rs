//! The content of a tree in one number, and where two trees differ.
//!
//! The digest is BLAKE3 over every leaf, then every ending, in key order: key and value, each after
//! its length as u32 little endian, and `u32::MAX` after each of the two. It is the same on every
//! store, whatever the history: endings of paths at which nothing is, which some histories leave
//! behind, are not part of it, and neither are idempotency keys. It does not look at the clock:
//! what has ended and is not yet removed is included.

use std::cmp::Ordering;

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::entries::{self, EntrySpace};
use crate::path::{self, Path};
use crate::space::DATA;
use crate::state::State;
use crate::view::View;

/// Bytes gathered in one scan of the store.
const PAGE_BYTES: usize = 1 << 20;
/// What the digest begins with: another definition begins otherwise.
const DOMAIN: &[u8] = b"trellis content 1\n";

/// How two trees differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the left one has a leaf here.
    OnlyLeft,
    /// Only the right one has a leaf here.
    OnlyRight,
    /// Both have a leaf here, with other values.
    Value,
    /// The path ends at different times, or in one of them only.
    Ending,
}

/// A path at which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: Path,
    /// How.
    pub kind: DifferenceKind,
}

impl View {
    /// The content's digest: 64 hexadecimal digits, the same for the same content on every store.
    ///
    /// # Errors
    /// As for every read.
    ///
    /// # Cost
    /// Reads everything, in pages of some 1 MiB.
    pub fn digest(&self) -> Result<String> {
        digest(self.state())
    }
}

/// The first paths at which two views differ, at most `limit`: leaves in key order, then endings.
///
/// # Errors
/// As for every read.
///
/// # Cost
/// Reads both up to the last difference that is named.
///
/// ```
/// use std::sync::Arc;
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions, differences};
///
/// let open = || {
///     let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
///     Tree::open(kv, log, Runtime::system(), TreeOptions::default())
/// };
/// let (left, right) = (open()?, open()?);
/// left.commit(Commit::set(Path::parse("a/b")?, Input::parse(b"1")?)).unwrap();
/// let found = differences(&left.view()?, &right.view()?, 10)?;
/// assert_eq!(found[0].path.to_string(), "a/b");
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
pub fn differences(left: &View, right: &View, limit: usize) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for space in [EntrySpace::Leaves, EntrySpace::Endings] {
        let mut left = Pages::new(left.state(), space);
        let mut right = Pages::new(right.state(), space);
        let (mut one, mut other) = (left.next()?, right.next()?);
        while found.len() < limit {
            let order = match (&one, &other) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let named = if order == Ordering::Greater { &other } else { &one };
            let same = order == Ordering::Equal && one == other;
            if let (false, Some((key, _))) = (same, named) {
                let kind = match (space, order) {
                    (EntrySpace::Leaves, Ordering::Less) => DifferenceKind::OnlyLeft,
                    (EntrySpace::Leaves, Ordering::Greater) => DifferenceKind::OnlyRight,
                    (EntrySpace::Leaves, Ordering::Equal) => DifferenceKind::Value,
                    _ => DifferenceKind::Ending,
                };
                found.push(Difference { path: Path::from_key(key)?, kind });
            }
            if order != Ordering::Greater {
                one = left.next()?;
            }
            if order != Ordering::Less {
                other = right.next()?;
            }
        }
    }
    Ok(found)
}

/// The digest of a state.
pub(crate) fn digest(state: &State) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    let mut gathered = Vec::with_capacity(PAGE_BYTES + (64 << 10));
    for space in [EntrySpace::Leaves, EntrySpace::Endings] {
        let mut pages = Pages::new(state, space);
        while let Some((key, value)) = pages.next()? {
            for field in [&key, &value] {
                gathered.extend_from_slice(&length(field).to_le_bytes());
                gathered.extend_from_slice(field);
            }
            if gathered.len() >= PAGE_BYTES {
                hasher.update(&gathered);
                gathered.clear();
            }
        }
        gathered.extend_from_slice(&u32::MAX.to_le_bytes());
    }
    hasher.update(&gathered);
    Ok(hasher.finalize().to_hex().to_string())
}

/// A key or a value is shorter than 4 GiB on every store.
fn length(field: &[u8]) -> u32 {
    u32::try_from(field.len()).unwrap_or(u32::MAX)
}

/// The pairs of a space one by one, read in pages, so that the store is held for a page only.
struct Pages<'a> {
    state: &'a State,
    space: EntrySpace,
    page: std::vec::IntoIter<(Bytes, Bytes)>,
    /// Where the next page begins; `None` after the last.
    next: Option<Bytes>,
}

impl<'a> Pages<'a> {
    fn new(state: &'a State, space: EntrySpace) -> Self {
        Self { state, space, page: Vec::new().into_iter(), next: Some(Bytes::new()) }
    }

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        loop {
            if let Some((key, value)) = self.page.next() {
                if self.space == EntrySpace::Endings && !self.is_alive(&key)? {
                    continue;
                }
                return Ok(Some((key, value)));
            }
            let Some(start) = self.next.take() else { return Ok(None) };
            let (page, next) = entries::page(self.state, self.space, start, PAGE_BYTES)?;
            self.page = page.into_iter();
            self.next = next;
        }
    }

    /// Whether anything is at or below a path.
    fn is_alive(&self, key: &[u8]) -> Result<bool> {
        self.state.any(DATA, &path::subtree(key), &|_| true)
    }
}
