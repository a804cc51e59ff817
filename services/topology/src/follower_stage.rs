//! Where a follower stands: how its feed is opened, filled by pages, and told commit by commit.

use std::collections::VecDeque;
use std::time::Duration;

use trellis_tree::RemoteCommit;

use crate::message::{Batch, LogPosition, OpenAt, Opened, Page};
use crate::position::{FeedPosition, FillPosition};

/// Where a follower stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its position is being read.
    Loading,
    /// The source is asked how to get on.
    Opening(Option<OpenAt>),
    /// Before pages: what is found out or set aside first.
    Preparing {
        /// What is left to be done.
        left: u8,
        /// What the source knew of this node's log.
        known_rev: u64,
        opened: Opened,
    },
    /// Pages come.
    Filling(Fill),
    /// Commits come.
    Tailing,
    /// What is under way is applied first; then it opens again.
    Reopening {
        /// From nothing.
        anew: bool,
    },
}

/// A batch that waits to be applied, with its bytes.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) batch: Batch,
    pub(crate) bytes: usize,
}

/// What is being applied.
#[derive(Debug)]
pub(crate) struct Applying {
    /// The commits, kept for another attempt.
    pub(crate) commits: Vec<RemoteCommit>,
    /// The position afterwards.
    pub(crate) after: FeedPosition,
    /// What of it is written.
    pub(crate) durable: LogPosition,
    /// Pages in it.
    pub(crate) pages: u64,
    /// When its last commit was made.
    pub(crate) at_ms: u64,
    /// When it is to be tried again; it is under way otherwise.
    pub(crate) again_at: Option<Duration>,
}

/// Pages on their way.
#[derive(Debug)]
pub(crate) struct Fill {
    /// Of the request that they answer.
    pub(crate) number: u64,
    /// Where the next page begins.
    pub(crate) expected: FillPosition,
    /// The last one came.
    pub(crate) ended: bool,
    pub(crate) queue: VecDeque<Page>,
    pub(crate) queue_bytes: usize,
    /// Pages of the request that are applied.
    pub(crate) acked: u64,
    pub(crate) items: u32,
    pub(crate) bytes: u32,
    /// Since when a page is waited for.
    pub(crate) waiting_since: Duration,
    pub(crate) began: Duration,
    pub(crate) pin: LogPosition,
}
