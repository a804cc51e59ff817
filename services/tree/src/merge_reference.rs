//! For tests of the merge: a state in maps, zones, dice, and a naive reference: all records that
//! ever were, and what is visible of them by the rules alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result, Visitor};

use crate::effect::Effect;
use crate::here::{
    EndingVisitor, Held, Here, Stamp, StampKind, StampVisitor, ending_key, ending_path,
};
use crate::image::LeafScan;
use crate::merge::Merge;
use crate::merged::Merged;
use crate::path;
use crate::planted::Planted;
use crate::stamp::{Scope, StampedChange, StampedOp, Version};
use crate::zoning::{Endings, Tracking, Zone, Zoning};

/// A state in maps, changed by effects as a tree derives its spaces from them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maps {
    pub(crate) rev: u64,
    pub(crate) leaves: BTreeMap<Bytes, Bytes>,
    endings: BTreeMap<Bytes, u64>,
    stamps: BTreeMap<Bytes, Stamp>,
}

pub(crate) fn within<'m, V>(
    map: &'m BTreeMap<Bytes, V>,
    range: &KeyRange,
) -> impl Iterator<Item = (&'m Bytes, &'m V)> + use<'m, V> {
    let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
    let is_empty = range.is_empty();
    let bounds = if is_empty {
        (Bound::Included(Bytes::new()), Bound::Excluded(Bytes::new()))
    } else {
        (Bound::Included(range.start.clone()), end)
    };
    map.range(bounds)
}

impl LeafScan for Maps {
    fn scan_leaves(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<()> {
        let _done = within(&self.leaves, range).any(|(key, leaf)| visit(key, leaf).is_break());
        Ok(())
    }
}

impl Here for Maps {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.leaves.get(key).cloned())
    }
    fn stamp(&self, key: &[u8]) -> Result<Option<Stamp>> {
        Ok(self.stamps.get(key).copied())
    }
    fn scan_stamps(&self, range: &KeyRange, visit: &mut StampVisitor<'_>) -> Result<()> {
        let _done = within(&self.stamps, range).any(|(key, stamp)| visit(key, *stamp).is_break());
        Ok(())
    }
    fn ending(&self, path: &[u8]) -> Result<Option<u64>> {
        Ok(self.endings.get(path).copied())
    }
    fn scan_endings(&self, range: &KeyRange, visit: &mut EndingVisitor<'_>) -> Result<()> {
        let _done = within(&self.endings, range).any(|(key, at)| visit(key, *at).is_break());
        Ok(())
    }
    fn any_ending(&self) -> bool {
        !self.endings.is_empty()
    }
}

impl Maps {
    fn apply(&mut self, merged: &Merged) {
        assert_eq!(merged.effects.len(), merged.versions.len());
        assert!(crate::image::fit(&merged.images, &merged.effects));
        if merged.effects.is_empty() {
            return;
        }
        self.rev += 1;
        for (effect, version) in merged.effects.iter().zip(&merged.versions) {
            let mut key = effect.key().to_vec();
            let kind = match effect {
                Effect::Clear(key) => {
                    let gone = |at: &Bytes| path::covers(key, at);
                    self.leaves.retain(|at, _| !gone(at));
                    self.endings.retain(|at, _| !gone(at));
                    self.stamps.retain(|at, _| !gone(at));
                    StampKind::Clear
                }
                Effect::Put(key, stored) => {
                    assert!(version.is_some(), "what is written has a version");
                    self.leaves.insert(key.clone(), stored.clone());
                    StampKind::Live
                }
                Effect::Delete(key) => {
                    self.leaves.remove(key);
                    StampKind::Tomb
                }
                Effect::Expire(path, at) => {
                    self.endings.insert(path.clone(), *at);
                    key = ending_key(path).to_vec();
                    StampKind::Live
                }
                Effect::Unexpire(path) => {
                    self.endings.remove(path);
                    key = ending_key(path).to_vec();
                    StampKind::Tomb
                }
                Effect::Mark(_) => StampKind::Clear,
                Effect::Unindex(..) | Effect::Forget(..) | Effect::Collect(_) => {
                    unreachable!("no merge has these")
                }
            };
            match version {
                Some(version) => {
                    let stamp = Stamp { version: *version, rev: self.rev, kind };
                    self.stamps.insert(key.into(), stamp);
                }
                None => drop(self.stamps.remove(&key[..])),
            }
        }
        for key in self.leaves.keys() {
            let mut below = within(&self.leaves, &path::below(key));
            assert!(below.next().is_none(), "a leaf has nothing below it: {key:?}");
        }
    }

