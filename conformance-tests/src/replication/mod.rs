//! The families of replication: what a node owns and follows, on every store with every log.
//!
//! The nodes of a case are real trees with real sessions between them; only what lies between two
//! sessions, and time, are the case's own (`fleet`).

mod bloat;
mod carry;
mod drive;
mod fleet;
mod follows;
mod hostile;
mod mishaps;
mod modes;
mod paths;
mod stranger;
mod tools;
mod trails;
mod watched;

use crate::Case;
use crate::tree::TreeWorld;

/// Every case of the family `replication`: who owns what, what many writes leave behind.
#[must_use]
pub fn cases() -> Vec<Case<TreeWorld>> {
    let owned = [modes::CASES, follows::CASES, paths::CASES, trails::CASES].concat();
    let rest = [hostile::CASES, mishaps::CASES, bloat::CASES, carry::CASES, watched::CASES];
    [owned, rest.concat()].concat()
}
