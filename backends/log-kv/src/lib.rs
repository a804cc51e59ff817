//! `StreamLog` on any `KvBackend`.
//!
//! Purpose: a journal without a second engine. A host that runs on one file, or on a store of
//! another machine, keeps its streams in the same store as its tree.
//!
//! Invariants:
//! 1. The records of an append and the stream's new extent are one batch, so the store's atomicity
//!    is the log's.
//! 2. A record carries a checksum over its key and its bytes; one that is missing or altered is
//!    `Corrupt`, never the end of the log.
//! 3. Every batch carries a guard on the number of the open: a log that was opened later on the
//!    same store shuts the earlier one out, instead of two of them giving out the same offset.
//!
//! Deliberately absent: caches, group commit, compaction. The store has its own.

mod backend;
mod codec;
mod error;
mod open;
mod state;

pub use codec::{RECORDS_SPACE, STREAMS_SPACE};
pub use open::KvLog;
