//! What two nodes say to each other: postcard behind a checksum and a version byte.
//!
//! Whoever follows asks: it opens, requests pages, acknowledges. Both ends may do so over one link:
//! what a follower says is for the other's source, and the other way round. Keys are always those
//! of the source.
//!
//! An unknown message ends the link; an unknown critical feature refuses it. Nothing is skipped.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_tree::{Author, StampedOp};

use crate::forward_wire::{WireAnswer, WireCommit};

/// The version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest version that it speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// Bytes of a refusal's sentence at most.
const REFUSAL_BYTES_MAX: usize = 1024;

/// Who a node is and what it wants of this link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest version of the protocol spoken.
    pub protocol_min: u16,
    /// Newest version of the protocol spoken.
    pub protocol_max: u16,
    /// Its id, which is that of its log.
    pub node: u128,
    /// A label for people.
    pub name: String,
    /// Its opening.
    pub epoch: u64,
    /// Drawn when its process began: a copy of its data has another one.
    pub life: u64,
    /// Raised with each link that it makes for the same zones.
    pub attempt: u64,
    /// Its newest commit.
    pub head: u64,
    /// Its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The version of its data's schema, as it was told; 0 when nobody told it.
    pub schema: u64,
    /// What it can do; a name that begins with `!` is one that the other must know too.
    pub features: Vec<String>,
    /// Zones that it pulls; those of mode `Sync` are pushed as well. Of a dialing node only.
    pub pull: Vec<ZoneOffer>,
    /// Zones that it pushes only. Of a dialing node only.
    pub push: Vec<ZoneOffer>,
}

/// Why a link is refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Both nodes hold a prefix as their own.
    DualAuthority,
    /// Neither node owns a prefix.
    NoAuthority,
    /// The node does not take what the other pushes.
    PushNotAccepted,
    /// A node of this id is here already, or is this one.
    DuplicateNode,
    /// A version, a feature or a message that this build does not know.
    Unsupported,
    /// Not granted to this peer.
    Denied,
    /// Too many peers, slots or requests; later.
    Busy,
    /// What was said contradicts the protocol.
    Protocol,
    /// Nothing was heard for too long, or nothing moved while behind.
    Stalled,
    /// A read or a write here failed.
    Failed,
    /// The node is closing.
    Closing,
}

impl RefusalReason {
    /// Its code in logs, status and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::DualAuthority => "dual_authority",
            Self::NoAuthority => "no_authority",
            Self::PushNotAccepted => "push_not_accepted",
            Self::DuplicateNode => "duplicate_node",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Protocol => "protocol",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
            Self::Closing => "closing",
        }
    }
}

/// A refusal: why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// A sentence for people; at most 1 KiB, without values or secrets.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The same as it may be kept and logged: what a peer says is cut to 1 KiB, without line ends.
    #[must_use]
    pub(crate) fn bounded(self) -> Self {
        let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
        let mut message: String = self.message.chars().take(REFUSAL_BYTES_MAX).map(shown).collect();
        while message.len() > REFUSAL_BYTES_MAX {
            message.pop();
        }
        Self { message, ..self }
    }

    /// What was said contradicts the protocol.
    #[must_use]
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(RefusalReason::Protocol, message)
    }
}

/// A place in a node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogPosition {
    /// The node's id.
    pub log_id: u128,
    /// The commit.
    pub rev: u64,
    /// The hash of its record.
    pub hash: [u8; 16],
}

/// Asks to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The follower's feed: with its node id the name of the slot.
    pub feed: String,
    /// Prefixes, in the order of their keys.
    pub prefixes: Vec<Bytes>,
    /// Prefixes below them that it does not want.
    pub except: Vec<Bytes>,
    /// What it has; `None`: nothing that counts.
    pub at: Option<OpenAt>,
}

/// What a follower has of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenAt {
    /// Everything up to a commit.
    Tail(LogPosition),
    /// A snapshot that was interrupted: pages before its cursor, and then everything after the pin.
    Snapshot(LogPosition),
    /// A delta that was interrupted: from a commit, and then everything after the pin.
    Delta {
        /// What it had.
        from: LogPosition,
        /// Where the tail goes on.
        pin: LogPosition,
    },
}

/// How a follower gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenMode {
    /// The commits after its position.
    Tail,
    /// What changed since its position, by pages; then the tail from the pin.
    Delta,
    /// Everything, by pages; then the tail from the pin.
    Snapshot,
    /// As `Snapshot`: what it has is not of this history.
    Diverged,
    /// Its interrupted snapshot goes on at its cursor.
    ResumeSnapshot,
    /// Its interrupted delta goes on at its cursor.
    ResumeDelta,
}

/// Answers [`Open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// How.
    pub mode: OpenMode,
    /// The commit behind which the tail begins: the position, or where the slot is pinned.
    pub pin: LogPosition,
    /// The source's newest commit.
    pub head: u64,
    /// Prefixes that the source does not speak for.
    pub except: Vec<Bytes>,
    /// What the source has of the follower's own log.
    pub known: LogPosition,
}

/// Asks for pages from a place on, to the end of the last part: they come in order, as many as fit
/// the credit, and then as they are taken ([`Message::PageAck`]). A later request ends an earlier
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// Raised with each request.
    pub number: u64,
    /// The prefix, by its place in [`Open::prefixes`]; 0 for a delta.
    pub part: u32,
    /// Where to begin: a key, or a cursor as a page gave it.
    pub start: Option<Bytes>,
    /// Bytes of ops, about.
    pub bytes_max: u32,
    /// Ops at most.
    pub items_max: u32,
}

