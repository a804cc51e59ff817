//! The merge: another node's ops meet what is here, and become plain effects. Pure: it reads
//! through [`Here`] and writes nothing.
//!
//! The rules are those of [`stamp`](crate::stamp), within one zone. Ops are taken in the order of
//! their keys, so that what is above is settled before what is below. Invariants of the outcome:
//! 1. A leaf has nothing below it. One that has to give way, to what is newer below it or to what
//!    lives in a zone carved out below it, becomes a clear of its own version: it hides what the
//!    leaf did, so that the outcome is the same in any order.
//! 2. What lies in zones carved out below a key, or outside the scope, is not touched from above.
//! 3. What is hidden goes, as one clear where nothing below has to stay, else one by one.
//!
//! Replacing and filling an interval are in `replace`, what removes many keys in `removal`, what is
//! told again in `tell_again`, and what the record is told of it all in `merged`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Held, Here, StampKind, ending_path};
use crate::image::Before;
use crate::path::{self, between, outermost};
use crate::planted::Planted;
use crate::stamp::{RemoteApplied, Scope, StampedChange, StampedOp, Version};
use crate::zoning::{Tracking, Zone, Zoning};

/// A merge under way.
pub(crate) struct Merge<'a> {
    pub(crate) here: &'a dyn Here,
    pub(crate) zoning: &'a dyn Zoning,
    pub(crate) scope: &'a Scope,
    pub(crate) planted: Planted,
    /// Whether what an op loses to is written once more.
    pub(crate) tells_again: bool,
    /// Whether a clear that is here already hides what is below it once more: it may have come with
    /// a page of a copy that went no further.
    pub(crate) hides_again: bool,
    /// What becomes of keys, those of endings among them: a record, or nothing at all.
    pub(crate) own: BTreeMap<Bytes, Option<Held>>,
    /// Subtrees of which nothing that is here stays.
    pub(crate) wiped: BTreeSet<Bytes>,
    pub(crate) before: Before,
    pub(crate) came: RemoteApplied,
    /// Paths at and below which nothing is here, and others that were looked at.
    vacant: HashSet<Bytes>,
    looked: HashSet<Bytes>,
    /// Of paths, the newest version at or above within the zone.
    pub(crate) above: HashMap<Bytes, Version>,
    /// Paths that are no leaf, and have none above.
    pub(crate) leafless: HashSet<Bytes>,
}

