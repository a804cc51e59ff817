//! Opening: on a private memory, or on a shared one that outlives the store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trellis_engine_traits::{CommitSeq, Result};

use crate::backend::MemoryKv;
use crate::disk::MemoryDisk;
use crate::error;

impl MemoryKv {
    /// An empty store of its own; what it holds is gone when it is dropped.
    ///
    /// ```
    /// use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
    /// use trellis_kv_memory::MemoryKv;
    ///
    /// let store = MemoryKv::new();
    /// store.commit(&WriteBatch::new().put(SpaceId(1), "key", "value"), Durability::Synced)?;
    /// assert_eq!(store.snapshot()?.get(SpaceId(1), b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        let disk = MemoryDisk::private();
        let closed = Arc::new(AtomicBool::new(false));
        disk.state.write().opened_by = Some(Arc::clone(&closed));
        Self::assemble(disk, closed)
    }

    /// Opens what is on `disk`.
    ///
    /// # Errors
    /// `Locked` while another handle has it open.
    ///
    /// # Cost
    /// Microseconds, whatever the disk holds.
    pub fn on(disk: &MemoryDisk) -> Result<Self> {
        let mut state = disk.state.write();
        if state.opened_by.is_some() {
            return Err(error::locked());
        }
        let closed = Arc::new(AtomicBool::new(false));
        state.opened_by = Some(Arc::clone(&closed));
        state.poisoned = false;
        Arc::make_mut(&mut state.view).seq = CommitSeq(0);
        drop(state);
        Ok(Self::assemble(disk.clone(), closed))
    }
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}
