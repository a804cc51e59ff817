//! [`PeerDoor`]: how a server that has upgraded a connection hands it to a replicator.
//!
//! The server knows HTTP and who may come in, the replicator what the frames mean; neither names
//! the other. Poll functions and not futures, because both directions of one socket are driven by
//! one task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::replicator::Peer;

/// What goes through a [`FrameSocket`], either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// A binary frame.
    Frame(Bytes),
    /// The end, in order, with this reason. Nothing comes after it.
    Closed(String),
}

/// Why a [`FrameSocket`] is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketFault {
    /// The connection is gone.
    Gone,
    /// The peer sent a frame beyond the socket's limit.
    TooLarge,
    /// The peer sent a frame that is not binary.
    NotBinary,
    /// The peer sent what is no frame.
    Malformed,
}

impl fmt::Display for SocketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the connection is gone",
            Self::TooLarge => "the peer sent a frame beyond the limit",
            Self::NotBinary => "the peer sent a text frame; links carry binary ones",
            Self::Malformed => "the peer sent what is no WebSocket frame",
        })
    }
}

impl std::error::Error for SocketFault {}

/// What a poll of a [`FrameSocket`] comes to.
pub type SocketPoll<T> = Poll<std::result::Result<T, SocketFault>>;

/// A connection that carries binary frames, as a WebSocket does after its upgrade.
///
/// After a fault nothing but dropping it makes sense.
pub trait FrameSocket: fmt::Debug + Send {
    /// What comes next.
    fn poll_next(&mut self, context: &mut Context<'_>) -> SocketPoll<SocketEvent>;

    /// Ready once something can be given to [`FrameSocket::start_send`].
    fn poll_ready(&mut self, context: &mut Context<'_>) -> SocketPoll<()>;

    /// Takes a frame or the last word, after `poll_ready` said so. It need not be written before
    /// the next flush.
    ///
    /// # Errors
    /// Any fault.
    fn start_send(&mut self, event: SocketEvent) -> std::result::Result<(), SocketFault>;

    /// Ready once everything that was taken is written.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> SocketPoll<()>;
}

/// Serves one connection; done when it has ended.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The accepting side of a replicator that does not listen by itself.
pub trait PeerDoor: fmt::Debug + Send + Sync + 'static {
    /// Bytes of the largest frame that the door takes; the server sets its codec to it.
    fn frame_bytes_max(&self) -> usize;

    /// Makes a link of an upgraded connection and hands it to whoever waits in
    /// [`Replicator::accept`](crate::Replicator::accept). The caller drives the future for as long
    /// as the connection is to live; dropping it ends the link. A closed replicator, or one with
    /// too many links that nobody accepted, closes the connection with a reason.
    fn enter(&self, peer: Peer, socket: Box<dyn FrameSocket>) -> Serving;

    /// Closes every link that came in by the door, for this reason, as a server does that stops.
    /// The door stays open.
    fn dismiss(&self, reason: &str);
}
