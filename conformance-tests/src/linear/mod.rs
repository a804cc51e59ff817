//! The family of linearizability: what many clients are asked and answered at once must be what
//! one after the other could have been answered.
//!
//! Histories of `get`, `set`, compare-and-set by value, hash and absence, and pushes to lists are
//! taken under concurrency, while the tree is closed and opened anew, and from processes that are
//! killed; then searched for a linearization (`search`).
//!
//! Deliberately not here: commits of several places. Linearizability is local, so that each place
//! is searched alone; that a commit is whole is shown by the families `tree` and `crash`.

mod clients;
mod history;
mod judge;
mod runs;
mod search;
#[cfg(test)]
mod search_tests;
mod spec;
mod subject;

pub use runs::linear_child;
pub(crate) use subject::Planted;

use crate::tree::TreeWorld;
use crate::{Case, Need};

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    const PROMISES: &[&str] = &[
        "tree.read.own_writes",
        "tree.commit.order",
        "tree.commit.conditions",
        "tree.push.increasing",
    ];
    vec![
        Case::new("linear.tree.in_memory", PROMISES, runs::in_memory).needs(&[Need::Volatile]),
        Case::new("linear.tree.on_disk", PROMISES, runs::on_disk).needs(&[Need::AllOnDisk]),
        Case::new("linear.tree.killed", PROMISES, runs::killed)
            .needs(&[Need::AllOnDisk, Need::Child]),
    ]
}

/// Takes histories with a planted defect until one is not linearizable; what was found.
pub(crate) fn notices(world: &TreeWorld, planted: Planted) -> Option<String> {
    runs::notices(world, planted)
}
