//! The family of what is live above the tree, on every store with every log.

mod kills;
mod presence;

pub use kills::live_child;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    [presence::CASES, kills::CASES].concat()
}
