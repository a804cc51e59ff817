#![doc = include_str!("../README.md")]
//!
//! # For maintainers
//! Purpose: `KvBackend` on sled 0.34, with the isolation and the durability that sled lacks.
//!
//! Invariants: all spaces lie in one tree, each key behind the byte of its space, so that a batch
//! is one batch of sled. What a commit replaces is noted down before sled is told of it, and kept
//! as long as a view needs it (`versions.rs`). A sync reaches every file that sled writes
//! (`files.rs`).
//!
//! Deliberately absent: sled's transactions, subscriptions, merge operators and its own flusher.

mod backend;
mod error;
mod files;
mod open;
mod plan;
mod room;
mod snapshot;
mod versions;

pub use backend::SledKv;
pub use open::SledOptions;
