//! The simulation of replication: real trees, stores and sessions, with time, network, disks and
//! everything that goes wrong drawn from one seed, in one thread.
//!
//! A run: some nodes write at random while links are cut, directions blocked, clocks bent and
//! machines stopped; then everything is well again, and within ten simulated minutes every node
//! has to hold exactly what was written, as a reference merge of all commits says (`model`).
//! Meanwhile nothing acknowledged is lost, positions do not go back or lead beyond their source,
//! and no commit is seen in part (`judge`).
//!
//! Invariants:
//! 1. A seed decides everything that the world does; threads of the trees decide nothing that it
//!    can help.
//! 2. Each seed draws every constant anew, extremes included (`plan`): pages of one item, credit
//!    for one byte, journals of some records.
//! 3. What the checks are worth is shown by planted defects, which some seeds find.
//!
//! Deliberately absent: threads, sockets and time limits of a driver. Those run in real processes.

mod clock;
mod closing;
mod engines;
mod fate;
mod judge;
mod links;
mod model;
mod network;
mod node;
mod plan;
mod planted;
mod rewind;
mod shapes;
#[cfg(test)]
mod tests;
mod trace;
mod troubles;
mod wiring;
mod workload;
mod world;
mod writing;

use std::fmt;

pub use planted::{Defect, defects};
pub use troubles::{FORGETFUL, ROUGH};

use plan::Tuning;
use shapes::Shape;
use world::World;

use crate::Seed;

/// After everything is well again, everything has to have arrived within this time.
const REST_MS: u64 = 600_000;
/// How often that is looked at.
const LOOK_MS: u64 = 5_000;
/// For how long nothing more may happen after that.
const STILL_MS: u64 = 30_000;
/// Whatever ends by itself has ended by then.
const ENDINGS_MS: u64 = 60_000;

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Who followed whom.
    pub shape: String,
    /// The same for two runs that did the same.
    pub hash: u64,
    /// What happened, counted.
    pub events: u64,
    /// Commits that callers made.
    pub commits: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Simulated milliseconds from the end of the faults to rest.
    pub rested_ms: u64,
    /// Why it failed, in a sentence.
    pub failure: Option<String>,
    /// Its constants, what happened (the last of it, unless all was to be kept), and where every
    /// link stood.
    pub trace: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, shape, commits, messages, rested_ms, .. } = self;
        write!(f, "seed {seed} ({shape}): {commits} commits, {messages} messages, ")?;
        match &self.failure {
            None => write!(f, "at rest after {rested_ms} ms"),
            Some(why) => write!(f, "{why}"),
        }
    }
}

/// Runs a seed; `keep_all` keeps its whole trace.
#[must_use]
pub fn run(seed: u64, keep_all: bool) -> Run {
    let mut rng = Seed(seed).of("simulation").rng();
    let mut shape = Shape::draw(&mut rng);
    let mut tuning = Tuning::draw(&mut rng);
    let mut troubles = troubles::chance(seed);
    if let Some(rng) = &mut troubles {
        shape = Shape::rough(rng).unwrap_or(shape);
        tuning.forget_early(seed, rng);
    }
    let work_ms = tuning.work_ms;
    let mut world = World::new(seed, keep_all, shape, tuning, rng);
    world.beset(troubles);
    world.run_until(work_ms);
    world.heal();
    let healed = world.now();
    let rested_ms = world.rest(healed);
    let (trace, standing) = (world.trace.text(), world.standing());
    Run {
        seed,
        shape: world.shape.name.clone(),
        hash: world.trace.hash(),
        events: world.trace.count(),
        commits: world.commits,
        messages: world.network.delivered,
        rested_ms,
        failure: world.failure.take(),
        trace: format!("{:#?}\n{trace}\n{standing}", world.tuning),
    }
}

impl World {
    /// Waits until all has arrived, and then whether it stays so.
    fn rest(&mut self, healed: u64) -> u64 {
        let mut why = None;
        while self.failure.is_none() {
            let next = self.now() + LOOK_MS;
            self.run_until(next);
            why = self.disagreement();
            let waited = self.now() - healed;
            if why.is_none() {
                self.stay(healed);
                return waited;
            }
            if waited > REST_MS {
                break;
            }
        }
        if let Some(why) = why {
            self.fail(format!("not at rest after {} s: {why}", REST_MS / 1000));
        }
        self.now() - healed
    }

    /// Nothing more may change, and nothing may go round in circles.
    fn stay(&mut self, healed: u64) {
        // What was put off, positions and slots, is written in the meantime.
        let endings = ENDINGS_MS + self.tuning.skew_ms;
        let endings = if self.tuning.endings { endings } else { 0 };
        let settled = self.now() + STILL_MS + endings;
        self.run_until(settled);
        // On a slow link what was put off takes its time, but it comes to an end.
        let (mut heads, mut messages) = (self.heads(), self.network.delivered);
        while self.failure.is_none() {
            let end = self.now() + STILL_MS;
            self.run_until(end);
            if self.heads() == heads {
                break;
            }
            if self.now() - healed > 2 * REST_MS {
                let now = self.heads();
                self.fail(format!("nobody writes, and commits are made: {heads:?}, then {now:?}"));
            }
            (heads, messages) = (self.heads(), self.network.delivered);
        }
        if self.failure.is_some() {
            return;
        }
        if let Some(why) = self.disagreement() {
            let waited = (self.now() - healed) / 1000;
            self.fail(format!("was at rest, and after {waited} s it is not: {why}"));
        }
        if let Some(why) = self.defect_at_rest() {
            return self.fail(why);
        }
        let links = self.network.links.len() as u64;
        let most = links * 2 * (STILL_MS / 5000 + 1) * 30 + 20;
        let told = self.network.delivered - messages;
        if told > most {
            self.fail(format!("nobody writes, and {told} messages are sent over {links} links"));
        }
    }

    pub(super) fn heads(&self) -> Vec<u64> {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        lives.map(node::Life::head).collect()
    }
}

/// The seeds that once found something, each with what it was; replayed by the quick tests.
#[must_use]
pub fn kept_seeds() -> Vec<u64> {
    let text = include_str!("../../seeds/simulation.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
}
