//! The openings of a log: one record each time a tree took it up, in a stream of their own.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, ReadBudget, Result, StreamId, StreamLog};

use crate::record::Opening;

fn stream() -> Result<StreamId> {
    StreamId::new("openings")
}

/// Adds an opening, durably.
///
/// # Errors
/// Those of the log.
pub(crate) fn append(log: &dyn StreamLog, opening: &Opening) -> Result<()> {
    let opening = opening.encode()?;
    log.append(&stream()?, &[opening], Expect::Any, Durability::Synced).map(|_| ())
}

/// The newest opening; `None` in a new log.
///
/// # Errors
/// Those of the log, and `Corrupt` when it cannot be read.
pub(crate) fn last(log: &dyn StreamLog) -> Result<Option<Opening>> {
    let stream = stream()?;
    let bounds = log.bounds(&stream)?;
    let mut last = None;
    if bounds.next > bounds.first {
        log.read(&stream, bounds.next - 1, ReadBudget::UNLIMITED, &mut |_, bytes| {
            last = Some(Bytes::copy_from_slice(bytes));
            ControlFlow::Continue(())
        })?;
    }
    last.map(|last| Opening::decode(&last)).transpose()
}

/// The beginning of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: u64,
    /// The newest rev when it began; `None` where an older version did not note it.
    pub(crate) rev: Option<u64>,
}
