//! Presence: leases, and the writes that run when a lease ends.
//!
//! A lease is a promise to be heard of again: whoever holds it renews it within its time to live.
//! It carries writes ("set me offline") that are stored durably and run once when it ends: at once
//! when its holder says goodbye, or when nothing was heard for its time to live. A connection holds
//! one; who has no connection makes one and renews it.
//!
//! How: one worker thread owns all leases. It takes what was asked for, commits it, waits for all
//! of those commits together, and answers; so nothing is decided twice, and many leases share each
//! flush. Renewals of a held lease are one atomic store, which the worker looks at when the lease
//! would have ended.
//!
//! Invariants:
//! 1. Only the worker writes below the system path `_leases`, and only it decides that a lease
//!    ended. What is stored there names no lease: keys are hashes of the ids.
//! 2. A lease without stored writes that a connection holds is in memory only.
//! 3. The writes of a lease and its removal are one commit under the condition that it is there.
//! 4. Everything is bounded: leases, writes and bytes of each, requests that wait.
//!
//! Deliberately absent: connections and the wire (the server has them), and who may do what.
//!
//! # Contract
//! - `presence.end.once`: the writes of a lease run once, in one commit with its removal, whenever
//!   the process is killed.
//! - `presence.end.close`: at a goodbye they run at once.
//! - `presence.end.silence`: after silence they run when the time to live is over, not before.
//! - `presence.end.restart`: a lease with stored writes survives a restart, and its remaining time
//!   counts on.
//! - `presence.end.rest`: a write that can no longer be applied is dropped and counted; the others
//!   run.
//! - `presence.end.retried`: when there is no room, or writes are paused, they run later.
//! - `presence.lease.ended`: a lease that ended cannot be renewed, taken over or written to.
//! - `presence.lease.take`: who takes a lease over holds it; who held it before holds nothing.
//! - `presence.lease.free`: a held lease without stored writes costs no commit.
//! - `presence.store.durable`: a stored write is durable when it is acknowledged.
//! - `presence.store.replace`: a later write replaces what is stored at or below its path, and
//!   cancelling drops it.
//! - `presence.store.unresolved`: transforms are resolved when the writes run.
//! - `presence.limits.exact`: each limit accepts its own value and refuses one more.
//! - `presence.count.zero`: what is counted returns to zero.

mod batch;
mod beat;
mod desk;
mod ending;
mod hold;
mod key;
mod lease;
mod load;
mod options;
mod presence;
mod record;
mod request;
mod stats;
mod table;

mod worker;
mod write;

pub use hold::Hold;
pub use options::{PresenceOptions, TTL_MAX, TTL_MIN};
pub use presence::Presence;
pub use request::{Ended, LeaseInfo, Pending, Stored};
pub use stats::PresenceStats;
pub use write::LeaseWrite;
