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

use crate::{Peer, Result};

/// What comes out of a [`FrameSocket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// A binary frame.
    Frame(Bytes),
    /// The peer closed in order, with this reason. Nothing comes after it.
    Closed(String),
}

/// A connection that carries binary frames, as a WebSocket does after its upgrade.
///
/// After an error nothing but dropping it makes sense.
pub trait FrameSocket: fmt::Debug + Send {
    /// What comes next.
    ///
    /// # Errors
    /// `Unavailable` when the connection is gone; `InvalidInput` for a frame that is not binary;
    /// `TooLarge` beyond the socket's own limit.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<SocketEvent>>;

    /// Ready once a frame can be given to [`FrameSocket::start_send`].
    ///
    /// # Errors
    /// `Unavailable`.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>>;

    /// Takes a frame, after `poll_ready` said so. It need not be written before the next flush.
    ///
    /// # Errors
    /// `Unavailable`, `TooLarge`.
    fn start_send(&mut self, frame: Bytes) -> Result<()>;

    /// Ready once everything that was taken is written.
    ///
    /// # Errors
    /// `Unavailable`.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<()>>;

    /// Writes what was taken, then says goodbye with a reason. Ready once that is done; call it
    /// with the same reason until then.
    ///
    /// # Errors
    /// `Unavailable`.
    fn poll_close(&mut self, reason: &str, context: &mut Context<'_>) -> Poll<Result<()>>;
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
