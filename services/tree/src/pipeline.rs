//! The stages of a commit: resolve, flush, answer, each in a thread of its own.
//!
//! While group N is flushed, N+1 is resolved and the writers of N-1 get their answers; whatever
//! waits when a flush ends goes into the next one. A writer who finds the pipeline idle walks
//! through it in its own thread, which spares a lone writer every hand-over.
//!
//! Locks are taken in the order resolver, stages, layers, table; `try_lock` aside. The followers'
//! comes before their queues', and that before the views'.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::completion;

use crate::answer::Outcome;
use crate::change::Entered;
use crate::core::Core;
use crate::journal::Position;
use crate::record::Record;
use crate::refusal::{closed, is_storage_full, paused};
use crate::stages::{Answer, Group, Request, Stages};
use crate::work::Work;

/// Requests resolved into one group.
const GROUP_REQUESTS_MAX: usize = 1024;
/// Bytes of records in one group; the last one may go beyond.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Groups resolved ahead of the flush.
const GROUPS_AHEAD_MAX: usize = 2;

impl Core {
    /// Runs a request through the pipeline and waits.
    pub(crate) fn commit(self: &Arc<Self>, work: Work, bytes: usize) -> Outcome {
        let work = match self.commit_here(work) {
            Ok(outcome) => return outcome,
            Err(work) => work,
        };
        let (answer, receiver) = completion();
        self.enqueue(work, bytes, answer);
        receiver.wait().unwrap_or_else(|| Err(closed().into()))
    }

    /// Puts a request into the queue; a refusal is the answer.
    pub(crate) fn enqueue(&self, work: Work, bytes: usize, answer: Answer) {
        let mut stages = self.stages.lock();
        let refusal = if self.stopping.load(Ordering::Acquire) {
            Some(closed())
        } else if self.is_paused() {
            Some(paused())
        } else if stages.queue_bytes.saturating_add(bytes) > self.options.limits.queue_bytes_max
            && !stages.queue.is_empty()
        {
            Some(
                Error::new(ErrorKind::Busy, "too many commits are waiting; try again later")
                    .operation("commit")
                    .context("queue_bytes_max", self.options.limits.queue_bytes_max),
            )
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(stages);
            work.tear();
            answer.send(Err(refusal.into()));
            return;
        }
        stages.queue_bytes += bytes;
        stages.queue.push_back(Request { work, bytes, answer });
        drop(stages);
        self.requests.notify_one();
    }

    /// Commits in the caller's thread when nothing else is under way.
    fn commit_here(self: &Arc<Self>, work: Work) -> Result<Outcome, Work> {
        let stages = self.stages.lock();
        if !stages.queue.is_empty()
            || stages.in_flight > 0
            || self.stopping.load(Ordering::Acquire)
            || self.is_paused()
            || self.overlay_is_full()
        {
            return Err(work);
        }
        // Whoever holds the resolver may wait for `stages`: only try.
        let Some(mut resolver) = self.resolver.try_lock() else { return Err(work) };
        drop(stages);
        if let Some(poisoned) = self.poisoned() {
            return Ok(Err(poisoned.into()));
        }
        let resolved = resolver.resolve(self, &work);
        let Some((bytes, record)) = resolved.record else { return Ok(resolved.answer) };
        let last = resolver.position();
        let entered = vec![self.entered(vec![record], last)];
        match self.flush_group(&[bytes], entered, last, resolved.sync) {
            Ok(()) => {
                drop(resolver);
                self.after_visible();
                Ok(resolved.answer)
            }
            Err(error) => {
                let error = self.flush_failed(error);
                if self.poison.lock().is_none() {
                    self.roll_back(&mut resolver);
                }
                Ok(Err(error.into()))
            }
        }
    }

    /// What followers are handed of a group; the resolver is held, so that the tables are those
    /// that its records were entered into.
    fn entered(&self, records: Vec<Record>, last: Position) -> Entered {
        Entered { layers: Arc::clone(&self.layers.read()), records, last }
    }

    fn after_visible(&self) {
        self.progress.notify_all();
        if self.overlay_is_due() {
            self.apply_alarm.ring();
        }
    }

    /// Stage 1: resolves what waits, as long as there is room behind it.
    pub(crate) fn run_resolve(self: &Arc<Self>) {
        loop {
            let mut stages = self.stages.lock();
            loop {
                if !stages.queue.is_empty() && stages.groups.len() < GROUPS_AHEAD_MAX {
                    if !self.overlay_is_full() {
                        break;
                    }
                    self.apply_alarm.ring();
                    let failure = self.apply_failure.lock().as_ref().map(Error::duplicate);
                    if let Some(failure) = self.poisoned().or(failure) {
                        if self.takes_removals(&failure) {
                            break;
                        }
                        refuse(&mut stages, &failure);
                        continue;
                    }
                }
                if self.stopping.load(Ordering::Acquire) && stages.queue.is_empty() {
                    return;
                }
                self.requests.wait(&mut stages);
            }
            drop(stages);
            self.resolve_group();
        }
    }

