//! The Trellis server: WebSocket, REST and the `trellis` binary.
//!
//! Purpose: puts a [`trellis::Trellis`] on the network in the words of PROTOCOL.md and
//! docs/protocol.md. [`router`] is for host applications that have an HTTP server already,
//! [`serve`] is a whole one.
//!
//! Invariants:
//! 1. A connection's writes are handed to the tree in the order of arrival; nothing is
//!    acknowledged before the tree says that it is durable.
//! 2. Every queue is bounded: requests in flight per connection (by number and bytes) and in all,
//!    answers of one read job, events of an inbox, chunks of a streamed body, connections. Beyond
//!    the bound the server stops reading, passes events over and says so, or answers `busy`; it
//!    never grows.
//! 3. No input of a client makes the process panic or a connection silent: it is answered, or the
//!    connection is closed with a reason.
//! 4. Blocking engine calls run on `trellis_runtime`, never on the executor.
//!
//! Not here: rules and identity (a server without rules serves loopback only), TLS (a proxy's
//! work), what a subscription or a query means (`trellis_subscribe` and `trellis_query` know).

mod admin;
mod admin_indexes;
mod admin_repl;
mod answer;
mod body;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod error;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod in_flight;
mod lease;
mod lease_rest;
mod listen;
mod live;
mod live_job;
mod live_request;
mod live_stream;
mod location;
mod metrics;
mod metrics_repl;
mod openapi;
mod operation;
mod options;
mod peers;
mod queries;
mod query_text;
mod read_job;
mod recent_keys;
mod replication;
mod rest;
mod rest_read;
mod rest_write;
mod routes;
mod socket;
mod sse;
mod state;
mod stream;
mod text;
mod wire;

pub use guard::check_listen_address;
pub use listen::{serve, serve_on};
pub use options::ServerOptions;
pub use routes::router;
pub use state::{Server, VERSION};
