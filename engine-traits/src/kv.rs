//! [`KvBackend`]: ordered bytes with atomic batches and frozen views.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::profile::{Ability, Persistence, Semantic};
use crate::upkeep::{EngineCheck, MaintenanceBudget, MaintenanceReport, SpaceUsage};

/// A named region of a store; keys of different spaces never meet.
///
/// Spaces below 200 belong to the services; 200 and above to engines that are built on a store
/// (`log-kv`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u8);

/// A key in a space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The space.
    pub space: SpaceId,
    /// The key; may be empty, any bytes.
    pub key: Bytes,
}

impl At {
    /// The key `key` in `space`.
    #[must_use]
    pub fn new(space: SpaceId, key: impl Into<Bytes>) -> Self {
        Self { space, key: key.into() }
    }
}

/// The keys from `start` (included) to `end` (excluded), in unsigned byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key; empty means from the beginning.
    pub start: Bytes,
    /// The first key that is no longer in the range; `None` means to the end of the space.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key of a space.
    #[must_use]
    pub const fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// The keys from `start` (included) to `end` (excluded).
    #[must_use]
    pub fn new(start: impl Into<Bytes>, end: Option<Bytes>) -> Self {
        Self { start: start.into(), end }
    }

    /// Every key that begins with `prefix`.
    ///
    /// ```
    /// use trellis_engine_traits::KeyRange;
    ///
    /// let range = KeyRange::prefix(b"a\xff");
    /// assert!(range.contains(b"a\xff") && range.contains(b"a\xff\x00"));
    /// assert!(!range.contains(b"b") && !range.contains(b"a"));
    /// ```
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self::new(Bytes::copy_from_slice(prefix), Some(end.into()));
            }
        }
        Self::new(Bytes::copy_from_slice(prefix), None)
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= *self.start && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// What has to hold before a batch is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(At),
    /// The key exists.
    Present(At),
    /// The key exists with exactly this value.
    Equals(At, Bytes),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Stores a value, replacing any other.
    Put(At, Bytes),
    /// Removes a key; that it does not exist is no error.
    Delete(At),
    /// Removes every key of a range.
    DeleteRange(SpaceId, KeyRange),
}

/// Guards and changes that are applied as one: plain data, no transaction held open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// All must hold against the state before the batch.
    pub guards: Vec<Guard>,
    /// Applied in order; a later change sees the earlier ones.
    pub ops: Vec<Op>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { guards: Vec::new(), ops: Vec::new() }
    }

    /// Adds a guard.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, space: SpaceId, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put(At::new(space, key), value.into()));
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, space: SpaceId, key: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Delete(At::new(space, key)));
        self
    }

    /// Adds the removal of a range.
    #[must_use]
    pub fn delete_range(mut self, space: SpaceId, range: KeyRange) -> Self {
        self.ops.push(Op::DeleteRange(space, range));
        self
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When it is visible; a flush makes it durable later.
    Buffered,
    /// When it would survive loss of power.
    Synced,
}

/// The position of a commit among all commits of an open store; strictly increasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub u64);

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// What to scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The space.
    pub space: SpaceId,
    /// The keys; an empty range visits nothing.
    pub range: KeyRange,
    /// The order of the visit.
    pub direction: Direction,
}

impl Scan {
    /// Ascending over `range`.
    #[must_use]
    pub const fn forward(space: SpaceId, range: KeyRange) -> Self {
        Self { space, range, direction: Direction::Forward }
    }

    /// Descending over `range`.
    #[must_use]
    pub const fn reverse(space: SpaceId, range: KeyRange) -> Self {
        Self { space, range, direction: Direction::Reverse }
    }
}

/// Receives key and value of each pair; `Break` ends the scan after this pair.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Why a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScanEnd {
    /// Every pair of the range was visited.
    Exhausted,
    /// The visitor said so; the last pair it saw is where to go on.
    Stopped,
}

/// The largest inputs an engine accepts; one more is answered with
/// [`TooLarge`](ErrorKind::TooLarge).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLimits {
    /// Bytes of a key; at least 1,100 on every engine.
    pub key_bytes_max: usize,
    /// Bytes of a value; at least 16 MiB on every engine.
    pub value_bytes_max: usize,
    /// Operations and guards of a batch; at least 1,000,000 on every engine.
    pub batch_ops_max: usize,
    /// Bytes of all keys and values of a batch; at least 64 MiB on every engine.
    pub batch_bytes_max: usize,
}

