//! [`SledKv`]: the trait, on sled below the version layer.
//!
//! Lock order: `writer`, then `versions`. `writer` is held for a whole write, so commits are
//! totally ordered; `versions` never while sled applies or flushes. Once `poisoned`, nothing is
//! written until a reopen.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock};
use sled::Db;
use trellis_engine_traits::{
    CommitSeq, Durability, EngineCheck, ErrorKind, KvBackend, KvLimits, KvProfile, KvSnapshot,
    MaintenanceBudget, MaintenanceReport, Persistence, Result, Semantic, SpaceUsage, WriteBatch,
};

use crate::files::{self, Syncer};
use crate::plan::{self, Plan};
use crate::room::Room;
use crate::snapshot::SledSnapshot;
use crate::versions::Versions;
use crate::{error, room};

const PROFILE: KvProfile = KvProfile {
    name: error::BACKEND,
    limits: KvLimits::DEFAULT,
    persistence: Persistence::Disk,
    emulated: &[Semantic::SnapshotIsolation, Semantic::PowerLossDurability, Semantic::RangeDelete],
    optional: &[],
};

/// An ordered store in a directory of sled. See [`SledKv::open`] for an example.
///
/// Dropping it closes it.
pub struct SledKv {
    writer: Mutex<Option<Writer>>,
    versions: Arc<RwLock<Versions>>,
    live_bytes: AtomicU64,
    path: PathBuf,
}

struct Writer {
    db: Db,
    syncer: Syncer,
    seq: u64,
    live_bytes: u64,
    unsynced: bool,
    room: Room,
    poisoned: bool,
    lock: File,
}

impl Writer {
    fn check(&self) -> Result<()> {
        if self.poisoned { Err(error::poisoned()) } else { Ok(()) }
    }

    /// Makes every commit so far durable. A failure poisons: nobody knows what the kernel dropped.
    fn sync(&mut self) -> Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        let synced = error::damage_caught(|| {
            self.db.flush().map_err(error::sled)?;
            self.syncer.sync().map_err(error::io)
        });
        match synced {
            Ok(()) => {
                self.unsynced = false;
                Ok(())
            }
            Err(failure) => {
                self.poisoned = true;
                Err(error::outcome_unknown(failure))
            }
        }
    }

    fn apply(&mut self, plan: Plan) -> Result<()> {
        self.unsynced = true;
        let db = &self.db;
        let applied = error::damage_caught(|| db.apply_batch(plan.batch).map_err(error::sled));
        applied.map_err(|failure| {
            self.poisoned = true;
            error::outcome_unknown(failure)
        })
    }
}

impl SledKv {
    pub(crate) fn assemble(
        db: Db,
        lock: File,
        syncer: Syncer,
        path: PathBuf,
        live_bytes: u64,
    ) -> Self {
        let versions = Versions::new(db.clone());
        let writer = Writer {
            db,
            syncer,
            seq: 0,
            live_bytes,
            unsynced: false,
            room: Room::default(),
            poisoned: false,
            lock,
        };
        Self {
            writer: Mutex::new(Some(writer)),
            versions: Arc::new(RwLock::new(versions)),
            live_bytes: AtomicU64::new(live_bytes),
            path,
        }
    }

