//! The suite bites: engines that break one promise must fail a case that names it.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use trellis_engine_traits::{KvBackend, StreamLog};

use super::combinations::{Combination, kv_in_memory, log_in_memory};
use super::{stands, trial};
use crate::power::planted::{PLANTED, damage_is_the_end, must_be_noticed};
use crate::report::run_family;
use crate::tree::Ground;
use crate::{Case, Cost, Engine, Factory, Seed, World, crash, damage, kv, linear, log, repl};

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
    for mutant in repl::mutants::Mutant::ALL {
        trials.push(trial(format!("mutant.repl.{mutant:?} is killed"), move || {
            let factory = repl::mutants::mutated(&super::loopback_repl(), *mutant);
            repl::with_patience(Duration::from_secs(4), || {
                must_be_killed(&repl::cases(), &factory, mutant.breaks());
            });
        }));
    }
    trials.extend(planted());
    trials.extend(planted_in_media());
    trials
}

/// The checks of power loss and damage bite, where the engines are compiled in.
fn planted_in_media() -> Vec<Trial> {
    let stand = |name: &str| {
        let mut all = stands::combinations().into_iter();
        let stand = all.find(|one| one.factory.name() == name).expect("a known combination");
        stand.compiled.then_some(stand.factory)
    };
    let mut trials = Vec::new();
    for fault in PLANTED {
        if let Some(factory) = stand(fault.combination) {
            trials.push(trial(format!("mutant.power.{} is killed", fault.name), move || {
                must_be_noticed(&World::new(&factory, Seed::of_run()), *fault);
            }));
        }
    }
    if let Some(factory) = stand("log-segment") {
        trials.push(trial("mutant.damage.DamageIsTheEnd is killed".to_owned(), move || {
            let bent = damage_is_the_end(&factory);
            must_be_killed(&damage::cases(), &bent, "log.recover.damage");
        }));
    }
    trials
}

/// The checks of whole trees bite: each defect that is planted must be noticed.
fn planted() -> Vec<Trial> {
    let mut trials = Vec::new();
    let on = |name: &str, all: Vec<Combination<Ground>>| {
        let one = all.into_iter().find(|one| one.factory.name() == name);
        one.filter(|one| one.compiled).map(|one| one.factory)
    };
    if let Some(factory) = on("kv-redb+log-segment", super::children::crash()) {
        for defect in crash::Defect::ALL {
            let name = format!("mutant.crash.{defect:?} is noticed");
            trials.push(planted_trial(name, &factory, |world| crash::notices(world, *defect)));
        }
    }
    if let Some(factory) = on("kv-memory+log-memory", super::children::linear()) {
        for planted in linear::Planted::ALL {
            let name = format!("mutant.linear.{planted:?} is noticed");
            trials.push(planted_trial(name, &factory, |world| linear::notices(world, *planted)));
        }
    }
    trials
}

fn planted_trial(
    name: String,
    factory: &Factory<Ground>,
    notices: impl FnOnce(&World<Ground>) -> Option<String> + Send + 'static,
) -> Trial {
    let factory = factory.clone();
    trial(name, move || {
        let world = World::new(&factory, Seed::of_run().of("planted"));
        let noticed = notices(&world).expect("nobody noticed the planted defect");
        eprintln!("{noticed}");
        world.finish();
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
