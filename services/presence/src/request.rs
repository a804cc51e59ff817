//! What the worker is asked for, and what comes back.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::{Alarm, Completion, CompletionSender, completion};

use crate::beat::Beat;
use crate::key::Key;
use crate::stats::PresenceStats;
use crate::write::Change;

/// How long a lease lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its id: a secret, for whoever knows it may renew, end or take over the lease.
    pub id: String,
    /// How long it lasts after it was last heard of.
    pub ttl: Duration,
    /// When it ends unless it is renewed, in milliseconds since 1970.
    pub expires_at_ms: u64,
}

/// What is stored with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Paths of all its stored writes.
    pub writes: usize,
    /// Bytes of all its stored writes.
    pub bytes: usize,
    /// The commit that stored it; the current one when nothing changed.
    pub rev: u64,
}

/// What the end of a lease came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Paths of the writes that ran.
    pub writes_run: usize,
    /// The commit in which they ran; the current one when there were none.
    pub rev: u64,
}

/// An answer on its way: a future under any executor, or waited for. Dropping it takes nothing
/// back.
pub struct Pending<T>(Completion<Result<T>>);

impl<T> Pending<T> {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// Those of the request; `Closed` when presence was closed before it was answered.
    pub fn wait(self) -> Result<T> {
        self.0.wait().unwrap_or_else(|| Err(closed()))
    }

    pub(crate) fn refused(error: Error) -> Self {
        let (sender, receiver) = completion();
        sender.send(Err(error));
        Self(receiver)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.0).poll(context);
        answered.map(|answer| answer.unwrap_or_else(|| Err(closed())))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

pub(crate) type Answer<T> = CompletionSender<Result<T>>;

/// How long a lease lasts, without its id, which the worker does not know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted {
    pub(crate) ttl_ms: u64,
    pub(crate) expires_at_ms: u64,
}

/// An answer about a lease's time, to which the id is added.
pub(crate) struct InfoAnswer {
    pub(crate) id: String,
    pub(crate) answer: Answer<LeaseInfo>,
}

impl InfoAnswer {
    pub(crate) fn send(self, granted: Result<Granted>) {
        let Self { id, answer } = self;
        answer.send(granted.map(|granted| LeaseInfo {
            id,
            ttl: Duration::from_millis(granted.ttl_ms),
            expires_at_ms: granted.expires_at_ms,
        }));
    }
}

/// What the worker is asked for.
pub(crate) enum Request {
    /// A lease without a connection.
    Create { key: Key, ttl_ms: u64, answer: InfoAnswer },
    /// It was heard of at this moment.
    Renew { key: Key, at_ms: u64, answer: InfoAnswer },
    /// A connection makes its lease known, or takes one over.
    Attach { key: Key, beat: Arc<Beat>, ttl_ms: Option<u64>, take: bool, answer: InfoAnswer },
    /// Store or cancel writes; with a beat, only as the holder.
    Store { key: Key, beat: Option<Arc<Beat>>, change: Change, answer: Answer<Stored> },
    /// End it now; with a beat, only as the holder.
    End { key: Key, beat: Option<Arc<Beat>>, answer: Option<Answer<Ended>> },
    /// The connection is gone without a goodbye.
    Release { key: Key, beat: Arc<Beat> },
}

impl Request {
    pub(crate) const fn key(&self) -> Key {
        match self {
            Self::Create { key, .. }
            | Self::Renew { key, .. }
            | Self::Attach { key, .. }
            | Self::Store { key, .. }
            | Self::End { key, .. }
            | Self::Release { key, .. } => *key,
        }
    }

    /// Whether it tells of an end, which must not get lost.
    const fn is_farewell(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::End { answer: None, .. })
    }

    /// Answers with an error.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Create { answer, .. }
            | Self::Renew { answer, .. }
            | Self::Attach { answer, .. } => answer.send(Err(error)),
            Self::Store { answer, .. } => answer.send(Err(error)),
            Self::End { answer: Some(answer), .. } => answer.send(Err(error)),
            Self::End { .. } | Self::Release { .. } => {}
        }
    }
}

/// What the handles and the worker share.
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) stats: Mutex<PresenceStats>,
    requests_max: usize,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(alarm: Arc<Alarm>, requests_max: usize) -> Self {
        Self { queue: Mutex::default(), alarm, stats: Mutex::default(), requests_max }
    }

    /// Hands a request to the worker; a refusal is its answer. Says whether it was handed over.
    pub(crate) fn send(&self, request: Request) -> bool {
        let mut queue = self.queue.lock();
        let refusal = if queue.closed {
            closed()
        } else if queue.requests.len() >= self.requests_max && !request.is_farewell() {
            Error::new(ErrorKind::Busy, "too many requests about leases wait; try again later")
                .operation("lease")
                .context("requests_max", self.requests_max)
        } else {
            queue.requests.push_back(request);
            drop(queue);
            self.alarm.ring();
            return true;
        };
        drop(queue);
        request.refuse(refusal);
        false
    }

    /// Everything that waits, and whether presence is being closed.
    pub(crate) fn take(&self) -> (VecDeque<Request>, bool) {
        let mut queue = self.queue.lock();
        (std::mem::take(&mut queue.requests), queue.closed)
    }

    /// Refuses every request from now on; those that wait are still taken.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.alarm.ring();
    }

    /// Refuses everything, those that wait included: nobody takes them any more.
    pub(crate) fn abandon(&self) {
        self.close();
        let (waiting, _) = self.take();
        waiting.into_iter().for_each(|request| request.refuse(closed()));
    }
}

/// A completion whose receiver is a [`Pending`].
pub(crate) fn pending<T>() -> (Answer<T>, Pending<T>) {
    let (sender, receiver) = completion();
    (sender, Pending(receiver))
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database was closed").operation("lease")
}

pub(crate) fn not_found() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "there is no such lease: it ended, or another connection took it over; ask for a new one",
    )
    .operation("lease")
}