    fn writer(&self, operation: &'static str) -> Result<MappedMutexGuard<'_, Writer>> {
        MutexGuard::try_map(self.writer.lock(), Option::as_mut)
            .map_err(|_| error::closed().operation(operation))
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.versions.read().db.is_none() {
            return Err(error::closed().operation(operation));
        }
        Ok(())
    }

    fn write(
        &self,
        writer: &mut Writer,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<CommitSeq> {
        writer.check()?;
        PROFILE.limits.check(batch).map_err(|error| error.backend(error::BACKEND))?;
        let needed_bytes = room::needed_bytes(batch, 2 * writer.live_bytes);
        if writer.room.concerns(batch, needed_bytes) {
            writer.room.check(&self.path, needed_bytes, 0)?;
        }
        let mut plan = error::damage_caught(|| {
            plan::test(&writer.db, &batch.guards)?;
            Plan::of(&writer.db, &batch.ops, writer.live_bytes)
        })?;
        let live_bytes = plan.live_bytes;
        self.versions.write().begin(std::mem::take(&mut plan.replaced));
        // On a failure below, what was noted down stays: readers go on as if nothing had happened.
        writer.apply(plan)?;
        if durability == Durability::Synced {
            writer.sync()?;
        }
        let unneeded = self.versions.write().finish();
        drop(unneeded);
        writer.seq += 1;
        writer.live_bytes = live_bytes;
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        Ok(CommitSeq(writer.seq))
    }
}

impl KvBackend for SledKv {
    fn profile(&self) -> &KvProfile {
        &PROFILE
    }

    fn snapshot(&self) -> Result<Box<dyn KvSnapshot>> {
        let taken = SledSnapshot::take(&self.versions);
        Ok(Box::new(taken.map_err(|error| error.operation("snapshot"))?))
    }

    fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<CommitSeq> {
        let mut writer = self.writer("commit")?;
        self.write(&mut writer, batch, durability).map_err(|error| error.operation("commit"))
    }

    fn flush(&self, seq: CommitSeq) -> Result<()> {
        let mut writer = self.writer("flush")?;
        if seq.0 > writer.seq {
            return Err(error::unknown_seq(seq.0, writer.seq));
        }
        let synced = writer.check().and_then(|()| writer.sync());
        synced.map_err(|error| error.operation("flush"))
    }

    fn maintain(&self, _budget: MaintenanceBudget) -> Result<MaintenanceReport> {
        self.check_open("maintain")?;
        Ok(MaintenanceReport::default())
    }

    /// sled has no check of its own: reads everything, which verifies each page that comes from the
    /// disk.
    fn check(&self) -> Result<EngineCheck> {
        let db = self.versions.read().db.clone();
        let db = db.ok_or_else(|| error::closed().operation("check"))?;
        let read = error::damage_caught(|| {
            db.iter().try_for_each(|pair| pair.map(drop)).map_err(error::sled)
        });
        match read {
            Ok(()) => Ok(EngineCheck::complete()),
            Err(failure) if failure.kind() == ErrorKind::Corrupt => {
                Ok(EngineCheck::damaged(failure.to_string()))
            }
            Err(failure) => Err(failure.operation("check")),
        }
    }

    fn usage(&self) -> Result<SpaceUsage> {
        self.check_open("usage")?;
        let disk_bytes = files::bytes(&self.path);
        let disk_bytes = disk_bytes.map_err(|error| error::io(error).operation("usage"))?;
        Ok(SpaceUsage { live_bytes: self.live_bytes.load(Ordering::Relaxed), disk_bytes })
    }

    fn close(&self) -> Result<()> {
        let mut slot = self.writer.lock();
        let db = self.versions.write().db.take();
        let Some(mut writer) = slot.take() else { return Ok(()) };
        let synced = writer.check().map_err(error::outcome_unknown).and_then(|()| writer.sync());
        // sled writes once more as its last handle goes, and panics if it cannot.
        let Writer { db: last, syncer, lock, .. } = writer;
        let gone = error::damage_caught(|| {
            drop((db, last));
            Ok(())
        });
        syncer.wait_for_release();
        drop((syncer, lock));
        let closed = synced.and_then(|()| gone.map_err(error::outcome_unknown));
        closed.map_err(|error| error.operation("close"))
    }
}

impl Drop for SledKv {
    fn drop(&mut self) {
        // A failure cannot be answered here; what was durable still is.
        drop(self.close());
    }
}

impl fmt::Debug for SledKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledKv").field("path", &self.path).finish_non_exhaustive()
    }
}
