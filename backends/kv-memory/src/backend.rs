//! [`MemoryKv`]: the trait, on a view that is replaced as a whole.
//!
//! Invariant: every change happens under the disk's write lock, after the closed flag was read
//! under that same lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};
use trellis_engine_traits::{
    CommitSeq, Durability, EngineCheck, KvBackend, KvLimits, KvProfile, KvSnapshot,
    MaintenanceBudget, MaintenanceReport, Persistence, Result, SpaceUsage, WriteBatch,
};

use crate::disk::{DiskState, Fault, MemoryDisk};
use crate::error;
use crate::snapshot::MemorySnapshot;

const PROFILE: KvProfile = KvProfile {
    name: error::BACKEND,
    limits: KvLimits::DEFAULT,
    persistence: Persistence::Volatile,
    emulated: &[],
    optional: &[],
};

/// An ordered store in memory. See the [crate documentation](crate) for an example.
///
/// Dropping it closes it.
#[derive(Debug)]
pub struct MemoryKv {
    disk: MemoryDisk,
    closed: Arc<AtomicBool>,
}

impl MemoryKv {
    pub(crate) fn assemble(disk: MemoryDisk, closed: Arc<AtomicBool>) -> Self {
        Self { disk, closed }
    }

    /// The memory that this store is on; it can be opened again once the store is closed.
    #[must_use]
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn read(&self, operation: &'static str) -> Result<RwLockReadGuard<'_, DiskState>> {
        let state = self.disk.state.read();
        if self.closed.load(Ordering::Acquire) {
            return Err(error::closed().operation(operation));
        }
        Ok(state)
    }

    fn write(&self, operation: &'static str) -> Result<RwLockWriteGuard<'_, DiskState>> {
        let state = self.disk.state.write();
        if self.closed.load(Ordering::Acquire) {
            return Err(error::closed().operation(operation));
        }
        if state.poisoned {
            return Err(error::poisoned().operation(operation));
        }
        Ok(state)
    }
}

impl KvBackend for MemoryKv {
    fn profile(&self) -> &KvProfile {
        &PROFILE
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let view = Arc::clone(&self.read("snapshot")?.view);
        Ok(Box::new(MemorySnapshot { view, closed: Arc::clone(&self.closed) }))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        let mut state = self.write("commit")?;
        PROFILE.limits.check(batch).map_err(|error| error.backend(error::BACKEND))?;
        if let Some(index) = state.view.failed_guard(&batch.guards) {
            return Err(error::guard_failed(index));
        }
        if state.takes(Fault::Commit) {
            return Err(error::storage_full());
        }
        if durability == Durability::Synced && state.takes(Fault::Flush) {
            state.poisoned = true;
            return Err(error::outcome_unknown("commit"));
        }
        let view = Arc::make_mut(&mut state.view);
        view.apply(&batch.ops);
        view.seq = CommitSeq(view.seq.0 + 1);
        let seq = view.seq;
        if durability == Durability::Synced {
            state.make_durable();
        }
        Ok(seq)
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        let mut state = self.write("flush")?;
        if seq > state.view.seq {
            return Err(error::unknown_seq(seq.0, state.view.seq.0));
        }
        if state.takes(Fault::Flush) {
            state.poisoned = true;
            return Err(error::outcome_unknown("flush"));
        }
        state.make_durable();
        Ok(())
    }

    fn maintain(&self, _budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        drop(self.read("maintain")?);
        Ok(MaintenanceReport::default())
    }

    fn check(&self) -> Result<EngineCheck> {
        // Memory has no files.
        drop(self.read("check")?);
        Ok(EngineCheck::complete())
    }

    fn usage(&self) -> Result<SpaceUsage> {
        let live_bytes = self.read("usage")?.view.live_bytes;
        Ok(SpaceUsage { live_bytes, disk_bytes: 0 })
    }

    fn close(&self) -> Result<()> {
        let mut state = self.disk.state.write();
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        state.shut();
        if state.poisoned || state.takes(Fault::Flush) {
            return Err(error::outcome_unknown("close"));
        }
        state.make_durable();
        Ok(())
    }
}

impl Drop for MemoryKv {
    fn drop(&mut self) {
        // A failure cannot be answered here; what was durable still is.
        drop(self.close());
    }
}
