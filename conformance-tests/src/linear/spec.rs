//! The objects of a history: a register, and a list that one pushes to.

use super::history::{Answer, Call};
use super::search::Spec;

/// One value; 0 is none.
#[derive(Debug)]
pub(crate) struct Register;

impl Spec for Register {
    type State = u64;
    type Call = Call;
    type Answer = Answer;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, call: &Call, answer: Option<&Answer>) -> Option<u64> {
        let (after, fitting) = match call {
            Call::Get => (*state, Answer::Value(*state)),
            Call::Set(value) => (*value, Answer::Done),
            Call::CompareAndSet(old, new) if old == state => (*new, Answer::Done),
            Call::CompareAndSet(..) => (*state, Answer::Refused(*state)),
            Call::Push(_) | Call::List | Call::Clear => return None,
        };
        answer.is_none_or(|answer| *answer == fitting).then_some(after)
    }

    fn only_looks(&self, call: &Call, answer: Option<&Answer>) -> bool {
        *call == Call::Get || matches!(answer, Some(Answer::Refused(_)))
    }
}

/// What is asked of a list whose ids were numbered in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListCall {
    /// Adds this item.
    Push(usize),
    /// Reads it.
    List,
    /// Empties it.
    Clear,
}

impl std::fmt::Display for ListCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A list of items, each known by the place of its id among all ids. Pushed in one process, later
/// items have greater ids.
#[derive(Debug)]
pub(crate) struct List {
    /// By item: in which process it was pushed.
    pub(crate) process: Vec<usize>,
}

impl Spec for List {
    type State = Vec<usize>;
    type Call = ListCall;
    /// What a look showed.
    type Answer = Vec<usize>;

    fn initial(&self) -> Vec<usize> {
        Vec::new()
    }

    fn step(
        &self,
        state: &Vec<usize>,
        call: &ListCall,
        answer: Option<&Vec<usize>>,
    ) -> Option<Vec<usize>> {
        match call {
            ListCall::Push(item) => {
                let older = |other: &usize| self.process[*other] != self.process[*item];
                if !state.iter().all(|other| other < item || older(other)) {
                    return None;
                }
                let mut after = state.clone();
                after.insert(after.partition_point(|other| other < item), *item);
                Some(after)
            }
            ListCall::List => answer.is_none_or(|items| items == state).then(|| state.clone()),
            ListCall::Clear => Some(Vec::new()),
        }
    }

    fn only_looks(&self, call: &ListCall, _: Option<&Vec<usize>>) -> bool {
        *call == ListCall::List
    }
}
