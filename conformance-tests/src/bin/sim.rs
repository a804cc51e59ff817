//! Runs seeds of the simulation: `sim SEEDS FROM`, `sim --seed SEED` with its whole trace, or
//! `sim --planted SEEDS [NAME]` to see which seed finds each planted defect, or those of a name.
//! Seeds from 1,000,000 on have further troubles.

use std::process::ExitCode;
use std::time::Instant;

use trellis_conformance::sim;

/// Failed seeds that are told of.
const TOLD: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<Option<u64>> = arguments.iter().map(|text| text.parse().ok()).collect();
    let is_one = arguments.first().is_some_and(|flag| flag == "--seed");
    match numbers[..] {
        [None, Some(seed)] if is_one => one(seed),
        [None, Some(seeds)] => planted(seeds, ""),
        [None, Some(seeds), None] => planted(seeds, arguments.last().map_or("", String::as_str)),
        [Some(seeds)] => many(seeds, 0),
        [Some(seeds), Some(from)] => many(seeds, from),
        _ => {
            eprintln!("usage: sim SEEDS [FROM] | sim --seed SEED | sim --planted SEEDS [NAME]");
            ExitCode::from(2)
        }
    }
}

/// Looks for seeds that find each planted defect of a name.
fn planted(seeds: u64, name: &str) -> ExitCode {
    let mut missed = 0;
    let named = |defect: &sim::Defect| format!("{defect:?}").contains(name);
    for defect in sim::defects().into_iter().filter(named) {
        defect.plant();
        let mut all = [0, sim::ROUGH, sim::FORGETFUL].into_iter().flat_map(|at| at..at + seeds);
        let found = all.find(|seed| sim::run(*seed, false).failure.is_some());
        defect.take_back();
        missed += u32::from(found.is_none());
        println!("{defect:?}: {found:?}");
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64) -> ExitCode {
    let run = sim::run(seed, true);
    println!("{}\n{run}", run.trace);
    if run.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::disallowed_methods, reason = "says how long it took")]
fn many(seeds: u64, from: u64) -> ExitCode {
    let begun = Instant::now();
    let (mut failed, mut commits, mut messages) = (Vec::new(), 0, 0);
    for seed in from..from + seeds {
        let run = sim::run(seed, false);
        commits += run.commits;
        messages += run.messages;
        if run.failure.is_some() {
            println!("{run}");
            failed.push(seed);
            if failed.len() >= TOLD {
                break;
            }
        }
    }
    println!(
        "{seeds} seeds from {from}: {} failed, {commits} commits, {messages} messages, {:?}",
        failed.len(),
        begun.elapsed()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
