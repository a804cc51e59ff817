//! Stores that break one promise each, so that a suite can prove that it finds what it looks for.
//!
//! Each mutant wraps the honest [`MemoryKv`] and changes what goes in or what comes out; the
//! honest code knows nothing of it. Never use one for data.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{
    At, CommitSeq, Direction, Durability, EngineCheck, Error, ErrorKind, Guard, KeyRange,
    KvBackend, KvProfile, KvSnapshot, KvSnapshotExt, MaintenanceBudget, MaintenanceReport, Op,
    Result, Scan, ScanEnd, SpaceId, SpaceUsage, Visitor, WriteBatch,
};

use crate::backend::MemoryKv;
use crate::disk::MemoryDisk;

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $promise:literal,)*) => {
        /// A way of breaking the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The promise that it breaks, of those in the contracts of `KvBackend` and
            /// `KvSnapshot`.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self { $(Self::$name => $promise,)* }
            }
        }
    };
}

mutants! {
    /// Stores all changes of a batch but the last, and answers as if all were there.
    DropsLastOp = "kv.commit.atomic",
    /// A scan visits the second pair before the first.
    UnorderedScan = "kv.scan.order",
    /// Guards are not tested.
    IgnoresGuards = "kv.commit.guards",
    /// A snapshot reads what is current.
    SnapshotSeesLaterCommits = "kv.snapshot.frozen",
    /// A flush does nothing, nor does closing: what was not `Synced` is gone at the next open.
    FlushLies = "kv.flush.durable",
    /// `Synced` commits are `Buffered` ones.
    SyncedIsBuffered = "kv.commit.synced",
    /// A scan includes the end of its range.
    InclusiveEnd = "kv.scan.bounds",
    /// A reverse scan excludes the start of its range.
    ReverseExcludesStart = "kv.scan.bounds",
    /// A key of exactly the largest length is refused.
    LimitOffByOne = "kv.commit.limits",
    /// Nothing is too large.
    LimitIgnored = "kv.commit.limits",
    /// Removing a range removes the key at its end as well.
    DeleteRangeTakesNeighbour = "kv.delete_range.exact",
    /// All spaces are one.
    SpacesLeak = "kv.scan.spaces",
    /// Closing does nothing.
    CloseForgotten = "kv.close.idempotent",
    /// When a guard fails, the first half of the changes is applied all the same.
    HalfBatchOnGuardFailure = "kv.commit.guards",
    /// A scan visits one pair more after the visitor broke.
    ScanIgnoresStop = "kv.scan.stop",
    /// A scan that was stopped says that it saw everything.
    StopSaysExhausted = "kv.scan.stop",
    /// Two commits in a row share a number.
    SeqNotIncreasing = "kv.commit.order",
    /// The changes of a batch are applied in reverse order.
    OpsReversed = "kv.commit.order",
    /// A key that does not exist answers the value of the next key that begins with it.
    GetPrefixMatch = "kv.get.exact",
    /// A number that was never given out is flushed without complaint.
    FlushTakesAnySeq = "kv.flush.unknown_seq",
    /// Writes go on after a failed flush.
    PoisonForgotten = "kv.poison.writes",
    /// A check reports damage where there is none.
    CheckCriesWolf = "kv.check.harmless",
    /// Live bytes are always the same.
    UsageConstant = "kv.usage.plausible",
}

impl MemoryKv {
    /// An empty store that breaks one promise.
    #[must_use]
    pub fn with_mutant(mutant: Mutant) -> MutantKv {
        let inner = Self::on(&MemoryDisk::new()).unwrap_or_default();
        MutantKv { inner: Arc::new(inner), mutant }
    }
}

/// A store that breaks one promise; made by [`MemoryKv::with_mutant`] or [`MutantKv::on`].
#[derive(Debug)]
pub struct MutantKv {
    inner: Arc<MemoryKv>,
    mutant: Mutant,
}

impl MutantKv {
    /// Opens what is on `disk` and breaks one promise from then on.
    ///
    /// # Errors
    /// `Locked` while another handle has it open.
    pub fn on(disk: &MemoryDisk, mutant: Mutant) -> Result<Self> {
        Ok(Self { inner: Arc::new(MemoryKv::on(disk)?), mutant })
    }

    fn changed(&self, batch: &WriteBatch) -> WriteBatch {
        let mut batch = batch.clone();
        match self.mutant {
            Mutant::DropsLastOp => drop(batch.ops.pop()),
            Mutant::IgnoresGuards => batch.guards.clear(),
            Mutant::OpsReversed => batch.ops.reverse(),
            Mutant::DeleteRangeTakesNeighbour => batch.ops.iter_mut().for_each(|op| {
                if let Op::DeleteRange(_, range) = op {
                    include_end(range);
                }
            }),
            Mutant::SpacesLeak => leak_spaces(&mut batch),
            _ => {}
        }
        batch
    }

    /// Refuses the largest key that is allowed.
    fn refuses(&self, batch: &WriteBatch) -> bool {
        let largest = self.inner.profile().limits.key_bytes_max;
        self.mutant == Mutant::LimitOffByOne
            && batch.ops.iter().any(|op| matches!(op, Op::Put(at, _) if at.key.len() == largest))
    }
}

fn include_end(range: &mut KeyRange) {
    range.end = range.end.as_deref().map(after);
}

/// The least key above `key`.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

