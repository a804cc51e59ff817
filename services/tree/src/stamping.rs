//! Since when what is stamped: a stamp counts if its commit came after its path was tracked last.
//!
//! The note stands with each opening in the log, which every store is replayed from, and in the
//! store, for the stamps that it holds. Invariants:
//! 1. Where nothing is tracked commits leave stamps as they are, so those from before are void once
//!    it is tracked again: they go at open, and no replay brings them back.
//! 2. An opening without a zoning voids nothing by itself: whoever looks at a closed tree, or
//!    copies it, does no harm. What is committed then does, at the next open.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_engine_traits::{At, ErrorKind, KeyRange, KvBackend, Op, Result, WriteBatch};

use crate::apply::commit_sealed;
use crate::derive_stamps::StampEffects;
use crate::here::Stamp;
use crate::path;
use crate::record::{self, BY_REV, META, Opening, STAMP, time_key};
use crate::room::is_storage_full;
use crate::seal::SealedSnapshot;
use crate::stamp::Scope;
use crate::zoning::Zoning;

/// Where the store says which stamps it holds.
pub(crate) const STAMPING_KEY: &[u8] = b"stamping";
/// Stamps looked at, or removed, at a time.
const SLICE_ENTRIES: usize = 5000;

/// Since when what is stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamping {
    /// Whether commits of this opening are stamped.
    is_on: bool,
    zones: Zones,
}

/// Prefixes in order, and after which rev all below is stamped, other prefixes aside; `None`: not
/// at all, as is what no prefix covers.
type Zones = Vec<(Bytes, Option<u64>)>;

fn since(zones: &Zones, key: &[u8]) -> Option<u64> {
    let covering = zones.iter().filter(|(prefix, _)| path::covers(prefix, key));
    covering.max_by_key(|(prefix, _)| prefix.len()).and_then(|(_, since)| *since)
}

impl Stamping {
    /// That of an opening at `rev` which follows another.
    pub(crate) fn next(
        last: Option<&Self>,
        last_rev: Option<u64>,
        zoning: Option<&dyn Zoning>,
        rev: u64,
    ) -> Option<Self> {
        let known = last.filter(|last| last.is_on || last_rev == Some(rev));
        let zones = known.map(|known| known.zones.clone());
        match zoning {
            None => zones.map(|zones| Self { is_on: false, zones }),
            Some(zoning) => {
                let zones = next_zones(&zones.unwrap_or_default(), &zoning.tracked(), rev);
                Some(Self { is_on: true, zones })
            }
        }
    }

    /// That which a store holds: of use where the log that told it is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn of_store(kv: &dyn KvBackend) -> Result<Option<Self>> {
        let zones = stored_zones(&SealedSnapshot::new(kv.snapshot()?))?;
        Ok((!zones.is_empty()).then_some(Self { is_on: true, zones }))
    }

    /// Whether commits of this opening are stamped.
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Leaves out what does not count.
    pub(crate) fn retain(&self, effects: &mut StampEffects) {
        effects.puts.retain(|(key, stamp)| self.counts(key, stamp.rev));
    }

    fn counts(&self, key: &[u8], rev: u64) -> bool {
        since(&self.zones, key).is_some_and(|since| rev > since)
    }

    /// The revs after which anything, and everything, is stamped that is tracked.
    pub(crate) fn range(&self) -> (u64, u64) {
        let revs = || self.zones.iter().filter_map(|(_, since)| *since);
        (revs().min().unwrap_or(0), revs().max().unwrap_or(0))
    }
}

/// What was tracked before and still is keeps its rev; what is new begins at `rev`.
fn next_zones(known: &Zones, tracked: &Scope, rev: u64) -> Zones {
    let prefixes = tracked.within.iter().chain(&tracked.except);
    let prefixes: BTreeSet<&Bytes> = prefixes.chain(known.iter().map(|(at, _)| at)).collect();
    let mut zones = Zones::new();
    for prefix in prefixes {
        let now = tracked.covers(prefix).then(|| since(known, prefix).unwrap_or(rev));
        if now != since(&zones, prefix) {
            zones.push((prefix.clone(), now));
        }
    }
    zones
}

