//! The families of what is live above the tree, on every store with every log.

mod kills;
mod leases;
mod presence;
mod stored;
mod tools;

pub use kills::live_child;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family `presence`.
#[must_use]
pub fn presence_cases() -> Vec<Case<TreeWorld>> {
    [presence::CASES, leases::CASES, stored::CASES, kills::CASES].concat()
}
