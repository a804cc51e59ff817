//! The commits of a round: what is stored, what is noted, and the answers that wait for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Input, Operation, PendingCommit};

use crate::key::Key;
use crate::record::{Record, own, until_path};
use crate::request::{Answer, Ended, Granted, InfoAnswer, Request, Stored, not_found};
use crate::table::Worker;
use crate::write::Change;

/// Leases noted in one commit.
const NOTES_MAX: usize = 10_000;
/// How long after a failed note the next is tried.
const NOTE_PAUSE_MS: u64 = 1_000;

/// An answer and whom it is for.
pub(crate) enum Reply {
    Info(InfoAnswer, Result<Granted>),
    Stored(Answer<Stored>, Result<Stored>),
    Ended(Answer<Ended>, Result<Ended>),
}

impl Reply {
    pub(crate) fn send(self) {
        match self {
            Self::Info(answer, outcome) => answer.send(outcome),
            Self::Stored(answer, outcome) => answer.send(outcome),
            Self::Ended(answer, outcome) => answer.send(outcome),
        }
    }
}

/// Who waits for the commit of a lease.
enum Waiting {
    Info(InfoAnswer),
    Stored(Answer<Stored>),
}

/// What becomes of a stored lease in this round.
struct Job {
    before: Option<Record>,
    record: Record,
    waiting: Vec<Waiting>,
}

/// Everything that a round commits.
#[derive(Default)]
pub(crate) struct Batch {
    jobs: BTreeMap<Key, Job>,
    notes: Vec<Key>,
    replies: Vec<Reply>,
    deferred: VecDeque<Request>,
    deferred_keys: BTreeSet<Key>,
}

impl Batch {
    pub(crate) fn reply(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    pub(crate) fn has_job(&self, key: Key) -> bool {
        self.jobs.contains_key(&key)
    }

    /// Whether a request has to wait for the commit of its lease. Writes join it.
    pub(crate) fn must_wait(&self, request: &Request) -> bool {
        let key = request.key();
        let joins = matches!(request, Request::Store { .. });
        self.deferred_keys.contains(&key) || (!joins && self.has_job(key))
    }

    pub(crate) fn defer(&mut self, request: Request) {
        self.deferred_keys.insert(request.key());
        self.deferred.push_back(request);
    }

    pub(crate) fn take_deferred(&mut self) -> VecDeque<Request> {
        std::mem::take(&mut self.deferred)
    }

    pub(crate) fn note(&mut self, key: Key) {
        self.notes.push(key);
    }

    /// A new lease is to be stored.
    pub(crate) fn create(&mut self, key: Key, ttl_ms: u64, answer: InfoAnswer) {
        let record = Record::new(ttl_ms);
        self.jobs.insert(key, Job { before: None, record, waiting: vec![Waiting::Info(answer)] });
    }
}

impl Worker {
    /// The job of a lease in this round, with what is stored of it.
    fn job<'a>(&self, key: Key, batch: &'a mut Batch) -> Result<&'a mut Job> {
        use std::collections::btree_map::Entry;

