//! Live subscriptions: followers of the journal that miss nothing.
//!
//! A subscription begins with a snapshot at a rev, its acknowledgement, and is told of every later
//! commit that changes what it watches: exactly once, in the order of revs, at most one event a
//! commit. One thread follows the tree, finds the subscriptions that a commit touches by the
//! segments of its paths, evaluates each distinct one once, and hands the same bytes to all who
//! watch it.
//!
//! Invariants:
//! 1. What cannot be told exactly is not told: the subscription becomes stale, and its receiver
//!    takes a new snapshot. Nothing is lost silently.
//! 2. Memory is bounded: what waits to be told by [`LiveOptions::follow_bytes_max`], what waits in
//!    an inbox by [`LiveOptions::inbox_bytes_max`]. Writers never wait for a receiver.
//! 3. No async runtime: an inbox is waited for by a plain future or a blocked thread.
//!
//! Deliberately absent: connections, JSON requests, permissions, and queries by themselves.
//!
//! # Contract
//! - `live.sub.ack`: a snapshot and the events after it, applied in order, give the state of what
//!   is watched at every rev; nothing that is written at or after the acknowledgement is missed.
//! - `live.sub.once`: one commit makes at most one event for a subscription, in the order of revs.
//! - `live.sub.exact`: a commit that changes what is watched is told, any other is not; in every
//!   mode, with clears, arrays and endings.
//! - `live.sub.wildcards`: a wildcard stands for the keys of objects, system paths aside; the event
//!   names the path and what stood for the wildcards.
//! - `live.sub.query`: a watched query's snapshot and events give its window at every rev.
//! - `live.sub.resume`: a subscription goes on after the rev it names, across reconnects and
//!   restarts, with every event as if it had stayed; else it is reset, and never silently.
//! - `live.sub.slow`: what waits for a receiver is bounded; what is dropped is told as stale, and a
//!   new snapshot is exactly what is there.
//! - `live.sub.ends`: of an ended subscription nothing is told any more and nothing is kept.
//! - `live.sub.limits`: each limit takes its own value and refuses one more; a subscription that
//!   outgrows its frame ends and says what to do.

mod evaluate;
mod group;
mod inbox;
mod json;
mod live;
mod mailbox;
mod matching;
mod moment;
mod options;
mod patch;
mod pattern;
mod publisher;
mod register;
mod registry;
mod request;
mod resume;
mod resumer;
mod rounds;
mod snapshot;
mod trie;
mod window;

pub use inbox::{Inbox, Next};
pub use live::Live;
pub use options::{LiveOptions, LiveStats};
pub use pattern::{Pattern, WILDCARDS_MAX};
pub use request::{
    Acknowledgement, AcknowledgementKind, Delivery, Event, EventKind, Mode, Resume,
    SubscribeRequest, WatchedQuery,
};
