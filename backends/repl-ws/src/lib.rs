//! A [`Replicator`](trellis_engine_traits::Replicator) over WebSockets: `ws://host:port/db`, with
//! the subprotocol [`SUBPROTOCOL`].
//!
//! One binary frame is one message: a byte that says how it is packed, then the body, as it is or
//! compressed. This crate dials; who listens is a server, which upgrades the connection and hands
//! it to the [`PeerDoor`](trellis_engine_traits::PeerDoor) that [`WsReplicator`] is.
//!
//! Invariants:
//! 1. A direction of a link holds at most [`BUFFERED_BYTES_MAX`] bytes and one message here, and
//!    what its socket and codec buffer: a peer that takes nothing costs bounded memory.
//! 2. No length that came in is believed before it is checked, and none beyond
//!    [`MESSAGE_BYTES_MAX`] is allocated for.
//! 3. The futures handed out are polled by any executor; sockets live on a tokio runtime of the
//!    replicator's own, or on the one it is given.
//!
//! Not here: heartbeats and silence (the session notices), TLS (a proxy's or tunnel's work), who
//! may come in (the server asks).

mod dial;
mod door;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod link;
mod lobby;
mod open;
mod packing;
mod pump;
mod socket;
mod state;

pub use limits::{
    BUFFERED_BYTES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX, SUBPROTOCOL,
};
pub use open::{WsOptions, WsReplicator};
