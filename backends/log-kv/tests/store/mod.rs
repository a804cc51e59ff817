//! A store for these tests: whole copies as snapshots, crashes, faults and damage on request.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{
    CommitSeq, Direction, Durability, EngineCheck, Error, ErrorKind, Guard, KvBackend, KvLimits,
    KvProfile, KvSnapshot, MaintenanceBudget, MaintenanceReport, Op, Persistence, Result, Scan,
    ScanEnd, SpaceId, SpaceUsage, Visitor, WriteBatch,
};

type Pairs = BTreeMap<(SpaceId, Bytes), Bytes>;

#[derive(Debug)]
pub(crate) struct Store {
    profile: KvProfile,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pairs: Arc<Pairs>,
    durable: Arc<Pairs>,
    seq: u64,
    closed: bool,
    fail_commit: Option<ErrorKind>,
    fail_flush: Option<ErrorKind>,
}

impl Store {
    pub(crate) fn with_values_of(value_bytes_max: usize) -> Arc<Self> {
        let limits = KvLimits { value_bytes_max, ..KvLimits::DEFAULT };
        let persistence = Persistence::Disk;
        let profile = KvProfile { name: "test", limits, persistence, emulated: &[], optional: &[] };
        Arc::new(Self { profile, state: Mutex::default() })
    }

    pub(crate) fn new() -> Arc<Self> {
        Self::with_values_of(KvLimits::DEFAULT.value_bytes_max)
    }

    pub(crate) fn fail_commit(&self, kind: ErrorKind) {
        self.state.lock().fail_commit = Some(kind);
    }

    pub(crate) fn fail_flush(&self, kind: ErrorKind) {
        self.state.lock().fail_flush = Some(kind);
    }

    pub(crate) fn lose_power(&self) {
        let mut state = self.state.lock();
        state.pairs = state.durable.clone();
    }

    /// Lets `change` have every pair of a space; what it takes away is removed.
    pub(crate) fn damage(&self, space: SpaceId, change: impl Fn(&[u8], &mut Vec<u8>) -> bool) {
        let mut state = self.state.lock();
        let mut pairs = (*state.pairs).clone();
        pairs.retain(|(of, key), value| {
            let mut bytes = value.to_vec();
            let kept = *of != space || change(key, &mut bytes);
            *value = bytes.into();
            kept
        });
        state.pairs = Arc::new(pairs);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

fn failure(kind: ErrorKind) -> Error {
    Error::new(kind, "asked for by the test")
}

fn apply(pairs: &mut Pairs, op: &Op) {
    match op {
        Op::Put(at, value) => {
            pairs.insert((at.space, at.key.clone()), value.clone());
        }
        Op::Delete(at) => {
            pairs.remove(&(at.space, at.key.clone()));
        }
        Op::DeleteRange(space, range) => {
            pairs.retain(|(of, key), _| of != space || !range.contains(key));
        }
    }
}

impl KvBackend for Store {
    fn profile(&self) -> &KvProfile {
        &self.profile
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let state = self.state.lock();
        if state.closed {
            return Err(failure(ErrorKind::Closed));
        }
        Ok(Box::new(View { pairs: state.pairs.clone(), seq: CommitSeq(state.seq) }))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        self.profile.limits.check(batch)?;
        let mut state = self.state.lock();
        if let Some(kind) = state.fail_commit.take() {
            return Err(failure(kind));
        }
        let mut pairs = (*state.pairs).clone();
        let holds = batch.guards.iter().all(|guard| match guard {
            Guard::Absent(at) => !pairs.contains_key(&(at.space, at.key.clone())),
            Guard::Present(at) => pairs.contains_key(&(at.space, at.key.clone())),
            Guard::Equals(at, value) => pairs.get(&(at.space, at.key.clone())) == Some(value),
        });
        if !holds {
            return Err(failure(ErrorKind::Conflict));
        }
        batch.ops.iter().for_each(|op| apply(&mut pairs, op));
        state.pairs = Arc::new(pairs);
        if durability == Durability::Synced {
            state.durable = state.pairs.clone();
        }
        state.seq += 1;
        Ok(CommitSeq(state.seq))
    }

    fn flush(&self, _seq: CommitSeq) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(kind) = state.fail_flush.take() {
            return Err(failure(kind));
        }
        state.durable = state.pairs.clone();
        Ok(())
    }

    fn maintain(&self, _budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        Ok(MaintenanceReport::default())
    }

    fn check(&self) -> Result<EngineCheck> {
        Ok(EngineCheck::complete())
    }

    fn usage(&self) -> Result<SpaceUsage> {
        Ok(SpaceUsage::default())
    }

    fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.durable = state.pairs.clone();
        state.closed = true;
        Ok(())
    }
}

#[derive(Debug)]
struct View {
    pairs: Arc<Pairs>,
    seq: CommitSeq,
}

impl KvSnapshot for View {
    fn seq(&self) -> CommitSeq {
        self.seq
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.pairs.get(&(space, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        assert_eq!(scan.direction, Direction::Forward);
        for ((space, key), value) in self.pairs.iter() {
            let within = *space == scan.space && scan.range.contains(key);
            if within && visit(key, value) == ControlFlow::Break(()) {
                return Ok(ScanEnd::Stopped);
            }
        }
        Ok(ScanEnd::Exhausted)
    }
}
