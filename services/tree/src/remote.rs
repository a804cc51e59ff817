//! Commits of other nodes on their way into the tree, and the gate that a caller's own pass.

use std::sync::Arc;

use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::commit::Commit;
use crate::pending::{AppliedSlot, PendingCommit, PendingRemote, told};
use crate::stamp::{RemoteApplied, RemoteCommit, StampedChange};
use crate::tree::Tree;
use crate::work::{Chained, RemoteWork, Work};
use crate::zoning::{Gate, Passage};

impl Tree {
    /// Applies a commit of another node and waits until it is durable and visible.
    ///
    /// It is merged with what is here by its rule, in the same pipeline as all commits: whole,
    /// group-committed, after what was submitted before. Applied again it changes nothing. One
    /// that changes nothing and whose notes are there is not logged. The limits of
    /// [`TreeOptions::limits`](crate::TreeOptions::limits) are for callers of this node; here only
    /// those hold that hold for every node.
    ///
    /// # Errors
    /// `InvalidInput`, `TooLarge` or `Corrupt` for a key, leaf, note or version that no node
    /// writes; `Unsupported` without [`TreeOptions::zoning`](crate::TreeOptions::zoning); `Busy`,
    /// `Unavailable`, `Closed`, `Poisoned`: nothing changed. `OutcomeUnknown`: it may be there
    /// after a reopen; applying it once more does no harm.
    ///
    /// # Cost
    /// Some reads for each op, one scan for a whole interval; one journal flush, shared with
    /// whoever commits at the same time.
    ///
    /// ```
    /// use trellis_tree::{Author, ChangeCause, RemoteCommit, RemoteRule, Scope, StampedOp, Tree};
    ///
    /// fn take_over(tree: &Tree, author: Author, ops: Vec<StampedOp>, scope: Scope) {
    ///     let (cause, rule) = (ChangeCause::Request, RemoteRule::Merge);
    ///     let commit = RemoteCommit { author, cause, ops, scope, rule, notes: Vec::new() };
    ///     assert!(tree.apply_remote(commit).is_ok());
    /// }
    /// ```
    pub fn apply_remote(&self, commit: RemoteCommit) -> Result<RemoteApplied> {
        let bytes = self.check_remote(&commit)?;
        let applied = AppliedSlot::default();
        let work =
            RemoteWork { commit, applied: Arc::clone(&applied), at: 0, chain: Arc::default() };
        told(self.core().commit(Work::Remote(Box::new(work)), bytes), &applied)
    }

    /// As [`Tree::apply_remote`] for each, in order, without waiting. Of those behind one that is
    /// not applied none is: where it ends, each has all before it.
    pub fn submit_remotes(&self, commits: Vec<RemoteCommit>) -> Vec<PendingRemote> {
        let chain = Arc::<Chained>::default();
        let submit = |(at, commit)| self.submit_remote(commit, at, &chain);
        commits.into_iter().enumerate().map(submit).collect()
    }

    fn submit_remote(
        &self,
        commit: RemoteCommit,
        at: usize,
        chain: &Arc<Chained>,
    ) -> PendingRemote {
        let applied = AppliedSlot::default();
        let bytes = match self.check_remote(&commit) {
            Ok(bytes) => bytes,
            Err(error) => {
                chain.tear(at);
                return PendingRemote { pending: PendingCommit::refused(error.into()), applied };
            }
        };
        let (answer, receiver) = trellis_runtime::completion();
        let (chain, slot) = (Arc::clone(chain), Arc::clone(&applied));
        let work = Work::Remote(Box::new(RemoteWork { commit, applied: slot, at, chain }));
        self.core().enqueue(work, bytes, answer);
        PendingRemote { pending: PendingCommit { receiver }, applied }
    }

    /// Puts a gate in front of [`Tree::commit`] and [`Tree::submit`]: from now on it decides where
    /// each commit goes that is not a service's own. Once in the life of a tree.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one.
    pub fn set_gate(&self, gate: Arc<dyn Gate>) -> Result<()> {
        self.core().gate.set(gate).map_err(|_| {
            Error::new(ErrorKind::AlreadyExists, "the tree has a gate already")
                .operation("set_gate")
        })
    }

    /// Bytes that a remote commit takes while it waits.
    fn check_remote(&self, commit: &RemoteCommit) -> Result<usize> {
        let core = self.core();
        let Some(zoning) = core.options.zoning.as_deref() else {
            let message = "this database is not divided for replication";
            return Err(Error::new(ErrorKind::Unsupported, message).operation("apply_remote"));
        };
        let now_ms = core.runtime.clock().now_ms();
        crate::remote_check::check(commit, zoning, now_ms)?;
        Ok(size(commit))
    }

    /// Where a commit goes; into this tree without a gate.
    pub(crate) fn pass(&self, commit: Commit) -> Passage {
        match self.core().gate.get() {
            Some(gate) if !commit.system => gate.pass(commit),
            _ => Passage::Here(commit),
        }
    }
}

/// Bytes that a remote commit takes while it waits.
fn size(commit: &RemoteCommit) -> usize {
    let ops = commit.ops.iter().map(|op| {
        let value = if let StampedChange::Put(stored) = &op.change { stored.len() } else { 0 };
        64 + op.key.len() + value
    });
    let notes = commit
        .notes
        .iter()
        .map(|(path, value)| 64 + path.key().len() + crate::input::input_size(value));
    64 + ops.sum::<usize>() + notes.sum::<usize>()
}
