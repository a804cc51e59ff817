//! [`StreamLog`]: append-only records with dense offsets.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Durability;
use crate::profile::{Persistence, Semantic};

/// The name of a stream: 1 to 128 bytes of `a-z`, `0-9`, `-`, `_` and `.`, not beginning with `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(String);

impl StreamId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// `InvalidInput` for a name outside the rule above.
    ///
    /// ```
    /// use trellis_engine_traits::StreamId;
    ///
    /// assert_eq!(StreamId::new("journal")?.as_str(), "journal");
    /// assert!(StreamId::new("../etc").is_err());
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn new(name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = name.bytes().all(|byte| fits(byte) || b"-_.".contains(&byte));
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !allowed {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a stream name is 1 to 128 bytes of a-z, 0-9, '-', '_' and '.', not first '.'",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of a record in its stream. The first record of a stream has offset 1; offsets are
/// dense and never used twice.
pub type Offset = u64;

/// What an append expects of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The first record gets exactly this offset, else `Conflict`. Makes a producer idempotent.
    Next(Offset),
}

/// Where appended records stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub first: Offset,
    /// The offset that the next append will begin with.
    pub next: Offset,
}

/// How much one read may visit. The first record is visited however large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBudget {
    /// Records.
    pub records_max: usize,
    /// Bytes of records.
    pub bytes_max: usize,
}

impl ReadBudget {
    /// No bound.
    pub const UNLIMITED: Self = Self { records_max: usize::MAX, bytes_max: usize::MAX };
}

/// Receives offset and bytes of each record; `Break` ends the read after this record.
pub type RecordVisitor<'a> = dyn FnMut(Offset, &[u8]) -> ControlFlow<()> + 'a;

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadEnd {
    /// The offset to go on from.
    pub next: Offset,
    /// Why it ended there.
    pub stop: ReadStop,
}

/// Why a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadStop {
    /// There is no later record.
    End,
    /// The budget is used up.
    Budget,
    /// The visitor said so.
    Stopped,
}

/// The extent of a stream. One that was never appended to has all three at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that can be read; equal to `next` when the stream holds nothing.
    pub first: Offset,
    /// The offset that the next append will begin with.
    pub next: Offset,
    /// Records below this offset would survive loss of power.
    pub durable_next: Offset,
}

/// The largest inputs a log accepts; one more is answered with `TooLarge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of a record; at least 17 MiB on every log.
    pub record_bytes_max: usize,
    /// Bytes of all records of one append; at least 64 MiB on every log.
    pub append_bytes_max: usize,
}

impl LogLimits {
    /// The limits that every adapter accepts unless its engine has smaller ones.
    pub const DEFAULT: Self = Self { record_bytes_max: 20 << 20, append_bytes_max: 128 << 20 };

    /// Checks the records of one append; an adapter calls this before it touches its engine.
    ///
    /// # Errors
    /// `TooLarge`, naming the limit.
    pub fn check(&self, records: &[Bytes]) -> Result<()> {
        let too_large = |what: &'static str, limit: usize| {
            Err(Error::new(ErrorKind::TooLarge, format!("the append exceeds {what}"))
                .operation("append")
                .context(what, limit))
        };
        if records.iter().any(|record| record.len() > self.record_bytes_max) {
            return too_large("record_bytes_max", self.record_bytes_max);
        }
        if records.iter().map(Bytes::len).sum::<usize>() > self.append_bytes_max {
            return too_large("append_bytes_max", self.append_bytes_max);
        }
        Ok(())
    }
}

/// What a log says of itself; constant while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProfile {
    /// The stem of the crate, the feature and the URL scheme: `segment`.
    pub name: &'static str,
    /// The largest inputs.
    pub limits: LogLimits,
    /// Where the records are after the process has ended.
    pub persistence: Persistence,
    /// Promises that the adapter provides because the engine does not.
    pub emulated: &'static [Semantic],
}

