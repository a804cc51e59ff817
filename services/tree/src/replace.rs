//! Intervals that a page of another node speaks for: what it does not name goes.
//!
//! One walk over what is here tells what goes and what is the same already: nothing is read for
//! each leaf of a page.

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::here::{Held, StampKind, ending_path};
use crate::merge::Merge;
use crate::path;
use crate::planted::Planted;
use crate::stamp::{StampedChange, StampedOp, Version};
use crate::wipe::{Over, Passed, Wipe, version_in};
use crate::zoning::Zone;

/// An op of a page that may touch this node.
struct Admitted<'o> {
    op: &'o StampedOp,
    zone: Zone,
    /// Whether nothing below it lies in another zone, or outside the scope.
    is_plain: bool,
}

impl Merge<'_> {
    /// Makes an interval of the scope hold these ops and nothing else; sorted, one for each key.
    /// Outside of it a leaf speaks for all at and below its path, what removes for what is older.
    ///
    /// # Errors
    /// Those of reading what is here.
    pub(crate) fn replace(&mut self, ops: &[&StampedOp], interval: &KeyRange) -> Result<()> {
        let ranges = self.ranges(interval);
        let admitted = self.admit_all(ops, &ranges)?;
        let over: Vec<(&Bytes, Version)> =
            admitted.iter().map(|one| (&one.op.key, one.op.version)).collect();
        let passed = self.wipe_others(&admitted, &ranges, &over)?;
        // What was made sure of above a leaf holds above those beside it, if they are not older.
        let mut done: Option<(&[u8], Zone, Version)> = None;
        for Admitted { op, zone, is_plain } in &admitted {
            let parent = path::ancestors(&op.key).next().unwrap_or_default();
            let is_done = done.is_some_and(|(above, within, version)| {
                above == parent && within == *zone && version <= op.version
            });
            let is_told = ranges.iter().any(|(range, _)| range.contains(&op.key));
            let local = match is_told {
                true => passed.record(&op.key),
                false => self.record(&op.key)?,
            };
            let mut incoming = Held { version: op.version, change: op.change.clone() };
            if incoming.is_leaf() {
                let edges = if *is_plain { Vec::new() } else { self.edges(&op.key) };
                if self.any_leaf_in(&edges)? {
                    incoming.change = StampedChange::Clear;
                    self.came.lost += 1;
                }
                if !is_done {
                    self.open_outside(op, &ranges, &passed, *zone)?;
                    self.uncover(op, &over, &ranges, &passed, *zone)?;
                    done = Some((parent, *zone, op.version));
                }
            }
            if matches!(op.change, StampedChange::Ending(Some(_))) {
                self.uncover(op, &over, &ranges, &passed, *zone)?;
            }
            let is_same = local.as_ref() == Some(&incoming) && !self.is_wiped(&op.key);
            if is_same {
                self.came.known += 1;
                continue;
            }
            if let Some(local) = &local {
                self.keep_before(&op.key, local);
            }
            self.came.applied += 1;
            self.own.insert(op.key.clone(), Some(incoming));
        }
        Ok(())
    }

    /// Removes what the ops of a page leave no place for, and tells what is here of their keys.
    fn wipe_others(
        &mut self,
        admitted: &[Admitted<'_>],
        ranges: &[(KeyRange, Vec<Bytes>)],
        over: &Over<'_>,
    ) -> Result<Passed> {
        let leaves = true;
        let kept: Vec<Bytes> = admitted.iter().map(|one| one.op.key.clone()).collect();
        let mut passed = Passed::default();
        for (range, edges) in ranges {
            let wipe = Wipe { range: range.clone(), kept: &kept, edges, over, leaves };
            self.wipe_into(&wipe, &mut passed)?;
        }
        for Admitted { op, .. } in admitted {
            // A page goes on behind its interval; a leaf has nothing below it all the same.
            let goes_on = ranges.iter().any(|(range, _)| range.contains(&op.key));
            let is_leaf = matches!(op.change, StampedChange::Put(_));
            if ending_path(&op.key).is_some() || goes_on && !is_leaf {
                continue;
            }
            if !goes_on && !is_leaf && self.planted != Planted::RemovalTakesAll {
                // The source may have kept below it what is newer, and would tell what it did not.
                let edges = self.edges(&op.key);
                let below = self.below(&op.key, op.version, &edges)?;
                self.hide(&op.key, op.version, below, &edges)?;
                continue;
            }
            if ranges.iter().any(|(range, _)| holds_below(range, &op.key)) {
                continue;
            }
            let below = path::below(&op.key);
            if !goes_on || self.any_leaf(&below)? {
                let edges = self.edges(&op.key);
                let wipe = Wipe { range: below, kept: &kept, edges: &edges, over, leaves };
                self.wipe_into(&wipe, &mut passed)?;
            }
        }
        Ok(passed)
    }

    /// The ops that may touch this node, but removals outside of the ranges that something newer
    /// above hides.
    fn admit_all<'o>(
        &mut self,
        ops: &[&'o StampedOp],
        ranges: &[(KeyRange, Vec<Bytes>)],
    ) -> Result<Vec<Admitted<'o>>> {
        let mut admitted = Vec::with_capacity(ops.len());
        let mut plain: Option<(&[u8], Option<Zone>)> = None;
        for op in ops {
            let parent = path::ancestors(&op.key).next().unwrap_or_default();
            let known = plain.filter(|(above, _)| *above == parent);
            let zone = known.map_or_else(|| self.admit(op), |(_, zone)| zone);
            let is_plain = known.is_some() || self.is_plain(parent);
            plain = is_plain.then_some((parent, zone));
            let Some(zone) = zone else {
                self.came.clipped += 1;
                continue;
            };
            let removes = matches!(op.change, StampedChange::Clear | StampedChange::Tomb);
            let outside = || !ranges.iter().any(|(range, _)| range.contains(&op.key));
            if removes && outside() && self.is_below_newer(op, zone)? {
                self.came.lost += 1;
            } else {
                admitted.push(Admitted { op, zone, is_plain });
            }
        }
        Ok(admitted)
    }

    /// Whether no zone and no part of the scope begins below a path: what lies there is in one.
    fn is_plain(&self, parent: &[u8]) -> bool {
        let mut keys = self.scope.within.iter().chain(&self.scope.except);
        let begins_below = |key: &Bytes| key.len() > parent.len() && path::covers(parent, key);
        !parent.is_empty() && !keys.any(begins_below) && self.zoning.carved(parent).is_empty()
    }

    /// Whether something newer above hides what an op says.
    fn is_below_newer(&self, op: &StampedOp, zone: Zone) -> Result<bool> {
        for above in path::ancestors(&op.key).take_while(|at| at.len() >= zone.prefix_bytes) {
            if self.version_at(above)? > op.version {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Merges ops, and removes what else an interval of the scope holds if the source, which has
    /// everything up to `known_rev`, must have removed it.
    ///
    /// # Errors
    /// Those of reading what is here.
    pub(crate) fn fill(
        &mut self,
        ops: &[&StampedOp],
        interval: &KeyRange,
        known_rev: u64,
    ) -> Result<()> {
        self.hides_again = true;
        self.merge(ops)?;
        if known_rev == 0 {
            return Ok(());
        }
        let mut kept: Vec<Bytes> = ops.iter().map(|op| op.key.clone()).collect();
        let ranges = self.ranges(interval);
        for (range, _) in &ranges {
            self.here.scan_stamps(range, &mut |key, stamp| {
                if stamp.rev > known_rev && self.planted != Planted::FillTakesUnknown {
                    kept.push(Bytes::copy_from_slice(key));
                }
                std::ops::ControlFlow::Continue(())
            })?;
        }
        kept.extend(self.own.keys().cloned());
        kept.sort_unstable();
        kept.dedup();
        let mut passed = Passed::default();
        for (range, edges) in &ranges {
            let (range, leaves, over) = (range.clone(), true, &[]);
            let wipe = Wipe { range, kept: &kept, edges, over, leaves };
            self.wipe_into(&wipe, &mut passed)?;
        }
        Ok(())
    }

    /// Removes tombstones and clears above a leaf of a page that would hide it.
    fn uncover(
        &mut self,
        op: &StampedOp,
        named: &Over<'_>,
        ranges: &[(KeyRange, Vec<Bytes>)],
        passed: &Passed,
        zone: Zone,
    ) -> Result<()> {
        for ancestor in path::ancestors(&op.key).take_while(|at| at.len() >= zone.prefix_bytes) {
            if version_in(named, ancestor).is_some() || !self.scope.covers(ancestor) {
                continue;
            }
            let version = if let Some(own) = self.own.get(ancestor) {
                own.as_ref().map(|own| own.version)
            } else if ranges.iter().any(|(range, _)| range.contains(ancestor)) {
                passed.extra.get(ancestor).copied()
            } else if let Some(known) = self.above.get(ancestor) {
                Some(*known)
            } else {
                let known = self.version_at(ancestor)?;
                self.above.insert(op.key.slice(..ancestor.len()), known);
                Some(known)
            };
            if version > Some(op.version) {
                // What was left behind of something live is still told, as no newer than the leaf.
                let own = self.own.get(ancestor).cloned().flatten();
                let lowered = own.map(|own| Held { version: op.version, ..own });
                self.own.insert(op.key.slice(..ancestor.len()), lowered);
            }
        }
        Ok(())
    }

    fn wipe_into(&mut self, wipe: &Wipe<'_>, passed: &mut Passed) -> Result<()> {
        let (own, wiped) = match self.planted {
            Planted::ReplaceKeepsAbsent => (self.own.clone(), self.wiped.clone()),
            _ => Default::default(),
        };
        let more = self.wipe(wipe)?;
        if self.planted == Planted::ReplaceKeepsAbsent {
            (self.own, self.wiped) = (own, wiped);
        }
        passed.leaves.extend(more.leaves);
        passed.endings.extend(more.endings);
        passed.stamps.extend(more.stamps);
        passed.extra.extend(more.extra);
        Ok(())
    }

    fn ranges(&self, interval: &KeyRange) -> Vec<(KeyRange, Vec<Bytes>)> {
        crate::scoped::ranges(self.zoning, self.scope, interval)
    }

    /// Makes way for a leaf of a page. Of what is above it within the interval, the page tells.
    fn open_outside(
        &mut self,
        op: &StampedOp,
        ranges: &[(KeyRange, Vec<Bytes>)],
        passed: &Passed,
        zone: Zone,
    ) -> Result<()> {
        let mut outside = Vec::new();
        for ancestor in path::ancestors(&op.key) {
            if self.leafless.contains(ancestor) {
                break;
            }
            let is_told = ranges.iter().any(|(range, _)| range.contains(ancestor));
            let is_leaf = match self.own.get(ancestor) {
                Some(own) => own.as_ref().is_some_and(Held::is_leaf),
                None => passed.leaves.contains_key(ancestor),
            };
            if is_told && !is_leaf {
                outside.push(op.key.slice(..ancestor.len()));
            } else {
                break;
            }
        }
        // The nearest ancestors are no leaves; what is left to ask is above them.
        let highest = outside.last().cloned().unwrap_or_else(|| op.key.clone());
        self.leafless.extend(outside);
        self.open_above(&highest, op.version, zone, true)
    }
}

impl Passed {
    /// The record of a kept key.
    fn record(&self, key: &Bytes) -> Option<Held> {
        let stamp = self.stamps.get(key);
        let version = stamp.map_or(Version::ZERO, |stamp| stamp.version);
        let change = if ending_path(key).is_some() {
            let at = self.endings.get(key).copied();
            (stamp.is_some() || at.is_some()).then_some(StampedChange::Ending(at))
        } else if let Some(leaf) = self.leaves.get(key) {
            Some(StampedChange::Put(leaf.clone()))
        } else {
            stamp.map(|stamp| match stamp.kind {
                StampKind::Clear => StampedChange::Clear,
                StampKind::Live | StampKind::Tomb => StampedChange::Tomb,
            })
        };
        change.map(|change| Held { version, change })
    }
}

/// Whether a range holds all that can be below a path's key.
fn holds_below(range: &KeyRange, key: &[u8]) -> bool {
    let begins = *range.start <= *key || range.start.strip_prefix(key) == Some(&[0]);
    let ends = range.end.as_ref().is_none_or(|end| match end.strip_prefix(key) {
        Some(rest) => rest.first().is_some_and(|byte| *byte > 0),
        None => *key < **end,
    });
    begins && ends
}
