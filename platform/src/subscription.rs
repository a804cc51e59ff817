//! [`Trellis::subscribe`]: what changes, for hosts in this process.
//!
//! The events are those of the wire with their JSON parsed. Invariant: whoever reads slowly is told
//! of a gap by [`LiveEvent::Reset`], and holds bounded memory meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures_core::Stream;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_subscribe::{Acknowledgement, AcknowledgementKind, Delivery, Inbox, SubscribeRequest};
use trellis_tree::ChangeCause;

use crate::asynchronous::AsyncTrellis;
use crate::handle::Trellis;

/// The only subscription of an inbox here.
const NAME: &str = "host";

/// What a subscription tells next.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// Everything that is there: the first event, unless the subscription goes on from before.
    Snapshot {
        /// The value, or the children; a map of path to value for a path with wildcards.
        data: Value,
        /// The commit it is as of.
        rev: u64,
    },
    /// What one commit changed.
    Changes {
        /// The commit.
        rev: u64,
        /// Why there was a commit.
        cause: ChangeCause,
        /// Its idempotency key.
        key: Option<String>,
        /// In the order removed, added, moved, changed, value.
        changes: Vec<LiveChange>,
    },
    /// Events were passed over, because they were not read in time or the journal no longer has
    /// them: everything that is there now.
    Reset {
        /// As in `Snapshot`.
        data: Value,
        /// The commit it is as of.
        rev: u64,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LiveChange {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: LiveChangeKind,
    /// The key of the child or the item; `None` for a value.
    #[serde(default)]
    pub key: Option<String>,
    /// The path, where the subscription has wildcards.
    #[serde(default)]
    pub path: Option<String>,
    /// What the wildcards stand for, in order.
    #[serde(default)]
    pub captures: Vec<String>,
    /// The new value, `null` for none; `None` where the mode sends no values.
    #[serde(default, deserialize_with = "present")]
    pub value: Option<Value>,
    /// In mode patch: relative path to new value, `null` for what is gone; `""` is the whole.
    #[serde(default)]
    pub patch: Option<BTreeMap<String, Value>>,
    /// Of an item that was added or moved: the key before it; `None` for the first.
    #[serde(default)]
    pub after: Option<String>,
}

/// What happened to a child, an item or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveChangeKind {
    /// It is gone, or left the window of the query.
    Removed,
    /// It is new, or entered the window.
    Added,
    /// It stands elsewhere in the window.
    Moved,
    /// Its value is another.
    Changed,
    /// The value subscribed to is another.
    Value,
}

/// A `null` that is there, unlike a field that is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Trellis {
    /// Subscribes to what changes: an iterator that blocks for the next event. Each commit is told
    /// once and in order.
    ///
    /// # Errors
    /// `TooLarge` when what is there passes the frame limit of the configuration; `InvalidInput`
    /// for a query that makes no sense; as for [`Trellis::get`].
    ///
    /// # Cost
    /// Reads what is there. A commit costs only the subscriptions that it touches.
    ///
    /// ```
    /// use trellis::{LiveEvent, Pattern, SubscribeRequest, Trellis};
    ///
    /// let db = Trellis::memory()?;
    /// let names = SubscribeRequest::value(Pattern::parse("users/*/name")?);
    /// let mut names = db.subscribe(names)?;
    /// assert!(matches!(names.next(), Some(Ok(LiveEvent::Snapshot { .. }))));
    /// db.set("users/u1/name", "Alice")?;
    /// let Some(Ok(LiveEvent::Changes { changes, .. })) = names.next() else { panic!() };
    /// assert_eq!((&*changes[0].captures[0], &changes[0].value), ("u1", &Some("Alice".into())));
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription> {
        let inbox = Arc::new(self.live()?.inbox());
        let begun = inbox.subscribe(NAME, request)?;
        inbox.activate(NAME);
        Ok(Subscription::new(self.clone(), inbox, begun))
    }
}

impl AsyncTrellis {
    /// As [`Trellis::subscribe`], as a stream.
    ///
    /// # Errors
    /// As for [`Trellis::subscribe`], and `Busy`.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<AsyncSubscription> {
        let db = self.blocking().clone();
        let subscribed = self.blocking().runtime().run(move || db.subscribe(request));
        subscribed.await.map(AsyncSubscription)
    }
}