/// A damaged note is as good as none.
fn stored_zones(store: &SealedSnapshot) -> Result<Zones> {
    let stored = match store.get(META, STAMPING_KEY) {
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Zones::new()),
        stored => stored?,
    };
    let Some(stored) = stored else { return Ok(Zones::new()) };
    Ok(record::decode(&stored, "note of the stamps").unwrap_or_default())
}

/// Removes those stamps of a store that do not count, unless its note says that none is there.
///
/// # Errors
/// Those of the store; what is left is removed at the next open.
pub(crate) fn sweep_at_open(kv: &dyn KvBackend, opening: &Opening) -> Result<()> {
    match sweep(kv, opening.stamping.as_ref()) {
        Err(error) if error.kind() == ErrorKind::Corrupt || is_storage_full(&error) => {
            tracing::error!(%error, "old stamps are not removed until the next open");
            Ok(())
        }
        swept => swept,
    }
}

fn sweep(kv: &dyn KvBackend, stamping: Option<&Stamping>) -> Result<()> {
    let store = SealedSnapshot::new(kv.snapshot()?);
    let known = stored_zones(&store)?;
    let Some(stamping) = stamping.filter(|stamping| !stamping.zones.is_empty()) else {
        if !known.is_empty() || holds_any(&store)? {
            let batch = WriteBatch::new().delete_range(BY_REV, KeyRange::all());
            let batch = batch.delete_range(STAMP, KeyRange::all()).delete(META, STAMPING_KEY);
            return commit_sealed(kv, batch);
        }
        return Ok(());
    };
    if known == stamping.zones {
        return Ok(());
    }
    let mut next = Some(Bytes::new());
    while let Some(from) = next {
        let (batch, rest) = void_slice(&store, stamping, from)?;
        if !batch.ops.is_empty() {
            commit_sealed(kv, batch)?;
        }
        next = rest;
    }
    let note = record::encode(&stamping.zones)?;
    commit_sealed(kv, WriteBatch::new().put(META, STAMPING_KEY, note))
}

fn holds_any(store: &SealedSnapshot) -> Result<bool> {
    let mut any = false;
    for space in [STAMP, BY_REV] {
        store.scan(space, KeyRange::all(), &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(any)
}

/// What removes the stamps of a slice that do not count, and where the next slice begins.
fn void_slice(
    store: &SealedSnapshot,
    stamping: &Stamping,
    from: Bytes,
) -> Result<(WriteBatch, Option<Bytes>)> {
    let (mut batch, mut next, mut left) = (WriteBatch::new(), None, SLICE_ENTRIES);
    store.scan(STAMP, KeyRange::new(from, None), &mut |key, stored| {
        let void = match Stamp::decode(stored) {
            Ok(stamp) if stamping.counts(key, stamp.rev) => None,
            Ok(stamp) => Some(Some(stamp.rev)),
            Err(_) => Some(None),
        };
        if let Some(rev) = void {
            let entry = rev.map(|rev| Op::Delete(At::new(BY_REV, time_key(rev, key))));
            batch.ops.extend(entry);
            batch.ops.push(Op::Delete(At::new(STAMP, Bytes::copy_from_slice(key))));
        }
        left -= 1;
        if left > 0 {
            return ControlFlow::Continue(());
        }
        next = Some([key, &[0]].concat().into());
        ControlFlow::Break(())
    })?;
    Ok((batch, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(within: &[&'static str], except: &[&'static str]) -> Scope {
        let keys = |paths: &[&'static str]| {
            paths.iter().map(|path| Bytes::from_static(path.as_bytes())).collect()
        };
        Scope { within: keys(within), except: keys(except) }
    }

    /// Promise: what stays tracked keeps its stamps, what comes, or comes back, begins anew.
    #[test]
    fn what_is_tracked_anew_begins_anew() {
        let begun = next_zones(&Zones::new(), &scope(&["a", "b"], &["a\0x"]), 10);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&begun, key.as_bytes())),
            [Some(10), None, Some(10), None]
        );
        let wider = next_zones(&begun, &scope(&["a", "c"], &[]), 20);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&wider, key.as_bytes())),
            [Some(10), Some(20), None, Some(20)]
        );
        let back = next_zones(&wider, &scope(&["a", "b"], &["a\0x"]), 30);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&back, key.as_bytes())),
            [Some(10), None, Some(30), None]
        );
        assert_eq!(back, next_zones(&back, &scope(&["a", "b"], &["a\0x"]), 40), "nothing is new");
    }
}
