//! Whether both ends hold the same: digests at the same commit, then those of 256 buckets, then
//! what is in the buckets that differ, and what differs twice is repaired, unless somebody asked
//! for no more than a comparison.
//!
//! Nothing is compared unless both ends stand at the same commit; whatever moves meanwhile ends the
//! comparison, and the next quiet moment begins another. A leaf that ends by itself ends at its own
//! time on each clock: hence only what differs in two comparisons counts, and nothing that ends by
//! itself about now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use trellis_tree::StampedOp;

use crate::follower::Follower;
use crate::message::{Message, Refusal, WireDigest};
use crate::source::Source;
use crate::task::{PageRead, Task, TaskOutcome};
use crate::turn::{Purpose, Turn, failed, unexpected};

/// Buckets of a digest.
pub(crate) const BUCKETS: usize = 256;
/// Bytes of leaves compared at a time; the rest is for the next comparison.
const COMPARED_BYTES_MAX: usize = 4 << 20;
/// Bytes of a page of them.
const PAGE_BYTES: usize = 256 << 10;

/// Where a comparison stands.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// The digest here is being read.
    Totals(WireDigest),
    /// The source is asked for its buckets.
    Asked,
    /// The buckets here are being read.
    Buckets { rev: u64, theirs: Vec<u128> },
    /// What is in the differing buckets comes from the source.
    Theirs {
        rev: u64,
        number: u64,
        buckets: Vec<u8>,
        ops: Vec<StampedOp>,
        bytes: usize,
        start: Option<Bytes>,
    },
    /// The same is being read here, in keys of the source, up to a key.
    Ours {
        rev: u64,
        buckets: Vec<u8>,
        theirs: Vec<StampedOp>,
        ours: Vec<StampedOp>,
        bytes: usize,
        until: Option<Bytes>,
    },
}

/// A pass over the leaves, piece by piece.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The commit at which its first piece was compared.
    pub(crate) since: u64,
    /// Whether somebody had asked for it by then.
    pub(crate) asked: bool,
    /// Where the next piece begins.
    pub(crate) next: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Verifier {
    stage: Stage,
    /// What differed in the last comparison.
    pub(crate) suspects: BTreeSet<Bytes>,
    number: u64,
    /// When what was found is compared again.
    pub(crate) again_at: Option<Duration>,
    /// What is being repaired, and at which commit it differed.
    pub(crate) repairing: Option<(u64, Vec<Bytes>)>,
    /// What was repaired, or cannot be, at a commit. What differs all the same must, as where
    /// something that is kept here lies below it.
    pub(crate) standing: Option<(u64, Vec<Bytes>)>,
    /// A comparison was asked for, and whether to repair what differs.
    pub(crate) demanded: Option<bool>,
    /// Where the leaves begin that are compared, once those before them are alike.
    pub(crate) from: Option<Pass>,
    /// The last read of what is here: nothing is made of what came of an earlier one.
    reads: u64,
    /// The source's part: when something was written last, and what its last digest was of.
    committed_at: Duration,
    digest_at: Option<Duration>,
    digest_head: u64,
    digesting: bool,
    /// Leaves are being read for the peer.
    reading: bool,
    /// How long the last digest took: they take no more than a hundredth of the time.
    digest_took: Duration,
    digest_began: Duration,
}

impl Verifier {
    pub(crate) fn committed(&mut self, now: Duration) {
        self.committed_at = now;
    }

    /// The source: reads a digest for the next heartbeat, in a quiet moment.
    pub(crate) fn digest(&mut self, source: &Source, turn: &mut Turn<'_>) {
        let (now, options) = (turn.now.mono, turn.options);
        let pause = options.verify_every.max(self.digest_took * 100);
        let quiet = now.saturating_sub(self.committed_at) >= options.heartbeat;
        let due = self.digest_at.is_none_or(|at| now >= at + pause);
        let changed = self.digest_at.is_none() || self.digest_head != source.head;
        if options.verify_every.is_zero() || self.digesting || !quiet || !due || !changed {
            return;
        }
        if source.is_level() {
            self.read_digest(source, false, turn);
        }
    }

