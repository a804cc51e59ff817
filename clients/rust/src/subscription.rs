//! [`Subscription`]: what changes at a path, as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::Serialize;
use tokio::time::timeout;

use crate::client::{Client, late, no_json};
use crate::error::{ClientError, ClientErrorKind};
use crate::event::{Position, SubscriptionEvent};
use crate::feed::{Feed, Phase, Read};
use crate::query::Query;

/// What a subscription tells of.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SubscribeKind {
    /// The value at the path.
    #[default]
    Value,
    /// The children of the path: which came, went, changed.
    Child,
    /// The window of a query: filter, order, limit and fields of this one, at the path subscribed
    /// to. Its cursor, count and aggregate are refused.
    Query(Query),
}

/// How much an event carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubscribeMode {
    /// Whole values.
    #[default]
    Full,
    /// Only what changed below them.
    Patch,
    /// That something changed, and where.
    Notify,
}

impl SubscribeMode {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Patch => "patch",
            Self::Notify => "notify",
        }
    }
}

/// What to subscribe to, besides the path.
///
/// ```
/// use trellis_client::{Query, SubscribeKind, SubscribeMode, SubscribeOptions};
///
/// let options = SubscribeOptions {
///     kind: SubscribeKind::Query(Query { limit: Some(10), ..Query::default() }),
///     mode: SubscribeMode::Patch,
///     ..SubscribeOptions::default()
/// };
/// assert_eq!(options.resume, None);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SubscribeOptions {
    /// What it tells of.
    pub kind: SubscribeKind,
    /// How much an event carries.
    pub mode: SubscribeMode,
    /// Go on from here instead of beginning with a snapshot.
    pub resume: Option<Position>,
    /// Bytes of events that wait to be read. Beyond it the subscription is suspended at the server
    /// and goes on, without a gap where the server still can, once they are read.
    pub queue_bytes_max: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            kind: SubscribeKind::Value,
            mode: SubscribeMode::Full,
            resume: None,
            queue_bytes_max: 4 << 20,
        }
    }
}

/// A request for a subscription, without `id`, `since` and `epoch`.
#[derive(Debug, Serialize)]
struct Body<'a> {
    op: &'a str,
    #[serde(flatten)]
    query: &'a Query,
    event: &'a str,
    mode: &'a str,
}

impl Client {
    /// Subscribes to what changes at a path, in which `*` stands for any segment.
    ///
    /// # Errors
    /// `too_large` when what is there does not fit a frame, and beyond the server's limit of
    /// subscriptions; what else the server answers.
    pub async fn subscribe(
        &self,
        path: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, ClientError> {
        let SubscribeOptions { kind, mode, resume, queue_bytes_max } = options;
        let (event, query) = match kind {
            SubscribeKind::Value => ("value", Query::new(path)),
            SubscribeKind::Child => ("child", Query::new(path)),
            SubscribeKind::Query(query) => ("query", Query { path: path.to_owned(), ..query }),
        };
        let body = Body { op: "sub", query: &query, event, mode: mode.name() };
        let text = serde_json::to_string(&body).map_err(|error| no_json(&error))?;
        let fields = text.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_owned();
        let (feed, is_open) = Feed::new(fields, resume, queue_bytes_max);
        let feed = Arc::new(feed);
        self.shared().ask(&feed)?;
        // From here on dropping it, at the deadline too, unsubscribes.
        let subscription = Subscription::new(self.clone(), feed);
        let options = &self.shared().options;
        match timeout(options.deadline, is_open).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(refused))) => Err(refused),
            Ok(Err(_)) => Err(ClientError::new(ClientErrorKind::Closed, "the client was closed")),
            Err(_elapsed) => Err(late(options)),
        }
    }
}

/// What changes at a path: a stream of events, each commit once and in order.
///
/// It outlives lost connections and restarts of the server: it goes on where it was, and where the
/// server cannot tell any more what was missed, a [`SubscriptionEvent::Reset`] says so and has
/// everything anew. An error is the last item: the server refuses the subscription, or the client
/// was closed. Dropping it unsubscribes.
///
/// ```no_run
/// # async fn example(client: trellis_client::Client) -> Result<(), trellis_client::ClientError> {
/// use trellis_client::{SubscribeOptions, SubscriptionEvent};
///
/// let mut users = client.subscribe("users/*/name", SubscribeOptions::default()).await?;
/// while let Some(event) = users.next().await {
///     match event? {
///         SubscriptionEvent::Snapshot { data, .. } => println!("all names: {data}"),
///         SubscriptionEvent::Reset { data, .. } => println!("all names anew: {data}"),
///         SubscriptionEvent::Changes(changes) => {
///             for change in changes.changes {
///                 println!("{} is {:?} as of {}", change.captures[0], change.value, changes.rev);
///             }
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscription {
    client: Client,
    feed: Arc<Feed>,
}

impl Subscription {
    pub(crate) fn new(client: Client, feed: Arc<Feed>) -> Self {
        Self { client, feed }
    }

    /// The next event; `None` after the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<SubscriptionEvent, ClientError>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// How far the events that were read have come; `None` before the first. A later subscription,
    /// in another process too, goes on from it ([`SubscribeOptions::resume`]).
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.feed.read_position()
    }

    fn poll_event(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<SubscriptionEvent, ClientError>>> {
        loop {
            match self.feed.poll_read(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Read::Event(event)) => return Poll::Ready(Some(Ok(event))),
                Poll::Ready(Read::Failed(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Read::Ended) => return Poll::Ready(None),
                Poll::Ready(Read::AskAgain) => {
                    if let Err(error) = self.client.shared().ask(&self.feed) {
                        self.feed.end(error);
                    }
                }
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<SubscriptionEvent, ClientError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (id, phase) = self.feed.standing();
        self.feed.abandon();
        if matches!(phase, Phase::Asked | Phase::Open) {
            self.client.shared().unsubscribe(id);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position()).finish_non_exhaustive()
    }
}
