//! Requests between the call and the answer.
//!
//! Invariants: ids grow in the order of the calls; what is unanswered when a connection is lost is
//! written again in that order, before anything newer; a call that is given up is forgotten; every
//! subscription is asked for again, under a new id, so that no frame of the old one is taken for
//! one of the new.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::answer::{Answer, Hello, Told};
use crate::error::{ClientError, ClientErrorKind};
use crate::feed::{Feed, Next, Phase};
use crate::options::ClientOptions;
use crate::presence::Presence;

/// What the calls and the connection task share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Rings when there is something to write.
    pub(crate) wake: Notify,
    pub(crate) closed: watch::Sender<bool>,
    pub(crate) requests: Semaphore,
    pub(crate) bytes: Semaphore,
    pub(crate) options: ClientOptions,
    pub(crate) presence: Presence,
}

#[derive(Debug)]
struct State {
    next_id: u64,
    /// The first id that was not written on this connection.
    write_from: u64,
    pending: BTreeMap<u64, Pending>,
    /// The subscriptions that this connection has, or will have, by the id asked with.
    feeds: BTreeMap<u64, Arc<Feed>>,
    hello: Hello,
}

#[derive(Debug)]
struct Pending {
    frame: Utf8Bytes,
    reply: Reply,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Reply {
    Call(oneshot::Sender<Result<Answer, ClientError>>),
    Feed(Arc<Feed>),
    /// The end of a subscription; with the connection it would be lost anyhow.
    Nobody,
}

/// A request that waits for its answer; dropping it forgets the request.
pub(crate) struct Waiting<'a> {
    shared: &'a Shared,
    id: u64,
    pub(crate) answer: oneshot::Receiver<Result<Answer, ClientError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().pending.remove(&self.id);
    }
}

