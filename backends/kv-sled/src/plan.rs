//! What a batch comes down to: the last word on each key, and what it replaces.
//!
//! Invariant: only the one writer changes sled, so what is read here is still true when the batch
//! is applied.
//!
//! Stored keys are the byte of the space and the key. The empty stored key, which no space can
//! have, holds the row that describes the store: format (4 bytes, little endian), live bytes (8).

use std::collections::BTreeMap;
use std::ops::Bound;

use sled::{Batch, Db, IVec};
use trellis_engine_traits::{At, Guard, KeyRange, Op, Result, SpaceId};

use crate::error;
use crate::versions::Overlay;

const FORMAT: u32 = 1;
pub(crate) const STATE_KEY: &[u8] = b"";

pub(crate) fn stored_key(space: SpaceId, key: &[u8]) -> IVec {
    [&[space.0], key].concat().into()
}

/// The bounds of a range that is not empty.
pub(crate) fn stored_bounds(space: SpaceId, range: &KeyRange) -> (Bound<IVec>, Bound<IVec>) {
    let start = Bound::Included(stored_key(space, &range.start));
    let end = match (&range.end, space.0.checked_add(1)) {
        (Some(end), _) => Bound::Excluded(stored_key(space, end)),
        (None, Some(next)) => Bound::Excluded(IVec::from(&[next])),
        (None, None) => Bound::Unbounded,
    };
    (start, end)
}

pub(crate) fn encode_state(live_bytes: u64) -> Vec<u8> {
    [&FORMAT.to_le_bytes()[..], &live_bytes.to_le_bytes()].concat()
}

/// The live bytes.
pub(crate) fn decode_state(row: &[u8]) -> Result<u64> {
    let damaged = || error::corrupt("the row that describes the store is damaged");
    let (format, rest) = row.split_first_chunk::<4>().ok_or_else(damaged)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Err(error::unsupported(
            "the files were written by a newer version; use that version or a later one",
        )
        .context("file_format", format)
        .context("supported_format", FORMAT));
    }
    let (live_bytes, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    if format != FORMAT || !rest.is_empty() {
        return Err(damaged());
    }
    Ok(u64::from_le_bytes(*live_bytes))
}

/// Answers `Conflict` when one of the guards does not hold.
pub(crate) fn test(db: &Db, guards: &[Guard]) -> Result<()> {
    let read = |at: &At| db.get(stored_key(at.space, &at.key)).map_err(error::sled);
    for (index, guard) in guards.iter().enumerate() {
        let holds = match guard {
            Guard::Absent(at) => read(at)?.is_none(),
            Guard::Present(at) => read(at)?.is_some(),
            Guard::Equals(at, value) => read(at)?.is_some_and(|stored| *stored == **value),
        };
        if !holds {
            return Err(error::guard_failed(index));
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) batch: Batch,
    pub(crate) replaced: Overlay,
    pub(crate) live_bytes: u64,
}

impl Plan {
    pub(crate) fn of(db: &Db, ops: &[Op], live_bytes: u64) -> Result<Self> {
        let (mut batch, mut replaced, mut live) = (Batch::default(), Overlay::new(), live_bytes);
        for (key, new) in last_words(db, ops)? {
            let old = db.get(&key).map_err(error::sled)?;
            // The count is a statistic: damage to it must not stop a write.
            live = live.saturating_sub(pair_bytes(&key, old.as_ref()));
            live += pair_bytes(&key, new.as_ref());
            match new {
                Some(new) => batch.insert(&key, new),
                None if old.is_none() => continue,
                None => batch.remove(&key),
            }
            replaced.insert(key, old);
        }
        batch.insert(STATE_KEY, encode_state(live));
        Ok(Self { batch, replaced, live_bytes: live })
    }
}

fn pair_bytes(stored_key: &IVec, value: Option<&IVec>) -> u64 {
    value.map_or(0, |value| (stored_key.len() + value.len()).saturating_sub(1) as u64)
}

/// The value of each key that the changes touch after all of them; `None` means removed.
fn last_words(db: &Db, ops: &[Op]) -> Result<BTreeMap<IVec, Option<IVec>>> {
    let mut words: BTreeMap<IVec, Option<IVec>> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Put(at, value) => {
                words.insert(stored_key(at.space, &at.key), Some(IVec::from(&value[..])));
            }
            Op::Delete(at) => {
                words.insert(stored_key(at.space, &at.key), None);
            }
            Op::DeleteRange(_, range) if range.is_empty() => {}
            Op::DeleteRange(space, range) => {
                let bounds = stored_bounds(*space, range);
                words.range_mut(bounds.clone()).for_each(|(_, word)| *word = None);
                for key in db.range(bounds).keys() {
                    words.insert(key.map_err(error::sled)?, None);
                }
            }
        }
    }
    Ok(words)
}
