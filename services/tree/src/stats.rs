//! Figures for people and dashboards.

use std::sync::atomic::Ordering;

use serde::Serialize;
use trellis_engine_traits::Result;

use crate::core::Core;
use crate::index_read;
use crate::refusal;
use crate::tree::Tree;

/// Where a tree stands. Counters count since open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TreeStats {
    /// The newest visible commit.
    pub rev: u64,
    /// The newest commit that survives loss of power.
    pub durable_rev: u64,
    /// The newest commit in the store.
    pub applied_rev: u64,
    /// The oldest commit in the journal.
    pub journal_first_rev: u64,
    /// Journal records since open.
    pub commits: u64,
    /// Journal appends since open; each was one flush at most.
    pub groups: u64,
    /// Batches applied to the store since open.
    pub batches: u64,
    /// Bytes appended to the journal since open.
    pub journal_bytes: u64,
    /// Bytes that wait to be applied.
    pub overlay_bytes: usize,
    /// Where writers begin to wait.
    pub overlay_bytes_max: usize,
    /// Open views.
    pub views: usize,
    /// Indexes that are defined.
    pub indexes: usize,
    /// Those of them that are built, so that queries use them.
    pub indexes_ready: usize,
    /// Items that were taken in by indexes which are being built.
    pub index_items_building: u64,
    /// When commits are acknowledged.
    pub durability: String,
    /// The store's engine.
    pub kv: &'static str,
    /// The journal's engine.
    pub log: &'static str,
    /// Bytes of live keys and values in the store.
    pub live_bytes: u64,
    /// Bytes of the store's files.
    pub disk_bytes: u64,
    /// Whether there is no room, so that only what removes is committed.
    pub storage_full: bool,
    /// Why writes are refused, if they are.
    pub poisoned: Option<String>,
}

fn read(core: &Core) -> Result<TreeStats> {
    let usage = core.kv.usage()?;
    // Each lock is let go before the next: a second read of one lock could wait for a writer that
    // waits for the first.
    let applied_rev = core.layers.read().applied_rev;
    let overlay_bytes = core.overlay_bytes();
    let views = core.views.revs.lock().values().sum();
    let indexes = index_read::status(core);
    let building = indexes.iter().filter(|index| !index.ready);
    let index_items_building = building.map(|index| index.items_built).sum();
    let poisoned = core.poison.lock().as_ref().map(ToString::to_string);
    let store_full = core.apply_failure.lock().as_ref().is_some_and(refusal::is_storage_full);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let rev = core.visible.load(Ordering::Acquire);
    Ok(TreeStats {
        rev,
        durable_rev: core.durable.load(Ordering::Acquire).min(rev),
        applied_rev,
        journal_first_rev: core.log.bounds(&core.journal)?.first + core.base,
        commits: count(&core.counters.commits),
        groups: count(&core.counters.groups),
        batches: count(&core.counters.batches),
        journal_bytes: count(&core.counters.journal_bytes),
        overlay_bytes,
        overlay_bytes_max: core.options.overlay_bytes_max,
        views,
        indexes: indexes.len(),
        indexes_ready: indexes.iter().filter(|index| index.ready).count(),
        index_items_building,
        durability: core.options.durability.to_string(),
        kv: core.kv.profile().name,
        log: core.log.profile().name,
        live_bytes: usage.live_bytes,
        disk_bytes: usage.disk_bytes,
        storage_full: core.log_is_full() || store_full,
        poisoned,
    })
}

impl Tree {
    /// Where the tree stands.
    ///
    /// # Errors
    /// Those of the engines.
    pub fn stats(&self) -> Result<TreeStats> {
        read(self.core())
    }
}
