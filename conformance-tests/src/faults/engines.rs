//! A store and a log whose calls fail as planned.
//!
//! They keep to the contract: what is in doubt poisons until the engine is opened anew, and a
//! refusal has changed nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, EngineCheck, Error, ErrorKind, Expect, KvBackend,
    KvProfile, KvSnapshot, LogProfile, MaintenanceBudget, MaintenanceReport, Offset, ReadBudget,
    ReadEnd, RecordVisitor, Result, Scan, ScanEnd, SpaceId, SpaceUsage, StreamId, StreamLog,
    Visitor, WriteBatch,
};

use super::injector::{Injector, Kind, Target};

/// What both wrappers share: the plan, and whether a write was left in doubt.
#[derive(Debug, Clone)]
struct Faults {
    injector: Arc<Injector>,
    target: Target,
    poisoned: Arc<AtomicBool>,
}

impl Faults {
    fn new(injector: &Arc<Injector>, target: Target) -> Self {
        Self { injector: Arc::clone(injector), target, poisoned: Arc::default() }
    }

    /// A call that changes nothing, or that may simply be repeated.
    fn call(&self, name: &'static str) -> Result<()> {
        match self.injector.strike(self.target, name) {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Unavailable, "planned: the call fails")
                .operation(name)
                .context("reason", "io")),
        }
    }

    fn doubt(&self, name: &'static str) -> Error {
        self.poisoned.store(true, Ordering::Release);
        Error::new(ErrorKind::OutcomeUnknown, "planned: the medium fails").operation(name)
    }

    /// A write: `act` makes it.
    fn write<T>(&self, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Poisoned, "planned: an earlier write failed"));
        }
        match self.injector.strike(self.target, name) {
            None => act(),
            Some(Kind::Full) => Err(Error::new(ErrorKind::Unavailable, "planned: no room")
                .operation(name)
                .context("reason", "storage_full")),
            Some(Kind::Io) => Err(self.doubt(name)),
            Some(Kind::Short) => {
                act()?;
                Err(self.doubt(name))
            }
        }
    }

    /// A flush: when it fails, nobody knows.
    fn flush(&self, name: &'static str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Poisoned, "planned: an earlier write failed"));
        }
        if self.injector.strike(self.target, name).is_some() {
            Err(self.doubt(name))
        } else {
            act()
        }
    }
}

#[derive(Debug)]
pub(super) struct FaultyKv {
    inner: Arc<dyn KvBackend>,
    faults: Faults,
}

impl FaultyKv {
    pub(super) fn new(inner: Arc<dyn KvBackend>, injector: &Arc<Injector>) -> Self {
        Self { inner, faults: Faults::new(injector, Target::Store) }
    }
}

impl KvBackend for FaultyKv {
    fn profile(&self) -> &KvProfile {
        self.inner.profile()
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        self.faults.call("snapshot")?;
        let inner = self.inner.snapshot()?;
        Ok(Box::new(FaultySnapshot { inner, faults: self.faults.clone() }))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        self.faults.write("commit", || self.inner.commit(batch, durability))
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        self.faults.flush("flush", || self.inner.flush(seq))
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.faults.call("maintain")?;
        self.inner.maintain(budget)
    }

    fn usage(&self) -> Result<SpaceUsage> {
        self.inner.usage()
    }

    fn check(&self) -> Result<EngineCheck> {
        self.inner.check()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

#[derive(Debug)]
struct FaultySnapshot {
    inner: Box<dyn KvSnapshot>,
    faults: Faults,
}

impl KvSnapshot for FaultySnapshot {
    fn seq(&self) -> CommitSeq {
        self.inner.seq()
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.faults.call("get")?;
        self.inner.get(space, key)
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        self.faults.call("scan")?;
        self.inner.scan(scan, visit)
    }
}

#[derive(Debug)]
pub(super) struct FaultyLog {
    inner: Arc<dyn StreamLog>,
    faults: Faults,
}

impl FaultyLog {
    pub(super) fn new(inner: Arc<dyn StreamLog>, injector: &Arc<Injector>) -> Self {
        Self { inner, faults: Faults::new(injector, Target::Log) }
    }
}

impl StreamLog for FaultyLog {
    fn profile(&self) -> &LogProfile {
        self.inner.profile()
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        self.faults.write("append", || self.inner.append(stream, records, expect, durability))
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.faults.call("read")?;
        self.inner.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.faults.call("bounds")?;
        self.inner.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.faults.call("trim")?;
        self.inner.trim(stream, before)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.faults.flush("flush", || self.inner.flush(stream, up_to))
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.inner.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
