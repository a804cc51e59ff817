//! Going on where a subscription was left: what was committed since is read from the journal once
//! for everybody who waits for it, and evaluated exactly as live.
//!
//! It runs in the threads of those who wait: the first of them reads for all who came by then, the
//! others wait for it, and who comes meanwhile is served next. The subscriptions were entered, and
//! held, before the journal is read up to some rev: what comes later, their mailboxes have.
//!
//! Invariant: whatever cannot be told exactly is not resumed, but begins anew with a snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Change, ChangeCause, History};

use crate::evaluate::{self, Topic};

use crate::matching::{Matches, Registered};
use crate::moment::{Moment, event};
use crate::registry::{Core, Counters};
use crate::request::{EVENT_BYTES, Event};
use crate::resumer::{Resumer, Resuming};
use crate::trie::Trie;

/// How often one pass is divided, when it is too much to be read at once.
const DIVISIONS_MAX: usize = 6;

/// One topic in a pass, evaluated once a commit for all who want it.
#[derive(Debug)]
struct Wanted {
    number: u64,
    topic: Topic,
    /// The oldest rev that somebody goes on from.
    since: u64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// Something cannot be told.
    failed: bool,
}

impl Registered for Arc<Wanted> {
    fn id(&self) -> u64 {
        self.number
    }
}

impl Core {
    /// Goes on with these subscriptions, and answers the numbers of those for which all that was
    /// missed is in their mailboxes. The others are as they were.
    pub(crate) fn resume(&self, wanted: Vec<Resuming>) -> Vec<u64> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut state = self.resumer.state.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        state.queue.push((ticket, wanted));
        loop {
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            if state.running {
                self.resumer.done.wait(&mut state);
                continue;
            }
            if !state.queue.iter().any(|(own, _)| *own == ticket) {
                // A pass took it and broke down.
                return Vec::new();
            }
            let queue = std::mem::take(&mut state.queue);
            state.running = true;
            drop(state);
            let running = Running(&self.resumer);
            let answers = Pass { core: self }.serve(queue);
            self.resumer.state.lock().answers.extend(answers);
            drop(running);
            state = self.resumer.state.lock();
        }
    }
}

/// Lets the next one begin, also when a pass breaks down.
struct Running<'a>(&'a Resumer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running = false;
        self.0.done.notify_all();
    }
}

struct Pass<'a> {
    core: &'a Core,
}

