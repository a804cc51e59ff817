//! What a session asks of its node's tree, and what came of it: plain data.
//!
//! [`Store::execute`](crate::Store::execute) does a task, blocking; whoever drives the session
//! hands the outcome back in [`Event::Done`](crate::Event::Done), in any order.

use bytes::Bytes;
use trellis_engine_traits::Error;
use trellis_tree::{RemoteApplied, RemoteCommit, Scope, StampedOp};

use crate::message::{LogPosition, OpenAt, OpenMode, Refusal, WireDigest, WireRecord};
use crate::position::FeedPosition;

/// Names a task of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// What is to be done with the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Read the position of a feed.
    LoadPosition {
        /// The feed.
        feed: String,
    },
    /// Void the position of a feed, and take back that it is to be filled anew: it begins to be.
    BeginAnew {
        /// The feed.
        feed: String,
    },
    /// Write the position of a feed without data: it moved far by skips.
    SavePosition {
        /// The feed.
        feed: String,
        /// Its position.
        position: FeedPosition,
    },
    /// Decide how a follower gets on, and pin its slot where that needs it.
    OpenSlot(OpenSlot),
    /// Read a page of a scope.
    ReadPage {
        /// What: one prefix.
        scope: Scope,
        /// The first key.
        start: Bytes,
        /// Ops at most.
        items_max: usize,
        /// Bytes, about.
        bytes_max: usize,
    },
    /// Read a page of what changed after a commit.
    ReadDelta {
        /// What.
        scope: Scope,
        /// The commit.
        after: u64,
        /// Where to go on.
        start: Option<Bytes>,
        /// Ops at most.
        items_max: usize,
        /// Bytes, about.
        bytes_max: usize,
    },
    /// Read commits behind one.
    ReadTail {
        /// What of them.
        scope: Scope,
        /// The commit.
        after: u64,
        /// The origin of the node that follows: it is not sent what it wrote or relayed.
        peer: u64,
        /// Bytes, about.
        bytes_max: usize,
    },
    /// The follower of a slot has everything up to a commit.
    AckSlot {
        /// The slot.
        consumer: String,
        /// The commit, and the hash of its record.
        at: LogPosition,
        /// The commit up to which it has applied everything, durably but for what is not its
        /// business.
        applied: u64,
        /// The commit up to which also all is here that it wrote before it knew of that.
        settled: u64,
    },
    /// The follower of a slot needs no more pages, or takes none: another one may be filled.
    Filled {
        /// The slot.
        consumer: String,
    },
    /// The follower of a slot is gone for now.
    CloseSlot {
        /// The slot.
        consumer: String,
    },
    /// Apply commits, each whole, in order; done when they are durable.
    Apply {
        /// The commits.
        commits: Vec<RemoteCommit>,
    },
    /// Copy what this node wrote within a scope to `_repl/set_aside/<feed>/<id>`.
    SetAside {
        /// The feed.
        feed: String,
        /// Names the copy by the source and its commit; writing it twice is harmless.
        id: String,
        /// What.
        scope: Scope,
    },
    /// The hash of a record of this node.
    HashAt {
        /// Its rev.
        rev: u64,
    },
    /// The digest of a scope.
    Digest {
        /// What.
        scope: Scope,
        /// Keys count without this prefix, as they are at the source.
        local_prefix: Bytes,
    },
    /// All that is in some buckets of a scope's digest.
    ReadBuckets {
        /// What.
        scope: Scope,
        /// Keys count without this prefix.
        local_prefix: Bytes,
        /// The buckets, ascending.
        buckets: Vec<u8>,
        /// Where to begin.
        start: Bytes,
        /// Bytes, about.
        bytes_max: usize,
    },
}

/// What [`Task::OpenSlot`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSlot {
    /// The slot: `<node id>-<feed>`.
    pub consumer: String,
    /// To whom it belongs: the name that the transport authenticated.
    pub owner: String,
    /// What the follower has.
    pub at: Option<OpenAt>,
}

/// What a task came to.
#[derive(Debug)]
pub enum TaskOutcome {
    /// `AckSlot`, `BeginAnew`, `CloseSlot`, `Filled`.
    Done,
    /// `LoadPosition`, and `SavePosition` with what was written.
    Position(Option<FeedPosition>),
    /// `OpenSlot`.
    Slot(SlotOpened),
    /// `OpenSlot`: as many are filled as may be at once; ask again.
    Queued {
        /// How many wait before it.
        ahead: u32,
    },
    /// `OpenSlot`: the slot is another peer's (`denied`), or there are too many (`busy`).
    Refused(Refusal),
    /// `ReadPage`, `ReadDelta`, `ReadBuckets`.
    Page(PageRead),
    /// `ReadTail`.
    Tail(TailRead),
    /// `ReadTail`, `ReadDelta`, `AckSlot`: the log no longer reaches back there, or the slot was
    /// invalidated.
    TailGone,
    /// `Apply`: one for each commit.
    Applied(Vec<RemoteApplied>),
    /// `SetAside`: how many leaves.
    SetAside(u64),
    /// `HashAt`: the node's newest commit, and the hash when it is known.
    Hash {
        /// The newest commit.
        head: u64,
        /// The hash.
        hash: Option<[u8; 16]>,
    },
    /// `Digest`.
    Digest {
        /// The sum over all, at the view's rev.
        digest: WireDigest,
        /// The sums of the buckets.
        buckets: Vec<u128>,
    },
    /// A commit of the peer, which was to be routed ([`crate::Action::Route`]).
    Routed(crate::forward::RoutedOutcome),
    /// It failed; nothing changed, unless it was an `Apply`, of which a beginning may be applied.
    Failed(Error),
}

/// How a follower gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotOpened {
    /// How.
    pub mode: OpenMode,
    /// Where the tail begins.
    pub pin: LogPosition,
    /// For a delta: the commit since which.
    pub since: u64,
    /// The node's newest commit.
    pub head: u64,
}

/// Some stamped ops, in keys of the node that read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRead {
    /// The ops.
    pub ops: Vec<StampedOp>,
    /// Where to go on; `None`: there is no more.
    pub next: Option<Bytes>,
    /// The rev of the view that was read.
    pub rev: u64,
}

/// Some commits, projected onto a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRead {
    /// Those of them that touch the scope.
    pub commits: Vec<WireRecord>,
    /// The last commit that was read, and the hash of its record.
    pub through: u64,
    /// The hash.
    pub hash: [u8; 16],
    /// The newest commit.
    pub head: u64,
    /// Commits that were left out because the follower wrote or relayed them.
    pub echoes: u64,
}
