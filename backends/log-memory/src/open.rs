//! Opening a disk, once at a time.

use trellis_engine_traits::{LogLimits, LogProfile, Persistence, Result};

use crate::disk::{DiskState, MemoryDisk};
use crate::error;

/// A log in memory: one open of a [`MemoryDisk`].
///
/// Dropping it without [`close`](trellis_engine_traits::StreamLog::close) is what the end of a
/// process is to a log on disk: the disk is free for another open and holds everything.
///
/// ```
/// use bytes::Bytes;
/// use trellis_engine_traits::{Durability, Expect, StreamId, StreamLog};
/// use trellis_log_memory::MemoryLog;
///
/// let log = MemoryLog::new();
/// let records = [Bytes::from("one"), Bytes::from("two")];
/// let journal = StreamId::new("journal")?;
/// let at = log.append(&journal, &records, Expect::Next(1), Durability::Synced)?;
/// assert_eq!((at.first, at.next), (1, 3));
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryLog {
    pub(crate) disk: MemoryDisk,
    pub(crate) opened: u64,
    pub(crate) profile: LogProfile,
}

impl MemoryLog {
    /// An empty log on a disk of its own.
    #[must_use]
    pub fn new() -> Self {
        let disk = MemoryDisk::new();
        let opened = Self::take(&mut disk.lock());
        Self { disk, opened, profile: Self::described() }
    }

    /// Opens the log on `disk`.
    ///
    /// # Errors
    /// `Locked` while another log has the disk open.
    pub fn on(disk: &MemoryDisk) -> Result<Self> {
        let mut state = disk.lock();
        if state.opened_by.is_some() {
            return Err(error::locked().operation("open"));
        }
        let opened = Self::take(&mut state);
        drop(state);
        Ok(Self { disk: disk.clone(), opened, profile: Self::described() })
    }

    fn take(state: &mut DiskState) -> u64 {
        state.opens += 1;
        state.opened_by = Some(state.opens);
        state.poisoned = false;
        for stream in state.streams.values_mut() {
            // What an open finds is there for good: a real log makes it durable at recovery.
            stream.durable_next = stream.next;
        }
        state.opens
    }

    fn described() -> LogProfile {
        LogProfile {
            name: error::BACKEND,
            limits: LogLimits::DEFAULT,
            persistence: Persistence::Volatile,
            emulated: &[],
        }
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.opened_by == Some(self.opened) {
            state.opened_by = None;
        }
    }
}
