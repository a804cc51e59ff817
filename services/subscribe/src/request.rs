//! What is asked for, what is answered, and what arrives: the plain types of a subscription.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Error, Result};
use trellis_query::QuerySpec;
use trellis_tree::ChangeCause;

use crate::pattern::Pattern;

/// What a subscription is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The value at the path, or at each path that fits.
    Value,
    /// The children of the path, or of each path that fits.
    Child,
    /// The items of a query, its window kept filled.
    Query(WatchedQuery),
}

/// A query to be watched; equal to another that asks the same.
#[derive(Debug, Clone)]
pub struct WatchedQuery {
    spec: Arc<QuerySpec>,
    fingerprint: [u8; 16],
}

impl WatchedQuery {
    /// The query.
    #[must_use]
    pub fn spec(&self) -> &QuerySpec {
        &self.spec
    }
}

impl From<QuerySpec> for WatchedQuery {
    fn from(spec: QuerySpec) -> Self {
        let fingerprint = spec.fingerprint();
        Self { spec: Arc::new(spec), fingerprint }
    }
}

impl PartialEq for WatchedQuery {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for WatchedQuery {}

impl Hash for WatchedQuery {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// How much an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The new value.
    #[default]
    Full,
    /// Only what changed below the path.
    Patch,
    /// Only that something changed.
    Notify,
}

/// From where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last rev that was received.
    pub since: u64,
    /// The epoch it was received in: [`Acknowledgement::epoch`].
    pub epoch: String,
}

/// A subscription to be made.
///
/// ```
/// use trellis_subscribe::{EventKind, Mode, Pattern, SubscribeRequest};
///
/// let request = SubscribeRequest::value(Pattern::parse("users/u1")?).mode(Mode::Patch);
/// assert_eq!(request.event, EventKind::Value);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Where.
    pub pattern: Pattern,
    /// What about.
    pub event: EventKind,
    /// How much an event says.
    pub mode: Mode,
    /// From where to go on; `None` begins with a snapshot.
    pub resume: Option<Resume>,
}

impl SubscribeRequest {
    /// The value at a path.
    #[must_use]
    pub const fn value(pattern: Pattern) -> Self {
        Self { pattern, event: EventKind::Value, mode: Mode::Full, resume: None }
    }

    /// The children of a path.
    #[must_use]
    pub const fn child(pattern: Pattern) -> Self {
        Self { pattern, event: EventKind::Child, mode: Mode::Full, resume: None }
    }

    /// The items of a query, which has neither cursor nor totals.
    ///
    /// # Errors
    /// `TooLarge` beyond 8 wildcards in its path.
    pub fn query(spec: QuerySpec) -> Result<Self> {
        let pattern = Pattern::parse(&spec.path.to_string())?;
        Ok(Self { pattern, event: EventKind::Query(spec.into()), mode: Mode::Full, resume: None })
    }

    /// With events that say this much.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Going on after what was received before.
    #[must_use]
    pub fn resume(mut self, since: u64, epoch: impl Into<String>) -> Self {
        self.resume = Some(Resume { since, epoch: epoch.into() });
        self
    }
}

/// How a subscription began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgementKind {
    /// With a snapshot, as asked for.
    Fresh,
    /// Where it was left: every event after `since` follows, exactly as if it had stayed.
    Resumed,
    /// With a snapshot, although it was to be resumed: what was missed can no longer be told.
    Reset,
}

/// The answer to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The snapshot, JSON; `null` when resumed and in mode notify.
    pub data: Bytes,
    /// The rev of the snapshot, or from where it was resumed. Every event is of a later one.
    pub rev: u64,
    /// Whose rev it is; to be given back with [`Resume`].
    pub epoch: String,
    /// How it began.
    pub kind: AcknowledgementKind,
}

/// What an event takes of an inbox besides its text.
pub(crate) const EVENT_BYTES: usize = 160;

/// The events of one commit for a subscription; shared by all who receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The commit.
    pub rev: u64,
    /// Why the commit happened.
    pub cause: ChangeCause,
    /// The commit's idempotency key: to be shown only to who sent it.
    pub commit_key: Option<Arc<str>>,
    /// The events as a JSON array, in the order removed, added, moved, changed, value.
    pub body: Bytes,
}

impl Event {
    /// What it takes of an inbox.
    pub(crate) fn cost(&self) -> usize {
        EVENT_BYTES + self.body.len()
    }
}

/// What arrives in an inbox.
#[derive(Debug)]
pub enum Delivery {
    /// Something changed.
    Event {
        /// The subscription.
        name: Arc<str>,
        /// What changed.
        event: Arc<Event>,
    },
    /// Events were dropped, because they were not fetched in time or cannot be told one by one.
    /// Nothing more comes before `Inbox::refresh`, which gives a new snapshot.
    Stale {
        /// The subscription.
        name: Arc<str>,
    },
    /// The subscription has ended.
    Cancelled {
        /// The subscription; the name is free again.
        name: Arc<str>,
        /// Why.
        error: Error,
    },
}

impl Delivery {
    /// The subscription that this is about.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Event { name, .. } | Self::Stale { name } | Self::Cancelled { name, .. } => name,
        }
    }
}
