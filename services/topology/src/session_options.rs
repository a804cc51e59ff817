//! Bounds, times and names of a session.

use std::time::Duration;

use crate::plan::PeerIdentity;

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
    /// `links_max` at least; 65,536 at most.
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

/// Bytes that may wait before the next message is one too many: the two ends need not have the same
/// options.
pub(crate) fn tolerated(options: &SessionOptions) -> usize {
    CREDIT_BYTES_LEAST.max(4 * options.credit_bytes)
}

/// Credit that a source may take at least, whatever this node's options are.
const CREDIT_BYTES_LEAST: usize = 8 << 20;
