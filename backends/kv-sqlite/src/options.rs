//! Options, and connections that are opened by them.

use std::num::NonZero;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use trellis_engine_traits::Result;

use crate::error;

/// How to open a store.
///
/// ```
/// use trellis_kv_sqlite::SqliteOptions;
///
/// let options = SqliteOptions { cache_bytes: 128 << 20, ..SqliteOptions::default() };
/// assert_eq!(options.wal_bytes_max, 16 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The most bytes that the page caches of all connections of one view and of the writer take
    /// together; filled as pages are read. Default 32 MiB.
    pub cache_bytes: usize,
    /// The size from which a commit first copies the write-ahead log into the file. A larger log
    /// makes such commits rarer and longer. Default 16 MiB.
    pub wal_bytes_max: u64,
    /// Bytes of the file that are read through a memory map. An error of the medium, or a file cut
    /// short by another program, then ends the process instead of answering an error. Default 0.
    pub mmap_bytes: u64,
    /// Connections of one view, which is how many threads read it at once; at least 1. Default:
    /// the processors of the machine, 2 to 4.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        let readers = available_parallelism().map_or(2, NonZero::get).clamp(2, 4);
        Self { cache_bytes: 32 << 20, wal_bytes_max: 16 << 20, mmap_bytes: 0, readers }
    }
}

impl SqliteOptions {
    pub(crate) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        let cache_kib = self.cache_bytes / 1024 / (self.readers.max(1) + 1);
        let set = |name, value: i64| connection.pragma_update(None, name, value);
        // A plan never depends on what is bound: without this SQLite may compile a statement anew
        // each time that the number of a space is bound, which costs more than the statement.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        set("cache_size", -i64::try_from(cache_kib.max(64)).unwrap_or(i64::MAX))?;
        connection.pragma_update_and_check(
            None,
            "mmap_size",
            i64::try_from(self.mmap_bytes).unwrap_or(i64::MAX),
            |_| Ok(()),
        )?;
        // Finds a damaged page when it is read instead of misreading it.
        set("cell_size_check", 1)?;
        set("temp_store", 2)
    }
}

/// A connection for a view, without a transaction.
pub(crate) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection> {
    // Not read-only: the last connection of a process tidies the log away.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error::sqlite)?;
    let set_up = options
        .apply(&connection)
        .and_then(|()| connection.pragma_update(None, "query_only", 1))
        .and_then(|()| {
            let ignore = |_: &rusqlite::Row<'_>| Ok(());
            connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, ignore)
        })
        // The log may be starting again while a view begins.
        .and_then(|()| connection.busy_timeout(Duration::from_secs(1)));
    set_up.map_err(error::sqlite)?;
    Ok(connection)
}
