//! [`Backup`]: a tree becomes an archive while it goes on being written.
//!
//! Invariant: no view of the tree outlives a page, and the journal is held from the rev at which
//! the reading of the entries began.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::{Alarm, Clock, Runtime};
use trellis_tree::{EntrySpace, JournalHold, JournalRecord, Position, Tree};

use crate::encode::{Encoder, EntriesBody};
use crate::format::{ArchiveKind, Header, Summary};

/// Bytes of one page of entries or of records; the last one of each may go beyond.
const PAGE_BYTES: usize = 1 << 20;
/// So much is read a second while somebody writes, who needs the cores and the disk more.
const BYTES_PER_SECOND_BESIDE_WRITERS: u64 = 112 << 20;

#[derive(Debug)]
enum Stage {
    Begin,
    Entries(EntrySpace, Bytes),
    Records { until: u64 },
    Over,
}

/// An archive in the making. It is pulled: whoever takes its chunks sets the pace, but for some
/// 112 MiB a second, beyond which it waits while others write.
///
/// ```
/// use std::sync::Arc;
/// use trellis_archive::{Backup, parse};
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
///
/// let runtime = Runtime::system();
/// let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
/// let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default())?;
/// tree.commit(Commit::set(Path::parse("a")?, Input::parse(b"1")?)).unwrap();
/// let mut bytes = Vec::new();
/// let summary = Backup::full(&tree, &runtime)?.write_to(&mut bytes, &mut |_| {})?;
/// assert_eq!(summary.trailer.end.rev, 1);
/// assert_eq!(parse(&bytes)?, summary);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug)]
pub struct Backup {
    tree: Tree,
    _hold: JournalHold,
    header: Header,
    encoder: Option<Encoder>,
    stage: Stage,
    first_rev: u64,
    bytes: u64,
    pace: Pace,
}

/// Leaves writers room: a page is not read before the one before it had its time.
#[derive(Debug)]
struct Pace {
    clock: Arc<dyn Clock>,
    /// The newest rev when the last page was read.
    rev: u64,
    next_at: Duration,
}

impl Pace {
    fn new(runtime: &Runtime, rev: u64) -> Self {
        Self { clock: Arc::clone(runtime.clock()), rev, next_at: Duration::ZERO }
    }

    /// Waits if somebody has written since the last page; `bytes` is what that page had.
    fn keep(&mut self, rev: u64, bytes: usize) {
        let time = Duration::from_secs(bytes as u64).as_nanos()
            / u128::from(BYTES_PER_SECOND_BESIDE_WRITERS);
        let time = Duration::from_nanos(u64::try_from(time).unwrap_or(0));
        let now = self.clock.monotonic();
        self.next_at = self.next_at.saturating_add(time).max(now);
        let is_written = std::mem::replace(&mut self.rev, rev) != rev;
        // A clock that somebody moves by hand would have to be moved for us.
        if is_written && self.clock.runs() {
            Alarm::new(self.clock.as_ref()).wait(self.clock.as_ref(), Some(self.next_at));
        }
    }
}

impl Backup {
    /// Everything, at a rev that is known when it ends.
    ///
    /// # Errors
    /// `Closed`; those of the engines.
    pub fn full(tree: &Tree, runtime: &Runtime) -> Result<Self> {
        let created_ms = runtime.clock().now_ms();
        let (hold, from) = tree.hold_journal()?;
        Self::new(tree, hold, ArchiveKind::Full, from, created_ms, runtime)
    }

    /// What was committed after a rev, the end of another archive.
    ///
    /// # Errors
    /// `NotFound` when the journal no longer reaches back that far: take a full one. `InvalidInput`
    /// for a rev that is not there yet; `Closed`; those of the engines.
    pub fn incremental(tree: &Tree, runtime: &Runtime, since: u64) -> Result<Self> {
        let created_ms = runtime.clock().now_ms();
        let hold = tree.hold_journal_after(since)?;
        let newest = tree.position();
        let from = if newest.rev == since {
            newest
        } else {
            let next = tree.read_journal(since, 1)?;
            let hash = next.first().map(|record| record.previous).unwrap_or_default();
            Position { rev: since, hash }
        };
        Self::new(tree, hold, ArchiveKind::Incremental, from, created_ms, runtime)
    }

    fn new(
        tree: &Tree,
        hold: JournalHold,
        kind: ArchiveKind,
        from: Position,
        created_ms: u64,
        runtime: &Runtime,
    ) -> Result<Self> {
        let identity = tree.identity();
        let log_id = u128::from_str_radix(&identity.log_id, 16).map_err(|source| {
            Error::new(ErrorKind::Corrupt, "the journal's id is none").source(source)
        })?;
        let header = Header { kind, log_id, epoch: identity.epoch, from, created_ms };
        Ok(Self {
            tree: tree.clone(),
            _hold: hold,
            header,
            encoder: None,
            stage: Stage::Begin,
            first_rev: from.rev,
            bytes: 0,
            pace: Pace::new(runtime, from.rev),
        })
    }

