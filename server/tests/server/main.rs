//! The server's promises, through its doors: WebSocket, REST, and the command line.

mod bad_input;
#[cfg(feature = "cli")]
mod command_line;
mod harness;
mod limits;
mod rest;
mod stopping;
mod websocket;
