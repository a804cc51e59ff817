//! The state of one link: two lanes under one lock, polled by two sides.
//!
//! Pure but for wakers, which the caller wakes once the lock is given back.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{EndedBy, Error, ErrorKind, LinkEnd, Result};

use crate::faults::Faults;
use crate::limits::BUFFERED_BYTES_MAX;

/// What a message costs beside its body, so that empty ones are bounded too.
const OVERHEAD_BYTES: usize = 64;

/// One of the two sides of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialing,
    Accepting,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialing => Self::Accepting,
            Self::Accepting => Self::Dialing,
        }
    }
}

/// What travels in a lane.
#[derive(Debug)]
enum Item {
    Message(Bytes),
    Close(String),
}

/// What goes towards one side, and what that side knows.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    items: VecDeque<(Duration, Item)>,
    bytes: usize,
    /// When the last item is due; the next is due no earlier.
    due: Duration,
    end: Option<LinkEnd>,
    receiver: Option<Waker>,
    /// Those who wait for room in this lane.
    senders: Vec<Waker>,
}

/// A link.
#[derive(Debug)]
pub(crate) struct LinkState {
    dialing: Lane,
    accepting: Lane,
    faults: Faults,
    messages: u64,
    woken: Vec<Waker>,
}

impl LinkState {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            dialing: Lane::default(),
            accepting: Lane::default(),
            faults,
            messages: 0,
            woken: Vec::new(),
        }
    }

    fn lane(&mut self, towards: Side) -> &mut Lane {
        match towards {
            Side::Dialing => &mut self.dialing,
            Side::Accepting => &mut self.accepting,
        }
    }

    pub(crate) fn end(&self, side: Side) -> Option<LinkEnd> {
        match side {
            Side::Dialing => self.dialing.end.clone(),
            Side::Accepting => self.accepting.end.clone(),
        }
    }

    /// Whom to wake, once the lock is given back.
    pub(crate) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    fn is_half_open(&self) -> bool {
        self.faults.half_open_after.is_some_and(|after| self.messages > after)
    }

    /// Takes a message from `side`, or keeps its waker while there is no room.
    pub(crate) fn poll_send(
        &mut self,
        side: Side,
        now: Duration,
        body: &Bytes,
        context: &Context<'_>,
    ) -> Poll<Result<()>> {
        if let Some(end) = &self.lane(side).end {
            return Poll::Ready(Err(refusal(end)));
        }
        let is_half_open = self.is_half_open();
        let lane = self.lane(side.other());
        if lane.end.as_ref().is_some_and(|end| end.by == EndedBy::Here) && !is_half_open {
            return Poll::Ready(Err(gone("the peer closed the link", "")));
        }
        if lane.bytes >= BUFFERED_BYTES_MAX {
            lane.senders.retain(|waker| !waker.will_wake(context.waker()));
            lane.senders.push(context.waker().clone());
            return Poll::Pending;
        }
        self.messages += 1;
        if self.is_half_open() {
            return Poll::Ready(Ok(()));
        }
        if self.faults.break_after.is_some_and(|after| self.messages > after) {
            self.break_off(now, "the link was broken by its fault plan");
            return Poll::Ready(Ok(()));
        }
        self.push(side.other(), now, Item::Message(body.clone()));
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, towards: Side, now: Duration, item: Item) {
        let bytes = cost(&item);
        let travels = self.faults.bytes_per_second.map_or(Duration::ZERO, |rate| {
            let micros = (bytes as u64).saturating_mul(1_000_000) / rate.max(1);
            Duration::from_micros(micros)
        });
        let delay = self.faults.delay;
        let lane = self.lane(towards);
        lane.due = lane.due.max(now + delay) + travels;
        lane.bytes += bytes;
        lane.items.push_back((lane.due, item));
        let receiver = lane.receiver.take();
        self.woken.extend(receiver);
    }

    /// What `side` gets next, or keeps its waker.
    pub(crate) fn poll_next(
        &mut self,
        side: Side,
        now: Duration,
        context: &Context<'_>,
    ) -> Poll<Result<Option<Bytes>>> {
        let lane = self.lane(side);
        if lane.end.as_ref().is_some_and(|end| end.by == EndedBy::Here) {
            return Poll::Ready(Err(closed()));
        }
        let is_due = lane.items.front().is_some_and(|(due, _)| *due <= now);
        if let Some((_, item)) = lane.items.pop_front_if(|_| is_due) {
            lane.bytes = lane.bytes.saturating_sub(cost(&item));
            let senders = std::mem::take(&mut lane.senders);
            let found = match item {
                Item::Message(body) => Some(body),
                Item::Close(reason) => {
                    // Also where the connection broke behind it: the last answer stays the same.
                    lane.end = Some(LinkEnd { by: EndedBy::Peer, reason });
                    None
                }
            };
            self.woken.extend(senders);
            return Poll::Ready(Ok(found));
        }
        match &lane.end {
            Some(end) if lane.items.is_empty() => Poll::Ready(match end.by {
                EndedBy::Peer => Ok(None),
                EndedBy::Here | EndedBy::Transport => Err(refusal(end)),
            }),
            _ => {
                lane.receiver = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// `side` ends the link.
    pub(crate) fn close(&mut self, side: Side, now: Duration, reason: &str) {
        if self.lane(side).end.as_ref().is_some_and(|end| end.by == EndedBy::Here) {
            return;
        }
        let was_open = self.lane(side).end.is_none();
        let here = LinkEnd { by: EndedBy::Here, reason: reason.to_owned() };
        let own = self.lane(side);
        own.end = Some(here);
        own.items.clear();
        own.bytes = 0;
        let wakers = own.receiver.take().into_iter().chain(own.senders.drain(..));
        let wakers: Vec<Waker> = wakers.collect();
        self.woken.extend(wakers);
        let waiting = std::mem::take(&mut self.lane(side.other()).senders);
        self.woken.extend(waiting);
        if was_open && !self.is_half_open() {
            self.push(side.other(), now, Item::Close(reason.to_owned()));
        }
    }

    /// The connection is gone for both; what is not due yet is lost.
    pub(crate) fn break_off(&mut self, now: Duration, reason: &str) {
        for side in [Side::Dialing, Side::Accepting] {
            let lane = self.lane(side);
            lane.items.retain(|(due, _)| *due <= now);
            let end = LinkEnd { by: EndedBy::Transport, reason: reason.to_owned() };
            lane.end.get_or_insert(end);
        }
        self.wake_all();
    }

    /// Everybody looks again: the time has moved, or the link is gone.
    pub(crate) fn wake_all(&mut self) {
        for side in [Side::Dialing, Side::Accepting] {
            let lane = self.lane(side);
            let wakers: Vec<Waker> =
                lane.receiver.take().into_iter().chain(lane.senders.drain(..)).collect();
            self.woken.extend(wakers);
        }
    }
}

fn cost(item: &Item) -> usize {
    match item {
        Item::Message(body) => body.len() + OVERHEAD_BYTES,
        Item::Close(_) => 0,
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this was closed here").backend("loopback")
}

fn refusal(end: &LinkEnd) -> Error {
    match end.by {
        EndedBy::Here => closed(),
        EndedBy::Peer => gone("the peer closed the link", &end.reason),
        EndedBy::Transport => gone("the link is broken", &end.reason),
    }
}

fn gone(message: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).backend("loopback").context("reason", reason)
}
