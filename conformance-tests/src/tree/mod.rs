//! The family of the tree: what the service promises on every store with every log.
//!
//! The world's engine is a [`Ground`]: it opens trees on the engines of the combination, with a
//! clock that only a case moves.

mod bad_input;
mod check;
mod commits;
mod concurrency;
mod copies;
pub(crate) mod disk_full;
mod failure;
mod follow;
pub(crate) mod follower;
mod gate;
mod ground;
mod heartbeat;
mod history;
mod lifecycle;
mod limits;
mod model;
mod reference;
mod remote;
mod reopen;
mod seeds;
mod time;
pub(crate) mod tools;
mod transform;
mod values;
mod views;
#[cfg(feature = "wire")]
mod wire;
mod wire_cases;

pub use ground::{Engines, Ground};
#[cfg(feature = "wire")]
pub(crate) use wire::{config_in, with_server};

use crate::{Case, World};

/// Opens the ground of a tree in a directory.
pub type Factory = crate::Factory<Ground>;

/// The world of a case of this family.
pub type TreeWorld = World<Ground>;

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    [
        values::CASES,
        commits::CASES,
        transform::CASES,
        views::CASES,
        time::CASES,
        reopen::CASES,
        check::CASES,
        lifecycle::CASES,
        limits::CASES,
        bad_input::CASES,
        concurrency::CASES,
        failure::CASES,
        copies::CASES,
        follow::CASES,
        history::CASES,
        seeds::CASES,
        remote::CASES,
        disk_full::CASES,
        heartbeat::CASES,
        model::CASES,
        wire_cases::CASES,
    ]
    .concat()
}
