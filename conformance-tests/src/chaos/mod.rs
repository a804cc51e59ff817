//! A hub, a relay and three edges as real processes that are killed under load, with bad weather
//! on every link between them; at the end all must agree, and nothing acknowledged be lost.
//!
//! Invariants:
//! 1. A writer writes down what it was answered, and nothing is compared while the run goes on.
//! 2. A key has one writer. One attempt whose outcome nobody knows taints the key: it is written no
//!    more, and no longer judged for itself. So each judged key has exactly one right value.
//! 3. One seed draws troubles and writes; the moments at which they happen are the machine's.
//!
//! Deliberately not here: loss of power (`power`), and orders of events that processes rarely meet,
//! which a simulation finds.

mod judge;
mod node;
pub(crate) mod proxy;
mod run;
mod writer;

use std::path::Path;
use std::time::Duration;

use trellis_engine_traits::Result;

use crate::{Case, Engine, Need, World};

/// Set for a child: the node that it is.
const NODE: &str = "TRELLIS_CHAOS_NODE";
/// How long there is trouble.
const SECONDS: &str = "TRELLIS_CHAOS_SECONDS";
/// Without that: some seconds' worth.
const USUAL: Duration = Duration::from_secs(20);

/// The nodes of a run have directories of their own; there is nothing to open here.
#[derive(Debug)]
pub(crate) struct Field;

impl Engine for Field {
    fn close_engine(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn cases() -> Vec<Case<World<Field>>> {
    vec![
        Case::new(
            "chaos.nodes.converge_and_lose_nothing",
            &["topology.converge", "topology.lose_nothing"],
            run::converge_and_lose_nothing,
        )
        .needs(&[Need::Platform]),
    ]
}

fn duration() -> Duration {
    std::env::var(SECONDS).map_or(USUAL, |text| {
        let seconds = text.trim().parse().ok().filter(|seconds| *seconds > 0);
        Duration::from_secs(seconds.unwrap_or_else(|| panic!("{SECONDS} is a number above 0")))
    })
}

/// The child's side: a node that serves until it is killed.
pub(crate) fn child(dir: &Path) {
    node::serve(dir);
}
