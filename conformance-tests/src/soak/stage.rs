//! What all clients of a run share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::peer::Scissors;
use super::record::Texts;
use super::server::Server;
use super::subscriber::Line;
use super::topics::{Topic, topics};

/// Longest wait for anything, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ringing for each frame would cost more than to look again now and then.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What all clients of a run share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) places: usize,
    pub(super) topics: Vec<Topic>,
    pub(super) texts: Texts,
    pub(super) sockets: Vec<Line>,
    pub(super) writers: Vec<Mutex<Option<Scissors>>>,
    /// Writers do not wait for subscribers that fall behind.
    pub(super) unthrottled: bool,
    /// Commits that writers may still begin.
    turns: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    /// The newest rev that was acknowledged.
    pub(super) newest: AtomicU64,
    over: AtomicBool,
    complaints: Mutex<Vec<String>>,
    waiting: Mutex<()>,
    bell: Condvar,
}

impl Stage {
    pub(super) fn new(
        server: Server,
        places: usize,
        (sockets, writers): (usize, usize),
        commits: u64,
    ) -> Self {
        let topics = topics(places);
        Self {
            server,
            places,
            texts: Texts::new(topics.len()),
            topics,
            sockets: (0..sockets).map(|_| Line::default()).collect(),
            writers: (0..writers).map(|_| Mutex::default()).collect(),
            unthrottled: false,
            turns: AtomicU64::new(commits),
            acknowledged: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            over: AtomicBool::new(false),
            complaints: Mutex::default(),
            waiting: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// Whether one more commit is to be made.
    pub(super) fn take_turn(&self) -> bool {
        let less = |turns: u64| turns.checked_sub(1);
        !self.is_over()
            && self.turns.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    /// Nothing more is to be done: connections end, nobody connects again.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.bell.notify_all();
        self.server.end();
        for line in &self.sockets {
            cut(&line.scissors);
        }
        for writer in &self.writers {
            cut(writer);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn complain(&self, what: String) {
        lock(&self.complaints).push(what);
    }

    pub(super) fn complaints(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.complaints)
    }

    /// Waits; a wait without end is a complaint, and ends as well.
    pub(super) fn wait_until(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = lock(&self.waiting);
        while !reached() {
            if Instant::now() >= deadline {
                return self.complain(format!("waited in vain for {what}"));
            }
            let waited = self.bell.wait_timeout(guard, LOOK_AGAIN);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Cuts a connection off, if there is one.
pub(super) fn cut(scissors: &Mutex<Option<Scissors>>) {
    if let Some(scissors) = &*lock(scissors) {
        scissors.cut();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
