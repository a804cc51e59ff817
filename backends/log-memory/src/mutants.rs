//! Logs that break one promise each, so that a suite can prove that it finds what it looks for.
//!
//! Each mutant wraps the honest [`MemoryLog`] and changes what goes in, what comes out or what is
//! stored; the honest code knows nothing of it. Never use one for data.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, ErrorKind, Expect, LogProfile, Offset, ReadBudget, ReadEnd,
    ReadStop, RecordVisitor, Result, StreamId, StreamLog,
};

use crate::disk::{MemoryDisk, StreamState};
use crate::open::MemoryLog;

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $promise:literal,)*) => {
        /// A way of breaking the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The promise that it breaks, of those in `StreamLog`'s contract.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self { $(Self::$name => $promise,)* }
            }
        }
    };
}

mutants! {
    /// Stores all records of an append but the last, and answers as if all were there.
    DropsLastRecord = "log.append.dense",
    /// After a trim the next append skips an offset.
    OffsetGapAfterTrim = "log.append.dense",
    /// A trim of everything starts the offsets again at 1.
    TrimForgetsNext = "log.trim.front",
    /// An append that is refused as too large leaves its first record behind.
    HalfAppend = "log.append.limits",
    /// Half of a several-record append is there after a crash.
    TornAppend = "log.append.atomic",
    /// `Expect::Next` is taken for `Expect::Any`.
    IgnoresExpect = "log.append.expect",
    /// A `Conflict` is answered, but the records were appended.
    ConflictAppends = "log.append.expect",
    /// A `Synced` append is no more than a `Buffered` one.
    SyncedIsBuffered = "log.append.synced",
    /// Records of a `Buffered` append can be read only after a flush.
    BufferedInvisible = "log.append.visible",
    /// All streams count with one counter.
    StreamsShareOffsets = "log.streams.independent",
    /// A trim of one stream trims all others.
    TrimTakesAllStreams = "log.streams.independent",
    /// A trim removes the record at `before` as well.
    TrimTakesOneMore = "log.trim.front",
    /// A trim removes a record in the middle and keeps the first.
    TrimLeavesHole = "log.trim.front",
    /// A trim beyond the end trims everything instead of refusing.
    TrimBeyondSilent = "log.trim.bounds",
    /// A read visits everything, whatever its budget.
    ReadIgnoresBudget = "log.read.budget",
    /// A read whose first record exceeds the budget visits nothing.
    ReadRefusesLarge = "log.read.budget",
    /// A read below `first` begins at `first` and says nothing.
    ReadBelowFirstSilent = "log.read.trimmed",
    /// A read beyond `next` visits nothing instead of refusing.
    ReadBeyondSilent = "log.read.beyond",
    /// A read visits the last record first.
    ReadUnordered = "log.read.order",
    /// A read changes the last byte of each record.
    ReadAltersBytes = "log.read.order",
    /// `durable_next` is one more than `next`.
    DurableNextLies = "log.bounds.durable",
    /// `durable_next` stays behind after a flush.
    DurableNextStuck = "log.bounds.durable",
    /// A flush does nothing; what it was asked for is gone at the next open.
    FlushLies = "log.flush.durable",
    /// A close loses what was `Buffered`.
    CloseLosesBuffered = "log.close.durable",
    /// After a close every call still works.
    CloseForgotten = "log.close.idempotent",
    /// A second close answers `Closed`.
    SecondCloseFails = "log.close.idempotent",
    /// Streams are listed in reverse.
    StreamsUnordered = "log.streams.listed",
    /// A page of streams begins with the one it was to begin after.
    StreamsPageOverlaps = "log.streams.listed",
    /// A record one byte beyond the limit is accepted.
    LimitOffByOne = "log.append.limits",
    /// A record exactly at the limit is refused.
    RefusesAtLimit = "log.append.limits",
    /// An append of no records takes an offset.
    EmptyAppendTakesOffset = "log.append.empty",
    /// The profile changes with the first append.
    ProfileChanges = "log.profile.constant",
    /// A second open of the same disk succeeds.
    OpenShared = "log.open.exclusive",
    /// A damaged record is taken for the end of the log.
    DamageIsEnd = "log.recover.damage",
    /// Appends go on after a failed flush.
    PoisonForgotten = "log.poison.writes",
    /// An append that answers `Unavailable` did append.
    FailedAppendStays = "log.append.clean_failure",
}

/// A [`MemoryLog`] that breaks one promise.
#[derive(Debug)]
pub struct MutantLog {
    inner: MemoryLog,
    mutant: Mutant,
    changed_profile: LogProfile,
    appended: AtomicBool,
    trimmed: AtomicBool,
    closed: AtomicBool,
}

