//! What of a commit made here is stamped, and the state as a merge of another's reads it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::core::Core;
use crate::here::{EndingVisitor, Here, Stamp, StampVisitor};
use crate::record::{Authored, DATA, EXPIRY, Effect, STAMP};
use crate::resolve::Resolver;
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
    /// Stamps what a commit made here changes in zones that are tracked; a clear that spans more
    /// of these is marked in each.
    pub(crate) fn author(
        &mut self,
        core: &Core,
        effects: &mut Vec<Effect>,
        now_ms: u64,
    ) -> Option<Authored> {
        let zoning = core.options.zoning.as_deref()?;
        let tracked = |key: &[u8]| zoning.zone(key).tracking != Tracking::None;
        let mut marks = Vec::new();
        for effect in effects.iter() {
            if let Effect::Clear(key) = effect {
                tracked_below(zoning, key, &mut marks);
            }
        }
        effects.extend(marks.into_iter().map(Effect::Mark));
        // What is written or removed hides its old ending by itself.
        let written: HashSet<&Bytes> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Put(key, _) | Effect::Delete(key) | Effect::Clear(key) => Some(key),
                _ => None,
            })
            .filter(|_| effects.iter().any(|effect| matches!(effect, Effect::Unexpire(_))))
            .collect();
        let is_stamped: Vec<bool> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Unindex(..) | Effect::Forget(..) | Effect::Collect(_) => false,
                Effect::Unexpire(key) if written.contains(key) => false,
                other => tracked(other.key()),
            })
            .collect();
        if !is_stamped.contains(&true) {
            return None;
        }
        let version = Version { hlc: self.hybrid.tick(now_ms), origin: core.origin() };
        let versions: Vec<Option<Version>> =
            is_stamped.into_iter().map(|is_stamped| is_stamped.then_some(version)).collect();
        Authored::new(Author { version, via: Vec::new() }, &versions)
    }
}

/// Prefixes of tracked zones strictly below a key.
fn tracked_below(zoning: &dyn Zoning, key: &[u8], into: &mut Vec<Bytes>) {
    for carved in zoning.carved(key) {
        tracked_below(zoning, &carved, into);
        if zoning.zone(&carved).tracking != Tracking::None {
            into.push(carved);
        }
    }
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
