//! One subscription between the connection that feeds it and the stream that is read.
//!
//! Invariants: events are queued in the order of their commits, and the position is that of the
//! newest one queued, so whatever follows a lost connection goes on right behind it; the queue is
//! bounded in bytes. A reader that falls behind costs the subscription at the server, not memory
//! here: it is asked for again, from the position, once the queue is read.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::answer::{Answer, Told};
use crate::error::{ClientError, ClientErrorKind};
use crate::event::{Position, SubscriptionEvent, parse_changes, parse_data};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The server was asked, or will be as soon as there is a connection.
    Asked,
    /// Events flow.
    Open,
    /// The reader was too slow: nothing flows until the queue is read.
    Lagging,
    /// No event follows those that are queued.
    Ended,
}

/// What the connection is to do with a subscription now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// End it at the server.
    Unsubscribe,
    /// Ask again after a pause.
    AskLater,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Feed {
    state: Mutex<State>,
    /// The request without `id`, `since`, `epoch` and the braces.
    fields: String,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The id of the request that it was last asked for with.
    id: u64,
    /// As of the newest event queued.
    position: Option<Position>,
    /// The epoch of the last acknowledgement, that of the frames that follow it.
    epoch: String,
    queue: VecDeque<Queued>,
    bytes: usize,
    waker: Option<Waker>,
    /// Told of the first acknowledgement.
    opened: Option<oneshot::Sender<Result<(), ClientError>>>,
    /// As of the newest event read.
    read: Option<Position>,
}

#[derive(Debug)]
enum Queued {
    Data { is_reset: bool, data: String, position: Position },
    Changes { text: String, position: Position },
    End(ClientError),
}

impl Queued {
    fn bytes(&self) -> usize {
        match self {
            Self::Data { data, .. } => data.len(),
            Self::Changes { text, .. } => text.len(),
            Self::End(_) => 0,
        }
    }
}

/// What a reader gets.
pub(crate) enum Read {
    Event(SubscriptionEvent),
    Failed(ClientError),
    Ended,
    /// Nothing is queued and nothing will be: ask the server again.
    AskAgain,
}

impl Feed {
    pub(crate) fn new(
        fields: String,
        position: Option<Position>,
        bytes_max: usize,
    ) -> (Self, oneshot::Receiver<Result<(), ClientError>>) {
        let (opened, is_open) = oneshot::channel();
        let state = State {
            phase: Phase::Asked,
            id: 0,
            read: position.clone(),
            position,
            epoch: String::new(),
            queue: VecDeque::new(),
            bytes: 0,
            waker: None,
            opened: Some(opened),
        };
        (Self { state: Mutex::new(state), fields, bytes_max }, is_open)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever did, the state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that asks for it under this id, from where it stands.
    pub(crate) fn request(&self, id: u64) -> String {
        let mut state = self.lock();
        state.id = id;
        state.phase = Phase::Asked;
        let mut frame = format!("{{\"id\":\"{id}\",{}", self.fields);
        if let Some(position) = &state.position {
            // Epochs are ASCII without quotes; whatever else came is refused by the server.
            let epoch = serde_json::Value::from(position.epoch.as_str());
            let _infallible = write!(frame, ",\"since\":{},\"epoch\":{epoch}", position.rev);
        }
        frame.push('}');
        frame
    }

    /// The id it was last asked for with, and its phase.
    pub(crate) fn standing(&self) -> (u64, Phase) {
        let state = self.lock();
        (state.id, state.phase)
    }

    /// As of the newest event read.
    pub(crate) fn read_position(&self) -> Option<Position> {
        self.lock().read.clone()
    }

    /// The server answered the request.
    pub(crate) fn acknowledge(&self, outcome: Result<Answer, ClientError>) -> Next {
        let mut state = self.lock();
        if state.phase == Phase::Ended {
            return Next::Nothing;
        }
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) if error.is_retryable() && state.opened.is_none() => return Next::AskLater,
            Err(error) => {
                state.end(error);
                return Next::Nothing;
            }
        };
        let Some(epoch) = answer.epoch else {
            let message = "the acknowledgement of a subscription has no epoch";
            state.end(ClientError::new(ClientErrorKind::Protocol, message));
            return Next::Unsubscribe;
        };
        state.phase = Phase::Open;
        state.epoch = epoch;
        if !answer.resumed {
            let position = Position { rev: answer.rev, epoch: state.epoch.clone() };
            let is_reset = answer.reset || state.position.is_some();
            let data = answer.data.get().to_owned();
            state.queue(Queued::Data { is_reset, data, position });
        }
        if let Some(opened) = state.opened.take() {
            // Nobody waits any more: the subscription is about to be dropped.
            let _is_awaited = opened.send(Ok(())).is_ok();
        }
        Next::Nothing
    }

    /// A frame of the server for this subscription.
    pub(crate) fn tell(&self, told: Told, text: &str) -> Next {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Next::Nothing;
        }
        let epoch = state.epoch.clone();
        let queued = match told {
            Told::Changes { rev } => {
                let position = Position { rev, epoch };
                Queued::Changes { text: text.to_owned(), position }
            }
            Told::Reset { rev, epoch: newer, data } => {
                if let Some(newer) = newer {
                    state.epoch = newer;
                }
                let position = Position { rev, epoch: state.epoch.clone() };
                Queued::Data { is_reset: true, data, position }
            }
            Told::Cancelled(error) if error.is_retryable() => {
                state.phase = Phase::Asked;
                return Next::AskLater;
            }
            Told::Cancelled(error) => {
                state.end(error);
                return Next::Nothing;
            }
        };
        if !state.queue.is_empty() && state.bytes + queued.bytes() > self.bytes_max {
            state.phase = Phase::Lagging;
            return Next::Unsubscribe;
        }
        state.queue(queued);
        Next::Nothing
    }

    /// Nobody reads any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        state.queue = VecDeque::new();
        state.bytes = 0;
    }

    /// No event follows any more.
    pub(crate) fn end(&self, error: ClientError) {
        self.lock().end(error);
    }

    /// What is to be read next.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>) -> Poll<Read> {
        let mut state = self.lock();
        let Some(queued) = state.queue.pop_front() else {
            return match state.phase {
                Phase::Ended => Poll::Ready(Read::Ended),
                Phase::Lagging => Poll::Ready(Read::AskAgain),
                Phase::Asked | Phase::Open => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        };
        state.bytes -= queued.bytes();
        let (event, position) = match queued {
            Queued::End(error) => return Poll::Ready(Read::Failed(error)),
            Queued::Changes { text, position } => {
                (parse_changes(&text).map(SubscriptionEvent::Changes), position)
            }
            Queued::Data { is_reset, data, position } => {
                let rev = position.rev;
                let event = parse_data(&data).map(|data| match is_reset {
                    true => SubscriptionEvent::Reset { data, rev },
                    false => SubscriptionEvent::Snapshot { data, rev },
                });
                (event, position)
            }
        };
        Poll::Ready(match event {
            Ok(event) => {
                state.read = Some(position);
                Read::Event(event)
            }
            Err(error) => {
                state.queue.clear();
                state.bytes = 0;
                state.phase = Phase::Ended;
                Read::Failed(error)
            }
        })
    }
}

impl State {
    fn queue(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        if let Queued::Data { position, .. } | Queued::Changes { position, .. } = &queued {
            self.position = Some(position.clone());
        }
        self.queue.push_back(queued);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn end(&mut self, error: ClientError) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        match self.opened.take() {
            Some(opened) => {
                let _is_awaited = opened.send(Err(error)).is_ok();
            }
            None => self.queue(Queued::End(error)),
        }
    }
}
