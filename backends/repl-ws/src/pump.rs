//! The task behind a link: moves frames between its socket and its queues, and says goodbye.
//!
//! One future, driven by whoever has the socket: the replicator's runtime for dialed links, the
//! server's connection for accepted ones.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Sleep;
use trellis_engine_traits::{
    EndedBy, ErrorKind, FrameSocket, SocketEvent, SocketFault, SocketPoll,
};

use crate::state::{Outgoing, SharedState};

/// How long a goodbye may take: to be written, and then to be answered.
const GOODBYE_TIME: Duration = Duration::from_secs(2);

/// How far the goodbye is.
enum Goodbye {
    NotYet,
    /// To be said, once there is room for it.
    Due(String),
    /// Being written.
    Saying,
    /// Written. What comes in is thrown away until the peer has closed too: a socket that is
    /// dropped with unread bytes takes from the peer what it has not read yet.
    Lingering,
}

pub(crate) struct Pump {
    state: Arc<SharedState>,
    socket: Box<dyn FrameSocket>,
    /// Whose clock bounds the goodbye.
    handle: Handle,
    frame: Option<Bytes>,
    must_flush: bool,
    goodbye: Goodbye,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Pump {
    pub(crate) fn new(
        state: Arc<SharedState>,
        socket: Box<dyn FrameSocket>,
        handle: Handle,
    ) -> Self {
        let goodbye = Goodbye::NotYet;
        Self { state, socket, handle, frame: None, must_flush: false, goodbye, deadline: None }
    }

    /// Writes what there is. Ready when the connection is at its end.
    fn poll_write(&mut self, context: &mut Context<'_>) -> SocketPoll<()> {
        while matches!(self.goodbye, Goodbye::NotYet) {
            if self.frame.is_none() {
                match self.state.poll_outgoing() {
                    Poll::Ready(Outgoing::Frame(frame)) => self.frame = Some(frame),
                    Poll::Ready(Outgoing::Goodbye(reason)) => {
                        self.goodbye = Goodbye::Due(reason);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            match self.socket.poll_ready(context)? {
                Poll::Ready(()) => {
                    if let Some(frame) = self.frame.take() {
                        self.socket.start_send(SocketEvent::Frame(frame))?;
                        self.must_flush = true;
                    }
                }
                Poll::Pending => break,
            }
        }
        if let Goodbye::Due(reason) = &self.goodbye {
            let reason = reason.clone();
            ready!(self.socket.poll_ready(context))?;
            self.socket.start_send(SocketEvent::Closed(reason))?;
            self.goodbye = Goodbye::Saying;
        }
        if matches!(self.goodbye, Goodbye::Saying) {
            ready!(self.socket.poll_flush(context))?;
            self.goodbye = Goodbye::Lingering;
            self.state.done();
            return Poll::Ready(Ok(()));
        }
        if self.must_flush && self.socket.poll_flush(context)?.is_ready() {
            self.must_flush = false;
        }
        Poll::Pending
    }

    /// Reads what there is room for. Ready when the peer is at its end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> SocketPoll<String> {
        loop {
            let is_over = !matches!(self.goodbye, Goodbye::NotYet);
            if !is_over && !self.state.has_room() {
                return Poll::Pending;
            }
            match self.socket.poll_next(context)? {
                Poll::Ready(SocketEvent::Frame(_)) if is_over => {}
                Poll::Ready(SocketEvent::Frame(frame)) => self.state.push_incoming(frame),
                Poll::Ready(SocketEvent::Closed(reason)) => return Poll::Ready(Ok(reason)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.goodbye, Goodbye::NotYet) && self.state.end().is_none() {
            return Poll::Pending;
        }
        let handle = &self.handle;
        let deadline = self.deadline.get_or_insert_with(|| {
            let _entered = handle.enter();
            Box::pin(tokio::time::sleep(GOODBYE_TIME))
        });
        deadline.as_mut().poll(context)
    }

    /// The peer ended in order, or an error says how the connection did. Ready when there is
    /// nobody left to say goodbye to.
    fn ended(&mut self, outcome: Result<String, SocketFault>) -> Poll<()> {
        let fault = match outcome {
            Ok(reason) => {
                self.state.fail(EndedBy::Peer, ErrorKind::Unavailable, &reason, false);
                return Poll::Ready(());
            }
            Err(fault) => fault,
        };
        let kind = match fault {
            SocketFault::Gone => ErrorKind::Unavailable,
            SocketFault::TooLarge => ErrorKind::TooLarge,
            SocketFault::NotBinary | SocketFault::Malformed => ErrorKind::Corrupt,
        };
        let may_tell = kind != ErrorKind::Unavailable && matches!(self.goodbye, Goodbye::NotYet);
        self.state.fail(EndedBy::Transport, kind, &fault.to_string(), may_tell);
        if may_tell { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let pump = &mut *self;
        pump.state.register(context);
        // A failed write ends the connection, whatever it failed of.
        if let Poll::Ready(Err(_fault)) = pump.poll_write(context) {
            // What came in before the connection broke is still handed out.
            drain(pump, context);
            return pump.ended(Err(SocketFault::Gone));
        }
        if let Poll::Ready(outcome) = pump.poll_read(context) {
            if pump.ended(outcome).is_ready() {
                return Poll::Ready(());
            }
            // There is a goodbye to be said now.
            context.waker().wake_by_ref();
        }
        pump.poll_deadline(context)
    }
}

/// Takes what the socket has already, as far as there is room.
fn drain(pump: &mut Pump, context: &mut Context<'_>) {
    while pump.state.has_room() {
        match pump.socket.poll_next(context) {
            Poll::Ready(Ok(SocketEvent::Frame(frame))) => pump.state.push_incoming(frame),
            Poll::Ready(Ok(SocketEvent::Closed(reason))) => {
                pump.state.fail(EndedBy::Peer, ErrorKind::Unavailable, &reason, false);
                return;
            }
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let reason = "the connection was given up";
        self.state.fail(EndedBy::Transport, ErrorKind::Unavailable, reason, false);
        self.state.done();
    }
}
