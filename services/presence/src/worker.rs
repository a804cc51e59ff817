//! The worker: takes requests, looks at leases whose time may be over, commits, answers.
//!
//! Invariants: it alone changes leases; a round waits for all of its commits before it answers, so
//! what it remembers is what is stored; it sleeps until a request or the next moment that matters.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::Clock;
use trellis_tree::Tree;

use crate::batch::{Batch, Reply};
use crate::beat::{Beat, of_moment};
use crate::key::Key;
use crate::lease::Lease;
use crate::options::PresenceOptions;
use crate::request::{Answer, Ended, Request, Shared, not_found};
use crate::stats::PresenceStats;
use crate::table::{Ending, Worker};

/// How long a failed start waits before it is tried again.
const LOAD_PAUSE: Duration = Duration::from_secs(1);

/// Refuses every request when the worker is gone, however it went.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Works until presence is closed.
pub(crate) fn run(
    shared: Arc<Shared>,
    tree: Tree,
    clock: Arc<dyn Clock>,
    options: PresenceOptions,
) {
    let _abandon = Abandon(Arc::clone(&shared));
    let mut worker = Worker {
        tree,
        clock,
        options,
        leases: HashMap::new(),
        due: BTreeSet::new(),
        ending: BTreeMap::new(),
        stats: PresenceStats::default(),
    };
    if !worker.start(&shared) {
        return;
    }
    loop {
        let (requests, is_closing) = shared.take();
        worker.round(&shared, requests);
        if is_closing {
            return;
        }
        let deadline = worker.next_look_ms().map(of_moment);
        shared.alarm.wait(worker.clock.as_ref(), deadline);
    }
}

impl Worker {
    /// Takes up what is stored, however often that fails; `false` when presence is closed before.
    fn start(&mut self, shared: &Shared) -> bool {
        while let Err(error) = self.load() {
            tracing::warn!(%error, "stored leases could not be read; trying again");
            let (waiting, is_closing) = shared.take();
            waiting.into_iter().for_each(|request| request.refuse(error.duplicate()));
            if is_closing || error.kind() == ErrorKind::Closed {
                return false;
            }
            let deadline = self.clock.monotonic() + LOAD_PAUSE;
            shared.alarm.wait(self.clock.as_ref(), Some(deadline));
        }
        self.publish(shared);
        true
    }

    /// Carries out requests and whatever is due, until nothing of it is left.
    fn round(&mut self, shared: &Shared, requests: VecDeque<Request>) {
        let mut requests = requests;
        loop {
            let mut batch = Batch::default();
            for request in std::mem::take(&mut requests) {
                // What follows a commit of the same lease waits for its outcome.
                if batch.must_wait(&request) {
                    batch.defer(request);
                } else {
                    self.handle(request, &mut batch);
                }
            }
            self.look_at_due(&mut batch);
            let deferred = batch.take_deferred();
            let mut replies = self.commit(batch);
            self.run_endings(&mut replies);
            self.publish(shared);
            replies.into_iter().for_each(Reply::send);
            if deferred.is_empty() {
                return;
            }
            requests = deferred;
        }
    }

    fn publish(&mut self, shared: &Shared) {
        self.stats.leases = self.leases.len() + self.ending.len();
        self.stats.ending = self.ending.len();
        *shared.stats.lock() = self.stats;
    }

    fn handle(&mut self, request: Request, batch: &mut Batch) {
        match request {
            Request::Create { key, ttl_ms, answer } => {
                let beat = Arc::new(Beat::new(self.now_ms(), ttl_ms));
                match self.open(key, &beat, ttl_ms) {
                    Ok(()) => batch.create(key, ttl_ms, answer),
                    Err(error) => batch.reply(Reply::Info(answer, Err(error))),
                }
            }
            Request::Renew { key, at_ms, answer } => {
                let renewed = self.leases.get(&key).map(|lease| lease.beat.touch(at_ms));
                let granted = renewed.ok_or_else(not_found).and_then(|()| self.granted(key));
                batch.reply(Reply::Info(answer, granted));
            }
            Request::Attach { key, beat, ttl_ms, take, answer } => {
                match self.attach(key, &beat, take) {
                    Ok(()) => self.set_ttl(key, ttl_ms, answer, batch),
                    Err(error) => {
                        if take {
                            beat.end();
                        }
                        batch.reply(Reply::Info(answer, Err(error)));
                    }
                }
            }
            Request::Store { key, beat, change, answer } => match self.holder(key, beat.as_ref()) {
                Ok(()) => {
                    self.heard_of(key);
                    self.store(key, &change, answer, batch);
                }
                Err(error) => batch.reply(Reply::Stored(answer, Err(error))),
            },
            Request::End { key, beat, answer } => self.end(key, beat.as_ref(), answer, batch),
            Request::Release { key, beat } => self.release(key, &beat),
        }
    }

