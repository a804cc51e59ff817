//! A stream log in memory: the strictest implementation of `StreamLog`.
//!
//! Purpose: tests, tours and throw-away hosts; and the measure for the other logs, as it does
//! exactly what the contract says and no more: it trims to the record, `Buffered` records are not
//! durable, and a [`MemoryDisk`] can lose power, damage a record and fail a write or a flush.
//!
//! Invariants:
//! 1. Everything lives in a [`MemoryDisk`]; a [`MemoryLog`] is one open of it, and there is never
//!    more than one.
//! 2. Every call takes the disk's lock once; a visitor runs outside of it.
//!
//! Deliberately absent: files, threads, checksums.
//!
//! With the feature `mutants` the module [`mutants`] holds logs that break one promise each.

mod backend;
mod disk;
mod error;
#[cfg(feature = "mutants")]
pub mod mutants;
mod open;

pub use disk::{Fault, MemoryDisk};
pub use open::MemoryLog;
