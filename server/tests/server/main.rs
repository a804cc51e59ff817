//! The server's promises, through its doors: WebSocket, REST, and the command line.

// Helpers of tests are no `#[test]` functions, which is all that clippy's own exception knows.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod admin;
mod bad_input;
#[cfg(feature = "cli")]
mod command_line;
mod event_streams;
mod harness;
mod leases;
mod limits;
#[cfg(feature = "cli")]
mod live_command_line;
mod live_queries;
#[cfg(feature = "cli")]
mod operators;
#[cfg(feature = "repl-ws")]
mod peers;
mod queries;
#[cfg(all(feature = "cli", feature = "repl-ws"))]
mod relay_killed;
#[cfg(all(feature = "cli", feature = "repl-ws"))]
mod repl_command_line;
#[cfg(feature = "repl-ws")]
mod replication;
mod rest;
mod stopping;
mod subscriptions;
mod websocket;
