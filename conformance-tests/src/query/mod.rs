//! The family of queries: indexes on every store with every log.

mod index;
mod index_kills;
mod index_tools;

pub use index_kills::index_child;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family `query`.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    [index::CASES, index_kills::CASES].concat()
}
