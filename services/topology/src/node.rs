//! [`Node`]: drives sessions over links, and is the door through which a tree's writes pass.
//!
//! One thread a link: it polls the link, steps the session and does the session's tasks itself, so
//! that what is slow slows its own peer only. Start-up waits for nobody.
//!
//! Deliberately absent: transports, and what an operator writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, LinkToken, Replicator, Result};
use trellis_runtime::Runtime;
use trellis_tree::{Path, ReplicationStats, Tree};

use crate::{
    SessionOptions, SessionStatus, SlotEnd, SlotOptions, SlotStatus, Topology, ZoneStatus,
};

/// Times, bounds and names of a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// What the node is called; its id is its log's.
    pub name: String,
    /// What each link is dialed with, by [`Dial::id`](crate::Dial).
    pub tokens: BTreeMap<String, LinkToken>,
    /// Of each link.
    pub session: SessionOptions,
    /// Of the followers.
    pub slots: SlotOptions,
    /// Links at most, those that peers made.
    pub links_max: usize,
    /// How long a forwarded write waits for its answer.
    pub forward_wait: Duration,
}

/// Where a link stands.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// [`Dial::id`](crate::Dial) of a link that this node makes; else the peer's name or address.
    pub id: String,
    /// Where the peer is.
    pub address: String,
    /// Whether this node makes it.
    pub dialed: bool,
    /// Attempts so far.
    pub attempts: u64,
    /// Why it ended the last time, or could not be made.
    pub last_error: Option<String>,
    /// When it is tried again.
    pub next_attempt_in: Option<Duration>,
    /// The session, the last one while there is none.
    pub session: SessionStatus,
}

/// Where a node stands: for people, metrics and readiness.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// 32 hexadecimal digits.
    pub node: String,
    /// What it is called.
    pub name: String,
    /// Its newest commit.
    pub head: u64,
    /// What holds where.
    pub zones: Vec<ZoneStatus>,
    /// Links that this node makes, then those that peers made.
    pub links: Vec<LinkStatus>,
    /// The followers, connected or not.
    pub slots: Vec<SlotStatus>,
    /// Slots given up, by reason.
    pub slots_ended: BTreeMap<SlotEnd, u64>,
    /// What is kept for followers.
    pub stats: ReplicationStats,
    /// The time on the node's clock, that of `level_at`.
    pub now: Duration,
}

/// A prefix that is not what its upstream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The prefix.
    pub path: Path,
    /// Why: not complete yet, not connected, behind.
    pub reason: String,
}

/// A node of a topology. Dropping it ends its links.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Sets the tree's gate, begins to dial and to accept. The tree was opened with
    /// [`Topology::zoning`].
    ///
    /// # Errors
    /// `AlreadyExists` when the tree has a gate; those of reading the slots.
    pub fn start(
        tree: &Tree,
        topology: Arc<Topology>,
        replicator: Arc<dyn Replicator>,
        runtime: &Arc<Runtime>,
        options: NodeOptions,
    ) -> Result<Self> {
        let _parts = (tree, topology, replicator, runtime, options);
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Where it stands.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn status(&self) -> Result<NodeStatus> {
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Prefixes at or around a path that are not ready; all of them for the root.
    #[must_use]
    pub fn not_ready(&self, path: &Path) -> Vec<NotReady> {
        let _path = path;
        Vec::new()
    }

    /// Compares what is followed over a link with its source, and repairs what differs; the outcome
    /// is in the status (`verified`, `diverged`, `repaired`). All links that this node makes
    /// without an id.
    ///
    /// # Errors
    /// `NotFound` for no such link, `Unavailable` while it is down.
    pub fn verify(&self, link: Option<&str>) -> Result<()> {
        let _link = link;
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Fills what is followed over a link anew.
    ///
    /// # Errors
    /// As for [`Node::verify`].
    pub fn resync(&self, link: &str) -> Result<()> {
        let _link = link;
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Forgets a follower; whether there was one. If it comes back it is filled anew or by what
    /// changed.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn drop_slot(&self, consumer: &str) -> Result<bool> {
        let _consumer = consumer;
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Ends the links, writes where the followers are, and returns. Idempotent.
    pub fn close(&self) {}
}