/// Append-only records in named streams, with dense offsets. Calls block: async callers go through
/// the runtime service.
///
/// # Contract
/// - `log.profile.constant`: the profile stays the same while the log is open.
/// - `log.append.dense`: offsets begin at 1, grow by one a record, and are never used twice, not
///   after a trim, a crash or a reopen of durable records.
/// - `log.append.atomic`: the records of one append are all there or none, also after a crash.
/// - `log.append.expect`: `Expect::Next(n)` with another next offset answers `Conflict` and appends
///   nothing; of appends that race for one offset exactly one succeeds.
/// - `log.append.synced`: a `Synced` append, and every earlier one of the stream, survives loss of
///   power once it returns.
/// - `log.append.visible`: records can be read as soon as the append returns.
/// - `log.append.empty`: an append of no records changes nothing and answers the next offset.
/// - `log.append.limits`: records within the profile's limits are accepted, others refused with
///   `TooLarge`, and nothing is appended.
/// - `log.append.clean_failure`: `Unavailable` means that nothing was appended and the log goes on;
///   any failure after bytes may have reached the medium is `OutcomeUnknown` and poisons.
/// - `log.read.order`: visits each record from `from` on once, in offset order, unchanged.
/// - `log.read.budget`: stops at the budget, but visits at least one record if there is one.
/// - `log.read.trimmed`: reading below `first` answers `NotFound` and the fact `first`.
/// - `log.read.beyond`: reading beyond `next` answers `InvalidInput`; at `next` it visits nothing.
/// - `log.streams.independent`: streams do not see each other's records, offsets or trims.
/// - `log.streams.listed`: every stream that was appended to is listed once, in byte order, paged.
/// - `log.trim.front`: removes records before `before` and no other; may keep more than asked (up
///   to its own granularity), never leaves a hole, and keeps `next`.
/// - `log.trim.bounds`: trimming below `first` changes nothing; beyond `next` is `InvalidInput`.
/// - `log.bounds.durable`: `durable_next` never exceeds `next`, never falls while open, and equals
///   `next` after a `Synced` append or a flush.
/// - `log.flush.durable`: once it returns, records below `up_to` would survive loss of power.
/// - `log.recover.prefix`: after a crash a stream holds a prefix of what was appended, with at
///   least what was durable.
/// - `log.recover.damage`: a damaged record before the proven durable end is `Corrupt`, never taken
///   for the end of the log.
/// - `log.close.idempotent`: closing twice is fine; every other call then answers `Closed`.
/// - `log.close.durable`: what was appended before `close`, `Buffered` or not, is there at the next
///   open.
/// - `log.open.exclusive`: a second open of the same files answers `Locked`.
/// - `log.poison.writes`: after a failed flush, appends answer `Poisoned` until a reopen; reads go
///   on.
pub trait StreamLog: fmt::Debug + Send + Sync + 'static {
    /// What the log says of itself.
    fn profile(&self) -> &LogProfile;

    /// Appends records to a stream, all or none; creates the stream at its first record.
    ///
    /// # Errors
    /// `Conflict`, `TooLarge`, `Unavailable`, `Closed`, `Poisoned`: nothing was appended. After
    /// `Unavailable` with `reason=storage_full` a log may keep its last room for what is appended
    /// next; an append of no records then asks whether there is room again.
    /// `OutcomeUnknown`: the records may be there after a reopen, all or none; until then appends
    /// answer `Poisoned`.
    ///
    /// # Durability
    /// Readable when it returns; durable then if `Synced`, else after the next flush.
    ///
    /// # Cost
    /// One sequential write and, if `Synced`, one flush, however many records.
    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended>;

    /// Visits records from `from` on.
    ///
    /// # Errors
    /// `NotFound` below `first`, `InvalidInput` beyond `next`, `Corrupt`, `Unavailable`, `Closed`;
    /// what was visited before is valid.
    ///
    /// # Caller must
    /// not call this log again from within the visitor.
    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd>;

    /// The extent of a stream.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`.
    fn bounds(&self, stream: &StreamId) -> Result<Bounds>;

    /// Gives free what is before `before`, as far as the log's granularity allows.
    ///
    /// # Errors
    /// `InvalidInput` beyond `next`; `Closed`, `Unavailable`, `Poisoned`.
    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()>;

    /// Returns once the records below `up_to` would survive loss of power.
    ///
    /// # Errors
    /// `InvalidInput` beyond `next`; `Closed`, `Poisoned`; `OutcomeUnknown` when the medium failed,
    /// after which appends answer `Poisoned`.
    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()>;

    /// The streams after `after` in byte order, at most `limit`.
    ///
    /// # Errors
    /// `Closed`, `Unavailable`.
    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>>;

    /// Makes everything durable and gives the files free. Idempotent.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the last flush failed; the log is closed all the same.
    fn close(&self) -> Result<()>;
}
