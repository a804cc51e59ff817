//! Commits on their way, as whoever asked for them waits: [`PendingCommit`], [`PendingRemote`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use trellis_engine_traits::Result;
use trellis_runtime::{Completion, CompletionSender, completion};

use crate::answer::{CommitError, Committed, Outcome};
use crate::refusal::closed;
use crate::stamp::RemoteApplied;

/// A commit on its way; a future. Dropping it does not take the commit back.
#[derive(Debug)]
pub struct PendingCommit {
    pub(crate) receiver: Completion<Outcome>,
}

/// Answers a [`PendingCommit`] that somebody else carries out.
#[derive(Debug)]
pub struct PendingSender(CompletionSender<Outcome>);

impl PendingSender {
    /// Gives the answer. That nobody waits any more is no error.
    pub fn send(self, outcome: Result<Committed, CommitError>) {
        self.0.send(outcome);
    }
}

impl PendingCommit {
    /// A commit that somebody else carries out, and what its answer is given through; when that is
    /// dropped without one, the answer is `Closed`.
    ///
    /// ```
    /// use trellis_tree::{Committed, PendingCommit};
    ///
    /// let (pending, sender) = PendingCommit::channel();
    /// sender.send(Ok(Committed { rev: 7, ..Committed::default() }));
    /// assert_eq!(pending.wait()?.rev, 7);
    /// # Ok::<(), trellis_tree::CommitError>(())
    /// ```
    #[must_use]
    pub fn channel() -> (Self, PendingSender) {
        let (sender, receiver) = completion();
        (Self { receiver }, PendingSender(sender))
    }

    /// A commit that is refused.
    pub(crate) fn refused(error: CommitError) -> Self {
        let (pending, sender) = Self::channel();
        sender.send(Err(error));
        pending
    }

    /// Blocks until it is durable and visible, or refused.
    ///
    /// # Errors
    /// As for [`Tree::commit`](crate::Tree::commit).
    pub fn wait(self) -> Result<Committed, CommitError> {
        self.receiver.wait().unwrap_or_else(|| Err(closed().into()))
    }
}

impl Future for PendingCommit {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.receiver).poll(context);
        answered.map(|answer| answer.unwrap_or_else(|| Err(closed().into())))
    }
}

/// What came of a remote commit, filled in where it is resolved.
pub(crate) type AppliedSlot = Arc<Mutex<RemoteApplied>>;

/// A remote commit on its way; a future. Dropping it does not take the commit back.
#[derive(Debug)]
pub struct PendingRemote {
    pub(crate) pending: PendingCommit,
    pub(crate) applied: AppliedSlot,
}

impl PendingRemote {
    /// Blocks until it is durable and visible, or refused.
    ///
    /// # Errors
    /// As for [`Tree::apply_remote`](crate::Tree::apply_remote).
    pub fn wait(self) -> Result<RemoteApplied> {
        let Self { pending, applied } = self;
        told(pending.wait(), &applied)
    }
}

impl Future for PendingRemote {
    type Output = Result<RemoteApplied>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.pending).poll(context);
        answered.map(|outcome| told(outcome, &self.applied))
    }
}

pub(crate) fn told(outcome: Outcome, applied: &AppliedSlot) -> Result<RemoteApplied> {
    let committed = outcome?;
    Ok(RemoteApplied { rev: committed.rev, ..*applied.lock() })
}