    pub(crate) fn records(&self) -> Records {
        let mut records = Records::new();
        for (key, stamp) in &self.stamps {
            let change = match (ending_path(key), stamp.kind) {
                (Some(path), _) => StampedChange::Ending(self.endings.get(path).copied()),
                (None, StampKind::Live) => StampedChange::Put(self.leaves[key].clone()),
                (None, StampKind::Tomb) => StampedChange::Tomb,
                (None, StampKind::Clear) => StampedChange::Clear,
            };
            records.insert(key.clone(), Held { version: stamp.version, change });
        }
        for (key, stored) in &self.leaves {
            let change = StampedChange::Put(stored.clone());
            records.entry(key.clone()).or_insert(Held { version: Version::ZERO, change });
        }
        for (path, at) in &self.endings {
            let change = StampedChange::Ending(Some(*at));
            let unstamped = Held { version: Version::ZERO, change };
            records.entry(ending_key(path)).or_insert(unstamped);
        }
        records
    }

    pub(crate) fn merge(&mut self, zones: &Zones, ops: &[StampedOp], planted: Planted) -> Merged {
        let scope = zones.scope();
        let mut merge = Merge::new(self, zones, &scope, planted);
        merge.merge(&sorted(ops)).unwrap();
        let merged = merge.finish().unwrap();
        self.apply(&merged);
        merged
    }

    /// As [`Self::merge`], and what wins over an op is told again.
    pub(crate) fn settle(&mut self, op: &StampedOp, planted: Planted) -> Merged {
        let (zones, scope) = (Zones::one(), Zones::one().scope());
        let mut merge = Merge::new(self, &zones, &scope, planted);
        merge.tells_again = true;
        merge.merge(&[op]).unwrap();
        let merged = merge.finish().unwrap();
        self.apply(&merged);
        merged
    }

    pub(crate) fn page(
        &mut self,
        ops: &[StampedOp],
        interval: &KeyRange,
        known: Option<u64>,
        planted: Planted,
    ) -> Merged {
        let (zones, scope) = (Zones::one(), Zones::one().scope());
        let mut merge = Merge::new(self, &zones, &scope, planted);
        match known {
            Some(known_rev) => merge.fill(&sorted(ops), interval, known_rev).unwrap(),
            None => merge.replace(&sorted(ops), interval).unwrap(),
        }
        let merged = merge.finish().unwrap();
        self.apply(&merged);
        merged
    }
}

/// What whoever follows a node is told of a commit.
pub(crate) fn told(merged: &Merged) -> Vec<StampedOp> {
    let stamped = merged.effects.iter().zip(&merged.versions);
    let op = |(effect, version): (&Effect, &Option<Version>)| {
        let key = Bytes::copy_from_slice(effect.key());
        let (key, change) = match effect {
            Effect::Clear(_) | Effect::Mark(_) => (key, StampedChange::Clear),
            Effect::Put(_, stored) => (key, StampedChange::Put(stored.clone())),
            Effect::Delete(_) => (key, StampedChange::Tomb),
            Effect::Expire(path, at) => (ending_key(path), StampedChange::Ending(Some(*at))),
            Effect::Unexpire(path) => (ending_key(path), StampedChange::Ending(None)),
            Effect::Unindex(..) | Effect::Forget(..) | Effect::Collect(_) => {
                unreachable!("no merge has these")
            }
        };
        Some(StampedOp { key, version: (*version)?, change })
    };
    stamped.filter_map(op).collect()
}

pub(crate) fn sorted(ops: &[StampedOp]) -> Vec<&StampedOp> {
    crate::remote_resolve::in_order(ops)
}

/// A zone at the root, and prefixes of zones carved out of it.
#[derive(Debug, Clone)]
pub(crate) struct Zones(pub(crate) Vec<Bytes>);

impl Zones {
    pub(crate) fn one() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope { within: vec![Bytes::new()], except: self.0.clone() }
    }
}

impl Zoning for Zones {
    fn zone(&self, key: &[u8]) -> Zone {
        let carved = self.0.iter().position(|at| path::covers(at, key));
        let (tracking, prefix_bytes) = match carved {
            Some(at) => (Tracking::None, self.0[at].len()),
            None => (Tracking::Shared, 0),
        };
        let id = u32::try_from(carved.map_or(0, |at| at + 1)).unwrap();
        Zone { id, prefix_bytes, tracking, endings: Endings::Here }
    }