impl KvLimits {
    /// The limits that every adapter accepts unless its engine has smaller ones.
    pub const DEFAULT: Self = Self {
        key_bytes_max: 4096,
        value_bytes_max: 32 << 20,
        batch_ops_max: 4_000_000,
        batch_bytes_max: 256 << 20,
    };

    /// Checks a whole batch; an adapter calls this before it touches its engine.
    ///
    /// # Errors
    /// `TooLarge`, naming the limit.
    pub fn check(&self, batch: &WriteBatch) -> Result<()> {
        let too_large = |what: &'static str, limit: usize| {
            Err(Error::new(ErrorKind::TooLarge, format!("the batch exceeds {what}"))
                .operation("commit")
                .context(what, limit))
        };
        if batch.ops.len() + batch.guards.len() > self.batch_ops_max {
            return too_large("batch_ops_max", self.batch_ops_max);
        }
        let mut total_bytes = 0usize;
        let parts = batch.guards.iter().map(Guard::sizes).chain(batch.ops.iter().map(Op::sizes));
        for (key_bytes, value_bytes) in parts {
            if key_bytes > self.key_bytes_max {
                return too_large("key_bytes_max", self.key_bytes_max);
            }
            if value_bytes > self.value_bytes_max {
                return too_large("value_bytes_max", self.value_bytes_max);
            }
            total_bytes = total_bytes.saturating_add(key_bytes).saturating_add(value_bytes);
        }
        if total_bytes > self.batch_bytes_max {
            return too_large("batch_bytes_max", self.batch_bytes_max);
        }
        Ok(())
    }
}

impl Guard {
    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Absent(at) | Self::Present(at) => (at.key.len(), 0),
            Self::Equals(at, value) => (at.key.len(), value.len()),
        }
    }
}

impl Op {
    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Put(at, value) => (at.key.len(), value.len()),
            Self::Delete(at) => (at.key.len(), 0),
            Self::DeleteRange(_, range) => {
                (range.start.len().max(range.end.as_ref().map_or(0, Bytes::len)), 0)
            }
        }
    }
}

/// What a store says of itself; constant while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvProfile {
    /// The stem of the crate, the feature and the URL scheme: `redb`.
    pub name: &'static str,
    /// The largest inputs.
    pub limits: KvLimits,
    /// Where the data is after the process has ended.
    pub persistence: Persistence,
    /// Promises that the adapter provides because the engine does not.
    pub emulated: &'static [Semantic],
    /// Abilities beyond the contract.
    pub optional: &'static [Ability],
}

