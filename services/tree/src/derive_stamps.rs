//! The stamps that a commit changes, derived from its record and the stamps before it.
//!
//! Two spaces: `STAMP`, path key to [`Stamp`], and `BY_REV`, rev and path key to nothing, one for
//! each stamp. Invariants:
//! 1. What is derived depends on the record and on the stamps before it alone, so that a replay
//!    derives the same; the topology does not matter.
//! 2. A record without an author changes no stamp, and nothing is read for it.
//! 3. Of a large clear the entries by rev stay behind and are removed by and by (`stale.rs`):
//!    whoever reads them looks at the stamp too.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::derived::StampEffects;
use crate::effect::Effect;
use crate::here::{Stamp, StampKind, ending_key};
use crate::path;
use crate::record::Record;
use crate::space::{STAMP, time_key};
use crate::state::State;

/// Entries by rev of one clear that are removed with it.
const CLEARED_MAX: usize = 1024;
/// Stamps from which on one scan may stand for single reads.
const SCAN_FROM: usize = 32;

/// What a commit changes.
///
/// # Errors
/// Those of reading the state.
pub(crate) fn derive_stamps(record: &Record, before: &State) -> Result<StampEffects> {
    let mut effects = StampEffects::default();
    let Some(authored) = &record.authored else { return Ok(effects) };
    effects.is_stamped = true;
    let mut clears = Vec::new();
    let mut changed: Vec<(Bytes, Option<Stamp>)> = Vec::with_capacity(record.effects.len());
    for (effect, version) in record.effects.iter().zip(authored.versions()) {
        let (key, kind) = match effect {
            Effect::Clear(key) => {
                clears.push(key.clone());
                (key.clone(), StampKind::Clear)
            }
            Effect::Mark(key) => (key.clone(), StampKind::Clear),
            Effect::Put(key, _) => (key.clone(), StampKind::Live),
            Effect::Delete(key) => (key.clone(), StampKind::Tomb),
            Effect::Expire(key, _) => (ending_key(key), StampKind::Live),
            Effect::Unexpire(key) => (ending_key(key), StampKind::Tomb),
            Effect::Collect(key) => (key.clone(), StampKind::Tomb),
            Effect::Unindex(..) | Effect::Forget(..) => continue,
        };
        changed.push((key, version.map(|version| Stamp { version, rev: record.rev, kind })));
    }
    // A mark follows what it stands for, and an unstamped delete leaves it alone: of a key the
    // last one counts.
    changed.sort_by(|one, other| one.0.cmp(&other.0));
    changed.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    for key in &clears {
        effects.leaves_stale |= stale_below(before, key, &mut effects.stale)?;
    }
    let clears: HashSet<Bytes> = clears.into_iter().collect();
    let is_cleared =
        |key: &[u8]| std::iter::once(key).chain(path::ancestors(key)).any(|at| clears.contains(at));
    let asked = changed.iter().filter(|(key, _)| clears.is_empty() || !is_cleared(key));
    // System paths lie far apart from the rest, as the notes of a page do.
    let (system, others): (Vec<_>, Vec<_>) = asked.partition(|(key, _)| key.starts_with(b"_"));
    let mut known = HashMap::new();
    for (keys, scan_from) in [(others, SCAN_FROM), (system, usize::MAX)] {
        let keys: Vec<&Bytes> = keys.into_iter().map(|(key, _)| key).collect();
        stamps_at(before, &keys, scan_from, &mut known)?;
    }
    effects.puts.reserve(changed.len());
    for (key, stamp) in changed {
        let old = if known.is_empty() { None } else { known.get(&key) };
        if let Some(old) = old {
            effects.stale.push(time_key(old.rev, &key));
        }
        match stamp {
            Some(stamp) => effects.puts.push((key, stamp)),
            None if old.is_some() => effects.deletes.push(key),
            None => {}
        }
    }
    effects.stale.sort_unstable();
    Ok(effects)
}

/// Entries of what a clear covers; `true` if there may be more.
fn stale_below(before: &State, key: &Bytes, stale: &mut Vec<Bytes>) -> Result<bool> {
    let mut failure = None;
    let mut left = CLEARED_MAX;
    before.scan(STAMP, &path::subtree(key), &mut |at, stored| {
        match Stamp::decode(stored) {
            Ok(stamp) => stale.push(time_key(stamp.rev, at)),
            Err(error) => failure = Some(error),
        }
        left -= 1;
        if failure.is_some() || left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    failure.map_or(Ok(left == 0), Err)
}

/// The stamps of some keys in order: so many are found by one scan where they lie close together,
/// others by single reads.
fn stamps_at(
    before: &State,
    keys: &[&Bytes],
    scan_from: usize,
    found: &mut HashMap<Bytes, Stamp>,
) -> Result<()> {
    if let (Some(first), Some(last)) = (keys.first(), keys.last())
        && keys.len() >= scan_from
    {
        let end = [&last[..], &[0][..]].concat();
        let range = KeyRange::new(Bytes::clone(first), Some(end.into()));
        let (mut left, mut failure) = (2 * keys.len(), None);
        let mut wanted = keys.iter().peekable();
        before.scan(STAMP, &range, &mut |at, stored| {
            while wanted.next_if(|key| ****key < *at).is_some() {}
            if wanted.next_if(|key| ****key == *at).is_some() {
                match Stamp::decode(stored) {
                    Ok(stamp) => drop(found.insert(Bytes::copy_from_slice(at), stamp)),
                    Err(error) => failure = Some(error),
                }
            }
            left -= 1;
            if failure.is_some() || left == 0 || wanted.peek().is_none() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if left > 0 {
            return Ok(());
        }
    }
    for key in keys {
        if let Some(stored) = before.get(STAMP, key)? {
            let stamp = Stamp::decode(&stored)?;
            found.insert(Bytes::clone(key), stamp);
        }
    }
    Ok(())
}
