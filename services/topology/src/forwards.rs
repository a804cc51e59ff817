//! Forwarded writes of a link, in both directions: sent, answered, answered too late.
//!
//! An answer waits until this node has applied what it answers, so that the caller reads its own
//! write; at most [`SessionOptions::read_your_writes`](crate::SessionOptions::read_your_writes).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::{CommitError, Committed, Path, Scope};

use crate::event::Action;
use crate::forward::{ForwardId, ForwardOutcome, ForwardRequest, HOPS_MAX};
use crate::forward_wire::WireAnswer;
use crate::message::{ForwardMessage, Message, Refusal};
use crate::status::ForwardStatus;
use crate::task::TaskOutcome;
use crate::translate;
use crate::turn::{Turn, unexpected};
use crate::zones::covers;

/// How long a peer's write may wait at most, whatever the peer says.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A write that was sent and has no answer.
#[derive(Debug)]
struct Sent {
    id: ForwardId,
    deadline: Duration,
}

/// A write that is committed, and waits until this node has applied it.
#[derive(Debug)]
struct Arriving {
    id: ForwardId,
    reached: u64,
    deadline: Duration,
    committed: Committed,
}

/// The forwarded writes of a link.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    next: u64,
    sent: BTreeMap<u64, Sent>,
    arriving: Vec<Arriving>,
    /// Of the peer: being routed.
    routing: BTreeSet<u64>,
    pub(crate) status: ForwardStatus,
}

impl Forwards {
    /// Sends a write of this node's caller.
    pub(crate) fn send(
        &mut self,
        id: ForwardId,
        request: &ForwardRequest,
        up: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let refused = if !up {
            Some(unavailable("the node that owns the paths is not connected; try again"))
        } else if self.sent.len() + self.arriving.len() >= turn.options.forwards_max {
            let message = "too many writes wait for the node that owns the paths; try again";
            Some(Error::new(ErrorKind::Busy, message).context("reason", "upstream_unavailable"))
        } else if request.hops >= HOPS_MAX {
            Some(too_many_hops())
        } else {
            None
        };
        if let Some(error) = refused {
            self.status.unavailable += 1;
            turn.actions.push(Action::Forwarded(id, Err(error.into())));
            return Ok(());
        }
        let number = self.next + 1;
        let wait_ms = u32::try_from(request.wait.as_millis()).unwrap_or(u32::MAX);
        let commit = translate::wire_commit(&request.commit);
        let message = ForwardMessage { number, commit, wait_ms, hops: request.hops };
        let deadline = turn.now.mono.saturating_add(request.wait);
        if let Err(refusal) = turn.send(&Message::Forward(message)) {
            // It is too large for a message: that is its caller's business, and nobody else's.
            self.status.unavailable += 1;
            let error = Error::new(ErrorKind::TooLarge, refusal.message).operation("forward");
            turn.actions.push(Action::Forwarded(id, Err(error.into())));
            return Ok(());
        }
        self.next = number;
        self.sent.insert(number, Sent { id, deadline });
        Ok(())
    }

    /// Takes the answer to one; up to the peer's commit `applied` all is applied here, and `head`
    /// is this node's newest commit.
    pub(crate) fn on_answer(
        &mut self,
        number: u64,
        answer: WireAnswer,
        applied: Option<u64>,
        head: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Some(sent) = self.sent.remove(&number) else {
            // Too late: its caller was answered.
            let known = number <= self.next;
            let refusal = || Refusal::protocol("a write is answered that was not sent");
            return known.then_some(()).ok_or_else(refusal);
        };
        let outcome = match answer {
            WireAnswer::Failed(wire) => {
                self.status.refused += 1;
                Err(translate::failure(wire))
            }
            WireAnswer::Committed(wire) => {
                self.status.committed += 1;
                let reached = wire.reached;
                match (translate::committed(wire), applied) {
                    (Ok(committed), Some(_)) if reached > 0 => {
                        let deadline = turn.now.mono + turn.options.read_your_writes;
                        self.arriving.push(Arriving { id: sent.id, reached, deadline, committed });
                        self.arrived(applied, head, turn);
                        return Ok(());
                    }
                    (Ok(committed), _) => Ok(committed),
                    (Err(error), _) => Err(error.into()),
                }
            }
        };
        turn.actions.push(Action::Forwarded(sent.id, outcome));
        Ok(())
    }

    /// Answers what is applied here by now; `head` is this node's newest commit.
    pub(crate) fn arrived(&mut self, applied: Option<u64>, head: u64, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        self.arriving.retain_mut(|arriving| {
            let here = applied.is_some_and(|applied| applied >= arriving.reached);
            if !here && now < arriving.deadline {
                return true;
            }
            let mut committed = std::mem::take(&mut arriving.committed);
            if let Some(upstream) = committed.upstream.as_mut().filter(|_| here) {
                upstream.applied = true;
                committed.rev = head;
            }
            turn.actions.push(Action::Forwarded(arriving.id, Ok(committed)));
            false
        });
    }

