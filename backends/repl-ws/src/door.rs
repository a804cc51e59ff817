//! [`PeerDoor`]: takes the connections that a server has upgraded, and keeps them for `accept`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use trellis_engine_traits::{FrameSocket, Peer, PeerDoor, Result, Serving};

use crate::FRAME_BYTES_MAX;
use crate::link::WsLink;
use crate::open::WsReplicator;
use crate::pump::Pump;
use crate::state::{SharedState, closed};

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
    fn enter(&self, link: WsLink) {
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

impl PeerDoor for WsReplicator {
    fn frame_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX
    }

    fn enter(&self, peer: Peer, socket: Box<dyn FrameSocket>) -> Serving {
        let state = SharedState::new();
        self.keep(&state, true);
        self.lobby().enter(WsLink::new(Arc::clone(&state), peer));
        Box::pin(async move {
            // The executor that drives this has the clock; the replicator's own may be gone first.
            Pump::new(state, socket, Handle::current()).await;
        })
    }

    fn dismiss(&self, reason: &str) {
        for link in self.accepted() {
            link.close(reason);
        }
    }
}
