//! The family of queries: answers, pages, live windows, and the indexes that they read, on every
//! store with every log.

mod answers;
mod index;
mod index_kills;
mod index_tools;
mod over_wire;
mod windows;

// The reference and the chance are those of the service's own tests.
#[allow(dead_code, reason = "they use more of it")]
#[path = "../../../services/query/tests/query/draw.rs"]
mod draw;
#[allow(dead_code, reason = "they use more of it")]
#[path = "../../../services/query/tests/query/reference.rs"]
mod reference;

pub use index_kills::index_child;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family `query`.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    [answers::CASES, windows::CASES, index::CASES, index_kills::CASES, over_wire::CASES].concat()
}
