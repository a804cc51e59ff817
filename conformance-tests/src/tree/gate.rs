//! A store and a log whose calls wait: engines as slow as a case wants them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, EngineCheck, Expect, KvBackend, KvProfile, KvSnapshot,
    LogProfile, MaintenanceBudget, MaintenanceReport, Offset, ReadBudget, ReadEnd, RecordVisitor,
    Result, Scan, ScanEnd, SpaceId, SpaceUsage, StreamId, StreamLog, Visitor, WriteBatch,
};

/// Beats that a call waits for.
pub(super) const BEATS: u64 = 100;

/// Once shut, every engine call waits until the heart has beaten [`BEATS`] times more.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    beats: u64,
    passed: u64,
    starved: bool,
}

impl Gate {
    pub(super) fn shut(&self, shut: bool) {
        self.state.lock().unwrap().shut = shut;
        self.moved.notify_all();
    }

    pub(super) fn beat(&self) {
        self.state.lock().unwrap().beats += 1;
        self.moved.notify_all();
    }

    /// Calls that waited and went on, and whether one of them gave up waiting.
    pub(super) fn passed(&self) -> (u64, bool) {
        let state = self.state.lock().unwrap();
        (state.passed, state.starved)
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if !state.shut {
            return;
        }
        let until = state.beats + BEATS;
        while state.shut && state.beats < until {
            // A heart that stands still must fail the case, not hang it.
            let (next, waited) = self.moved.wait_timeout(state, Duration::from_secs(20)).unwrap();
            state = next;
            if waited.timed_out() {
                state.starved = true;
                break;
            }
        }
        state.passed += 1;
    }
}

#[derive(Debug)]
pub(super) struct GatedKv(pub(super) Arc<dyn KvBackend>, pub(super) Arc<Gate>);

impl KvBackend for GatedKv {
    fn profile(&self) -> &KvProfile {
        self.0.profile()
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        self.1.pass();
        Ok(Box::new(GatedSnapshot(self.0.snapshot()?, Arc::clone(&self.1))))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        self.1.pass();
        self.0.commit(batch, durability)
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        self.1.pass();
        self.0.flush(seq)
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.1.pass();
        self.0.maintain(budget)
    }

    fn check(&self) -> Result<EngineCheck> {
        self.1.pass();
        self.0.check()
    }

    fn usage(&self) -> Result<SpaceUsage> {
        self.1.pass();
        self.0.usage()
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

#[derive(Debug)]
struct GatedSnapshot(Box<dyn KvSnapshot>, Arc<Gate>);

impl KvSnapshot for GatedSnapshot {
    fn seq(&self) -> CommitSeq {
        self.0.seq()
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.1.pass();
        self.0.get(space, key)
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        self.1.pass();
        self.0.scan(scan, visit)
    }
}

#[derive(Debug)]
pub(super) struct GatedLog(pub(super) Arc<dyn StreamLog>, pub(super) Arc<Gate>);

impl StreamLog for GatedLog {
    fn profile(&self) -> &LogProfile {
        self.0.profile()
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        self.1.pass();
        self.0.append(stream, records, expect, durability)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.1.pass();
        self.0.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.0.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.1.pass();
        self.0.trim(stream, before)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.1.pass();
        self.0.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.0.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}
