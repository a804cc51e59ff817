//! [`Replicator`] at one name of a hub.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use parking_lot::Mutex;
use trellis_engine_traits::{
    Error, ErrorKind, LinkLimits, LinkToken, Peer, PeerAddress, PeerLink, ReplProfile, Replicator,
    Result,
};

use crate::hub::LoopbackHub;
use crate::link::LoopbackLink;
use crate::state::closed;
use crate::{BUFFERED_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX};

/// Links that may wait for `accept`; one more is refused with `Busy`.
const WAITING_LINKS_MAX: usize = 256;

const PROFILE: ReplProfile = ReplProfile {
    name: "loopback",
    limits: LinkLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        buffered_bytes_max: BUFFERED_BYTES_MAX,
        reason_bytes_max: REASON_BYTES_MAX,
    },
};

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
    name: String,
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

    fn poll_accept(&self, context: &Context<'_>) -> Poll<Result<LoopbackLink>> {
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

    fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        let unaccepted = std::mem::take(&mut waiting.links);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        drop(unaccepted);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One endpoint of a [`LoopbackHub`]. Closed when it is dropped.
pub struct LoopbackReplicator {
    hub: LoopbackHub,
    door: Arc<Door>,
}

impl LoopbackReplicator {
    pub(crate) fn new(hub: LoopbackHub, door: Arc<Door>) -> Self {
        Self { hub, door }
    }

    /// What others dial.
    #[must_use]
    pub fn url(&self) -> String {
        format!("loopback:{}", self.door.name)
    }

    fn close_now(&self) {
        if !self.door.is_closed() {
            self.door.close();
            self.hub.close_links_of(&self.door.name);
        }
    }
}

#[async_trait]
impl Replicator for LoopbackReplicator {
    fn profile(&self) -> &ReplProfile {
        &PROFILE
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        if self.door.is_closed() {
            return Err(closed());
        }
        let refused = |kind, message: &str| {
            Err(Error::new(kind, message).backend("loopback").operation("connect"))
        };
        let name = match address.url.split_once(':') {
            Some(("loopback", name)) if !name.is_empty() => name,
            Some(("loopback", _)) => {
                return refused(ErrorKind::InvalidInput, "name an endpoint: `loopback:hub`");
            }
            Some(_) => {
                let message = "another scheme than `loopback:`";
                return refused(ErrorKind::Unsupported, message);
            }
            None => {
                return refused(ErrorKind::InvalidInput, "this is no URL: `loopback:hub` is one");
            }
        };
        let token = address.token.as_ref().map(LinkToken::reveal);
        let link = self.hub.dial(&self.door.name, name, token)?;
        // A close in the meantime has not seen the new link.
        if self.door.is_closed() { Err(closed()) } else { Ok(Box::new(link)) }
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        let link = poll_fn(|context| self.door.poll_accept(context)).await?;
        Ok(Box::new(link))
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }
}

impl Drop for LoopbackReplicator {
    fn drop(&mut self) {
        self.close_now();
    }
}

impl fmt::Debug for LoopbackReplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackReplicator").field("name", &self.door.name).finish_non_exhaustive()
    }
}