fn leak_spaces(batch: &mut WriteBatch) {
    let one = SpaceId(0);
    for guard in &mut batch.guards {
        match guard {
            Guard::Absent(at) | Guard::Present(at) | Guard::Equals(at, _) => at.space = one,
        }
    }
    for op in &mut batch.ops {
        match op {
            Op::Put(At { space, .. }, _)
            | Op::Delete(At { space, .. })
            | Op::DeleteRange(space, _) => *space = one,
        }
    }
}

impl KvBackend for MutantKv {
    fn profile(&self) -> &KvProfile {
        self.inner.profile()
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let view = self.inner.snapshot()?;
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(MutantSnapshot { view, inner, mutant: self.mutant }))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        if self.refuses(batch) {
            return Err(Error::new(ErrorKind::TooLarge, "the key is too long by nought"));
        }
        let durability = match self.mutant {
            Mutant::SyncedIsBuffered => Durability::Buffered,
            _ => durability,
        };
        let answer = self.inner.commit(&self.changed(batch), durability);
        match (self.mutant, &answer) {
            (Mutant::SeqNotIncreasing, Ok(seq)) => Ok(CommitSeq(seq.0 - seq.0 % 2)),
            (Mutant::HalfBatchOnGuardFailure, Err(error))
                if error.kind() == ErrorKind::Conflict =>
            {
                let half = batch.ops.len().div_ceil(2);
                let ops = batch.ops.iter().take(half).cloned().collect();
                drop(self.inner.commit(&WriteBatch { guards: Vec::new(), ops }, durability));
                answer
            }
            (Mutant::LimitIgnored, Err(error)) if error.kind() == ErrorKind::TooLarge => {
                self.inner.commit(&WriteBatch::new(), durability)
            }
            (Mutant::PoisonForgotten, Err(_)) => {
                self.inner.disk().state.write().poisoned = false;
                answer
            }
            _ => answer,
        }
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        match self.mutant {
            Mutant::FlushLies => Ok(()),
            Mutant::FlushTakesAnySeq => self.inner.flush(CommitSeq(0)),
            Mutant::PoisonForgotten => {
                let answer = self.inner.flush(seq);
                self.inner.disk().state.write().poisoned = false;
                answer
            }
            _ => self.inner.flush(seq),
        }
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.inner.maintain(budget)
    }

    fn check(&self) -> Result<EngineCheck> {
        match self.mutant {
            Mutant::CheckCriesWolf => Ok(EngineCheck::damaged("a wolf")),
            _ => self.inner.check(),
        }
    }

    fn usage(&self) -> Result<SpaceUsage> {
        let usage = self.inner.usage()?;
        Ok(match self.mutant {
            Mutant::UsageConstant => SpaceUsage { live_bytes: 1 << 20, ..usage },
            _ => usage,
        })
    }

    fn close(&self) -> Result<()> {
        match self.mutant {
            Mutant::CloseForgotten => Ok(()),
            Mutant::FlushLies => {
                self.inner.disk().lose_power();
                Ok(())
            }
            _ => self.inner.close(),
        }
    }
}

#[derive(Debug)]
struct MutantSnapshot {
    view: Box<dyn KvSnapshot>,
    inner: Arc<MemoryKv>,
    mutant: Mutant,
}

impl MutantSnapshot {
    fn changed(&self, scan: &Scan) -> Scan {
        let mut scan = scan.clone();
        match self.mutant {
            Mutant::InclusiveEnd => include_end(&mut scan.range),
            Mutant::ReverseExcludesStart if scan.direction == Direction::Reverse => {
                scan.range.start = after(&scan.range.start);
            }
            Mutant::SpacesLeak => scan.space = SpaceId(0),
            _ => {}
        }
        scan
    }
}

/// Visits the pairs with the first two swapped.
fn swapped(view: &dyn KvSnapshot, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
    let mut pairs = view.collect(scan, usize::MAX)?;
    if pairs.len() > 1 {
        pairs.swap(0, 1);
    }
    let stopped = pairs.iter().any(|(key, value)| visit(key, value).is_break());
    Ok(if stopped { ScanEnd::Stopped } else { ScanEnd::Exhausted })
}

/// Visits one pair more after the visitor broke.
fn overrun(view: &dyn KvSnapshot, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
    let mut broke = false;
    view.scan(scan, &mut |key, value| {
        let flow = visit(key, value);
        if broke {
            return ControlFlow::Break(());
        }
        broke = flow.is_break();
        ControlFlow::Continue(())
    })
}

impl KvSnapshot for MutantSnapshot {
    fn seq(&self) -> CommitSeq {
        self.view.seq()
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        match self.mutant {
            Mutant::SnapshotSeesLaterCommits => self.inner.snapshot()?.get(space, key),
            Mutant::SpacesLeak => self.view.get(SpaceId(0), key),
            Mutant::GetPrefixMatch => {
                let scan = Scan::forward(space, KeyRange::prefix(key));
                let first = self.view.collect(&scan, 1)?.pop();
                Ok(first.map(|(_, value)| value))
            }
            _ => self.view.get(space, key),
        }
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        let scan = &self.changed(scan);
        match self.mutant {
            Mutant::SnapshotSeesLaterCommits => self.inner.snapshot()?.scan(scan, visit),
            Mutant::UnorderedScan => swapped(&*self.view, scan, visit),
            Mutant::ScanIgnoresStop => overrun(&*self.view, scan, visit),
            Mutant::StopSaysExhausted => {
                self.view.scan(scan, visit)?;
                Ok(ScanEnd::Exhausted)
            }
            _ => self.view.scan(scan, visit),
        }
    }
}
