//! Frozen views: a few reading connections, pinned between the same two commits.
//!
//! A view that is pinned while the log is copied into the file completely reads the file alone, and
//! only then may the log start again. So the backend re-pins the views of the newest state after
//! it has copied the log ([`Pinned::pin_anew`]): without that, a store whose newest view is always
//! held would grow its log for ever.
//!
//! Invariants: a connection inside a [`Reader`] has a read transaction open, on the state `seq`;
//! one that lost it is dropped, and reads through it answer an error.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use trellis_engine_traits::{CommitSeq, KvSnapshot, Result, Scan, ScanEnd, SpaceId, Visitor};

use crate::{error, read};

/// Idle connections that are kept; more are closed when their view ends.
const IDLE_CONNECTIONS_MAX: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Counts the threads that read, so that they spread over the connections.
    static THREAD_NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Connections without a transaction, shared by the backend and its views.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn take(&self) -> Option<Connection> {
        self.idle.lock().pop()
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }

    pub(crate) fn clear(&self) {
        self.idle.lock().clear();
    }
}

/// Begins a read transaction and reads, since SQLite chooses the state at the first read.
pub(crate) fn pin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN")?.execute(())?;
    let touch = "SELECT 1 FROM entries LIMIT 1";
    connection.prepare_cached(touch)?.exists(())?;
    Ok(())
}

fn unpin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("ROLLBACK")?.execute(())?;
    Ok(())
}

type Reader = Mutex<Option<Connection>>;

/// The connections of one view.
pub(crate) struct Pinned {
    pub(crate) seq: CommitSeq,
    readers: Vec<Reader>,
    pool: Arc<Pool>,
    closed: Arc<AtomicBool>,
}

impl Pinned {
    /// `connections` have been pinned to the state `seq`.
    pub(crate) fn new(
        seq: CommitSeq,
        connections: Vec<Connection>,
        pool: &Arc<Pool>,
        closed: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            seq,
            readers: connections.into_iter().map(|it| Mutex::new(Some(it))).collect(),
            pool: Arc::clone(pool),
            closed: Arc::clone(closed),
        }
    }

    /// Pins every connection again; only while no commit can come between. Leaves those alone that
    /// are being read.
    pub(crate) fn pin_anew(&self) {
        for reader in &self.readers {
            let Some(mut reader) = reader.try_lock() else { continue };
            let pinned = reader.as_ref().map(|connection| {
                unpin(connection)?;
                pin(connection)
            });
            if matches!(pinned, Some(Err(_))) {
                *reader = None;
            }
        }
    }

    /// Closes the connections that nobody reads; the others close with their view.
    pub(crate) fn release(&self) {
        for reader in &self.readers {
            if let Some(mut reader) = reader.try_lock() {
                *reader = None;
            }
        }
    }

    /// A connection that is free, or that of this thread. A thread keeps to its own if it can: the
    /// pages that it reads again are in the cache of that one.
    fn reader(&self) -> Result<MutexGuard<'_, Option<Connection>>> {
        let turn = THREAD_NUMBER.with(|number| *number) % self.readers.len().max(1);
        let (behind, ahead) = self.readers.split_at(turn);
        let free = ahead.iter().chain(behind).find_map(Mutex::try_lock);
        free.or_else(|| ahead.first().map(Mutex::lock)).ok_or_else(error::view_lost)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed()) } else { Ok(()) }
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.check_open()?;
        let reader = self.reader()?;
        match reader.as_ref() {
            Some(connection) => read(connection),
            None => {
                self.check_open()?;
                Err(error::view_lost())
            }
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        for reader in &mut self.readers {
            if let Some(connection) = reader.get_mut().take()
                && unpin(&connection).is_ok()
            {
                self.pool.give_back(connection);
            }
        }
    }
}

/// The handle that callers hold; the backend knows its [`Pinned`] as well, weakly.
pub(crate) struct SqliteSnapshot(pub(crate) Arc<Pinned>);

impl KvSnapshot for SqliteSnapshot {
    fn seq(&self) -> CommitSeq {
        self.0.seq
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.0.read(|connection| read::get(connection, space, key));
        value.map_err(|error| error.operation("get"))
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        let go_on = || self.0.check_open();
        let end = self.0.read(|connection| read::scan(connection, scan, go_on, visit));
        end.map_err(|error| error.operation("scan"))
    }
}

impl fmt::Debug for SqliteSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSnapshot").field("seq", &self.0.seq).finish_non_exhaustive()
    }
}
