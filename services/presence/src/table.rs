//! All leases as the worker knows them, and when to look at which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use trellis_runtime::Clock;
use trellis_tree::Tree;

use crate::beat::moment_ms;
use crate::key::Key;
use crate::lease::Lease;
use crate::options::PresenceOptions;
use crate::request::{Answer, Ended};
use crate::request::{Granted, not_found};
use crate::stats::PresenceStats;
use trellis_engine_traits::Result;

/// All leases, and what the worker needs for them.
pub(crate) struct Worker {
    pub(crate) tree: Tree,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: PresenceOptions,
    pub(crate) leases: HashMap<Key, Lease>,
    /// When to look at which lease.
    pub(crate) due: BTreeSet<(u64, Key)>,
    /// Leases that ended and whose writes have not run.
    pub(crate) ending: BTreeMap<Key, Ending>,
    pub(crate) stats: PresenceStats,
}

/// A lease that ended and whose writes have not run.
pub(crate) struct Ending {
    /// Who waits for its end.
    pub(crate) answer: Option<Answer<Ended>>,
    pub(crate) paths: usize,
    pub(crate) bytes: usize,
    /// When it is tried (again).
    pub(crate) at_ms: u64,
    pub(crate) pause_ms: u64,
}

impl Ending {
    pub(crate) fn new(answer: Option<Answer<Ended>>, lease: &Lease) -> Self {
        Self { answer, paths: lease.paths, bytes: lease.bytes, at_ms: 0, pause_ms: 0 }
    }

    pub(crate) const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// It is tried again after a pause; who waits is told why.
    pub(crate) fn failed(&mut self, now_ms: u64) -> Option<Answer<Ended>> {
        self.pause_ms = (2 * self.pause_ms).clamp(PAUSE_LEAST_MS, PAUSE_MOST_MS);
        self.at_ms = now_ms.saturating_add(self.pause_ms);
        self.answer.take()
    }
}

impl Worker {
    pub(crate) fn now_ms(&self) -> u64 {
        moment_ms(self.clock.as_ref())
    }

    pub(crate) fn ttl_default(&self) -> u64 {
        u64::try_from(self.options.ttl_default.as_millis()).unwrap_or(u64::MAX)
    }

    /// When a lease ends, in milliseconds since 1970.
    pub(crate) fn until_ms(&self, lease: &Lease) -> u64 {
        let left_ms = lease.ends_ms().saturating_sub(self.now_ms());
        self.clock.now_ms().saturating_add(left_ms)
    }

    pub(crate) fn granted(&self, key: Key) -> Result<Granted> {
        let lease = self.leases.get(&key).ok_or_else(not_found)?;
        Ok(Granted { ttl_ms: lease.ttl_ms, expires_at_ms: self.until_ms(lease) })
    }

    pub(crate) fn nothing_ran(&self) -> Result<Ended> {
        Ok(Ended { writes_run: 0, rev: self.tree.view()?.rev() })
    }

    pub(crate) fn insert(&mut self, key: Key, lease: Lease) {
        self.leases.insert(key, lease);
        self.schedule(key);
    }

    /// Looks at a lease again when that may matter.
    pub(crate) fn schedule(&mut self, key: Key) {
        let Some(lease) = self.leases.get_mut(&key) else { return };
        lease.beat.set_ttl_ms(lease.ttl_ms);
        self.due.remove(&(lease.due_ms, key));
        lease.due_ms = lease.next_look_ms();
        self.due.insert((lease.due_ms, key));
    }

    /// Takes a lease out of memory, but not out of the figures of what is stored.
    pub(crate) fn forget(&mut self, key: Key) -> Option<Lease> {
        let lease = self.leases.remove(&key)?;
        self.due.remove(&(lease.due_ms, key));
        self.stats.held -= usize::from(lease.is_held);
        Some(lease)
    }

    pub(crate) fn forget_all(&mut self) {
        self.leases.clear();
        self.due.clear();
        self.stats = PresenceStats::default();
    }

    /// Sets what a lease has stored.
    pub(crate) fn count_stored(&mut self, key: Key, paths: usize, bytes: usize) {
        let Some(lease) = self.leases.get_mut(&key) else { return };
        self.stats.writes = self.stats.writes + paths - lease.paths;
        self.stats.bytes = self.stats.bytes + bytes - lease.bytes;
        lease.paths = paths;
        lease.bytes = bytes;
    }
}

/// The first pause after a failure; it doubles.
const PAUSE_LEAST_MS: u64 = 1_000;

const PAUSE_MOST_MS: u64 = 30_000;
