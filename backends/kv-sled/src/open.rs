//! Opening: the directory, the lock, and the check that it is ours.

use std::path::Path;

use sled::{Config, Db};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::backend::SledKv;
use crate::files::{self, Syncer};
use crate::{error, plan};

/// How to open a store.
///
/// ```
/// use trellis_kv_sled::SledOptions;
///
/// assert_eq!(SledOptions::default().cache_bytes, 64 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SledOptions {
    /// The bytes that sled aims at for its page cache; it takes more. Default 64 MiB.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

impl SledKv {
    /// Opens the directory at `path`; creates it, and those above it, if missing.
    ///
    /// # Errors
    /// `Locked` when another process or handle has it open; `Denied` without permission;
    /// `InvalidInput` when the path is a file; `Unsupported` for the files of a newer version or
    /// another program; `Corrupt` when they are damaged; `Unavailable` when the disk is full or
    /// fails.
    ///
    /// # Durability
    /// A new directory survives loss of power once this returns.
    ///
    /// # Cost
    /// Grows with the files: sled replays its log, about half a second for 300 MB.
    ///
    /// ```
    /// use trellis_engine_traits::{Durability, KvBackend, SpaceId, WriteBatch};
    /// use trellis_kv_sled::{SledKv, SledOptions};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("data/tree.sled");
    /// let store = SledKv::open(&path, SledOptions::default())?;
    /// store.commit(&WriteBatch::new().put(SpaceId(1), "key", "value"), Durability::Synced)?;
    /// assert_eq!(store.snapshot()?.get(SpaceId(1), b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: &Path, options: SledOptions) -> Result<Self> {
        let opened = error::damage_caught(|| open(path, &options));
        opened.map_err(|error: Error| error.operation("open").context("path", path.display()))
    }
}

fn open(path: &Path, options: &SledOptions) -> Result<SledKv> {
    let mut entries = files::create(path)?;
    let lock = files::lock(path)?;
    files::check_ours(path)?;
    files::remove_unfinished(path).map_err(error::io)?;
    tracing::warn!(
        path = %path.display(),
        "sled 0.34 is experimental here: unmaintained, and slower to open than its rivals"
    );
    let config = Config::new()
        .path(path)
        .cache_capacity(options.cache_bytes)
        // Flushes are ours: its own would run on a thread and fail there.
        .flush_every_ms(None);
    let db = config.open().map_err(open_error)?;
    let mut syncer = Syncer::open(path).map_err(error::io)?;
    let live_bytes = describe(&db)?;
    db.flush().map_err(error::sled)?;
    syncer.sync().map_err(error::io)?;
    entries.push(path.join("blobs"));
    files::sync_directories(&entries).map_err(error::io)?;
    Ok(SledKv::assemble(db, lock, syncer, path.to_path_buf(), live_bytes))
}

/// sled answers a failed lock as an I/O error of no kind: another program has the files open.
fn open_error(failure: sled::Error) -> Error {
    match failure {
        sled::Error::Io(failure) if failure.kind() == std::io::ErrorKind::Other => {
            error::locked().source(failure)
        }
        failure => error::sled(failure),
    }
}

/// Reads the row that describes the store, or writes the first one; answers the live bytes.
fn describe(db: &Db) -> Result<u64> {
    if let Some(row) = db.get(plan::STATE_KEY).map_err(error::sled)? {
        return plan::decode_state(&row);
    }
    // sled itself has one tree.
    if !db.is_empty() || db.tree_names().len() > 1 {
        let message = "the directory is a sled store of another program; choose another path";
        return Err(Error::new(ErrorKind::Unsupported, message).backend(error::BACKEND));
    }
    db.insert(plan::STATE_KEY, plan::encode_state(0)).map_err(error::sled)?;
    Ok(0)
}
