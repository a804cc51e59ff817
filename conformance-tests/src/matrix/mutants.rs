//! The suite bites: engines that break one promise must fail a case that names it.

use std::sync::Arc;

use libtest_mimic::Trial;
use trellis_engine_traits::{KvBackend, StreamLog};

use super::combinations::{kv_in_memory, log_in_memory};
use super::{stands, trial};
use crate::power::planted::{PLANTED, must_be_noticed};
use crate::report::run_family;
use crate::{Case, Cost, Engine, Factory, Seed, World, crash, kv, log};

/// Where defects are planted in children that are killed.
const PLANTED_ON: &str = "kv-redb+log-segment";

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("canary.fails".to_owned(), canary)];
    for mutant in trellis_kv_memory::Mutant::ALL {
        trials.push(trial(format!("mutant.kv.{mutant:?} is killed"), move || {
            let factory = kv_in_memory("mutant", move |disk| {
                Ok(Arc::new(trellis_kv_memory::MutantKv::on(disk, *mutant)?))
            });
            must_be_killed(&kv::cases(), &factory, mutant.breaks());
        }));
    }
    for mutant in trellis_log_memory::mutants::Mutant::ALL {
        trials.push(trial(format!("mutant.log.{mutant:?} is killed"), move || {
            let factory = log_in_memory("mutant", move |disk| {
                Ok(Arc::new(trellis_log_memory::MemoryLog::with_mutant(disk, *mutant)?))
            });
            must_be_killed(&log::cases(), &factory, mutant.breaks());
        }));
    }
    trials.extend(planted());
    for fault in PLANTED {
        trials.push(trial(format!("mutant.power.{} is killed", fault.name), move || {
            let mut all = stands::combinations().into_iter();
            let stand = all.find(|one| one.factory.name() == fault.combination);
            let stand = stand.expect("a known combination");
            if stand.compiled {
                let world = World::new(&stand.factory, Seed::of_run());
                must_be_noticed(&world, *fault);
            }
        }));
    }
    trials
}

/// The crash rounds bite: each defect planted in the child must be noticed by the parent.
fn planted() -> impl Iterator<Item = Trial> {
    let all = super::crash_combinations().into_iter();
    let one = all.filter(|one| one.compiled).find(|one| one.factory.name() == PLANTED_ON);
    one.into_iter().flat_map(|one| {
        crash::Defect::ALL.iter().map(move |defect| {
            let factory = one.factory.clone();
            trial(format!("mutant.crash.{defect:?} is noticed"), move || {
                let world = World::new(&factory, Seed::of_run().of("planted"));
                let noticed = crash::notices(&world, *defect);
                eprintln!("{defect:?}: {}", noticed.expect("no round noticed it"));
                world.finish();
            })
        })
    })
}

/// Demands that a case that names the broken promise fails, one case after the other.
fn must_be_killed<B: Engine + ?Sized>(
    cases: &[Case<World<B>>],
    factory: &Factory<B>,
    promise: &str,
) {
    let seed = Seed::of_run();
    let mut tried = Vec::new();
    for case in cases.iter().filter(|case| case.promises.contains(&promise)) {
        let report = run_family(&[*case], factory, (Cost::Quick, seed), true, |_| true);
        if !report.failed.is_empty() {
            return;
        }
        tried.push(case.id);
    }
    panic!("it breaks {promise}, and none of these cases noticed: {tried:?}");
}

/// A case that must fail on an honest engine does: a failure is never swallowed.
fn canary() {
    const STORE: Case<World<dyn KvBackend>> = Case::new("kv.canary", &[], |world| {
        assert_eq!(world.engine().snapshot().unwrap().seq().0, u64::MAX, "the canary sings");
    });
    const LOG: Case<World<dyn StreamLog>> = Case::new("log.canary", &[], |world| {
        assert_eq!(world.engine().streams(None, 1).unwrap().len(), 1, "the canary sings");
    });
    let run = (Cost::Quick, Seed::of_run());
    let store = run_family(&[STORE], &super::memory_kv(), run, true, |_| true);
    let log = run_family(&[LOG], &super::memory_log(), run, true, |_| true);
    for report in [store, log] {
        assert_eq!(report.failed.len(), 1, "the canary did not fail: {report}");
        assert!(report.failed[0].message.contains("the canary sings"), "{report}");
    }
}
