//! Opening: the lock, the file, its directories, and the check that it is ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use trellis_engine_traits::{Error, Result};

use crate::backend::SqliteKv;
use crate::lock::ExclusiveLock;
use crate::options::SqliteOptions;
use crate::write::Writer;
use crate::{directory, error};

/// "TRLS": marks the file as ours.
const APPLICATION_ID: i64 = 0x5452_4C53;
const FORMAT: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE entries (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (space, key)) WITHOUT ROWID;
    CREATE TABLE syncs (count INTEGER NOT NULL);
    INSERT INTO syncs VALUES (0);
    PRAGMA application_id = 1414679635;
    PRAGMA user_version = 1;
";

impl SqliteKv {
    /// Opens the file at `path`; creates it, and the directories above it, if missing. SQLite
    /// keeps two more files beside it (`-wal`, `-shm`), and the adapter an empty one (`.lock`).
    ///
    /// # Errors
    /// `Locked` when another process or handle has it open; `Denied` without permission;
    /// `Unsupported` for the file of a newer version or another program; `Corrupt` when the file
    /// is no SQLite database or damaged; `Unavailable` when the disk is full or fails.
    ///
    /// # Durability
    /// A new file and its directories survive loss of power once this returns.
    ///
    /// # Cost
    /// Milliseconds, also after a crash.
    ///
    /// ```
    /// use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
    /// use trellis_kv_sqlite::{SqliteKv, SqliteOptions};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("data/tree.sqlite");
    /// let store = SqliteKv::open(&path, SqliteOptions::default())?;
    /// store.commit(&WriteBatch::new().put(SpaceId(1), "key", "value"), Durability::Synced)?;
    /// assert_eq!(store.snapshot()?.get(SpaceId(1), b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        open(path, options)
            .map_err(|error: Error| error.operation("open").context("path", path.display()))
    }
}

fn open(path: &Path, options: SqliteOptions) -> Result<SqliteKv> {
    // SQLite would take a relative path that begins with `file:` for a URI.
    let path: PathBuf = std::path::absolute(path).map_err(error::io)?;
    let new_entries = directory::create_parents(&path).map_err(error::io)?;
    let lock = ExclusiveLock::take(&path)?;
    // Says why a file cannot be opened, where SQLite says only that it cannot.
    let probe = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    drop(probe.map_err(error::io)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(error::sqlite)?;
    prepare(&connection, &options)?;
    let mut writer = Writer::new(connection);
    writer.sync()?;
    new_entries.sync().map_err(error::io)?;
    Ok(SqliteKv::assemble(path, options, lock, writer))
}

fn prepare(connection: &Connection, options: &SqliteOptions) -> Result<()> {
    options.apply(connection).map_err(error::sqlite)?;
    let number = |sql: &str| {
        connection.query_row(sql, (), |row| row.get::<_, i64>(0)).map_err(error::sqlite)
    };
    let ours = number("PRAGMA application_id")? == APPLICATION_ID;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if !ours && tables > 0 {
        let message = "the file is a database of another program; choose another path";
        return Err(error::unsupported(message));
    }
    let format = number("PRAGMA user_version")?;
    if ours && format > FORMAT {
        return Err(error::unsupported(
            "the file was written by a newer version; use that version or a later one",
        )
        .context("file_format", format)
        .context("supported_format", FORMAT));
    }
    if !ours {
        // These two take effect before the first table alone.
        connection
            .execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")
            .map_err(error::sqlite)?;
    }
    let ignore = |_: &rusqlite::Row<'_>| Ok(());
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", ignore)
        .and_then(|()| connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, ignore))
        .and_then(|()| connection.busy_timeout(Duration::ZERO))
        .map_err(error::sqlite)?;
    if !ours {
        let create = format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;");
        connection.execute_batch(&create).map_err(error::sqlite)?;
    }
    Ok(())
}
