//! The follower of a feed: opens where it was left, has itself filled by pages or follows the tail,
//! and acknowledges what is durable.
//!
//! Invariants: a position is written with the data it stands for; nothing is skipped: what cannot
//! be applied holds up what comes after it; what waits is bounded by the source's credit.

use std::collections::VecDeque;
use std::time::Duration;

use trellis_engine_traits::ErrorKind;
use trellis_tree::{RemoteApplied, Scope};

use crate::follower_stage::{Applying, Stage, Waiting};
use crate::incoming::Following;
use crate::message::{
    Ack, LogPosition, Message, Open, OpenAt, OpenMode, Opened, Refusal, RefusalReason,
};
use crate::plan::{FillRule, PullPlan, ZONES_MAX};
use crate::planted::{Planted, is_planted};
use crate::position::{FeedPosition, FillPosition};
use crate::status::{FeedState, PullStatus};
use crate::task::{Task, TaskOutcome};
use crate::turn::{Purpose, Turn, failed, unexpected};

#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) following: Following,
    pub(crate) stage: Stage,
    /// Where it stands; what of it is durable is `durable`.
    pub(crate) position: Option<FeedPosition>,
    pub(crate) durable: LogPosition,
    /// Why what is here is set aside before it is replaced: it may be this node's own.
    own_here: bool,
    /// Whether it is to begin anew once it is open.
    anew: bool,
    /// Commits that came and are not applied, and their bytes.
    pub(crate) queue: VecDeque<Waiting>,
    pub(crate) queue_bytes: usize,
    /// The commit with which the last batch that came ends.
    pub(crate) received: u64,
    pub(crate) applying: Option<Applying>,
    /// When what came from the future is looked at again.
    pub(crate) quarantine: Option<Duration>,
    pub(crate) saving: bool,
    /// What is being saved is of before it was opened again.
    pub(crate) stale_save: bool,
    /// When it last got on, or was level.
    pub(crate) progress_at: Duration,
    /// Raised with each request for pages, whatever was opened in between.
    pub(crate) requests: u64,
    pub(crate) status: PullStatus,
}

impl Follower {
    pub(crate) fn new(plan: PullPlan, node: u128, peer: u128, turn: &mut Turn<'_>) -> Self {
        let feed = plan.feed.clone();
        turn.run(Purpose::LoadPosition, Task::LoadPosition { feed: feed.clone() });
        let scope = plan.source_scope();
        Self {
            following: Following { plan, node, peer, scope },
            stage: Stage::Loading,
            position: None,
            durable: LogPosition::default(),
            own_here: true,
            anew: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            received: 0,
            applying: None,
            quarantine: None,
            saving: false,
            stale_save: false,
            progress_at: turn.now.mono,
            requests: 0,
            status: PullStatus { feed, ..PullStatus::default() },
        }
    }

    /// What this node has of the peer's log, once it is known.
    pub(crate) fn known(&self) -> Option<LogPosition> {
        if matches!(self.stage, Stage::Loading) {
            return None;
        }
        let whole = self.position.as_ref().filter(|position| position.fill.is_none());
        Some(whole.map(|position| position.at).unwrap_or_default())
    }

    /// The commit of the source up to which everything is applied.
    pub(crate) fn applied_rev(&self) -> u64 {
        let whole = self.position.as_ref().filter(|position| position.fill.is_none());
        whole.map_or(0, |position| position.at.rev)
    }

