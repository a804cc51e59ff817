//! A [`Replicator`](trellis_engine_traits::Replicator) within one process: nodes that find one
//! another by name at a [`LoopbackHub`].
//!
//! Purpose: several nodes in one host, and tests of what a link does when its network misbehaves:
//! a [`Faults`] plan breaks, delays, throttles, half-opens or duplicates links, always alike.
//!
//! Invariants:
//! 1. No thread, no timer and no clock: delays are in the hub's own time, which only
//!    [`LoopbackHub::advance`] moves.
//! 2. A direction of a link holds at most [`BUFFERED_BYTES_MAX`] bytes and one message.
//!
//! Not here: anything that a message means.

mod door;
mod endpoint;
mod faults;
mod hub;
mod limits;
mod link;
mod state;

pub use door::LoopbackPass;
pub use endpoint::LoopbackReplicator;
pub use faults::{Faults, LinkOpening};
pub use hub::LoopbackHub;
pub use limits::{BUFFERED_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
