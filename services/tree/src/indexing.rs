//! How far the store has come with each index, in the same batch as what it tells of.
//!
//! The note of the indexes names the rev of the store's note: where they differ, batches were
//! applied by something that keeps no indexes, and all of them are made anew. The same goes for
//! another version of what they are derived by. So an index is whole, being built, or nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_engine_traits::{ErrorKind, KeyRange, KvBackend, Op, Result, WriteBatch};

use crate::batch::commit_sealed;
use crate::derivation::{Derivation, subtree_key};
use crate::index::{Built, Definitions, Indexes, Progress};
use crate::path;
use crate::record::{self, Applied};
use crate::seal::SealedSnapshot;
use crate::space::{APPLIED_KEY, INDEX, INDEXES_KEY, META};
use crate::state::State;

/// What stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexNote {
    pub(crate) rev: u64,
    pub(crate) version: u32,
    pub(crate) indexes: Vec<(String, Built)>,
}

/// Adds the note of the indexes to a batch that leads to `rev`; nothing where there are none.
pub(crate) fn note(
    batch: WriteBatch,
    derivation: Option<&'static dyn Derivation>,
    indexes: &Indexes,
    before: &Indexes,
    rev: u64,
) -> Result<WriteBatch> {
    match derivation {
        Some(derivation) if !indexes.is_empty() || !before.is_empty() => {
            note_of(batch, derivation, indexes, rev)
        }
        _ => Ok(batch),
    }
}

fn note_of(
    batch: WriteBatch,
    derivation: &'static dyn Derivation,
    indexes: &Indexes,
    rev: u64,
) -> Result<WriteBatch> {
    if indexes.is_empty() {
        return Ok(batch.delete(META, INDEXES_KEY));
    }
    let built = indexes.iter().map(|(id, progress)| (id.clone(), progress.built.clone()));
    let note = IndexNote { rev, version: derivation.version(), indexes: built.collect() };
    Ok(batch.put(META, INDEXES_KEY, record::encode(&note)?))
}

/// The indexes as of a batch that leads to `rev`: new ones begin, dropped ones are gone.
pub(crate) fn at_batch(definitions: &Definitions, before: &Indexes, rev: u64) -> Indexes {
    let kept = definitions.all.iter().filter(|definition| definition.since <= rev);
    kept.map(|definition| {
        let known = before.get(&definition.id);
        let known = known.filter(|known| known.definition.since == definition.since);
        let progress = known.cloned().unwrap_or_else(|| Progress::new(definition.clone()));
        (definition.id.clone(), progress)
    })
    .collect()
}

/// The note of the indexes, if it is of the store's rev.
pub(crate) fn read_note(store: &SealedSnapshot) -> Result<Option<IndexNote>> {
    let Some(note) = store.get(META, INDEXES_KEY)? else { return Ok(None) };
    let note: IndexNote = record::decode(&note, "note of the indexes")?;
    let applied = store.get(META, APPLIED_KEY)?;
    let applied = applied.map(|applied| Applied::decode(&applied)).transpose()?;
    Ok(applied.filter(|applied| applied.rev == note.rev).map(|_| note))
}

/// A damaged note is as good as none.
fn damaged_is<T>(read: Result<T>, otherwise: impl FnOnce() -> T) -> Result<T> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(otherwise()),
        read => read,
    }
}

/// Finds out at open which indexes the store holds, and removes what belongs to none of them.
///
/// # Errors
/// Those of the store.
pub(crate) fn at_open(
    kv: &dyn KvBackend,
    derivation: &'static dyn Derivation,
    state: &State,
) -> Result<(Definitions, Indexes)> {
    let definitions = Definitions::at_open(derivation, state)?;
    let store = &state.layers.store;
    let stored = damaged_is(store.get(META, INDEXES_KEY), || Some(Bytes::new()))?.is_some();
    let note = damaged_is(read_note(store), || None)?;
    let note = note.filter(|note| note.version == derivation.version());
    let mut built: BTreeMap<String, Built> =
        note.iter().flat_map(|note| note.indexes.iter().cloned()).collect();
    let mut stale = Vec::new();
    if note.is_none() {
        stale.push(KeyRange::all());
    }
    for definition in definitions.all.iter().filter(|known| !built.contains_key(&known.id)) {
        stale.push(path::subtree(&subtree_key(&definition.id, b"")));
    }
    for id in built.keys().filter(|id| definitions.get(id).is_none()) {
        stale.push(path::subtree(&subtree_key(id, b"")));
    }
    let mut indexes = at_batch(&definitions, &Indexes::new(), 0);
    for progress in indexes.values_mut() {
        if let Some(built) = built.remove(&progress.definition.id) {
            progress.built = built;
        }
    }
    let mut batch = WriteBatch::new();
    for range in stale {
        if state.any(INDEX, &range, &|_| true)? {
            batch.ops.push(Op::DeleteRange(INDEX, range));
        }
    }
    if !batch.ops.is_empty() || (note.is_none() && (stored || !indexes.is_empty())) {
        let rev = state.layers.applied_rev;
        commit_sealed(kv, note_of(batch, derivation, &indexes, rev)?)?;
    }
    Ok((definitions, indexes))
}
