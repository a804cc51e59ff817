//! Open: who the journal is, how far the store has come, and the replay of what it lacks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, RwLock};
use trellis_engine_traits::{
    Durability, Error, ErrorKind, Expect, KvBackend, Persistence, ReadBudget, Result, StreamId,
    StreamLog, WriteBatch,
};
use trellis_runtime::{Alarm, Runtime};

use crate::batch::apply_batch;
use crate::core::{Core, Counters};
use crate::derivation::Derivation;
use crate::derive::derive;
use crate::derive_stamps::derive_stamps;
use crate::derived::{IndexEffects, StampEffects};
use crate::hybrid::HybridClock;
use crate::index::{Definitions, Indexes};
use crate::openings::{self, EpochStart};
use crate::options::TreeOptions;
use crate::record::{self, Applied, Authored, Chain, Opening, Record};
use crate::refusal::is_storage_full;
use crate::resolver::Resolver;
use crate::seal::SealedSnapshot;
use crate::space::{APPLIED_KEY, META};
use crate::stamping::Stamping;
use crate::stamping_store;
use crate::state::{Layers, State};
use crate::sweep::Sweep;
use crate::views::Views;
use crate::zoning::Zoning;
use crate::{build, endings, indexing, pushid, seed};

/// Openings remembered.
const OPENINGS_KEPT: u64 = 256;

fn mismatch(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, message).operation("open")
}

/// Opens the parts as one tree.
pub(crate) fn open(
    kv: Arc<dyn KvBackend>,
    log: Arc<dyn StreamLog>,
    runtime: Arc<Runtime>,
    mut options: TreeOptions,
) -> Result<Core> {
    settle(&mut options, kv.as_ref())?;
    let journal = StreamId::new("journal")?;
    seed::refuse_unfinished(kv.as_ref())?;
    let applied = read_applied(kv.as_ref())?;
    let zoning = options.zoning.as_deref();
    let opening = next_opening(kv.as_ref(), log.as_ref(), &runtime, applied.as_ref(), zoning)?;
    stamping_store::sweep_at_open(kv.as_ref(), &opening)?;
    let epochs = epochs(log.as_ref(), opening.log_id)?;
    let mut replay = Replay::new(kv.as_ref(), &opening, applied, &options)?;
    replay.run(log.as_ref(), &journal)?;
    options.derivation = replay.derivation;
    let (rev, last_ms, hlc) = (replay.rev, replay.last_ms, replay.hlc.unwrap_or(0));
    let chain = replay.chain.unwrap_or_default();
    let definitions = Arc::new(replay.definitions);
    let layers = replay.state.layers;
    let first_due = endings::first_due_ms(&State { layers: Arc::clone(&layers), at: u64::MAX })?;
    let sweep = Sweep::at_open(&layers.store)?;
    let clock = Arc::clone(runtime.clock());
    let views = Views::new(options.zoning.clone());
    Ok(Core {
        kv,
        log,
        runtime,
        options,
        journal,
        log_id: opening.log_id,
        epoch: opening.epoch,
        opened_rev: rev,
        epochs,
        base: opening.base,
        stamped: opening.stamping.as_ref().map_or((0, 0), Stamping::range),
        layers: RwLock::new(layers),
        definitions: RwLock::new(vec![definitions]),
        visible: AtomicU64::new(rev),
        durable: AtomicU64::new(rev),
        visible_chain: Mutex::new(chain),
        frozen_rev: AtomicU64::new(rev),
        views,
        followers: Mutex::default(),
        bells: Mutex::default(),
        holds: Mutex::new(BTreeMap::new()),
        pauses: AtomicUsize::new(0),
        hlc: AtomicU64::new(hlc),
        gate: OnceLock::new(),
        resolver: Mutex::new(Resolver {
            rev,
            chain,
            last_ms,
            push_ids: pushid::PushIds::default(),
            hybrid: HybridClock::after(hlc),
            rollbacks: 0,
        }),
        stages: Mutex::default(),
        requests: Condvar::new(),
        groups: Condvar::new(),
        answers: Condvar::new(),
        progress: Condvar::new(),
        log_full: AtomicBool::new(false),
        poison: Mutex::new(None),
        apply_failure: Mutex::new(None),
        apply_alarm: Alarm::new(clock.as_ref()),
        apply_now: AtomicBool::new(false),
        upkeep_alarm: Alarm::new(clock.as_ref()),
        stopping: AtomicBool::new(false),
        next_due_ms: AtomicU64::new(first_due),
        any_expiry: AtomicBool::new(first_due != u64::MAX),
        sweep: Mutex::new(sweep),
        counters: Counters::default(),
    })
}

