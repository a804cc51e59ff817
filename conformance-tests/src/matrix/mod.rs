//! The matrix: every case of every family on every combination of this repository's engines.
//!
//! A family is a list of cases and a list of combinations; a cell is one of each. Everything that
//! is checked in (`LEDGER.toml`, `docs/MATRIX.md`) is rendered from the plan, which knows all
//! combinations, compiled in or not.
//!
//! A new family is one more call in `families`.

mod children;
mod combinations;
mod contract;
mod faults;
mod ledger;
mod mutants;
mod nets;
#[cfg(feature = "wire")]
mod nets_ws;
mod select;
mod stands;
mod trees;

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

pub use combinations::{memory_kv, memory_log};
pub use ledger::bless;
pub use nets::{loopback_repl, ws_repl};

use crate::report::run_case;
use crate::{
    Case, Cost, Engine, Need, Outcome, Seed, World, crash, damage, kv, linear, live, log, plan,
    power, query, repl, replication, tree,
};
use combinations::Combination;
use select::Selection;

/// Cases and the combinations that they are run on.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    title: &'static str,
    combinations: Vec<String>,
    rows: Vec<Row>,
}

/// One case on every combination of its family.
#[derive(Debug)]
struct Row {
    id: &'static str,
    promises: &'static [&'static str],
    cost: Cost,
    cells: Vec<Cell>,
}

/// One case on one combination.
struct Cell {
    combination: String,
    outcome: Outcome,
    /// Runs it; `None` when the engine is not compiled in.
    run: Option<Arc<dyn Fn(Seed) + Send + Sync>>,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.combination, self.outcome)
    }
}

/// Every family of the suite.
pub(crate) fn families() -> Vec<Family> {
    vec![
        family("kv", "Stores (`KvBackend`)", &kv::cases(), &combinations::kv()),
        family("log", "Logs (`StreamLog`)", &log::cases(), &combinations::log()),
        family("tree", "The tree on a store and a log", &tree::cases(), &trees::combinations()),
        family("live", "Subscriptions", &live::subscribe_cases(), &children::subscribe()),
        family(
            "faults",
            "The tree while calls fail",
            &crate::faults::cases(),
            &faults::combinations(),
        ),
        family(
            "crash",
            "Killed processes: a tree on disk, its process killed again and again",
            &crash::cases(),
            &children::crash(),
        ),
        family(
            "linear",
            "Linearizability: many clients at once, reopened and killed",
            &linear::cases(),
            &children::linear(),
        ),
        family(
            "presence",
            "Leases, and the writes of their end",
            &live::presence_cases(),
            &children::live(),
        ),
        family(
            "query",
            "Queries, and the indexes that they read",
            &query::cases(),
            &children::query(),
        ),
        family(
            "chaos",
            "Nodes as processes: killed under load, with bad weather between them",
            &crate::chaos::cases(),
            &children::chaos(),
        ),
        family("repl", "Links between nodes (`Replicator`)", &repl::cases(), &nets::all()),
        family(
            "replication",
            "Replication: what a node owns and follows",
            &replication::cases(),
            &trees::combinations(),
        ),
        family("power", "Loss of power", &power::cases(), &stands::combinations()),
        family("damage", "Damaged files", &damage::cases(), &stands::combinations()),
    ]
}

fn family<B: Engine + ?Sized>(
    name: &'static str,
    title: &'static str,
    cases: &[Case<World<B>>],
    combinations: &[Combination<B>],
) -> Family {
    let cell = |case: &Case<World<B>>, combination: &Combination<B>| {
        let outcome = plan(case, combination.factory.offered());
        let above = |need: &Need| matches!(need, Need::Wire | Need::Platform);
        let (case, factory) = (*case, combination.factory.clone());
        let compiled =
            combination.compiled && (cfg!(feature = "wire") || !case.needs.iter().any(above));
        let run = move |seed| run_case(&case, &factory, outcome, seed);
        Cell {
            combination: combination.factory.name().to_owned(),
            outcome,
            run: compiled.then(|| Arc::new(run) as Arc<dyn Fn(Seed) + Send + Sync>),
        }
    };
    let row = |case: &Case<World<B>>| Row {
        id: case.id,
        promises: case.promises,
        cost: case.cost,
        cells: combinations.iter().map(|combination| cell(case, combination)).collect(),
    };
    Family {
        name,
        title,
        combinations: combinations.iter().map(|one| one.factory.name().to_owned()).collect(),
        rows: cases.iter().map(row).collect(),
    }
}

/// Plays the child of a crash case if the environment says so; answers whether it did.
///
/// # Panics
/// When an engine or the tree breaks its contract.
#[must_use]
pub fn child_main() -> bool {
    children::child_main()
}

/// Every trial that the environment asks for: the selected cells, and the trials about the suite
/// itself.
///
/// # Panics
/// For a malformed `TRELLIS_MATRIX` or `TRELLIS_COST`.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let (selection, cost) = (Selection::from_env(), Cost::from_env());
    let mut trials = Vec::new();
    for row in families().into_iter().flat_map(|family| family.rows) {
        for cell in row.cells.into_iter().filter(|_| row.cost <= cost) {
            let applies = !matches!(cell.outcome, Outcome::NotApplicable(_));
            if let Some(run) = cell.run.filter(|_| applies && selection.wants(&cell.combination)) {
                let name = format!("{} [{}]", row.id, cell.combination);
                trials.push(trial(name, move || run(Seed::of_run())));
            }
        }
    }
    let cells = trials.len();
    trials.push(trial("selection.is_not_empty".to_owned(), move || {
        assert!(cells > 0, "TRELLIS_MATRIX selects no cell; a run that proves nothing must fail");
    }));
    trials.push(trial("ledger.matches".to_owned(), ledger::must_match));
    trials.push(trial("matrix.rendered".to_owned(), ledger::must_be_rendered));
    trials.push(trial("contract.covered".to_owned(), contract::must_be_covered));
    trials.extend(mutants::trials());
    #[cfg(all(feature = "wire", feature = "log-segment"))]
    trials.extend(crate::fuzzing::trials());
    #[cfg(all(feature = "wire", feature = "every-engine"))]
    trials.extend(crate::fixtures::trials());
    trials
}

/// A trial that names the seed when it fails.
pub(crate) fn trial(name: String, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        crate::report::caught(false, run).map_err(|message| {
            Failed::from(format!("{message}\nreplay with TRELLIS_SEED={}", Seed::of_run().0))
        })
    })
}
