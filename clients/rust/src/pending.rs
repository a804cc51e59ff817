//! Requests between the call and the answer.
//!
//! Invariants: ids grow in the order of the calls; what is unanswered when a connection is lost is
//! written again in that order, before anything newer; a call that is given up is forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::answer::{Answer, Hello};
use crate::error::{ClientError, ClientErrorKind};
use crate::options::ClientOptions;

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
}

#[derive(Debug)]
struct State {
    next_id: u64,
    /// The first id that was not written on this connection.
    write_from: u64,
    pending: BTreeMap<u64, Pending>,
    hello: Hello,
}

#[derive(Debug)]
struct Pending {
    frame: Utf8Bytes,
    reply: oneshot::Sender<Result<Answer, ClientError>>,
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
            state: Mutex::new(State { next_id: 1, write_from: 1, pending: BTreeMap::new(), hello }),
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
        let frame_bytes_max = state.hello.limits.frame_bytes;
        if frame.len() > frame_bytes_max {
            return Err(ClientError::new(
                ClientErrorKind::Invalid,
                format!(
                    "the request has {} bytes, the server takes {frame_bytes_max}; write it in \
                     parts, or over HTTP (update_over_http)",
                    frame.len()
                ),
            ));
        }
        state.next_id += 1;
        state.pending.insert(id, Pending { frame: frame.into(), reply });
        drop(state);
        self.wake.notify_one();
        Ok(Waiting { shared: self, id, answer })
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

    /// A new connection: everything unanswered is to be written again.
    pub(crate) fn rewind(&self, hello: Option<Hello>) {
        let mut state = self.lock();
        state.write_from = 0;
        if let Some(hello) = hello {
            state.hello = hello;
        }
    }

    /// Hands an answer to its call; an answer nobody waits for any more is dropped.
    pub(crate) fn resolve(&self, id: &str, outcome: Result<Answer, ClientError>) {
        let Ok(id) = id.parse::<u64>() else {
            return;
        };
        let pending = self.lock().pending.remove(&id);
        if let Some(pending) = pending {
            // The call may have been given up at this very moment.
            let _is_awaited = pending.reply.send(outcome).is_ok();
        }
    }

    /// Ends every call that waits.
    pub(crate) fn fail_all(&self) {
        let pending = std::mem::take(&mut self.lock().pending);
        for request in pending.into_values() {
            let error = ClientError::new(ClientErrorKind::Closed, "the client was closed");
            let _is_awaited = request.reply.send(Err(error)).is_ok();
        }
    }

    /// How the server introduced itself last.
    pub(crate) fn hello(&self) -> Hello {
        self.lock().hello.clone()
    }
}