        match batch.jobs.entry(key) {
            Entry::Occupied(job) => Ok(job.into_mut()),
            Entry::Vacant(place) => {
                let lease = self.leases.get(&key).ok_or_else(not_found)?;
                let before = match lease.is_durable {
                    true => Record::read(&self.tree.view()?, key)?,
                    false => None,
                };
                let record = before.clone().unwrap_or_else(|| Record::new(lease.ttl_ms));
                Ok(place.insert(Job { before, record, waiting: Vec::new() }))
            }
        }
    }

    /// Stores or cancels writes of a lease.
    pub(crate) fn store(
        &self,
        key: Key,
        change: &Change,
        answer: Answer<Stored>,
        batch: &mut Batch,
    ) {
        let stored = self.job(key, batch).and_then(|job| {
            job.record.apply(change, &self.options)?;
            Ok(job)
        });
        match stored {
            Ok(job) => job.waiting.push(Waiting::Stored(answer)),
            Err(error) => batch.reply(Reply::Stored(answer, Err(error))),
        }
    }

    /// Sets the time to live of a lease, durably if it is stored, and answers.
    pub(crate) fn set_ttl(
        &mut self,
        key: Key,
        ttl_ms: Option<u64>,
        answer: InfoAnswer,
        batch: &mut Batch,
    ) {
        let Some(lease) = self.leases.get_mut(&key) else {
            return batch.reply(Reply::Info(answer, Err(not_found())));
        };
        let ttl_ms = ttl_ms.filter(|ttl_ms| *ttl_ms != lease.ttl_ms);
        if lease.is_durable
            && let Some(ttl_ms) = ttl_ms
        {
            match self.job(key, batch) {
                Ok(job) => {
                    job.record.ttl_ms = ttl_ms;
                    job.waiting.push(Waiting::Info(answer));
                }
                Err(error) => batch.reply(Reply::Info(answer, Err(error))),
            }
            return;
        }
        if let Some(ttl_ms) = ttl_ms {
            lease.ttl_ms = ttl_ms;
            self.schedule(key);
        }
        batch.reply(Reply::Info(answer, self.granted(key)));
    }

    /// Commits a round and waits for it; what it came to is remembered, the answers are returned.
    pub(crate) fn commit(&mut self, batch: Batch) -> Vec<Reply> {
        let Batch { jobs, notes, mut replies, .. } = batch;
        let jobs: Vec<_> = jobs.into_iter().map(|(key, job)| self.submit(key, job)).collect();
        let notes: Vec<_> =
            notes.chunks(NOTES_MAX).filter_map(|keys| self.submit_notes(keys)).collect();
        for submitted in jobs {
            self.finish(submitted, &mut replies);
        }
        for (heard, pending) in notes {
            self.finish_notes(heard, pending);
        }
        replies
    }

    fn submit(&self, key: Key, mut job: Job) -> Submitted {
        let lease = self.leases.get(&key);
        job.record.until_ms = lease.map_or(0, |lease| {
            // With the time to live that the commit sets.
            self.until_ms(lease).saturating_sub(lease.ttl_ms).saturating_add(job.record.ttl_ms)
        });
        let heard_ms = lease.map_or(0, |lease| lease.beat.last_ms());
        let pending = job.record.operations(job.before.as_ref(), key).map(|operations| {
            let is_empty = operations.is_empty() || nothing_to_keep(&job);
            (!is_empty).then(|| self.tree.submit(own(operations)))
        });
        Submitted { key, job, heard_ms, pending }
    }

    fn finish(&mut self, submitted: Submitted, replies: &mut Vec<Reply>) {
        let Submitted { key, job, heard_ms, pending } = submitted;
        let is_commit = matches!(pending, Ok(Some(_)));
        let outcome = pending.and_then(|pending| match pending {
            Some(pending) => Ok(pending.wait()?.rev),
            None => Ok(self.tree.view()?.rev()),
        });
        let now_ms = self.now_ms();
        if let Some(lease) = self.leases.get_mut(&key) {
            match &outcome {
                Ok(_) if is_commit => {
                    lease.is_durable = true;
                    lease.ttl_ms = job.record.ttl_ms;
                    lease.noted(heard_ms, now_ms);
                }
                // It may be stored all the same, so its end has to look.
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => lease.is_durable = true,
                _ => {}
            }
            if outcome.is_err() && !lease.is_durable && !lease.is_held {
                self.forget(key);
            }
        }
        let (writes, bytes) = (job.record.paths(), job.record.bytes());
        if outcome.is_ok() {
            self.count_stored(key, writes, bytes);
        }
        self.schedule(key);
        for waiting in job.waiting {
            let outcome = match &outcome {
                Ok(rev) => Ok(*rev),
                Err(error) => Err(error.duplicate()),
            };
            replies.push(match waiting {
                Waiting::Info(answer) => {
                    Reply::Info(answer, outcome.and_then(|_| self.granted(key)))
                }
                Waiting::Stored(answer) => {
                    Reply::Stored(answer, outcome.map(|rev| Stored { writes, bytes, rev }))
                }
            });
        }
    }

    /// One commit that notes when these leases end.
    fn submit_notes(&self, keys: &[Key]) -> Option<(Vec<(Key, u64)>, PendingCommit)> {
        let mut heard = Vec::with_capacity(keys.len());
        let mut updates = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(lease) = self.leases.get(key) else { continue };
            heard.push((*key, lease.beat.last_ms()));
            let until = Input::from_json(self.until_ms(lease).into());
            updates.push(until_path(*key).and_then(|path| Ok((path, until?))).ok()?);
        }
        if updates.is_empty() {
            return None;
        }
        let update = Operation::Update { updates, expiry: None };
        Some((heard, self.tree.submit(own(vec![update]))))
    }

    fn finish_notes(&mut self, heard: Vec<(Key, u64)>, pending: PendingCommit) {
        let outcome = pending.wait();
        if let Err(error) = &outcome {
            tracing::warn!(%error, "renewed leases could not be noted; trying again");
        }
        let now_ms = self.now_ms();
        for (key, heard_ms) in heard {
            let Some(lease) = self.leases.get_mut(&key) else { continue };
            match outcome {
                Ok(_) => lease.noted(heard_ms, now_ms),
                Err(_) => lease.note_again(now_ms, NOTE_PAUSE_MS),
            }
            self.schedule(key);
        }
    }
}

/// Whether a commit would store a lease that has nothing to be stored for.
fn nothing_to_keep(job: &Job) -> bool {
    let is_stored = job.waiting.iter().all(|waiting| matches!(waiting, Waiting::Stored(_)));
    job.before.is_none() && is_stored && job.record.paths() == 0
}

/// A job whose commit is on its way; `None` when it changes nothing.
struct Submitted {
    key: Key,
    job: Job,
    heard_ms: u64,
    pending: Result<Option<PendingCommit>>,
}
