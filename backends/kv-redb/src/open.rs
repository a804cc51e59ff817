//! Opening: the file, its directories, and the check that it is ours.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableHandle};
use trellis_engine_traits::{Durability, Error, Result};

use crate::backend::RedbKv;
use crate::snapshot::RedbSnapshot;
use crate::state::{STATE_TABLE, State};
use crate::{directory, error, write};

/// How to open a store.
///
/// ```
/// use trellis_kv_redb::RedbOptions;
///
/// let options = RedbOptions { cache_bytes: 256 << 20, ..RedbOptions::default() };
/// assert!(!options.check_integrity);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedbOptions {
    /// The most bytes that redb's page cache takes; filled as pages are read. Default 24 MiB:
    /// behind it is the system's own cache of files.
    pub cache_bytes: usize,
    /// Whether to read and check the whole file at open. Without it, damage from outside is found
    /// when it is read. Default `false`.
    pub check_integrity: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 24 << 20, check_integrity: false }
    }
}

impl RedbKv {
    /// Opens the file at `path`; creates it, and the directories above it, if missing.
    ///
    /// # Errors
    /// `Locked` when another process or handle has it open; `Denied` without permission;
    /// `Unsupported` for the file of a newer version or another program; `Corrupt` when the file
    /// is no redb database or damaged; `Unavailable` when the disk is full or fails.
    ///
    /// # Durability
    /// A new file and its directories survive loss of power once this returns.
    ///
    /// # Cost
    /// Milliseconds, also after a crash.
    ///
    /// ```
    /// use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
    /// use trellis_kv_redb::{RedbKv, RedbOptions};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("data/tree.redb");
    /// let store = RedbKv::open(&path, RedbOptions::default())?;
    /// store.commit(&WriteBatch::new().put(SpaceId(1), "key", "value"), Durability::Synced)?;
    /// assert_eq!(store.snapshot()?.get(SpaceId(1), b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: &Path, options: RedbOptions) -> Result<Self> {
        let opened = error::damage_caught(|| open(path, &options));
        opened.map_err(|error: Error| error.operation("open").context("path", path.display()))
    }

    /// As [`Self::open`], in something else than a file of the operating system; for tests of what
    /// loss of power and damage do. It has no path, so nobody asks how full the disk is and
    /// `usage` knows no bytes on disk.
    ///
    /// # Errors
    /// As [`Self::open`], but never `Locked`.
    #[doc(hidden)]
    pub fn open_with(storage: impl StorageBackend, options: RedbOptions) -> Result<Self> {
        let opened = error::damage_caught(|| {
            let database = builder(&options).create_with_backend(storage);
            assemble(database.map_err(error::database)?, Path::new(""))
        });
        opened.map_err(|error: Error| error.operation("open"))
    }
}

fn builder(options: &RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.check_integrity);
    builder
}

fn open(path: &Path, options: &RedbOptions) -> Result<RedbKv> {
    let new_entries = directory::create_parents(path).map_err(error::io)?;
    let database = match create(path, options)? {
        Some(database) => database,
        None => builder(options).open(path).map_err(error::database)?,
    };
    new_entries.sync().map_err(error::io)?;
    assemble(database, path)
}

/// Makes the file if there is none. redb alone would leave one that it never opens again if the
/// process or the power went meanwhile: so it gets its name only when it is whole.
fn create(path: &Path, options: &RedbOptions) -> Result<Option<Database>> {
    // An empty file holds nothing either.
    let is_there = || path.metadata().is_ok_and(|found| found.len() > 0 || !found.is_file());
    if is_there() {
        return Ok(None);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    let mut how = File::options();
    let file = how.read(true).write(true).create(true).truncate(false).open(unfinished);
    let file = file.map_err(error::io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(error::locked()),
        Err(TryLockError::Error(failure)) => return Err(error::io(failure)),
    }
    if is_there() {
        // Another process was faster, and what is locked here may be its file by now.
        return Ok(None);
    }
    file.set_len(0).map_err(error::io)?;
    let backend = FileBackend::new(file).map_err(error::database)?;
    let database = builder(options).create_with_backend(backend).map_err(error::database)?;
    describe(&database)?;
    fs::rename(unfinished, path).map_err(error::io)?;
    Ok(Some(database))
}

/// Writes the row that describes the store into a new file.
fn describe(database: &Database) -> Result<()> {
    if is_new(database)? {
        let transaction = write::begin(database, Durability::Synced)?;
        write::put_state(&transaction, State::default())?;
        transaction.commit().map_err(error::commit)?;
    }
    Ok(())
}

fn assemble(database: Database, path: &Path) -> Result<RedbKv> {
    describe(&database)?;
    let state = RedbSnapshot::begin(&database, &Default::default())?.state();
    Ok(RedbKv::assemble(database, path.to_path_buf(), state))
}

/// Whether the file holds nothing yet.
fn is_new(database: &Database) -> Result<bool> {
    let transaction = database.begin_read().map_err(error::transaction)?;
    let mut names = Vec::new();
    for table in transaction.list_tables().map_err(error::storage)? {
        names.push(table.name().to_owned());
    }
    let multimaps = transaction.list_multimap_tables().map_err(error::storage)?.count();
    if names.iter().any(|name| name == STATE_TABLE.name()) {
        return Ok(false);
    }
    if names.is_empty() && multimaps == 0 {
        return Ok(true);
    }
    Err(error::unsupported("the file is a redb database of another program; choose another path"))
}