    /// Gives up what was sent and has no answer in time.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let late: Vec<u64> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(sent) = self.sent.remove(&number) {
                self.status.unknown += 1;
                turn.actions.push(Action::Forwarded(sent.id, Err(timeout().into())));
            }
        }
    }

    /// The link is down.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>) {
        for (_, sent) in std::mem::take(&mut self.sent) {
            self.status.unknown += 1;
            turn.actions.push(Action::Forwarded(sent.id, Err(timeout().into())));
        }
        for arriving in std::mem::take(&mut self.arriving) {
            turn.actions.push(Action::Forwarded(arriving.id, Ok(arriving.committed)));
        }
        self.routing.clear();
    }

    /// Takes a peer's write; `granted` is where it may write, `kept` what of that nobody may.
    pub(crate) fn on_forward(
        &mut self,
        message: ForwardMessage,
        granted: &Scope,
        kept: &[Bytes],
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let ForwardMessage { number, commit, wait_ms, hops } = message;
        if !self.routing.insert(number) {
            return Err(Refusal::protocol("a write is sent twice under one number"));
        }
        if wait_ms == 0 {
            self.status.dropped += 1;
            self.routing.remove(&number);
            return Ok(());
        }
        let commit = match translate::commit(commit) {
            Err(error) => return self.answer(number, Err(error.into()), 0, turn),
            Ok(commit) => commit,
        };
        let touches = |path: &Path, key: &Bytes| {
            covers(key, path.key()) || translate::is_whole(&commit, path) && covers(path.key(), key)
        };
        let outside = translate::paths(&commit)
            .find(|path| !granted.covers(path.key()) || kept.iter().any(|key| touches(path, key)));
        let refused = if hops >= HOPS_MAX {
            self.status.dropped += 1;
            Some(CommitError::from(too_many_hops()))
        } else if let Some(path) = outside {
            let message = "this peer may not have writes of this path made here, or not of all \
                           below it";
            let error = Error::new(ErrorKind::Denied, message).context("reason", "denied");
            Some(CommitError { path: Some(path.to_string()), ..CommitError::from(error) })
        } else if self.routing.len() > turn.options.forwards_max {
            Some(Error::new(ErrorKind::Busy, "too many forwarded writes; try again").into())
        } else {
            None
        };
        if let Some(error) = refused {
            return self.answer(number, Err(error), 0, turn);
        }
        self.status.routed += 1;
        let wait = Duration::from_millis(u64::from(wait_ms)).min(WAIT_MAX);
        let task = turn.route(number);
        turn.actions.push(Action::Route(task, ForwardRequest { commit, wait, hops: hops + 1 }));
        Ok(())
    }

    /// Answers a peer's write.
    pub(crate) fn on_routed(
        &mut self,
        number: u64,
        outcome: TaskOutcome,
        log_id: u128,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        match outcome {
            TaskOutcome::Routed(outcome) => self.answer(number, outcome, log_id, turn),
            TaskOutcome::Failed(error) => self.answer(number, Err(error.into()), log_id, turn),
            _ => Err(unexpected()),
        }
    }

    fn answer(
        &mut self,
        number: u64,
        outcome: ForwardOutcome,
        log_id: u128,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.routing.remove(&number);
        let answer = match outcome {
            Ok(committed) => WireAnswer::Committed(translate::wire_committed(&committed, log_id)),
            Err(error) => WireAnswer::Failed(translate::wire_failure(&error)),
        };
        if turn.send(&Message::Forwarded { number, answer: answer.clone() }).is_ok() {
            return Ok(());
        }
        // Too large for a message. What it came to is said without what it came to in full.
        let answer = translate::brief(answer);
        turn.send(&Message::Forwarded { number, answer }).map(|_| ())
    }

    /// When the next of them is given up.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let sent = self.sent.values().map(|sent| sent.deadline);
        sent.chain(self.arriving.iter().map(|arriving| arriving.deadline)).min()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.sent.len() + self.arriving.len()
    }
}

pub(crate) fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).context("reason", "upstream_unavailable")
}

pub(crate) fn timeout() -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the node that owns the paths did not answer: repeat the write with its key",
    )
    .context("reason", "upstream_timeout")
}

fn too_many_hops() -> Error {
    Error::new(ErrorKind::Unavailable, "the write passed too many nodes: their paths form a ring")
        .context("reason", "upstream_unavailable")
        .context("hops_max", HOPS_MAX)
}