impl Shared {
    pub(crate) fn new(options: ClientOptions, hello: Hello) -> Self {
        Self {
            presence: Presence::new(&hello),
            state: Mutex::new(State {
                next_id: 1,
                write_from: 1,
                pending: BTreeMap::new(),
                feeds: BTreeMap::new(),
                hello,
            }),
            wake: Notify::new(),
            closed: watch::Sender::new(false),
            requests: Semaphore::new(options.in_flight_requests_max.max(1)),
            bytes: Semaphore::new(options.in_flight_bytes_max.max(1)),
            options,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever did, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `body` (a JSON object without an id) an id and queues it for writing.
    pub(crate) fn enqueue(&self, body: &str) -> Result<Waiting<'_>, ClientError> {
        if *self.closed.borrow() {
            return Err(ClientError::new(ClientErrorKind::Closed, "the client was closed"));
        }
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        let id = state.next_id;
        let fields = body.strip_prefix('{').unwrap_or(body);
        let frame = format!("{{\"id\":\"{id}\",{fields}");
        state.check_length(&frame)?;
        state.next_id += 1;
        state.pending.insert(id, Pending { frame: frame.into(), reply: Reply::Call(reply) });
        drop(state);
        self.wake.notify_one();
        Ok(Waiting { shared: self, id, answer })
    }

    /// Asks the server for a subscription, from where it stands.
    pub(crate) fn ask(&self, feed: &Arc<Feed>) -> Result<(), ClientError> {
        if *self.closed.borrow() {
            return Err(ClientError::new(ClientErrorKind::Closed, "the client was closed"));
        }
        self.lock().ask(feed)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Ends the subscription that was asked for under this id.
    pub(crate) fn unsubscribe(&self, id: u64) {
        let mut state = self.lock();
        if state.feeds.remove(&id).is_none() {
            return;
        }
        if id >= state.write_from && state.pending.remove(&id).is_some() {
            return;
        }
        let own = state.next_id;
        state.next_id += 1;
        let frame = format!("{{\"id\":\"{own}\",\"op\":\"unsub\",\"sub\":\"{id}\"}}");
        state.pending.insert(own, Pending { frame: frame.into(), reply: Reply::Nobody });
        drop(state);
        self.wake.notify_one();
    }

    /// Hands a frame to its subscription; one that has none any more is dropped.
    ///
    /// Gives a subscription back that is to be asked for again after a pause.
    pub(crate) fn tell(&self, sub: &str, told: Told, text: &str) -> Option<Arc<Feed>> {
        let id = sub.parse::<u64>().ok()?;
        let is_last = matches!(told, Told::Cancelled(_));
        let feed = match is_last {
            true => self.lock().feeds.remove(&id),
            false => self.lock().feeds.get(&id).map(Arc::clone),
        }?;
        match feed.tell(told, text) {
            Next::Nothing => None,
            Next::AskLater => Some(feed),
            Next::Unsubscribe => {
                self.unsubscribe(id);
                None
            }
        }
    }

    /// The next frames to be written, in order, of about `bytes_max` bytes together.
    pub(crate) fn take_unwritten(&self, bytes_max: usize) -> Vec<Utf8Bytes> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        let mut next = state.write_from;
        for (id, pending) in state.pending.range(state.write_from..) {
            if bytes >= bytes_max {
                break;
            }
            bytes += pending.frame.len();
            taken.push(pending.frame.clone());
            next = id + 1;
        }
        state.write_from = next;
        taken
    }

    /// The connection is lost: everything unanswered is to be written again, every subscription to
    /// be asked for from where it stands.
    pub(crate) fn rewind(&self) {
        let mut state = self.lock();
        state.write_from = 0;
        state.pending.retain(|_, pending| matches!(pending.reply, Reply::Call(_)));
        for feed in std::mem::take(&mut state.feeds).into_values() {
            if let Err(error) = state.ask(&feed) {
                feed.end(error);
            }
        }
    }

    /// There is a new connection, to this server.
    pub(crate) fn introduce(&self, hello: Hello) {
        self.presence.connected(&hello);
        self.lock().hello = hello;
    }

    /// Hands an answer to whoever waits for it; one that nobody waits for any more is dropped.
    ///
    /// Gives a subscription back that is to be asked for again after a pause.
    pub(crate) fn resolve(
        &self,
        id: &str,
        outcome: Result<Answer, ClientError>,
    ) -> Option<Arc<Feed>> {
        let id = id.parse::<u64>().ok()?;
        let pending = self.lock().pending.remove(&id)?;
        let feed = match pending.reply {
            Reply::Call(reply) => {
                // The call may have been given up at this very moment.
                let _is_awaited = reply.send(outcome).is_ok();
                return None;
            }
            Reply::Nobody => return None,
            Reply::Feed(feed) => feed,
        };
        if outcome.is_err() {
            self.lock().feeds.remove(&id);
        }
        match feed.acknowledge(outcome) {
            Next::Nothing => None,
            Next::AskLater => Some(feed),
            Next::Unsubscribe => {
                self.unsubscribe(id);
                None
            }
        }
    }

    /// Ends every call and every subscription.
    pub(crate) fn fail_all(&self) {
        let closed = || ClientError::new(ClientErrorKind::Closed, "the client was closed");
        let (pending, feeds) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.feeds))
        };
        for request in pending.into_values() {
            if let Reply::Call(reply) = request.reply {
                let _is_awaited = reply.send(Err(closed())).is_ok();
            }
        }
        for feed in feeds.into_values() {
            feed.end(closed());
        }
    }

    /// How the server introduced itself last.
    pub(crate) fn hello(&self) -> Hello {
        self.lock().hello.clone()
    }
}

impl State {
    fn ask(&mut self, feed: &Arc<Feed>) -> Result<(), ClientError> {
        if feed.standing().1 == Phase::Ended {
            return Ok(());
        }
        let id = self.next_id;
        let frame = feed.request(id);
        self.check_length(&frame)?;
        self.next_id += 1;
        let reply = Reply::Feed(Arc::clone(feed));
        self.pending.insert(id, Pending { frame: frame.into(), reply });
        self.feeds.insert(id, Arc::clone(feed));
        Ok(())
    }

    fn check_length(&self, frame: &str) -> Result<(), ClientError> {
        let frame_bytes_max = self.hello.limits.frame_bytes;
        if frame.len() <= frame_bytes_max {
            return Ok(());
        }
        Err(ClientError::new(
            ClientErrorKind::Invalid,
            format!(
                "the request has {} bytes, the server takes {frame_bytes_max}; write it in \
                 parts, or over HTTP (update_over_http)",
                frame.len()
            ),
        ))
    }
}
