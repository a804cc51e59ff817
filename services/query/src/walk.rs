//! [`Walk`]: the items of a collection, or of several, in the order of their paths, in one scan.
//!
//! Leaves that nobody asked for are passed over; after some of them in a row the scan jumps to
//! where the next useful one can be. So what a walk costs follows the items and the fields it
//! reads, not what else the items hold.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};
use trellis_tree::View;

use crate::bounds::Intervals;
use crate::needed::{Needed, Values};
use crate::place::{Collections, Place, Places, after_subtree};

/// Useless leaves in a row before the scan jumps: a jump costs about as much as these.
const SKIP_MAX: usize = 16;

/// What is walked through, and what is read of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) view: &'a View,
    pub(crate) collections: Collections<'a>,
    /// Where the keys of the items may lie.
    pub(crate) keys: &'a Intervals,
    pub(crate) needed: &'a Needed,
    /// From the last path to the first.
    pub(crate) reverse: bool,
    /// Children that may be looked at, those that `*` takes among them.
    pub(crate) looked_max: usize,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// Every item was visited.
    Exhausted,
    /// The visitor said so.
    Stopped,
    /// There is more than may be looked at.
    TooMany,
}

/// Receives an item: the key of its path, where its own key begins in it, and its fields.
pub(crate) type ItemVisitor<'a> = dyn FnMut(&[u8], usize, &Values) -> Result<ControlFlow<()>> + 'a;

/// Where a walk stands.
struct Progress<'w, 'v> {
    walk: Walk<'w>,
    places: Places<'w>,
    visit: &'v mut ItemVisitor<'v>,
    /// The path of the item that is being read; empty before the first.
    item: Vec<u8>,
    key_at: usize,
    values: Values,
    useless: usize,
    looked: usize,
    /// What the last `*` took, with what stands before it.
    expanded: Vec<u8>,
    end: Option<WalkEnd>,
}

impl Walk<'_> {
    /// Visits the items; says how it ended and how many children were looked at.
    ///
    /// # Errors
    /// As for every read; those of the visitor.
    pub(crate) fn run(&self, visit: &mut ItemVisitor<'_>) -> Result<(WalkEnd, usize)> {
        self.run_from(None, visit)
    }

    /// As [`Walk::run`], from the item with this path on.
    pub(crate) fn run_from(
        &self,
        from: Option<&[u8]>,
        visit: &mut ItemVisitor<'_>,
    ) -> Result<(WalkEnd, usize)> {
        if self.keys.is_empty() {
            return Ok((WalkEnd::Exhausted, 0));
        }
        let places = Places::new(self.collections, self.keys);
        let mut range = places.range();
        if let Some(from) = from {
            if self.reverse {
                let end = after_subtree(from);
                range.end = Some(range.end.map_or(end.clone(), |old| old.min(end)));
            } else {
                range.start = range.start.max(Bytes::copy_from_slice(from));
            }
        }
        let mut progress = Progress {
            walk: *self,
            places,
            // The borrow is as long as this call: nothing outlives it.
            visit: &mut |path, key_at, values| visit(path, key_at, values),
            item: Vec::new(),
            key_at: 0,
            values: self.needed.none_known(),
            useless: 0,
            looked: 0,
            expanded: Vec::new(),
            end: None,
        };
        progress.scan(range)?;
        Ok((progress.end.unwrap_or(WalkEnd::Exhausted), progress.looked))
    }
}

impl Progress<'_, '_> {
    fn scan(&mut self, mut range: KeyRange) -> Result<()> {
        loop {
            let mut jump: Option<Bytes> = None;
            let mut failure = None;
            self.useless = 0;
            if range.is_empty() {
                return self.finish();
            }
            let (view, reverse) = (self.walk.view, self.walk.reverse);
            view.leaves_in(&range, reverse, &mut |key, stored| match self.leaf(key, stored) {
                Ok(Some(next)) => {
                    jump = Some(next);
                    ControlFlow::Break(())
                }
                Ok(None) if self.end.is_none() => ControlFlow::Continue(()),
                Ok(None) => ControlFlow::Break(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            match jump {
                Some(next) if reverse => range.end = Some(next),
                Some(next) => range.start = next,
                None => return self.finish(),
            }
        }
    }

    /// Takes a leaf; `Some` is where to go on when this one and those before it were useless.
    fn leaf(&mut self, key: &[u8], stored: &[u8]) -> Result<Option<Bytes>> {
        let same = !self.item.is_empty()
            && key.strip_prefix(self.item.as_slice()).is_some_and(starts_below);
        if !same {
            match self.places.of(key, self.walk.reverse) {
                Place::Item { len, key_at, expanded } => {
                    self.finish()?;
                    if self.end.is_none() {
                        self.note_expansion(key.get(..expanded).unwrap_or_default());
                        self.begin(key, len, key_at);
                    }
                    if self.end.is_some() {
                        return Ok(None);
                    }
                }
                Place::Between { next, expanded } => {
                    self.finish()?;
                    self.note_expansion(key.get(..expanded).unwrap_or_default());
                    if self.end.is_some() {
                        return Ok(None);
                    }
                    self.useless += 1;
                    let tired = self.useless > SKIP_MAX;
                    return Ok(next.filter(|_| tired));
                }
            }
        }
        let below = key.get(self.item.len()..).unwrap_or_default();
        let below = below.get(1..).unwrap_or_default();
        if self.walk.needed.take(below, stored, &mut self.values)? || !same {
            self.useless = 0;
            return Ok(None);
        }
        self.useless += 1;
        Ok((self.useless > SKIP_MAX).then(|| self.next_field(below)))
    }

    /// Where the next leaf can be that tells something: a field of this item, or the next item.
    fn next_field(&self, below: &[u8]) -> Bytes {
        let within = |below: &[u8]| Bytes::from([self.item.as_slice(), &[0], below].concat());
        if self.walk.reverse {
            let before = self.walk.needed.next_before(below);
            return before.map_or_else(|| Bytes::copy_from_slice(&self.item), |end| within(&end));
        }
        let after = self.walk.needed.next_after(below);
        after.map_or_else(|| after_subtree(&self.item), within)
    }

    fn begin(&mut self, key: &[u8], len: usize, key_at: usize) {
        self.look();
        if self.end.is_some() {
            return;
        }
        self.item.clear();
        self.item.extend_from_slice(key.get(..len).unwrap_or_default());
        self.key_at = key_at;
        let own_key = key.get(key_at..len).unwrap_or_default();
        self.walk.needed.begin(own_key, &mut self.values);
    }

    /// Counts what a `*` takes, so that a pattern that nothing fits is bounded too.
    fn note_expansion(&mut self, expanded: &[u8]) {
        if !expanded.is_empty() && expanded != self.expanded.as_slice() {
            self.expanded.clear();
            self.expanded.extend_from_slice(expanded);
            self.look();
        }
    }

    fn look(&mut self) {
        if self.looked >= self.walk.looked_max {
            self.end.get_or_insert(WalkEnd::TooMany);
        } else {
            self.looked += 1;
        }
    }

    /// Hands the item on that was being read.
    fn finish(&mut self) -> Result<()> {
        if self.item.is_empty() {
            return Ok(());
        }
        let flow = (self.visit)(&self.item, self.key_at, &self.values)?;
        self.item.clear();
        if flow.is_break() {
            self.end = Some(WalkEnd::Stopped);
        }
        Ok(())
    }
}

fn starts_below(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| *byte == 0)
}
