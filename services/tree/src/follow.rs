//! [`Follower`]: every commit in order from a moment on, handed over as it becomes visible.
//!
//! Whoever makes a group visible puts it into the queues of the followers under one lock, which a
//! new follower takes too: so none misses a commit and none sees one twice. Writers never wait for
//! a follower: a queue that is full is emptied, and its follower told that it lags.
//!
//! Commits are followed when they are visible, so with an interval of durability before they would
//! survive loss of power. Not followed is what was never visible, and what a replay at open enters
//! anew: for that there is the journal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::Result;
use trellis_runtime::Alarm;

use crate::change::{Change, Entered, States};
use crate::core::Core;
use crate::followers::{Batch, Queue};
use crate::journal::Position;
use crate::refusal::closed;
use crate::tree::Tree;

/// What [`Follower::next`] found.
#[derive(Debug)]
pub enum Followed {
    /// Commits in order, without a gap to what was handed on before; at least one.
    Changes(Vec<Change>),
    /// More waited than the follower's bound, and it was dropped. What comes next follows
    /// [`Follower::position`]; what lies between is in the journal ([`Tree::history`]).
    Lagged,
    /// Nothing came in time, or the bell was rung.
    Nothing,
}

/// Hands on every commit from the moment on in which it was made. Dropping it ends that.
pub struct Follower {
    core: Arc<Core>,
    queue: Arc<Queue>,
    position: Position,
}

/// Ends a wait of [`Follower::next`] early, from another thread.
#[derive(Clone)]
pub struct FollowerBell {
    queue: Arc<Queue>,
}

impl Tree {
    /// Follows the tree from the newest visible commit on.
    ///
    /// Changes are handed on when they are visible, which with a durability of `Always` is when
    /// they would survive loss of power. At most `bytes_max` bytes of them wait, a group that is
    /// larger by itself aside; beyond it [`Followed::Lagged`] is the answer, and writers do not
    /// wait.
    ///
    /// # Errors
    /// `Closed`.
    ///
    /// # Cost
    /// Nothing for writers but a short lock for each group; what waits keeps old versions in memory
    /// and on disk, as an open view does.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use trellis_kv_memory::MemoryKv;
    /// use trellis_log_memory::MemoryLog;
    /// use trellis_runtime::Runtime;
    /// use trellis_tree::{Commit, Followed, Input, Path, Tree, TreeOptions};
    ///
    /// # let options = TreeOptions::default();
    /// # let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    /// let tree = Tree::open(kv, log, Runtime::system(), options)?;
    /// let mut follower = tree.follow(1 << 20)?;
    /// let path = Path::parse("a")?;
    /// tree.commit(Commit::set(path.clone(), Input::parse(b"1")?)).unwrap();
    /// let Followed::Changes(changes) = follower.next(Duration::from_secs(1))? else { panic!() };
    /// assert_eq!(changes[0].rev(), follower.position().rev);
    /// assert!(!changes[0].before()?.exists(&path)?);
    /// assert_eq!(changes[0].after()?.get(&path)?, 1);
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn follow(&self, bytes_max: usize) -> Result<Follower> {
        let core = Arc::clone(self.core());
        let alarm = Alarm::new(core.runtime.clock().as_ref());
        let queue = Arc::new(Queue { waiting: Mutex::default(), bytes_max, alarm });
        let mut followers = core.followers.lock();
        core.check_open()?;
        // Under the lock: whatever becomes visible after this position is put into the queue.
        let position = core.position();
        followers.push(Arc::clone(&queue));
        drop(followers);
        Ok(Follower { core, queue, position })
    }
}

