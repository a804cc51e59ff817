//! The conformance suite: what a storage engine promises, as cases that any engine can be put
//! through.
//!
//! Purpose: one suite for every engine of this repository and for those of others. An engine
//! passes with a [`Factory`] and one call: [`kv::suite`] or [`log::suite`].
//!
//! Invariants:
//! 1. A case is data ([`Case`]): an id, the promises it proves, what it needs, a cost and a body.
//!    Bodies never ask what an engine can do; [`plan`] decides what runs.
//! 2. Each run of a case has a [`World`] of its own: a fresh directory, closed and checked for
//!    leaks at the end.
//! 3. Without features the crate knows no engine; the matrix over all of them is `matrix`.
//!
//! Deliberately absent: loss of power of a real machine, and anything about speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test suite: it says what is wrong by panicking, and measures real time"
)]

mod case;
#[cfg(feature = "matrix")]
mod chaos;
mod child;
#[cfg(feature = "matrix")]
pub mod crash;
#[cfg(feature = "matrix")]
mod damage;
mod factory;
#[cfg(feature = "matrix")]
mod faults;
#[cfg(all(feature = "wire", feature = "every-engine"))]
pub mod fixtures;
#[cfg(all(feature = "wire", feature = "log-segment"))]
pub mod fuzzing;
pub mod kv;
mod leak;
#[cfg(feature = "matrix")]
pub mod linear;
#[cfg(feature = "matrix")]
pub mod live;
pub mod log;
#[cfg(feature = "matrix")]
pub mod matrix;
mod plan;
#[cfg(feature = "matrix")]
mod power;
#[cfg(feature = "matrix")]
pub mod query;
pub mod repl;
#[cfg(feature = "matrix")]
pub mod replication;
mod report;
mod seed;
#[cfg(feature = "matrix")]
pub mod sim;
#[cfg(feature = "wire")]
mod soak;
#[cfg(feature = "matrix")]
pub mod tree;
mod world;

pub use case::{Case, Cost, Need};
pub use factory::{Engine, Factory, Flag};
pub use plan::{Outcome, plan};
pub use report::{Report, Trouble};
pub use seed::{Rng, Seed};
pub use world::World;

/// The readme, so that its example is compiled and run.
#[cfg(all(doctest, feature = "matrix"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