    /// Whether everything that came is applied, in the tail.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Tailing) && self.applying.is_none() && self.queue.is_empty()
    }

    /// Whether nodes besides the source write what it follows.
    pub(crate) fn is_shared(&self) -> bool {
        self.following.plan.parts.iter().any(|part| part.fill == FillRule::Merge)
    }

    pub(crate) fn on_position(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let stored = match outcome {
            TaskOutcome::Position(stored) => stored,
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        // A restored copy holds nothing that its own plan did not bring there, if that is still
        // its plan.
        let (node, plan) = (self.following.node, self.following.plan.fingerprint);
        self.own_here = stored
            .as_ref()
            .is_none_or(|position| position.node == node || position.fingerprint != plan);
        self.position = stored.filter(|position| self.following.is_valid(position));
        self.durable = self.position.as_ref().map(|position| position.at).unwrap_or_default();
        self.show();
        if std::mem::take(&mut self.anew) {
            self.begin_anew(turn);
        }
        self.open(turn)
    }

    /// Asks the source how to get on from what it has durably: what is named here moves the slot.
    pub(crate) fn open(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.stale_save = self.saving;
        if let Some(position) = &mut self.position
            && position.fill.is_none()
            && position.at.log_id == self.durable.log_id
        {
            position.at = self.durable;
        }
        let at = self.position.as_ref().map(|position| match &position.fill {
            None => OpenAt::Tail(position.at),
            Some(FillPosition { since: None, .. }) => OpenAt::Snapshot(position.at),
            Some(FillPosition { since: Some(from), .. }) => {
                OpenAt::Delta { from: *from, pin: position.at }
            }
        });
        let plan = &self.following.plan;
        let prefixes = plan.parts.iter().map(|part| part.prefix.clone()).collect();
        let (feed, except) = (plan.feed.clone(), plan.except.clone());
        self.stage = Stage::Opening(at.clone());
        self.status.state = FeedState::Connecting;
        self.progress_at = turn.now.mono;
        turn.send(&Message::Open(Open { feed, prefixes, except, at })).map(|_| ())
    }

    /// Opens anew once what is under way is applied; what waits comes again.
    pub(crate) fn reopen(&mut self, anew: bool, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if !matches!(self.stage, Stage::Filling(_) | Stage::Tailing | Stage::Reopening { .. }) {
            // It is being opened.
            return Ok(());
        }
        self.queue.clear();
        self.queue_bytes = 0;
        self.quarantine = None;
        if self.applying.take_if(|applying| applying.again_at.is_some()).is_some() {
            self.status.paused = None;
        }
        if self.applying.is_some() {
            self.stage = Stage::Reopening { anew };
            return Ok(());
        }
        if anew {
            self.begin_anew(turn);
        }
        self.open(turn)
    }

    /// Fills everything anew, whatever it is about: what is being opened is opened once more.
    pub(crate) fn resync(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        match self.stage {
            Stage::Loading | Stage::Opening(_) => self.anew = true,
            Stage::Preparing { .. } => self.begin_anew(turn),
            Stage::Filling(_) | Stage::Tailing | Stage::Reopening { .. } => {
                return self.reopen(true, turn);
            }
        }
        Ok(())
    }

    /// Forgets how far it was, here and where it is written. Nothing is being applied.
    fn begin_anew(&mut self, turn: &mut Turn<'_>) {
        self.position = None;
        turn.run(Purpose::Aside, Task::BeginAnew { feed: self.following.plan.feed.clone() });
    }

    pub(crate) fn on_opened(&mut self, opened: Opened, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Stage::Opening(at) = &self.stage else {
            return Err(Refusal::protocol("a feed is opened that was not asked for"));
        };
        let fits = match (opened.mode, at) {
            (OpenMode::Tail, Some(OpenAt::Tail(at)))
            | (OpenMode::ResumeSnapshot, Some(OpenAt::Snapshot(at)))
            | (OpenMode::ResumeDelta, Some(OpenAt::Delta { pin: at, .. })) => opened.pin == *at,
            (OpenMode::Delta, Some(OpenAt::Tail(from) | OpenAt::Delta { from, .. })) => {
                opened.pin.rev >= from.rev
            }
            (OpenMode::Snapshot | OpenMode::Diverged, _) => true,
            _ => false,
        };
        let peer = self.following.peer;
        if opened.except.len() > ZONES_MAX {
            return Err(Refusal::protocol("a source leaves out more than any node names"));
        }
        if !fits || opened.pin.log_id != peer || opened.pin.rev > opened.head {
            return Err(Refusal::protocol("a feed is opened at a place that cannot be"));
        }
        if std::mem::take(&mut self.anew) {
            self.begin_anew(turn);
            return self.open(turn);
        }
        let scope = &mut self.following.scope;
        *scope = self.following.plan.source_scope();
        scope.except.extend(opened.except.iter().cloned());
        scope.except.retain(|except| !scope.within.contains(except));
        (self.status.opened, self.status.queued_behind) = (Some(opened.mode), None);
        self.status.head = opened.head;
        self.progress_at = turn.now.mono;
        match opened.mode {
            OpenMode::Tail => {
                self.begin_tail(opened.pin.rev, turn);
                Ok(())
            }
            OpenMode::Delta => {
                let since = self.position.as_ref().map(|position| match &position.fill {
                    Some(FillPosition { since: Some(since), .. }) => *since,
                    _ => position.at,
                });
                self.begin_fill(&opened, since, 0, turn)
            }
            OpenMode::ResumeSnapshot | OpenMode::ResumeDelta => self.resume_fill(&opened, turn),
            OpenMode::Snapshot => {
                // Below the source's floor all came from it; otherwise it may be this node's own.
                let own_here = self.own_here && at_is_foreign(self.position.as_ref(), &opened);
                self.prepare(opened, own_here, turn)
            }
            OpenMode::Diverged => self.prepare(opened, true, turn),
        }
    }

    /// Sets aside what this node wrote, and finds out what the source knew of it.
    fn prepare(
        &mut self,
        opened: Opened,
        own_here: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let replaced = self.replaced_scope();
        let mut left = 0;
        if own_here && !replaced.within.is_empty() {
            left += 1;
            let LogPosition { log_id, rev, .. } = opened.pin;
            let id = format!("{:016x}-{rev}", log_id >> 64);
            let feed = self.following.plan.feed.clone();
            turn.run(Purpose::SetAside, Task::SetAside { feed, id, scope: replaced });
        }
        let known = opened.known;
        let ours = known.log_id == self.following.node && known.rev > 0;
        if ours && self.is_shared() {
            left += 1;
            turn.run(Purpose::Known, Task::HashAt { rev: known.rev });
        }
        if left == 0 {
            return self.begin_fill(&opened, None, 0, turn);
        }
        self.stage = Stage::Preparing { left, known_rev: 0, opened };
        Ok(())
    }

    /// What a snapshot replaces, in keys of this node.
    fn replaced_scope(&self) -> Scope {
        let Following { plan, scope, .. } = &self.following;
        let mut replaced = Scope { within: Vec::new(), except: scope.except.clone() };
        for part in &plan.parts {
            match part.fill {
                FillRule::Replace => replaced.within.push(part.prefix.clone()),
                FillRule::Merge => replaced.except.push(part.prefix.clone()),
            }
        }
        plan.local_scope(&replaced)
    }

    pub(crate) fn on_prepared(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Stage::Preparing { left, known_rev, opened } = &mut self.stage else { return Ok(()) };
        match outcome {
            TaskOutcome::SetAside(leaves) => {
                self.status.set_aside += leaves;
            }
            TaskOutcome::Hash { head, hash } => {
                let LogPosition { rev, hash: theirs, .. } = opened.known;
                // What is no longer in the log cannot be compared; a node that has it got it.
                if rev <= head && hash.is_none_or(|hash| hash == theirs) {
                    *known_rev = rev;
                }
            }
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        }
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        let (opened, known_rev) = (opened.clone(), *known_rev);
        self.begin_fill(&opened, None, known_rev, turn)
    }

    pub(crate) fn begin_tail(&mut self, after: u64, turn: &Turn<'_>) {
        self.stage = Stage::Tailing;
        self.received = after;
        self.progress_at = turn.now.mono;
        self.status.state = FeedState::Tail;
        self.show();
        self.note_level(turn);
    }

    /// Hands commits to the tree.
    pub(crate) fn apply(&mut self, applying: Applying, turn: &mut Turn<'_>) {
        let mut commits = applying.commits.clone();
        if is_planted(Planted::PositionFirst) {
            let (feed, position) = (self.status.feed.clone(), applying.after.clone());
            turn.run(Purpose::Aside, Task::SavePosition { feed, position });
            commits.iter_mut().for_each(|commit| commit.notes.clear());
        }
        self.applying = Some(applying);
        turn.run(Purpose::Apply, Task::Apply { commits });
    }

    pub(crate) fn on_applied(
        &mut self,
        outcome: TaskOutcome,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(mut applying) = self.applying.take() else { return Err(unexpected()) };
        let results = match outcome {
            TaskOutcome::Applied(results) => results,
            TaskOutcome::Failed(error) if is_passing(error.kind()) => {
                tracing::warn!(%error, feed = %self.status.feed, "what came cannot be applied yet");
                applying.again_at = Some(turn.now.mono + turn.options.retry_after);
                self.applying = Some(applying);
                self.status.state = FeedState::Paused;
                self.status.paused = Some(error.to_string());
                return Ok(());
            }
            TaskOutcome::Failed(error) if is_theirs(error.kind()) => {
                let message = format!("what was sent cannot be applied: {error}");
                return Err(Refusal::new(RefusalReason::Protocol, message));
            }
            TaskOutcome::Failed(error) => return Err(failed(&error)),
            _ => return Err(unexpected()),
        };
        results.iter().for_each(|result| self.count(*result));
        self.status.paused = None;
        self.status.applied_at_ms = self.status.applied_at_ms.max(applying.at_ms);
        self.progress_at = turn.now.mono;
        self.durable = applying.durable;
        self.position = Some(applying.after);
        self.show();
        if let Stage::Reopening { anew } = self.stage {
            return self.reopen(anew, turn);
        }
        if applying.pages > 0 {
            self.status.pages += applying.pages;
            return self.pages_applied(applying.pages, turn);
        }
        self.status.commits += u64::try_from(results.len()).unwrap_or(0);
        self.status.state = FeedState::Tail;
        self.acknowledge(turn)?;
        self.pump(turn)
    }

    fn count(&mut self, result: RemoteApplied) {
        let add = |sum: &mut u64, more: usize| *sum += u64::try_from(more).unwrap_or(0);
        let status = &mut self.status;
        add(&mut status.applied, result.applied);
        add(&mut status.known, result.known);
        add(&mut status.lost, result.lost);
        add(&mut status.won, result.won);
        add(&mut status.clipped, result.clipped);
    }

    /// Tells the source how far it is.
    pub(crate) fn acknowledge(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let ack = Ack {
            rev: self.applied_rev(),
            durable_rev: self.durable.rev,
            durable_hash: self.durable.hash,
        };
        self.note_level(turn);
        turn.send(&Message::Ack(ack)).map(|_| ())
    }

    /// Updates what the status says of the position.
    pub(crate) fn show(&mut self) {
        self.status.position = self.applied_rev();
        let whole = |at: &FeedPosition| at.fill.is_none() && at.at.rev >= at.complete_at;
        self.status.complete = self.position.as_ref().is_some_and(whole);
    }

    /// Whether it has everything that the source said it has.
    pub(crate) fn is_level(&self) -> bool {
        matches!(self.stage, Stage::Tailing) && self.applied_rev() >= self.status.head
    }

    pub(crate) fn note_level(&mut self, turn: &Turn<'_>) {
        if self.is_level() {
            self.status.level_at = Some(turn.now.mono);
            self.progress_at = turn.now.mono;
        }
    }
}

/// Whether what a snapshot replaces may be this node's own: there was no position of this source
/// under this plan.
fn at_is_foreign(position: Option<&FeedPosition>, opened: &Opened) -> bool {
    position.is_none_or(|position| position.at.log_id != opened.pin.log_id)
}

/// Whether the same commits may be applied later.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Busy | ErrorKind::Unavailable)
}

/// Whether what was sent is to blame.
fn is_theirs(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Corrupt)
}
