//! Memory engines that crash as disks do: with a machine's end goes what was not flushed.
//!
//! A machine ends at once, or when its fuse runs out: then in the midst of whatever the tree does,
//! between the journal and the store for example. From then on every call fails, and the next
//! opening finds what survived. What was flushed survives always; the rest survives a kill, not
//! loss of power.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, EngineCheck, Error, ErrorKind, Expect, KvBackend,
    KvProfile, KvSnapshot, LogProfile, MaintenanceBudget, MaintenanceReport, Offset, Persistence,
    ReadBudget, ReadEnd, RecordVisitor, Result, Scan, ScanEnd, SpaceId, SpaceUsage, StreamId,
    StreamLog, Visitor, WriteBatch,
};
use trellis_kv_memory::{MemoryDisk as KvDisk, MemoryKv};
use trellis_log_memory::{MemoryDisk as LogDisk, MemoryLog};

/// For a background thread of the tree; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

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
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Fuse {
    dead: bool,
    /// Calls that change something until the end, and whether the last of them still does.
    left: Option<(u32, bool)>,
    batches: u64,
    maintained: u64,
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
        self.state.fuse.lock().left = None;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.fuse.lock().dead
    }

    /// Ends it now, if it has not ended.
    pub(super) fn end(&self, ending: Ending) {
        self.state.fuse.lock().dead = true;
        self.state.moved.notify_all();
        if ending == Ending::PowerLoss {
            self.disks.kv.lose_power();
            self.disks.log.lose_power();
        }
    }

    /// Batches that the store has taken, and how often it was looked after since.
    pub(super) fn batches(&self) -> (u64, u64) {
        let fuse = self.state.fuse.lock();
        (fuse.batches, fuse.maintained)
    }

    /// Waits until the store was looked after, which the tree does last with each batch.
    pub(super) fn wait_maintained(&self, after: u64) {
        let mut fuse = self.state.fuse.lock();
        while fuse.maintained <= after && !fuse.dead {
            let waited = self.state.moved.wait_for(&mut fuse, PATIENCE);
            assert!(!waited.timed_out(), "the tree does not look after its store");
        }
    }

    fn check(&self) -> Result<()> {
        if self.is_dead() { Err(ended()) } else { Ok(()) }
    }

    /// A call that changes something: whether it does, and whether it may say so.
    fn change<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut fuse = self.state.fuse.lock();
        if fuse.dead {
            return Err(ended());
        }
        match &mut fuse.left {
            Some((0, happens)) => {
                let happens = *happens;
                fuse.dead = true;
                self.state.moved.notify_all();
                drop(fuse);
                if happens {
                    drop(change());
                }
                Err(ended())
            }
            Some((left, _)) => {
                *left -= 1;
                drop(fuse);
                change()
            }
            None => {
                drop(fuse);
                change()
            }
        }
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
        let seq = self.machine.change(|| self.inner.commit(batch, durability))?;
        self.machine.state.fuse.lock().batches += 1;
        Ok(seq)
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        self.machine.change(|| self.inner.flush(seq))
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.machine.check()?;
        let report = self.inner.maintain(budget);
        self.machine.state.fuse.lock().maintained += 1;
        self.machine.state.moved.notify_all();
        report
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
        self.machine.change(|| self.inner.append(stream, records, expect, durability))
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
