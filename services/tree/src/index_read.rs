//! Reading indexes at a view, and how far they are built.
//!
//! Invariant: an index is named at a view only if it holds, at exactly the view's rev, one entry of
//! each item. What is due and not yet removed still has its entry: whoever reads items hides it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::core::Core;
use crate::derivation::{Derived, EntryParts, collection_prefix, entry_range, subtree_key};
use crate::index::Built;
use crate::path;
use crate::refusal::closed;
use crate::space::INDEX;
use crate::tree::Tree;
use crate::view::View;

/// An index that can be read at a view.
#[derive(Debug, Clone)]
pub struct ViewIndex {
    /// Its id: the last segment of the path at which it is defined.
    pub id: String,
    /// What it was defined as.
    pub derived: Arc<dyn Derived>,
}

/// How far an index is built.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexStatus {
    /// Its id: the last segment of the path at which it is defined.
    pub id: String,
    /// Its definition.
    pub definition: Value,
    /// Whether it holds every item, so that queries use it.
    pub ready: bool,
    /// Items that were taken in while it was built.
    pub items_built: u64,
    /// While it is being built: the path from which on items are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_at: Option<String>,
    /// Why it is not built any further until the next open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl View {
    /// The indexes that hold every item at this view.
    #[must_use]
    pub fn indexes(&self) -> Vec<ViewIndex> {
        let state = self.state();
        let whole = state.layers.indexes.iter().filter(|(_, progress)| progress.is_whole());
        // What was dropped since is empty, although the store still has it.
        let kept = whole.filter(|(id, _)| {
            let key = subtree_key(id, b"");
            let mut tables = state.layers.tables();
            !tables.any(|table| table.read().cleared(INDEX, &key, state.at).is_some())
        });
        kept.map(|(id, progress)| ViewIndex {
            id: id.clone(),
            derived: Arc::clone(&progress.definition.derived),
        })
        .collect()
    }

    /// Visits entries of one collection, ascending, or descending if `reverse`: each a sort key
    /// with the item's own key behind it. `range` bounds them.
    ///
    /// # Caller must
    /// neither block nor read this tree from within `visit`, and name an index of
    /// [`View::indexes`]: of others, some entries are visited or none.
    ///
    /// # Errors
    /// As for every read.
    pub fn scan_index(
        &self,
        id: &str,
        collection: &[u8],
        range: &KeyRange,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let skip = collection_prefix(id, collection).len();
        let range = entry_range(id, collection, range);
        let mut visit = |key: &[u8], _: &[u8]| visit(key.get(skip..).unwrap_or_default());
        if reverse {
            self.state().scan_reverse(INDEX, &range, &mut visit)
        } else {
            self.state().scan(INDEX, &range, &mut visit)
        }
    }

    /// The path key of the first collection with entries that is not before `from`.
    ///
    /// # Errors
    /// As for every read.
    pub fn index_collection(&self, id: &str, from: &[u8]) -> Result<Option<Bytes>> {
        let end = path::after_subtree(id.as_bytes());
        let mut range = KeyRange::new(collection_prefix(id, from), Some(end));
        loop {
            let mut found: Option<Bytes> = None;
            self.state().scan(INDEX, &range, &mut |key, value| {
                let parts = EntryParts::split(key, value);
                found = parts.map(|parts| Bytes::copy_from_slice(parts.collection));
                ControlFlow::Break(())
            })?;
            match found {
                // `from` may be a path key with a 0x00 behind it: what comes after that path.
                Some(before) if *before < *from => {
                    let entries = entry_range(id, &before, &KeyRange::all());
                    range.start = entries.end.unwrap_or_default();
                }
                found => return Ok(found),
            }
        }
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "/")
}

pub(crate) fn status(core: &Core) -> Vec<IndexStatus> {
    let (definitions, indexes) = (core.definitions(), Arc::clone(&core.layers.read().indexes));
    let status = definitions.all.iter().map(|definition| {
        let known = indexes.get(&definition.id);
        let known = known.filter(|known| known.definition.since == definition.since);
        let (items_built, building_at) = match known.map(|known| &known.built) {
            Some(Built::Whole(items)) => (*items, None),
            Some(Built::Until(key, items)) => (*items, Some(text(key))),
            None => (0, Some(String::new())),
        };
        IndexStatus {
            id: definition.id.clone(),
            definition: Value::clone(&definition.json),
            ready: known.is_some_and(|known| known.is_whole()),
            items_built,
            building_at,
            failed: known.and_then(|known| known.failed.clone()),
        }
    });
    status.collect()
}

impl Tree {
    /// Every index that is defined, and how far it is built.
    #[must_use]
    pub fn indexes(&self) -> Vec<IndexStatus> {
        status(self.core())
    }

    /// Waits until an index is ready, at most for `wait`; `false` when it is still being built.
    ///
    /// # Errors
    /// `NotFound` when there is none of this id, `Corrupt` when it cannot be built, `Closed`.
    pub fn wait_for_index(&self, id: &str, wait: Duration) -> Result<bool> {
        let core = self.core();
        let clock = core.runtime.clock();
        let deadline = clock.monotonic().saturating_add(wait);
        loop {
            core.check_open().map_err(|_| closed())?;
            let status = self.indexes().into_iter().find(|status| status.id == id);
            let Some(status) = status else {
                return Err(Error::new(ErrorKind::NotFound, "there is no index of this id")
                    .context("index", id));
            };
            if let Some(failed) = status.failed {
                let message = "the index cannot be built: run `trellis check`";
                return Err(Error::new(ErrorKind::Corrupt, message).source(failed));
            }
            if status.ready || clock.monotonic() >= deadline {
                return Ok(status.ready);
            }
            let mut stages = core.stages.lock();
            core.progress.wait_for(&mut stages, Duration::from_millis(50));
        }
    }
}
