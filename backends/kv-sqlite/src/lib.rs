#![doc = include_str!("../README.md")]
//!
//! # For maintainers
//! Purpose: `KvBackend` on one SQLite file in WAL mode.
//!
//! Invariants: one writing connection, under one mutex; a view is a few reading connections whose
//! transactions begin between the same two commits; the log starts again only when every view
//! reads the file alone.
//!
//! Deliberately absent: SQL for callers, other processes beside this one, `SQLITE_BUSY` loops.

mod backend;
mod directory;
mod error;
mod lock;
mod open;
mod options;
mod read;
mod room;
mod snapshot;
mod write;

pub use backend::SqliteKv;
pub use options::SqliteOptions;
