//! What two nodes do for each other over one link: what is pulled, what is pushed.
//!
//! At most one feed flows in each direction: a commit that touches several zones stays whole. The
//! plan of the node that dials is known beforehand; that of the node that accepts comes from what
//! the other offers and from what that peer is granted ([`LinkPolicy::admit`]).

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_tree::Scope;

use crate::message::{Hello, Refusal, ZoneOffer};

/// Zones that a node names over one link at most, in each list.
pub(crate) const ZONES_MAX: usize = 4_096;

/// What a snapshot does with what is here already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FillRule {
    /// The source is right: what it does not have goes.
    Replace,
    /// Both are: what only this node has stays, unless the source knew it and removed it.
    Merge,
}

/// A prefix that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullPart {
    /// Its key at the source.
    pub prefix: Bytes,
    /// What a snapshot does with what is here.
    pub fill: FillRule,
}

/// What a node follows of its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullPlan {
    /// The feed: names the position (`_repl/feeds/<feed>`) and, with this node's id, the slot at
    /// the source. 1 to 64 letters, digits, `-` and `_`; stays the same across restarts.
    pub feed: String,
    /// Prefixes, in the order of their keys. One may lie below another where an exception lies
    /// between them.
    pub parts: Vec<PullPart>,
    /// Keys of prefixes below them that this node holds otherwise.
    pub except: Vec<Bytes>,
    /// The key under which all of it is kept here; empty: where it is at the source.
    pub local_prefix: Bytes,
    /// What the plan means for the data: another one than that of the stored position has the
    /// prefixes filled anew.
    pub fingerprint: u64,
}

/// What a node may send to its peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushPlan {
    /// Prefixes that the peer may follow, without those that it may not.
    pub scope: Scope,
}

/// What the two nodes of a link do for each other, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkPlan {
    /// What this node follows of the peer.
    pub pull: Option<PullPlan>,
    /// What this node sends to the peer when asked.
    pub push: Option<PushPlan>,
    /// Where writes of this node's callers are forwarded to the peer (dialing) or the peer's are
    /// accepted (accepting); every path of such a commit must lie in it.
    pub forward: Scope,
    /// Keys of prefixes in `forward` that this node keeps for itself: no write of the peer's may
    /// touch them, nor what is above them as a whole (accepting).
    pub kept: Vec<Bytes>,
}

/// A dialing node's plan, with what it says of it in its hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialPlan {
    /// The plan.
    pub link: LinkPlan,
    /// Zones that it pulls, or pulls and pushes; and those below that it holds for itself.
    pub pull: Vec<ZoneOffer>,
    /// Zones that it pushes only.
    pub push: Vec<ZoneOffer>,
}

/// Decides what a peer that dials in gets and gives. Answers from memory, at once.
pub trait LinkPolicy: Send + Sync + fmt::Debug {
    /// The plan for a peer, or why there is none: `dual_authority`, `no_authority`,
    /// `push_not_accepted`, `duplicate_node` (it is connected already), `denied`, `busy`.
    ///
    /// # Errors
    /// The refusal, which is sent to the peer.
    fn admit(&self, peer: &PeerIdentity, hello: &Hello) -> Result<LinkPlan, Refusal>;
}

/// Who is at the other end, as far as the transport authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerIdentity {
    /// The name that belongs to its credentials, or its address.
    pub name: String,
    /// The roles of its credentials.
    pub roles: Vec<String>,
    /// Whether it is on this machine.
    pub loopback: bool,
}

impl PeerIdentity {
    /// To whom its slots belong: the role by which it came in, so that they are still its own when
    /// its address is another one; else its name.
    pub(crate) fn owner(&self) -> String {
        match self.roles.first() {
            Some(role) => format!("role {role}"),
            None => self.name.clone(),
        }
    }
}

impl PullPlan {
    /// The prefixes and what is left out of them, in keys of the source.
    #[must_use]
    pub fn source_scope(&self) -> Scope {
        let within = self.parts.iter().map(|part| part.prefix.clone()).collect();
        Scope { within, except: self.except.clone() }
    }

    /// The key here of a key at the source.
    #[must_use]
    pub fn local_key(&self, key: &Bytes) -> Bytes {
        prefixed(&self.local_prefix, key)
    }

    /// The key at the source of a key here; `None` when it is outside of the local prefix.
    #[must_use]
    pub fn source_key(&self, key: &Bytes) -> Option<Bytes> {
        if self.local_prefix.is_empty() {
            return Some(key.clone());
        }
        let rest = key.strip_prefix(self.local_prefix.as_ref())?;
        match rest.first() {
            None => Some(Bytes::new()),
            Some(0) => Some(key.slice(self.local_prefix.len() + 1..)),
            Some(_) => None,
        }
    }

    /// The same scope in keys of this node.
    #[must_use]
    pub fn local_scope(&self, scope: &Scope) -> Scope {
        let local = |keys: &[Bytes]| keys.iter().map(|key| self.local_key(key)).collect();
        Scope { within: local(&scope.within), except: local(&scope.except) }
    }
}

/// A key behind a prefix.
fn prefixed(prefix: &Bytes, key: &Bytes) -> Bytes {
    match (prefix.is_empty(), key.is_empty()) {
        (true, _) => key.clone(),
        (_, true) => prefix.clone(),
        _ => [prefix, &[0][..], key].concat().into(),
    }
}
