//! What of a commit made here is stamped, and the state as a merge of another's reads it.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::core::Core;
use crate::effect::Effect;
use crate::here::{EndingVisitor, Here, Stamp, StampVisitor};
use crate::path;
use crate::record::Authored;
use crate::resolver::Resolver;
use crate::space::{DATA, EXPIRY, STAMP};
use crate::spared::Told;
use crate::stamp::{Author, Version};
use crate::state::State;
use crate::zoning::{Tracking, Zoning};

impl Core {
    /// The newest time of the hybrid clock, if it was ever asked.
    pub(crate) fn newest_hlc(&self) -> Option<u64> {
        let hlc = self.hlc.load(std::sync::atomic::Ordering::Acquire);
        (hlc > 0).then_some(hlc)
    }

    /// The author of what is committed here: the low half of the log's id.
    pub(crate) fn origin(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let low = self.log_id as u64;
        low
    }
}

impl Resolver {
    /// Stamps what a commit made here changes in zones that are tracked.
    pub(crate) fn author(
        &mut self,
        core: &Core,
        effects: &[Effect],
        told: &Told,
        now_ms: u64,
    ) -> Option<Authored> {
        let zoning = core.options.zoning.as_deref()?;
        let tracked = |key: &[u8]| zoning.zone(key).tracking != Tracking::None;
        let is_stamped: Vec<bool> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Unindex(..) | Effect::Forget(..) | Effect::Collect(_) => false,
                Effect::Clear(key) | Effect::Delete(key) if told.unstamped.contains(key) => false,
                other => tracked(other.key()),
            })
            .collect();
        if !is_stamped.contains(&true) {
            return None;
        }
        let version = Version { hlc: self.hybrid.tick(now_ms), origin: core.origin() };
        let hidden = hidden_endings(effects, &is_stamped, &told.endings, zoning);
        let version_of = |(effect, is_stamped): (&Effect, bool)| {
            let other = match effect {
                Effect::Unexpire(key) if hidden.contains(key) => return None,
                Effect::Mark(key) => told.marks.get(key).copied().flatten(),
                _ => None,
            };
            let ended = match effect {
                Effect::Put(..) | Effect::Expire(..) => None,
                other => told.endings.get(other.key()).copied(),
            };
            is_stamped.then(|| other.or(ended).unwrap_or(version))
        };
        let versions: Vec<Option<Version>> =
            effects.iter().zip(is_stamped).map(version_of).collect();
        Authored::new(Author { version, via: Vec::new() }, &versions)
    }
}

/// Paths whose old ending is hidden by what the same commit writes or removes at or above them.
/// What is removed because it ended is told in a version of its own, whatever is above it.
fn hidden_endings(
    effects: &[Effect],
    is_stamped: &[bool],
    ended: &BTreeMap<Bytes, Version>,
    zoning: &dyn Zoning,
) -> HashSet<Bytes> {
    let unexpired = effects.iter().filter_map(|effect| match effect {
        Effect::Unexpire(key) => Some(key),
        _ => None,
    });
    let mut unexpired = unexpired.peekable();
    if unexpired.peek().is_none() {
        return HashSet::new();
    }
    let told = effects.iter().zip(is_stamped).filter(|(_, is_stamped)| **is_stamped);
    let told: HashSet<&[u8]> = told
        .filter_map(|(effect, _)| match effect {
            Effect::Put(key, _) | Effect::Delete(key) | Effect::Clear(key) | Effect::Mark(key) => {
                Some(key.as_ref())
            }
            _ => None,
        })
        .collect();
    let is_hidden = |key: &&Bytes| {
        if ended.contains_key(*key) {
            return told.contains(key.as_ref());
        }
        let zone = zoning.zone(key);
        let above = path::ancestors(key).take_while(|above| above.len() >= zone.prefix_bytes);
        std::iter::once(key.as_ref()).chain(above).any(|at| told.contains(at))
    };
    unexpired.filter(is_hidden).cloned().collect()
}

/// A state in which paths may end, or not.
pub(crate) struct Ground<'a> {
    pub(crate) state: &'a State,
    pub(crate) any_ending: bool,
}

impl crate::image::LeafScan for Ground<'_> {
    fn scan_leaves(
        &self,
        range: &KeyRange,
        visit: &mut trellis_engine_traits::Visitor<'_>,
    ) -> Result<()> {
        self.state.scan(DATA, range, visit)
    }
}

impl Here for Ground<'_> {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.state.get(DATA, key)
    }

    fn stamp(&self, key: &[u8]) -> Result<Option<Stamp>> {
        self.state.get(STAMP, key)?.map(|stored| Stamp::decode(&stored)).transpose()
    }

    fn scan_stamps(&self, range: &KeyRange, visit: &mut StampVisitor<'_>) -> Result<()> {
        let mut failure = None;
        self.state.scan(STAMP, range, &mut |key, stored| match Stamp::decode(stored) {
            Ok(stamp) => visit(key, stamp),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn ending(&self, path: &[u8]) -> Result<Option<u64>> {
        let stored = self.state.get(EXPIRY, path)?;
        Ok(stored.and_then(|at| Some(u64::from_be_bytes(at.as_ref().try_into().ok()?))))
    }

    fn scan_endings(&self, range: &KeyRange, visit: &mut EndingVisitor<'_>) -> Result<()> {
        self.state.scan(EXPIRY, range, &mut |key, at| {
            at.try_into().map_or(ControlFlow::Continue(()), |at| visit(key, u64::from_be_bytes(at)))
        })
    }

    fn any_ending(&self) -> bool {
        self.any_ending
    }
}
