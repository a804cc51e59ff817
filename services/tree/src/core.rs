//! What the stages of the pipeline share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, RwLock};
use trellis_engine_traits::{
    Durability, Error, ErrorKind, Expect, KvBackend, Result, StreamId, StreamLog,
};
use trellis_runtime::{Alarm, Runtime};

use crate::change::Entered;
use crate::derived::{IndexEffects, StampEffects};
use crate::effect::Effect;
use crate::endings;
use crate::followers::{Bell, Queue};
use crate::index::Definitions;
use crate::journal::Position;
use crate::memtable::MemTable;
use crate::openings::EpochStart;
use crate::options::TreeOptions;
use crate::reader::Reader;
use crate::record::{Chain, Record};
use crate::resolver::Resolver;
use crate::stages::Stages;
use crate::state::{Layers, State};
use crate::sweep::Sweep;
use crate::views::Views;
use crate::zoning::Gate;

pub(crate) struct Core {
    pub(crate) kv: Arc<dyn KvBackend>,
    pub(crate) log: Arc<dyn StreamLog>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) options: TreeOptions,
    pub(crate) journal: StreamId,
    pub(crate) log_id: u128,
    pub(crate) epoch: u64,
    /// The rev at which it was opened.
    pub(crate) opened_rev: u64,
    /// How the epochs that are still known began, this one included.
    pub(crate) epochs: Vec<EpochStart>,
    /// The rev before the journal's first record: offset = rev - base.
    pub(crate) base: u64,
    /// The revs after which anything, and everything, is stamped that is tracked.
    pub(crate) stamped: (u64, u64),

    pub(crate) layers: RwLock<Arc<Layers>>,
    /// The indexes that are kept, oldest version first: the last one holds for what is resolved,
    /// and earlier ones come back when what followed them is taken back.
    pub(crate) definitions: RwLock<Vec<Arc<Definitions>>>,
    /// Readers see commits up to here.
    pub(crate) visible: AtomicU64,
    /// Commits up to here survive loss of power.
    pub(crate) durable: AtomicU64,
    /// The hash of the newest visible record.
    pub(crate) visible_chain: Mutex<Chain>,
    /// The last rev of the frozen table, or of the last one that was.
    pub(crate) frozen_rev: AtomicU64,
    /// The views that are open, and whether the tree is.
    pub(crate) views: Arc<Views>,
    /// Who is handed each commit; held while something becomes visible.
    pub(crate) followers: Mutex<Vec<Arc<Queue>>>,
    /// Who is told that something became visible.
    pub(crate) bells: Mutex<Vec<Arc<Bell>>>,
    /// Revs after which the journal is kept, counted. Held while the journal is trimmed.
    pub(crate) holds: Mutex<BTreeMap<u64, usize>>,
    /// How many want writes to be refused for now.
    pub(crate) pauses: AtomicUsize,

    /// The newest time of the hybrid clock that a resolved commit has.
    pub(crate) hlc: AtomicU64,
    /// Where callers' commits go.
    pub(crate) gate: OnceLock<Arc<dyn Gate>>,

    pub(crate) resolver: Mutex<Resolver>,
    pub(crate) stages: Mutex<Stages>,
    /// Requests wait, or a reason not to resolve them went away.
    pub(crate) requests: Condvar,
    /// Groups wait for their flush.
    pub(crate) groups: Condvar,
    /// Answers wait to be given.
    pub(crate) answers: Condvar,
    /// Something became visible, failed, or was answered.
    pub(crate) progress: Condvar,

    /// The log refused an append for lack of room.
    pub(crate) log_full: AtomicBool,
    /// Why writes are refused until a reopen.
    pub(crate) poison: Mutex<Option<Error>>,
    /// Why the store does not take the overlay at the moment.
    pub(crate) apply_failure: Mutex<Option<Error>>,
    pub(crate) apply_alarm: Arc<Alarm>,
    pub(crate) apply_now: AtomicBool,
    pub(crate) upkeep_alarm: Arc<Alarm>,
    pub(crate) stopping: AtomicBool,
    /// Nothing is due before this time.
    pub(crate) next_due_ms: AtomicU64,
    pub(crate) any_expiry: AtomicBool,
    /// Removes what large clears left behind; only the apply thread changes it.
    pub(crate) sweep: Mutex<Sweep>,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("kv", &self.kv).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Core {
    /// The newest state, resolved commits included that are not yet visible.
    pub(crate) fn newest(&self) -> State {
        State { layers: Arc::clone(&self.layers.read()), at: u64::MAX }
    }

    /// What readers may see now.
    pub(crate) fn reader(&self) -> Result<Reader> {
        self.check_open()?;
        let (state, next_due_ms) = self.open_state();
        let now_ms = self.runtime.clock().now_ms();
        match endings::due(&state, next_due_ms, now_ms) {
            Ok(hidden) => Ok(Reader { state, hidden }),
            Err(error) => {
                self.views.close(state.at);
                Err(error)
            }
        }
    }

    /// The newest visible state, counted among the open views, and the time before which nothing
    /// in it is due.
    pub(crate) fn open_state(&self) -> (State, u64) {
        // While the layers are held, no table is exchanged: everything up to `visible` is in them.
        // The rev is registered before anybody can drop a version that it needs.
        let layers = self.layers.read();
        let mut revs = self.views.revs.lock();
        let at = self.visible.load(Ordering::Acquire);
        *revs.entry(at).or_default() += 1;
        // The bound is raised under the same lock, after what it leaves out is removed.
        let next_due_ms = self.next_due_ms.load(Ordering::Acquire);
        (State { layers: Arc::clone(&layers), at }, next_due_ms)
    }

    /// # Errors
    /// `Closed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.views.check_open()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.views.closed.load(Ordering::Acquire)
    }

    /// Versions that nobody at or after this rev can ask for may go.
    fn needed_from(&self) -> u64 {
        self.views.oldest().unwrap_or_else(|| self.visible.load(Ordering::Acquire))
    }

    /// The indexes that are kept from the newest resolved commit on.
    pub(crate) fn definitions(&self) -> Arc<Definitions> {
        self.definitions.read().last().cloned().unwrap_or_default()
    }

    fn define(&self, new: Definitions) {
        let visible = self.visible.load(Ordering::Acquire);
        let mut versions = self.definitions.write();
        // The newest version that cannot be taken back, and what came after it.
        let known = versions.partition_point(|version| version.from_rev <= visible);
        versions.drain(..known.saturating_sub(1));
        versions.push(Arc::new(new));
        self.apply_alarm.ring();
    }

    /// Enters a resolved record into the overlay, invisible as yet. The resolver is held.
    pub(crate) fn enter(&self, record: &Record, mut index: IndexEffects, stamps: StampEffects) {
        for effect in &record.effects {
            if let Effect::Expire(_, at) = effect {
                self.any_expiry.store(true, Ordering::Release);
                if self.next_due_ms.fetch_min(*at, Ordering::AcqRel) > *at {
                    self.upkeep_alarm.ring();
                }
            }
        }
        let needed_from = self.needed_from();
        let layers = Arc::clone(&self.layers.read());
        let mut table = layers.active.write();
        let key = record.key.as_ref();
        table.enter(record.rev, record.at_ms, &record.effects, key, needed_from);
        let new = index.definitions.take();
        if !index.is_empty() {
            table.enter_index(record.rev, index, needed_from);
        }
        if stamps.is_stamped {
            table.enter_stamps(record.rev, stamps, needed_from);
        }
        drop(table);
        if let Some(new) = new {
            self.define(new);
        }
    }

    pub(crate) fn any_expiry(&self) -> bool {
        self.any_expiry.load(Ordering::Acquire)
    }

    pub(crate) fn overlay_bytes(&self) -> usize {
        self.layers.read().tables().map(|table| table.read().bytes()).sum()
    }

    /// Whether the overlay takes no more before some of it is applied.
    pub(crate) fn overlay_is_full(&self) -> bool {
        self.overlay_bytes() >= self.options.overlay_bytes_max
            || self.layers.read().active.read().is_full_of_pages()
    }

    /// Whether the table that takes new commits has enough for a batch.
    pub(crate) fn overlay_is_due(&self) -> bool {
        self.layers.read().active.read().is_due(self.options.overlay_bytes_max)
    }

    /// Refuses writes from now on, and wakes whoever waits for what will not come.
    pub(crate) fn set_poison(&self, cause: Error) {
        self.poison.lock().get_or_insert(cause);
        self.requests.notify_all();
        self.progress.notify_all();
    }

    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.poison.lock().as_ref().map(|cause| {
            Error::new(
                ErrorKind::Poisoned,
                "a flush failed earlier: writes are refused until the database is opened anew",
            )
            .source(cause.to_string())
        })
    }

    /// Appends the records of groups and makes them visible.
    ///
    /// # Errors
    /// Those of the log; nothing became visible.
    pub(crate) fn flush_group(
        self: &Arc<Self>,
        records: &[bytes::Bytes],
        entered: Vec<Entered>,
        last: Position,
        sync: bool,
    ) -> Result<()> {
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let first = last.rev + 1 - count - self.base;
        let durability = if sync { Durability::Synced } else { Durability::Buffered };
        self.log.append(&self.journal, records, Expect::Next(first), durability)?;
        if sync {
            // First: whoever is woken for what becomes visible is to find it durable.
            self.durable.store(last.rev, Ordering::Release);
        }
        self.show(last, entered);
        let bytes: usize = records.iter().map(bytes::Bytes::len).sum();
        let add = |counter: &AtomicU64, by: usize| {
            counter.fetch_add(u64::try_from(by).unwrap_or(0), Ordering::Relaxed);
        };
        add(&self.counters.commits, records.len());
        add(&self.counters.groups, 1);
        add(&self.counters.journal_bytes, bytes);
        Ok(())
    }

    /// Takes back what was resolved and never became durable. The resolver is held.
    pub(crate) fn roll_back(&self, resolver: &mut Resolver) {
        let visible = self.visible.load(Ordering::Acquire);
        for table in self.layers.read().tables() {
            table.write().roll_back(visible);
        }
        self.definitions.write().retain(|version| version.from_rev <= visible);
        // New commits take the numbers over, and they go into the other table.
        self.frozen_rev.fetch_min(visible, Ordering::AcqRel);
        resolver.rev = visible;
        resolver.chain = *self.visible_chain.lock();
        resolver.rollbacks += 1;
    }
}

impl Core {
    /// Freezes the table that takes commits and puts a new one in its place; `false` when there is
    /// nothing to freeze.
    pub(crate) fn freeze(&self) -> bool {
        let resolver = self.resolver.lock();
        let mut layers = self.layers.write();
        if layers.frozen.is_some() || layers.active.read().is_empty() {
            return false;
        }
        *layers = Arc::new(Layers {
            active: Arc::new(RwLock::new(MemTable::default())),
            frozen: Some(Arc::clone(&layers.active)),
            store: layers.store.clone(),
            applied_rev: layers.applied_rev,
            indexes: Arc::clone(&layers.indexes),
        });
        self.frozen_rev.store(resolver.rev, Ordering::Release);
        true
    }
}
