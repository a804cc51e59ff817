//! The door through which callers' writes pass, and the boxes in which those of other nodes wait
//! for the link that takes them there.
//!
//! A write is put into the box of a link only while that link is up, and the link's thread empties
//! it: whoever is not sent is told so at once, and what waits is bounded in number and bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_runtime::{Alarm, Clock};
use trellis_tree::{Commit, CommitError, Gate, Passage, PendingCommit, PendingSender};

use crate::forward::{ForwardOutcome, ForwardRequest};
use crate::route::Route;
use crate::topology::Topology;

/// Bytes of writes that wait for a link's thread.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Gives a caller its answer, once; dropped without one, the outcome is unknown.
pub(crate) struct Answer(Option<PendingSender>);

/// A write on its way to a link.
pub(crate) struct Outgoing {
    pub(crate) request: ForwardRequest,
    pub(crate) deadline: Duration,
    pub(crate) answer: Answer,
    bytes: usize,
}

/// What a link's thread is asked for from outside.
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    pub(crate) alarm: Arc<Alarm>,
    writes_max: usize,
}

#[derive(Default)]
struct Mail {
    open: bool,
    writes: VecDeque<Outgoing>,
    bytes: usize,
    asked: Asked,
}

/// What a link's thread finds in its box besides writes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) verify: bool,
    pub(crate) repair: bool,
    pub(crate) resync: bool,
}

/// Decides where each write goes, and sends it there.
pub(crate) struct NodeGate {
    topology: Arc<Topology>,
    clock: Arc<dyn Clock>,
    links: BTreeMap<Arc<str>, Arc<Mailbox>>,
    wait: Duration,
    commit_bytes_max: usize,
    /// Makes keys that no other write has.
    key_stem: String,
    keys: AtomicU64,
}

impl Answer {
    pub(crate) fn give(mut self, outcome: ForwardOutcome) {
        if let Some(sender) = self.0.take() {
            sender.send(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(Err(crate::forwards::timeout().into()));
        }
    }
}

impl Mailbox {
    pub(crate) fn new(clock: &dyn Clock, writes_max: usize) -> Arc<Self> {
        Arc::new(Self { mail: Mutex::default(), alarm: Alarm::new(clock), writes_max })
    }

    /// The link is up: it takes what is put in from now on.
    pub(crate) fn open(&self) {
        self.mail.lock().open = true;
    }

    /// The link is down; what it did not take is answered as not sent.
    pub(crate) fn close(&self) {
        let mail = std::mem::take(&mut *self.mail.lock());
        for outgoing in mail.writes {
            outgoing.answer.give(Err(not_connected()));
        }
    }

    /// Puts a write in.
    fn put(&self, outgoing: Outgoing) {
        let mut mail = self.mail.lock();
        let refused = if !mail.open {
            Some(not_connected())
        } else if mail.writes.len() >= self.writes_max
            || (mail.bytes > 0 && mail.bytes.saturating_add(outgoing.bytes) > WAITING_BYTES_MAX)
        {
            let message = "too many writes wait for the node that owns the paths; try again";
            let error = Error::new(ErrorKind::Busy, message);
            Some(error.context("reason", "upstream_unavailable").into())
        } else {
            None
        };
        if let Some(error) = refused {
            drop(mail);
            return outgoing.answer.give(Err(error));
        }
        mail.bytes += outgoing.bytes;
        mail.writes.push_back(outgoing);
        drop(mail);
        self.alarm.ring();
    }

    /// The write that has waited longest.
    pub(crate) fn take(&self) -> Option<Outgoing> {
        let mut mail = self.mail.lock();
        let outgoing = mail.writes.pop_front()?;
        mail.bytes = mail.bytes.saturating_sub(outgoing.bytes);
        Some(outgoing)
    }

    /// Asks for a comparison or a new fill; `false` while the link is down.
    pub(crate) fn ask(&self, asked: Asked) -> bool {
        let mut mail = self.mail.lock();
        if !mail.open {
            return false;
        }
        mail.asked.verify |= asked.verify;
        mail.asked.repair |= asked.repair;
        mail.asked.resync |= asked.resync;
        drop(mail);
        self.alarm.ring();
        true
    }

    pub(crate) fn asked(&self) -> Asked {
        std::mem::take(&mut self.mail.lock().asked)
    }
}

impl NodeGate {
    pub(crate) fn new(
        topology: Arc<Topology>,
        clock: Arc<dyn Clock>,
        links: BTreeMap<Arc<str>, Arc<Mailbox>>,
        wait: Duration,
        commit_bytes_max: usize,
        key_stem: String,
    ) -> Self {
        let keys = AtomicU64::new(0);
        Self { topology, clock, links, wait, commit_bytes_max, key_stem, keys }
    }

    /// Sends a write over a link; the answer comes through what is returned.
    pub(crate) fn forward(&self, link: &str, mut request: ForwardRequest) -> PendingCommit {
        let (pending, sender) = PendingCommit::channel();
        let answer = Answer(Some(sender));
        let bytes = request.commit.bytes();
        let Some(mailbox) = self.links.get(link) else {
            answer.give(Err(not_connected()));
            return pending;
        };
        if bytes > self.commit_bytes_max {
            let error = Error::new(ErrorKind::TooLarge, "the commit is too large; split it");
            let error = error.operation("forward");
            answer.give(Err(error.context("commit_bytes_max", self.commit_bytes_max).into()));
            return pending;
        }
        if request.commit.key.is_none() {
            let number = self.keys.fetch_add(1, Ordering::Relaxed);
            request.commit.key = Some(format!("{}-{number}", self.key_stem));
        }
        let deadline = self.clock.monotonic().saturating_add(request.wait);
        mailbox.put(Outgoing { request, deadline, answer, bytes });
        pending
    }
}

impl Gate for NodeGate {
    fn pass(&self, commit: Commit) -> Passage {
        match self.topology.route(&commit) {
            Route::Here => Passage::Here(commit),
            Route::Refused(error) => Passage::Refused(error),
            Route::Forward { upstream } => {
                let request = ForwardRequest { commit, wait: self.wait, hops: 0 };
                Passage::Elsewhere(self.forward(&upstream, request))
            }
        }
    }

    fn check_here(&self, commit: &Commit) -> Result<(), CommitError> {
        self.topology.check_here(commit)
    }
}

impl fmt::Debug for NodeGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeGate").field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

pub(crate) fn not_connected() -> CommitError {
    crate::forwards::unavailable("the node that owns the paths is not connected; try again").into()
}
