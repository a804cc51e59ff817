//! Stamps that do not count go from the store when a tree is opened.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{At, ErrorKind, KeyRange, KvBackend, Op, Result, WriteBatch};

use crate::batch::commit_sealed;
use crate::here::Stamp;
use crate::record::{self, Opening};
use crate::refusal::is_storage_full;
use crate::seal::SealedSnapshot;
use crate::space::{BY_REV, META, STAMP, STAMPING_KEY, time_key};
use crate::stamping::{Stamping, Zones};

/// Stamps looked at, or removed, at a time.
const SLICE_ENTRIES: usize = 5000;

/// A damaged note is as good as none.
fn stored_zones(store: &SealedSnapshot) -> Result<Zones> {
    let stored = match store.get(META, STAMPING_KEY) {
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Zones::new()),
        stored => stored?,
    };
    let Some(stored) = stored else { return Ok(Zones::new()) };
    Ok(record::decode(&stored, "note of the stamps").unwrap_or_default())
}

impl Stamping {
    /// That which a store holds: of use where the log that told it is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn of_store(kv: &dyn KvBackend) -> Result<Option<Self>> {
        let zones = stored_zones(&SealedSnapshot::new(kv.snapshot()?))?;
        Ok((!zones.is_empty()).then_some(Self { is_on: true, zones }))
    }
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
