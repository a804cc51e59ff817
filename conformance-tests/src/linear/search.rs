//! The search for a linearization: Wing and Gong's, with Lowe's memory of what was tried.
//!
//! Purpose: a history of one object is linearizable if its operations can be put in one order that
//! the object could have gone through alone, in which no operation comes before another that had
//! returned when it was invoked. The search takes operations that may come first, one after the
//! other, and goes back where none fits; what it tried, the set of operations taken and the state
//! that they led to, it does not try again.
//!
//! Operations without an answer may have happened at any time after their invocation, or never.
//! Deliberately not here: what an object is (a [`Spec`] says), and several objects at once: each is
//! searched alone, which is enough, because linearizability is local.

use std::collections::HashSet;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;

/// Beyond so many tries the search gives up: a history that nobody can judge is a failure too.
const TRIES_MAX: usize = 20_000_000;
/// How many searches a report may cost.
const SHRINKS_MAX: usize = 400;
/// How many operations a report shows.
const SHOWN_MAX: usize = 30;

/// What an object does, one operation at a time.
pub(crate) trait Spec {
    /// What the object remembers.
    type State: Clone + Eq + Hash + Debug;
    /// What can be asked.
    type Call: Clone + Display;
    /// What can be answered.
    type Answer: Clone + Debug;

    /// The state at the beginning.
    fn initial(&self) -> Self::State;

    /// The state after a call, if it can be answered so; without an answer, any will do.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// Whether a call so answered changes nothing, whatever the state.
    fn only_looks(&self, call: &Self::Call, answer: Option<&Self::Answer>) -> bool;
}

/// One operation: asked at a time and, if it was, answered at a later one.
#[derive(Debug, Clone)]
pub(crate) struct Operation<C, A> {
    pub(crate) client: usize,
    pub(crate) call: C,
    pub(crate) answer: Option<A>,
    pub(crate) invoked: usize,
    /// `None`: it may yet happen after everything else.
    pub(crate) returned: Option<usize>,
}

type Op<S> = Operation<<S as Spec>::Call, <S as Spec>::Answer>;

/// Why there is no linearization.
#[derive(Debug)]
pub(crate) struct Offence(String);