impl Follower {
    /// The last commit that was handed on; at first the newest one when following began, after
    /// [`Followed::Lagged`] the newest one then.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// What came since the last call; waits for it at most this long, by the runtime's clock.
    ///
    /// # Errors
    /// `Closed` when the tree is, after what came before was handed on.
    pub fn next(&mut self, wait: Duration) -> Result<Followed> {
        let clock = Arc::clone(self.core.runtime.clock());
        let deadline = clock.monotonic().saturating_add(wait);
        loop {
            let is_closed = self.core.is_closed();
            let mut waiting = self.queue.waiting.lock();
            if waiting.lagged {
                drop(waiting);
                return Ok(self.restart());
            }
            if !waiting.batches.is_empty() {
                let batches = std::mem::take(&mut waiting.batches);
                waiting.bytes = 0;
                drop(waiting);
                return Ok(self.hand_on(batches));
            }
            if is_closed {
                return Err(closed());
            }
            let rung = std::mem::take(&mut waiting.rung);
            drop(waiting);
            if rung || clock.monotonic() >= deadline {
                return Ok(Followed::Nothing);
            }
            self.queue.alarm.wait(clock.as_ref(), Some(deadline));
        }
    }

    /// Whether a commit is under way that is not visible yet. It may turn out to change nothing or
    /// to fail: wait for it only as long as it would be worth it.
    ///
    /// # Cost
    /// A short lock that writers take too.
    #[must_use]
    pub fn has_more_coming(&self) -> bool {
        self.core.stages.lock().has_more_coming()
    }

    /// A bell that makes [`Follower::next`] return early.
    #[must_use]
    pub fn bell(&self) -> FollowerBell {
        FollowerBell { queue: Arc::clone(&self.queue) }
    }

    /// Follows anew from the newest visible commit on.
    fn restart(&mut self) -> Followed {
        // As in `follow`: nothing becomes visible meanwhile.
        let _followers = self.core.followers.lock();
        self.position = self.core.position();
        self.queue.waiting.lock().lagged = false;
        Followed::Lagged
    }

    fn hand_on(&mut self, batches: VecDeque<Batch>) -> Followed {
        let mut changes = Vec::with_capacity(batches.iter().map(|one| one.changes.len()).sum());
        for batch in batches {
            self.position = batch.last;
            match Arc::try_unwrap(batch.changes) {
                Ok(mut own) => changes.append(&mut own),
                Err(shared) => changes.extend(shared.iter().cloned()),
            }
        }
        Followed::Changes(changes)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.core.followers.lock().retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        // A bell may outlive the follower: what waits does not.
        let batches = std::mem::take(&mut self.queue.waiting.lock().batches);
        drop(batches);
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("position", &self.position).finish_non_exhaustive()
    }
}

impl FollowerBell {
    /// Makes the call of [`Follower::next`] that waits, or else the next one that finds nothing,
    /// answer [`Followed::Nothing`].
    pub fn ring(&self) {
        self.queue.waiting.lock().rung = true;
        self.queue.alarm.ring();
    }
}

impl fmt::Debug for FollowerBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowerBell").finish_non_exhaustive()
    }
}

impl Core {
    /// Makes groups visible, and hands them to the followers in the same order.
    pub(crate) fn show(self: &Arc<Self>, last: Position, entered: Vec<Entered>) {
        let followers = self.followers.lock();
        let mut batches = Vec::new();
        if !followers.is_empty() {
            // Before it is visible: from then on nobody else would keep the versions before it.
            batches.extend(entered.into_iter().filter_map(|group| self.batch(group)));
        }
        {
            // Rev and hash belong together: whoever holds the lock reads both of one record.
            let mut visible_chain = self.visible_chain.lock();
            *visible_chain = last.hash;
            self.visible.store(last.rev, Ordering::Release);
        }
        for batch in &batches {
            for queue in followers.iter() {
                queue.push(batch);
            }
        }
        drop(followers);
        self.ring_bells();
    }

    fn batch(self: &Arc<Self>, group: Entered) -> Option<Batch> {
        let Entered { layers, records, last } = group;
        let before = records.first()?.rev - 1;
        let states = States::pinned(&self.views, layers, before);
        let changes = records.into_iter().map(|record| Change::new(record, Arc::clone(&states)));
        let changes: Vec<Change> = changes.collect();
        let bytes = changes.iter().map(Change::bytes).sum();
        Some(Batch { changes: Arc::new(changes), bytes, last })
    }

    /// Wakes every follower: the tree was closed.
    pub(crate) fn wake_followers(&self) {
        for queue in self.followers.lock().iter() {
            queue.alarm.ring();
        }
    }
}
