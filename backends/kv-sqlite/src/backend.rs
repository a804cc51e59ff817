//! [`SqliteKv`]: the trait, on one writing connection and a pool of reading ones.
//!
//! Lock order: `writer`, then `visible`, then `views`. `visible` is held while a transaction
//! becomes visible and while a view is pinned, so that all connections of a view see one state.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use trellis_engine_traits::{
    Ability, CommitSeq, Durability, EngineCheck, ErrorKind, KvBackend, KvLimits, KvProfile,
    KvSnapshot, MaintenanceBudget, MaintenanceReport, Persistence, Result, SpaceUsage, WriteBatch,
};

use crate::lock::ExclusiveLock;
use crate::options::{SqliteOptions, open_reader};
use crate::snapshot::{Pinned, Pool, SqliteSnapshot, pin};
use crate::write::Writer;
use crate::{error, read, room};

const PROFILE: KvProfile = KvProfile {
    name: error::BACKEND,
    limits: KvLimits::DEFAULT,
    persistence: Persistence::Disk,
    emulated: &[],
    optional: &[Ability::ReclaimDisk],
};

const PAGE_BYTES: u64 = 4096;
/// Free pages are left in the file up to this part of it: what is freed is soon used again.
const FREE_PAGES_PART: u64 = 8;

/// An ordered store in one SQLite file. See [`SqliteKv::open`] for an example.
///
/// Dropping it closes it.
pub struct SqliteKv {
    path: PathBuf,
    options: SqliteOptions,
    writer: Mutex<Option<(Writer, ExclusiveLock)>>,
    visible: Mutex<CommitSeq>,
    views: Mutex<Vec<Weak<Pinned>>>,
    pool: Arc<Pool>,
    closed: Arc<AtomicBool>,
}

impl SqliteKv {
    pub(crate) fn assemble(
        path: PathBuf,
        options: SqliteOptions,
        lock: ExclusiveLock,
        writer: Writer,
    ) -> Self {
        Self {
            path,
            options,
            writer: Mutex::new(Some((writer, lock))),
            visible: Mutex::default(),
            views: Mutex::default(),
            pool: Arc::default(),
            closed: Arc::default(),
        }
    }

    fn writer(&self, operation: &'static str) -> Result<MappedMutexGuard<'_, Writer>> {
        MutexGuard::try_map(self.writer.lock(), |it| it.as_mut().map(|(writer, _)| writer))
            .map_err(|_| error::closed().operation(operation))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed()) } else { Ok(()) }
    }

    /// The views that are still held.
    fn views(&self) -> Vec<Arc<Pinned>> {
        let mut views = self.views.lock();
        views.retain(|view| view.strong_count() > 0);
        views.iter().filter_map(Weak::upgrade).collect()
    }

    fn pinned(&self) -> Result<Pinned> {
        self.check_open()?;
        let mut connections = Vec::new();
        for _ in 0..self.options.readers.max(1) {
            connections.push(match self.pool.take() {
                Some(connection) => connection,
                None => open_reader(&self.path, &self.options)?,
            });
        }
        let visible = self.visible.lock();
        connections.iter().try_for_each(pin).map_err(error::sqlite)?;
        Ok(Pinned::new(*visible, connections, &self.pool, &self.closed))
    }

    /// Copies the log into the file, and lets the log start again if nothing keeps it.
    fn shorten_log(&self, writer: &mut Writer) -> Result<()> {
        let log = writer.copy_log()?;
        if log.copied_frames == log.frames {
            let newest = *self.visible.lock();
            self.views().iter().filter(|view| view.seq == newest).for_each(|view| view.pin_anew());
        }
        Ok(())
    }

    fn log_is_long(&self, writer: &Writer) -> Result<bool> {
        let log_bytes = writer.log_state()?.frames.unsigned_abs() * PAGE_BYTES;
        Ok(log_bytes > self.options.wal_bytes_max)
    }

    fn write(
        &self,
        writer: &mut Writer,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<CommitSeq> {
        writer.check()?;
        PROFILE.limits.check(batch).map_err(|error| error.backend(error::BACKEND))?;
        if self.log_is_long(writer)? {
            self.shorten_log(writer)?;
        }
        self.make_room(writer, batch)?;
        writer.apply(batch, durability)?;
        let mut visible = self.visible.lock();
        writer.commit(durability)?;
        *visible = CommitSeq(visible.0 + 1);
        Ok(*visible)
    }

    /// Answers `Unavailable` when the disk has no room for the batch.
    fn make_room(&self, writer: &mut Writer, batch: &WriteBatch) -> Result<()> {
        // What the log holds may have to be copied as well.
        let most_bytes = room::needed_bytes(batch, u64::MAX) + self.options.wal_bytes_max;
        if !writer.room.is_scarce() && room::is_plenty(&self.path, most_bytes) {
            return Ok(());
        }
        let held_bytes = writer.number("PRAGMA page_count")? * PAGE_BYTES;
        let needed_bytes = room::needed_bytes(batch, held_bytes);
        if !writer.room.concerns(batch, needed_bytes) {
            return Ok(());
        }
        let free_bytes = writer.number("PRAGMA freelist_count")? * PAGE_BYTES;
        // By so much the file grows when the log is copied into it.
        let file_bytes = fs::metadata(&self.path).map_err(error::io)?.len();
        let owed_bytes = held_bytes.saturating_sub(file_bytes);
        writer.room.check(&self.path, needed_bytes, free_bytes, owed_bytes)
    }

    fn reclaim(&self, writer: &mut Writer, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        writer.check()?;
        self.shorten_log(writer)?;
        let pages = writer.number("PRAGMA page_count")?;
        let free = writer.number("PRAGMA freelist_count")?;
        let kept = if budget == MaintenanceBudget::UNBOUNDED { 0 } else { pages / FREE_PAGES_PART };
        let too_many = free.saturating_sub(kept);
        // About 20 microseconds a page; the clock is not ours to read.
        let affordable = u64::try_from(budget.time.as_micros() / 20).unwrap_or(u64::MAX);
        let slice = too_many.min(affordable.clamp(16, 16 << 10));
        if slice == 0 {
            return Ok(MaintenanceReport::default());
        }
        writer.vacuum(slice)?;
        self.shorten_log(writer)?;
        let gone = pages.saturating_sub(writer.number("PRAGMA page_count")?);
        Ok(MaintenanceReport { reclaimed_bytes: gone * PAGE_BYTES, more: too_many > slice })
    }

    fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            match fs::metadata(name) {
                Ok(file) => bytes += file.len(),
                Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => {}
                Err(failure) => return Err(error::io(failure)),
            }
        }
        Ok(bytes)
    }
}

