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

#[cfg(feature = "wire")]
mod judge;
#[cfg(feature = "wire")]
mod node;
#[cfg(feature = "wire")]
pub(crate) mod proxy;
#[cfg(feature = "wire")]
mod run;
#[cfg(feature = "wire")]
mod writer;

use trellis_engine_traits::Result;

use crate::{Case, Engine, Need, World};

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
            &["node.converge", "node.lose_nothing"],
            converge_and_lose_nothing,
        )
        .needs(&[Need::Replication]),
        Case::new(
            "chaos.nodes.apart_lose_nothing_and_are_told_apart",
            &["node.lose_nothing"],
            apart_lose_nothing,
        ),
    ]
}

#[cfg(feature = "wire")]
use run::{apart_lose_nothing, converge_and_lose_nothing};

#[cfg(not(feature = "wire"))]
fn converge_and_lose_nothing(_world: &World<Field>) {
    unreachable!("it is compiled in");
}

#[cfg(not(feature = "wire"))]
fn apart_lose_nothing(_world: &World<Field>) {
    unreachable!("it is compiled in");
}

/// The child's side: a node that serves until it is killed.
#[cfg(feature = "wire")]
pub(crate) use node::serve as child;
