//! `StreamLog` for [`KvLog`].

use std::ops::ControlFlow;

use bytes::Bytes;
use parking_lot::MutexGuard;
use trellis_engine_traits::{
    Appended, Bounds, CommitSeq, Durability, Error, ErrorKind, Expect, LogProfile, Offset,
    ReadBudget, ReadEnd, ReadStop, RecordVisitor, Result, Scan, StreamId, StreamLog, WriteBatch,
};

use crate::codec::{self, Extent, Part, RECORDS_SPACE, STREAMS_SPACE};
use crate::error;
use crate::open::KvLog;
use crate::state::State;

impl KvLog {
    fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.closed { Err(error::closed()) } else { Ok(state) }
    }

    /// The extent before a write; the caller holds `writer`.
    fn writable(&self, stream: &StreamId) -> Result<Bounds> {
        let state = self.open_state()?;
        if state.poisoned { Err(error::poisoned()) } else { Ok(state.bounds(stream)) }
    }

    /// Commits a batch of this log and notes what it made of the stream.
    fn commit(
        &self,
        stream: &StreamId,
        extent: Extent,
        batch: WriteBatch,
        durability: Durability,
    ) -> Result<()> {
        let batch = batch.guard(self.owner.clone()).put(
            STREAMS_SPACE,
            codec::stream_key(stream),
            codec::extent_value(stream, extent),
        );
        let mut outcome = self.store.commit(&batch, durability);
        let mut state = self.state.lock();
        if state.full && outcome.as_ref().is_err_and(error::is_storage_full) {
            // Who goes on after a refusal removes, and has the store's last room. But a store that
            // is the tree's as well may have taken this for the first one that it refuses.
            outcome = self.store.commit(&batch, durability);
        }
        match outcome {
            Ok(seq) => {
                state.committed(stream, extent, seq, durability == Durability::Synced);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                state.poisoned = true;
                Err(error::shut_out())
            }
            Err(error) => {
                state.poisoned |= error::poisons(&error);
                state.full |= error::is_storage_full(&error);
                Err(error)
            }
        }
    }

    fn put_record(
        &self,
        mut batch: WriteBatch,
        stream: &StreamId,
        offset: Offset,
        record: &Bytes,
    ) -> WriteBatch {
        let mut rest = record.clone();
        let mut following = record.len().saturating_sub(1) / self.part_bytes_max;
        for number in 0..=u8::MAX {
            let bytes = rest.split_to(rest.len().min(self.part_bytes_max));
            let key = codec::part_key(stream, offset, number);
            // Records of 20 MiB in parts of at least 1 MiB: never more than 21.
            let left = u8::try_from(following).unwrap_or(u8::MAX);
            let value = codec::part_value(&key, left, &bytes);
            batch = batch.put(RECORDS_SPACE, key, value);
            if following == 0 {
                break;
            }
            following -= 1;
        }
        batch
    }

    /// After a refusal for lack of room: whether the store has some again. A batch of nothing asks.
    fn ask_for_room(&self) -> Result<()> {
        if !self.open_state()?.full {
            return Ok(());
        }
        self.store.commit(&WriteBatch::new(), Durability::Buffered)?;
        self.state.lock().full = false;
        Ok(())
    }

    fn flush_store(&self, seq: CommitSeq) -> Result<()> {
        self.store.flush(seq).inspect_err(|error| {
            self.state.lock().poisoned |= error::poisons(error);
        })
    }
}

/// One read: puts parts together, counts offsets and the budget.
struct Reader<'a, 'v> {
    stream: &'a StreamId,
    next: Offset,
    records_left: usize,
    bytes_left: usize,
    visited: bool,
    /// The parts so far of a record that has several.
    parts: Vec<u8>,
    parts_expected: Option<(u8, u8)>,
    stop: ReadStop,
    failure: Option<Error>,
    visit: &'a mut RecordVisitor<'v>,
}

impl Reader<'_, '_> {
    fn fail(&mut self) -> ControlFlow<()> {
        self.failure = Some(error::damaged(self.stream, self.next).operation("read"));
        ControlFlow::Break(())
    }

    fn pair(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        let Some(Part { offset, number, following, bytes }) = codec::read_part(key, value) else {
            return self.fail();
        };
        let (number_due, following_due) = self.parts_expected.unwrap_or((0, following));
        if offset != self.next || number != number_due || following != following_due {
            return self.fail();
        }
        if following > 0 {
            self.parts.extend_from_slice(bytes);
            self.parts_expected = Some((number.saturating_add(1), following - 1));
            return ControlFlow::Continue(());
        }
        if self.parts_expected.take().is_none() {
            return self.record(bytes);
        }
        let mut whole = std::mem::take(&mut self.parts);
        whole.extend_from_slice(bytes);
        self.record(&whole)
    }

