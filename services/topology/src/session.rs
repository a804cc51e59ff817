//! [`Session`]: the protocol between two nodes over one link, free of I/O.
//!
//! `step(now, event) -> actions`: whoever drives it sends what it wants sent, in order, does its
//! tasks, and calls again with what came of it, with what was received, and at the deadline. The
//! same calls give the same actions: no clock, no randomness, no threads.
//!
//! Who does tasks where it receives hands in every frame that is there before it hands in what a
//! task came to, and a [`Event::Tick`] last: what waits is then applied together, by one flush, and
//! nobody is taken for dead whose words wait to be heard.
//!
//! Invariants: memory is bounded by the credit and the largest message; nothing is applied that
//! was not asked for; whatever contradicts the protocol ends the link with a typed refusal, and
//! nothing is changed by it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_tree::Scope;

use crate::follower::Follower;
use crate::forward::{ForwardId, ForwardOutcome, ForwardRequest};
use crate::forwards::Forwards;
use crate::message::Refusal;
use crate::parts::Parts;
use crate::plan::{DialPlan, LinkPolicy, PeerIdentity};
use crate::source::Source;
use crate::status::SessionStatus;
use crate::task::{Task, TaskId, TaskOutcome};
use crate::turn::{Tasks, Turn};
use crate::verify::Verifier;

/// Bytes of a first word at most, so that who is nobody yet takes no more.
const FIRST_BYTES_MAX: usize = 4 << 20;

/// The time, as a driver tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Never goes back; any origin.
    pub mono: Duration,
    /// Milliseconds since 1970, for clocks of records only.
    pub wall_ms: u64,
}

/// Which end of the link this is, with what it wants or allows.
#[derive(Debug, Clone)]
pub enum Role {
    /// This node dialed.
    Dialer(Box<DialPlan>),
    /// This node accepted.
    Acceptor(Arc<dyn LinkPolicy>),
}

/// Who this node is and whom it talks to.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// This node's id, which is that of its log.
    pub node: u128,
    /// Its label.
    pub name: String,
    /// Its opening.
    pub epoch: u64,
    /// Drawn when this process began to link up.
    pub life: u64,
    /// Raised with each link that this node makes for the same zones.
    pub attempt: u64,
    /// Its newest commit.
    pub head: u64,
    /// The version of its data's schema; 0: not told.
    pub schema: u64,
    /// The peer, as the transport authenticated it.
    pub peer: PeerIdentity,
    /// Times and bounds.
    pub options: SessionOptions,
}

/// Times and bounds of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Ops of a page, 1 to 5,000.
    pub page_items: u32,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Bytes of a page below which it is not halved after a timeout.
    pub page_bytes_min: u32,
    /// Pages in flight.
    pub pages_in_flight: u32,
    /// Bytes in flight to a follower, pages or commits; one larger commit goes alone.
    pub credit_bytes: usize,
    /// Bytes of commits in one message, about.
    pub batch_bytes: usize,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Silence after which the peer is taken for dead.
    pub dead_after: Duration,
    /// Time without progress, while behind, after which the link is given up.
    pub stalled_after: Duration,
    /// Time without a page after which it is asked for again, half as large.
    pub page_timeout: Duration,
    /// Time for the first words.
    pub handshake: Duration,
    /// How far ahead another node's clock may be.
    pub drift_ms_max: u64,
    /// Time between attempts to apply what could not be.
    pub retry_after: Duration,
    /// Revs that are skipped before the position is written without data; a node wants twice its
    /// `links_max` at least.
    pub skips_unwritten_max: u64,
    /// Times that a peer may open its feed over one link in [`SessionOptions::fills_window`].
    pub fills_max: u32,
    /// The window of that.
    pub fills_window: Duration,
    /// How long the answer to a forwarded write waits for the write to arrive here.
    pub read_your_writes: Duration,
    /// Time after which a source looks again for commits that were not durable.
    pub durable_after: Duration,
    /// How long a source rests after a batch that held all there was, for each commit in it but
    /// the first: the busier the node, the fewer and the larger its batches.
    pub rest_per_commit: Duration,
    /// How long it rests at most.
    pub rest_max: Duration,
    /// Forwarded writes that wait for an answer, in each direction.
    pub forwards_max: usize,
    /// Time between digests while nothing is written; zero: none.
    pub verify_every: Duration,
    /// Bytes of a part of a message.
    pub part_bytes: usize,
    /// Bytes of a message.
    pub message_bytes_max: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            page_items: 200,
            page_bytes: 256 << 10,
            page_bytes_min: 16 << 10,
            pages_in_flight: 32,
            credit_bytes: 1 << 20,
            batch_bytes: 256 << 10,
            heartbeat: Duration::from_secs(5),
            dead_after: Duration::from_secs(15),
            stalled_after: Duration::from_secs(30),
            page_timeout: Duration::from_secs(15),
            handshake: Duration::from_secs(15),
            drift_ms_max: 5 * 60 * 1000,
            retry_after: Duration::from_secs(5),
            skips_unwritten_max: 1000,
            fills_max: 8,
            fills_window: Duration::from_secs(60),
            read_your_writes: Duration::from_secs(2),
            durable_after: Duration::from_millis(20),
            rest_per_commit: Duration::from_millis(1),
            rest_max: Duration::from_millis(10),
            forwards_max: 1024,
            verify_every: Duration::from_secs(60),
            part_bytes: 256 << 10,
            message_bytes_max: 32 << 20,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The link is up; first of all events.
    Connected,
    /// A whole frame arrived, as [`Action::Send`] gave it at the other end.
    Received(Bytes),
    /// A task, or a routed commit, came to this.
    Done(TaskId, TaskOutcome),
    /// This node's newest visible commit.
    Committed(u64),
    /// A write of this node's caller is for the peer.
    Forward(ForwardId, ForwardRequest),
    /// Compare what is followed with the source's, now.
    Verify {
        /// Whether what differs is made as it is at the source.
        repair: bool,
    },
    /// Fill what is followed anew, now.
    Resync,
    /// The deadline has come.
    Tick,
    /// The link is down, or the node closes.
    Closed,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Action {
    /// Send a frame.
    Send {
        /// The frame.
        bytes: Bytes,
        /// Whether it is worth compressing.
        compress: bool,
    },
    /// Do a task and hand its outcome back.
    Do(TaskId, Task),
    /// A peer's write: commit it here or send it further up, without waiting for that, and hand
    /// [`TaskOutcome::Routed`] back.
    Route(TaskId, ForwardRequest),
    /// A write of this node's caller came to this.
    Forwarded(ForwardId, ForwardOutcome),
    /// End the link; the last action. What was sent before still goes out.
    Close(Refusal),
}

