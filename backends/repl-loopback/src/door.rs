//! Where links wait for the endpoint that was dialed, and who may dial it.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, LinkToken, Peer, Result};

use crate::link::LoopbackLink;
use crate::state::closed;

/// Links that may wait for `accept`; one more is refused with `Busy`.
const WAITING_LINKS_MAX: usize = 256;

/// A token that an endpoint takes, and who shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopbackPass {
    /// What [`Peer::name`] is then.
    pub name: Option<String>,
    /// What [`Peer::role`] is then.
    pub role: Option<String>,
    /// The secret.
    pub token: LinkToken,
}

/// Where links wait for the endpoint that was dialed.
pub(crate) struct Door {
    pub(crate) name: String,
    passes: Vec<LoopbackPass>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    links: VecDeque<LoopbackLink>,
    wakers: Vec<Waker>,
    is_closed: bool,
}

impl Door {
    pub(crate) fn new(name: &str, passes: Vec<LoopbackPass>) -> Self {
        Self { name: name.to_owned(), passes, waiting: Mutex::default() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().is_closed
    }

    /// Who dials with this token.
    pub(crate) fn admit(&self, from: &str, token: Option<&str>) -> Result<Peer> {
        let mut peer =
            Peer { is_local: true, address: format!("loopback:{from}"), ..Peer::default() };
        if self.passes.is_empty() {
            return Ok(peer);
        }
        let pass = self.passes.iter().find(|pass| Some(pass.token.reveal()) == token);
        let pass = pass.ok_or_else(|| {
            let message = "the endpoint takes peers with one of its tokens only";
            Error::new(ErrorKind::Denied, message).backend("loopback").operation("connect")
        })?;
        peer.name.clone_from(&pass.name);
        peer.role.clone_from(&pass.role);
        Ok(peer)
    }

    pub(crate) fn enter(&self, link: LoopbackLink) -> Result<()> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            let message = "the endpoint was closed";
            return Err(Error::new(ErrorKind::Unavailable, message).backend("loopback"));
        }
        if waiting.links.len() >= WAITING_LINKS_MAX {
            let message = "too many links wait to be accepted";
            return Err(Error::new(ErrorKind::Busy, message).backend("loopback"));
        }
        waiting.links.push_back(link);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    pub(crate) fn poll_accept(&self, context: &Context<'_>) -> Poll<Result<LoopbackLink>> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Poll::Ready(Err(closed()));
        }
        match waiting.links.pop_front() {
            Some(link) => Poll::Ready(Ok(link)),
            None => {
                waiting.wakers.retain(|waker| !waker.will_wake(context.waker()));
                waiting.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        let unaccepted = std::mem::take(&mut waiting.links);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        drop(unaccepted);
        wakers.into_iter().for_each(Waker::wake);
    }
}
