//! The source of a feed: answers a follower that opens, sends it pages and commits within its
//! credit, and keeps its slot.
//!
//! Invariants: nothing is queued for a follower beyond the credit, because everything is read when
//! it can be sent; the slot moves only to what the follower has durably, and never back.

use std::collections::VecDeque;

use bytes::Bytes;
use trellis_tree::Scope;

use crate::message::{
    Ack, Batch, LogPosition, Message, Open, OpenAt, OpenMode, Opened, Refusal, RefusalReason,
    origin,
};
use crate::plan::PushPlan;
use crate::planted::{Planted, is_planted};
use crate::settled::Settled;
use crate::source_check::{check_open, covered_scope};
use crate::status::{FeedState, PushStatus};
use crate::task::{OpenSlot, SlotOpened, TailRead, Task, TaskOutcome};
use crate::turn::{Purpose, Turn, beyond, failed, unexpected};

/// What a batch counts at least, so that skips take credit too.
const BATCH_BYTES_LEAST: usize = 64;
/// Skips after which a follower writes its position at the latest. A source waits for that only
/// where it has sent twice as many batches, which take it 4 MiB.
pub(crate) const SKIPS_UNWRITTEN_MAX: u64 = 1 << 16;

/// Where a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The follower has not opened.
    Idle,
    /// How it gets on is being found out.
    Opening,
    /// Pages.
    Pages,
    /// Commits.
    Tail,
}

/// A batch on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    rev: u64,
    hash: [u8; 16],
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) plan: PushPlan,
    owner: String,
    peer: u128,
    pub(crate) stage: Stage,
    /// When it was opened lately.
    opens: VecDeque<std::time::Duration>,
    /// An open that waits until it is known what this node has of the peer.
    waiting: Option<Open>,
    pub(crate) scope: Scope,
    /// For a delta: the commit since which.
    pub(crate) since: Option<u64>,
    pin: u64,
    pub(crate) stream: Option<Stream>,
    pub(crate) last_number: u64,
    /// The place in this node's history that the follower named.
    at: Option<OpenAt>,
    /// Whether it is this source that keeps the slot.
    holds: bool,
    /// Followers that are filled before this one, while it waits.
    pub(crate) ahead: Option<u32>,
    /// While it has a place among those that are filled: until when, if nothing is taken.
    pub(crate) place_until: Option<std::time::Duration>,
    /// Batches that the follower has not yet made durable; the first `applied` of them it has
    /// applied.
    sent: VecDeque<Sent>,
    applied: usize,
    in_flight: usize,
    sent_rev: u64,
    durable: LogPosition,
    /// The commit after which commits are being read.
    reading: Option<u64>,
    /// The commit up to which the follower has applied everything.
    acked: u64,
    acking: bool,
    acked_since: bool,
    settled: Settled,
    /// This node's newest commit.
    pub(crate) head: u64,
    /// When it looks again, for what was not durable or has gathered meanwhile.
    pub(crate) again_at: Option<std::time::Duration>,
    pub(crate) status: PushStatus,
}

impl Source {
    pub(crate) fn new(plan: PushPlan, owner: String, peer: u128, head: u64) -> Self {
        Self {
            plan,
            owner,
            peer,
            stage: Stage::Idle,
            opens: VecDeque::new(),
            waiting: None,
            scope: Scope::default(),
            since: None,
            pin: 0,
            stream: None,
            last_number: 0,
            at: None,
            holds: false,
            ahead: None,
            place_until: None,
            sent: VecDeque::new(),
            applied: 0,
            in_flight: 0,
            sent_rev: 0,
            durable: LogPosition::default(),
            reading: None,
            acked: 0,
            acking: false,
            acked_since: false,
            settled: Settled::default(),
            head,
            again_at: None,
            status: PushStatus::default(),
        }
    }

    /// Whether the follower has applied everything, as of this node's newest commit.
    pub(crate) fn is_level(&self) -> bool {
        self.stage == Stage::Tail && self.sent_rev == self.head && self.applied == self.sent.len()
    }

    pub(crate) fn is_tailing(&self) -> bool {
        self.stage == Stage::Tail
    }

    /// The slot that it keeps.
    pub(crate) fn slot(&self) -> Option<&str> {
        self.holds.then_some(self.status.slot.as_str())
    }

    pub(crate) fn on_open(&mut self, open: Open, turn: &Turn<'_>) -> Result<(), Refusal> {
        check_open(&open, &self.plan.scope)?;
        let since = turn.now.mono.saturating_sub(turn.options.fills_window);
        self.opens.retain(|at| *at >= since);
        self.opens.push_back(turn.now.mono);
        let opens_max = usize::try_from(turn.options.fills_max).unwrap_or(usize::MAX);
        if self.opens.len() > opens_max.max(1) {
            let message = "the feed is opened too often: find out why, or wait a minute";
            return Err(Refusal::new(RefusalReason::Busy, message));
        }
        let slot = format!("{:032x}-{}", self.peer, open.feed);
        let other = !self.status.slot.is_empty() && self.status.slot != slot;
        if self.stage == Stage::Opening || self.waiting.is_some() || other {
            return Err(Refusal::protocol("a feed is opened while it is, or another one"));
        }
        self.status.slot = slot;
        self.waiting = Some(open);
        Ok(())
    }

