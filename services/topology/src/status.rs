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
    /// The source fills others first.
    Queued,
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
    /// Whether what is followed comes, or will in its turn.
    const fn is_live(self) -> bool {
        !matches!(self, Self::Connecting | Self::Stalled)
    }

    /// Its name in status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Queued => "queued",
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
            Self::Tail => "tail",
            Self::Stalled => "stalled",
            Self::Paused => "paused",
            Self::ClockQuarantine => "clock_quarantine",
        }
    }
}

/// Where a session stands. Counters count since it began; those of a link since its node started.
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
    /// How many wait before it, while the source fills others.
    pub queued_behind: Option<u32>,
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
    /// Comparisons that were asked for and came to an end.
    pub answered: u64,
    /// Comparisons that found no difference.
    pub verified: u64,
    /// Leaves that differed in the last one, at the same commit.
    pub differing: u64,
    /// Leaves that were found to differ, in all of them.
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

impl SessionStatus {
    /// Whether the link is up and what it is for has begun, in both directions.
    pub(crate) fn is_live(&self) -> bool {
        let pulled = self.pull.as_ref().is_none_or(|pull| pull.state.is_live());
        let pushed = self.push.as_ref().is_none_or(|push| push.state.is_live());
        self.link == LinkState::Up && pulled && pushed
    }

    /// Counts on from what earlier sessions of the same link counted. Until something is known of
    /// its feeds, they stand where they stood.
    pub(crate) fn add_earlier(&mut self, earlier: &Self) {
        match (&mut self.pull, &earlier.pull) {
            (Some(now), Some(then)) => {
                now.add_counts(then);
                now.level_at = now.level_at.max(then.level_at);
            }
            (None, Some(then)) => {
                let (state, paused, queued_behind) = (FeedState::Connecting, None, None);
                self.pull = Some(PullStatus { state, paused, queued_behind, ..then.clone() });
            }
            (_, None) => {}
        }
        match (&mut self.push, &earlier.push) {
            (Some(now), Some(then)) => now.add_counts(then),
            (None, Some(then)) => {
                let state = FeedState::Connecting;
                self.push = Some(PushStatus { state, in_flight: 0, ..then.clone() });
            }
            (_, None) => {}
        }
        self.forwards.add_counts(&earlier.forwards);
    }

    /// Adds what another session counted, and nothing else of it.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        if let Some(other) = &other.pull {
            self.pull.get_or_insert_default().add_counts(other);
        }
        if let Some(other) = &other.push {
            self.push.get_or_insert_default().add_counts(other);
        }
        self.forwards.add_counts(&other.forwards);
    }
}

impl PullStatus {
    fn add_counts(&mut self, other: &Self) {
        self.pages += other.pages;
        self.page_bytes += other.page_bytes;
        self.commits += other.commits;
        self.applied += other.applied;
        self.known += other.known;
        self.lost += other.lost;
        self.won += other.won;
        self.clipped += other.clipped;
        self.echoes += other.echoes;
        self.page_timeouts += other.page_timeouts;
        self.hlc_rejected += other.hlc_rejected;
        self.set_aside += other.set_aside;
        self.answered += other.answered;
        self.verified += other.verified;
        self.diverged += other.diverged;
        self.repaired += other.repaired;
    }
}

impl PushStatus {
    fn add_counts(&mut self, other: &Self) {
        self.pages += other.pages;
        self.commits += other.commits;
        self.bytes += other.bytes;
        self.echoes += other.echoes;
    }
}

impl ForwardStatus {
    fn add_counts(&mut self, other: &Self) {
        self.committed += other.committed;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.unknown += other.unknown;
        self.routed += other.routed;
        self.dropped += other.dropped;
    }
}

/// Where a link stands.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// [`Dial::id`](crate::Dial) of a link that this node makes; else the peer's name or address.
    pub id: String,
    /// Where the peer is.
    pub address: String,
    /// Whether this node makes it.
    pub dialed: bool,
    /// Attempts so far.
    pub attempts: u64,
    /// Why it ended the last time, or could not be made.
    pub last_error: Option<String>,
    /// When it is tried again.
    pub next_attempt_in: Option<Duration>,
    /// The session, the last one while there is none. Its counters are those of all sessions of
    /// this link since the node started.
    pub session: SessionStatus,
}
