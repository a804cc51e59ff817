//! Opening a log on a store.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{
    At, CommitSeq, Durability, ErrorKind, Guard, KeyRange, KvBackend, KvLimits, KvSnapshot,
    LogLimits, LogProfile, Result, Scan, StreamId, WriteBatch,
};

use crate::codec::{self, STREAMS_SPACE};
use crate::error;
use crate::state::{State, Stream};

/// Bytes of a batch kept free for keys, checksums and the extent.
const BATCH_RESERVE_BYTES: usize = 16 << 20;

/// The contract's least `append_bytes_max`.
const APPEND_BYTES_LEAST: usize = 64 << 20;

/// A log in spaces 200 and 201 of a store.
///
/// The store may be one that others use as well, such as the tree's. Only one log may be open on
/// it: a later one shuts the earlier one out, whose writes then answer `Locked`.
pub struct KvLog {
    pub(crate) store: Arc<dyn KvBackend>,
    pub(crate) owns_store: bool,
    pub(crate) profile: LogProfile,
    /// Holds while this log is the last one opened on the store.
    pub(crate) owner: Guard,
    /// Bytes of a record in one value of the store.
    pub(crate) part_bytes_max: usize,
    /// One append or trim at a time; taken before `state`.
    pub(crate) writer: Mutex<()>,
    pub(crate) state: Mutex<State>,
}

impl KvLog {
    /// Opens the log on `store`.
    ///
    /// With `owns_store`, `close` closes the store too; without, it makes the log durable and
    /// leaves the store open to its other users.
    ///
    /// # Errors
    /// What the store's snapshot and commit answer; `Unsupported` for a log that a newer version
    /// wrote, or a store whose batches are smaller than 80 MiB; `Corrupt` for an altered list of
    /// streams; `Locked` if another log is opened on the store at this moment.
    ///
    /// # Durability
    /// One `Synced` commit: all that is found counts as durable from then on.
    ///
    /// # Cost
    /// Reads the extent of every stream.
    pub fn new(store: Arc<dyn KvBackend>, owns_store: bool) -> Result<Self> {
        let profile = described(&*store)?;
        let part_bytes_max = store.profile().limits.value_bytes_max - codec::PART_OVERHEAD_BYTES;
        let (opens, seq) = take(&*store)?;
        let streams = load(&*store.snapshot()?)?;
        let owner = Guard::Equals(At::new(STREAMS_SPACE, codec::OPEN_KEY), opens);
        let state = State {
            streams,
            last_seq: seq,
            durable_seq: seq,
            poisoned: false,
            full: false,
            closed: false,
        };
        Ok(Self {
            store,
            owns_store,
            profile,
            owner,
            part_bytes_max,
            writer: Mutex::new(()),
            state: Mutex::new(state),
        })
    }
}

impl fmt::Debug for KvLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvLog")
            .field("store", &self.store.profile().name)
            .field("owns_store", &self.owns_store)
            .finish_non_exhaustive()
    }
}

fn described(store: &dyn KvBackend) -> Result<LogProfile> {
    let KvLimits { value_bytes_max, batch_bytes_max, .. } = store.profile().limits;
    let append_bytes_max = batch_bytes_max.saturating_sub(BATCH_RESERVE_BYTES);
    if append_bytes_max < APPEND_BYTES_LEAST || value_bytes_max < 1 << 20 {
        return Err(error::store_too_small(batch_bytes_max).operation("open"));
    }
    let limits = LogLimits::DEFAULT;
    Ok(LogProfile {
        name: "kv",
        limits: LogLimits {
            append_bytes_max: limits.append_bytes_max.min(append_bytes_max),
            ..limits
        },
        persistence: store.profile().persistence,
        emulated: store.profile().emulated,
    })
}

/// Makes this open the last one, and everything before it durable.
fn take(store: &dyn KvBackend) -> Result<(Bytes, CommitSeq)> {
    let at = At::new(STREAMS_SPACE, codec::OPEN_KEY);
    let found = store.snapshot()?.get(STREAMS_SPACE, codec::OPEN_KEY)?;
    let mut opens = 0;
    if let Some(value) = &found {
        let (format, earlier) = codec::read_open(value).ok_or_else(error::damaged_streams)?;
        if format > codec::FORMAT {
            return Err(error::newer_format(format).operation("open"));
        }
        opens = earlier;
    }
    let value = codec::open_value(opens.wrapping_add(1));
    let unchanged = match found {
        Some(found) => Guard::Equals(at, found),
        None => Guard::Absent(at),
    };
    let batch =
        WriteBatch::new().guard(unchanged).put(STREAMS_SPACE, codec::OPEN_KEY, value.clone());
    let commit = || store.commit(&batch, Durability::Synced);
    let taken = commit().or_else(|error| {
        // What comes after a refusal may use the store's last room: one must be able to open, to
        // read and to remove.
        if error.fact("reason") == Some("storage_full") { commit() } else { Err(error) }
    });
    let seq = taken.map_err(|error| match error.kind() {
        ErrorKind::Conflict => error::shut_out().operation("open"),
        _ => error,
    })?;
    Ok((value, seq))
}

fn load(snapshot: &dyn KvSnapshot) -> Result<BTreeMap<StreamId, Stream>> {
    let mut streams = BTreeMap::new();
    let mut damage = None;
    let names = Scan::forward(STREAMS_SPACE, KeyRange::new(vec![1], None));
    snapshot.scan(&names, &mut |key, value| {
        let name = std::str::from_utf8(key).ok().and_then(|name| StreamId::new(name).ok());
        let (Some(name), Some(extent)) = (name, codec::read_extent(key, value)) else {
            let shown = String::from_utf8_lossy(key).into_owned();
            damage = Some(error::damaged_streams().context("stream", shown).operation("open"));
            return ControlFlow::Break(());
        };
        let last_seq = CommitSeq(0);
        streams.insert(name, Stream { extent, last_seq, durable_next: extent.next });
        ControlFlow::Continue(())
    })?;
    damage.map_or(Ok(streams), Err)
}
