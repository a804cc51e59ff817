//! The family of `StreamLog`: cases for every promise of its contract.
//!
//! A log passes with [`suite`]; [`report`] does the same without ending the test.

mod append;
mod closed;
mod concurrency;
mod crash;
mod durable;
mod limits;
mod model;
mod read;
mod tools;
mod trim;

use trellis_engine_traits::StreamLog;

pub use crash::crash_child;

use crate::report::run_family;
use crate::{Case, Cost, Report, Seed, World};

/// Opens a log in a directory.
pub type Factory = crate::Factory<dyn StreamLog>;

/// The world of a case of this family.
pub type LogWorld = World<dyn StreamLog>;

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<LogWorld>> {
    [
        append::CASES,
        read::CASES,
        trim::CASES,
        durable::CASES,
        closed::CASES,
        limits::CASES,
        concurrency::CASES,
        model::CASES,
        crash::CASES,
    ]
    .concat()
}

/// Runs the family on one log and tells what came of it.
pub fn report(factory: &Factory, cost: Cost, seed: Seed) -> Report {
    run_family(&cases(), factory, (cost, seed), false, |_| true)
}

/// Puts a log through the family: the one call for an engine's own tests.
///
/// The cost is `TRELLIS_COST` (`quick`, `full`), the seed `TRELLIS_SEED`.
///
/// # Panics
/// With a report when a promise is broken.
///
/// ```
/// # #[cfg(feature = "matrix")] {
/// use trellis_conformance::{log, matrix};
///
/// log::suite(&matrix::memory_log());
/// # }
/// ```
#[allow(clippy::print_stdout, reason = "a test run shows what it proved")]
pub fn suite(factory: &Factory) -> Report {
    let report = report(factory, Cost::from_env(), Seed::of_run());
    println!("{report}");
    report.demand_success();
    report
}
