//! What fails, when, and how often: one plan for one run.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Whose calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Those of the store.
    Store,
    /// Those of the log.
    Log,
    /// Those that the log makes to its files.
    Files,
}

/// How a call fails.
///
/// | | a write of an engine | a write of a file | any other call |
/// |---|---|---|---|
/// | `Io` | in doubt, and is not there | nothing is written | fails |
/// | `Full` | refused: `storage_full` | nothing is written | fails |
/// | `Short` | in doubt, and is there | half is written | fails |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
    /// A write cut short, or an answer that was lost.
    Short,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) target: Target,
    /// Which call of the target fails, counted from 1; 0 for none.
    pub(super) nth: u64,
    pub(super) kind: Kind,
    /// Whether all later calls fail as well.
    pub(super) from_then_on: bool,
}

/// Counts the calls of a run, and strikes as planned until it is lifted.
#[derive(Debug)]
pub(crate) struct Injector {
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    lifted: bool,
    struck: Vec<String>,
}

impl Injector {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, state: Mutex::default() }
    }

    /// Counts a call; says how it fails, if it does.
    pub(super) fn strike(&self, target: Target, call: impl fmt::Display) -> Option<Kind> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if target != self.plan.target || state.lifted {
            return None;
        }
        state.calls += 1;
        let later = self.plan.from_then_on && state.calls > self.plan.nth;
        if self.plan.nth == 0 || (state.calls != self.plan.nth && !later) {
            return None;
        }
        state.struck.push(call.to_string());
        Some(self.plan.kind)
    }

    /// From now on nothing fails and nothing is counted.
    pub(super) fn lift(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lifted = true;
    }

    pub(super) fn calls(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls
    }

    /// The calls that failed.
    pub(super) fn struck(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).struck.clone()
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }
}
