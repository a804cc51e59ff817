//! Memory engines that crash as disks do: with a machine's end goes what was not flushed.
//!
//! A machine ends at once, or when its fuse runs out: then in the midst of whatever the tree does,
//! between the journal and the store for example. From then on every call fails, and the next
//! opening finds what survived. What was flushed survives always; the rest survives a kill, not
//! loss of power.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, EngineCheck, Error, ErrorKind, Expect, KvBackend,
    KvProfile, KvSnapshot, LogProfile, MaintenanceBudget, MaintenanceReport, Offset, Persistence,
    ReadBudget, ReadEnd, RecordVisitor, Result, Scan, ScanEnd, SpaceId, SpaceUsage, StreamId,
    StreamLog, Visitor, WriteBatch,
};
use trellis_kv_memory::{MemoryDisk as KvDisk, MemoryKv};
use trellis_log_memory::{MemoryDisk as LogDisk, MemoryLog};

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process is gone, what it wrote is not.
    Kill,
    /// What was not flushed is gone too.
    PowerLoss,
}

/// The disks of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Disks {
    kv: KvDisk,
    log: LogDisk,
}

/// A running machine on its disks.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    disks: Disks,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    fuse: Mutex<Fuse>,
}

#[derive(Debug, Default)]
struct Fuse {
    dead: bool,
    /// Nothing more fits into the log.
    full: bool,
    /// Calls that change something until the end, and whether the last of them still does.
    left: Option<(u32, bool)>,
}

fn ended() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the machine has stopped")
}

impl Machine {
    pub(super) fn start(disks: &Disks) -> (Self, Arc<dyn KvBackend>, Arc<dyn StreamLog>) {
        let machine = Self { disks: disks.clone(), state: Arc::default() };
        let kv = MemoryKv::on(&disks.kv).expect("the machine before has stopped");
        let log = MemoryLog::on(&disks.log).expect("the machine before has stopped");
        let profile = KvProfile { persistence: Persistence::Disk, ..*kv.profile() };
        let kv = SimKv { inner: kv, profile, machine: machine.clone() };
        let profile = LogProfile { persistence: Persistence::Disk, ..log.profile().clone() };
        let log = SimLog { inner: log, profile, machine: machine.clone() };
        (machine, Arc::new(kv), Arc::new(log))
    }

    /// Ends the machine in the midst of the call after so many that change something.
    pub(super) fn burn(&self, calls: u32, last_happens: bool) {
        self.state.fuse.lock().left = Some((calls, last_happens));
    }

    /// Takes the fuse out, unless it has burnt.
    pub(super) fn spare(&self) {
        let mut fuse = self.state.fuse.lock();
        (fuse.left, fuse.full) = (None, false);
    }

    /// From now on the log takes nothing, or again something.
    pub(super) fn fill(&self, full: bool) {
        self.state.fuse.lock().full = full;
    }

    pub(super) fn is_full(&self) -> bool {
        self.state.fuse.lock().full
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.fuse.lock().dead
    }

    /// Ends it now, if it has not ended.
    pub(super) fn end(&self, ending: Ending) {
        self.state.fuse.lock().dead = true;
        if ending == Ending::PowerLoss {
            self.disks.kv.lose_power();
            self.disks.log.lose_power();
        }
    }

    fn check(&self) -> Result<()> {
        if self.is_dead() { Err(ended()) } else { Ok(()) }
    }

    /// A call that changes something: whether it does, and whether it may say so.
    fn change<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.spend(1)? {
            1 => change().and_then(|done| self.check().map(|()| done)),
            _ => Err(ended()),
        }
    }

    /// How many of so many changes still happen; with the last one the machine may have ended.
    fn spend(&self, changes: usize) -> Result<usize> {
        let mut fuse = self.state.fuse.lock();
        if fuse.dead {
            return Err(ended());
        }
        let Some((left, last_happens)) = &mut fuse.left else { return Ok(changes) };
        let before = *left as usize;
        if before >= changes {
            *left -= changes as u32;
            return Ok(changes);
        }
        let happen = before + usize::from(*last_happens);
        fuse.dead = true;
        Ok(happen)
    }
}

#[derive(Debug)]
struct SimKv {
    inner: MemoryKv,
    profile: KvProfile,
    machine: Machine,
}

impl KvBackend for SimKv {
    fn profile(&self) -> &KvProfile {
        &self.profile
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        self.machine.check()?;
        let inner = self.inner.snapshot()?;
        Ok(Box::new(SimSnapshot { inner, machine: self.machine.clone() }))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        self.machine.change(|| self.inner.commit(batch, durability))
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        self.machine.change(|| self.inner.flush(seq))
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.machine.check()?;
        self.inner.maintain(budget)
    }

    fn check(&self) -> Result<EngineCheck> {
        self.machine.check()?;
        self.inner.check()
    }

    fn usage(&self) -> Result<SpaceUsage> {
        self.machine.check()?;
        self.inner.usage()
    }

    fn close(&self) -> Result<()> {
        self.machine.check()?;
        self.inner.close()
    }
}

#[derive(Debug)]
struct SimSnapshot {
    inner: Box<dyn KvSnapshot>,
    machine: Machine,
}

impl KvSnapshot for SimSnapshot {
    fn seq(&self) -> CommitSeq {
        self.inner.seq()
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.machine.check()?;
        self.inner.get(space, key)
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        self.machine.check()?;
        self.inner.scan(scan, visit)
    }
}

#[derive(Debug)]
struct SimLog {
    inner: MemoryLog,
    profile: LogProfile,
    machine: Machine,
}

impl StreamLog for SimLog {
    fn profile(&self) -> &LogProfile {
        &self.profile
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        if self.machine.is_full() && !self.machine.is_dead() {
            let error = Error::new(ErrorKind::Unavailable, "the medium is full");
            return Err(error.context("reason", "storage_full"));
        }
        // Counted by records: how many of them come at once depends on the threads of the tree.
        let happen = self.machine.spend(records.len())?;
        let appended = self.inner.append(stream, &records[..happen], expect, durability)?;
        self.machine.check().map(|()| appended)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.machine.check()?;
        self.inner.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.machine.check()?;
        self.inner.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.machine.change(|| self.inner.trim(stream, before))
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.machine.change(|| self.inner.flush(stream, up_to))
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.machine.check()?;
        self.inner.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.machine.check()?;
        self.inner.close()
    }
}