    /// A connection's lease becomes known, or goes to another connection.
    fn attach(&mut self, key: Key, beat: &Arc<Beat>, take: bool) -> Result<()> {
        if !take {
            self.holder(key, Some(beat))?;
            self.heard_of(key);
            return Ok(());
        }
        let Some(lease) = self.leases.get_mut(&key) else { return Err(not_found()) };
        if !Arc::ptr_eq(&lease.beat, beat) {
            lease.beat.end();
        }
        beat.open();
        lease.beat = Arc::clone(beat);
        if !std::mem::replace(&mut lease.is_held, true) {
            self.stats.held += 1;
        }
        self.schedule(key);
        Ok(())
    }

    /// Refuses all but the holder; a holder's lease that is not known yet becomes so.
    fn holder(&mut self, key: Key, beat: Option<&Arc<Beat>>) -> Result<()> {
        match (self.leases.get(&key), beat) {
            (Some(_), None) => Ok(()),
            (Some(lease), Some(beat)) if Arc::ptr_eq(&lease.beat, beat) => Ok(()),
            (None, Some(beat)) if beat.is_new() && !self.ending.contains_key(&key) => {
                let ttl_ms = self.ttl_default();
                self.open(key, beat, ttl_ms)?;
                if let Some(lease) = self.leases.get_mut(&key) {
                    lease.is_held = true;
                    self.stats.held += 1;
                }
                Ok(())
            }
            _ => Err(not_found()),
        }
    }

    fn heard_of(&self, key: Key) {
        if let Some(lease) = self.leases.get(&key) {
            lease.beat.touch(self.now_ms());
        }
    }

    /// A new lease, in memory.
    fn open(&mut self, key: Key, beat: &Arc<Beat>, ttl_ms: u64) -> Result<()> {
        if self.leases.len() + self.ending.len() >= self.options.leases_max {
            return Err(Error::new(ErrorKind::Busy, "all leases are taken; try again later")
                .operation("lease")
                .context("leases_max", self.options.leases_max));
        }
        beat.touch(self.now_ms());
        beat.open();
        self.insert(key, Lease::new(Arc::clone(beat), ttl_ms));
        Ok(())
    }

    fn end(
        &mut self,
        key: Key,
        beat: Option<&Arc<Beat>>,
        answer: Option<Answer<Ended>>,
        batch: &mut Batch,
    ) {
        let is_holder = match (self.leases.get(&key), beat) {
            (Some(lease), Some(beat)) => Arc::ptr_eq(&lease.beat, beat),
            (known, _) => known.is_some(),
        };
        if is_holder {
            self.begin_end(key, answer, batch);
        } else if let Some(answer) = answer {
            let outcome = match beat {
                Some(beat) if beat.is_new() => self.nothing_ran(),
                _ => Err(not_found()),
            };
            batch.reply(Reply::Ended(answer, outcome));
        }
    }

    /// From here on the lease is over, and cannot come back.
    fn begin_end(&mut self, key: Key, answer: Option<Answer<Ended>>, batch: &mut Batch) {
        let Some(lease) = self.forget(key) else { return };
        lease.beat.end();
        if lease.is_durable {
            self.ending.insert(key, Ending::new(answer, &lease));
            return;
        }
        self.stats.ended += 1;
        if let Some(answer) = answer {
            batch.reply(Reply::Ended(answer, self.nothing_ran()));
        }
    }

    fn release(&mut self, key: Key, beat: &Arc<Beat>) {
        let Some(lease) = self.leases.get_mut(&key) else { return };
        if !Arc::ptr_eq(&lease.beat, beat) {
            return;
        }
        if !lease.is_durable {
            // Nothing would run, so nobody has to wait for its end.
            self.forget(key);
            self.stats.ended += 1;
        } else if std::mem::replace(&mut lease.is_held, false) {
            self.stats.held -= 1;
        }
    }

    /// Ends what was silent too long, and notes what was renewed.
    fn look_at_due(&mut self, batch: &mut Batch) {
        let now_ms = self.now_ms();
        while let Some((due_ms, key)) = self.due.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.due.remove(&(due_ms, key));
            let Some(lease) = self.leases.get_mut(&key) else { continue };
            let has_job = batch.has_job(key);
            if now_ms >= lease.ends_ms() && !has_job {
                self.begin_end(key, None, batch);
                continue;
            }
            if now_ms >= lease.ends_ms() {
                // Its commit is under way: looked at again right after it.
                lease.due_ms = now_ms + 1;
                self.due.insert((now_ms + 1, key));
                continue;
            }
            if lease.wants_note(now_ms) && !has_job {
                batch.note(key);
            }
            if now_ms >= lease.next_note_ms {
                lease.note_again(now_ms, lease.ttl_ms / 3);
            }
            self.schedule(key);
        }
    }

    fn next_look_ms(&self) -> Option<u64> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.ending.values().map(Ending::at_ms)).min()
    }
}