/// Ordered bytes with atomic batches and frozen views. Calls block: async callers go through the
/// runtime service.
///
/// # Contract
/// - `kv.profile.constant`: the profile stays the same while the store is open.
/// - `kv.snapshot.current`: a snapshot holds every commit that had returned before the call.
/// - `kv.snapshot.frozen`: a snapshot never shows a later commit, nor part of one.
/// - `kv.snapshot.outlives`: a snapshot stays readable while later commits and flushes go on.
/// - `kv.commit.guards`: guards are tested against the state before the batch; if one fails,
///   nothing is changed and the answer is `Conflict`.
/// - `kv.commit.guard_race`: of commits that race for one guard, exactly one succeeds.
/// - `kv.commit.atomic`: after a crash at any point all changes of a batch are there or none.
/// - `kv.commit.order`: changes of a batch take effect in their order; commits are totally ordered,
///   and their numbers strictly increase.
/// - `kv.commit.prefix`: after a crash the store holds a prefix of its commits.
/// - `kv.commit.synced`: a `Synced` commit, and every one before it, survives loss of power.
/// - `kv.commit.limits`: a batch within the profile's limits is accepted, one beyond is refused
///   with `TooLarge` and changes nothing.
/// - `kv.delete_range.exact`: removes the keys of the range and no neighbour.
/// - `kv.flush.durable`: once it returns, all commits up to `seq` would survive loss of power.
/// - `kv.flush.unknown_seq`: a number that was never given out is `InvalidInput`.
/// - `kv.maintain.harmless`: maintenance changes nothing that can be read, beside readers and
///   writers.
/// - `kv.check.harmless`: a check finds nothing in an undamaged store and changes nothing that can
///   be read, beside readers and writers.
/// - `kv.usage.plausible`: live bytes grow with what is stored and fall after it is removed;
///   disk bytes are those of the files.
/// - `kv.close.idempotent`: closing twice is fine; every other call then answers `Closed`, on the
///   store and on its snapshots.
/// - `kv.close.durable`: what was committed before `close`, `Buffered` or not, is there at the next
///   open.
/// - `kv.open.exclusive`: a second open of the same files answers `Locked`.
/// - `kv.poison.writes`: after a failed flush, writes answer `Poisoned` until reopen; reads go on.
pub trait KvBackend: fmt::Debug + Send + Sync + 'static {
    /// What the store says of itself.
    fn profile(&self) -> &KvProfile;

    /// A frozen view of everything committed so far.
    ///
    /// # Errors
    /// `Closed`; `Unavailable` when the engine is out of handles.
    ///
    /// # Cost
    /// Microseconds. An open snapshot may keep old versions on disk: drop it within seconds.
    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>>;

    /// Tests all guards, then applies all changes, as one.
    ///
    /// # Errors
    /// `Conflict`, `TooLarge`, `InvalidInput`, `Unavailable`, `Closed`, `Poisoned`: nothing was
    /// changed. `OutcomeUnknown`: the batch may be there after a reopen, whole or not at all. After
    /// `Unavailable` with `reason=storage_full` a store may keep its last room for small batches;
    /// an empty one then asks whether there is room again.
    ///
    /// # Durability
    /// Visible when it returns; durable then if `Synced`, else after the next flush.
    ///
    /// # Cost
    /// One writer at a time; blocks while another commits. Sorted batches are cheapest.
    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq>;

    /// Returns once all commits up to `seq` would survive loss of power.
    ///
    /// # Errors
    /// `InvalidInput` for a number never given out; `Closed`, `Poisoned`; `OutcomeUnknown` when the
    /// engine failed to sync, after which writes answer `Poisoned`.
    fn flush(&self, seq: CommitSeq) -> Result<()>;

    /// One bounded slice of compaction, checkpointing or vacuuming; with
    /// [`MaintenanceBudget::UNBOUNDED`] also what the engine cannot do in slices.
    ///
    /// # Errors
    /// `Busy` when an unbounded one needs the store without open views; `Closed`, `Unavailable`.
    /// The data is as before.
    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport>;

    /// Has the engine check its own files, as far as it can at this moment.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`: could not be checked. Damage is no error: the answer is for it.
    ///
    /// # Cost
    /// Reads all files; seconds for a gigabyte. Writers may wait meanwhile.
    fn check(&self) -> Result<EngineCheck>;

    /// The space taken, live and on disk.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`.
    fn usage(&self) -> Result<SpaceUsage>;

    /// Makes everything durable and gives the files free. Idempotent.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the last flush failed; the store is closed all the same.
    fn close(&self) -> Result<()>;
}

/// A frozen view of a [`KvBackend`]; may be read by several threads.
///
/// # Contract
/// - `kv.get.exact`: answers the value of exactly this key in this space.
/// - `kv.scan.order`: visits the pairs of the range once each, in unsigned byte order, ascending or
///   descending.
/// - `kv.scan.bounds`: includes the start of the range and excludes its end, in both directions.
/// - `kv.scan.stop`: visits nothing after the visitor breaks, and says `Stopped`.
/// - `kv.scan.spaces`: never leaves its space.
pub trait KvSnapshot: fmt::Debug + Send + Sync {
    /// The last commit that the view holds.
    fn seq(&self) -> CommitSeq;

    /// The value of a key.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Unavailable`.
    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the pairs of a range in order, without copying them.
    ///
    /// # Errors
    /// As for `get`; what was visited before is valid.
    ///
    /// # Caller must
    /// not call this snapshot again from within the visitor: engines may hold a lock meanwhile.
    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd>;
}

/// Conveniences over any snapshot.
pub trait KvSnapshotExt: sealed::Sealed {
    /// The pairs of a scan, at most `limit`.
    ///
    /// # Errors
    /// As for [`KvSnapshot::scan`].
    fn collect(&self, scan: &Scan, limit: usize) -> Result<Vec<(Bytes, Bytes)>>;
}

impl<S: KvSnapshot + ?Sized> KvSnapshotExt for S {
    fn collect(&self, scan: &Scan, limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let mut pairs = Vec::new();
        if limit == 0 {
            return Ok(pairs);
        }
        self.scan(scan, &mut |key, value| {
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if pairs.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(pairs)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<S: super::KvSnapshot + ?Sized> Sealed for S {}
}
