#![doc = include_str!("../README.md")]
//!
//! # For maintainers
//! Purpose: `KvBackend` on one redb file.
//!
//! Invariants: one table per space, and one row in a table of our own that holds format, number of
//! the last commit and live bytes; that row is written by the very transaction it describes.
//!
//! Deliberately absent: compaction (redb's needs that nobody reads), redb's multi-process modes.

mod backend;
#[cfg(test)]
mod batch_tests;
mod directory;
mod error;
mod open;
mod room;
mod snapshot;
mod state;
mod write;

pub use backend::RedbKv;
pub use open::RedbOptions;
#[doc(hidden)]
pub use redb::StorageBackend;
