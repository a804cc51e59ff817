//! What outlives an open: the pairs, and who has them open.
//!
//! Invariants: only the handle whose flag is `opened_by` may change anything; closing sets that
//! flag under the write lock, so no commit lands after it. `durable` is kept for a shared disk
//! only: a private one can never lose power.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::view::View;

/// A failure that a [`MemoryDisk`] is told to have once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The next commit finds the medium full: `Unavailable`, nothing changed.
    Commit,
    /// The next flush, or the flush of the next `Synced` commit, fails: `OutcomeUnknown`, and
    /// writes are refused until a reopen.
    Flush,
}

/// The medium of a [`MemoryKv`](crate::MemoryKv): what is still there after it was closed. Clones
/// share it.
///
/// ```
/// use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
/// use trellis_kv_memory::{MemoryDisk, MemoryKv};
///
/// let disk = MemoryDisk::new();
/// let store = MemoryKv::on(&disk)?;
/// store.commit(&WriteBatch::new().put(SpaceId(1), "a", "1"), Durability::Synced)?;
/// store.commit(&WriteBatch::new().put(SpaceId(1), "b", "2"), Durability::Buffered)?;
/// disk.lose_power();
///
/// let store = MemoryKv::on(&disk)?;
/// let snapshot = store.snapshot()?;
/// assert!(snapshot.get(SpaceId(1), b"a")?.is_some());
/// assert!(snapshot.get(SpaceId(1), b"b")?.is_none());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    pub(crate) state: Arc<RwLock<DiskState>>,
}

#[derive(Debug, Default)]
pub(crate) struct DiskState {
    pub(crate) view: Arc<View>,
    pub(crate) durable: Option<Arc<View>>,
    pub(crate) opened_by: Option<Arc<AtomicBool>>,
    pub(crate) poisoned: bool,
    pub(crate) fault: Option<Fault>,
}

impl MemoryDisk {
    /// An empty disk that nobody has open.
    #[must_use]
    pub fn new() -> Self {
        let state = DiskState { durable: Some(Arc::default()), ..DiskState::default() };
        Self { state: Arc::new(RwLock::new(state)) }
    }

    /// A disk of one store, which never loses power and so keeps no second state.
    pub(crate) fn private() -> Self {
        Self { state: Arc::default() }
    }

    /// Loses power: what was not durable is gone, and an open store becomes a closed one.
    pub fn lose_power(&self) {
        let mut state = self.state.write();
        state.shut();
        if let Some(durable) = state.durable.clone() {
            state.view = durable;
        }
    }

    /// Makes the next fitting operation fail, once.
    pub fn fail_once(&self, fault: Fault) {
        self.state.write().fault = Some(fault);
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl DiskState {
    /// Whether `fault` was asked for; it happens once.
    pub(crate) fn takes(&mut self, fault: Fault) -> bool {
        self.fault.take_if(|asked| *asked == fault).is_some()
    }

    /// Everything committed so far is durable from now on.
    pub(crate) fn make_durable(&mut self) {
        if let Some(durable) = &mut self.durable {
            *durable = Arc::clone(&self.view);
        }
    }

    /// Closes the handle that has the disk open, if any.
    pub(crate) fn shut(&mut self) {
        if let Some(closed) = self.opened_by.take() {
            closed.store(true, Ordering::Release);
        }
    }
}