type Refreshing = Pin<Box<dyn Future<Output = Result<Acknowledgement>> + Send>>;

/// What changes in a database of this process, for threads: each step blocks for the next event.
/// Dropping it ends it; closing the database does, too. An error is the last item.
pub struct Subscription {
    db: Trellis,
    inbox: Arc<Inbox>,
    /// What was fetched and not handed out yet.
    fetched: VecDeque<Fetched>,
    /// A new snapshot is being taken.
    refreshing: Option<Refreshing>,
    position: (u64, String),
    /// A snapshot is a reset from the second on.
    has_begun: bool,
    is_ended: bool,
}

/// What changes in a database of this process, for async code under any executor.
///
/// As [`Subscription`], but a [`Stream`].
pub struct AsyncSubscription(Subscription);

enum Fetched {
    Acknowledged(Acknowledgement),
    Delivered(Delivery),
}

impl Subscription {
    fn new(db: Trellis, inbox: Arc<Inbox>, begun: Acknowledgement) -> Self {
        let position = (begun.rev, begun.epoch.clone());
        let fetched = match begun.kind {
            AcknowledgementKind::Resumed => VecDeque::new(),
            _ => VecDeque::from([Fetched::Acknowledged(begun)]),
        };
        let (refreshing, has_begun, is_ended) = (None, false, false);
        Self { db, inbox, fetched, refreshing, position, has_begun, is_ended }
    }

    /// Up to which commit everything was handed out, and the epoch that this is in: what
    /// [`SubscribeRequest::resume`] goes on from, in a later process too.
    #[must_use]
    pub fn position(&self) -> (u64, &str) {
        (self.position.0, &self.position.1)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<LiveEvent>>> {
        loop {
            if self.is_ended {
                return Poll::Ready(None);
            }
            if let Some(refreshing) = &mut self.refreshing {
                match refreshing.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return self.fail(error),
                    Poll::Ready(Ok(snapshot)) => {
                        self.refreshing = None;
                        self.inbox.activate(NAME);
                        self.fetched.push_front(Fetched::Acknowledged(snapshot));
                    }
                }
            }
            match self.fetched.pop_front() {
                Some(fetched) => {
                    if let Some(event) = self.hand_out(fetched) {
                        return Poll::Ready(Some(event));
                    }
                }
                None => match Pin::new(&mut self.inbox.next()).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(deliveries) if deliveries.is_empty() => {
                        self.is_ended = true;
                    }
                    Poll::Ready(deliveries) => {
                        self.fetched.extend(deliveries.into_iter().map(Fetched::Delivered));
                    }
                },
            }
        }
    }

    /// What is told; nothing where a new snapshot has to be taken first.
    fn hand_out(&mut self, fetched: Fetched) -> Option<Result<LiveEvent>> {
        let told = match fetched {
            Fetched::Acknowledged(snapshot) => self.snapshot(&snapshot),
            Fetched::Delivered(Delivery::Stale { .. }) => {
                let inbox = Arc::clone(&self.inbox);
                let runtime = Arc::clone(self.db.runtime());
                let refresh = async move { runtime.run(move || inbox.refresh(NAME)).await };
                self.refreshing = Some(Box::pin(refresh));
                return None;
            }
            Fetched::Delivered(Delivery::Cancelled { error, .. }) => Err(error),
            Fetched::Delivered(Delivery::Event { event, .. }) => {
                self.position.0 = event.rev;
                self.has_begun = true;
                parse(&event.body).map(|changes| LiveEvent::Changes {
                    rev: event.rev,
                    cause: event.cause,
                    key: event.commit_key.as_deref().map(str::to_owned),
                    changes,
                })
            }
        };
        self.is_ended = told.is_err();
        Some(told)
    }

    fn snapshot(&mut self, snapshot: &Acknowledgement) -> Result<LiveEvent> {
        let (data, rev) = (parse(&snapshot.data)?, snapshot.rev);
        let is_reset = snapshot.kind == AcknowledgementKind::Reset || self.has_begun;
        self.position = (rev, snapshot.epoch.clone());
        self.has_begun = true;
        Ok(match is_reset {
            true => LiveEvent::Reset { data, rev },
            false => LiveEvent::Snapshot { data, rev },
        })
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<LiveEvent>>> {
        self.is_ended = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Iterator for Subscription {
    type Item = Result<LiveEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match self.poll_event(&mut context) {
                Poll::Ready(event) => return event,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl AsyncSubscription {
    /// The next event; `None` after the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<LiveEvent>> {
        std::future::poll_fn(|context| self.0.poll_event(context)).await
    }

    /// As [`Subscription::position`].
    #[must_use]
    pub fn position(&self) -> (u64, &str) {
        self.0.position()
    }
}

impl Stream for AsyncSubscription {
    type Item = Result<LiveEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_event(context)
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn parse<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|source| {
        Error::new(ErrorKind::Corrupt, "an event is not what a subscription tells").source(source)
    })
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position).finish_non_exhaustive()
    }
}

