//! Building an index: the items that were there before it, chunk by chunk, while writes go on.
//!
//! The apply thread builds between its batches, from the store alone and into the store alone: a
//! chunk holds the entries of items as they are at exactly the store's rev, and in the same batch
//! how far it has come. What was committed since the definition is in the overlay, which is newer
//! and wins. So it goes on after a crash where it was, and what is found on the way is never older
//! than the store.
//!
//! Invariant: nobody reads an index before the batch that ends it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use trellis_engine_traits::{At, ErrorKind, KeyRange, MaintenanceBudget, Op, Result, WriteBatch};

use crate::batch::commit_sealed;
use crate::core::Core;
use crate::derivation::Entry;
use crate::index::{Built, Definition, Indexes};
use crate::memtable::MemTable;
use crate::pattern::{Located, Pattern};
use crate::seal::SealedSnapshot;
use crate::space::{DATA, INDEX};
use crate::state::{Layers, State};
use crate::{indexing, path};

/// Items of one chunk.
const CHUNK_ITEMS: usize = 4096;
/// Bytes of a chunk's entries; the last one may go beyond.
const CHUNK_BYTES: usize = 1 << 20;
/// Leaves of one item passed over before the scan jumps to the next item.
const SKIP_MAX: usize = 32;
/// Time for one slice of the store's own upkeep after a chunk.
const MAINTENANCE: Duration = Duration::from_millis(20);

/// What a step of building came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is to be built.
    Idle,
    /// A chunk was built.
    Built,
    /// An index waits for the batch that holds its definition.
    WantsBatch,
    /// The store did not take the chunk; try again later.
    Refused,
}

/// Items of a pattern from a key on, at most `limit`, and where to go on.
pub(crate) fn items(
    state: &State,
    pattern: &Pattern,
    from: &Bytes,
    limit: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>)> {
    let all = pattern.range();
    let mut rest = KeyRange::new(from.clone().max(all.start), all.end);
    let mut found: Vec<Bytes> = Vec::new();
    loop {
        let (mut jump, mut full, mut skipped) = (None, None, 0);
        state.scan(DATA, &rest, &mut |key, _| match pattern.locate(key) {
            Located::Above => ControlFlow::Continue(()),
            Located::Outside(next) => {
                jump = next;
                ControlFlow::Break(())
            }
            Located::Item(length) => {
                let item = key.get(..length).unwrap_or(key);
                if found.last().is_some_and(|last| **last == *item) {
                    skipped += 1;
                    if skipped < SKIP_MAX {
                        return ControlFlow::Continue(());
                    }
                    jump = Some(path::after_subtree(item));
                    return ControlFlow::Break(());
                }
                if found.len() >= limit {
                    full = Some(Bytes::copy_from_slice(item));
                    return ControlFlow::Break(());
                }
                skipped = 0;
                found.push(Bytes::copy_from_slice(item));
                ControlFlow::Continue(())
            }
        })?;
        match jump {
            Some(next) => rest.start = next,
            None => return Ok((found, full)),
        }
    }
}

/// The state that a store shows by itself.
pub(crate) fn state_of(store: SealedSnapshot, applied_rev: u64) -> State {
    let layers = Layers {
        active: Arc::new(RwLock::new(MemTable::default())),
        frozen: None,
        store,
        applied_rev,
        indexes: Arc::default(),
    };
    State { layers: Arc::new(layers), at: u64::MAX }
}

/// The entries of the next items, and how far the index is built with them.
fn chunk(state: &State, definition: &Definition, built: &Built) -> Result<(Vec<Entry>, Built)> {
    let Built::Until(from, before) = built else { return Ok((Vec::new(), built.clone())) };
    let derived = definition.derived.as_ref();
    let (found, mut next) = items(state, derived.collections(), from, CHUNK_ITEMS)?;
    let (mut entries, mut bytes, mut count) = (Vec::with_capacity(found.len()), 0, *before);
    for item in found {
        if bytes >= CHUNK_BYTES {
            next = Some(item);
            break;
        }
        let entry = Entry::of(&definition.id, derived, &item, state)?;
        bytes += entry.as_ref().map_or(0, |entry| entry.key.len() + entry.value.len());
        entries.extend(entry);
        count += 1;
    }
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok((entries, next.map_or(Built::Whole(count), |next| Built::Until(next, count))))
}