impl Pass<'_> {
    fn serve(&self, queue: Vec<(u64, Vec<Resuming>)>) -> Vec<(u64, Vec<u64>)> {
        let mut answers: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut by_since: BTreeMap<u64, Vec<(u64, Resuming)>> = BTreeMap::new();
        for (ticket, wanted) in queue {
            answers.insert(ticket, Vec::new());
            for one in wanted {
                by_since.entry(one.since).or_default().push((ticket, one));
            }
        }
        // Held until the pass has read it; who comes too late for that begins anew.
        let mut holds = Vec::new();
        by_since.retain(|since, _| match self.core.tree.hold_journal_after(*since) {
            Ok(hold) => {
                holds.push(hold);
                true
            }
            Err(_) => false,
        });
        let all: Vec<(u64, Resuming)> = by_since.into_values().flatten().collect();
        self.divide(&all, DIVISIONS_MAX, &mut answers);
        answers.into_iter().collect()
    }

    /// Reads for all, or, when that is too much at once, for the newer half.
    fn divide(
        &self,
        all: &[(u64, Resuming)],
        divisions: usize,
        answers: &mut HashMap<u64, Vec<u64>>,
    ) {
        let Some((_, oldest)) = all.first() else { return };
        match self.core.tree.history(oldest.since, self.core.options.resume_bytes_max) {
            Ok(history) => self.tell(&history, all, answers),
            Err(error) if error.kind() == ErrorKind::TooLarge && divisions > 0 => {
                let middle = all.len() / 2;
                let newer = all.get(middle..).filter(|newer| newer.len() < all.len());
                let since = |part: &[(u64, Resuming)]| part.first().map(|(_, one)| one.since);
                let Some(newer) = newer else { return };
                if since(newer) != Some(oldest.since) {
                    self.divide(newer, divisions - 1, answers);
                }
            }
            Err(error) => {
                if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::TooLarge {
                    tracing::warn!(%error, "subscriptions cannot be resumed; they begin anew");
                }
            }
        }
    }

    /// Evaluates every commit once for each topic, and puts what was missed into the mailboxes.
    fn tell(
        &self,
        history: &History,
        all: &[(u64, Resuming)],
        answers: &mut HashMap<u64, Vec<u64>>,
    ) {
        let mut topics: HashMap<&Topic, Arc<Wanted>> = HashMap::new();
        let mut trie = Trie::default();
        // Oldest first: who comes first for a topic has its oldest rev.
        for (_, one) in all {
            topics.entry(&one.topic).or_insert_with(|| {
                let new = Arc::new(Wanted {
                    number: one.id,
                    topic: one.topic.clone(),
                    since: one.since,
                    told: Mutex::default(),
                });
                trie.insert(&one.topic.pattern, Arc::clone(&new));
                new
            });
        }
        let mut bytes = 0;
        for change in history.changes().filter(|one| one.cause() != ChangeCause::Upkeep) {
            if let Err(error) = self.evaluate(&trie, change, &mut bytes) {
                tracing::warn!(%error, "subscriptions cannot be resumed; they begin anew");
                return;
            }
        }
        for (ticket, one) in all {
            let told = topics.get(&one.topic).map(|wanted| wanted.told.lock());
            let Some(told) = told.filter(|told| !told.failed) else { continue };
            let pattern = &one.topic.pattern;
            let is_exact = if pattern.is_wild() || pattern.path().is_root() {
                history.is_exact(one.since, &|key| pattern.concerns(key))
            } else {
                history.is_exact_at(one.since, pattern.path())
            };
            if is_exact && self.deliver(one, &told.events, history.through()) {
                answers.entry(*ticket).or_default().push(one.id);
            }
        }
    }

    fn evaluate(&self, trie: &Trie<Arc<Wanted>>, change: &Change, bytes: &mut usize) -> Result<()> {
        let options = &self.core.options;
        let moment = Moment::new(change);
        for touched in Matches::find(trie, &moment)?.touched {
            let wanted = &touched.item;
            let mut told = wanted.told.lock();
            if change.rev() <= wanted.since || told.failed {
                continue;
            }
            // A window cannot be told again: it goes on if nothing touched it.
            let untold = touched.more || wanted.topic.query().is_some();
            let body = match untold {
                true => None,
                false => Some(evaluate::events(
                    &wanted.topic,
                    &moment,
                    &touched.keys,
                    options.frame_bytes_max,
                )),
            };
            match body {
                Some(Ok(None)) => continue,
                Some(Ok(Some(body))) => {
                    told.bytes += EVENT_BYTES + body.len();
                    *bytes += EVENT_BYTES + body.len();
                    told.events.push(Arc::new(event(change, body)));
                }
                None | Some(Err(_)) => told.failed = true,
            }
            if told.bytes > options.inbox_bytes_max || *bytes > options.resume_bytes_max {
                told.failed = true;
            }
            if told.failed {
                *bytes -= told.bytes.min(*bytes);
                told.events = Vec::new();
            }
        }
        Ok(())
    }

    /// Puts what was missed before what is held; `false` when there is no room for it.
    fn deliver(&self, one: &Resuming, events: &[Arc<Event>], through: u64) -> bool {
        let missed = events.iter().filter(|event| event.rev > one.since);
        if !one.mailbox.know(one.id, through, missed.cloned().collect()) {
            return false;
        }
        Counters::add(&self.core.counters.resumed, 1);
        true
    }
}