    /// What the archive says of itself at its beginning.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was written so far; that of the whole archive once there are no more chunks.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            header: self.header,
            first_rev: self.first_rev,
            trailer: self.encoder.as_ref().map(|encoder| encoder.trailer).unwrap_or_default(),
            bytes: self.bytes,
        }
    }

    /// The next bytes of the archive, some 1 MiB; `None` when it is whole.
    ///
    /// # Errors
    /// Those of the tree. The archive is then cut short, and whoever reads it is told.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let chunk = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Begin => self.begin()?,
            Stage::Entries(space, start) => self.entries(space, start)?,
            Stage::Records { until } => self.records(until)?,
            Stage::Over => return Ok(None),
        };
        self.bytes += u64::try_from(chunk.len()).unwrap_or(0);
        self.pace.keep(self.tree.position().rev, chunk.len());
        Ok(Some(chunk))
    }

    /// Writes the whole archive; `progress` is told after each chunk.
    ///
    /// # Errors
    /// `Unavailable` when the target does not take it; those of the tree.
    ///
    /// # Durability
    /// None: what the target does with the bytes is its own affair.
    pub fn write_to(
        mut self,
        target: &mut dyn Write,
        progress: &mut dyn FnMut(&Summary),
    ) -> Result<Summary> {
        let fail = |source: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "the archive cannot be written")
                .operation("backup")
                .source(source)
        };
        while let Some(chunk) = self.next_chunk()? {
            target.write_all(&chunk).map_err(fail)?;
            progress(&self.summary());
        }
        target.flush().map_err(fail)?;
        Ok(self.summary())
    }

    fn encoder(&mut self) -> Result<&mut Encoder> {
        let missing = || Error::new(ErrorKind::InvalidInput, "the archive was not begun");
        self.encoder.as_mut().ok_or_else(missing)
    }

    fn begin(&mut self) -> Result<Vec<u8>> {
        let (encoder, bytes) = Encoder::begin(&self.header)?;
        self.encoder = Some(encoder);
        self.stage = match self.header.kind {
            ArchiveKind::Full => Stage::Entries(EntrySpace::Leaves, Bytes::new()),
            ArchiveKind::Incremental => Stage::Records { until: self.tree.position().rev },
        };
        Ok(bytes)
    }

    /// One page of entries, at a rev of its own.
    fn entries(&mut self, space: EntrySpace, start: Bytes) -> Result<Vec<u8>> {
        let mut body = EntriesBody::new(space);
        let mut last = None;
        let view = self.tree.view()?;
        view.visit_entries(space, &start, &mut |key, value| {
            if body.push(key, value) >= PAGE_BYTES {
                last = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        self.first_rev = view.rev();
        drop(view);
        let rev = self.first_rev;
        let mut chunk = if body.is_empty() { Vec::new() } else { self.encoder()?.entries(body)? };
        self.stage = match (last, space.next()) {
            (Some(last), _) => {
                let mut next = last.to_vec();
                next.push(0);
                Stage::Entries(space, next.into())
            }
            (None, Some(space)) => Stage::Entries(space, Bytes::new()),
            (None, None) => {
                chunk.append(&mut self.encoder()?.entries_end(rev)?);
                Stage::Records { until: self.tree.position().rev }
            }
        };
        Ok(chunk)
    }

    fn records(&mut self, until: u64) -> Result<Vec<u8>> {
        let after = self.encoder()?.position().rev;
        let mut records: Vec<JournalRecord> = Vec::new();
        if after < until {
            records = self.tree.read_journal(after, PAGE_BYTES)?;
            records.retain(|record| record.rev <= until);
        }
        if records.is_empty() {
            return self.encoder()?.end();
        }
        self.stage = Stage::Records { until };
        self.encoder()?.records(&records)
    }
}

/// The bytes of an archive in the making, as a source to read from.
///
/// A failure of the tree is an [`std::io::Error`] around the tree's own error.
#[derive(Debug)]
pub struct BackupReader {
    backup: Backup,
    chunk: std::io::Cursor<Vec<u8>>,
}

impl Backup {
    /// The same archive as a source to read from.
    #[must_use]
    pub fn into_reader(self) -> BackupReader {
        BackupReader { backup: self, chunk: std::io::Cursor::default() }
    }
}

impl Read for BackupReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.chunk.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            match self.backup.next_chunk().map_err(std::io::Error::other)? {
                Some(chunk) => self.chunk = std::io::Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}