impl MemoryLog {
    /// Opens `disk` as a log that is broken in the way of `mutant`.
    ///
    /// # Errors
    /// As for [`MemoryLog::on`].
    pub fn with_mutant(disk: &MemoryDisk, mutant: Mutant) -> Result<MutantLog> {
        if mutant == Mutant::OpenShared {
            disk.lock().opened_by = None;
        }
        let inner = Self::on(disk)?;
        let mut changed_profile = inner.profile.clone();
        changed_profile.limits.record_bytes_max += 1;
        Ok(MutantLog {
            inner,
            mutant,
            changed_profile,
            appended: AtomicBool::new(false),
            trimmed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }
}

impl MutantLog {
    fn edit(&self, stream: &StreamId, change: impl FnOnce(&mut StreamState)) {
        change(self.inner.disk.lock().streams.entry(stream.clone()).or_default());
    }

    /// Takes away what was never truly durable; what a crash or a lying close does.
    fn lose(&self, keep: usize) {
        let mut state = self.inner.disk.lock();
        for stream in state.streams.values_mut() {
            let kept = (stream.durable_next + keep as u64).min(stream.next);
            drop(stream.records.split_off(&kept));
            stream.next = kept;
            stream.durable_next = kept;
        }
        state.streams.retain(|_, stream| stream.next > 1);
    }

    fn skip_offset(&self, stream: &StreamId) {
        self.edit(stream, |state| {
            if state.first == state.next {
                state.first += 1;
            }
            state.next += 1;
        });
    }

    /// The mutants that change the stream before an append.
    fn before_append(&self, stream: &StreamId, records: &[Bytes]) {
        match self.mutant {
            Mutant::OffsetGapAfterTrim if self.trimmed.swap(false, Ordering::Relaxed) => {
                self.skip_offset(stream);
            }
            Mutant::EmptyAppendTakesOffset if records.is_empty() => self.skip_offset(stream),
            Mutant::StreamsShareOffsets => {
                let mut state = self.inner.disk.lock();
                let highest = state.streams.values().map(|other| other.next).max().unwrap_or(1);
                let own = state.streams.entry(stream.clone()).or_default();
                if own.first == own.next {
                    own.first = highest;
                }
                own.next = highest;
            }
            Mutant::PoisonForgotten => self.inner.disk.lock().poisoned = false,
            _ => {}
        }
    }

    /// The mutants that change the stream, or the answer, after an append.
    fn after_append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        outcome: Result<Appended>,
    ) -> Result<Appended> {
        let kind = outcome.as_ref().err().map(trellis_engine_traits::Error::kind);
        match (self.mutant, kind) {
            (Mutant::DropsLastRecord, None) if !records.is_empty() => {
                self.edit(stream, |state| {
                    state.next -= 1;
                    drop(state.records.split_off(&state.next));
                    state.durable_next = state.durable_next.min(state.next);
                });
            }
            (Mutant::ConflictAppends, Some(ErrorKind::Conflict))
            | (Mutant::FailedAppendStays, Some(ErrorKind::Unavailable)) => {
                self.inner.append(stream, records, Expect::Any, Durability::Synced)?;
            }
            (Mutant::HalfAppend, Some(ErrorKind::TooLarge)) => {
                let part = [Bytes::from_static(b"half")];
                self.inner.append(stream, &part, Expect::Any, Durability::Buffered)?;
            }
            (Mutant::LimitOffByOne, Some(ErrorKind::TooLarge)) => {
                let limit = self.inner.profile.limits.record_bytes_max + 1;
                if records.iter().all(|record| record.len() <= limit) {
                    let cut = |record: &Bytes| record.slice(..record.len().min(limit - 1));
                    let cut: Vec<Bytes> = records.iter().map(cut).collect();
                    return self.inner.append(stream, &cut, Expect::Any, Durability::Buffered);
                }
            }
            _ => {}
        }
        outcome
    }
}

impl StreamLog for MutantLog {
    fn profile(&self) -> &LogProfile {
        let changed = self.appended.load(Ordering::Relaxed);
        match self.mutant {
            Mutant::ProfileChanges if changed => &self.changed_profile,
            _ => self.inner.profile(),
        }
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        let limit = self.inner.profile.limits.record_bytes_max;
        if self.mutant == Mutant::RefusesAtLimit {
            let mut stricter = self.inner.profile.limits;
            stricter.record_bytes_max = limit - 1;
            stricter.check(records)?;
        }
        self.before_append(stream, records);
        let expect = if self.mutant == Mutant::IgnoresExpect { Expect::Any } else { expect };
        let durability = match self.mutant {
            Mutant::SyncedIsBuffered => Durability::Buffered,
            _ => durability,
        };
        let outcome = self.inner.append(stream, records, expect, durability);
        self.appended.store(true, Ordering::Relaxed);
        self.after_append(stream, records, outcome)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        let bounds = self.inner.bounds(stream)?;
        let from = match self.mutant {
            Mutant::ReadBelowFirstSilent => from.max(bounds.first),
            Mutant::ReadBeyondSilent => from.min(bounds.next),
            _ => from,
        };
        match self.mutant {
            Mutant::ReadIgnoresBudget => {
                self.inner.read(stream, from, ReadBudget::UNLIMITED, visit)
            }
            Mutant::ReadRefusesLarge => {
                let mut left = budget;
                self.inner.read(stream, from, ReadBudget::UNLIMITED, &mut |offset, record| {
                    if left.records_max == 0 || record.len() > left.bytes_max {
                        return std::ops::ControlFlow::Break(());
                    }
                    left.records_max -= 1;
                    left.bytes_max -= record.len();
                    visit(offset, record)
                })
            }
            Mutant::ReadUnordered => {
                let mut all = Vec::new();
                let end = self.inner.read(stream, from, budget, &mut |offset, record| {
                    all.push((offset, Bytes::copy_from_slice(record)));
                    std::ops::ControlFlow::Continue(())
                })?;
                let broke =
                    all.iter().rev().any(|(offset, record)| visit(*offset, record).is_break());
                Ok(if broke { ReadEnd { stop: ReadStop::Stopped, ..end } } else { end })
            }
            Mutant::ReadAltersBytes => {
                self.inner.read(stream, from, budget, &mut |offset, record| {
                    let mut altered = record.to_vec();
                    altered.last_mut().into_iter().for_each(|byte| *byte ^= 1);
                    visit(offset, &altered)
                })
            }
            Mutant::BufferedInvisible => {
                let durable = bounds.durable_next;
                self.inner.read(stream, from, budget, &mut |offset, record| {
                    if offset >= durable {
                        return std::ops::ControlFlow::Break(());
                    }
                    visit(offset, record)
                })
            }
            Mutant::DamageIsEnd => match self.inner.read(stream, from, budget, visit) {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    Ok(ReadEnd { next: bounds.next, stop: ReadStop::End })
                }
                outcome => outcome,
            },
            _ => self.inner.read(stream, from, budget, visit),
        }
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        let mut bounds = self.inner.bounds(stream)?;
        match self.mutant {
            Mutant::DurableNextLies => bounds.durable_next = bounds.next + 1,
            Mutant::DurableNextStuck => bounds.durable_next = bounds.first,
            Mutant::FlushLies => bounds.durable_next = bounds.next,
            _ => {}
        }
        Ok(bounds)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        let bounds = self.inner.bounds(stream)?;
        self.trimmed.store(true, Ordering::Relaxed);
        match self.mutant {
            Mutant::TrimTakesOneMore if before > bounds.first => {
                self.inner.trim(stream, (before + 1).min(bounds.next))
            }
            Mutant::TrimBeyondSilent => self.inner.trim(stream, before.min(bounds.next)),
            Mutant::TrimLeavesHole if before > bounds.first => {
                self.edit(stream, |state| {
                    state.records.remove(&(bounds.first + 1));
                });
                Ok(())
            }
            Mutant::TrimForgetsNext => {
                self.inner.trim(stream, before)?;
                if before == bounds.next {
                    self.edit(stream, |state| *state = StreamState::default());
                }
                Ok(())
            }
            Mutant::TrimTakesAllStreams => {
                self.inner.trim(stream, before)?;
                for other in self.inner.streams(None, usize::MAX)? {
                    self.inner.trim(&other, before.min(self.inner.bounds(&other)?.next))?;
                }
                Ok(())
            }
            _ => self.inner.trim(stream, before),
        }
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        if self.mutant == Mutant::FlushLies && up_to <= self.inner.bounds(stream)?.next {
            return Ok(());
        }
        self.inner.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        let mut found = self.inner.streams(after, limit)?;
        match self.mutant {
            Mutant::StreamsUnordered => found.reverse(),
            Mutant::StreamsPageOverlaps if limit > 0 => {
                if let Some(after) = after {
                    found.insert(0, after.clone());
                    found.truncate(limit);
                }
            }
            _ => {}
        }
        Ok(found)
    }

    fn close(&self) -> Result<()> {
        let again = self.closed.swap(true, Ordering::Relaxed);
        match self.mutant {
            Mutant::SecondCloseFails if again => return Err(crate::error::closed()),
            Mutant::CloseForgotten => return Ok(()),
            Mutant::FlushLies | Mutant::CloseLosesBuffered if !again => self.lose(0),
            _ => {}
        }
        self.inner.close()
    }
}

impl Drop for MutantLog {
    fn drop(&mut self) {
        // A crash is a log that is dropped without a close.
        if !self.closed.load(Ordering::Relaxed) {
            match self.mutant {
                Mutant::FlushLies | Mutant::SyncedIsBuffered => self.lose(0),
                Mutant::TornAppend => self.lose(1),
                _ => {}
            }
        }
    }
}
