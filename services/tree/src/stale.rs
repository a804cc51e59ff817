//! Entries of the order of revs that large clears left behind go, slice by slice.
//!
//! The apply thread removes them between its batches, from the store alone and by the store alone:
//! nothing of it is in the journal. An entry at or before the store's rev whose stamp in the store
//! is of another commit, or gone, stands for nothing and never will: commits enter later revs only.
//! So whatever the overlay holds is right on top, and readers, who look at the stamp too, see no
//! difference.
//!
//! Invariant: a note stands in the store from the batch of such a clear until a pass that began
//! after it has come to the end, so that the next open goes on.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{At, ErrorKind, KeyRange, Op, Result, WriteBatch};

use crate::batch::commit_sealed;
use crate::build::Step;
use crate::core::Core;
use crate::here::Stamp;
use crate::seal::SealedSnapshot;
use crate::space::{BY_REV, META, STALE_KEY, STAMP, split_time_key};
use crate::state::Layers;

/// Entries of a slice.
const SLICE_ENTRIES: usize = 5000;

impl Core {
    /// Removes a slice of what was left behind.
    pub(crate) fn sweep_step(&self) -> Step {
        let (from, again) = {
            let sweep = self.sweep.lock();
            let Some(from) = sweep.next.clone() else { return Step::Idle };
            (from, sweep.again)
        };
        let layers = Arc::clone(&self.layers.read());
        let swept = slice(&layers, from).and_then(|(mut batch, mut next)| {
            if next.is_none() && again {
                next = Some(Bytes::new());
            } else if next.is_none() {
                batch = batch.delete(META, STALE_KEY);
            }
            if !batch.ops.is_empty() {
                commit_sealed(self.kv.as_ref(), batch)?;
            }
            Ok((next, SealedSnapshot::new(self.kv.snapshot()?)))
        });
        let (next, step) = match swept {
            Ok((next, store)) => {
                self.show_store(store);
                (Some(next), Step::Built)
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%error, "old entries of the order of revs stay until a repair");
                (Some(None), Step::Built)
            }
            Err(error) => {
                tracing::warn!(%error, "the store did not take a removal; trying again");
                if matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Poisoned) {
                    self.set_poison(error);
                }
                (None, Step::Refused)
            }
        };
        if let Some(next) = next {
            let mut sweep = self.sweep.lock();
            // A new pass has everything before it.
            sweep.again &= !next.as_ref().is_some_and(Bytes::is_empty);
            sweep.next = next;
        }
        let _stages = self.stages.lock();
        self.progress.notify_all();
        step
    }

    /// Lets readers see what the store holds by now of the same rev.
    fn show_store(&self, store: SealedSnapshot) {
        let mut current = self.layers.write();
        *current = Arc::new(Layers {
            active: Arc::clone(&current.active),
            frozen: current.frozen.clone(),
            store,
            applied_rev: current.applied_rev,
            indexes: Arc::clone(&current.indexes),
        });
    }
}

/// What removes the entries of a slice that stand for nothing, and where the next slice begins.
fn slice(layers: &Layers, from: Bytes) -> Result<(WriteBatch, Option<Bytes>)> {
    let end = layers.applied_rev.saturating_add(1).to_be_bytes();
    let range = KeyRange::new(from, Some(Bytes::copy_from_slice(&end)));
    let mut entries = Vec::new();
    layers.store.scan(BY_REV, range, &mut |entry, _| {
        entries.push(Bytes::copy_from_slice(entry));
        if entries.len() < SLICE_ENTRIES {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    let last = entries.last().filter(|_| entries.len() == SLICE_ENTRIES);
    let next = last.map(|last| [&last[..], &[0]].concat().into());
    let mut batch = WriteBatch::new();
    for entry in entries {
        let Some((rev, key)) = split_time_key(&entry) else { continue };
        let stored = layers.store.get(STAMP, key)?;
        let stamp = stored.map(|stored| Stamp::decode(&stored)).transpose()?;
        if stamp.is_none_or(|stamp| stamp.rev != rev) {
            batch.ops.push(Op::Delete(At::new(BY_REV, entry)));
        }
    }
    Ok((batch, next))
}