impl Core {
    /// Builds a chunk of the first index that is not whole. Runs in the apply thread.
    pub(crate) fn build_step(&self) -> Step {
        let layers = Arc::clone(&self.layers.read());
        let definitions = self.definitions();
        if self.stopping.load(Ordering::Acquire) || self.poison.lock().is_some() {
            return Step::Idle;
        }
        let mut wants_batch = false;
        for definition in &definitions.all {
            let known = layers.indexes.get(&definition.id);
            match known.filter(|known| known.definition.since == definition.since) {
                None => wants_batch = true,
                Some(known) if known.is_whole() || known.failed.is_some() => {}
                Some(known) => return self.build_chunk(&layers, definition, &known.built),
            }
        }
        // What is not resolved yet into a table cannot be waited for.
        if wants_batch && self.has_unapplied() { Step::WantsBatch } else { Step::Idle }
    }

    fn has_unapplied(&self) -> bool {
        let layers = self.layers.read();
        layers.frozen.is_some() || !layers.active.read().is_empty()
    }

    fn build_chunk(&self, layers: &Layers, definition: &Definition, built: &Built) -> Step {
        let state = state_of(layers.store.clone(), layers.applied_rev);
        let mut indexes = Indexes::clone(&layers.indexes);
        let Some(progress) = indexes.get_mut(&definition.id) else { return Step::Idle };
        let entries = match chunk(&state, definition, built) {
            Ok((entries, built)) => {
                progress.built = built;
                entries
            }
            Err(error) => {
                let index = &definition.id;
                tracing::error!(%error, index, "an index cannot be built until the next open");
                progress.failed = Some(error.to_string());
                self.show_indexes(indexes, None);
                return Step::Built;
            }
        };
        drop(state);
        let whole = progress.is_whole();
        match self.write_chunk(layers, &entries, &indexes) {
            Ok(store) => {
                if whole {
                    tracing::info!(index = definition.id, "an index is built");
                }
                self.show_indexes(indexes, Some(store));
                if let Err(error) = self.kv.maintain(MaintenanceBudget { time: MAINTENANCE }) {
                    tracing::warn!(%error, "the store's upkeep failed; trying again later");
                }
                Step::Built
            }
            Err(error) => {
                tracing::warn!(%error, "the store did not take part of an index; trying again");
                if matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Poisoned) {
                    self.set_poison(error);
                }
                Step::Refused
            }
        }
    }

    fn write_chunk(
        &self,
        layers: &Layers,
        entries: &[Entry],
        indexes: &Indexes,
    ) -> Result<SealedSnapshot> {
        let puts = entries.iter().map(|entry| {
            let at = At { space: INDEX, key: entry.key.clone() };
            Op::Put(at, entry.value.clone())
        });
        let batch = WriteBatch { guards: Vec::new(), ops: puts.collect() };
        let (derivation, rev) = (self.options.derivation, layers.applied_rev);
        let batch = indexing::note(batch, derivation, indexes, &layers.indexes, rev)?;
        commit_sealed(self.kv.as_ref(), batch)?;
        Ok(SealedSnapshot::new(self.kv.snapshot()?))
    }

    /// Lets readers see how far indexes are built, together with the store that holds them.
    fn show_indexes(&self, indexes: Indexes, store: Option<SealedSnapshot>) {
        let mut current = self.layers.write();
        *current = Arc::new(Layers {
            active: Arc::clone(&current.active),
            frozen: current.frozen.clone(),
            store: store.unwrap_or_else(|| current.store.clone()),
            applied_rev: current.applied_rev,
            indexes: Arc::new(indexes),
        });
        drop(current);
        let _stages = self.stages.lock();
        self.progress.notify_all();
    }
}
