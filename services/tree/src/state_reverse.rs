//! Reading a state backwards: for indexes that are asked for in descending order.
//!
//! As [`State::scan`] in the other direction, and apart from it because that one is what every read
//! goes through.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result, SpaceId, Visitor};

use crate::path;
use crate::state::{Overlay, State};

/// Overlay entries merged at a time, as for [`State::scan`].
const CHUNK_ENTRIES_MAX: usize = 2048;
const CHUNK_ENTRIES_MIN: usize = 16;
/// Cleared entries passed over one by one before the scan jumps before the clear.
const SKIP_MAX: usize = 32;

impl State {
    /// Visits the live pairs of a range, descending; ends early when the visitor breaks.
    ///
    /// The visitor runs inside the store's scan: it neither blocks nor reads this state.
    pub(crate) fn scan_reverse(
        &self,
        space: SpaceId,
        range: &KeyRange,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        let mut rest = range.clone();
        let mut limit = CHUNK_ENTRIES_MIN;
        while !rest.is_empty() {
            let (overlay, start) = self.overlay_chunk_reverse(space, &rest, limit);
            limit = (limit * 4).min(CHUNK_ENTRIES_MAX);
            let from = start.clone().unwrap_or_else(|| rest.start.clone());
            let chunk = KeyRange::new(from, rest.end.clone());
            if self.scan_chunk_reverse(space, chunk, overlay, visit)?.is_break() {
                return Ok(());
            }
            match start {
                Some(start) => rest.end = Some(start),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Overlay entries from the end of the range, descending, and where the chunk begins if it is
    /// cut short.
    fn overlay_chunk_reverse(
        &self,
        space: SpaceId,
        range: &KeyRange,
        limit: usize,
    ) -> (Overlay, Option<Bytes>) {
        let mut merged = Overlay::new();
        let mut start: Option<Bytes> = None;
        // Oldest first: a newer clear hides what is older, and a newer entry replaces it.
        for table in self.layers.tables().collect::<Vec<_>>().into_iter().rev() {
            let table = table.read();
            if table.has_clears(space) {
                for (key, value) in &mut merged {
                    if table.cleared(space, key, self.at).is_some() {
                        *value = None;
                    }
                }
            }
            let mut own = Overlay::new();
            if table.collect_reverse(space, range, self.at, limit, &mut own)
                && let Some((last, _)) = own.last()
            {
                start = start.max(Some(last.clone()));
            }
            merged = merge(merged, own);
        }
        if let Some(start) = &start {
            merged.truncate(merged.partition_point(|(key, _)| key >= start));
        }
        (merged, start)
    }

    fn scan_chunk_reverse(
        &self,
        space: SpaceId,
        mut range: KeyRange,
        overlay: Overlay,
        visit: &mut Visitor<'_>,
    ) -> Result<ControlFlow<()>> {
        let clears = self.layers.tables().any(|table| table.read().has_clears(space));
        let mut overlay = overlay.into_iter().peekable();
        let mut flow = ControlFlow::Continue(());
        loop {
            let (mut jump, mut skipped) = (None, 0);
            self.layers.store.scan_reverse(space, range.clone(), &mut |key, value| {
                while let Some((own, own_value)) = overlay.next_if(|(own, _)| **own > *key) {
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
                if clears && let Some(length) = self.clear_over(space, key) {
                    skipped += 1;
                    if skipped > SKIP_MAX {
                        jump = key.get(..length).map(|cleared| path::subtree(cleared).start);
                        return ControlFlow::Break(());
                    }
                    return ControlFlow::Continue(());
                }
                flow = visit(key, value);
                flow
            })?;
            match jump {
                Some(next) if flow.is_continue() && next > range.start => range.end = Some(next),
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

/// Merges two descending runs; for a key of both, the newer run speaks.
fn merge(older: Overlay, newer: Overlay) -> Overlay {
    if older.is_empty() {
        return newer;
    }
    let mut merged = Overlay::with_capacity(older.len() + newer.len());
    let mut older = older.into_iter().peekable();
    for (key, value) in newer {
        while let Some(entry) = older.next_if(|(own, _)| *own > key) {
            merged.push(entry);
        }
        older.next_if(|(own, _)| *own == key);
        merged.push((key, value));
    }
    merged.extend(older);
    merged
}
