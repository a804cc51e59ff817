//! Collecting: stamps of what is gone go once everybody who follows by revs has seen them.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::cause::ChangeCause;
use crate::core::Core;
use crate::draft::Draft;
use crate::effect::Effect;
use crate::here::{Stamp, StampKind};
use crate::leaf::Leaf;
use crate::path::Path;
use crate::record::Authored;
use crate::resolver::{New, Resolver};
use crate::space::STAMP;
use crate::spared::Told;
use crate::stamp::{Author, Version};
use crate::stamped::{COLLECTED, Collected};
use crate::state::State;
use crate::tree::Tree;
use crate::work::Work;

/// Stamps in one commit.
const COLLECTED_MAX: usize = 5000;

impl Tree {
    /// Removes the stamps of what is gone, those of commits up to `floor_rev` that are at least
    /// `older_than_ms` old by their version: tombstones, clears, and endings that were taken back.
    ///
    /// [`Collected::gc_floor`] rises with them, in the same commit, and stands at
    /// `_repl/collected`.
    ///
    /// # Errors
    /// As for a commit; what was collected before stays collected.
    ///
    /// # Cost
    /// Reads every stamp; one commit for each 5,000 that go.
    pub fn collect(&self, floor_rev: u64, older_than_ms: u64) -> Result<Collected> {
        let core = self.core();
        core.check_open()?;
        let before_ms = core.runtime.clock().now_ms().saturating_sub(older_than_ms);
        let (mut from, mut removed) = (Some(Bytes::new()), 0);
        while let Some(start) = from {
            let (state, _) = core.open_state();
            let found = collectable(&state, start, floor_rev, before_ms);
            core.views.close(state.at);
            let (stamps, next) = found?;
            removed += u64::try_from(stamps.len()).unwrap_or(0);
            if !stamps.is_empty() {
                let bytes = stamps.iter().map(|(key, _)| key.len() + 64).sum();
                core.commit(Work::Collect(stamps), bytes).map_err(|refused| refused.error)?;
            }
            from = next;
        }
        Ok(Collected { gc_floor: self.gc_floor()?, removed })
    }
}

/// Keys and revs.
type Found = Vec<(Bytes, u64)>;

fn collectable(
    state: &State,
    start: Bytes,
    floor_rev: u64,
    before_ms: u64,
) -> Result<(Found, Option<Bytes>)> {
    let (mut found, mut next, mut failure) = (Found::new(), None, None);
    state.scan(STAMP, &KeyRange::new(start, None), &mut |key, stored| {
        match Stamp::decode(stored) {
            Ok(stamp)
                if stamp.kind != StampKind::Live
                    && stamp.rev <= floor_rev
                    && stamp.version.ms() <= before_ms =>
            {
                found.push((Bytes::copy_from_slice(key), stamp.rev));
            }
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
        if found.len() < COLLECTED_MAX && failure.is_none() {
            return ControlFlow::Continue(());
        }
        next = Some([key, &[0]].concat().into());
        ControlFlow::Break(())
    })?;
    failure.map_or(Ok((found, next)), Err)
}

impl Resolver {
    /// Forgets those of the stamps that are still what they were.
    pub(crate) fn collect(
        &mut self,
        core: &Core,
        state: &State,
        stamps: &[(Bytes, u64)],
        now_ms: u64,
    ) -> Result<New> {
        let path = Path::from_segments(COLLECTED)?;
        let floor = state.get(crate::space::DATA, path.key())?;
        let floor = match floor.map(|stored| Leaf::decode(&stored)).transpose()? {
            Some(Leaf::Int(rev)) => u64::try_from(rev).unwrap_or(0),
            _ => 0,
        };
        let (mut gone, mut newest) = (Vec::new(), floor);
        for (key, rev) in stamps {
            if state.stamp(key)?.is_some_and(|stamp| stamp.rev == *rev) {
                gone.push(Effect::Collect(key.clone()));
                newest = newest.max(*rev);
            }
        }
        let (mut effects, mut images) = (Vec::new(), Vec::new());
        if !gone.is_empty() && newest > floor {
            let mut draft = Draft::new(state, core.any_expiry());
            let leaf = Leaf::Int(i64::try_from(newest).unwrap_or(i64::MAX)).encode();
            draft.replace(path.key(), vec![(path.key().clone(), leaf)])?;
            (effects, images, _) = draft.finish()?;
        }
        effects.append(&mut gone);
        // It is told to nobody; only that it was made here and when.
        let version = Version { hlc: self.hybrid.tick(now_ms), origin: core.origin() };
        let author = Author { version, via: Vec::new() };
        let others = effects.iter().zip(0..).map(|(_, at)| (at, None)).collect();
        let authored = Some(Some(Authored { author, others }));
        let (cause, results, told) = (ChangeCause::Upkeep, Vec::new(), Told::default());
        Ok(New { effects, images, told, cause, results, key: None, authored })
    }
}
