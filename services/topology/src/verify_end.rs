//! What comes of a comparison: whoever asked is answered, and what differs is repaired unless only
//! a comparison was asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use trellis_tree::{RemoteApplied, StampedChange, StampedOp};

use crate::follower::Follower;
use crate::incoming::ENDING;
use crate::message::Refusal;
use crate::repair::{differing, repairs};
use crate::task::{Task, TaskOutcome};
use crate::turn::{Purpose, Turn, unexpected};
use crate::verify::{Pass, Verifier};

impl Verifier {
    /// Somebody wants to know, or wants it repaired.
    pub(crate) fn demand(
        &mut self,
        repair: bool,
        follower: &Follower,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.demanded = Some(repair || self.demanded == Some(true));
        self.ask(follower, turn)
    }

    /// What was asked for came to an end.
    pub(crate) fn answer(&mut self, follower: &mut Follower) {
        self.from = None;
        if self.demanded.take().is_some() {
            follower.status.answered += 1;
        }
    }

    /// A piece was compared at a commit, up to a key or to the end, and some leaves differ.
    pub(crate) fn compared(
        &mut self,
        rev: u64,
        until: Option<Bytes>,
        theirs: &BTreeMap<Bytes, StampedOp>,
        ours: &BTreeMap<Bytes, StampedOp>,
        follower: &mut Follower,
        turn: &mut Turn<'_>,
    ) {
        let standing = self.standing.as_ref().filter(|(at, _)| *at == rev);
        let standing = standing.map_or(&[][..], |(_, keys)| keys);
        let ended_ms = turn.now.wall_ms.saturating_add(turn.options.drift_ms_max);
        let mut found = differing(theirs, ours);
        found.retain(|key| {
            let shown = if theirs.contains_key(key) { theirs } else { ours };
            let by_one = theirs.contains_key(key) != ours.contains_key(key);
            let ended = by_one && may_have_ended(key, shown, ended_ms);
            !ended && !standing.contains(key)
        });
        let stands = u64::try_from(standing.len()).unwrap_or(0);
        let confirmed: Vec<Bytes> =
            found.iter().filter(|key| self.suspects.contains(*key)).cloned().collect();
        let asked = self.demanded.is_some();
        let (since, asked) =
            self.from.as_ref().map_or((rev, asked), |pass| (pass.since, pass.asked));
        if found.is_empty() {
            // What differs lies behind what was compared; or before, where something has changed.
            self.from = until.map(|next| Pass { since, asked, next });
        }
        let whole = self.from.is_none() && since == rev;
        self.suspects = found;
        let more = !whole || !self.suspects.is_empty();
        self.again_at = more.then(|| turn.now.mono + turn.options.retry_after);
        if !confirmed.is_empty() && self.repairing.is_none() {
            self.confirmed((rev, confirmed), theirs, follower, turn);
        } else if !more {
            // Besides what no repair changes.
            follower.status.differing = stands;
            self.answer(follower);
        }
    }

    pub(crate) fn alike(&mut self, follower: &mut Follower) {
        follower.status.verified += 1;
        follower.status.differing = 0;
        self.suspects.clear();
        self.again_at = None;
        self.answer(follower);
    }

    /// Some leaves differed twice.
    pub(crate) fn confirmed(
        &mut self,
        differed: (u64, Vec<Bytes>),
        theirs: &BTreeMap<Bytes, StampedOp>,
        follower: &mut Follower,
        turn: &mut Turn<'_>,
    ) {
        let repair = self.demanded != Some(false);
        let (feed, leaves) = (follower.status.feed.as_str(), differed.1.len());
        tracing::error!(feed, leaves, repair, "what is followed differs from its source");
        follower.status.differing = u64::try_from(leaves).unwrap_or(0);
        follower.status.diverged += follower.status.differing;
        if !repair {
            self.again_at = None;
            return self.answer(follower);
        }
        let commits = repairs(&follower.following, &differed.1, theirs);
        if commits.is_empty() {
            self.stands(differed);
        } else {
            self.repairing = Some(differed);
            turn.run(Purpose::Repair, Task::Apply { commits });
        }
    }

    /// What was repaired is not repaired again at that commit: it would differ for ever.
    fn stands(&mut self, (rev, keys): (u64, Vec<Bytes>)) {
        match &mut self.standing {
            Some((at, standing)) if *at == rev => standing.extend(keys),
            standing => *standing = Some((rev, keys)),
        }
    }

    pub(crate) fn on_repaired(
        &mut self,
        outcome: TaskOutcome,
        follower: &mut Follower,
        turn: &Turn<'_>,
    ) -> Result<(), Refusal> {
        let repairing = self.repairing.take();
        match outcome {
            TaskOutcome::Applied(results) => {
                let changed = results.iter().filter(|RemoteApplied { applied, .. }| *applied > 0);
                follower.status.repaired += u64::try_from(changed.count()).unwrap_or(0);
                self.suspects.clear();
                if let Some(repaired) = repairing {
                    self.stands(repaired);
                }
                if self.demanded.is_some() {
                    // Whether it is alike now.
                    self.again_at = Some(turn.now.mono);
                }
                Ok(())
            }
            TaskOutcome::Failed(error) => {
                tracing::warn!(%error, "what differs could not be repaired; trying again later");
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }
}

/// Whether what one side shows at a key, or something above it, ends by itself by then: by the
/// clock of the other side it has ended.
fn may_have_ended(key: &[u8], shown: &BTreeMap<Bytes, StampedOp>, ended_ms: u64) -> bool {
    let inner = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    inner.chain([0, key.len()]).any(|at| {
        let path = key.get(..at).unwrap_or_default();
        let ending = shown.get(&[path, &ENDING].concat()[..]).map(|op| &op.change);
        matches!(ending, Some(StampedChange::Ending(Some(at_ms))) if *at_ms <= ended_ms)
    })
}
