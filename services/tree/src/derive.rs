//! The entries of indexes that a commit changes, derived from its effects and the state before it.
//!
//! Invariants:
//! 1. What is derived depends on the record and on the state before it alone, so that a replay
//!    derives the same.
//! 2. A removed subtree that holds whole collections is one removal of each index it touches,
//!    whatever its size.
//! 3. Without indexes nothing is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::derivation::{Derivation, Entry, INDEXES_PATH, Look, subtree_key};
use crate::derived::IndexEffects;
use crate::effect::Effect;
use crate::index::{Definition, Definitions};
use crate::path;
use crate::pattern::Located;
use crate::refusal::over;
use crate::space::DATA;
use crate::state::State;

/// Bytes of the entries that one request may change: what goes to the store in one batch.
pub(crate) const INDEX_BYTES_MAX: usize = 64 << 20;
/// What a changed entry takes besides its key.
const ENTRY_BYTES: usize = 160;

impl Definitions {
    /// What the store defines.
    pub(crate) fn at_open(derivation: &dyn Derivation, state: &State) -> Result<Self> {
        Self::read(derivation, &definition_leaves(state)?, &Self::default(), 0)
    }
}

fn definition_leaves(state: &State) -> Result<BTreeMap<Bytes, Bytes>> {
    let mut leaves = BTreeMap::new();
    state.scan(DATA, &path::below(INDEXES_PATH.as_bytes()), &mut |key, value| {
        leaves.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(leaves)
}

fn changed_path(effect: &Effect) -> Option<&Bytes> {
    match effect {
        Effect::Clear(key) | Effect::Put(key, _) | Effect::Delete(key) => Some(key),
        Effect::Expire(..)
        | Effect::Unexpire(_)
        | Effect::Unindex(..)
        | Effect::Forget(..)
        | Effect::Mark(_)
        | Effect::Collect(_) => None,
    }
}

/// What a commit at `rev` changes.
///
/// # Errors
/// `TooLarge` beyond `bytes_max`; those of reading the state: nothing was changed.
pub(crate) fn derive(
    derivation: Option<&'static dyn Derivation>,
    definitions: &Definitions,
    before: &State,
    effects: &[Effect],
    rev: u64,
    bytes_max: usize,
) -> Result<IndexEffects> {
    let mut changes = IndexEffects::default();
    let Some(derivation) = derivation else { return Ok(changes) };
    let root = INDEXES_PATH.as_bytes();
    let defines = effects.iter().filter_map(changed_path).any(|key| path::covers(root, key));
    if definitions.all.is_empty() && !defines {
        return Ok(changes);
    }
    let mut after = None;
    for definition in &definitions.all {
        let touched = Touched::new(definition, effects);
        if touched.is_nothing() {
            continue;
        }
        let after = after.get_or_insert_with(|| After::new(before, effects));
        touched.derive(definition, before, after, bytes_max, &mut changes)?;
    }
    if defines {
        let mut leaves = definition_leaves(before)?;
        After::new(before, effects).change(&mut leaves);
        let new = Definitions::read(derivation, &leaves, definitions, rev)?;
        for old in &definitions.all {
            if new.get(&old.id).is_none_or(|new| new.since != old.since) {
                changes.drop_index(&old.id);
            }
        }
        changes.definitions = Some(new);
    }
    Ok(changes)
}

/// What a commit touches of an index.
struct Touched<'a> {
    items: BTreeSet<&'a [u8]>,
    /// Removed subtrees that hold whole collections.
    cleared: Vec<&'a Bytes>,
}

impl<'a> Touched<'a> {
    fn new(definition: &Definition, effects: &'a [Effect]) -> Self {
        let mut touched = Self { items: BTreeSet::new(), cleared: Vec::new() };
        let pattern = definition.derived.collections();
        for effect in effects {
            let Some(key) = changed_path(effect) else { continue };
            match pattern.locate(key) {
                Located::Item(length) => touched.items.extend(key.get(..length)),
                Located::Above if matches!(effect, Effect::Clear(_)) => touched.cleared.push(key),
                // A leaf at or above a collection: nothing is below it, before or after.
                Located::Above | Located::Outside(_) => {}
            }
        }
        touched
    }

    fn is_nothing(&self) -> bool {
        self.items.is_empty() && self.cleared.is_empty()
    }

    fn derive(
        &self,
        definition: &Definition,
        before: &State,
        after: &After<'_>,
        bytes_max: usize,
        into: &mut IndexEffects,
    ) -> Result<()> {
        let (id, derived) = (&definition.id, definition.derived.as_ref());
        into.clears.extend(self.cleared.iter().map(|key| subtree_key(id, key)));
        for item in &self.items {
            let gone = self.cleared.iter().any(|cleared| path::covers(cleared, item));
            let old = if gone { None } else { Entry::of(id, derived, item, before)? };
            let new = Entry::of(id, derived, item, after)?;
            if old != new {
                let keys = old.iter().chain(&new).map(|entry| entry.key.len() + ENTRY_BYTES);
                into.bytes += keys.sum::<usize>();
                if into.bytes > bytes_max {
                    let message = "the commit changes too many index entries; split it";
                    return Err(over(message, "index_bytes_max", bytes_max));
                }
                into.deletes.extend(old.map(|old| old.key));
                into.puts.extend(new);
            }
        }
        Ok(())
    }
}

/// The state behind a commit that is not entered yet.
struct After<'a> {
    before: &'a State,
    changed: BTreeMap<&'a [u8], Option<&'a Bytes>>,
    cleared: BTreeSet<&'a [u8]>,
}

impl<'a> After<'a> {
    fn new(before: &'a State, effects: &'a [Effect]) -> Self {
        let mut after = Self { before, changed: BTreeMap::new(), cleared: BTreeSet::new() };
        for effect in effects {
            match effect {
                Effect::Clear(key) => {
                    after.cleared.insert(key);
                }
                Effect::Put(key, value) => {
                    after.changed.insert(key, Some(value));
                }
                Effect::Delete(key) => {
                    after.changed.insert(key, None);
                }
                _ => {}
            }
        }
        after
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        !self.cleared.is_empty()
            && std::iter::once(key).chain(path::ancestors(key)).any(|at| self.cleared.contains(at))
    }

    /// Does to leaves what the commit does to them.
    fn change(&self, leaves: &mut BTreeMap<Bytes, Bytes>) {
        leaves.retain(|key, _| !self.is_cleared(key));
        for (key, value) in &self.changed {
            match value {
                Some(value) if path::covers(INDEXES_PATH.as_bytes(), key) => {
                    leaves.insert(Bytes::copy_from_slice(key), Bytes::clone(value));
                }
                _ => {
                    leaves.remove(*key);
                }
            }
        }
        // A leaf in the place of all definitions defines nothing.
        leaves.remove(INDEXES_PATH.as_bytes());
    }
}

impl Look for After<'_> {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.cloned()),
            None if self.is_cleared(key) => Ok(None),
            None => self.before.get(DATA, key),
        }
    }

    fn any_below(&self, key: &[u8]) -> Result<bool> {
        let range = path::below(key);
        let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut own = self.changed.range::<[u8], _>((Bound::Included(&*range.start), end));
        if own.any(|(_, value)| value.is_some()) {
            return Ok(true);
        }
        if self.is_cleared(key) {
            return Ok(false);
        }
        let untouched = |key: &[u8]| !self.changed.contains_key(key) && !self.is_cleared(key);
        self.before.any(DATA, &range, &untouched)
    }
}
