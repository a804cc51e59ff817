//! The thread of a link: hands a session what happens, and does what it asks for.
//!
//! Every frame that is there is handed in before what a task came to, and the time last: what waits
//! is applied together then, and nobody is taken for dead whose words wait to be heard.
//!
//! Invariants: tasks are done here, one at a time, so that what is slow slows its own peer only;
//! nothing is read for a peer that does not take what was read before; what the session asks for at
//! its end is done.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::PeerLink;
use trellis_tree::{CommitBell, PendingCommit};

use crate::backoff::Ended;
use crate::event::{Action, Event};
use crate::forward::ForwardId;
use crate::message::{OpenMode, Refusal, RefusalReason};
use crate::node_gate::Answer;
use crate::node_poll;
use crate::node_shared::{LinkEntry, Shared};
use crate::node_wire::Wire;
use crate::session::Session;
use crate::status::{LinkState, SessionStatus};
use crate::task::{Task, TaskId, TaskOutcome};

/// Bytes that wait to go out beyond which nothing more is read for the peer, and no write is taken
/// for it.
const READS_QUEUED_MAX: usize = 4 << 20;
/// Bytes that wait to go out beyond which the peer is not heard.
const HEARD_QUEUED_MAX: usize = 64 << 20;
/// Time between two looks at a link that is busy.
const SHOWN_EVERY: Duration = Duration::from_millis(50);
/// How long a link may take to end.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How a link ended.
#[derive(Debug)]
pub(crate) struct LinkOutcome {
    pub(crate) ended: Ended,
    /// For how long its feeds had been live.
    pub(crate) live: Duration,
    pub(crate) error: String,
}

/// What the status said last, for what is logged of it.
#[derive(Debug, Default)]
struct Told {
    up: bool,
    opened: Option<OpenMode>,
    filled: Option<Duration>,
    diverged: u64,
}

