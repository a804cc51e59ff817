//! A commit while it is being resolved: its own effects over the newest state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::image::{Before, Image, Images};
use crate::leaf::Leaf;
use crate::path;
use crate::record::{DATA, EXPIRY, Effect};
use crate::state::State;
use crate::zoning::{Tracking, Zoning};

/// What is at and below a key.
enum Held {
    Nothing,
    Leaf(Bytes),
    Below,
}

fn into_array() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the path leads into an array, which is one value: set the whole array, or use append, \
         union or remove",
    )
}

/// The effects so far, in a form in which a later one replaces an earlier one.
pub(crate) struct Draft<'a> {
    state: &'a State,
    /// What a removal leaves as it is.
    zoning: Option<&'a dyn Zoning>,
    /// Paths below which a removal left something as it is, or might have.
    marks: BTreeSet<Bytes>,
    /// Subtrees that are empty before the puts.
    cleared: BTreeSet<Bytes>,
    /// Paths below which the state was seen to hold nothing: a new object's leaves ask it once.
    vacant: BTreeSet<Bytes>,
    puts: BTreeMap<Bytes, Bytes>,
    deletes: BTreeSet<Bytes>,
    /// Paths and a key each, before which all that the state holds at and below the path is gone:
    /// it stays so, and many removals are passed over once only.
    gone_before: BTreeMap<Bytes, Bytes>,
    /// Leaves of the state that are written over or removed one by one.
    before: Before,
    expiries: BTreeMap<Bytes, Option<u64>>,
    /// Whether any path of the tree may have an expiry: spares a read for each write.
    any_expiry: bool,
    bytes: usize,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State, zoning: Option<&'a dyn Zoning>, any_expiry: bool) -> Self {
        Self {
            state,
            zoning,
            marks: BTreeSet::new(),
            cleared: BTreeSet::new(),
            vacant: BTreeSet::new(),
            puts: BTreeMap::new(),
            deletes: BTreeSet::new(),
            gone_before: BTreeMap::new(),
            before: Before::default(),
            expiries: BTreeMap::new(),
            any_expiry,
            bytes: 0,
        }
    }

    /// Bytes of keys and values written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leaves written or removed so far.
    pub(crate) fn leaves(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        !self.cleared.is_empty()
            && std::iter::once(key).chain(path::ancestors(key)).any(|at| self.cleared.contains(at))
    }

    /// Whether the state is known to hold nothing at and below a key.
    fn is_vacant(&self, key: &[u8]) -> bool {
        !self.vacant.is_empty() && path::ancestors(key).any(|at| self.vacant.contains(at))
    }

    /// The leaf at a key.
    pub(crate) fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.puts.get(key) {
            Some(own) => Ok(Some(own.clone())),
            None if self.deletes.contains(key) || self.is_cleared(key) || self.is_vacant(key) => {
                Ok(None)
            }
            None => self.state.get(DATA, key),
        }
    }

    /// The leaf at a key that is about to be written or removed; what the state has there is kept
    /// for the commit's images.
    fn take_leaf(&mut self, key: &Bytes) -> Result<Option<Bytes>> {
        let leaf = self.leaf(key)?;
        if let Some(leaf) = &leaf {
            self.keep_before(key, leaf);
        }
        Ok(leaf)
    }

    fn keep_before(&mut self, key: &Bytes, leaf: &Bytes) {
        if !self.puts.contains_key(key) {
            self.before.keep(key, leaf);
        }
    }

    /// What is at and below a key that is about to change, as one look tells.
    fn take_held(&mut self, key: &Bytes) -> Result<Held> {
        let range = path::subtree(key);
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = self.puts.range::<Bytes, _>((Bound::Included(&range.start), end));
        let mut held = Held::Nothing;
        let mut hold = |found: &[u8], leaf: &Bytes| {
            held = if found == key { Held::Leaf(leaf.clone()) } else { Held::Below };
        };
        if let Some((found, leaf)) = own.next() {
            hold(found, leaf);
        } else if !self.is_cleared(key) && !self.is_vacant(key) && !self.vacant.contains(key) {
            let (mut rest, mut last_gone) = (range, None);
            if let Some(gone) = self.gone_before.get(key) {
                rest.start = gone.clone();
            }
            self.state.scan(DATA, &rest, &mut |found, leaf| {
                if self.deletes.contains(found) || self.is_cleared(found) {
                    last_gone = Some(Bytes::copy_from_slice(found));
                    return ControlFlow::Continue(());
                }
                let leaf = if found == key { Bytes::copy_from_slice(leaf) } else { Bytes::new() };
                hold(found, &leaf);
                ControlFlow::Break(())
            })?;
            if let Some(gone) = last_gone {
                self.gone_before.insert(key.clone(), gone);
            }
        }
        if let Held::Leaf(leaf) = &held {
            self.keep_before(key, leaf);
        }
        Ok(held)
    }

    pub(crate) fn has_below(&self, key: &[u8]) -> Result<bool> {
        let range = path::below(key);
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = self.puts.range::<Bytes, _>((Bound::Included(&range.start), end));
        if own.next().is_some() {
            return Ok(true);
        }
        if self.is_cleared(key) || self.is_vacant(key) {
            return Ok(false);
        }
        let untouched = |key: &[u8]| !self.deletes.contains(key) && !self.is_cleared(key);
        self.state.any(DATA, &range, &untouched)
    }

    /// The expiry stored at exactly this key.
    pub(crate) fn expiry(&self, key: &[u8]) -> Result<Option<u64>> {
        if let Some(own) = self.expiries.get(key) {
            return Ok(*own);
        }
        if !self.any_expiry || self.is_cleared(key) {
            return Ok(None);
        }
        let stored = self.state.get(EXPIRY, key)?;
        Ok(stored.and_then(|at| Some(u64::from_be_bytes(at.as_ref().try_into().ok()?))))
    }

    pub(crate) fn expire(&mut self, key: &Bytes, at_ms: Option<u64>) {
        self.bytes += key.len();
        self.expiries.insert(key.clone(), at_ms);
    }

    /// Empties a subtree; returns whether anything was there.
    pub(crate) fn remove(&mut self, key: &Bytes) -> Result<bool> {
        let held = match self.take_leaf(key)? {
            Some(leaf) => Held::Leaf(leaf),
            None if self.has_below(key)? => Held::Below,
            None => Held::Nothing,
        };
        self.empty(key, &held)?;
        Ok(!matches!(held, Held::Nothing))
    }

    fn empty(&mut self, key: &Bytes, held: &Held) -> Result<()> {
        // An object that vanished with its last child may have left an ending behind.
        if !matches!(held, Held::Below) && self.expiry(key)?.is_some() {
            self.expire(key, None);
        }
        match held {
            Held::Nothing => {}
            Held::Leaf(_) => self.delete(key.clone()),
            Held::Below => {
                let kept = self.zoning.map(|zoning| zoning.kept(key)).unwrap_or_default();
                if kept.is_empty() {
                    self.clear(key);
                } else {
                    self.empty_around(key, &kept)?;
                    let tracked = |zoning: &dyn Zoning| zoning.zone(key).tracking != Tracking::None;
                    if self.zoning.is_some_and(tracked) {
                        self.marks.insert(key.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// Empties what is below a key without what other nodes hold there.
    fn empty_around(&mut self, key: &Bytes, kept: &[Bytes]) -> Result<()> {
        let mut next = path::below(key).start;
        while let Some(found) = self.first_from(key, &next)? {
            let end = found.get(key.len() + 1..).unwrap_or_default();
            let end = end.iter().position(|byte| *byte == 0).map(|at| key.len() + 1 + at);
            let child = found.slice(..end.unwrap_or(found.len()));
            next = path::after_subtree(&child);
            if kept.contains(&child) {
                continue;
            }
            if kept.iter().any(|kept| path::covers(&child, kept)) {
                if let Some(leaf) = self.take_leaf(&child)? {
                    self.empty(&child, &Held::Leaf(leaf))?;
                }
                self.empty_around(&child, kept)?;
            } else {
                let held = self.take_held(&child)?;
                self.empty(&child, &held)?;
            }
        }
        Ok(())
    }

    /// The first leaf below a key from another on.
    fn first_from(&self, key: &Bytes, from: &Bytes) -> Result<Option<Bytes>> {
        let range = KeyRange::new(from.clone(), Some(path::after_subtree(key)));
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = self.puts.range::<Bytes, _>((Bound::Included(&range.start), end));
        let mut first = own.next().map(|(found, _)| found.clone());
        self.state.scan(DATA, &range, &mut |found, _| {
            if first.as_ref().is_some_and(|first| first.as_ref() <= found) {
                return ControlFlow::Break(());
            }
            if self.deletes.contains(found) || self.is_cleared(found) || self.is_vacant(found) {
                return ControlFlow::Continue(());
            }
            first = Some(Bytes::copy_from_slice(found));
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// Refuses a leaf where something is left below that other nodes hold.
    fn refuse_above_kept(&self, key: &Bytes) -> Result<()> {
        let Some(zoning) = self.zoning else { return Ok(()) };
        for kept in zoning.kept(key) {
            if self.has_below(&kept)? || self.leaf(&kept)?.is_some() {
                let message = "a value here would remove what belongs to another node, below it: \
                               write an object";
                return Err(Error::new(ErrorKind::Denied, message)
                    .operation("commit")
                    .context("reason", "source_owned"));
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: Bytes) {
        self.bytes += key.len();
        self.puts.remove(&key);
        self.deletes.insert(key);
    }

    fn clear(&mut self, key: &Bytes) {
        self.bytes += key.len();
        let range = path::subtree(key);
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(&range.start), end);
        let puts: Vec<Bytes> =
            self.puts.range::<Bytes, _>(bounds).map(|(own, _)| own.clone()).collect();
        let expiries = self.expiries.range::<Bytes, _>(bounds);
        let expiries: Vec<Bytes> = expiries.map(|(own, _)| own.clone()).collect();
        let cleared: Vec<Bytes> = self.cleared.range::<Bytes, _>(bounds).cloned().collect();
        let deletes: Vec<Bytes> = self.deletes.range::<Bytes, _>(bounds).cloned().collect();
        for own in &puts {
            self.puts.remove(own);
        }
        for own in &deletes {
            self.deletes.remove(own);
        }
        for own in &expiries {
            self.expiries.remove(own);
        }
        for own in &cleared {
            self.cleared.remove(own);
        }
        self.cleared.insert(key.clone());
    }

    /// Replaces what is at and below a key by these leaves, and makes its ancestors objects.
    pub(crate) fn replace(&mut self, key: &Bytes, leaves: Vec<(Bytes, Bytes)>) -> Result<()> {
        let only = matches!(leaves.as_slice(), [(own, _)] if own == key);
        if only {
            self.refuse_above_kept(key)?;
        }
        if !only {
            let held = self.take_held(key)?;
            self.empty(key, &held)?;
            if !leaves.is_empty() {
                self.open_ancestors(key, None)?;
            }
        } else if self.take_leaf(key)?.is_none() {
            self.open(key)?;
        } else if self.expiry(key)?.is_some() {
            // A leaf over a leaf changes nothing around it.
            self.expire(key, None);
        }
        for (leaf, value) in leaves {
            self.bytes += leaf.len() + value.len();
            self.deletes.remove(&leaf);
            self.puts.insert(leaf, value);
        }
        Ok(())
    }

    /// Makes room for a leaf where none is. The parent is asked first: below one that holds nothing
    /// there is nothing to ask for.
    fn open(&mut self, key: &Bytes) -> Result<()> {
        let parent = path::ancestors(key).next().map(|parent| key.slice(..parent.len()));
        let parent_held = parent.map(|parent| self.take_held(&parent)).transpose()?;
        let may_hold = matches!(parent_held, None | Some(Held::Below));
        let held = if may_hold && self.has_below(key)? { Held::Below } else { Held::Nothing };
        self.empty(key, &held)?;
        match (held, parent_held) {
            // It may have been all that was below the parent.
            (Held::Below, _) => self.open_ancestors(key, None),
            (_, known) => self.open_ancestors(key, known),
        }
    }

    /// A leaf above a key gives way to the object that the key makes of it. `known` is what the
    /// parent holds, where somebody has looked.
    fn open_ancestors(&mut self, key: &Bytes, mut known: Option<Held>) -> Result<()> {
        let ancestors: Vec<Bytes> =
            path::ancestors(key).map(|ancestor| key.slice(..ancestor.len())).collect();
        for ancestor in ancestors {
            let held = match known.take() {
                Some(known) => known,
                None => self.take_held(&ancestor)?,
            };
            match held {
                // Something below means that neither this nor anything above is a leaf.
                Held::Below => return Ok(()),
                Held::Nothing => {
                    self.vacant.insert(ancestor.clone());
                    // Nothing is here, so an ending here belongs to what was.
                    if self.expiry(&ancestor)?.is_some() {
                        self.expire(&ancestor, None);
                    }
                }
                Held::Leaf(stored) => {
                    if matches!(Leaf::decode(&stored)?, Leaf::Array(_)) {
                        return Err(into_array());
                    }
                    self.vacant.insert(ancestor.clone());
                    let ends = self.expiry(&ancestor)?;
                    if self.zoning.is_some() && ends.is_some() {
                        // The ending stays with the object. Its stamp has to be as new as the
                        // tombstone beside it, which hides older ones.
                        self.expire(&ancestor, ends);
                    }
                    self.delete(ancestor);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The effects in the order in which they take effect: clears, then single changes; and what
    /// was there before.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cost
    /// One short scan for each clear.
    pub(crate) fn finish(self) -> Result<(Vec<Effect>, Vec<Image>)> {
        let mut images = Images::new();
        for key in &self.cleared {
            images.clear(self.state, key)?;
        }
        for key in self.deletes.iter().chain(self.puts.keys()) {
            // Of what is below a clear, its image tells. Where no leaf was found there is none.
            let is_told = self.is_cleared(key);
            images.leaf(if is_told { Image::Absent } else { self.before.at(key) });
        }
        let marks = self.marks.into_iter().map(Effect::Mark);
        let clears = self.cleared.into_iter().map(Effect::Clear);
        let deletes = self.deletes.into_iter().map(Effect::Delete);
        let puts = self.puts.into_iter().map(|(key, value)| Effect::Put(key, value));
        let expiries = self.expiries.into_iter().map(|(key, at)| match at {
            Some(at) => Effect::Expire(key, at),
            None => Effect::Unexpire(key),
        });
        let effects = clears.chain(deletes).chain(puts).chain(expiries).chain(marks).collect();
        Ok((effects, images.into_all()))
    }
}
