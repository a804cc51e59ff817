//! [`PeerLink`] over the queues of a [`SharedState`].

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{EndedBy, LinkEnd, LinkMessage, Peer, PeerLink, Result};

use crate::packing::{Packer, unpack};
use crate::state::SharedState;

pub(crate) struct WsLink {
    state: Arc<SharedState>,
    peer: Peer,
    packer: Mutex<Packer>,
}

impl WsLink {
    pub(crate) fn new(state: Arc<SharedState>, peer: Peer) -> Self {
        Self { state, peer, packer: Mutex::default() }
    }

    /// Closes a link that nobody takes.
    pub(crate) fn refuse(self, reason: &str) {
        self.state.close(reason);
    }
}

#[async_trait]
impl PeerLink for WsLink {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    async fn send(&self, message: LinkMessage) -> Result<()> {
        let mut frame = Some(self.packer.lock().pack(&message)?);
        // What waits for room is the packed frame, which is the smaller one.
        drop(message);
        poll_fn(|context| self.state.poll_send(context, &mut frame)).await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        let Some(frame) = poll_fn(|context| self.state.poll_next(context)).await? else {
            return Ok(None);
        };
        unpack(&frame).map(Some).inspect_err(|error| {
            self.state.fail(EndedBy::Transport, error.kind(), error.message(), true);
        })
    }

    async fn close(&self, reason: &str) -> Result<()> {
        self.state.close(reason);
        poll_fn(|context| self.state.poll_done(context)).await;
        Ok(())
    }

    fn end(&self) -> Option<LinkEnd> {
        self.state.end()
    }
}

impl Drop for WsLink {
    fn drop(&mut self) {
        self.state.close("");
    }
}

impl fmt::Debug for WsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsLink").field("peer", &self.peer).field("end", &self.end()).finish()
    }
}