pub(crate) struct Driver<'a> {
    shared: &'a Shared,
    entry: &'a LinkEntry,
    session: Session,
    wire: Wire<'a>,
    waker: Waker,
    bell: CommitBell,
    tasks: VecDeque<(TaskId, Task)>,
    done: Option<(TaskId, TaskOutcome)>,
    routed: Vec<(TaskId, PendingCommit)>,
    answers: BTreeMap<ForwardId, Answer>,
    forwards: u64,
    refusal: Option<Refusal>,
    live_since: Option<Duration>,
    shown_at: Duration,
    told: Told,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        entry: &'a LinkEntry,
        link: &'a dyn PeerLink,
        session: Session,
    ) -> Self {
        let alarm = &entry.mail.alarm;
        Self {
            shared,
            entry,
            session,
            wire: Wire::new(link, alarm),
            waker: node_poll::waker(alarm),
            bell: shared.store.tree().bell(Arc::clone(alarm)),
            tasks: VecDeque::new(),
            done: None,
            routed: Vec::new(),
            answers: BTreeMap::new(),
            forwards: 0,
            refusal: None,
            live_since: None,
            shown_at: shared.now().mono,
            told: Told::default(),
        }
    }

    /// Until the link ends, or the node closes.
    pub(crate) fn run(mut self) -> LinkOutcome {
        self.step(Event::Connected);
        // What became visible since the session was made.
        let head = self.shared.store.tree().position().rev;
        self.step(Event::Committed(head));
        while self.refusal.is_none() {
            if self.shared.is_closing() {
                self.end_for("the node is closing");
            } else if self.entry.is_superseded() {
                self.end_for("its peer made a newer link");
            } else {
                self.turn();
            }
        }
        self.finish()
    }

    fn end_for(&mut self, message: &str) {
        self.refusal = Some(Refusal::new(RefusalReason::Closing, message));
        self.end();
    }

    /// The link is down, or the node closes.
    fn end(&mut self) {
        if let Some((id, outcome)) = self.done.take() {
            self.step(Event::Done(id, outcome));
        }
        self.step(Event::Closed);
    }

    /// Everything that happened, then one task or a wait.
    fn turn(&mut self) {
        let _all = self.wire.flush();
        let mut more = false;
        if self.wire.queued() <= HEARD_QUEUED_MAX {
            let mut frames: Vec<Bytes> = Vec::new();
            more = self.wire.receive(&mut frames);
            for frame in frames {
                self.step(Event::Received(frame));
            }
        }
        if self.wire.ended().is_some() {
            return self.end();
        }
        self.routed();
        self.mail();
        // A bell that is not answered does not ring again: nobody wakes for each commit.
        if !self.session.is_resting(self.shared.now().mono) && self.bell.take() {
            let head = self.shared.store.tree().position().rev;
            self.step(Event::Committed(head));
        }
        let progressed = match self.done.take() {
            Some((id, outcome)) => {
                self.step(Event::Done(id, outcome));
                true
            }
            None => more,
        };
        let now = self.shared.now().mono;
        if self.session.deadline().is_some_and(|deadline| deadline <= now) {
            self.step(Event::Tick);
        }
        let _all = self.wire.flush();
        if self.refusal.is_some() {
            return;
        }
        if let Some((id, task)) = self.next_task() {
            self.show(false);
            self.done = Some((id, self.shared.store.execute(self.shared.now(), task)));
        } else if !progressed {
            self.show(true);
            let clock = self.shared.runtime.clock();
            self.entry.mail.alarm.wait(clock.as_ref(), self.session.deadline());
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.session.step(self.shared.now(), event);
        for action in actions {
            match action {
                Action::Send { bytes, compress } => self.wire.push(bytes, compress),
                Action::Do(id, task) => self.tasks.push_back((id, task)),
                Action::Route(id, request) => {
                    self.routed.push((id, self.shared.route(request)));
                }
                Action::Forwarded(id, outcome) => {
                    if let Some(answer) = self.answers.remove(&id) {
                        answer.give(outcome);
                    }
                }
                Action::Close(refusal) => {
                    // The first reason is the reason.
                    self.refusal.get_or_insert(refusal);
                }
            }
        }
        self.notice();
    }

    /// What a link that came up means beyond itself.
    fn notice(&mut self) {
        if self.told.up || self.session.status.link != LinkState::Up {
            return;
        }
        self.told.up = true;
        let Some((node, name)) = self.session.status.peer.clone() else { return };
        let link = self.entry.id.as_str();
        tracing::info!(link, peer = %name, node = %format!("{node:032x}"), "a link is up");
        self.entry.state.lock().last_error = None;
        if self.entry.dialed {
            if let Err(refusal) = self.shared.admission.learned(&self.entry.id, node) {
                self.refusal = Some(refusal);
                return self.step(Event::Closed);
            }
            self.entry.mail.open();
        }
    }

    /// Answers of this node, or of one further up, to the peer's writes.
    fn routed(&mut self) {
        let mut at = 0;
        while let Some((id, pending)) = self.routed.get_mut(at) {
            let id = *id;
            match Pin::new(pending).poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => at += 1,
                Poll::Ready(outcome) => {
                    drop(self.routed.swap_remove(at));
                    self.step(Event::Done(id, TaskOutcome::Routed(outcome)));
                }
            }
        }
    }

    /// Writes of this node's callers, and what an operator asks for.
    fn mail(&mut self) {
        if !self.told.up {
            return;
        }
        while self.wire.queued() <= READS_QUEUED_MAX {
            let Some(mut outgoing) = self.entry.mail.take() else { break };
            let left = outgoing.deadline.saturating_sub(self.shared.now().mono);
            if left.is_zero() {
                outgoing.answer.give(Err(crate::node_gate::not_connected()));
                continue;
            }
            outgoing.request.wait = left;
            self.forwards += 1;
            let id = ForwardId(self.forwards);
            self.answers.insert(id, outgoing.answer);
            self.step(Event::Forward(id, outgoing.request));
        }
        let asked = self.entry.mail.asked();
        if asked.resync {
            self.step(Event::Resync);
        }
        if asked.verify || asked.repair {
            self.step(Event::Verify { repair: asked.repair });
        }
    }

    /// The first task that may be done.
    fn next_task(&mut self) -> Option<(TaskId, Task)> {
        let full = self.wire.queued() > READS_QUEUED_MAX;
        let at = self.tasks.iter().position(|(_, task)| !full || !is_read(task))?;
        self.tasks.remove(at)
    }

    /// Puts the status where it is read from, at once or if it was long ago.
    fn show(&mut self, at_once: bool) {
        let now = self.shared.now().mono;
        if !at_once && now < self.shown_at + SHOWN_EVERY {
            return;
        }
        self.shown_at = now;
        let status = self.session.status();
        self.log(&status);
        if status.is_live() {
            self.live_since.get_or_insert(now);
        }
        self.entry.show(status, false);
    }

    fn log(&mut self, status: &SessionStatus) {
        let Some(pull) = &status.pull else { return };
        let link = self.entry.id.as_str();
        if pull.opened != self.told.opened {
            self.told.opened = pull.opened;
            if let Some(mode) = pull.opened {
                let position = pull.position;
                tracing::info!(link, ?mode, position, head = pull.head, "a feed is open");
            }
        }
        if pull.fill_took != self.told.filled {
            self.told.filled = pull.fill_took;
            if let Some(took) = pull.fill_took {
                let (pages, bytes) = (pull.pages, pull.page_bytes);
                tracing::info!(link, pages, bytes, ?took, "everything of the source is here");
            }
        }
        if pull.diverged != self.told.diverged {
            self.told.diverged = pull.diverged;
            tracing::warn!(link, leaves = pull.diverged, "what is followed differed");
        }
    }

    /// Does what the session wants done at its end, and ends the link.
    fn finish(mut self) -> LinkOutcome {
        self.entry.mail.close();
        // Reads are for nobody now; what writes where things stand is done.
        while let Some((_, task)) = self.tasks.pop_front() {
            if !is_read(&task)
                && let TaskOutcome::Failed(error) =
                    self.shared.store.execute(self.shared.now(), task)
            {
                tracing::debug!(link = %self.entry.id, %error, "not written at the end of a link");
            }
        }
        let closing = || Refusal::new(RefusalReason::Closing, "the link ended");
        let refusal = self.refusal.take().unwrap_or_else(closing);
        let reason = format!("{}: {}", refusal.reason.code(), refusal.message);
        let error = match self.wire.ended() {
            Some(text) if refusal.reason == RefusalReason::Closing => text.to_owned(),
            _ => reason.clone(),
        };
        let now = self.shared.now().mono;
        let live = self.live_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let status = self.session.status();
        self.log(&status);
        self.entry.show(status, true);
        let Self { shared, entry, wire, .. } = self;
        let clock = shared.runtime.clock().as_ref();
        let hurried = || shared.is_closing() || entry.is_superseded();
        let wait = if entry.is_superseded() { Duration::ZERO } else { CLOSE_WAIT };
        wire.close(&reason, wait, &entry.mail.alarm, clock, &hurried);
        LinkOutcome { ended: Ended::from(refusal.reason), live, error }
    }
}

const fn is_read(task: &Task) -> bool {
    matches!(
        task,
        Task::ReadPage { .. }
            | Task::ReadDelta { .. }
            | Task::ReadTail { .. }
            | Task::ReadBuckets { .. }
            | Task::Digest { .. }
    )
}
