//! A commit while it is being resolved: its own effects over the newest state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::effect::Effect;
use crate::image::{Before, Image, Images};
use crate::leaf::Leaf;
use crate::path::{self, between};
use crate::space::{DATA, EXPIRY};
use crate::spared::{Pieces, Told, over_others};
use crate::stamp::Version;
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
    pub(crate) state: &'a State,
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
    /// How the tree is divided for replication, if it is.
    pub(crate) zoning: Option<&'a dyn Zoning>,
    /// What replication is told besides.
    pub(crate) told: Told,
    /// Whether any path of the tree may have an expiry: spares a read for each write.
    any_expiry: bool,
    bytes: usize,
    /// Leaves that were removed before the request's own changes.
    ended_leaves: usize,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State, any_expiry: bool) -> Self {
        Self {
            state,
            cleared: BTreeSet::new(),
            vacant: BTreeSet::new(),
            puts: BTreeMap::new(),
            deletes: BTreeSet::new(),
            gone_before: BTreeMap::new(),
            before: Before::default(),
            expiries: BTreeMap::new(),
            zoning: None,
            told: Told::default(),
            any_expiry,
            bytes: 0,
            ended_leaves: 0,
        }
    }

    /// Minds the zones of a tree that is divided for replication.
    pub(crate) fn in_zones(mut self, zoning: Option<&'a dyn Zoning>) -> Self {
        self.zoning = zoning;
        self
    }

    /// Bytes of keys and values written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leaves written or removed so far.
    pub(crate) fn leaves(&self) -> usize {
        (self.puts.len() + self.deletes.len()).saturating_sub(self.ended_leaves)
    }

    /// Leaves and endings changed so far.
    pub(crate) fn items(&self) -> usize {
        self.puts.len() + self.deletes.len() + self.expiries.len()
    }

    /// What was removed so far because it ended is not counted as the request's.
    pub(crate) fn begin_request(&mut self) {
        (self.bytes, self.ended_leaves) = (0, self.deletes.len());
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
    pub(crate) fn take_leaf(&mut self, key: &Bytes) -> Result<Option<Bytes>> {
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
        // What is below a leaf is not there, and removing it must not cost the leaf.
        if !matches!(held, Held::Nothing) || !self.is_below_leaf(key)? {
            self.speak_for(key, &held);
        }
        Ok(!matches!(held, Held::Nothing))
    }

    /// Whether a leaf is above a key; asked only where several nodes write.
    fn is_below_leaf(&self, key: &Bytes) -> Result<bool> {
        if self.zoning.is_none_or(|zoning| zoning.zone(key).tracking != Tracking::Shared) {
            return Ok(false);
        }
        for ancestor in path::ancestors(key) {
            if self.leaf(ancestor)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where several nodes write, one that empties a path speaks for what the others have there.
    fn speak_for(&mut self, key: &Bytes, held: &Held) {
        let Some(zoning) = self.zoning else { return };
        let is_told = matches!(held, Held::Leaf(_)) || self.told.marks.contains_key(key);
        if is_told || zoning.zone(key).tracking != Tracking::Shared {
            return;
        }
        if !zoning.carved(key).is_empty() {
            self.told.marks.insert(key.clone(), None);
        } else if matches!(held, Held::Nothing) {
            self.clear(key);
        }
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
                let carved = self.zoning.map(|zoning| zoning.carved(key)).unwrap_or_default();
                if carved.is_empty() {
                    self.clear(key);
                } else {
                    self.empty_zones(key, &carved)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is at and below a key, zone by zone, but what belongs to other nodes alone.
    fn empty_zones(&mut self, key: &Bytes, carved: &[Bytes]) -> Result<()> {
        self.empty_around(key, carved)?;
        let kept = self.zoning.map(|zoning| zoning.kept(key)).unwrap_or_default();
        for zone in carved.iter().filter(|zone| !kept.contains(zone)) {
            self.remove(zone)?;
        }
        Ok(())
    }

    /// Removes what is at and below a key, but what lies in some subtrees: by as few clears and
    /// deletes as do it. These leave no stamps; the key is marked in their place.
    pub(crate) fn empty_around(&mut self, key: &Bytes, spared: &[Bytes]) -> Result<()> {
        let mut pieces = Pieces { key, spared, found: BTreeSet::new() };
        for gap in between(&path::subtree(key), spared) {
            let end = gap.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let own = self.puts.range::<Bytes, _>((Bound::Included(&gap.start), end));
            own.for_each(|(own, _)| drop(pieces.add(own)));
            let gone = |at: &[u8]| self.deletes.contains(at) || self.is_cleared(at);
            pieces.add_held(self.state, gap, &gone)?;
        }
        let found = pieces.found;
        let open = spared.iter().flat_map(|spared| path::ancestors(spared));
        let open: BTreeSet<&[u8]> = open.filter(|above| path::covers(key, above)).collect();
        for above in open {
            if self.expiry(above)?.is_some() {
                self.expire(&Bytes::copy_from_slice(above), None);
            }
        }
        let is_tracked = |zoning: &dyn Zoning| zoning.zone(key).tracking != Tracking::None;
        if !found.is_empty() && self.zoning.is_some_and(is_tracked) {
            self.told.marks.insert(key.clone(), None);
        }
        for piece in found {
            match self.take_leaf(&piece)? {
                Some(_) => self.delete(piece.clone()),
                None => self.clear(&piece),
            }
            self.told.unstamped.insert(piece);
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: Bytes) {
        self.bytes += key.len();
        self.told.unstamped.remove(&key);
        self.told.marks.remove(&key);
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
        self.told.forget(key);
        self.cleared.insert(key.clone());
    }

    /// Replaces what is at and below a key by these leaves, and makes its ancestors objects.
    pub(crate) fn replace(&mut self, key: &Bytes, leaves: Vec<(Bytes, Bytes)>) -> Result<()> {
        let only = matches!(leaves.as_slice(), [(own, _)] if own == key);
        if !only {
            let held = self.take_held(key)?;
            self.empty(key, &held)?;
            self.speak_for(key, &held);
            if !leaves.is_empty() {
                self.open_ancestors(key, None)?;
            }
        } else if self.take_leaf(key)?.is_none() {
            self.open(key)?;
        } else if self.expiry(key)?.is_some() {
            // A leaf over a leaf changes nothing around it.
            self.expire(key, None);
        }
        let carved = match self.zoning {
            Some(zoning) if !only => zoning.carved(key),
            _ => Vec::new(),
        };
        for (leaf, value) in leaves {
            let meets = |carved: &Bytes| path::covers(carved, &leaf) || path::covers(&leaf, carved);
            if carved.iter().any(meets) {
                // What is in a zone of its own was not removed.
                self.replace(&leaf.clone(), vec![(leaf, value)])?;
                continue;
            }
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
        if matches!(held, Held::Below) && self.zoning.is_some() && self.has_below(key)? {
            return Err(over_others());
        }
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
                    self.give_way(ancestor)?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Removes a leaf that gives way to what is below it: what it hid stays hidden, but no more.
    fn give_way(&mut self, key: Bytes) -> Result<()> {
        let is_own = self.puts.contains_key(&key);
        self.delete(key.clone());
        let Some(zoning) = self.zoning else { return Ok(()) };
        if is_own || zoning.zone(&key).tracking == Tracking::None {
            return Ok(());
        }
        let stamp = self.state.stamp(&key)?.filter(|stamp| stamp.version != Version::ZERO);
        if let Some(stamp) = stamp {
            self.told.marks.insert(key.clone(), Some(stamp.version));
        }
        self.told.unstamped.insert(key);
        Ok(())
    }

    /// The effects in the order in which they take effect: clears, then single changes; what was
    /// there before; and what replication is told.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cost
    /// One short scan for each clear.
    pub(crate) fn finish(mut self) -> Result<(Vec<Effect>, Vec<Image>, Told)> {
        let mut images = Images::new();
        for key in &self.cleared {
            images.clear(self.state, key)?;
        }
        for key in self.deletes.iter().chain(self.puts.keys()) {
            // Of what is below a clear, its image tells. Where no leaf was found there is none.
            let is_told = self.is_cleared(key);
            images.leaf(if is_told { Image::Absent } else { self.before.at(key) });
        }
        // A leaf says by itself that what was below it is gone.
        self.told.marks.retain(|key, _| !self.puts.contains_key(key));
        let clears = self.cleared.into_iter().map(Effect::Clear);
        let deletes = self.deletes.into_iter().map(Effect::Delete);
        let puts = self.puts.into_iter().map(|(key, value)| Effect::Put(key, value));
        let expiries = self.expiries.into_iter().map(|(key, at)| match at {
            Some(at) => Effect::Expire(key, at),
            None => Effect::Unexpire(key),
        });
        let marks = self.told.marks.keys().cloned().map(Effect::Mark);
        let effects = clears.chain(deletes).chain(puts).chain(expiries).chain(marks).collect();
        Ok((effects, images.into_all(), self.told))
    }
}
