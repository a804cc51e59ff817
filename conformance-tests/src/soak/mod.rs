//! The soak of subscriptions: many sockets with many subscriptions each, writers, connections that
//! are cut off and a server that is killed, and afterwards the comparison with the journal.
//!
//! Invariants:
//! 1. A subscriber writes down what comes (`record`), and resumes after the last rev that it has:
//!    nothing is compared while it runs, and nothing is asked for anew to fill a gap.
//! 2. The truth (`reference`) comes from the journal of the closed database alone, and shares no
//!    code with the subscriptions.
//! 3. Each run plants defects into what it recorded (`planted`), and fails if one is not found.
//!
//! Deliberately not here: clients that never read. Writers wait when subscribers fall behind,
//! unless they are told not to; what is told anew then is compared from its new snapshot on.

mod judge;
mod peer;
mod planted;
mod record;
mod reference;
mod run;
mod server;
mod stage;
mod subscriber;
mod topics;
mod writer;

use std::fmt;
use std::path::Path;

use crate::tree::TreeWorld;

/// Set for the child that is the server.
const SOAK: &str = "TRELLIS_SOAK";
/// `subscriptions,writers,disconnects,restarts,commits`.
const SCALE: &str = "TRELLIS_SOAK_SCALE";
/// Set where writers do not wait for subscribers that fall behind.
const UNTHROTTLED: &str = "TRELLIS_SOAK_UNTHROTTLED";

/// How much happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale {
    subscriptions: usize,
    writers: usize,
    disconnects: usize,
    restarts: usize,
    commits: u64,
    unthrottled: bool,
}

impl Scale {
    /// What the environment says; some seconds' worth without it.
    fn from_env() -> Self {
        let unthrottled = std::env::var_os(UNTHROTTLED).is_some();
        let Ok(text) = std::env::var(SCALE) else {
            return Self {
                subscriptions: 200,
                writers: 8,
                disconnects: 4,
                restarts: 1,
                commits: 500,
                unthrottled,
            };
        };
        let numbers: Vec<usize> = text
            .split(',')
            .map(|word| word.parse().unwrap_or_else(|_| panic!("{SCALE} is {text:?}")))
            .collect();
        let [subscriptions, writers, disconnects, restarts, commits] = numbers[..] else {
            panic!("{SCALE} has five numbers: {text:?}");
        };
        let commits = commits as u64;
        Self { subscriptions, writers, disconnects, restarts, commits, unthrottled }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscriptions, writers, disconnects, restarts, commits, unthrottled } = self;
        let waiting = if *unthrottled { " that wait for nobody" } else { "" };
        write!(
            f,
            "{subscriptions} subscriptions, {writers} writers{waiting}, \
             {commits} commits asked for, \
             {disconnects} disconnections, {restarts} kills"
        )
    }
}

/// Whether the parent wants the server of a soak.
pub(crate) fn is_soak_child() -> bool {
    std::env::var_os(SOAK).is_some()
}

/// The child's side: serves until it is killed.
///
/// # Panics
/// When the database does not open, or cannot be served.
pub(crate) fn soak_child(engines: &str, dir: &Path) {
    server::serve(engines, dir);
}

/// The case.
pub(crate) fn misses_nothing(world: &TreeWorld) {
    run::misses_nothing(world);
}
