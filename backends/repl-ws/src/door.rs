//! [`PeerDoor`]: takes the connections that a server has upgraded, and keeps them for `accept`.

use std::sync::Arc;

use tokio::runtime::Handle;
use trellis_engine_traits::{FrameSocket, Peer, PeerDoor, Serving};

use crate::limits::FRAME_BYTES_MAX;
use crate::link::WsLink;
use crate::open::WsReplicator;
use crate::pump::Pump;
use crate::state::SharedState;

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
