//! The family of power loss: whatever a medium keeps of what was not synced, what was
//! acknowledged is there, nothing else appears, and it goes on.
//!
//! Engines write into a [`medium`] that records every operation. From a recording come images of
//! what may be left when the power goes ([`image`]), thousands of them, each opened by the real
//! engine. Invariants: one seed draws the calls and the images; a log alone is the same in every
//! replay, while under a tree threads may interleave otherwise.
//!
//! Deliberately absent: syncs that fail, and media that lie; the first is of the fault cases, the
//! second breaks an assumption of every database.

mod image;
mod log_story;
mod medium;
pub(crate) mod planted;
mod points;
mod stand;
mod tree_story;

pub(crate) use image::Image;
use medium::Betrayal;
pub(crate) use medium::Medium;
pub(crate) use stand::{Place, Stand};

use crate::{Case, Need, World};
use points::Budget;

/// The world of a case of this family.
type StandWorld = World<Stand>;

/// Images of a log by default.
const LOG_IMAGES: usize = 1500;
/// Images of a tree by default; each is opened twice, with all its threads.
const TREE_IMAGES: usize = 300;

/// Every case of the family.
#[must_use]
pub(crate) fn cases() -> Vec<Case<StandWorld>> {
    vec![
        Case::new(
            "power.log.every_image_holds",
            &[
                "log.append.synced",
                "log.append.atomic",
                "log.append.dense",
                "log.flush.durable",
                "log.recover.prefix",
                "log.close.durable",
            ],
            log_images,
        )
        .needs(&[Need::Recorded, Need::LogAlone]),
        Case::new(
            "power.tree.every_image_holds",
            &["tree.commit.durable", "tree.commit.atomic", "tree.commit.order"],
            tree_images,
        )
        .needs(&[Need::Recorded, Need::TreeAbove]),
    ]
}

fn log_images(world: &StandWorld) {
    let mut budget = Budget::new(LOG_IMAGES);
    let rng = world.rng("lives");
    if let Err(what) = log_story::run(&world.engine(), &mut budget, Betrayal::None, rng) {
        panic!("after {budget:?}: {what}");
    }
    budget.tell(world.factory().name(), crate::Seed::of_run());
}

fn tree_images(world: &StandWorld) {
    let mut budget = Budget::new(TREE_IMAGES);
    let rng = world.rng("lives");
    if let Err(what) = tree_story::run(&world.engine(), &mut budget, Betrayal::None, rng) {
        panic!("after {budget:?}: {what}");
    }
    budget.tell(world.factory().name(), crate::Seed::of_run());
}