/// A page of a snapshot or of a delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The request's number.
    pub number: u64,
    /// The prefix.
    pub part: u32,
    /// Where it begins.
    pub start: Option<Bytes>,
    /// What is there, in the order of keys.
    pub ops: Vec<StampedOp>,
    /// Where the next page begins; `None` after the last one of the part.
    pub next: Option<Bytes>,
    /// The source's newest commit when the page was read.
    pub head: u64,
}

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRecord {
    /// Its rev at the source.
    pub rev: u64,
    /// The hash of its record at the source.
    pub hash: [u8; 16],
    /// When it was made at the source, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why: 0 a request, 1 something was due, 2 upkeep.
    pub cause: u8,
    /// Who made it, and the nodes that relayed it.
    pub author: Author,
    /// What of it is in the scope.
    pub ops: Vec<StampedOp>,
}

/// Whole commits in order. One without commits is a skip: nothing up to `through` was in the scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The commit after which the batch begins.
    pub after: u64,
    /// The commit with which it ends; what is missing in between was not in the scope.
    pub through: u64,
    /// The hash of that commit's record.
    pub hash: [u8; 16],
    /// The source's newest commit.
    pub head: u64,
    /// The commits.
    pub commits: Vec<WireRecord>,
}

/// How far a follower is; cumulative, and always the end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// It has applied everything up to this commit: credit for more.
    pub rev: u64,
    /// Its position is durable up to this commit, which is `rev` unless nothing but skips came
    /// lately: what is before it is not needed any more.
    pub durable_rev: u64,
    /// The hash of that commit's record.
    pub durable_hash: [u8; 16],
}

/// Tells that a node is alive, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its newest commit.
    pub head: u64,
    /// Its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The digest of what the other follows of it, when nothing was written lately.
    pub digest: Option<WireDigest>,
}

/// The digest of a scope at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDigest {
    /// The commit.
    pub rev: u64,
    /// The sum over all leaves.
    pub total: u128,
    /// How many there are.
    pub leaves: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// First word of the node that dials.
    Hello(Hello),
    /// First word of the node that accepts.
    Welcome(Hello),
    /// Last word.
    Refuse(Refusal),
    /// Every 5 s.
    Heartbeat(Heartbeat),
    /// The follower begins.
    Open(Open),
    /// The source's answer.
    Opened(Opened),
    /// The source's answer while as many others are filled as may be at once: this one's turn
    /// comes, and then [`Message::Opened`].
    Queued {
        /// How many wait before it.
        ahead: u32,
    },
    /// The follower wants pages.
    PageRequest(PageRequest),
    /// The source's answers.
    Page(Page),
    /// The follower has applied pages, durably.
    PageAck {
        /// The number of the request.
        number: u64,
        /// How many of its pages.
        pages: u64,
    },
    /// The follower is done with the pages and wants the tail.
    Tail {
        /// The commit after which it begins: the pin.
        after: u64,
    },
    /// Commits, or that there were none.
    Batch(Batch),
    /// How far the follower is.
    Ack(Ack),
    /// The source's log no longer reaches back to the follower: open again.
    Reopen,
    /// A write for the node that owns the paths.
    Forward(ForwardMessage),
    /// What came of it.
    Forwarded {
        /// The number of the forward.
        number: u64,
        /// What came of it.
        answer: WireAnswer,
    },
    /// The follower wants the digest of each bucket of what it follows.
    Verify,
    /// The digests, 256 of them, at a commit.
    Buckets {
        /// The commit.
        rev: u64,
        /// One for each bucket.
        buckets: Vec<u128>,
    },
    /// The follower wants all that is in some buckets.
    Leaves {
        /// Raised with each request.
        number: u64,
        /// The buckets, ascending.
        buckets: Vec<u8>,
        /// Where to begin.
        start: Option<Bytes>,
    },
    /// What is in them.
    BucketPage {
        /// The request's number.
        number: u64,
        /// The commit at which they were read.
        rev: u64,
        /// In the order of keys.
        ops: Vec<StampedOp>,
        /// Where the next page begins; `None` after the last.
        next: Option<Bytes>,
    },
}

/// A write on its way to the node that owns its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardMessage {
    /// Names the answer.
    pub number: u64,
    /// The commit, whole.
    pub commit: WireCommit,
    /// For how many milliseconds more the caller waits.
    pub wait_ms: u32,
    /// How many nodes it has passed; at most 3.
    pub hops: u8,
}

/// How a zone of the node that dials is held there: the mode of its path, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OfferedMode {
    /// The dialing node owns it and emits it.
    Primary,
    /// The accepting node owns it, and what is written at the dialing node is forwarded.
    Replica,
    /// Both write.
    Sync,
    /// The accepting node owns it, and nobody writes at the dialing node.
    Readonly,
    /// The dialing node emits it and ignores what others write.
    Writeonly,
    /// As `Readonly`, kept under a prefix of its own.
    Source,
    /// Neither pulled nor pushed: below another zone, held by the dialing node for itself.
    Own,
}

/// A zone as the node that dials offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneOffer {
    /// The key of its prefix, as the accepting node names it.
    pub prefix: Bytes,
    /// How it is held.
    pub mode: OfferedMode,
}

/// The origin of a node's commits.
pub(crate) fn origin(node: u128) -> u64 {
    (node & u128::from(u64::MAX)) as u64
}
