//! [`Replicator`]: links between nodes, over which messages travel. Decides nothing about them.
//!
//! A link carries messages, not positions: how far a follower has come is known only where its
//! data is, because both are written by the same commit. A transport that kept positions too would
//! keep a second truth, which a crash makes wrong.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// The secret that tells an accepting node who dials. Its text is never shown by `Debug`.
///
/// ```
/// let token = trellis_engine_traits::LinkToken::new("a long secret");
/// assert_eq!(format!("{token:?}"), "LinkToken(..)");
/// assert_eq!(token.reveal(), "a long secret");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LinkToken(String);

impl LinkToken {
    /// Keeps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the transport alone; not for messages or logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkToken(..)")
    }
}

/// Where a peer is, and what to tell it about oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// The address: `ws://central:4400/db`, `loopback:hub`.
    pub url: String,
    /// What proves to the peer who dials; `None` where it asks for nothing.
    pub token: Option<LinkToken>,
}

/// Who is at the other end, as far as the transport knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The name that belongs to the token it showed; `None` when it showed none, and for the node
    /// that was dialed.
    pub name: Option<String>,
    /// The role that belongs to the token it showed.
    pub role: Option<String>,
    /// Whether it is on this machine.
    pub is_local: bool,
    /// Where it is, for people: an address or a URL, without secrets.
    pub address: String,
}

/// One message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkMessage {
    /// What is carried, whole and unchanged.
    pub body: Bytes,
    /// Whether it is worth compressing; the receiver gets the same bytes either way.
    pub compress: bool,
}

/// Why a link is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEnd {
    /// Who ended it.
    pub by: EndedBy,
    /// What was said, or what broke; at most 120 bytes, for people and for codes.
    pub reason: String,
}

/// Who ended a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// This side called [`PeerLink::close`].
    Here,
    /// The other side did.
    Peer,
    /// Neither: the connection broke, or what came over it was no message.
    Transport,
}

/// The largest inputs a replicator accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// Bytes of a message's body, before compression and after.
    pub message_bytes_max: usize,
    /// Bytes of messages that one direction of a link holds while the peer takes none; it may
    /// exceed this by one message.
    pub buffered_bytes_max: usize,
    /// Bytes of the reason of a close; the rest is cut off.
    pub reason_bytes_max: usize,
}

/// What a replicator says of itself; constant while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplProfile {
    /// The stem of the crate, the feature and the URL scheme: `ws`.
    pub name: &'static str,
    /// The largest inputs.
    pub limits: LinkLimits,
}

/// Makes links to other nodes, and takes theirs.
///
/// Every future here may be polled by any executor, and may be dropped at any time: a dropped
/// `connect` leaves no link, a dropped `accept` takes none.
///
/// # Contract
/// - `repl.connect.refused`: who is not there, or does not speak this, is `Unavailable`,
///   `Unsupported` or `InvalidInput`, never a link that carries nothing.
/// - `repl.connect.denied`: a wrong or missing token is `Denied`, and the other side accepts no
///   link; the token is in no error and no `Debug`.
/// - `repl.connect.apart`: links know nothing of each other: one that is full, slow or gone holds
///   no other up.
/// - `repl.close.idempotent`: closing ends every link, on both sides; closing twice is fine; every
///   other call then answers `Closed`, those that wait too.
#[async_trait]
pub trait Replicator: fmt::Debug + Send + Sync + 'static {
    /// What the replicator says of itself.
    fn profile(&self) -> &ReplProfile;

    /// Dials a peer; done when the peer has accepted the token. Bounded in time by the transport.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that is none; `Unsupported` for a scheme or a peer that does not
    /// speak this; `Denied` for the token; `Busy` when the peer takes no more links; `Unavailable`
    /// when it cannot be reached; `Closed`.
    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>>;

    /// The next link that a peer has dialed; waits for one.
    ///
    /// # Errors
    /// `Closed`, also while it waits; `Unsupported` where nobody can dial.
    async fn accept(&self) -> Result<Box<dyn PeerLink>>;

    /// Ends every link and takes no more. Idempotent.
    ///
    /// # Errors
    /// `Unavailable`; the replicator is closed all the same.
    async fn close(&self) -> Result<()>;
}

/// A connection to one peer: whole messages, in order, both ways, at most once each.
///
/// Every future here may be polled by any executor, `send` and `next` at the same time. Dropping
/// a link ends it without a reason.
///
/// # Contract
/// - `repl.link.order`: messages arrive in the order in which `send` took them, none twice, and
///   none without all before it.
/// - `repl.link.whole`: a message arrives with exactly its bytes, whatever its size up to the
///   limit, compressed or not.
/// - `repl.link.duplex`: both directions go on side by side; one that nobody reads does not hold
///   up the other.
/// - `repl.link.bounded`: `send` waits while the peer takes nothing; what is held meanwhile stays
///   within `buffered_bytes_max` and a message, on each side.
/// - `repl.link.too_large`: a body beyond `message_bytes_max` is `TooLarge` and the link goes on;
///   a peer that sends one all the same ends it.
/// - `repl.link.hostile`: whatever bytes come in, memory stays within the limits; what is no
///   message ends the link with `Corrupt` or `TooLarge`.
/// - `repl.link.cancel`: a dropped `next` loses no message, a dropped `send` has sent all or
///   nothing.
/// - `repl.link.end`: when the connection is gone, `next` and every `send` that waits end with
///   `Unavailable`, on each side that can notice; what had arrived before is still handed out.
/// - `repl.link.close`: what `send` took before `close` arrives if the peer reads it; then the
///   peer's `next` answers `None`, and its `end` gives the reason. Closing twice is fine; after
///   it `send` and `next` answer `Closed`, those that wait too.
#[async_trait]
pub trait PeerLink: fmt::Debug + Send + Sync + 'static {
    /// Who is at the other end.
    fn peer(&self) -> &Peer;

    /// Hands a message over; done when it is on its way, which says nothing of its arrival. Waits
    /// while the link is full.
    ///
    /// # Errors
    /// `TooLarge`, and the link goes on; `Unavailable` once it has ended; `Closed` after
    /// [`PeerLink::close`].
    async fn send(&self, message: LinkMessage) -> Result<()>;

    /// The next message; waits for it. `None` once the peer has closed the link; every later call
    /// gives the same last answer. One caller at a time.
    ///
    /// # Errors
    /// `Unavailable` when the connection is gone; `Corrupt` or `TooLarge` for what is no message,
    /// which ends the link; `Closed` after [`PeerLink::close`].
    async fn next(&self) -> Result<Option<Bytes>>;

    /// Ends the link, for a reason that the peer is told. Returns when what was sent is on its
    /// way, or after a bounded time. Idempotent: the first reason stays.
    ///
    /// # Errors
    /// `Unavailable` when the peer could not be told; the link is closed all the same.
    async fn close(&self, reason: &str) -> Result<()>;

    /// Why the link ended; `None` while it has not, as far as is known here.
    fn end(&self) -> Option<LinkEnd>;
}
