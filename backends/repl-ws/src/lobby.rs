//! Where accepted links wait.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use trellis_engine_traits::Result;

use crate::link::WsLink;
use crate::state::closed;

/// Links that may wait for `accept`; one more is closed with a reason.
const WAITING_LINKS_MAX: usize = 256;

/// Where accepted links wait.
#[derive(Debug, Default)]
pub(crate) struct Lobby(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    links: VecDeque<WsLink>,
    wakers: Vec<Waker>,
    is_closed: bool,
}

impl Lobby {
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// Keeps a link for `accept`; where there is no place for it, it is closed and says why.
    pub(crate) fn enter(&self, link: WsLink) {
        let mut waiting = self.0.lock();
        if waiting.is_closed {
            return link.refuse("this node takes no links any more");
        }
        if waiting.links.len() >= WAITING_LINKS_MAX {
            return link.refuse("busy: too many links wait to be accepted");
        }
        waiting.links.push_back(link);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll_accept(&self, context: &Context<'_>) -> Poll<Result<WsLink>> {
        let mut waiting = self.0.lock();
        if waiting.is_closed {
            return Poll::Ready(Err(closed()));
        }
        if let Some(link) = waiting.links.pop_front() {
            return Poll::Ready(Ok(link));
        }
        waiting.wakers.retain(|waker| !waker.will_wake(context.waker()));
        waiting.wakers.push(context.waker().clone());
        Poll::Pending
    }

    /// Takes no more; answers the links that nobody accepted.
    pub(crate) fn close(&self) -> VecDeque<WsLink> {
        let mut waiting = self.0.lock();
        waiting.is_closed = true;
        let links = std::mem::take(&mut waiting.links);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
        links
    }
}