    fn resolve_group(&self) {
        let mut resolver = self.resolver.lock();
        let poisoned = self.poisoned();
        let mut group = Group::default();
        let (mut taken, mut records) = (Vec::new(), Vec::new());
        while group.answers.len() < GROUP_REQUESTS_MAX && group.bytes < GROUP_BYTES_MAX {
            if !group.answers.is_empty() && self.overlay_is_full() {
                break;
            }
            self.stages.lock().take(group.answers.is_empty(), &mut taken);
            if taken.is_empty() {
                break;
            }
            for request in taken.drain(..) {
                if let Some(poisoned) = &poisoned {
                    group.answers.push((request.answer, Err(poisoned.duplicate().into())));
                    continue;
                }
                let resolved = resolver.resolve(self, &request.work);
                if let Some((bytes, record)) = resolved.record {
                    group.bytes += bytes.len();
                    group.records.push(bytes);
                    records.push(record);
                    group.sync |= resolved.sync;
                }
                group.answers.push((request.answer, resolved.answer));
            }
        }
        if group.answers.is_empty() {
            return;
        }
        group.last = resolver.position();
        group.entered.push(self.entered(records, group.last));
        let mut stages = self.stages.lock();
        stages.groups.push_back(group);
        drop(stages);
        drop(resolver);
        self.groups.notify_one();
    }

    /// Stage 2: one append and one flush for all groups that wait.
    pub(crate) fn run_flush(self: &Arc<Self>) {
        loop {
            let mut stages = self.stages.lock();
            while stages.groups.is_empty() {
                if self.is_closed() {
                    return;
                }
                self.groups.wait(&mut stages);
            }
            let groups = take_groups(&mut stages.groups);
            drop(stages);
            self.requests.notify_one();
            self.flush_groups(groups);
        }
    }

    fn flush_groups(self: &Arc<Self>, mut groups: Vec<Group>) {
        let count = groups.len();
        let mut whole = Group::default();
        for group in &mut groups {
            whole.records.append(&mut group.records);
            whole.answers.append(&mut group.answers);
            whole.sync |= group.sync;
            whole.entered.append(&mut group.entered);
            whole.last = group.last;
        }
        let flushed = if whole.records.is_empty() {
            Ok(())
        } else if let Some(poisoned) = self.poisoned() {
            Err(poisoned)
        } else {
            self.flush_group(&whole.records, whole.entered, whole.last, whole.sync)
        };
        match flushed {
            Ok(()) => self.hand_over(whole.answers, count),
            Err(error) => self.fail(error, whole.answers, count),
        }
        self.after_visible();
    }

    fn hand_over(&self, answers: Vec<(Answer, Outcome)>, count: usize) {
        let mut stages = self.stages.lock();
        stages.in_flight = stages.in_flight.saturating_sub(count);
        stages.answers.push_back(answers);
        drop(stages);
        self.answers.notify_one();
    }

    /// Remembers a failure that leaves the journal in doubt; returns what writers are told.
    fn flush_failed(&self, error: Error) -> Error {
        let clean =
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TooLarge | ErrorKind::Busy);
        if clean && is_storage_full(&error) {
            self.note_log_full(&error);
        }
        if clean {
            return error;
        }
        if error.kind() == ErrorKind::Poisoned {
            // The log may have failed under somebody else's call: status has to say it too.
            self.set_poison(error.duplicate());
            return error;
        }
        let told = Error::new(
            ErrorKind::OutcomeUnknown,
            "the journal could not be flushed; the commit may be there after a reopen",
        )
        .operation("commit")
        .source(error.to_string());
        tracing::error!(%error, "the journal was not flushed: no writes until a reopen");
        self.set_poison(error);
        told
    }

    /// Fails a group and everything that was resolved on top of it.
    fn fail(&self, error: Error, mut answers: Vec<(Answer, Outcome)>, mut count: usize) {
        let error = self.flush_failed(error);
        let mut resolver = self.resolver.lock();
        let later: Vec<Group> = self.stages.lock().groups.drain(..).collect();
        count += later.len();
        answers.extend(later.into_iter().flat_map(|group| group.answers));
        if self.poison.lock().is_none() {
            self.roll_back(&mut resolver);
        }
        drop(resolver);
        for (_, outcome) in &mut answers {
            // A refusal was judged against what is not there: it falls with it.
            *outcome = Err(error.duplicate().into());
        }
        self.hand_over(answers, count);
        self.requests.notify_one();
    }

    /// Stage 3: wakes the writers, while the next group is being flushed.
    pub(crate) fn run_answer(self: &Arc<Self>) {
        loop {
            let mut stages = self.stages.lock();
            stages.answering = false;
            if stages.is_idle() {
                self.progress.notify_all();
            }
            while stages.answers.is_empty() {
                if self.is_closed() {
                    return;
                }
                self.answers.wait(&mut stages);
            }
            let all: Vec<_> = stages.answers.drain(..).collect();
            stages.answering = true;
            drop(stages);
            for (answer, outcome) in all.into_iter().flatten() {
                answer.send(outcome);
            }
        }
    }
}

/// The groups for one append: all of them, unless they are too large for one.
fn take_groups(groups: &mut VecDeque<Group>) -> Vec<Group> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(next) = groups.front() {
        bytes += next.bytes;
        if !taken.is_empty() && bytes > 2 * GROUP_BYTES_MAX {
            break;
        }
        taken.extend(groups.pop_front());
    }
    taken
}

fn refuse(stages: &mut Stages, failure: &Error) {
    stages.queue_bytes = 0;
    for request in stages.queue.drain(..) {
        request.work.tear();
        request.answer.send(Err(failure.duplicate().into()));
    }
}
