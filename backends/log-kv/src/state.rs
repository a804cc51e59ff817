//! What the log knows without asking the store: extents and how far they are durable.
//!
//! Invariant: `durable_next` only grows. A stream whose last commit is no later than `durable_seq`
//! is durable to its end, whatever its own `durable_next` says.

use std::collections::BTreeMap;

use trellis_engine_traits::{Bounds, CommitSeq, Offset, StreamId};

use crate::codec::Extent;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    /// The last commit of this log.
    pub(crate) last_seq: CommitSeq,
    /// Commits up to this one are durable.
    pub(crate) durable_seq: CommitSeq,
    pub(crate) poisoned: bool,
    /// The store refused a batch for lack of room, and was not asked since whether it has some.
    pub(crate) full: bool,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) extent: Extent,
    pub(crate) last_seq: CommitSeq,
    pub(crate) durable_next: Offset,
}

impl State {
    pub(crate) fn bounds(&self, stream: &StreamId) -> Bounds {
        let Some(found) = self.streams.get(stream) else {
            return Bounds { first: 1, next: 1, durable_next: 1 };
        };
        let Extent { first, next } = found.extent;
        let whole = found.last_seq <= self.durable_seq;
        Bounds { first, next, durable_next: if whole { next } else { found.durable_next } }
    }

    /// Notes what a commit made of a stream.
    pub(crate) fn committed(
        &mut self,
        stream: &StreamId,
        extent: Extent,
        seq: CommitSeq,
        synced: bool,
    ) {
        let durable_next = self.bounds(stream).durable_next;
        self.streams.insert(stream.clone(), Stream { extent, last_seq: seq, durable_next });
        self.last_seq = self.last_seq.max(seq);
        if synced {
            self.durable_seq = self.durable_seq.max(seq);
        }
    }

    /// Notes that commits up to `seq` are durable, and `stream` up to `next`.
    pub(crate) fn flushed(&mut self, stream: &StreamId, next: Offset, seq: CommitSeq) {
        self.durable_seq = self.durable_seq.max(seq);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.durable_next = stream.durable_next.max(next);
        }
    }
}