/// Checks options, and fits them to the store.
fn settle(options: &mut TreeOptions, kv: &dyn KvBackend) -> Result<()> {
    // Half of the overlay goes to the store in one batch, all of it and more where the store
    // refused for a while.
    let batch_bytes_max = kv.profile().limits.batch_bytes_max;
    options.check()?;
    options.overlay_bytes_max = options.overlay_bytes_max.min(batch_bytes_max / 2);
    Ok(())
}

fn read_applied(kv: &dyn KvBackend) -> Result<Option<Applied>> {
    let stored = SealedSnapshot::new(kv.snapshot()?).get(META, APPLIED_KEY)?;
    stored.map(|stored| Applied::decode(&stored)).transpose()
}

/// Finds or makes the journal's identity, checks that the store fits it, and raises the epoch.
fn next_opening(
    kv: &dyn KvBackend,
    log: &dyn StreamLog,
    runtime: &Runtime,
    applied: Option<&Applied>,
    zoning: Option<&dyn Zoning>,
) -> Result<Opening> {
    let openings = StreamId::new("openings")?;
    let last = openings::last(log)?;
    let end = log.bounds(&StreamId::new("journal")?)?.next - 1;
    let at_ms = runtime.clock().now_ms();
    let opening = match last {
        Some(last) => {
            if last.epoch == seed::UNFINISHED {
                return Err(seed::cut_off());
            }
            check_pair(log, &last, applied)?;
            let rev = last.base + end;
            let stamping = Stamping::next(last.stamping.as_ref(), last.rev, zoning, rev);
            Opening { epoch: last.epoch + 1, at_ms, rev: Some(rev), stamping, ..last }
        }
        None => {
            let volatile = log.profile().persistence == Persistence::Volatile;
            if applied.is_some() && !volatile {
                return Err(mismatch(
                    "the store holds data and its journal is missing: put the journal back, or \
                     open the store with the log it belongs to",
                )
                .context("kv", kv.profile().name)
                .context("log", log.profile().name));
            }
            let mut id = [0; 16];
            runtime.random().fill(&mut id)?;
            let log_id = u128::from_le_bytes(id);
            let base = applied.map_or(0, |applied| applied.rev);
            if let Some(applied) = applied {
                // The store now belongs to this journal, even if nothing is ever written to it.
                let applied = Applied { log_id, chain: Chain::default(), ..*applied };
                apply_batch(kv, WriteBatch::new(), &applied)?;
            }
            let rev = base + end;
            let stamping = Stamping::next(Stamping::of_store(kv)?.as_ref(), None, zoning, rev);
            Opening { log_id, epoch: 1, base, at_ms, rev: Some(rev), stamping }
        }
    };
    let note = [opening.encode()?];
    let append = || log.append(&openings, &note, Expect::Any, Durability::Synced);
    append().or_else(|error| {
        // What comes after a refusal may use the log's reserve: one must be able to open, to read
        // and to remove.
        if is_storage_full(&error) { append() } else { Err(error) }
    })?;
    let next = log.bounds(&openings)?.next;
    log.trim(&openings, next.saturating_sub(OPENINGS_KEPT))?;
    Ok(opening)
}

