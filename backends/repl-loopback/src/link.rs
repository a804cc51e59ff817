//! [`PeerLink`] on one side of a [`LinkState`].

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, LinkEnd, LinkMessage, Peer, PeerLink, Result};

use crate::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use crate::state::{LinkState, Side};

/// What both sides of a link share.
pub(crate) struct SharedLink {
    state: Mutex<LinkState>,
    time: Arc<HubTime>,
}

impl SharedLink {
    pub(crate) fn new(state: LinkState, time: Arc<HubTime>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), time })
    }

    /// Acts on the state, then wakes whom that concerns.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut LinkState, std::time::Duration) -> T) -> T {
        let now = self.time.now();
        let (answer, woken) = {
            let mut state = self.state.lock();
            let answer = act(&mut state, now);
            (answer, state.take_woken())
        };
        for waker in woken {
            waker.wake();
        }
        answer
    }
}

/// One side of a link.
pub(crate) struct LoopbackLink {
    shared: Arc<SharedLink>,
    side: Side,
    peer: Peer,
}

impl LoopbackLink {
    pub(crate) fn new(shared: Arc<SharedLink>, side: Side, peer: Peer) -> Self {
        Self { shared, side, peer }
    }
}

/// The first bytes of a reason, whole characters.
pub(crate) fn bounded_reason(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

#[async_trait]
impl PeerLink for LoopbackLink {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    async fn send(&self, message: LinkMessage) -> Result<()> {
        let body = message.body;
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the message is longer than a link takes")
                .backend("loopback")
                .operation("send")
                .context("message_bytes_max", MESSAGE_BYTES_MAX));
        }
        poll_fn(|context| {
            self.shared.with(|state, now| state.poll_send(self.side, now, &body, context))
        })
        .await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        poll_fn(|context| self.shared.with(|state, now| state.poll_next(self.side, now, context)))
            .await
    }

    async fn close(&self, reason: &str) -> Result<()> {
        let reason = bounded_reason(reason);
        self.shared.with(|state, now| state.close(self.side, now, reason));
        Ok(())
    }

    fn end(&self) -> Option<LinkEnd> {
        self.shared.with(|state, _| state.end(self.side))
    }
}

impl Drop for LoopbackLink {
    fn drop(&mut self) {
        self.shared.with(|state, now| state.close(self.side, now, ""));
    }
}

impl fmt::Debug for LoopbackLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackLink")
            .field("side", &self.side)
            .field("peer", &self.peer)
            .field("end", &self.end())
            .finish()
    }
}

/// The hub's own time, in microseconds since it was made.
#[derive(Debug, Default)]
pub(crate) struct HubTime(AtomicU64);

impl HubTime {
    pub(crate) fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::AcqRel);
    }
}