impl fmt::Debug for AsyncSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trellis_subscribe::Pattern;

    fn counter() -> SubscribeRequest {
        SubscribeRequest::value(Pattern::parse("n").unwrap())
    }

    fn values(event: LiveEvent) -> Value {
        match event {
            LiveEvent::Snapshot { data, .. } | LiveEvent::Reset { data, .. } => data,
            LiveEvent::Changes { mut changes, .. } => {
                changes.pop().unwrap().value.unwrap_or_default()
            }
        }
    }

    #[test]
    fn a_thread_sees_each_commit_once_and_the_end_when_the_database_closes() {
        let db = Trellis::memory().unwrap();
        let mut counted = db.subscribe(counter()).unwrap();
        let reader = db.runtime().spawn_worker("reader", {
            let db = db.clone();
            move || {
                for value in 0..200 {
                    db.set("n", value).unwrap();
                }
                db.close().unwrap();
            }
        });
        let reader = reader.unwrap();
        assert_eq!(values(counted.next().unwrap().unwrap()), Value::Null);
        let mut rev = 0;
        let mut last = Value::Null;
        for event in counted {
            let event = event.unwrap();
            let LiveEvent::Changes { rev: next, .. } = event else { panic!("{event:?}") };
            assert!(next > rev);
            rev = next;
            last = values(event);
        }
        // A slow reader may find older values passed over, never in another order.
        assert!(last.as_u64() <= Some(199), "{last}");
        reader.join();
    }

    #[test]
    fn what_was_passed_over_is_told_by_a_reset() {
        let mut config = crate::config::Config::memory();
        config.server.inbox_bytes_max = 1_000;
        let db = Trellis::open_config(config).unwrap();
        let children = SubscribeRequest::child(Pattern::parse("l").unwrap());
        let mut children = db.subscribe(children).unwrap();
        for value in 0..100 {
            db.push("l", value).unwrap();
        }
        let last = db.tree().view().unwrap().rev();
        // Nobody reads, so it has to come to that; and nothing is still on its way, or there would
        // be a second reset.
        while db.live_stats().stale == 0 || db.live_stats().events < 100 {
            std::thread::yield_now();
        }
        let mut told = 0;
        let reset = loop {
            match children.next().unwrap().unwrap() {
                LiveEvent::Changes { changes, .. } => told += changes.len(),
                LiveEvent::Snapshot { data, .. } => assert_eq!(data, json!({})),
                LiveEvent::Reset { data, rev } => break (data, rev),
            }
        };
        assert!(told < 100, "the inbox is not bounded");
        assert_eq!((reset.0.as_object().unwrap().len(), reset.1), (100, last));
        assert_eq!(children.position().0, last);
        db.push("l", 100).unwrap();
        let Some(Ok(LiveEvent::Changes { changes, .. })) = children.next() else { panic!() };
        assert_eq!((changes.len(), changes[0].kind), (1, LiveChangeKind::Added));
    }

    #[test]
    fn an_async_host_reads_the_same_as_a_stream() {
        let db = Trellis::memory().unwrap();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut block_on = |future: Pin<&mut dyn Future<Output = Value>>| {
            let mut future = future;
            loop {
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(value) => return value,
                    Poll::Pending => std::thread::park(),
                }
            }
        };
        let seen = block_on(std::pin::pin!(async {
            let db = db.asynchronous();
            let mut counted = db.subscribe(counter()).await.unwrap();
            counted.next().await.unwrap().unwrap();
            db.set("n", 5).await.unwrap();
            values(counted.next().await.unwrap().unwrap())
        }));
        assert_eq!(seen, 5);
    }
}
