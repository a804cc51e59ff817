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

use crate::event::{Action, Event, Now};
use crate::follower::Follower;
use crate::forwards::Forwards;
use crate::parts::Parts;
use crate::plan::{DialPlan, LinkPolicy};
use crate::session_options::SessionConfig;
use crate::source::Source;
use crate::status::SessionStatus;
use crate::turn::{Tasks, Turn};
use crate::verify::Verifier;

/// Bytes of a first word at most, so that who is nobody yet takes no more.
const FIRST_BYTES_MAX: usize = 4 << 20;

/// Which end of the link this is, with what it wants or allows.
#[derive(Debug, Clone)]
pub enum Role {
    /// This node dialed.
    Dialer(Box<DialPlan>),
    /// This node accepted.
    Acceptor(Arc<dyn LinkPolicy>),
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