    fn carved(&self, key: &[u8]) -> Vec<Bytes> {
        let below = self.0.iter().filter(|at| path::covers(key, at) && at.len() > key.len());
        below.cloned().collect()
    }

    fn any_tracked(&self, _key: &[u8]) -> bool {
        true
    }
}

pub(crate) type Records = BTreeMap<Bytes, Held>;

/// All records that ever were, the greatest of each key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference(Records);

impl Reference {
    pub(crate) fn add(&mut self, op: &StampedOp) {
        let held = Held { version: op.version, change: op.change.clone() };
        let entry = self.0.entry(op.key.clone()).or_insert_with(|| held.clone());
        if held.order(entry).is_gt() {
            *entry = held;
        }
    }

    /// What is not hidden; leaves that give way as clears. `lives` are zones of others in which
    /// something lives.
    pub(crate) fn outcome(&self, lives: &[Bytes]) -> Records {
        let mut outcome = not_hidden(&self.0);
        for (key, held) in &mut outcome {
            let below = within(&self.0, &path::below(key));
            let takes_place = |(at, other): (&Bytes, &Held)| {
                ending_path(at).is_none()
                    && (other.version > held.version
                        || other.version == held.version && other.is_leaf())
            };
            let carved = lives.iter().any(|at| path::covers(key, at));
            if held.is_leaf() && (carved || below.into_iter().any(takes_place)) {
                held.change = StampedChange::Clear;
            }
        }
        outcome
    }
}

/// The first rule.
pub(crate) fn not_hidden(records: &Records) -> Records {
    let hidden = |key: &Bytes, held: &Held| {
        let mut above = path::ancestors(key).filter_map(|above| records.get(above));
        above.any(|above| above.version > held.version)
    };
    let seen = records.iter().filter(|(key, held)| !hidden(key, held));
    seen.map(|(key, held)| (key.clone(), held.clone())).collect()
}

/// A generator that repeats itself with its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.roll(at as u64 + 1)).unwrap();
            items.swap(at, other);
        }
    }

    fn key(&mut self) -> Bytes {
        let depth = 1 + self.roll(3);
        let segments: Vec<&str> =
            (0..depth).map(|_| ["a", "b", "c"][usize::try_from(self.roll(3)).unwrap()]).collect();
        segments.join("\0").into()
    }

    fn op(&mut self, first_ms: u64) -> StampedOp {
        let key = self.key();
        let hlc = first_ms + self.roll(6);
        let version = Version { hlc, origin: if hlc == 0 { 0 } else { self.roll(3) } };
        let (key, change) = match self.roll(10) {
            0..=4 => {
                let value = u8::try_from(self.roll(3)).unwrap();
                (key, StampedChange::Put(vec![5, b'x' + value].into()))
            }
            5 => (key, StampedChange::Tomb),
            6 | 7 => (key, StampedChange::Clear),
            8 => (ending_key(&key), StampedChange::Ending(Some(50 + self.roll(3)))),
            _ => (ending_key(&key), StampedChange::Ending(None)),
        };
        StampedOp { key, version, change }
    }

    pub(crate) fn ops(&mut self, most: u64, first_ms: u64) -> Vec<StampedOp> {
        (0..=self.roll(most)).map(|_| self.op(first_ms)).collect()
    }

    /// The same ops in another order, some twice, in commits of some.
    pub(crate) fn delivery(&mut self, ops: &[StampedOp]) -> Vec<Vec<StampedOp>> {
        let mut all = ops.to_vec();
        let again = ops.iter().filter(|_| self.roll(3) == 0).cloned();
        all.extend(again.collect::<Vec<_>>());
        self.shuffle(&mut all);
        let mut commits = vec![Vec::new()];
        for op in all {
            if self.roll(3) == 0 {
                commits.push(Vec::new());
            }
            commits.last_mut().unwrap().push(op);
        }
        commits
    }
}

pub(crate) fn histories() -> impl Iterator<Item = (u64, Dice)> {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let count = std::env::var("TRELLIS_HISTORIES").ok().and_then(|count| count.parse().ok());
    let seeds = match seed {
        Some(seed) => seed..seed + 1,
        None => 1..count.unwrap_or(10_000) + 1,
    };
    seeds.map(|seed| (seed, Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)))
}