impl Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Looks for a linearization.
///
/// # Errors
/// The part of the history that has none.
pub(crate) fn check<S: Spec>(spec: &S, operations: &[Op<S>]) -> Result<(), Offence> {
    match Search::new(spec, operations).run() {
        Verdict::Linearizable => Ok(()),
        Verdict::Undecided => {
            Err(Offence(format!("undecided after {TRIES_MAX} tries: make the history smaller")))
        }
        Verdict::Not => Err(shrunk(spec, operations)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Linearizable,
    Not,
    Undecided,
}

/// The list of calls and returns in the order of time, from which operations are lifted.
struct Search<'a, S: Spec> {
    spec: &'a S,
    operations: &'a [Op<S>],
    /// By node: 0 is the head, `2i + 1` the call of operation `i`, `2i + 2` its return.
    next: Vec<usize>,
    before: Vec<usize>,
    /// Returns that are still in the list.
    returns: usize,
}

const HEAD: usize = 0;

impl<'a, S: Spec> Search<'a, S> {
    fn new(spec: &'a S, operations: &'a [Op<S>]) -> Self {
        let mut times = Vec::with_capacity(operations.len() * 2);
        for (index, operation) in operations.iter().enumerate() {
            times.push((operation.invoked, 2 * index + 1));
            times.extend(operation.returned.map(|at| (at, 2 * index + 2)));
        }
        times.sort_unstable();
        let nodes = 2 * operations.len() + 1;
        let (mut next, mut before) = (vec![HEAD; nodes], vec![HEAD; nodes]);
        let mut last = HEAD;
        for (_, node) in times {
            next[last] = node;
            before[node] = last;
            last = node;
        }
        let returns = operations.iter().filter(|operation| operation.returned.is_some()).count();
        Self { spec, operations, next, before, returns }
    }

    fn unlink(&mut self, node: usize) {
        let (before, next) = (self.before[node], self.next[node]);
        self.next[before] = next;
        // The last node is followed by the head, whose predecessor nobody asks for.
        self.before[next] = before;
    }

    fn link(&mut self, node: usize) {
        let (before, next) = (self.before[node], self.next[node]);
        self.next[before] = node;
        self.before[next] = node;
    }

    fn lift(&mut self, index: usize) {
        self.unlink(2 * index + 1);
        if self.operations[index].returned.is_some() {
            self.unlink(2 * index + 2);
            self.returns -= 1;
        }
    }

    fn put_back(&mut self, index: usize) {
        if self.operations[index].returned.is_some() {
            self.link(2 * index + 2);
            self.returns += 1;
        }
        self.link(2 * index + 1);
    }

    fn run(mut self) -> Verdict {
        let mut state = self.spec.initial();
        let mut taken = vec![0_u64; self.operations.len() / 64 + 1];
        let mut tried: HashSet<(Vec<u64>, S::State)> = HashSet::new();
        let mut way: Vec<(usize, S::State)> = Vec::new();
        let mut node = self.next[HEAD];
        let mut tries = 0;
        while self.returns > 0 {
            tries += 1;
            if tries > TRIES_MAX {
                return Verdict::Undecided;
            }
            // A return that is met was not lifted: nothing before it is left that fits.
            let Some(index) = node.checked_sub(1).filter(|at| at % 2 == 0).map(|at| at / 2) else {
                let Some((index, earlier)) = way.pop() else { return Verdict::Not };
                taken[index / 64] &= !(1 << (index % 64));
                self.put_back(index);
                state = earlier;
                node = self.next[2 * index + 1];
                continue;
            };
            let operation = &self.operations[index];
            let after = self.spec.step(&state, &operation.call, operation.answer.as_ref());
            node = match after {
                Some(after) => {
                    taken[index / 64] |= 1 << (index % 64);
                    if tried.insert((taken.clone(), after.clone())) {
                        way.push((index, std::mem::replace(&mut state, after)));
                        self.lift(index);
                        self.next[HEAD]
                    } else {
                        taken[index / 64] &= !(1 << (index % 64));
                        self.next[node]
                    }
                }
                None => self.next[node],
            };
        }
        Verdict::Linearizable
    }
}

fn fails<S: Spec>(spec: &S, operations: &[Op<S>]) -> bool {
    Search::new(spec, operations).run() == Verdict::Not
}

/// The shortest beginning that has no linearization, without the looks that do not matter.
fn shrunk<S: Spec>(spec: &S, operations: &[Op<S>]) -> Offence {
    let mut returns: Vec<_> = operations.iter().filter_map(|one| one.returned).collect();
    returns.sort_unstable();
    // A beginning of a linearizable history is linearizable: look for the first that is not.
    let (mut good, mut bad) = (0, returns.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if fails(spec, &up_to::<S>(operations, returns[middle - 1])) {
            bad = middle;
        } else {
            good = middle;
        }
    }
    let mut left = up_to::<S>(operations, returns[bad - 1]);
    let shown = left.len();
    // What only looked can be left out; if the rest still has no linearization, it did not matter.
    for index in (0..left.len()).rev().take(SHRINKS_MAX) {
        if spec.only_looks(&left[index].call, left[index].answer.as_ref()) {
            let one = left.remove(index);
            if !fails(spec, &left) {
                left.insert(index, one);
            }
        }
    }
    left.sort_by_key(|one| one.invoked);
    let mut text = format!(
        "no linearization of the first {shown} operations ({} of them matter); the last ones:\n",
        left.len()
    );
    for one in left.iter().skip(left.len().saturating_sub(SHOWN_MAX)) {
        let until = one.returned.map_or("?".to_owned(), |at| at.to_string());
        let answer = match (&one.answer, one.returned) {
            (Some(answer), _) => format!("{answer:?}"),
            (None, Some(_)) => "done".to_owned(),
            (None, None) => "?".to_owned(),
        };
        text += &format!(
            "  {}..{until} client {}: {} -> {answer}\n",
            one.invoked, one.client, one.call
        );
    }
    Offence(text)
}

/// The operations invoked before a time; what returned later has not returned.
fn up_to<S: Spec>(operations: &[Op<S>], time: usize) -> Vec<Op<S>> {
    let invoked = operations.iter().filter(|one| one.invoked < time);
    let cut = invoked.map(|one| match one.returned {
        Some(at) if at > time => Operation { returned: None, answer: None, ..one.clone() },
        _ => one.clone(),
    });
    cut.collect()
}
