#![doc = include_str!("../README.md")]
//!
//! # For maintainers
//! Purpose: the reference that every other engine is compared with, and the store of tests and of
//! the `memory` profile.
//!
//! Invariants: a view, once shared, is never changed; a batch is applied to the current view under
//! one write lock after its guards and limits held, and nothing in between can fail.
//!
//! Deliberately absent: files, maintenance, eviction.

mod backend;
mod disk;
mod error;
#[cfg(feature = "mutants")]
mod mutant;
mod open;
mod snapshot;
mod view;

pub use backend::MemoryKv;
pub use disk::{Fault, MemoryDisk};
#[cfg(feature = "mutants")]
pub use mutant::{Mutant, MutantKv};
