//! `StreamLog` for [`SegmentLog`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, Error, Expect, LogProfile, Offset, ReadBudget, ReadEnd, ReadStop,
    RecordVisitor, Result, StreamId, StreamLog,
};

use crate::error;
use crate::open::SegmentLog;
use crate::stream::Stream;

/// The extent of a stream that was never appended to.
const NEVER: Bounds = Bounds { first: 1, next: 1, durable_next: 1 };

impl SegmentLog {
    fn stream(&self, stream: &StreamId) -> Result<Option<Arc<Stream>>> {
        self.shared.check_open()?;
        Ok(self.streams.read().get(stream).cloned())
    }

    /// The stream, made if it was never appended to.
    fn stream_or_new(&self, stream: &StreamId) -> Result<Arc<Stream>> {
        if let Some(found) = self.stream(stream)? {
            return Ok(found);
        }
        let _creating = self.creating.lock();
        if let Some(found) = self.stream(stream)? {
            return Ok(found);
        }
        if self.shared.is_poisoned() {
            return Err(error::poisoned());
        }
        let directory = self.streams_directory.join(stream.as_str());
        let made = Arc::new(Stream::create(&self.shared, stream, directory)?);
        self.streams.write().insert(stream.clone(), Arc::clone(&made));
        Ok(made)
    }

    fn never_appended(&self, at: Offset) -> Result<()> {
        if at > NEVER.next { Err(error::beyond(NEVER.next)) } else { Ok(()) }
    }
}

/// Completes an error with engine and operation.
fn during(operation: &'static str) -> impl FnOnce(Error) -> Error {
    move |error| error.backend(error::BACKEND).operation(operation)
}

impl StreamLog for SegmentLog {
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
        let append = || {
            self.shared.check_open()?;
            self.profile.limits.check(records)?;
            if self.stream(stream)?.is_none() {
                // A stream is made only for records that will be appended.
                match expect {
                    Expect::Next(expected) if expected != NEVER.next => {
                        return Err(error::conflict(expected, NEVER.next));
                    }
                    _ if records.is_empty() => {
                        return Ok(Appended { first: NEVER.next, next: NEVER.next });
                    }
                    _ => {}
                }
            }
            self.stream_or_new(stream)?.append(records, expect, durability)
        };
        append().map_err(during("append"))
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        let mut read = || match self.stream(stream)? {
            Some(stream) => stream.read(from, budget, visit),
            None if from < NEVER.first => Err(error::trimmed(NEVER.first)),
            None => {
                self.never_appended(from)?;
                Ok(ReadEnd { next: NEVER.next, stop: ReadStop::End })
            }
        };
        read().map_err(during("read"))
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        let found = self.stream(stream).map_err(during("bounds"))?;
        Ok(found.map_or(NEVER, |stream| stream.bounds()))
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        let trim = || match self.stream(stream)? {
            Some(stream) => stream.trim(before),
            None => self.never_appended(before),
        };
        trim().map_err(during("trim"))
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        let flush = || match self.stream(stream)? {
            Some(stream) => stream.flush(up_to),
            None => self.never_appended(up_to),
        };
        flush().map_err(during("flush"))
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.shared.check_open().map_err(during("streams"))?;
        let streams = self.streams.read();
        let later = streams.iter().filter(|(name, stream)| {
            after.is_none_or(|after| *name > after) && stream.bounds().next > NEVER.next
        });
        Ok(later.take(limit).map(|(name, _)| name.clone()).collect())
    }

    fn close(&self) -> Result<()> {
        let mut lock = self.lock.lock();
        let Some(held) = lock.take() else { return Ok(()) };
        self.shared.closed.store(true, Ordering::Release);
        // Whoever is making a stream at this moment finishes first.
        let creating = self.creating.lock();
        let streams = std::mem::take(&mut *self.streams.write());
        drop(creating);
        let mut outcome = Ok(());
        for stream in streams.values() {
            outcome = outcome.and(stream.close());
        }
        drop(held);
        outcome.map_err(during("close"))
    }
}
