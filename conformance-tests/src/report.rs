//! Running cases one after another, and what came of it.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::{Case, Cost, Engine, Factory, Outcome, Seed, World, plan};

/// A case that failed.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// The case.
    pub case: &'static str,
    /// What it said, and where.
    pub message: String,
}

/// What came of running a family on one engine.
#[derive(Debug, Clone)]
#[must_use = "a report may hold failures"]
pub struct Report {
    /// The engine.
    pub engine: String,
    /// The seed that replays the run.
    pub seed: Seed,
    /// Cases that ran and passed.
    pub passed: Vec<&'static str>,
    /// Cases that ran and failed.
    pub failed: Vec<Trouble>,
    /// Cases that did not apply, with the reason.
    pub skipped: Vec<(&'static str, &'static str)>,
}

impl Report {
    /// Ends the test when a case failed.
    ///
    /// # Panics
    /// With the whole report when a case failed, or when none ran.
    pub fn demand_success(&self) {
        assert!(self.failed.is_empty() && !self.passed.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} cases passed, {} failed, {} do not apply (TRELLIS_SEED={})",
            self.engine,
            self.passed.len(),
            self.failed.len(),
            self.skipped.len(),
            self.seed.0
        )?;
        for trouble in &self.failed {
            writeln!(f, "  FAILED {}: {}", trouble.case, trouble.message)?;
        }
        for (case, reason) in &self.skipped {
            writeln!(f, "  n/a    {case}: {reason}")?;
        }
        Ok(())
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The first panic of any thread since a case began: the cause, when another thread only tells of
/// it.
static FIRST_PANIC: Mutex<String> = Mutex::new(String::new());

static QUIET: AtomicUsize = AtomicUsize::new(0);

/// Runs one case on one engine, as planned; panics when a promise is broken.
pub(crate) fn run_case<B: Engine + ?Sized>(
    case: &Case<World<B>>,
    factory: &Factory<B>,
    outcome: Outcome,
    seed: Seed,
) {
    let body = match outcome {
        Outcome::Run => case.body,
        Outcome::Negative => case.negative.expect("planned from it"),
        Outcome::NotApplicable(_) => return,
    };
    let world = World::new(factory, seed.of(case.id));
    body(&world);
    world.finish();
}

/// Runs `action`; answers what it said when it panicked. `quiet` keeps panics off the terminal.
pub(crate) fn caught(quiet: bool, action: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST_PANIC.with_borrow_mut(|last| *last = info.to_string());
            let mut first = FIRST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_empty() {
                *first = info.to_string();
            }
            drop(first);
            if QUIET.load(Ordering::Relaxed) == 0 {
                before(info);
            }
        }));
    });
    FIRST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clear();
    QUIET.fetch_add(usize::from(quiet), Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(action));
    QUIET.fetch_sub(usize::from(quiet), Ordering::Relaxed);
    result.map_err(|_| {
        let first = FIRST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = LAST_PANIC.with_borrow(String::clone);
        if first == last { last } else { format!("{last}\nbecause {first}") }
    })
}

/// Puts one engine through all of `cases` that `cost` allows and `select` wants.
pub(crate) fn run_family<B: Engine + ?Sized>(
    cases: &[Case<World<B>>],
    factory: &Factory<B>,
    (cost, seed): (Cost, Seed),
    quiet: bool,
    select: impl Fn(&Case<World<B>>) -> bool,
) -> Report {
    let mut report = Report {
        engine: factory.name().to_owned(),
        seed,
        passed: Vec::new(),
        failed: Vec::new(),
        skipped: Vec::new(),
    };
    for case in cases.iter().filter(|case| case.cost <= cost && select(case)) {
        let outcome = plan(case, factory.offered());
        if let Outcome::NotApplicable(reason) = outcome {
            report.skipped.push((case.id, reason));
            continue;
        }
        match caught(quiet, || run_case(case, factory, outcome, seed)) {
            Ok(()) => report.passed.push(case.id),
            Err(message) => report.failed.push(Trouble { case: case.id, message }),
        }
    }
    report
}
