//! The family of `KvBackend`: cases for every promise of its contract.
//!
//! An engine passes with [`suite`]; [`report`] does the same without ending the test.

mod closed;
mod commit;
mod concurrency;
mod crash;
mod durable;
mod engine;
mod limits;
mod model;
mod range;
mod reference;
mod scan;
mod snapshot;
mod tools;

use trellis_engine_traits::KvBackend;

pub use crash::crash_child;

use crate::report::run_family;
use crate::{Case, Cost, Report, Seed, World};

/// Opens a store in a directory.
pub type Factory = crate::Factory<dyn KvBackend>;

/// The world of a case of this family.
pub type KvWorld = World<dyn KvBackend>;

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<KvWorld>> {
    [
        commit::CASES,
        range::CASES,
        snapshot::CASES,
        scan::CASES,
        engine::CASES,
        durable::CASES,
        closed::CASES,
        limits::CASES,
        concurrency::CASES,
        model::CASES,
        crash::CASES,
    ]
    .concat()
}

/// Runs the family on one engine and tells what came of it.
pub fn report(factory: &Factory, cost: Cost, seed: Seed) -> Report {
    run_family(&cases(), factory, (cost, seed), false, |_| true)
}

/// Puts a store through the family: the one call for an engine's own tests.
///
/// The cost is `TRELLIS_COST` (`quick`, `full`), the seed `TRELLIS_SEED`.
///
/// # Panics
/// With a report when a promise is broken.
///
/// ```
/// # #[cfg(feature = "matrix")] {
/// use std::sync::Arc;
/// use trellis_conformance::{kv, matrix};
///
/// let factory = matrix::memory_kv();
/// kv::suite(&factory);
/// # }
/// ```
#[allow(clippy::print_stdout, reason = "a test run shows what it proved")]
pub fn suite(factory: &Factory) -> Report {
    let report = report(factory, Cost::from_env(), Seed::of_run());
    println!("{report}");
    report.demand_success();
    report
}
