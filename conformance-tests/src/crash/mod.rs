//! The family of killed processes: a child commits from sixteen writers and is killed, again and
//! again, also while it recovers; the parent knows what was acknowledged and looks at what is left.
//!
//! Invariants:
//! 1. What a writer's `n`th commit does is a function of the seed and of what the trail says
//!    (`work`), so that the parent knows every commit without being told.
//! 2. The trail (`trail`) says *acknowledged* only after the acknowledgement, and *submitted*
//!    before the submission: what was submitted and not answered may be there, whole, or not.
//! 3. The same database is carried on from kill to kill; the model (`model`) holds all of it.
//!
//! Deliberately not here: loss of power. A killed process loses nothing that the kernel has.

#[cfg(feature = "wire")]
mod archives;
mod child;
mod defects;
mod model;
mod plan;
mod rounds;
mod trail;
mod work;

#[cfg(feature = "wire")]
pub(crate) use archives::{archive_child, is_archive_child};
pub use child::crash_child;
pub(crate) use defects::Defect;

use crate::tree::{Ground, TreeWorld};
use crate::{Case, Need};

/// How many writers a child has.
const WRITERS: usize = 16;

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    vec![
        Case::new(
            "crash.tree.killed_anywhere",
            &[
                "tree.commit.durable",
                "tree.commit.atomic",
                "tree.commit.order",
                "tree.commit.conditions",
                "tree.commit.key",
                "tree.transform.resolved",
                "tree.ttl.restart",
            ],
            rounds::killed_anywhere,
        )
        .needs(&[Need::AllOnDisk, Need::Child]),
        Case::new(
            "crash.archive.killed",
            &["tree.commit.durable", "tree.commit.atomic"],
            archives_killed,
        )
        .needs(&[Need::AllOnDisk, Need::Platform]),
        Case::new(
            "crash.live.misses_nothing",
            &["live.sub.ack", "live.sub.once", "tree.commit.key"],
            live_misses_nothing,
        )
        .needs(&[Need::AllOnDisk, Need::Platform]),
    ]
}

#[cfg(feature = "wire")]
fn archives_killed(world: &TreeWorld) {
    archives::killed(world);
}

#[cfg(not(feature = "wire"))]
fn archives_killed(_: &TreeWorld) {
    unreachable!("not compiled in")
}

#[cfg(feature = "wire")]
fn live_misses_nothing(world: &TreeWorld) {
    crate::soak::misses_nothing(world);
}

#[cfg(not(feature = "wire"))]
fn live_misses_nothing(_: &TreeWorld) {
    unreachable!("not compiled in")
}

/// Opens the ground that a child is killed on.
pub type Factory = crate::Factory<Ground>;

/// Kills children with a planted defect until the parent notices; what it said.
pub(crate) fn notices(world: &TreeWorld, defect: Defect) -> Option<String> {
    rounds::notices(world, defect)
}
