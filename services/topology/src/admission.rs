//! [`Admission`]: who may come in at a node that knows whom it follows itself.
//!
//! Two nodes that each follow the other have nobody who is right. Each of them sees it at the
//! latest when it has both: a peer that follows it, and its own link to the same node.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::message::{Hello, Refusal, ZoneOffer};
use crate::plan::{LinkPlan, LinkPolicy, PeerIdentity};
use crate::topology::Topology;

/// The grants of a [`Topology`], and the nodes at the other ends of this node's links.
#[derive(Debug)]
pub struct Admission {
    topology: Arc<Topology>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By the id of the link.
    followed: HashMap<String, u128>,
    /// What each peer that came in follows.
    followers: HashMap<u128, Vec<ZoneOffer>>,
}

impl Admission {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(topology: Arc<Topology>) -> Self {
        Self { topology, seen: Mutex::default() }
    }

    /// The node at the other end of a link of this node said who it is.
    ///
    /// # Errors
    /// `no_authority` when it follows this node in what this node follows there: end the link.
    pub fn learned(&self, link: &str, node: u128) -> Result<(), Refusal> {
        let mut seen = self.seen.lock();
        seen.followed.insert(link.to_owned(), node);
        let offers = seen.followers.get(&node).cloned().unwrap_or_default();
        drop(seen);
        self.topology.refuse_circles(&offers, node, &|id| (id == link).then_some(node))
    }

    /// A peer that came in is gone.
    pub fn left(&self, node: u128) {
        self.seen.lock().followers.remove(&node);
    }
}

impl LinkPolicy for Admission {
    fn admit(&self, peer: &PeerIdentity, hello: &Hello) -> Result<LinkPlan, Refusal> {
        let follows = |link: &str| self.seen.lock().followed.get(link).copied();
        let plan = self.topology.admit(peer, hello, &follows)?;
        self.seen.lock().followers.insert(hello.node, hello.pull.clone());
        Ok(plan)
    }
}
