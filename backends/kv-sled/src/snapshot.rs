//! A frozen view: a number, and the version layer that knows what the state of that number was.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use trellis_engine_traits::{
    CommitSeq, Direction, KvSnapshot, Result, Scan, ScanEnd, SpaceId, Visitor,
};

use crate::error;
use crate::plan::{stored_bounds, stored_key};
use crate::versions::{Stretch, Versions};

/// Pairs in the first stretch of a scan, and in each after it: most scans are short.
const FIRST_PAIRS_MAX: usize = 32;
const PAIRS_MAX: usize = 256;

pub(crate) struct SledSnapshot {
    seq: u64,
    versions: Arc<RwLock<Versions>>,
}

impl SledSnapshot {
    pub(crate) fn take(versions: &Arc<RwLock<Versions>>) -> Result<Self> {
        let mut guard = versions.write();
        if guard.db.is_none() {
            return Err(error::closed());
        }
        let seq = guard.hold();
        drop(guard);
        Ok(Self { seq, versions: Arc::clone(versions) })
    }

    fn scan_all(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        let bounds = stored_bounds(scan.space, &scan.range);
        let mut stretch = Stretch { bounds, direction: scan.direction };
        let mut limit = FIRST_PAIRS_MAX;
        let mut pairs = Vec::new();
        loop {
            let last = error::damage_caught(|| {
                self.versions.read().stretch(self.seq, &stretch, limit, &mut pairs)
            })?;
            for (key, value) in pairs.drain(..) {
                // Every stored key begins with the byte of its space.
                if visit(key.get(1..).unwrap_or_default(), &value).is_break() {
                    return Ok(ScanEnd::Stopped);
                }
            }
            let Some(last) = last else { return Ok(ScanEnd::Exhausted) };
            match stretch.direction {
                Direction::Forward => stretch.bounds.0 = Bound::Excluded(last),
                Direction::Reverse => stretch.bounds.1 = Bound::Excluded(last),
            }
            limit = PAIRS_MAX;
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.versions.read().db.is_none() { Err(error::closed()) } else { Ok(()) }
    }
}

impl KvSnapshot for SledSnapshot {
    fn seq(&self) -> CommitSeq {
        CommitSeq(self.seq)
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let key = stored_key(space, key);
        let found = error::damage_caught(|| self.versions.read().get(self.seq, &key));
        let found = found.map_err(|error| error.operation("get"))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        let end = self.check_open().and_then(|()| match scan.range.is_empty() {
            true => Ok(ScanEnd::Exhausted),
            false => self.scan_all(scan, visit),
        });
        end.map_err(|error| error.operation("scan"))
    }
}

impl Drop for SledSnapshot {
    fn drop(&mut self) {
        let unneeded = self.versions.write().release(self.seq);
        // May be large: not under the lock.
        drop(unneeded);
    }
}

impl fmt::Debug for SledSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledSnapshot").field("seq", &self.seq).finish_non_exhaustive()
    }
}
