//! Whether the disk has room for a batch, asked before the engine is: the engine refuses every
//! write, and most reads, after it has met a full disk itself.
//!
//! An estimate on the safe side, no promise: others write to the disk as well. A part of the margin
//! is a reserve: it is given to the small batches that follow a refusal, which are taken to be what
//! makes room, until the whole margin is free again. An empty batch asks for that, and takes
//! nothing.

use std::path::Path;

use trellis_engine_traits::{Op, Result, WriteBatch};

use crate::error;

/// Room that no batch takes before one was refused.
const MARGIN_BYTES: u64 = 12 << 20;
/// Room that no batch takes: the engine itself must never meet the end of the disk.
const LAST_BYTES: u64 = 2 << 20;
/// What makes room is small; what takes more than this may not have the reserve.
const RESERVE_BATCH_BYTES_MAX: u64 = 512 << 10;
const PAGE_BYTES: u64 = 4096;
/// Sorted batches share their pages: beyond this the bytes count, not the operations.
const PAGES_BYTES_MAX: u64 = 64 << 20;

/// Bytes that the batch may take on the disk of a store that holds `held_bytes`; none if it only
/// removes.
pub(crate) fn needed_bytes(batch: &WriteBatch, held_bytes: u64) -> u64 {
    let (mut operations, mut bytes) = (0u64, 0u64);
    for op in &batch.ops {
        if let Op::Put(at, value) = op {
            operations += 1;
            bytes += (at.key.len() + value.len()) as u64;
        }
    }
    // A page that is not there yet is counted with the bytes; one that is, is written anew.
    bytes * 3 + (operations * PAGE_BYTES).min(PAGES_BYTES_MAX).min(held_bytes)
}

/// What is known of the room on the disk of one store.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// A batch was refused, and the margin was not seen to be free since.
    scarce: bool,
}

impl Room {
    /// Whether to ask before this batch: it takes room, or asks whether there is some again.
    pub(crate) fn concerns(&self, batch: &WriteBatch, needed_bytes: u64) -> bool {
        needed_bytes > 0 || (self.scarce && batch.ops.is_empty() && batch.guards.is_empty())
    }

    /// Answers `Unavailable` when the disk of `path` has too little room for `needed_bytes`;
    /// `free_bytes` are free within the store's files.
    pub(crate) fn check(&mut self, path: &Path, needed_bytes: u64, free_bytes: u64) -> Result<()> {
        let Some(available) = available_bytes(path) else { return Ok(()) };
        let room = available.saturating_add(free_bytes);
        // What is free in the files may not be of use: some of the margin has to be on the disk.
        let has = |margin_bytes: u64| {
            let on_disk_bytes = (margin_bytes / 2).max(LAST_BYTES);
            available >= on_disk_bytes && room >= needed_bytes.saturating_add(margin_bytes)
        };
        let small = (1..=RESERVE_BATCH_BYTES_MAX).contains(&needed_bytes);
        let reserve = self.scarce && small;
        // More, so that a batch does not end at once what another has just begun.
        self.scarce = !has(if self.scarce { MARGIN_BYTES * 5 / 4 } else { MARGIN_BYTES });
        if !self.scarce || (reserve && has(LAST_BYTES)) {
            return Ok(());
        }
        Err(error::storage_full().context("available_bytes", available))
    }
}

/// `None` where it cannot be told: the engine then has to find out.
#[cfg(unix)]
fn available_bytes(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn available_bytes(_path: &Path) -> Option<u64> {
    None
}
