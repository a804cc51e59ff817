//! Short names for what the cases of this family do all the time.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, ErrorKind, Expect, Offset, ReadBudget, ReadEnd, ReadStop, Result,
    StreamId, StreamLog,
};

pub(super) type Records = Vec<(Offset, Bytes)>;

pub(super) fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a good name")
}

/// The stream that most cases use.
pub(super) fn main() -> StreamId {
    stream("main")
}

pub(super) fn records<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Vec<Bytes> {
    records.into_iter().map(|record| Bytes::copy_from_slice(record.as_ref())).collect()
}

pub(super) fn append<R: AsRef<[u8]>>(
    log: &dyn StreamLog,
    parts: impl IntoIterator<Item = R>,
) -> Appended {
    append_to(log, &main(), parts, Durability::Buffered)
}

pub(super) fn append_synced<R: AsRef<[u8]>>(
    log: &dyn StreamLog,
    parts: impl IntoIterator<Item = R>,
) -> Appended {
    append_to(log, &main(), parts, Durability::Synced)
}

pub(super) fn append_to<R: AsRef<[u8]>>(
    log: &dyn StreamLog,
    stream: &StreamId,
    parts: impl IntoIterator<Item = R>,
    durability: Durability,
) -> Appended {
    let parts = records(parts);
    let at = log.append(stream, &parts, Expect::Any, durability).expect("it is appended");
    assert_eq!(at.next - at.first, parts.len() as u64, "offsets are dense");
    at
}

/// Reads within a budget; answers what was visited, and how it ended.
pub(super) fn read(
    log: &dyn StreamLog,
    stream: &StreamId,
    from: Offset,
    budget: ReadBudget,
) -> Result<(Records, ReadEnd)> {
    let mut seen = Vec::new();
    let end = log.read(stream, from, budget, &mut |offset, record| {
        seen.push((offset, Bytes::copy_from_slice(record)));
        ControlFlow::Continue(())
    })?;
    Ok((seen, end))
}

/// Every record of a stream; shows as well that offsets are dense and the bounds true.
pub(super) fn dump(log: &dyn StreamLog, stream: &StreamId) -> Records {
    let bounds = bounds(log, stream);
    let (seen, end) = read(log, stream, bounds.first, ReadBudget::UNLIMITED).expect("it is read");
    assert_eq!(end, ReadEnd { next: bounds.next, stop: ReadStop::End });
    let offsets: Vec<_> = seen.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (bounds.first..bounds.next).collect::<Vec<_>>(), "offsets are dense");
    seen
}

/// The records of [`main`] as text, for short expectations.
pub(super) fn texts(log: &dyn StreamLog) -> Vec<String> {
    let all = dump(log, &main());
    all.iter().map(|(_, record)| String::from_utf8_lossy(record).into_owned()).collect()
}

pub(super) fn bounds(log: &dyn StreamLog, stream: &StreamId) -> Bounds {
    let bounds = log.bounds(stream).expect("a stream has bounds");
    assert!(bounds.first >= 1 && bounds.first <= bounds.next, "{bounds:?}");
    assert!(bounds.durable_next <= bounds.next, "{bounds:?}");
    bounds
}

#[track_caller]
pub(super) fn refused<T>(result: Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what} is {kind}, but it succeeded"),
        Err(error) => assert_eq!(error.kind(), kind, "{what} is {kind}, not {error:?}"),
    }
}
