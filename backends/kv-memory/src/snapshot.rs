//! A frozen view: a shared pointer to a state that nobody changes any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use trellis_engine_traits::{CommitSeq, KvSnapshot, Result, Scan, ScanEnd, SpaceId, Visitor};

use crate::error;
use crate::view::View;

#[derive(Debug)]
pub(crate) struct MemorySnapshot {
    pub(crate) view: Arc<View>,
    pub(crate) closed: Arc<AtomicBool>,
}

impl MemorySnapshot {
    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(error::closed().operation(operation));
        }
        Ok(())
    }
}

impl KvSnapshot for MemorySnapshot {
    fn seq(&self) -> CommitSeq {
        self.view.seq
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open("get")?;
        Ok(self.view.get(space, key).cloned())
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        self.check_open("scan")?;
        Ok(self.view.scan(scan, visit))
    }
}