/// How the epochs began that are still remembered.
fn epochs(log: &dyn StreamLog, log_id: u128) -> Result<Vec<EpochStart>> {
    let openings = StreamId::new("openings")?;
    let first = log.bounds(&openings)?.first;
    let mut epochs = Vec::new();
    let read = log.read(&openings, first, ReadBudget::UNLIMITED, &mut |_, bytes| {
        match Opening::decode(bytes) {
            Ok(Opening { log_id: own, epoch, rev, .. }) if own == log_id => {
                epochs.push(EpochStart { epoch, rev });
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    // What is damaged is as if it were forgotten: only resuming asks for it.
    read.map(|_| ()).or_else(|error| match error.kind() {
        ErrorKind::Corrupt => Ok(()),
        _ => Err(error),
    })?;
    Ok(epochs)
}

pub(crate) fn check_pair(
    log: &dyn StreamLog,
    opening: &Opening,
    applied: Option<&Applied>,
) -> Result<()> {
    let bounds = log.bounds(&StreamId::new("journal")?)?;
    let (applied_rev, log_id) =
        applied.map_or((opening.base, opening.log_id), |applied| (applied.rev, applied.log_id));
    if log_id != opening.log_id {
        return Err(mismatch("the store and the journal belong to different databases"));
    }
    if applied_rev < opening.base || applied_rev - opening.base + 1 > bounds.next {
        return Err(mismatch("the journal ends before the store: part of it is missing"));
    }
    if applied_rev - opening.base + 1 < bounds.first {
        return Err(mismatch(
            "the journal begins after the store ends: the store is older than its journal or \
             was replaced by an empty one",
        ));
    }
    Ok(())
}

struct Replay<'a> {
    kv: &'a dyn KvBackend,
    opening: &'a Opening,
    overlay_bytes_max: usize,
    store_full: bool,
    derivation: Option<&'static dyn Derivation>,
    definitions: Definitions,
    state: State,
    rev: u64,
    /// The hash of the record at `rev`, where it is known.
    chain: Option<Chain>,
    last_ms: u64,
    /// The newest time of the hybrid clock.
    hlc: Option<u64>,
}

impl<'a> Replay<'a> {
    fn new(
        kv: &'a dyn KvBackend,
        opening: &'a Opening,
        applied: Option<Applied>,
        options: &TreeOptions,
    ) -> Result<Self> {
        let applied_rev = applied.as_ref().map_or(opening.base, |applied| applied.rev);
        let mut replay = Self {
            kv,
            opening,
            overlay_bytes_max: options.overlay_bytes_max,
            store_full: false,
            derivation: options.derivation,
            definitions: Definitions::default(),
            state: build::state_of(SealedSnapshot::new(kv.snapshot()?), applied_rev),
            rev: applied_rev,
            hlc: applied.as_ref().and_then(|applied| applied.hlc),
            chain: applied.map(|applied| applied.chain),
            last_ms: 0,
        };
        replay.find_indexes()?;
        Ok(replay)
    }

    fn run(&mut self, log: &dyn StreamLog, journal: &StreamId) -> Result<()> {
        let mut from = self.rev + 1 - self.opening.base;
        loop {
            let mut failure = None;
            let end = log.read(journal, from, ReadBudget::UNLIMITED, &mut |_, bytes| match self
                .enter(bytes)
            {
                Ok(false) => ControlFlow::Continue(()),
                Ok(true) => ControlFlow::Break(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if end.next == from || end.stop == trellis_engine_traits::ReadStop::End {
                return Ok(());
            }
            from = end.next;
            match self.apply() {
                // The overlay holds what the store has no room for, until it has: what was
                // acknowledged behind a full store, but not a whole journal.
                Err(error) if is_storage_full(&error) && !self.store_full => {
                    self.store_full = true;
                    self.overlay_bytes_max = self.overlay_bytes_max.saturating_mul(4);
                }
                applied => applied?,
            }
        }
    }

    /// Enters one record; `true` when the overlay is full.
    fn enter(&mut self, bytes: &[u8]) -> Result<bool> {
        let record = Record::decode(bytes)?;
        if record.rev != self.rev + 1 {
            return Err(mismatch("the journal has a gap").context("rev", self.rev + 1));
        }
        let known = self.chain.filter(|chain| *chain != Chain::default());
        if known.is_some_and(|chain| chain != record.prev) {
            return Err(mismatch("the journal does not continue the store's history")
                .context("rev", record.rev));
        }
        let mut index = self.derive(&record)?;
        let stamps = self.derive_stamps(&record)?;
        self.hlc = self.hlc.max(record.authored.as_ref().map(Authored::newest_hlc));
        self.rev = record.rev;
        self.chain = Some(record::chain(bytes));
        self.last_ms = self.last_ms.max(record.at_ms);
        if let Some(definitions) = index.definitions.take() {
            self.definitions = definitions;
        }
        let mut table = self.state.layers.active.write();
        let key = record.key.as_ref();
        table.enter(record.rev, record.at_ms, &record.effects, key, record.rev);
        table.enter_index(record.rev, index, record.rev);
        table.enter_stamps(record.rev, stamps, record.rev);
        // Some room is left for the first writers; the rest is applied while readers are served.
        Ok(table.bytes() >= self.overlay_bytes_max / 4 * 3)
    }

    fn find_indexes(&mut self) -> Result<()> {
        let Some(derivation) = self.derivation else { return Ok(()) };
        match indexing::at_open(self.kv, derivation, &self.state) {
            Ok((definitions, indexes)) => {
                self.definitions = definitions;
                let applied_rev = self.state.layers.applied_rev;
                self.state = self.state_at(applied_rev, indexes)?;
                Ok(())
            }
            Err(error) => self.without_indexes(error),
        }
    }

    fn derive(&mut self, record: &Record) -> Result<IndexEffects> {
        let (rev, effects) = (record.rev, &record.effects);
        let (definitions, state) = (&self.definitions, &self.state);
        match derive(self.derivation, definitions, state, effects, rev, usize::MAX) {
            Err(error) => self.without_indexes(error).map(|()| IndexEffects::default()),
            derived => derived,
        }
    }

    fn derive_stamps(&self, record: &Record) -> Result<StampEffects> {
        let Some(stamping) = &self.opening.stamping else { return Ok(StampEffects::default()) };
        let mut stamps = derive_stamps(record, &self.state)?;
        stamps.retain(stamping);
        Ok(stamps)
    }

    /// Damage and a full disk must not keep anybody from opening: indexes can be made anew.
    fn without_indexes(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corrupt && !is_storage_full(&error) {
            return Err(error);
        }
        tracing::error!(%error, "indexes are not kept until the next open, which makes them anew");
        self.derivation = None;
        self.definitions = Definitions::default();
        let layers = &self.state.layers;
        self.state.layers = Arc::new(Layers {
            active: Arc::clone(&layers.active),
            frozen: None,
            store: layers.store.clone(),
            applied_rev: layers.applied_rev,
            indexes: Arc::default(),
        });
        Ok(())
    }

    /// The store as it is now, with an empty overlay.
    fn state_at(&self, applied_rev: u64, indexes: Indexes) -> Result<State> {
        let layers = Layers {
            active: Arc::default(),
            frozen: None,
            store: SealedSnapshot::new(self.kv.snapshot()?),
            applied_rev,
            indexes: Arc::new(indexes),
        };
        Ok(State { layers: Arc::new(layers), at: u64::MAX })
    }

    fn apply(&mut self) -> Result<()> {
        let chain = self.chain.unwrap_or_default();
        let (log_id, rev, hlc) = (self.opening.log_id, self.rev, self.hlc);
        let applied = Applied { log_id, rev, chain, hlc };
        let layers = &self.state.layers;
        let indexes = indexing::at_batch(&self.definitions, &layers.indexes, self.rev);
        let batch = layers.active.read().batch();
        let batch = indexing::note(batch, self.derivation, &indexes, &layers.indexes, self.rev)?;
        apply_batch(self.kv, batch, &applied)?;
        self.state = self.state_at(self.rev, indexes)?;
        Ok(())
    }
}
