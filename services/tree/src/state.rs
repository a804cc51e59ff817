//! The state at a rev: the overlay's tables over the store's snapshot, read as one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use trellis_engine_traits::{KeyRange, KvSnapshot, Result, Scan, SpaceId, Visitor};

use crate::memtable::{Found, MemTable};
use crate::path;

/// Overlay entries merged at a time: bounds the memory of a scan.
const CHUNK_ENTRIES: usize = 2048;
/// Cleared entries passed over one by one before the scan jumps behind the clear.
const SKIP_MAX: usize = 32;

/// The tables and the snapshot that belong together.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Takes new commits.
    pub(crate) active: Arc<RwLock<MemTable>>,
    /// Is being applied to the store.
    pub(crate) frozen: Option<Arc<RwLock<MemTable>>>,
    /// Holds everything up to `applied_rev`.
    pub(crate) store: Arc<dyn KvSnapshot>,
    pub(crate) applied_rev: u64,
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
        for table in self.layers.tables() {
            match table.read().get(space, key, self.at) {
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
        loop {
            let (overlay, end) = self.overlay_chunk(space, &rest);
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

    /// Overlay entries from the start of the range, and where the chunk ends if it is cut short.
    fn overlay_chunk(
        &self,
        space: SpaceId,
        range: &KeyRange,
    ) -> (BTreeMap<Bytes, Option<Bytes>>, Option<Bytes>) {
        let mut merged: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        let mut end: Option<Bytes> = None;
        // Oldest first, so that a newer table overwrites; a newer clear hides what is older.
        let tables: Vec<_> = self.layers.tables().collect();
        for table in tables.into_iter().rev() {
            let table = table.read();
            for (key, value) in &mut merged {
                if table.cleared(space, key, self.at).is_some() {
                    *value = None;
                }
            }
            let mut own = BTreeMap::new();
            if table.collect(space, range, self.at, CHUNK_ENTRIES, &mut own)
                && let Some((last, _)) = own.last_key_value()
            {
                let mut after = last.to_vec();
                after.push(0);
                let after = Bytes::from(after);
                end = Some(end.map_or_else(|| after.clone(), |end| end.min(after.clone())));
            }
            merged.append(&mut own);
        }
        if let Some(end) = &end {
            drop(merged.split_off(end));
        }
        (merged, end)
    }

    fn clear_over(&self, space: SpaceId, key: &[u8]) -> Option<usize> {
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
        overlay: BTreeMap<Bytes, Option<Bytes>>,
        visit: &mut Visitor<'_>,
    ) -> Result<ControlFlow<()>> {
        let clears = self.layers.tables().any(|table| table.read().has_clears());
        let mut overlay = overlay.into_iter().peekable();
        let mut flow = ControlFlow::Continue(());
        loop {
            let mut jump: Option<Bytes> = None;
            let mut skipped = 0;
            let scan = Scan::forward(space, range.clone());
            self.layers.store.scan(&scan, &mut |key, value| {
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
