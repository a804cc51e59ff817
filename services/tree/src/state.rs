//! The state at a rev: the overlay's tables over the store's snapshot, read as one.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use trellis_engine_traits::{KeyRange, Result, SpaceId, Visitor};

use crate::derivation::Look;
use crate::image::LeafScan;
use crate::index::Indexes;
use crate::memtable::{Found, MemTable, key_hash};
use crate::path;
use crate::seal::SealedSnapshot;
use crate::space::DATA;

/// Overlay entries merged at a time: bounds the memory of a scan.
const CHUNK_ENTRIES_MAX: usize = 2048;
/// Where it begins: most scans look for the first few entries only.
const CHUNK_ENTRIES_MIN: usize = 16;
/// Cleared entries passed over one by one before the scan jumps behind the clear.
const SKIP_MAX: usize = 32;

/// Sorted overlay entries: a value, or that the key is gone.
pub(crate) type Overlay = Vec<(Bytes, Option<Bytes>)>;

/// The tables and the snapshot that belong together.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Takes new commits.
    pub(crate) active: Arc<RwLock<MemTable>>,
    /// Is being applied to the store.
    pub(crate) frozen: Option<Arc<RwLock<MemTable>>>,
    /// Holds everything up to `applied_rev`.
    pub(crate) store: SealedSnapshot,
    pub(crate) applied_rev: u64,
    /// How far the store has come with the indexes.
    pub(crate) indexes: Arc<Indexes>,
}

impl Layers {
    /// The tables, newest first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<RwLock<MemTable>>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }
}

/// What can be seen at a rev.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) layers: Arc<Layers>,
    pub(crate) at: u64,
}

impl State {
    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let hash = key_hash(space, key);
        for table in self.layers.tables() {
            match table.read().get(space, key, hash, self.at) {
                Found::Value(value) => return Ok(Some(value)),
                Found::Absent => return Ok(None),
                Found::Unknown => {}
            }
        }
        self.layers.store.get(space, key)
    }

    /// Visits the live pairs of a range, ascending; ends early when the visitor breaks.
    ///
    /// The visitor runs inside the store's scan: it neither blocks nor reads this state.
    pub(crate) fn scan(
        &self,
        space: SpaceId,
        range: &KeyRange,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        let mut rest = range.clone();
        let mut limit = CHUNK_ENTRIES_MIN;
        loop {
            let (overlay, end) = self.overlay_chunk(space, &rest, limit);
            limit = (limit * 4).min(CHUNK_ENTRIES_MAX);
            let chunk = KeyRange::new(rest.start.clone(), end.clone().or_else(|| rest.end.clone()));
            if self.scan_chunk(space, chunk, overlay, visit)?.is_break() {
                return Ok(());
            }
            match end {
                Some(end) => rest.start = end,
                None => return Ok(()),
            }
        }
    }

    /// Whether anything live is in a range that `keep` accepts.
    pub(crate) fn any(
        &self,
        space: SpaceId,
        range: &KeyRange,
        keep: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut found = false;
        self.scan(space, range, &mut |key, _| {
            found = keep(key);
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Overlay entries from the start of the range, sorted, and where the chunk ends if it is cut
    /// short.
    fn overlay_chunk(
        &self,
        space: SpaceId,
        range: &KeyRange,
        limit: usize,
    ) -> (Overlay, Option<Bytes>) {
        let mut merged = Overlay::new();
        let mut end: Option<Bytes> = None;
        // Oldest first: a newer clear hides what is older, and a newer entry replaces it.
        let mut tables = [Some(&self.layers.active), self.layers.frozen.as_ref()];
        tables.reverse();
        for table in tables.into_iter().flatten() {
            let table = table.read();
            if table.has_clears(space) {
                for (key, value) in &mut merged {
                    if table.cleared(space, key, self.at).is_some() {
                        *value = None;
                    }
                }
            }
            let mut own = Overlay::new();
            if table.collect(space, range, self.at, limit, &mut own)
                && let Some((last, _)) = own.last()
            {
                let mut after = last.to_vec();
                after.push(0);
                let after = Bytes::from(after);
                end = Some(end.map_or_else(|| after.clone(), |end| end.min(after.clone())));
            }
            merged = merge(merged, own);
        }
        if let Some(end) = &end {
            merged.truncate(merged.partition_point(|(key, _)| key < end));
        }
        (merged, end)
    }

    pub(crate) fn clear_over(&self, space: SpaceId, key: &[u8]) -> Option<usize> {
        let tables = self.layers.tables();
        tables
            .filter_map(|table| table.read().cleared(space, key, self.at))
            .map(|(_, len)| len)
            .min()
    }

    fn scan_chunk(
        &self,
        space: SpaceId,
        mut range: KeyRange,
        overlay: Overlay,
        visit: &mut Visitor<'_>,
    ) -> Result<ControlFlow<()>> {
        let clears = self.layers.tables().any(|table| table.read().has_clears(space));
        if overlay.is_empty() && !clears {
            let mut flow = ControlFlow::Continue(());
            self.layers.store.scan(space, range, &mut |key, value| {
                flow = visit(key, value);
                flow
            })?;
            return Ok(flow);
        }
        let mut overlay = overlay.into_iter().peekable();
        let mut flow = ControlFlow::Continue(());
        loop {
            let mut jump: Option<Bytes> = None;
            let mut skipped = 0;
            self.layers.store.scan(space, range.clone(), &mut |key, value| {
                // What the overlay holds before this key comes first.
                while let Some((own, own_value)) = overlay.next_if(|(own, _)| **own < *key) {
                    if let Some(own_value) = own_value {
                        flow = visit(&own, &own_value);
                        if flow.is_break() {
                            return flow;
                        }
                    }
                }
                if let Some((own, own_value)) = overlay.next_if(|(own, _)| **own == *key) {
                    if let Some(own_value) = own_value {
                        flow = visit(&own, &own_value);
                    }
                    return flow;
                }
                if clears && let Some(len) = self.clear_over(space, key) {
                    skipped += 1;
                    if skipped > SKIP_MAX {
                        jump = key.get(..len).map(path::after_subtree);
                        return ControlFlow::Break(());
                    }
                    return ControlFlow::Continue(());
                }
                flow = visit(key, value);
                flow
            })?;
            match jump {
                Some(next) if flow.is_continue() && range.contains(&next) => range.start = next,
                _ => break,
            }
        }
        for (own, own_value) in overlay {
            if flow.is_break() {
                break;
            }
            if let Some(own_value) = own_value {
                flow = visit(&own, &own_value);
            }
        }
        Ok(flow)
    }
}

/// Merges two sorted runs; for a key of both, the newer run speaks.
fn merge(older: Overlay, newer: Overlay) -> Overlay {
    if older.is_empty() {
        return newer;
    }
    let mut merged = Overlay::with_capacity(older.len() + newer.len());
    let mut older = older.into_iter().peekable();
    for (key, value) in newer {
        while let Some(entry) = older.next_if(|(own, _)| *own < key) {
            merged.push(entry);
        }
        older.next_if(|(own, _)| *own == key);
        merged.push((key, value));
    }
    merged.extend(older);
    merged
}

impl LeafScan for State {
    fn scan_leaves(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<()> {
        self.scan(DATA, range, visit)
    }
}

impl Look for State {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get(DATA, key)
    }

    fn any_below(&self, key: &[u8]) -> Result<bool> {
        self.any(DATA, &path::below(key), &|_| true)
    }
}
