//! [`RedbKv`]: the trait, on transactions of redb.
//!
//! Invariants: `writer` is held for a whole write, so commits are totally ordered; the database is
//! taken out by `close` alone, under `writer`. Once `poisoned`, nothing is written until a reopen.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use redb::Database;
use trellis_engine_traits::{
    CommitSeq, Durability, EngineCheck, Error, ErrorKind, KvBackend, KvLimits, KvProfile,
    KvSnapshot, MaintenanceBudget, MaintenanceReport, Persistence, Result, SpaceUsage, WriteBatch,
};

use crate::room::Room;
use crate::snapshot::RedbSnapshot;
use crate::state::State;
use crate::{error, room, write};

const PROFILE: KvProfile = KvProfile {
    name: error::BACKEND,
    limits: KvLimits::DEFAULT,
    persistence: Persistence::Disk,
    emulated: &[],
    optional: &[],
};

/// After so many `Buffered` commits one is synced: redb's first sync after very many of them takes
/// about a second.
const BUFFERED_COMMITS_MAX: u32 = 8192;

/// An ordered store in one redb file. See [`RedbKv::open`] for an example.
///
/// Dropping it closes it.
pub struct RedbKv {
    database: RwLock<Option<Database>>,
    writer: Mutex<Writer>,
    live_bytes: AtomicU64,
    closed: Arc<AtomicBool>,
    path: PathBuf,
}

#[derive(Debug)]
struct Writer {
    state: State,
    buffered_commits: u32,
    /// What the `Buffered` commits may yet take on the disk.
    buffered_bytes: u64,
    room: Room,
    poisoned: bool,
}

impl Writer {
    fn check(&self, operation: &'static str) -> Result<()> {
        if self.poisoned { Err(error::poisoned().operation(operation)) } else { Ok(()) }
    }

    /// redb refuses every write after a failure of the medium, even one before anything was
    /// changed: so no such failure may read as if the same write could be tried again.
    fn give_up(&mut self, failure: Error) -> Error {
        match failure.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => {
                self.poisoned = true;
                error::outcome_unknown(failure)
            }
            ErrorKind::Corrupt => {
                self.poisoned = true;
                failure
            }
            _ => failure,
        }
    }
}

impl RedbKv {
    pub(crate) fn assemble(database: Database, path: PathBuf, state: State) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            live_bytes: AtomicU64::new(state.live_bytes),
            writer: Mutex::new(Writer {
                state,
                buffered_commits: 0,
                buffered_bytes: 0,
                room: Room::default(),
                poisoned: false,
            }),
            closed: Arc::default(),
            path,
        }
    }

    fn database(&self, operation: &'static str) -> Result<MappedRwLockReadGuard<'_, Database>> {
        RwLockReadGuard::try_map(self.database.read(), Option::as_ref)
            .map_err(|_| error::closed().operation(operation))
    }

    /// Writes a batch as one transaction; the caller has tested everything.
    fn write(
        &self,
        database: &Database,
        writer: &mut Writer,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<CommitSeq> {
        let transaction = write::begin(database, durability)?;
        let live_bytes = write::apply(&transaction, &batch.ops, writer.state.live_bytes)?;
        let state = State { seq: writer.state.seq + 1, live_bytes };
        write::put_state(&transaction, state)?;
        self.finish(transaction, writer, durability)?;
        writer.state = state;
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        Ok(CommitSeq(state.seq))
    }

    fn finish(
        &self,
        transaction: redb::WriteTransaction,
        writer: &mut Writer,
        durability: Durability,
    ) -> Result<()> {
        match transaction.commit() {
            Ok(()) => {
                if durability == Durability::Synced {
                    (writer.buffered_commits, writer.buffered_bytes) = (0, 0);
                } else {
                    writer.buffered_commits += 1;
                }
                Ok(())
            }
            Err(redb::CommitError::TransactionPoisoned) => {
                Err(error::commit(redb::CommitError::TransactionPoisoned))
            }
            Err(failure) => {
                writer.poisoned = true;
                Err(error::outcome_unknown(error::commit(failure)))
            }
        }
    }

    /// Answers `Unavailable` when the disk has no room for the batch beside what is `Buffered`.
    fn make_room(
        &self,
        database: &Database,
        writer: &mut Writer,
        batch: &WriteBatch,
    ) -> Result<()> {
        let needed_bytes = room::needed_bytes(batch, 2 * writer.state.live_bytes);
        if !writer.room.concerns(batch, needed_bytes) {
            return Ok(());
        }
        let wanted = needed_bytes.saturating_add(writer.buffered_bytes);
        if writer.buffered_bytes > 0 && !room::is_plenty(&self.path, wanted) {
            // What is buffered may take less than was feared: let it take its room before asking.
            self.sync(database, writer)?;
        }
        let wanted = needed_bytes.saturating_add(writer.buffered_bytes);
        let free_bytes = self.free_bytes(writer);
        writer.room.check(&self.path, wanted, free_bytes)?;
        writer.buffered_bytes = writer.buffered_bytes.saturating_add(needed_bytes);
        Ok(())
    }

    /// Hands the database to a call that nobody may read or write beside.
    fn alone<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut Database) -> Result<T>,
    ) -> Result<T> {
        let mut writer = self.writer.lock();
        writer.check(operation)?;
        self.sync(&*self.database(operation)?, &mut writer)?;
        let mut slot = self.database.write();
        let database = slot.as_mut().ok_or_else(|| error::closed().operation(operation))?;
        let called = error::damage_caught(|| call(database));
        called.map_err(|failure| {
            // After a failure in the middle redb itself takes no writes until a reopen.
            writer.poisoned |= failure.kind() != ErrorKind::Busy;
            failure.operation(operation)
        })
    }

    /// Bytes that removals have left free within the file, by a cautious guess: pages are rarely
    /// less than half full.
    fn free_bytes(&self, writer: &Writer) -> u64 {
        let held_bytes = fs::metadata(&self.path).map_or(0, |file| taken_bytes(&file));
        (held_bytes / 2).saturating_sub(writer.state.live_bytes)
    }

    /// Makes every commit so far durable with an empty transaction.
    fn sync(&self, database: &Database, writer: &mut Writer) -> Result<()> {
        if writer.buffered_commits == 0 {
            return Ok(());
        }
        let synced = error::damage_caught(|| {
            let transaction = write::begin(database, Durability::Synced)?;
            self.finish(transaction, writer, Durability::Synced)
        });
        synced.map_err(|failure| {
            writer.poisoned = true;
            match failure.kind() {
                ErrorKind::OutcomeUnknown => failure,
                _ => error::outcome_unknown(failure),
            }
        })
    }
}

