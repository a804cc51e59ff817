//! What a link and the task behind its socket share: two bounded queues of frames, and the end.
//!
//! Plain locks and wakers, so that any executor polls the link's side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{EndedBy, Error, ErrorKind, LinkEnd, Result};

use crate::limits::{BUFFERED_BYTES_MAX, REASON_BYTES_MAX};

/// What a frame costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Lane {
    fn has_room(&self) -> bool {
        self.bytes < BUFFERED_BYTES_MAX
    }

    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len() + OVERHEAD_BYTES;
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len() + OVERHEAD_BYTES);
        Some(frame)
    }
}

/// Why a link ended, and what its calls then answer.
#[derive(Debug, Clone)]
struct Ended {
    end: LinkEnd,
    kind: ErrorKind,
}

#[derive(Debug, Default)]
struct State {
    outgoing: Lane,
    incoming: Lane,
    ended: Option<Ended>,
    /// The goodbye that the task is to say; stays.
    goodbye: Option<String>,
    /// The task has said goodbye, or is no more.
    is_done: bool,
    task: Option<Waker>,
    receiver: Option<Waker>,
    /// Those who wait for room, and for the goodbye.
    waiting: Vec<Waker>,
}

/// What the task does next with its socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Frame(Bytes),
    /// Say goodbye, once everything before is written.
    Goodbye(String),
}

#[derive(Debug, Default)]
pub(crate) struct SharedState(Mutex<State>);

impl SharedState {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Acts on the state, then wakes those whom `act` put on its list.
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let answer = act(&mut self.0.lock(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        answer
    }

    /// The link's side: whether a frame may be given, which `frame` then makes.
    pub(crate) fn poll_send(
        &self,
        context: &Context<'_>,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<()>> {
        self.with(|state, woken| {
            if let Some(ended) = &state.ended {
                return Poll::Ready(Err(refusal(ended)));
            }
            if !state.outgoing.has_room() {
                wait(&mut state.waiting, context);
                return Poll::Pending;
            }
            if let Some(frame) = frame.take() {
                state.outgoing.push(frame);
            }
            woken.extend(state.task.take());
            Poll::Ready(Ok(()))
        })
    }

    /// The link's side: the next frame.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Result<Option<Bytes>>> {
        self.with(|state, woken| {
            let is_closed = |ended: &Ended| ended.end.by == EndedBy::Here;
            if state.ended.as_ref().is_some_and(is_closed) {
                return Poll::Ready(Err(closed()));
            }
            if let Some(frame) = state.incoming.pop() {
                woken.extend(state.task.take());
                return Poll::Ready(Ok(Some(frame)));
            }
            match &state.ended {
                Some(ended) if ended.end.by == EndedBy::Peer => Poll::Ready(Ok(None)),
                Some(ended) => Poll::Ready(Err(refusal(ended))),
                None => {
                    state.receiver = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// The link's side: no more of this link, and the peer is told why.
    pub(crate) fn close(&self, reason: &str) {
        self.with(|state, woken| {
            if state.ended.as_ref().is_some_and(|ended| ended.end.by == EndedBy::Here) {
                return;
            }
            let reason = bounded(reason);
            if state.ended.is_none() {
                state.goodbye.get_or_insert_with(|| reason.to_owned());
            }
            let end = LinkEnd { by: EndedBy::Here, reason: reason.to_owned() };
            state.ended = Some(Ended { end, kind: ErrorKind::Closed });
            state.incoming = Lane::default();
            wake_all(state, woken);
        });
    }

    /// Ready once the goodbye is on its way, or cannot be.
    pub(crate) fn poll_done(&self, context: &Context<'_>) -> Poll<()> {
        self.with(|state, _| {
            if state.is_done {
                return Poll::Ready(());
            }
            wait(&mut state.waiting, context);
            Poll::Pending
        })
    }

    /// The link is over for this reason, unless it was before. With `goodbye` the peer is told.
    pub(crate) fn fail(&self, by: EndedBy, kind: ErrorKind, reason: &str, goodbye: bool) {
        self.with(|state, woken| {
            let reason = bounded(reason).to_owned();
            if goodbye {
                state.goodbye.get_or_insert_with(|| reason.clone());
                state.outgoing = Lane::default();
            }
            state.ended.get_or_insert(Ended { end: LinkEnd { by, reason }, kind });
            wake_all(state, woken);
        });
    }

    /// The task's side: the goodbye is on its way, or the task ends.
    pub(crate) fn done(&self) {
        self.with(|state, woken| {
            state.is_done = true;
            state.outgoing = Lane::default();
            wake_all(state, woken);
        });
    }

    /// The task's side: whom to wake for whatever happens here, also while the task waits for its
    /// socket alone.
    pub(crate) fn register(&self, context: &Context<'_>) {
        self.with(|state, _| match &mut state.task {
            Some(task) => task.clone_from(context.waker()),
            None => state.task = Some(context.waker().clone()),
        });
    }

    /// The task's side: what to write next; it is woken for more as it is registered.
    pub(crate) fn poll_outgoing(&self) -> Poll<Outgoing> {
        self.with(|state, woken| {
            if let Some(frame) = state.outgoing.pop() {
                if state.outgoing.has_room() {
                    woken.append(&mut state.waiting);
                }
                return Poll::Ready(Outgoing::Frame(frame));
            }
            if let Some(reason) = &state.goodbye {
                return Poll::Ready(Outgoing::Goodbye(reason.clone()));
            }
            Poll::Pending
        })
    }

    /// The task's side: whether there is room for what the socket has.
    pub(crate) fn has_room(&self) -> bool {
        self.with(|state, _| state.incoming.has_room())
    }

    /// The task's side: a frame came in.
    pub(crate) fn push_incoming(&self, frame: Bytes) {
        self.with(|state, woken| {
            if state.ended.is_none() {
                state.incoming.push(frame);
                woken.extend(state.receiver.take());
            }
        });
    }

    pub(crate) fn end(&self) -> Option<LinkEnd> {
        self.with(|state, _| state.ended.as_ref().map(|ended| ended.end.clone()))
    }
}

fn wait(waiting: &mut Vec<Waker>, context: &Context<'_>) {
    waiting.retain(|waker| !waker.will_wake(context.waker()));
    waiting.push(context.waker().clone());
}

fn wake_all(state: &mut State, woken: &mut Vec<Waker>) {
    woken.extend(state.task.take());
    woken.extend(state.receiver.take());
    woken.append(&mut state.waiting);
}

/// The first bytes of a reason, whole characters.
fn bounded(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this was closed here").backend("ws")
}

fn refusal(ended: &Ended) -> Error {
    let message = match ended.end.by {
        EndedBy::Here => return closed(),
        EndedBy::Peer => "the peer closed the link",
        EndedBy::Transport => "the link is broken",
    };
    Error::new(ended.kind, message).backend("ws").context("reason", &ended.end.reason)
}
