//! What becomes of a case on an engine: decided here and nowhere else, from data alone.

use std::fmt;

use crate::{Case, Need};

/// What becomes of a case on a combination of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The body runs.
    Run,
    /// The negative body runs: it shows how the lack of an ability is answered.
    Negative,
    /// Nothing runs, for this reason.
    NotApplicable(&'static str),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Negative => f.write_str("negative"),
            Self::NotApplicable(reason) => write!(f, "n/a: {reason}"),
        }
    }
}

/// Decides what becomes of `case` on an engine with `offers`.
#[must_use]
pub fn plan<W>(case: &Case<W>, offers: &[Need]) -> Outcome {
    match (case.needs.iter().find(|need| !need.met_by(offers)), case.negative) {
        (None, _) => Outcome::Run,
        (Some(_), Some(_)) => Outcome::Negative,
        (Some(need), None) => Outcome::NotApplicable(need.missing()),
    }
}
