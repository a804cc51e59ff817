//! The families of what is live above the tree, on every store with every log.
//!
//! What a subscription must have told is decided by a model (`watch.rs`) that a receiver without
//! any knowledge of the tree could be: it takes the snapshot, applies the events, and is compared
//! with the tree at every rev.

mod kills;
mod leases;
mod presence;
mod resume;
mod resume_kills;
mod stored;
mod subscribe;
mod tools;
mod watch;
mod windows;
mod wire;
mod workload;

pub use kills::live_child;
pub use resume_kills::subscribe_child;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family `presence`.
#[must_use]
pub fn presence_cases() -> Vec<Case<TreeWorld>> {
    [presence::CASES, leases::CASES, stored::CASES, kills::CASES, wire::PRESENCE].concat()
}

/// Every case of the family `live`: subscriptions.
#[must_use]
pub fn subscribe_cases() -> Vec<Case<TreeWorld>> {
    [subscribe::CASES, resume::CASES, resume_kills::CASES, windows::CASES, wire::CASES].concat()
}
