//! The family of `Replicator`: cases for every promise of its contract and of its links'.
//!
//! A transport passes with a [`Net`] and [`suite`].

mod close;
mod connect;
mod ends;
mod flow;
mod hostile;
#[cfg(feature = "matrix")]
pub mod mutants;
mod tools;

#[cfg(feature = "matrix")]
pub(crate) use tools::{link, poll_for, wait, with_patience};

use std::fmt;
use std::sync::Arc;

use trellis_engine_traits::{ErrorKind, LinkToken, Replicator, Result};

use crate::report::run_family;
use crate::{Case, Cost, Engine, Report, Seed, World};

/// Makes a network in a directory, of which it needs nothing.
pub type Factory = crate::Factory<dyn Net>;

/// The world of a case of this family.
pub type NetWorld = World<dyn Net>;

/// A token that a host takes, and who shows it.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The name of the peer.
    pub name: &'static str,
    /// Its role.
    pub role: &'static str,
    /// The secret, of at least 16 bytes.
    pub token: LinkToken,
}

/// A replicator that others dial.
#[derive(Debug, Clone)]
pub struct Host {
    /// It accepts.
    pub replicator: Arc<dyn Replicator>,
    /// What others dial.
    pub url: String,
}

/// A transport as the suite uses it: nodes that dial one another on one machine.
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// A node that can be dialed: by all of this machine, or with passes by those who have one.
    ///
    /// # Errors
    /// Those of the transport.
    fn host(&self, name: &str, passes: &[Pass]) -> Result<Host>;

    /// A node that dials.
    ///
    /// # Errors
    /// Those of the transport.
    fn guest(&self, name: &str) -> Result<Arc<dyn Replicator>>;

    /// Breaks every connection there is, as if a cable was cut.
    fn cut(&self);

    /// URLs that lead nowhere or to what takes no links, and what dialing them must answer.
    fn strangers(&self) -> Vec<(String, ErrorKind)>;

    /// Dials `url` and sends bytes that are no message, of which there are several kinds; `None`
    /// beyond the last. Answers what the other side may answer to `next`. The connection stays
    /// open until the other side ends it.
    fn forge(&self, url: &str, kind: usize) -> Option<&'static [ErrorKind]>;

    /// Ends all of it.
    ///
    /// # Errors
    /// Those of the transport.
    fn close(&self) -> Result<()>;
}

impl Engine for dyn Net {
    fn close_engine(&self) -> Result<()> {
        self.close()
    }
}

/// Every case of the family.
#[must_use]
pub fn cases() -> Vec<Case<NetWorld>> {
    [connect::CASES, flow::CASES, hostile::CASES, ends::CASES, close::CASES].concat()
}

/// Puts a transport through the family: the one call for its own tests.
///
/// # Panics
/// With a report when a promise is broken.
#[allow(clippy::print_stdout, reason = "a test run shows what it proved")]
pub fn suite(factory: &Factory) -> Report {
    let report = run_family(&cases(), factory, (Cost::from_env(), Seed::of_run()), false, |_| true);
    println!("{report}");
    report.demand_success();
    report
}