/// Where the link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not up.
    New,
    /// The first words are being said.
    Greeting,
    /// Up.
    Up,
    /// Ended.
    Ended,
}

/// The protocol over one link.
///
/// ```
/// use std::time::Duration;
/// use trellis_topology::{
///     Action, DialPlan, Event, Now, PeerIdentity, Role, Session, SessionConfig, SessionOptions,
/// };
///
/// let config = SessionConfig {
///     node: 7,
///     name: "edge-1".into(),
///     epoch: 1,
///     life: 0x5eed,
///     attempt: 1,
///     head: 0,
///     schema: 0,
///     peer: PeerIdentity { name: "hub".into(), roles: Vec::new(), loopback: true },
///     options: SessionOptions::default(),
/// };
/// let mut session = Session::new(Role::Dialer(Box::new(DialPlan::default())), config);
/// let now = Now { mono: Duration::from_secs(1), wall_ms: 1_700_000_000_000 };
/// let actions = session.step(now, Event::Connected);
/// assert!(matches!(actions.as_slice(), [Action::Send { .. }]), "it says hello");
/// assert_eq!(session.deadline(), Some(Duration::from_secs(16)), "and waits 15 s for the answer");
/// ```
#[derive(Debug)]
pub struct Session {
    pub(crate) role: Role,
    pub(crate) config: SessionConfig,
    pub(crate) stage: Stage,
    pub(crate) tasks: Tasks,
    pub(crate) parts: Parts,
    /// Where writes are forwarded, or taken.
    pub(crate) forward_scope: Scope,
    /// What of it no peer's write may touch.
    pub(crate) forward_kept: Vec<Bytes>,
    pub(crate) source: Option<Source>,
    pub(crate) follower: Option<Follower>,
    pub(crate) forwards: Forwards,
    pub(crate) verifier: Verifier,
    /// This node's newest commit.
    pub(crate) head: u64,
    pub(crate) heard_at: Duration,
    pub(crate) beat_at: Duration,
    pub(crate) status: SessionStatus,
}

impl Session {
    /// A session over a link that is not up yet.
    #[must_use]
    pub fn new(role: Role, config: SessionConfig) -> Self {
        Self {
            role,
            stage: Stage::New,
            tasks: Tasks::default(),
            parts: Parts::new(FIRST_BYTES_MAX.min(config.options.message_bytes_max)),
            forward_scope: Scope::default(),
            forward_kept: Vec::new(),
            source: None,
            follower: None,
            forwards: Forwards::default(),
            verifier: Verifier::default(),
            head: config.head,
            heard_at: Duration::ZERO,
            beat_at: Duration::ZERO,
            status: SessionStatus::default(),
            config,
        }
    }

    /// Takes an event; answers what is to be done about it. After [`Action::Close`] there is
    /// nothing more to be done.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let options = self.config.options.clone();
        let mut tasks = std::mem::take(&mut self.tasks);
        let mut turn =
            Turn { now, options: &options, tasks: &mut tasks, actions: Vec::new(), bytes: 0 };
        if let Err(refusal) = self.take(event, &mut turn) {
            self.end(refusal, true, &mut turn);
        }
        let Turn { actions, bytes, .. } = turn;
        self.tasks = tasks;
        if let Some(source) = &mut self.source {
            source.status.bytes += bytes;
        }
        actions
    }
}
