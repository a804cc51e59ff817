//! Where a session stands, for people, metrics and readiness.

use std::time::Duration;

use crate::message::{OpenMode, RefusalReason};

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Not up, or the first words are not said.
    #[default]
    Connecting,
    /// Up.
    Up,
    /// Ended.
    Ended,
}

/// Where a feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FeedState {
    /// Not opened yet.
    #[default]
    Connecting,
    /// Everything comes, by pages.
    Snapshot,
    /// What changed comes, by pages.
    Delta,
    /// Commits come as they are made.
    Tail,
    /// Behind, and nothing comes.
    Stalled,
    /// What came cannot be applied at the moment.
    Paused,
    /// What came is from the future.
    ClockQuarantine,
}

impl FeedState {
    /// Its name in status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
            Self::Tail => "tail",
            Self::Stalled => "stalled",
            Self::Paused => "paused",
            Self::ClockQuarantine => "clock_quarantine",
        }
    }
}

/// Where a session stands. Counters count since it began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionStatus {
    /// The link.
    pub link: LinkState,
    /// The peer's node id and label, once it said them.
    pub peer: Option<(u128, String)>,
    /// The peer's newest commit, as it said last.
    pub peer_head: u64,
    /// How far the peer's wall clock is ahead, in milliseconds.
    pub peer_ahead_ms: i64,
    /// What this node follows.
    pub pull: Option<PullStatus>,
    /// What the peer follows.
    pub push: Option<PushStatus>,
    /// Forwarded writes.
    pub forwards: ForwardStatus,
    /// Why it ended.
    pub ended: Option<(RefusalReason, String)>,
}

/// Where a feed that this node follows stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullStatus {
    /// The feed.
    pub feed: String,
    /// Where it stands.
    pub state: FeedState,
    /// How it was opened.
    pub opened: Option<OpenMode>,
    /// The commit of the source up to which everything is applied.
    pub position: u64,
    /// The source's newest commit, as it said last.
    pub head: u64,
    /// Whether everything that was there when the last snapshot ended has arrived.
    pub complete: bool,
    /// The time on the source's clock of the last commit applied, in milliseconds since 1970.
    pub applied_at_ms: u64,
    /// When it was last level with the source, on the clock of [`crate::Now::mono`].
    pub level_at: Option<Duration>,
    /// Pages applied.
    pub pages: u64,
    /// Bytes of pages.
    pub page_bytes: u64,
    /// How long the last snapshot or delta took, to the end of its pages.
    pub fill_took: Option<Duration>,
    /// Commits applied.
    pub commits: u64,
    /// Ops that changed something.
    pub applied: u64,
    /// Ops that were here already.
    pub known: u64,
    /// Ops that lost against a higher version here.
    pub lost: u64,
    /// Ops that won against another node's value here.
    pub won: u64,
    /// Ops outside of the scope.
    pub clipped: u64,
    /// Commits of this node that came back.
    pub echoes: u64,
    /// Pages asked for again.
    pub page_timeouts: u64,
    /// Records whose clock is too far ahead.
    pub hlc_rejected: u64,
    /// Leaves set aside.
    pub set_aside: u64,
    /// Digests compared.
    pub verified: u64,
    /// Leaves that differed from the source, at the same commit.
    pub diverged: u64,
    /// Leaves repaired.
    pub repaired: u64,
    /// Why it is paused.
    pub paused: Option<String>,
}

/// Where a feed that the peer follows stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushStatus {
    /// The slot.
    pub slot: String,
    /// Where it stands.
    pub state: FeedState,
    /// The last commit sent.
    pub sent: u64,
    /// The last commit that the peer has durably.
    pub acknowledged: u64,
    /// Bytes in flight.
    pub in_flight: usize,
    /// Pages sent.
    pub pages: u64,
    /// Commits sent.
    pub commits: u64,
    /// Bytes sent, of everything.
    pub bytes: u64,
    /// Commits not sent because the peer wrote or relayed them.
    pub echoes: u64,
}

/// Forwarded writes by result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForwardStatus {
    /// That wait for an answer.
    pub waiting: usize,
    /// Committed.
    pub committed: u64,
    /// Refused by the node that owns the paths.
    pub refused: u64,
    /// Not sent.
    pub unavailable: u64,
    /// Sent, and no answer came in time.
    pub unknown: u64,
    /// Of the peer, that were routed.
    pub routed: u64,
    /// Of the peer, that came too late or passed too many nodes.
    pub dropped: u64,
}
