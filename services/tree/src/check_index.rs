//! The indexes' part of a check: every item has its entry, and every entry its item.
//!
//! Invariant: both are judged in one view of the store, with what the store says of its indexes in
//! the same view. What the journal changes of an item later is no finding.

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, KvBackend, KvSnapshot, Result};

use crate::build;
use crate::checking::Check;
use crate::derivation::{Derivation, Entry, EntryParts, INDEXES_PATH};
use crate::finding::{Finding, FindingKind, Fix, Remedy, place, read_applied};
use crate::index::{Built, Definition, Definitions};
use crate::indexing::{self, IndexNote};
use crate::seal::{self, SealedSnapshot};
use crate::space::INDEX;
use crate::state::State;

/// Items looked at in one view.
const PAGE_ITEMS: usize = 1000;

/// What a view of the store says of its indexes.
struct Shown {
    state: State,
    rev: u64,
    definitions: Definitions,
    note: IndexNote,
}

impl Shown {
    /// `None` where the store's indexes are made anew at the next open anyway.
    fn of(
        view: Arc<dyn KvSnapshot>,
        base: u64,
        derivation: &dyn Derivation,
    ) -> Result<Option<Self>> {
        let applied = read_applied(view.as_ref()).ok().flatten();
        let rev = applied.map_or(base, |applied| applied.rev);
        let store = SealedSnapshot::from_arc(view);
        let note = indexing::read_note(&store);
        let state = build::state_of(store, rev);
        let shown = note.and_then(|note| {
            let Some(note) = note.filter(|note| note.version == derivation.version()) else {
                return Ok(None);
            };
            let definitions = Definitions::at_open(derivation, &state)?;
            Ok(Some(Self { state, rev, definitions, note }))
        });
        match shown {
            // Damage is reported where its pair is read.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
            shown => shown,
        }
    }

    fn is_whole(&self, id: &str) -> bool {
        self.note.indexes.iter().any(|(own, built)| own == id && matches!(built, Built::Whole(_)))
    }
}

impl Check<'_> {
    /// Compares indexes and data, both ways.
    pub(crate) fn indexes(&mut self) -> Result<()> {
        let Some(kv) = self.kv else { return Ok(()) };
        let Some(derivation) = self.options.derivation else { return Ok(()) };
        let Some(shown) = Shown::of(Arc::from(kv.snapshot()?), self.base(), derivation)? else {
            return Ok(());
        };
        let Shown { definitions, note, .. } = shown;
        for (id, built) in &note.indexes {
            match (definitions.get(id), built) {
                (Some(definition), Built::Whole(_)) => self.items_of(kv, derivation, definition)?,
                _ => self.report.skipped.push(format!("index {id}: it is still being built")),
            }
        }
        self.entries(derivation)
    }

    /// Every item has its entry.
    fn items_of(
        &mut self,
        kv: &dyn KvBackend,
        derivation: &dyn Derivation,
        definition: &Definition,
    ) -> Result<()> {
        let (id, derived) = (&definition.id, definition.derived.as_ref());
        let mut from = Bytes::new();
        loop {
            let view = Arc::from(kv.snapshot()?);
            let shown = Shown::of(view, self.base(), derivation)?;
            // Dropped meanwhile, it is nobody's.
            let Some(shown) = shown.filter(|shown| shown.is_whole(id)) else { return Ok(()) };
            let (found, next) =
                match build::items(&shown.state, derived.collections(), &from, PAGE_ITEMS) {
                    Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),
                    found => found?,
                };
            let mut findings = Vec::new();
            for item in found {
                let entry = match Entry::of(id, derived, &item, &shown.state) {
                    Err(error) if error.kind() == ErrorKind::Corrupt => continue,
                    entry => entry?,
                };
                let stored = entry.map(|entry| shown.state.get(INDEX, &entry.key)).transpose();
                if let Ok(Some(None)) = stored {
                    let detail = "missing in the index: queries would not find it";
                    findings.push(disagreement(FindingKind::MissingIndex, id, &item, detail));
                }
            }
            let rev = shown.rev;
            drop(shown);
            self.confirm(findings, rev)?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Every entry has its item.
    fn entries(&mut self, derivation: &dyn Derivation) -> Result<()> {
        let (base, mut entries) = (self.base(), 0);
        self.each_value(INDEX, &mut |page, findings| {
            let shown = Shown::of(Arc::clone(&page.view), base, derivation)?;
            for (key, stored) in page.fresh() {
                entries += 1;
                let (Some(shown), Ok(value)) = (&shown, seal::unseal(INDEX, key, stored)) else {
                    continue;
                };
                let Some(parts) = EntryParts::split(key, value) else { continue };
                let item = parts.item();
                let entry = match shown.definitions.get(parts.id) {
                    Some(known) => Entry::of(parts.id, known.derived.as_ref(), &item, &shown.state),
                    None => Ok(None),
                };
                if entry.is_ok_and(|entry| entry.is_none_or(|entry| entry.key != *key)) {
                    let detail = "an entry of the index stands for nothing that is there";
                    let kind = FindingKind::StrayIndex;
                    findings.push(disagreement(kind, parts.id, &item, detail));
                }
            }
            Ok(())
        })?;
        self.report.index_entries = entries;
        Ok(())
    }
}

fn disagreement(kind: FindingKind, id: &str, item: &Bytes, detail: &str) -> Finding {
    let definition = Bytes::from([INDEXES_PATH.as_bytes(), b"\0", id.as_bytes()].concat());
    let place = place(id, item);
    Finding::new(kind, place, detail, Remedy::Derive)
        .fix(Fix::Reindex)
        .about(INDEX, item)
        .about(INDEX, &definition)
}
