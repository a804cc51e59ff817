//! Whether the disk has room for a batch, asked before the engine is: the engine refuses every
//! write, and most reads, after it has met a full disk itself.
//!
//! An estimate on the safe side, no promise: others write to the disk as well.

use std::path::Path;

use trellis_engine_traits::{Op, Result, WriteBatch};

use crate::error;

/// Room that no batch takes.
const MARGIN_BYTES: u64 = 4 << 20;
const PAGE_BYTES: u64 = 4096;
/// Sorted batches share their pages: beyond this the bytes count, not the operations.
const PAGES_BYTES_MAX: u64 = 64 << 20;

/// Bytes that the batch may take on the disk; none if it only removes.
pub(crate) fn needed_bytes(batch: &WriteBatch) -> u64 {
    let (mut operations, mut bytes) = (0u64, 0u64);
    for op in &batch.ops {
        if let Op::Put(at, value) = op {
            operations += 1;
            bytes += (at.key.len() + value.len()) as u64;
        }
    }
    bytes * 3 + (operations * PAGE_BYTES).min(PAGES_BYTES_MAX)
}

/// Answers `Unavailable` when the disk of `path` has less room than `needed_bytes` and a margin.
pub(crate) fn check(path: &Path, needed_bytes: u64) -> Result<()> {
    match available_bytes(path) {
        Some(available) if available < needed_bytes + MARGIN_BYTES => {
            Err(error::storage_full().context("available_bytes", available))
        }
        Some(_) | None => Ok(()),
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
