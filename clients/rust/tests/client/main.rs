//! The client's promises, against a real server, through a proxy that cuts connections.

// Helpers of tests are no `#[test]` functions, which is all that clippy's own exception knows.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod calls;
mod harness;
mod lost_connections;
mod presence;
mod resuming;
mod scripted;
mod subscriptions;