    fn read_digest(&mut self, source: &Source, buckets: bool, turn: &mut Turn<'_>) {
        self.digesting = true;
        self.digest_began = turn.now.mono;
        let (scope, local_prefix) = (source.scope.clone(), Bytes::new());
        turn.run(Purpose::Digest { buckets }, Task::Digest { scope, local_prefix });
    }

    /// The source: has the peer compare, or answers it.
    pub(crate) fn on_digest(
        &mut self,
        buckets: bool,
        outcome: TaskOutcome,
        source: &Source,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.digesting = false;
        self.digest_took = turn.now.mono.saturating_sub(self.digest_began);
        let (digest, sums) = match outcome {
            TaskOutcome::Digest { digest, buckets } => (digest, buckets),
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        self.digest_at = Some(turn.now.mono);
        self.digest_head = digest.rev;
        if buckets {
            let message = Message::Buckets { rev: digest.rev, buckets: sums };
            return turn.send(&message).map(|_| ());
        }
        let beat = crate::message::Heartbeat {
            head: source.head,
            wall_ms: turn.now.wall_ms,
            digest: Some(digest),
        };
        turn.send(&Message::Heartbeat(beat)).map(|_| ())
    }

    /// The source: the peer wants the buckets.
    pub(crate) fn on_verify(
        &mut self,
        source: &Source,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        if !source.is_tailing() || self.digesting {
            // The peer asks again in a quiet moment.
            let (rev, buckets) = (0, vec![0; BUCKETS]);
            return turn.send(&Message::Buckets { rev, buckets }).map(|_| ());
        }
        self.read_digest(source, true, turn);
        Ok(())
    }

    /// The source: the peer wants what is in some buckets.
    pub(crate) fn on_leaves(
        &mut self,
        number: u64,
        buckets: Vec<u8>,
        start: Option<Bytes>,
        source: &Source,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let ascending = buckets.is_sorted_by(|one, other| one < other);
        if buckets.is_empty() || !ascending || !source.is_tailing() {
            return Err(Refusal::protocol("buckets are asked for that are none"));
        }
        if std::mem::replace(&mut self.reading, true) {
            return Err(Refusal::protocol("leaves are asked for before the last ones came"));
        }
        let task = Task::ReadBuckets {
            scope: source.scope.clone(),
            local_prefix: Bytes::new(),
            buckets,
            start: start.unwrap_or_default(),
            bytes_max: PAGE_BYTES,
        };
        turn.run(Purpose::Buckets(number), task);
        Ok(())
    }

    pub(crate) fn on_read(
        &mut self,
        number: u64,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.reading = false;
        let PageRead { ops, next, rev } = match outcome {
            TaskOutcome::Page(page) => page,
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        turn.send(&Message::BucketPage { number, rev, ops, next }).map(|_| ())
    }

    /// Asks the source for its buckets, whatever the last digest said.
    pub(crate) fn ask(&mut self, follower: &Follower, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if !follower.is_settled() {
            self.again_at = Some(turn.now.mono + turn.options.retry_after);
            return Ok(());
        }
        self.stage = Stage::Asked;
        turn.send(&Message::Verify).map(|_| ())
    }

    /// Compares again what differed.
    pub(crate) fn tick(&mut self, follower: &Follower, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.again_at.take_if(|at| *at <= turn.now.mono).is_some() {
            return self.ask(follower, turn);
        }
        Ok(())
    }

    /// Compares a digest that came with a heartbeat, if both ends stand at its commit.
    pub(crate) fn compare(
        &mut self,
        theirs: WireDigest,
        follower: &Follower,
        source: Option<&Source>,
        turn: &mut Turn<'_>,
    ) {
        let idle = matches!(self.stage, Stage::Idle);
        if !idle || !is_at(follower, theirs.rev) || !has_all_of_ours(follower, source) {
            return;
        }
        self.stage = Stage::Totals(theirs);
        self.own_digest(follower, turn);
    }

    pub(crate) fn on_buckets(
        &mut self,
        rev: u64,
        theirs: Vec<u128>,
        follower: &Follower,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        if theirs.len() != BUCKETS {
            return Err(Refusal::protocol("a digest has 256 buckets"));
        }
        if !matches!(self.stage, Stage::Asked) {
            return Ok(());
        }
        if !is_at(follower, rev) {
            self.give_up(turn);
            return Ok(());
        }
        self.stage = Stage::Buckets { rev, theirs };
        self.own_digest(follower, turn);
        Ok(())
    }

    /// Something moved: later.
    fn give_up(&mut self, turn: &Turn<'_>) {
        self.stage = Stage::Idle;
        self.again_at = Some(turn.now.mono + turn.options.retry_after);
    }

    pub(crate) fn on_own_digest(
        &mut self,
        read: u64,
        outcome: TaskOutcome,
        follower: &mut Follower,
        source: Option<&Source>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let (ours, sums) = match outcome {
            TaskOutcome::Digest { digest, buckets } => (digest, buckets),
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        if read != self.reads {
            return Ok(());
        }
        let quiet = has_all_of_ours(follower, source);
        match std::mem::take(&mut self.stage) {
            Stage::Totals(theirs) => {
                if !is_at(follower, theirs.rev) || !quiet {
                    return Ok(());
                }
                if (ours.total, ours.leaves) == (theirs.total, theirs.leaves) {
                    self.alike(follower);
                    return Ok(());
                }
                self.ask(follower, turn)
            }
            Stage::Buckets { rev, theirs } => {
                if !is_at(follower, rev) || !quiet {
                    self.give_up(turn);
                    return Ok(());
                }
                let pairs = theirs.iter().zip(&sums).zip(0..=u8::MAX);
                let differ = pairs.filter(|((theirs, ours), _)| theirs != ours);
                let buckets: Vec<u8> = differ.map(|(_, bucket)| bucket).collect();
                if buckets.is_empty() {
                    self.alike(follower);
                    return Ok(());
                }
                // What was compared before somebody asked is no answer.
                let asked = self.demanded.is_some();
                self.from.take_if(|pass| asked && !pass.asked);
                self.number += 1;
                let number = self.number;
                let asked = buckets.clone();
                let start = self.from.as_ref().map(|pass| pass.next.clone());
                let (ops, bytes) = (Vec::new(), 0);
                let message = Message::Leaves { number, buckets: asked, start: start.clone() };
                self.stage = Stage::Theirs { rev, number, buckets, ops, bytes, start };
                turn.send(&message).map(|_| ())
            }
            // Another comparison was asked for meanwhile.
            stage => {
                self.stage = stage;
                Ok(())
            }
        }
    }

    pub(crate) fn on_bucket_page(
        &mut self,
        page_number: u64,
        page_rev: u64,
        page: Vec<StampedOp>,
        next: Option<Bytes>,
        follower: &Follower,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let stage = std::mem::take(&mut self.stage);
        let Stage::Theirs { rev, number, buckets, mut ops, mut bytes, start } = stage else {
            self.stage = stage;
            return Ok(());
        };
        if number != page_number {
            self.stage = Stage::Theirs { rev, number, buckets, ops, bytes, start };
            return Ok(());
        }
        if page_rev != rev || !is_at(follower, rev) {
            self.give_up(turn);
            return Ok(());
        }
        bytes += size(&page);
        if !follows(&page, start.as_ref(), next.as_ref()) {
            return Err(Refusal::protocol("the leaves of a bucket are out of order"));
        }
        ops.extend(page);
        if next.is_some() && bytes < COMPARED_BYTES_MAX {
            let (asked, start) = (buckets.clone(), next.clone());
            self.stage = Stage::Theirs { rev, number, buckets, ops, bytes, start: next };
            return turn.send(&Message::Leaves { number, buckets: asked, start }).map(|_| ());
        }
        let start = self.from.as_ref().map(|pass| pass.next.clone()).unwrap_or_default();
        self.own_buckets(follower, buckets.clone(), start, turn);
        let (ours, until) = (Vec::new(), next);
        self.stage = Stage::Ours { rev, buckets, theirs: ops, ours, bytes: 0, until };
        Ok(())
    }

    pub(crate) fn on_own_buckets(
        &mut self,
        read: u64,
        outcome: TaskOutcome,
        follower: &mut Follower,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let PageRead { ops, next, .. } = match outcome {
            TaskOutcome::Page(page) => page,
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        if read != self.reads {
            return Ok(());
        }
        let stage = std::mem::take(&mut self.stage);
        let Stage::Ours { rev, buckets, theirs, mut ours, mut bytes, mut until } = stage else {
            self.stage = stage;
            return Ok(());
        };
        if !is_at(follower, rev) {
            self.give_up(turn);
            return Ok(());
        }
        bytes += size(&ops);
        ours.extend(ops);
        let behind = |next: &Bytes| until.as_ref().is_some_and(|until| next >= until);
        if let Some(next) = next.filter(|next| !behind(next)) {
            // As much is read here as there; what is beyond that is for later.
            if bytes < 2 * COMPARED_BYTES_MAX {
                self.own_buckets(follower, buckets.clone(), next, turn);
                self.stage = Stage::Ours { rev, buckets, theirs, ours, bytes, until };
                return Ok(());
            }
            until = Some(next);
        }
        let index = |ops: Vec<StampedOp>| -> BTreeMap<Bytes, StampedOp> {
            let within = |op: &StampedOp| until.as_ref().is_none_or(|until| op.key < *until);
            ops.into_iter().filter(within).map(|op| (op.key.clone(), op)).collect()
        };
        let (theirs, ours) = (index(theirs), index(ours));
        self.compared(rev, until, &theirs, &ours, follower, turn);
        Ok(())
    }

    fn own_digest(&mut self, follower: &Follower, turn: &mut Turn<'_>) {
        let following = &follower.following;
        let scope = following.plan.local_scope(&following.scope);
        let local_prefix = following.plan.local_prefix.clone();
        self.reads += 1;
        turn.run(Purpose::OwnDigest(self.reads), Task::Digest { scope, local_prefix });
    }

    fn own_buckets(
        &mut self,
        follower: &Follower,
        buckets: Vec<u8>,
        start: Bytes,
        turn: &mut Turn<'_>,
    ) {
        let following = &follower.following;
        let task = Task::ReadBuckets {
            scope: following.plan.local_scope(&following.scope),
            local_prefix: following.plan.local_prefix.clone(),
            buckets,
            start,
            bytes_max: PAGE_BYTES,
        };
        self.reads += 1;
        turn.run(Purpose::OwnBuckets(self.reads), task);
    }
}

/// Whether everything up to a commit of the source is applied, and nothing else.
fn is_at(follower: &Follower, rev: u64) -> bool {
    follower.is_settled() && follower.applied_rev() == rev
}

/// Whether the peer has everything that this node wrote, where both do.
fn has_all_of_ours(follower: &Follower, source: Option<&Source>) -> bool {
    !follower.is_shared() || source.is_none_or(Source::is_level)
}

/// Whether a page begins where it was to begin, is in order, and gets on.
fn follows(page: &[StampedOp], start: Option<&Bytes>, next: Option<&Bytes>) -> bool {
    let from = start.map_or(&[][..], |start| start.as_ref());
    let begins = page.first().is_none_or(|first| first.key.as_ref() >= from);
    let ends = next
        .is_none_or(|next| next.as_ref() > from && page.last().is_none_or(|last| last.key < *next));
    begins && ends && page.is_sorted_by(|one, other| one.key < other.key)
}

/// Bytes that ops take while they are compared.
fn size(ops: &[StampedOp]) -> usize {
    let one = |op: &StampedOp| match &op.change {
        trellis_tree::StampedChange::Put(stored) => 64 + op.key.len() + stored.len(),
        _ => 72 + op.key.len(),
    };
    ops.iter().map(one).sum()
}
