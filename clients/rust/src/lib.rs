//! Async client for a Trellis server: one WebSocket, many requests at once, writes that are safe to
//! retry.
//!
//! Purpose: what an application needs to use a server from another process, in the words of the
//! protocol. Large subtrees go over HTTP, which streams ([`Client::export`]).
//!
//! Invariants:
//! 1. Requests are written in the order of the calls; answers may come in any order.
//! 2. A lost connection is made anew, and what was not answered is sent again. Every write carries
//!    an idempotency key, so that a write which did arrive counts once.
//! 3. Whatever waits is bounded: requests and bytes in flight by [`ClientOptions`], time by the
//!    deadline of each request.
//!
//! 4. A subscription ([`Client::subscribe`]) is asked for again after a lost connection, from where
//!    it was: its reader sees each commit once and in order, or is told that there is a gap.
//!
//! Not here: TLS (put a proxy or a tunnel in front).
//!
//! ```no_run
//! # async fn example() -> Result<(), trellis_client::ClientError> {
//! use trellis_client::{Client, ClientOptions};
//!
//! let client = Client::connect("ws://127.0.0.1:4400/db", ClientOptions::default()).await?;
//! client.set("users/u1", &serde_json::json!({"name": "Alice"})).await?;
//! assert_eq!(client.get("users/u1/name").await?, "Alice");
//! # Ok(())
//! # }
//! ```

mod admin;
mod answer;
mod client;
mod connection;
mod error;
mod event;
mod feed;
mod http;
mod on_disconnect;
mod operation;
mod options;
mod pending;
mod presence;
mod query;
mod subscription;
mod target;

pub use admin::{Admin, Archive};
pub use answer::{Child, Children, Hello, HelloLimits, Written};
pub use client::Client;
pub use error::{ClientError, ClientErrorKind, FailedCondition};
pub use event::{Change, ChangeKind, Changes, Position, SubscriptionEvent};
pub use http::{Export, ExportFormat};
pub use on_disconnect::OnDisconnect;
pub use operation::{Check, Condition, Expiry, Operation, WriteOptions};
pub use options::ClientOptions;
pub use presence::{ConnectionState, ConnectionWatch};
pub use query::{Query, QueryAnswer, QueryItem};
pub use subscription::{SubscribeKind, SubscribeMode, SubscribeOptions, Subscription};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