/// What the stamps strictly below a key say of a version.
#[derive(Debug, Default)]
pub(crate) struct Below {
    /// Keys of what is not older, in order.
    pub(crate) kept: Vec<Bytes>,
    /// Whether a leaf at the key has to give way.
    takes_place: bool,
    /// Whether something is older.
    hidden: bool,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        here: &'a dyn Here,
        zoning: &'a dyn Zoning,
        scope: &'a Scope,
        planted: Planted,
    ) -> Self {
        Self {
            here,
            zoning,
            scope,
            planted,
            tells_again: false,
            hides_again: false,
            own: BTreeMap::new(),
            wiped: BTreeSet::new(),
            before: Before::default(),
            came: RemoteApplied::default(),
            vacant: HashSet::new(),
            looked: HashSet::new(),
            above: HashMap::new(),
            leafless: HashSet::new(),
        }
    }

    /// Merges ops in the order of their keys.
    ///
    /// # Errors
    /// Those of reading what is here.
    pub(crate) fn merge(&mut self, ops: &[&StampedOp]) -> Result<()> {
        ops.iter().try_for_each(|op| self.op(op))
    }

    /// The zone of an op's path, if it may be touched.
    pub(crate) fn admit(&self, op: &StampedOp) -> Option<Zone> {
        let path = ending_path(&op.key).unwrap_or(&op.key);
        let zone = self.zoning.zone(path);
        (zone.tracking != Tracking::None && self.scope.covers(path)).then_some(zone)
    }

    fn op(&mut self, op: &StampedOp) -> Result<()> {
        let Some(zone) = self.admit(op) else {
            self.came.clipped += 1;
            return Ok(());
        };
        let mut incoming = Held { version: op.version, change: op.change.clone() };
        let local = self.record(&op.key)?;
        if !self.wins(&incoming, local.as_ref()) {
            return self.lose(op, local);
        }
        let over_leaf = local.as_ref().is_some_and(Held::is_leaf);
        // A leaf that is here is hidden by nothing, and what is newer is not either.
        if !over_leaf && self.is_hidden(&op.key, op.version, zone)? {
            self.came.lost += 1;
            return self.tell_again_above(&op.key, zone);
        }
        if ending_path(&op.key).is_some() {
            self.take(op, local.as_ref(), incoming);
            return Ok(());
        }
        if over_leaf {
            self.hide_endings(&op.key, op.version)?;
            self.take(op, local.as_ref(), incoming);
            return Ok(());
        }
        let edges = self.edges(&op.key);
        let below = self.below(&op.key, op.version, &edges)?;
        let carved_live = self.any_leaf_in(&edges)?;
        let gives_way = incoming.is_leaf() && (below.takes_place || carved_live);
        if gives_way {
            self.came.lost += 1;
            self.tell_again_below(op.version, &below)?;
            incoming.change = StampedChange::Clear;
            let is_news = local.as_ref().is_none_or(|local| incoming.order(local).is_gt());
            if !is_news || self.planted == Planted::LeafLeavesNothing {
                return Ok(());
            }
        } else if carved_live && op.change == StampedChange::Clear {
            self.came.clipped += 1;
        }
        self.hide(&op.key, op.version, below, &edges)?;
        self.open_above(&op.key, op.version, zone, incoming.is_leaf())?;
        if gives_way {
            self.own.insert(op.key.clone(), Some(incoming));
        } else {
            self.take(op, local.as_ref(), incoming);
        }
        Ok(())
    }

    /// Whether a record wins over that of its key; counted where it does not.
    fn wins(&mut self, incoming: &Held, local: Option<&Held>) -> bool {
        let Some(local) = local else { return true };
        let is_ending = matches!(incoming.change, StampedChange::Ending(_));
        if self.planted == Planted::VersionCheckLoose && incoming.version == local.version
            || self.planted == Planted::EndingOverwrites && is_ending
        {
            return incoming != local;
        }
        match incoming.order(local) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => {
                self.came.known += 1;
                false
            }
            std::cmp::Ordering::Less => {
                self.came.lost += 1;
                false
            }
        }
    }

    /// Enters a record that won.
    fn take(&mut self, op: &StampedOp, local: Option<&Held>, incoming: Held) {
        self.came.applied += 1;
        if let Some(local) = local {
            let other = local.version.origin != op.version.origin;
            self.came.won += usize::from(other && local.version != Version::ZERO);
            self.keep_before(&op.key, local);
        }
        let forgotten =
            self.planted == Planted::TombForgotten && incoming.change == StampedChange::Tomb;
        self.own.insert(op.key.clone(), (!forgotten).then_some(incoming));
    }

    pub(crate) fn keep_before(&mut self, key: &Bytes, local: &Held) {
        if let StampedChange::Put(stored) = &local.change
            && !self.own.contains_key(key)
        {
            self.before.keep(key, stored);
        }
    }

    pub(crate) fn is_wiped(&self, key: &[u8]) -> bool {
        !self.wiped.is_empty()
            && std::iter::once(key).chain(path::ancestors(key)).any(|at| self.wiped.contains(at))
    }

    /// Whether it is known that nothing is here at and below a key.
    fn is_vacant(&self, key: &[u8]) -> bool {
        !self.vacant.is_empty() && path::ancestors(key).any(|at| self.vacant.contains(at))
    }

    /// Whether something that is here is gone, or spoken for, in the outcome so far.
    pub(crate) fn is_settled(&self, key: &[u8]) -> bool {
        self.own.contains_key(key) || self.is_wiped(key)
    }

    /// The record of a key in the outcome so far.
    pub(crate) fn record(&self, key: &[u8]) -> Result<Option<Held>> {
        if let Some(own) = self.own.get(key) {
            return Ok(own.clone());
        }
        if self.is_wiped(key) || self.is_vacant(key) {
            return Ok(None);
        }
        let stamp = self.here.stamp(key)?;
        let version = stamp.map_or(Version::ZERO, |stamp| stamp.version);
        let is_live = stamp.is_none_or(|stamp| stamp.kind == StampKind::Live);
        if let Some(path) = ending_path(key) {
            let ends = self.here.any_ending() && is_live;
            let at = if ends { self.here.ending(path)? } else { None };
            let change = StampedChange::Ending(at);
            return Ok((stamp.is_some() || at.is_some()).then_some(Held { version, change }));
        }
        let leaf = if is_live { self.here.leaf(key)? } else { None };
        let change = match (leaf, stamp.map(|stamp| stamp.kind)) {
            (Some(stored), _) => StampedChange::Put(stored),
            (None, None) => return Ok(None),
            (None, Some(StampKind::Clear)) => StampedChange::Clear,
            (None, Some(StampKind::Live | StampKind::Tomb)) => StampedChange::Tomb,
        };
        Ok(Some(Held { version, change }))
    }

    /// Whether something newer is above a key in its zone.
    fn is_hidden(&mut self, key: &Bytes, version: Version, zone: Zone) -> Result<bool> {
        if self.planted == Planted::AncestorsIgnored {
            return Ok(false);
        }
        // From the top down, so that each is the newest of itself and what is above it.
        let mut path: Vec<Bytes> = Vec::new();
        let mut newest = Version::ZERO;
        for ancestor in path::ancestors(key).take_while(|at| at.len() >= zone.prefix_bytes) {
            if let Some(known) = self.above.get(ancestor) {
                newest = *known;
                break;
            }
            path.push(key.slice(..ancestor.len()));
        }
        for ancestor in path.into_iter().rev() {
            newest = newest.max(self.version_at(&ancestor)?);
            self.above.insert(ancestor, newest);
        }
        Ok(newest > version)
    }

    pub(crate) fn version_at(&self, key: &[u8]) -> Result<Version> {
        if let Some(own) = self.own.get(key) {
            return Ok(own.as_ref().map_or(Version::ZERO, |own| own.version));
        }
        if self.is_wiped(key) || self.is_vacant(key) {
            return Ok(Version::ZERO);
        }
        Ok(self.here.stamp(key)?.map_or(Version::ZERO, |stamp| stamp.version))
    }

    /// Prefixes strictly below a key that a removal of it leaves alone, in order; none covers
    /// another.
    pub(crate) fn edges(&self, key: &[u8]) -> Vec<Bytes> {
        if self.planted == Planted::ClearNotClipped {
            return Vec::new();
        }
        let mut edges = self.zoning.carved(key);
        let except = self.scope.except.iter();
        edges.extend(except.filter(|at| at.len() > key.len() && path::covers(key, at)).cloned());
        outermost(edges)
    }

    /// Whether a leaf lives in zones of others below a key.
    pub(crate) fn any_leaf_in(&self, edges: &[Bytes]) -> Result<bool> {
        for edge in edges {
            if self.any_leaf(&path::subtree(edge))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a leaf that is here in a range is still there in the outcome.
    pub(crate) fn any_leaf(&self, range: &KeyRange) -> Result<bool> {
        let mut found = false;
        self.here.scan_leaves(range, &mut |key, _| {
            found = match self.own.get(key) {
                Some(own) => own.as_ref().is_some_and(Held::is_leaf),
                None => !self.is_wiped(key),
            };
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Learns whether anything is here below the parent of a key: a new object's many leaves ask
    /// it once.
    fn look_around(&mut self, key: &Bytes) -> Result<()> {
        let Some(parent) = path::ancestors(key).next().map(|parent| key.slice(..parent.len()))
        else {
            return Ok(());
        };
        if self.is_vacant(key) || self.looked.contains(&parent) {
            return Ok(());
        }
        let range = path::subtree(&parent);
        let mut found = false;
        self.here.scan_leaves(&range, &mut |_, _| {
            found = true;
            ControlFlow::Break(())
        })?;
        if !found {
            self.here.scan_stamps(&range, &mut |_, _| {
                found = true;
                ControlFlow::Break(())
            })?;
        }
        if !found && self.here.any_ending() {
            self.here.scan_endings(&range, &mut |_, _| {
                found = true;
                ControlFlow::Break(())
            })?;
        }
        if found { &mut self.looked } else { &mut self.vacant }.insert(parent);
        Ok(())
    }

    /// What the stamps below a key say of a version.
    pub(crate) fn below(
        &mut self,
        key: &Bytes,
        version: Version,
        edges: &[Bytes],
    ) -> Result<Below> {
        self.look_around(key)?;
        let mut below = Below::default();
        if self.is_vacant(key) {
            return Ok(below);
        }
        for range in between(&path::below(key), edges) {
            self.here.scan_stamps(&range, &mut |own, stamp| {
                if self.is_settled(own) {
                    return ControlFlow::Continue(());
                }
                if stamp.version < version {
                    below.hidden = true;
                    return ControlFlow::Continue(());
                }
                let is_newer = stamp.version > version || stamp.kind == StampKind::Live;
                below.takes_place |= is_newer && ending_path(own).is_none();
                below.kept.push(Bytes::copy_from_slice(own));
                ControlFlow::Continue(())
            })?;
            // A leaf without a stamp is as old as one of no version.
            if version == Version::ZERO && !below.takes_place {
                below.takes_place = self.any_leaf(&range)?;
            }
        }
        if self.planted == Planted::ClearTakesNewer {
            below.kept.clear();
        }
        Ok(below)
    }

    /// Removes what a record hides.
    pub(crate) fn hide(
        &mut self,
        key: &Bytes,
        version: Version,
        below: Below,
        edges: &[Bytes],
    ) -> Result<()> {
        if version == Version::ZERO || self.is_vacant(key) {
            return Ok(());
        }
        let mut any = below.hidden;
        for range in between(&path::below(key), edges) {
            any = any || self.any_leaf(&range)?;
        }
        if !any && !self.here.any_ending() {
            return Ok(());
        }
        if any && below.kept.is_empty() && edges.is_empty() {
            self.wiped.insert(key.clone());
            return Ok(());
        }
        let range = path::below(key);
        let (kept, over) = (&below.kept, &[]);
        self.wipe(&crate::wipe::Wipe { range, kept, edges, over, leaves: false })?;
        Ok(())
    }

    /// Removes older endings at and below a leaf that is written over: all that can be there.
    fn hide_endings(&mut self, key: &Bytes, version: Version) -> Result<()> {
        if !self.here.any_ending() {
            return Ok(());
        }
        let mut found = Vec::new();
        self.here.scan_endings(&path::subtree(key), &mut |path, _| {
            found.push(crate::here::ending_key(path));
            ControlFlow::Continue(())
        })?;
        for ending in found {
            if self.version_at(&ending)? < version && !self.is_settled(&ending) {
                self.own.insert(ending, None);
            }
        }
        Ok(())
    }

    /// A leaf above gives way to what is newer below it, and to whatever lives below it.
    pub(crate) fn open_above(
        &mut self,
        key: &Bytes,
        version: Version,
        zone: Zone,
        is_leaf: bool,
    ) -> Result<()> {
        for ancestor in path::ancestors(key) {
            if self.leafless.contains(ancestor) {
                return Ok(());
            }
            let ancestor = key.slice(..ancestor.len());
            let held = self.record(&ancestor)?.filter(Held::is_leaf);
            if let Some(held) = held {
                let is_older = held.version < version && ancestor.len() >= zone.prefix_bytes;
                if !is_leaf && !is_older {
                    return Ok(());
                }
                self.give_way(ancestor, held);
                return Ok(());
            }
            if is_leaf {
                self.leafless.insert(ancestor);
            }
        }
        Ok(())
    }

    fn give_way(&mut self, key: Bytes, held: Held) {
        self.keep_before(&key, &held);
        let tracked = self.zoning.zone(&key).tracking != Tracking::None;
        let stays = tracked && self.planted != Planted::LeafLeavesNothing;
        let clear = Held { version: held.version, change: StampedChange::Clear };
        self.leafless.insert(key.clone());
        self.own.insert(key, stays.then_some(clear));
    }
}
