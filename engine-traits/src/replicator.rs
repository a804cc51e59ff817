//! [`Replicator`]: moves frames between nodes. Decides nothing about conflicts.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Persistence, Result};

/// Names a directed route between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub String);

/// A place in a node's history. Two nodes that agree on all three agree on everything before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The history: 128 random bits, new for a new or restored store.
    pub log_id: u128,
    /// The commit.
    pub rev: u64,
    /// The hash that chains this commit to all before it.
    pub hash: u128,
}

/// Whole commits on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The place of the last commit in the frame.
    pub position: Position,
    /// Encoded commits.
    pub body: Bytes,
}

/// How far a peer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPosition {
    /// The peer's name.
    pub peer: String,
    /// What it has made durable.
    pub acknowledged: Option<Position>,
}

/// One page of a snapshot of live data, in path order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Encoded leaves.
    pub body: Bytes,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Bytes>,
}

/// The largest inputs a replicator accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplLimits {
    /// Bytes of a frame's or a page's body.
    pub frame_bytes_max: usize,
}

/// What a replicator says of itself; constant while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplProfile {
    /// The stem of the crate, the feature and the URL scheme: `ws`.
    pub name: &'static str,
    /// The largest inputs.
    pub limits: ReplLimits,
    /// Where frames wait for a peer.
    pub persistence: Persistence,
}

/// Moves frames between nodes: in order per route, at least once.
///
/// # Contract
/// - `repl.publish.order`: frames of a route arrive in the order of publication, each at least
///   once.
/// - `repl.follow.from`: a follower sees every frame after its position, or `NotFound` if they are
///   gone, never a gap.
/// - `repl.positions.durable`: reports only what a peer has acknowledged as durable.
/// - `repl.snapshot.resume`: a snapshot can be resumed from any page it handed out.
/// - `repl.close.idempotent`: closing twice is fine; every other call then answers `Closed`.
#[async_trait]
pub trait Replicator: fmt::Debug + Send + Sync + 'static {
    /// What the replicator says of itself.
    fn profile(&self) -> &ReplProfile;

    /// Hands frames to the followers of a route.
    ///
    /// # Errors
    /// `TooLarge`, `Unavailable`, `Closed`.
    async fn publish(&self, route: &RouteId, frames: &[Frame]) -> Result<()>;

    /// Follows a route from a position; `None` from its beginning.
    ///
    /// # Errors
    /// `NotFound` when frames after `from` are gone; `Denied`, `Unavailable`, `Closed`.
    async fn follow(&self, route: &RouteId, from: Option<Position>)
    -> Result<Box<dyn FrameStream>>;

    /// How far each follower of a route has come.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn positions(&self, route: &RouteId) -> Result<Vec<PeerPosition>>;

    /// One page of the live data behind a route; `page` is where it begins, `None` for the first.
    ///
    /// # Errors
    /// `NotFound` when the snapshot is gone; `Denied`, `Unavailable`, `Closed`.
    async fn snapshot(&self, route: &RouteId, page: Option<Bytes>) -> Result<SnapshotPage>;

    /// Ends every route. Idempotent.
    ///
    /// # Errors
    /// `Unavailable`; the replicator is closed all the same.
    async fn close(&self) -> Result<()>;
}

/// Frames as they arrive.
#[async_trait]
pub trait FrameStream: fmt::Debug + Send {
    /// The next frame; waits for it. `None` when the route has ended.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    async fn next(&mut self) -> Result<Option<Frame>>;

    /// Says that everything up to `position` is durable here.
    ///
    /// # Errors
    /// `InvalidInput` beyond what was received; `Unavailable`.
    async fn acknowledge(&mut self, position: Position) -> Result<()>;
}