    fn record(&mut self, record: &[u8]) -> ControlFlow<()> {
        if self.visited && (self.records_left == 0 || record.len() > self.bytes_left) {
            self.stop = ReadStop::Budget;
            return ControlFlow::Break(());
        }
        self.visited = true;
        self.records_left = self.records_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(record.len());
        let offset = self.next;
        self.next += 1;
        (self.visit)(offset, record).map_break(|()| self.stop = ReadStop::Stopped)
    }
}

impl StreamLog for KvLog {
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
        let _writer = self.writer.lock();
        let named = |error: Error| error.backend(error::BACKEND).operation("append");
        let Bounds { first, next, .. } = self.writable(stream).map_err(named)?;
        self.profile.limits.check(records).map_err(named)?;
        if let Expect::Next(expected) = expect
            && expected != next
        {
            return Err(named(error::conflict(expected, next)));
        }
        let after = next + records.len() as u64;
        if !records.is_empty() {
            let mut batch = WriteBatch::new();
            for (offset, record) in (next..).zip(records) {
                batch = self.put_record(batch, stream, offset, record);
            }
            let extent = Extent { first, next: after };
            self.commit(stream, extent, batch, durability).map_err(named)?;
        } else {
            self.ask_for_room().map_err(named)?;
            if durability == Durability::Synced {
                self.flush(stream, next)?;
            }
        }
        Ok(Appended { first: next, next: after })
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        drop(self.open_state()?);
        // Extent and records of one snapshot belong together, whatever is trimmed meanwhile.
        let snapshot = self.store.snapshot()?;
        let key = codec::stream_key(stream);
        let extent = match snapshot.get(STREAMS_SPACE, &key)? {
            Some(value) => {
                codec::read_extent(&key, &value).ok_or_else(|| error::damaged(stream, from))?
            }
            None => Extent { first: 1, next: 1 },
        };
        if from < extent.first {
            return Err(error::trimmed(extent.first).operation("read"));
        }
        if from > extent.next {
            return Err(error::beyond(extent.next).operation("read"));
        }
        let mut reader = Reader {
            stream,
            next: from,
            records_left: budget.records_max,
            bytes_left: budget.bytes_max,
            visited: false,
            parts: Vec::new(),
            parts_expected: None,
            stop: ReadStop::End,
            failure: None,
            visit,
        };
        let range = codec::records_range(stream, from, extent.next);
        snapshot.scan(&Scan::forward(RECORDS_SPACE, range), &mut |key, value| {
            reader.pair(key, value)
        })?;
        if let Some(failure) = reader.failure {
            return Err(failure);
        }
        if reader.stop == ReadStop::End && reader.next != extent.next {
            return Err(error::damaged(stream, reader.next).operation("read"));
        }
        Ok(ReadEnd { next: reader.next, stop: reader.stop })
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        Ok(self.open_state()?.bounds(stream))
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        let _writer = self.writer.lock();
        let named = |error: Error| error.backend(error::BACKEND).operation("trim");
        let Bounds { first, next, durable_next } = self.writable(stream).map_err(named)?;
        if before > next {
            return Err(named(error::beyond(next)));
        }
        if before <= first {
            return Ok(());
        }
        let range = codec::records_range(stream, first, before);
        let batch = WriteBatch::new().delete_range(RECORDS_SPACE, range);
        let extent = Extent { first: before, next };
        // Offsets that were given out and are gone must not be given out again after a crash.
        let durable = before <= durable_next;
        let durability = if durable { Durability::Buffered } else { Durability::Synced };
        self.commit(stream, extent, batch, durability).map_err(named)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        let state = self.open_state()?;
        let bounds = state.bounds(stream);
        let seq = state.last_seq;
        if state.poisoned {
            return Err(error::poisoned().operation("flush"));
        }
        drop(state);
        if up_to > bounds.next {
            return Err(error::beyond(bounds.next).operation("flush"));
        }
        if bounds.durable_next < bounds.next {
            self.flush_store(seq)?;
            self.state.lock().flushed(stream, bounds.next, seq);
        }
        Ok(())
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        let state = self.open_state()?;
        let later = state.streams.keys().filter(|name| after.is_none_or(|after| *name > after));
        Ok(later.take(limit).cloned().collect())
    }

    fn close(&self) -> Result<()> {
        let _writer = self.writer.lock();
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        state.closed = true;
        let (poisoned, seq) = (state.poisoned, state.last_seq);
        let durable = seq <= state.durable_seq;
        drop(state);
        if self.owns_store {
            self.store.close()?;
        } else if !poisoned && !durable {
            self.flush_store(seq)?;
        }
        if poisoned { Err(error::unflushed().operation("close")) } else { Ok(()) }
    }
}
