//! The writing connection.
//!
//! Invariants: no transaction is open between calls. `unsynced` says whether a commit may not have
//! reached the medium; a `Synced` transaction then changes at least one page, since SQLite syncs
//! nothing when nothing changed. Once `poisoned`, nothing is written until a reopen.

use rusqlite::Connection;
use trellis_engine_traits::{Durability, ErrorKind, KeyRange, Op, Result, SpaceId, WriteBatch};

use crate::room::Room;
use crate::{error, read};

const PUT: &str = "REPLACE INTO entries (space, key, value) VALUES (?1, ?2, ?3)";
const DELETE: &str = "DELETE FROM entries WHERE space = ?1 AND key = ?2";
const DELETE_FROM: &str = "DELETE FROM entries WHERE space = ?1 AND key >= ?2";
const DELETE_BETWEEN: &str = "DELETE FROM entries WHERE space = ?1 AND key >= ?2 AND key < ?3";
const TOUCH: &str = "UPDATE syncs SET count = count + 1";

/// Frames of the log: all, and those that are in the file as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogState {
    pub(crate) frames: i64,
    pub(crate) copied_frames: i64,
}

#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    synchronous: Option<Durability>,
    unsynced: bool,
    pub(crate) room: Room,
    poisoned: bool,
}

impl Writer {
    pub(crate) fn new(connection: Connection) -> Self {
        // What an earlier process left in the log may not have been synced.
        Self {
            connection,
            synchronous: None,
            unsynced: true,
            room: Room::default(),
            poisoned: false,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.poisoned { Err(error::poisoned()) } else { Ok(()) }
    }

    /// Tests and applies a batch within a transaction that stays open: [`Writer::commit`] or an
    /// error ends it.
    pub(crate) fn apply(&mut self, batch: &WriteBatch, durability: Durability) -> Result<()> {
        self.set_synchronous(durability)?;
        self.begin()?;
        let touch = self.unsynced && durability == Durability::Synced;
        let applied = read::test(&self.connection, &batch.guards).and_then(|()| {
            apply(&self.connection, &batch.ops)?;
            if touch { execute(&self.connection, TOUCH) } else { Ok(()) }
        });
        applied.inspect_err(|_| self.roll_back())
    }

    pub(crate) fn commit(&mut self, durability: Durability) -> Result<()> {
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut it| it.execute(()));
        match committed {
            Ok(_) => {
                self.unsynced = durability == Durability::Buffered;
                Ok(())
            }
            Err(failure) => {
                // A full disk stops SQLite before the frame that makes the transaction count.
                let unknown = !error::is_full(&failure);
                self.poisoned |= unknown;
                self.roll_back();
                let failure = error::sqlite(failure);
                Err(if unknown { error::outcome_unknown(failure) } else { failure })
            }
        }
    }

    /// Makes every commit so far durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        let synced = self
            .apply(&WriteBatch::new(), Durability::Synced)
            .and_then(|()| self.commit(Durability::Synced));
        synced.map_err(|failure| {
            self.poisoned = true;
            match failure.kind() {
                // Damage is met before anything is committed.
                ErrorKind::OutcomeUnknown | ErrorKind::Corrupt => failure,
                _ => error::outcome_unknown(failure),
            }
        })
    }

    pub(crate) fn log_state(&self) -> Result<LogState> {
        self.checkpoint_pragma("PRAGMA wal_checkpoint(NOOP)")
    }

    /// Copies the log into the file, as far as no older view needs the file as it is.
    pub(crate) fn copy_log(&mut self) -> Result<LogState> {
        let copied = self.checkpoint_pragma("PRAGMA wal_checkpoint(PASSIVE)");
        copied.inspect_err(|failure| {
            // A full disk leaves the log, which holds everything. After a failed sync nobody knows
            // what the kernel has dropped.
            self.poisoned |= failure.fact("reason").is_none() && failure.kind() != ErrorKind::Busy;
        })
    }

    fn checkpoint_pragma(&self, sql: &str) -> Result<LogState> {
        let mut statement = self.connection.prepare_cached(sql).map_err(error::sqlite)?;
        let state = statement
            .query_row((), |row| Ok(LogState { frames: row.get(1)?, copied_frames: row.get(2)? }));
        state.map_err(error::sqlite)
    }

    pub(crate) fn number(&self, sql: &str) -> Result<u64> {
        let mut statement = self.connection.prepare_cached(sql).map_err(error::sqlite)?;
        let number: i64 = statement.query_row((), |row| row.get(0)).map_err(error::sqlite)?;
        Ok(number.unsigned_abs())
    }

    /// Moves up to `pages` from the end of the file into its holes and cuts them off.
    pub(crate) fn vacuum(&mut self, pages: u64) -> Result<()> {
        self.set_synchronous(Durability::Buffered)?;
        self.unsynced = true;
        // Each step of this statement frees one page.
        let sql = format!("PRAGMA incremental_vacuum({pages})");
        let mut statement = self.connection.prepare(&sql).map_err(error::sqlite)?;
        let mut rows = statement.query(()).map_err(error::sqlite)?;
        while rows.next().map_err(error::sqlite)?.is_some() {}
        Ok(())
    }

    fn set_synchronous(&mut self, durability: Durability) -> Result<()> {
        if self.synchronous == Some(durability) {
            return Ok(());
        }
        let level = match durability {
            Durability::Buffered => "NORMAL",
            Durability::Synced => "FULL",
        };
        self.connection.pragma_update(None, "synchronous", level).map_err(error::sqlite)?;
        self.synchronous = Some(durability);
        Ok(())
    }

    fn begin(&self) -> Result<()> {
        execute(&self.connection, "BEGIN IMMEDIATE")
    }

    fn roll_back(&mut self) {
        // SQLite itself rolls back after some errors.
        if !self.connection.is_autocommit() && execute(&self.connection, "ROLLBACK").is_err() {
            self.poisoned = true;
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<()> {
    let executed = connection.prepare_cached(sql).and_then(|mut statement| statement.execute(()));
    executed.map(drop).map_err(error::sqlite)
}

fn apply(connection: &Connection, ops: &[Op]) -> Result<()> {
    let mut put = connection.prepare_cached(PUT).map_err(error::sqlite)?;
    let mut delete = connection.prepare_cached(DELETE).map_err(error::sqlite)?;
    for op in ops {
        let changed = match op {
            Op::Put(at, value) => put.execute((at.space.0, &at.key[..], &value[..])),
            Op::Delete(at) => delete.execute((at.space.0, &at.key[..])),
            Op::DeleteRange(space, range) => delete_range(connection, *space, range),
        };
        changed.map_err(error::sqlite)?;
    }
    Ok(())
}

fn delete_range(
    connection: &Connection,
    space: SpaceId,
    range: &KeyRange,
) -> rusqlite::Result<usize> {
    match &range.end {
        None => connection.prepare_cached(DELETE_FROM)?.execute((space.0, &range.start[..])),
        Some(end) => {
            let mut statement = connection.prepare_cached(DELETE_BETWEEN)?;
            statement.execute((space.0, &range.start[..], &end[..]))
        }
    }
}
