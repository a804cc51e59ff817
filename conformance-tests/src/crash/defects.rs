//! Engines that say what is under way in them, and that may have a defect planted.
//!
//! The defects prove that the parent's check bites: each must be noticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, EngineCheck, Expect, KvBackend, KvProfile, KvSnapshot,
    LogProfile, MaintenanceBudget, MaintenanceReport, Offset, Op, ReadBudget, ReadEnd,
    RecordVisitor, Result, SpaceUsage, StreamId, StreamLog, WriteBatch,
};

use crate::child::say;

/// A promise that the child breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The journal answers an append before it has done it.
    AnswersBeforeAppend,
    /// The store says how far it has come before it has come there: a batch in two parts.
    NoteBeforeData,
    /// The journal is cut off behind what the store holds.
    TrimsTooFar,
    /// Idempotency keys do not reach the store.
    LosesKeys,
    /// Cleared subtrees stay in the store.
    KeepsCleared,
    /// Endings do not reach the store.
    LosesEndings,
    /// What must be one commit is two.
    TwoHalves,
}

impl Defect {
    /// All of them.
    pub(crate) const ALL: &'static [Self] = &[
        Self::AnswersBeforeAppend,
        Self::NoteBeforeData,
        Self::TrimsTooFar,
        Self::LosesKeys,
        Self::KeepsCleared,
        Self::LosesEndings,
        Self::TwoHalves,
    ];

    /// The one whose name was handed to the child.
    pub(super) fn named(name: &str) -> Self {
        let named = Self::ALL.iter().find(|one| format!("{one:?}") == name);
        *named.unwrap_or_else(|| panic!("no defect is called {name}"))
    }
}

/// Spaces of the tree's store, as ARCHITECTURE.md numbers them.
const NOTES: u8 = 0;
const ENDINGS: [u8; 2] = [2, 3];
const KEYS: [u8; 2] = [4, 5];

/// An append that was answered and not done.
type Owed = (StreamId, Vec<Bytes>, Expect, Durability);

/// What the two engines share.
#[derive(Debug)]
pub(super) struct Watched {
    defect: Option<Defect>,
    owed: Mutex<Option<Owed>>,
}

impl Watched {
    pub(super) fn new(defect: Option<Defect>) -> Arc<Self> {
        Arc::new(Self { defect, owed: Mutex::default() })
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn owed(&self) -> MutexGuard<'_, Option<Owed>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that something begins, does it, and says that it ended.
fn under_way<T>(what: &str, act: impl FnOnce() -> T) -> T {
    say(&format!("+{what}"));
    let done = act();
    say(&format!("-{what}"));
    done
}

/// A store that is watched.
#[derive(Debug)]
pub(super) struct WatchedKv(pub(super) Arc<dyn KvBackend>, pub(super) Arc<Watched>);

impl WatchedKv {
    fn defective(&self, batch: &WriteBatch) -> Option<WriteBatch> {
        let Self(_, watched) = self;
        let lost = |op: &Op| match op {
            Op::Put(at, _) if watched.has(Defect::LosesKeys) => KEYS.contains(&at.space.0),
            Op::Put(at, _) if watched.has(Defect::LosesEndings) => ENDINGS.contains(&at.space.0),
            Op::DeleteRange(..) => watched.has(Defect::KeepsCleared),
            _ => false,
        };
        watched.defect?;
        let mut batch = batch.clone();
        batch.ops.retain(|op| !lost(op));
        Some(batch)
    }
}

impl KvBackend for WatchedKv {
    fn profile(&self) -> &KvProfile {
        self.0.profile()
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        self.0.snapshot()
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        under_way("apply", || {
            let Some(mut batch) = self.defective(batch) else {
                return self.0.commit(batch, durability);
            };
            if self.1.has(Defect::NoteBeforeData) {
                let is_note = |op: &Op| matches!(op, Op::Put(at, _) if at.space.0 == NOTES);
                let mut note = batch.clone();
                note.ops.retain(is_note);
                batch.ops.retain(|op| !is_note(op));
                self.0.commit(&note, durability)?;
            }
            self.0.commit(&batch, durability)
        })
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        self.0.flush(seq)
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        under_way("maintain", || self.0.maintain(budget))
    }

    fn check(&self) -> Result<EngineCheck> {
        self.0.check()
    }

    fn usage(&self) -> Result<SpaceUsage> {
        self.0.usage()
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

/// A log that is watched.
#[derive(Debug)]
pub(super) struct WatchedLog(pub(super) Arc<dyn StreamLog>, pub(super) Arc<Watched>);

impl WatchedLog {
    /// Does the append that was answered before.
    fn settle(&self) -> Result<()> {
        match self.1.owed().take() {
            Some((stream, records, expect, durability)) => {
                self.0.append(&stream, &records, expect, durability).map(|_| ())
            }
            None => Ok(()),
        }
    }
}

impl StreamLog for WatchedLog {
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
        self.settle()?;
        if let Expect::Next(first) = expect
            && self.1.has(Defect::AnswersBeforeAppend)
        {
            *self.1.owed() = Some((stream.clone(), records.to_vec(), expect, durability));
            return Ok(Appended { first, next: first + records.len() as u64 });
        }
        self.0.append(stream, records, expect, durability)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.settle()?;
        self.0.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.settle()?;
        self.0.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        if stream.as_str() != "journal" {
            return self.0.trim(stream, before);
        }
        let next = self.bounds(stream)?.next;
        let before = if self.1.has(Defect::TrimsTooFar) { next } else { before };
        under_way("trim", || self.0.trim(stream, before))
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.settle()?;
        self.0.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.0.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.settle()?;
        self.0.close()
    }
}
