//! Ending leases: their writes and their removal are one commit, tried until it happened.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{CommitError, Committed, PendingCommit};

use crate::batch::Reply;
use crate::key::Key;
use crate::record::{Record, ending};
use crate::request::Ended;
use crate::table::Worker;
use crate::write::StoredWrite;

/// Ends under way at once.
const ENDINGS_MAX: usize = 512;

/// A lease whose end is being committed.
struct Attempt {
    key: Key,
    writes: Vec<StoredWrite>,
    /// Paths of writes that cannot be applied.
    dropped: usize,
    pending: Result<PendingCommit>,
}

/// What an attempt came to.
enum Outcome {
    Ran {
        ended: Ended,
        dropped: usize,
    },
    /// Without the write that cannot be applied it may work.
    Again(Attempt),
    Failed(Error),
}

impl Worker {
    /// Runs the writes of every lease that ended; those that failed before, after a pause.
    pub(crate) fn run_endings(&mut self, replies: &mut Vec<Reply>) {
        let now_ms = self.now_ms();
        let due = self.ending.iter().filter(|(_, ending)| ending.at_ms <= now_ms);
        let keys: Vec<Key> = due.map(|(key, _)| *key).collect();
        let mut failure = None;
        for keys in keys.chunks(ENDINGS_MAX) {
            failure = self.run_some(keys, replies).or(failure);
        }
        if let Some(error) = failure {
            tracing::warn!(%error, "the writes of ended leases could not run; trying again");
        }
    }

    /// Runs some at once; returns why one of them has to be tried again.
    fn run_some(&mut self, keys: &[Key], replies: &mut Vec<Reply>) -> Option<Error> {
        let view = self.tree.view();
        let mut attempts = Vec::with_capacity(keys.len());
        for key in keys {
            let record = match &view {
                Ok(view) => Record::read(view, *key),
                Err(error) => Err(error.duplicate()),
            };
            attempts.push(self.attempt(*key, record));
        }
        drop(view);
        let mut failure = None;
        while !attempts.is_empty() {
            for attempt in std::mem::take(&mut attempts) {
                let key = attempt.key;
                match self.judge(attempt) {
                    Outcome::Ran { ended, dropped } => self.ended(key, ended, dropped, replies),
                    Outcome::Again(attempt) => attempts.push(attempt),
                    Outcome::Failed(error) => {
                        self.stats.retries += 1;
                        let now_ms = self.now_ms();
                        let ending = self.ending.get_mut(&key);
                        if let Some(answer) = ending.and_then(|ending| ending.failed(now_ms)) {
                            replies.push(Reply::Ended(answer, Err(error.duplicate())));
                        }
                        failure = Some(error);
                    }
                }
            }
        }
        failure
    }

    /// Submits the end of a lease. One that is not stored is ended by a commit of nothing.
    fn attempt(&self, key: Key, record: Result<Option<Record>>) -> Attempt {
        match record {
            Ok(record) => {
                let mut dropped = record.as_ref().map_or(0, Record::unreadable);
                let mut writes = record.map(Record::into_writes).unwrap_or_default();
                // What is a service's own passes no gate: what another node has come to own since
                // it was stored is left alone.
                writes.retain(|write| match self.may_run(write) {
                    Ok(()) => true,
                    Err(refused) => {
                        let error = refused.error;
                        tracing::warn!(%error, "a write of an ended lease is not run: dropped");
                        dropped += write.paths();
                        false
                    }
                });
                let pending = ending(key, &writes).map(|commit| self.tree.submit(commit));
                Attempt { key, writes, dropped, pending }
            }
            Err(error) => Attempt { key, writes: Vec::new(), dropped: 0, pending: Err(error) },
        }
    }

    fn may_run(&self, write: &StoredWrite) -> std::result::Result<(), CommitError> {
        self.tree.check_operation(&write.operation()?)
    }

    fn judge(&self, attempt: Attempt) -> Outcome {
        let Attempt { key, mut writes, mut dropped, pending } = attempt;
        let committed = pending.map_err(CommitError::from).and_then(PendingCommit::wait);
        let refused = match committed {
            Ok(Committed { rev, .. }) => {
                let writes_run = writes.iter().map(StoredWrite::paths).sum();
                return Outcome::Ran { ended: Ended { writes_run, rev }, dropped };
            }
            Err(refused) => refused,
        };
        match refused.kind() {
            // It is not stored: nothing is to be run, or it has been.
            ErrorKind::Conflict => match self.nothing_ran() {
                Ok(ended) => Outcome::Ran { ended, dropped: 0 },
                Err(error) => Outcome::Failed(error),
            },
            ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Denied
            | ErrorKind::Unsupported
                if !writes.is_empty() =>
            {
                let named = |path: &String| writes.iter().position(|write| write.names(path));
                let culprit = refused.path.as_ref().and_then(named).unwrap_or(writes.len() - 1);
                let error = refused.error;
                tracing::warn!(%error, "a write of an ended lease cannot be applied: dropped");
                dropped += writes.remove(culprit).paths();
                let pending = ending(key, &writes).map(|commit| self.tree.submit(commit));
                Outcome::Again(Attempt { key, writes, dropped, pending })
            }
            _ => Outcome::Failed(refused.error),
        }
    }

    fn ended(&mut self, key: Key, ended: Ended, dropped: usize, replies: &mut Vec<Reply>) {
        let Some(ending) = self.ending.remove(&key) else { return };
        self.stats.ended += 1;
        self.stats.writes_run += ended.writes_run as u64;
        self.stats.writes_dropped += dropped as u64;
        self.stats.writes -= ending.paths;
        self.stats.bytes -= ending.bytes;
        if let Some(answer) = ending.answer {
            replies.push(Reply::Ended(answer, Ok(ended)));
        }
    }
}
