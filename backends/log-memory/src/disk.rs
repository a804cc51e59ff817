//! What outlives an open: the streams, and who has them open.
//!
//! Invariants: `records` holds exactly the offsets `first..next`; `durable_next` lies between
//! `first` and `next` while no record below it was lost. Only the handle whose number equals
//! `opened_by` may touch anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use trellis_engine_traits::{Offset, StreamId};

/// A failure that a [`MemoryDisk`] is told to have once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The next append finds the medium full: `Unavailable`, nothing appended.
    Append,
    /// The next flush, or the flush of the next `Synced` append, fails: `OutcomeUnknown`, and the
    /// log is poisoned.
    Flush,
}

/// The medium of a [`MemoryLog`](crate::MemoryLog): what is still there after the log was closed.
/// Clones share it.
///
/// ```
/// use bytes::Bytes;
/// use trellis_engine_traits::{Durability, Expect, StreamId, StreamLog};
/// use trellis_log_memory::{MemoryDisk, MemoryLog};
///
/// let disk = MemoryDisk::new();
/// let journal = StreamId::new("journal")?;
/// let log = MemoryLog::on(&disk)?;
/// log.append(&journal, &[Bytes::from("a")], Expect::Any, Durability::Buffered)?;
/// disk.lose_power();
/// assert_eq!(MemoryLog::on(&disk)?.bounds(&journal)?.next, 1);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
pub(crate) struct DiskState {
    pub(crate) streams: BTreeMap<StreamId, StreamState>,
    pub(crate) opened_by: Option<u64>,
    pub(crate) opens: u64,
    pub(crate) poisoned: bool,
    pub(crate) fault: Option<Fault>,
}

#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) records: BTreeMap<Offset, Bytes>,
    pub(crate) damaged: BTreeSet<Offset>,
    pub(crate) first: Offset,
    pub(crate) next: Offset,
    pub(crate) durable_next: Offset,
}

impl Default for StreamState {
    fn default() -> Self {
        let records = BTreeMap::new();
        Self { records, damaged: BTreeSet::new(), first: 1, next: 1, durable_next: 1 }
    }
}

impl MemoryDisk {
    /// An empty disk that nobody has open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power: what was not durable is gone, and an open log becomes a closed one.
    pub fn lose_power(&self) {
        let mut state = self.lock();
        state.opened_by = None;
        for stream in state.streams.values_mut() {
            drop(stream.records.split_off(&stream.durable_next));
            stream.next = stream.durable_next;
        }
        state.streams.retain(|_, stream| stream.next > 1);
    }

    /// Damages a stored record; reading it answers `Corrupt` from then on. Answers whether there
    /// is such a record.
    pub fn damage(&self, stream: &StreamId, offset: Offset) -> bool {
        let mut state = self.lock();
        let Some(stream) = state.streams.get_mut(stream) else { return false };
        let there = stream.records.contains_key(&offset);
        if there {
            stream.damaged.insert(offset);
        }
        there
    }

    /// Makes the next fitting operation fail, once.
    pub fn fail_once(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock()
    }
}

impl DiskState {
    /// Whether `fault` was asked for; it happens once.
    pub(crate) fn takes(&mut self, fault: Fault) -> bool {
        let due = self.fault == Some(fault);
        if due {
            self.fault = None;
        }
        due
    }
}