    /// Begins with an open that waits; `known` is what this node has of the peer's log.
    pub(crate) fn begin(&mut self, known: Option<LogPosition>, turn: &mut Turn<'_>) {
        let (Some(_), Some(open)) = (known, self.waiting.take_if(|_| known.is_some())) else {
            return;
        };
        self.scope = covered_scope(&open, &self.plan.scope);
        self.stage = Stage::Opening;
        self.again_at = None;
        self.stream = None;
        self.sent.clear();
        (self.applied, self.in_flight, self.sent_rev) = (0, 0, 0);
        (self.at, self.holds, self.ahead) = (open.at, true, None);
        // What was acknowledged before is nothing that the slot is to learn of behind the open.
        self.acked_since = false;
        self.ask_slot(turn);
    }

    /// Finds out how the follower gets on.
    pub(crate) fn ask_slot(&self, turn: &mut Turn<'_>) {
        let (consumer, owner) = (self.status.slot.clone(), self.owner.clone());
        let slot = OpenSlot { consumer, owner, at: self.at.clone() };
        turn.run(Purpose::Slot, Task::OpenSlot(slot));
    }

    pub(crate) fn on_slot(
        &mut self,
        outcome: TaskOutcome,
        known: LogPosition,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let SlotOpened { mode, pin, since, head } = match outcome {
            TaskOutcome::Slot(opened) => opened,
            TaskOutcome::Queued { ahead } => return self.on_queued(ahead, turn),
            TaskOutcome::Refused(refusal) => return Err(refusal),
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        self.head = self.head.max(head);
        self.pin = pin.rev;
        (self.durable, self.acked) = (pin, pin.rev);
        self.status.acknowledged = pin.rev;
        let delta = matches!(mode, OpenMode::Delta | OpenMode::ResumeDelta);
        self.since = delta.then_some(since);
        let except = self.plan.scope.except.clone();
        let opened = Opened { mode, pin, head: self.head, except, known };
        turn.send(&Message::Opened(opened))?;
        if mode == OpenMode::Tail {
            self.begin_tail(turn);
        } else {
            self.stage = Stage::Pages;
            self.place_until = Some(turn.now.mono + turn.options.stalled_after);
            self.status.state = if delta { FeedState::Delta } else { FeedState::Snapshot };
        }
        Ok(())
    }

    fn begin_tail(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Tail;
        self.stream = None;
        self.status.state = FeedState::Tail;
        self.sent_rev = self.pin;
        self.status.sent = self.pin;
        self.pump(turn);
    }

    /// Reads what fits the credit.
    pub(crate) fn pump(&mut self, turn: &mut Turn<'_>) {
        match self.stage {
            Stage::Idle => {}
            Stage::Opening => self.pump_queued(turn),
            Stage::Pages => self.pump_pages(turn),
            Stage::Tail => self.pump_tail(turn),
        }
    }

    pub(crate) fn on_tail(&mut self, after: u64, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if is_planted(Planted::SlotPinnedLate) && after <= self.head {
            self.pin = after;
        }
        let ended = self.stream.as_ref().is_some_and(|stream| stream.ended)
            || is_planted(Planted::BootstrapSkipped);
        if self.stage != Stage::Pages || after != self.pin || !ended {
            return Err(Refusal::protocol("the tail is asked for before the pages came"));
        }
        self.give_place(turn);
        // The slot learns that the pages have come, though no commit may follow for long.
        self.acked_since = true;
        self.move_slot(turn);
        self.begin_tail(turn);
        Ok(())
    }

    fn pump_tail(&mut self, turn: &mut Turn<'_>) {
        self.status.in_flight = self.in_flight;
        let credit = turn.options.credit_bytes.saturating_sub(self.in_flight);
        let unwritten =
            u64::try_from(self.sent.len()).unwrap_or(u64::MAX) >= 2 * SKIPS_UNWRITTEN_MAX;
        let _due = self.again_at.take_if(|at| *at <= turn.now.mono);
        let early = self.again_at.is_some();
        if self.reading.is_some() || early || self.sent_rev >= self.head || credit == 0 || unwritten
        {
            return;
        }
        self.reading = Some(self.sent_rev);
        let task = Task::ReadTail {
            scope: self.scope.clone(),
            after: self.sent_rev,
            peer: origin(self.peer),
            bytes_max: turn.options.batch_bytes.min(credit),
        };
        turn.run(Purpose::Tail, task);
    }

    pub(crate) fn on_tail_read(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let asked = self.reading.take();
        if self.stage != Stage::Tail || asked != Some(self.sent_rev) {
            // It was opened again meanwhile.
            self.pump(turn);
            return Ok(());
        }
        let TailRead { commits, through, hash, head, echoes } = match outcome {
            TaskOutcome::Tail(tail) => tail,
            TaskOutcome::TailGone => return self.reopen(turn),
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        self.head = self.head.max(head);
        self.status.echoes += echoes;
        if through <= self.sent_rev {
            // What is there is not durable yet, so that it may still be lost.
            let again = head > self.sent_rev;
            self.again_at = again.then(|| turn.now.mono + turn.options.durable_after);
            return Ok(());
        }
        let count = commits.len();
        self.status.commits += u64::try_from(count).unwrap_or(0);
        let batch = Batch { after: self.sent_rev, through, hash, head: self.head, commits };
        let bytes = turn.send(&Message::Batch(batch))?.max(BATCH_BYTES_LEAST);
        self.sent.push_back(Sent { rev: through, hash, bytes });
        self.in_flight += bytes;
        self.sent_rev = through;
        self.status.sent = through;
        if through >= self.head {
            self.rest(count, turn);
        }
        self.pump(turn);
        Ok(())
    }

    /// Lets commits gather, where many come.
    fn rest(&mut self, sent: usize, turn: &Turn<'_>) {
        let others = u32::try_from(sent.saturating_sub(1)).unwrap_or(u32::MAX);
        let rest = turn.options.rest_per_commit.saturating_mul(others).min(turn.options.rest_max);
        self.again_at = (!rest.is_zero()).then(|| turn.now.mono + rest);
    }

    /// The log was trimmed in front of the follower: it opens again.
    pub(crate) fn reopen(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.stage = Stage::Idle;
        self.again_at = None;
        self.status.state = FeedState::Connecting;
        self.stream = None;
        turn.send(&Message::Reopen).map(|_| ())
    }

    pub(crate) fn on_ack(&mut self, ack: Ack, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.stage != Stage::Tail {
            // Of what was sent before it opened again.
            let known = matches!(self.stage, Stage::Opening | Stage::Idle);
            return if known { Ok(()) } else { Err(beyond("commits")) };
        }
        if ack.rev > self.sent_rev || ack.durable_rev > ack.rev {
            return Err(beyond("commits"));
        }
        while let Some(next) = self.sent.get(self.applied).filter(|next| next.rev <= ack.rev) {
            self.in_flight -= next.bytes;
            self.applied += 1;
        }
        if ack.durable_rev < self.durable.rev {
            return Err(Refusal::protocol("an acknowledgement goes back"));
        }
        let mut last = None;
        while self.applied > 0 && self.sent.front().is_some_and(|sent| sent.rev <= ack.durable_rev)
        {
            last = self.sent.pop_front();
            self.applied -= 1;
        }
        if ack.durable_rev > self.durable.rev {
            let of_ours =
                |sent: &Sent| sent.rev == ack.durable_rev && sent.hash == ack.durable_hash;
            if !last.as_ref().is_some_and(of_ours) {
                return Err(Refusal::protocol("an acknowledgement is of nothing that was sent"));
            }
            self.durable.rev = ack.durable_rev;
            self.durable.hash = ack.durable_hash;
            self.status.acknowledged = ack.durable_rev;
            self.acked_since = true;
        }
        if ack.rev > self.acked {
            (self.acked, self.acked_since) = (ack.rev, true);
        }
        self.move_slot(turn);
        self.pump(turn);
        Ok(())
    }

    /// Tells the store how far the follower is; once at a time.
    fn move_slot(&mut self, turn: &mut Turn<'_>) {
        if self.acking || !std::mem::take(&mut self.acked_since) {
            return;
        }
        self.acking = true;
        let consumer = self.status.slot.clone();
        let (at, applied, settled) = (self.durable, self.acked, self.settled.rev());
        turn.run(Purpose::AckSlot, Task::AckSlot { consumer, at, applied, settled });
    }

    /// The peer tells its newest commit; `have` is what of its log is here, all if nothing of it
    /// is followed.
    pub(crate) fn on_head(&mut self, head: u64, have: u64, turn: &mut Turn<'_>) {
        // Before the tail it has not what it will be taken to have.
        if self.stage == Stage::Tail && self.settled.heard(self.durable.rev, head, have) {
            self.acked_since = true;
            self.move_slot(turn);
        }
    }

    pub(crate) fn on_slot_moved(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.acking = false;
        match outcome {
            TaskOutcome::Done => {}
            TaskOutcome::TailGone if self.stage == Stage::Tail => return self.reopen(turn),
            TaskOutcome::TailGone => {}
            // The slot is where it was: more is kept than needed, until the next one.
            TaskOutcome::Failed(error) => tracing::warn!(%error, "a slot could not be moved"),
            _ => return Err(unexpected()),
        }
        self.move_slot(turn);
        Ok(())
    }
}

/// Pages of one request.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) number: u64,
    pub(crate) part: u32,
    pub(crate) start: Option<Bytes>,
    pub(crate) items_max: u32,
    pub(crate) bytes_max: u32,
    /// Bytes of each page that is not acknowledged.
    pub(crate) in_flight: VecDeque<usize>,
    pub(crate) acked: u64,
    pub(crate) reading: bool,
    pub(crate) ended: bool,
}
