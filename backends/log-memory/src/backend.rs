//! `StreamLog` for [`MemoryLog`].

use bytes::Bytes;
use parking_lot::MutexGuard;
use trellis_engine_traits::{
    Appended, Bounds, Durability, Expect, LogProfile, Offset, ReadBudget, ReadEnd, ReadStop,
    RecordVisitor, Result, StreamId, StreamLog,
};

use crate::disk::{DiskState, Fault, StreamState};
use crate::error;
use crate::open::MemoryLog;

impl MemoryLog {
    fn state(&self) -> Result<MutexGuard<'_, DiskState>> {
        let state = self.disk.lock();
        if state.opened_by == Some(self.opened) { Ok(state) } else { Err(error::closed()) }
    }
}

/// The extent of a stream, also of one that was never appended to.
fn bounds_of(state: &DiskState, stream: &StreamId) -> Bounds {
    let empty = StreamState::default();
    let found = state.streams.get(stream).unwrap_or(&empty);
    Bounds { first: found.first, next: found.next, durable_next: found.durable_next }
}

/// What a read visits, how it ends unless the visitor stops it, and the damaged record it met.
struct Selected {
    records: Vec<(Offset, Bytes)>,
    end: ReadEnd,
    damaged: Option<Offset>,
}

fn select(
    state: &DiskState,
    stream: &StreamId,
    from: Offset,
    budget: ReadBudget,
) -> Result<Selected> {
    let bounds = bounds_of(state, stream);
    if from < bounds.first {
        return Err(error::trimmed(bounds.first));
    }
    if from > bounds.next {
        return Err(error::beyond(bounds.next));
    }
    let mut records: Vec<(Offset, Bytes)> = Vec::new();
    let mut bytes_left = budget.bytes_max;
    let stored = state.streams.get(stream);
    for (offset, record) in stored.iter().flat_map(|stream| stream.records.range(from..)) {
        let fits = records.len() < budget.records_max && record.len() <= bytes_left;
        if !fits && !records.is_empty() {
            let end = ReadEnd { next: *offset, stop: ReadStop::Budget };
            return Ok(Selected { records, end, damaged: None });
        }
        if stored.is_some_and(|stream| stream.damaged.contains(offset)) {
            let end = ReadEnd { next: *offset, stop: ReadStop::End };
            return Ok(Selected { records, end, damaged: Some(*offset) });
        }
        bytes_left = bytes_left.saturating_sub(record.len());
        records.push((*offset, record.clone()));
    }
    let end = ReadEnd { next: bounds.next, stop: ReadStop::End };
    Ok(Selected { records, end, damaged: None })
}

impl StreamLog for MemoryLog {
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
        let mut state = self.state()?;
        if state.poisoned {
            return Err(error::poisoned().operation("append"));
        }
        self.profile.limits.check(records).map_err(|error| error.backend(error::BACKEND))?;
        let first = bounds_of(&state, stream).next;
        if let Expect::Next(expected) = expect
            && expected != first
        {
            return Err(error::conflict(expected, first).operation("append"));
        }
        if state.takes(Fault::Append) {
            return Err(error::append_fault().operation("append"));
        }
        let failed = durability == Durability::Synced && state.takes(Fault::Flush);
        if !records.is_empty() {
            let stored = state.streams.entry(stream.clone()).or_default();
            stored.records.extend((first..).zip(records.iter().cloned()));
            stored.next = first + records.len() as u64;
        }
        if failed {
            state.poisoned = true;
            return Err(error::flush_fault().operation("append"));
        }
        let next = first + records.len() as u64;
        if durability == Durability::Synced
            && let Some(stored) = state.streams.get_mut(stream)
        {
            stored.durable_next = next;
        }
        Ok(Appended { first, next })
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        let state = self.state()?;
        let selected = select(&state, stream, from, budget);
        drop(state);
        let selected = selected.map_err(|error| error.operation("read"))?;
        for (offset, record) in selected.records {
            if visit(offset, &record).is_break() {
                return Ok(ReadEnd { next: offset + 1, stop: ReadStop::Stopped });
            }
        }
        match selected.damaged {
            Some(offset) => Err(error::damaged(offset).operation("read")),
            None => Ok(selected.end),
        }
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        Ok(bounds_of(&*self.state()?, stream))
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        let mut state = self.state()?;
        if state.poisoned {
            return Err(error::poisoned().operation("trim"));
        }
        let bounds = bounds_of(&state, stream);
        if before > bounds.next {
            return Err(error::beyond(bounds.next).operation("trim"));
        }
        if before > bounds.first
            && let Some(stored) = state.streams.get_mut(stream)
        {
            stored.records = stored.records.split_off(&before);
            stored.damaged = stored.damaged.split_off(&before);
            stored.first = before;
            // A trimmed offset must not come back after loss of power.
            stored.durable_next = stored.durable_next.max(before);
        }
        Ok(())
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        let mut state = self.state()?;
        if state.poisoned {
            return Err(error::poisoned().operation("flush"));
        }
        let bounds = bounds_of(&state, stream);
        if up_to > bounds.next {
            return Err(error::beyond(bounds.next).operation("flush"));
        }
        if state.takes(Fault::Flush) {
            state.poisoned = true;
            return Err(error::flush_fault().operation("flush"));
        }
        if let Some(stored) = state.streams.get_mut(stream) {
            // Everything becomes durable, also beyond `up_to`: the contract's "after a flush".
            stored.durable_next = stored.next;
        }
        Ok(())
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        let state = self.state()?;
        let later = state.streams.keys().filter(|name| after.is_none_or(|after| *name > after));
        Ok(later.take(limit).cloned().collect())
    }

    fn close(&self) -> Result<()> {
        let mut state = self.disk.lock();
        if state.opened_by == Some(self.opened) {
            state.opened_by = None;
            if state.poisoned {
                return Err(error::flush_fault().operation("close"));
            }
            for stream in state.streams.values_mut() {
                stream.durable_next = stream.next;
            }
        }
        Ok(())
    }
}
