//! The order of endings: what is due, and when the next path ends.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result, SpaceId};

use crate::space::{EXPIRY, EXPIRY_TIME, split_time_key, time_key};
use crate::state::State;
use crate::zoning::{Endings, Tracking, Zoning};

/// Keys of paths that have ended and are still there.
pub(crate) type Hidden = BTreeSet<Bytes>;

/// Entries of a time-ordered space up to `until_ms`, at most `limit`: time and key.
pub(crate) fn entries(
    state: &State,
    space: SpaceId,
    until_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>> {
    let end = until_ms.saturating_add(1).to_be_bytes().to_vec();
    let mut found = Vec::new();
    state.scan(space, &KeyRange::new(Bytes::new(), Some(end.into())), &mut |time_key, _| {
        if let Some((at, key)) = split_time_key(time_key) {
            found.push((at, Bytes::copy_from_slice(key)));
        }
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

pub(crate) fn is_current(state: &State, at: u64, key: &[u8]) -> Result<bool> {
    Ok(state.get(EXPIRY, key)?.is_some_and(|stored| *stored == at.to_be_bytes()))
}

/// The keys of paths that have ended and are still there.
/// Nothing is due before `next_due_ms`, which spares the look.
pub(crate) fn due(state: &State, next_due_ms: u64, now_ms: u64) -> Result<Hidden> {
    let mut keys = Hidden::new();
    if next_due_ms > now_ms {
        return Ok(keys);
    }
    for (at, key) in entries(state, EXPIRY_TIME, now_ms, usize::MAX)? {
        if is_current(state, at, &key)? {
            keys.insert(key);
        }
    }
    Ok(keys)
}

/// Whether another node removes what is due at a path.
fn is_elsewhere(zoning: &dyn Zoning, key: &[u8]) -> bool {
    let zone = zoning.zone(key);
    zone.tracking != Tracking::None && zone.endings == Endings::Elsewhere
}

/// Entries of the order of endings up to `until_ms`, at most `limit`, apart from those of paths
/// whose removal another node owes.
pub(crate) fn own_entries(
    zoning: Option<&dyn Zoning>,
    state: &State,
    until_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>> {
    let Some(zoning) = zoning else { return entries(state, EXPIRY_TIME, until_ms, limit) };
    let end = Bytes::copy_from_slice(&until_ms.saturating_add(1).to_be_bytes());
    let mut rest = KeyRange::new(Bytes::new(), Some(end));
    let mut own = Vec::new();
    loop {
        let mut slice: Vec<(u64, Bytes)> = Vec::new();
        state.scan(EXPIRY_TIME, &rest, &mut |time_key, _| {
            slice.extend(
                split_time_key(time_key).map(|(at, key)| (at, Bytes::copy_from_slice(key))),
            );
            if slice.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let next = slice.last().map(|(at, key)| [&*time_key(*at, key), &[0]].concat());
        let is_last = slice.len() < limit;
        for (at, key) in slice {
            // Where the path ends at another time by now, nobody has to remove anything.
            if !is_elsewhere(zoning, &key) || !is_current(state, at, &key)? {
                own.push((at, key));
            }
        }
        match next {
            Some(next) if own.len() < limit && !is_last => rest.start = next.into(),
            _ => return Ok(own),
        }
    }
}

/// When the next path ends; `u64::MAX` when none does.
pub(crate) fn first_due_ms(state: &State) -> Result<u64> {
    let first = entries(state, EXPIRY_TIME, u64::MAX - 1, 1)?;
    Ok(first.first().map_or(u64::MAX, |(at, _)| *at))
}
