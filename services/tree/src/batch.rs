//! Batches for the store: sealed, in parts where the store wants that, with how far they lead.

use trellis_engine_traits::{Durability, KvBackend, Op, Result, Semantic, WriteBatch};

use crate::record::Applied;
use crate::seal;
use crate::space::{APPLIED_KEY, META};

/// Entries that a store takes at once if it holds readers up meanwhile: some milliseconds.
const SMALL_BATCH: usize = 1000;
/// Their bytes where room is scarce; the last one may go beyond. More than what a store takes for a
/// removal, to which it gives its last room.
pub(crate) const SMALL_BATCH_BYTES: usize = 1 << 20;

/// Seals and commits a batch together with how far the store has come.
pub(crate) fn apply_batch(kv: &dyn KvBackend, batch: WriteBatch, applied: &Applied) -> Result<()> {
    commit_sealed(kv, batch.put(META, APPLIED_KEY, applied.encode()?))
}

/// Seals and commits a batch whose last entry says how far it leads.
///
/// An engine that emulates snapshots holds its readers up while it takes a batch, so it is given
/// small ones, the last of which says how far they lead. A crash in between leaves some keys ahead
/// of that note; the replay, which begins behind it, writes each of them again.
pub(crate) fn commit_sealed(kv: &dyn KvBackend, mut batch: WriteBatch) -> Result<()> {
    seal::seal_batch(&mut batch);
    if kv.profile().emulated.contains(&Semantic::SnapshotIsolation) {
        return commit_in_parts(kv, batch, usize::MAX);
    }
    kv.commit(&batch, Durability::Synced).map(|_| ())
}

/// Parts of [`SMALL_BATCH`] entries or `bytes_max` bytes, whichever is less.
pub(crate) fn commit_in_parts(
    kv: &dyn KvBackend,
    mut batch: WriteBatch,
    bytes_max: usize,
) -> Result<()> {
    let mut rest = std::mem::take(&mut batch.ops).into_iter().peekable();
    let mut bytes = 0;
    while let Some(op) = rest.next() {
        bytes += op_bytes(&op);
        batch.ops.push(op);
        if rest.peek().is_some() && (batch.ops.len() == SMALL_BATCH || bytes >= bytes_max) {
            kv.commit(&batch, Durability::Buffered)?;
            batch.ops.clear();
            bytes = 0;
        }
    }
    kv.commit(&batch, Durability::Synced).map(|_| ())
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put(at, value) => at.key.len() + value.len(),
        Op::Delete(at) => at.key.len(),
        Op::DeleteRange(_, range) => range.start.len(),
    }
}