/// What a file takes of the disk. Its length says little: redb doubles it ahead of its needs, and
/// what nobody has written takes nothing.
#[cfg(unix)]
fn taken_bytes(file: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    file.blocks() * 512
}

#[cfg(not(unix))]
fn taken_bytes(file: &fs::Metadata) -> u64 {
    file.len()
}

impl KvBackend for RedbKv {
    fn profile(&self) -> &KvProfile {
        &PROFILE
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let database = self.database("snapshot")?;
        let begun = error::damage_caught(|| RedbSnapshot::begin(&database, &self.closed));
        Ok(Box::new(begun.map_err(|error| error.operation("snapshot"))?))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        let mut writer = self.writer.lock();
        let database = self.database("commit")?;
        writer.check("commit")?;
        PROFILE.limits.check(batch).map_err(|error| error.backend(error::BACKEND))?;
        self.make_room(&database, &mut writer, batch).map_err(|it| it.operation("commit"))?;
        let durability = if writer.buffered_commits >= BUFFERED_COMMITS_MAX {
            Durability::Synced
        } else {
            durability
        };
        let committed = error::damage_caught(|| {
            if !batch.guards.is_empty() {
                RedbSnapshot::begin(&database, &self.closed)?.test(&batch.guards)?;
            }
            self.write(&database, &mut writer, batch, durability)
        });
        committed.map_err(|failure| writer.give_up(failure).operation("commit"))
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        let mut writer = self.writer.lock();
        let database = self.database("flush")?;
        writer.check("flush")?;
        if seq.0 > writer.state.seq {
            return Err(error::unknown_seq(seq.0, writer.state.seq));
        }
        self.sync(&database, &mut writer).map_err(|error| error.operation("flush"))
    }

    /// redb compacts a whole file or nothing, and only while no view is open.
    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        if budget != MaintenanceBudget::UNBOUNDED {
            drop(self.database("maintain")?);
            return Ok(MaintenanceReport::default());
        }
        let before = self.usage()?.disk_bytes;
        self.alone("maintain", |database| {
            loop {
                if !database.compact().map_err(error::compaction)? {
                    return Ok(());
                }
            }
        })?;
        let reclaimed_bytes = before.saturating_sub(self.usage()?.disk_bytes);
        Ok(MaintenanceReport { reclaimed_bytes, more: false })
    }

    fn check(&self) -> Result<EngineCheck> {
        let found =
            self.alone("check", |database| database.check_integrity().map_err(error::database));
        match found {
            Ok(true) => Ok(EngineCheck::complete()),
            Ok(false) => Ok(EngineCheck::damaged(
                "redb's record of free pages was wrong; redb has made it anew",
            )),
            Err(failure) => match failure.kind() {
                ErrorKind::Busy => Ok(EngineCheck::skipped(
                    "redb checks its file only while nobody reads it: stop the server",
                )),
                ErrorKind::Corrupt => Ok(EngineCheck::damaged(failure.to_string())),
                _ => Err(failure),
            },
        }
    }

    fn usage(&self) -> Result<SpaceUsage> {
        drop(self.database("usage")?);
        if self.path.as_os_str().is_empty() {
            let live_bytes = self.live_bytes.load(Ordering::Relaxed);
            return Ok(SpaceUsage { live_bytes, disk_bytes: 0 });
        }
        let file = fs::metadata(&self.path);
        let file = file.map_err(|error| error::io(error).operation("usage"))?;
        let disk_bytes = taken_bytes(&file);
        Ok(SpaceUsage { live_bytes: self.live_bytes.load(Ordering::Relaxed), disk_bytes })
    }

    fn close(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.closed.store(true, Ordering::Release);
        let Some(database) = self.database.write().take() else { return Ok(()) };
        let synced = writer.check("close").and_then(|()| self.sync(&database, &mut writer));
        let closed = error::damage_caught(|| database.close().map_err(error::database));
        synced.and(closed).map_err(|failure| match failure.kind() {
            ErrorKind::OutcomeUnknown => failure,
            _ => error::outcome_unknown(failure).operation("close"),
        })
    }
}

impl Drop for RedbKv {
    fn drop(&mut self) {
        // A failure cannot be answered here; what was durable still is.
        drop(self.close());
    }
}

impl std::fmt::Debug for RedbKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbKv").field("path", &self.path).finish_non_exhaustive()
    }
}
