//! What a session is told, and what it wants done.

use std::time::Duration;

use bytes::Bytes;

use crate::forward::{ForwardId, ForwardOutcome, ForwardRequest};
use crate::message::Refusal;
use crate::task::{Task, TaskId, TaskOutcome};

/// The time, as a driver tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Never goes back; any origin.
    pub mono: Duration,
    /// Milliseconds since 1970, for clocks of records only.
    pub wall_ms: u64,
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