impl KvBackend for SqliteKv {
    fn profile(&self) -> &KvProfile {
        &PROFILE
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let pinned = Arc::new(self.pinned().map_err(|error| error.operation("snapshot"))?);
        let mut views = self.views.lock();
        views.retain(|view| view.strong_count() > 0);
        views.push(Arc::downgrade(&pinned));
        Ok(Box::new(SqliteSnapshot(pinned)))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        let mut writer = self.writer("commit")?;
        self.write(&mut writer, batch, durability).map_err(|error| error.operation("commit"))
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        let mut writer = self.writer("flush")?;
        let last = *self.visible.lock();
        if seq > last {
            return Err(error::unknown_seq(seq.0, last.0).operation("flush"));
        }
        let synced = writer.check().and_then(|()| writer.sync());
        synced.map_err(|error| error.operation("flush"))
    }

    fn maintain(&self, budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        let mut writer = self.writer("maintain")?;
        self.reclaim(&mut writer, budget).map_err(|error| error.operation("maintain"))
    }

    fn check(&self) -> Result<EngineCheck> {
        self.check_open().map_err(|error| error.operation("check"))?;
        // A connection of its own: writers go on, and the log cannot start again meanwhile.
        let found = open_reader(&self.path, &self.options)
            .and_then(|connection| read::integrity(&connection));
        match found {
            Ok(damage) => Ok(EngineCheck { damage, skipped: None }),
            Err(failure) if failure.kind() == ErrorKind::Corrupt => {
                Ok(EngineCheck::damaged(failure.to_string()))
            }
            Err(failure) => Err(failure.operation("check")),
        }
    }

    fn usage(&self) -> Result<SpaceUsage> {
        let writer = self.writer("usage")?;
        let pages = writer.number("PRAGMA page_count")?;
        let used = pages.saturating_sub(writer.number("PRAGMA freelist_count")?);
        drop(writer);
        let disk_bytes = self.disk_bytes().map_err(|error| error.operation("usage"))?;
        Ok(SpaceUsage { live_bytes: used * PAGE_BYTES, disk_bytes })
    }

    fn close(&self) -> Result<()> {
        let mut slot = self.writer.lock();
        self.closed.store(true, Ordering::Release);
        let Some((mut writer, lock)) = slot.take() else { return Ok(()) };
        self.views().iter().for_each(|view| view.release());
        self.pool.clear();
        let synced = writer.check().map_err(error::outcome_unknown).and_then(|()| writer.sync());
        // The log alone would do: copying it only makes the next open quicker.
        drop(writer.copy_log());
        drop((writer, lock));
        synced.map_err(|error| error.operation("close"))
    }
}

impl Drop for SqliteKv {
    fn drop(&mut self) {
        // A failure cannot be answered here; what was durable still is.
        drop(self.close());
    }
}

impl fmt::Debug for SqliteKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteKv").field("path", &self.path).finish_non_exhaustive()
    }
}
