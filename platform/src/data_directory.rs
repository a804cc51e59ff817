//! The data directory: one process at a time, one pair of engines for its whole life.
//!
//! Invariants:
//! 1. `trellis.lock` is locked as long as the database is open, and holds the pid of the holder.
//!    The system releases the lock when the process ends, however it ends.
//! 2. `trellis.json` names the format and the engines that the data was made with. It is written
//!    after the engines have opened for the first time and before anything is acknowledged, and
//!    never changed afterwards.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trellis_engine_traits::{Error, ErrorKind, Result};

/// The layout of a data directory as a whole; each engine has a format of its own besides.
const FORMAT: u32 = 1;

const LOCK_FILE: &str = "trellis.lock";
const MARKER_FILE: &str = "trellis.json";

/// A data directory that this process holds.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    kv: String,
    log: String,
}

/// The URLs of store and journal that a directory's data was made with; `None` without data.
///
/// # Errors
/// `Unsupported` for a newer format; `Corrupt` when the marker is none, `Denied` and `Unavailable`
/// when it cannot be read.
pub(crate) fn made_with(directory: &Path) -> Result<Option<(String, String)>> {
    Ok(marker_of(directory)?.map(|marker| (marker.kv, marker.log)))
}

fn marker_of(directory: &Path) -> Result<Option<Marker>> {
    let path = directory.join(MARKER_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("the marker cannot be read", &path, error)),
    };
    let damaged = |source: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "the data directory's marker cannot be understood")
            .operation("open")
            .context("file", path.display())
            .source(source)
    };
    // The format first: a newer marker may look different altogether.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format.is_some_and(|format| format > u64::from(FORMAT)) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the data was made by a newer version; open it with that one",
        )
        .operation("open")
        .context("directory", directory.display())
        .context("format", format.unwrap_or_default())
        .context("format_max", FORMAT));
    }
    serde_json::from_value(value).map(Some).map_err(damaged)
}

impl DataDirectory {
    /// Creates the directory if need be, and holds it until the value is dropped.
    ///
    /// # Errors
    /// `Locked` while another process, or another handle of this one, holds it; `Denied` or
    /// `Unavailable` when it cannot be created or written.
    pub(crate) fn hold(path: &Path) -> Result<Self> {
        let fail = |source| io_error("the data directory cannot be written", path, source);
        create_durably(path).map_err(fail)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, &mut lock)),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        write_pid(&mut lock).map_err(fail)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Refuses data of a newer format, or made with other engines.
    ///
    /// # Errors
    /// `Unsupported` for a newer format; `InvalidInput` for other engines; `Corrupt` for a marker
    /// that is none.
    pub(crate) fn check(&self, kv: &str, log: &str) -> Result<()> {
        let Some(marker) = marker_of(&self.path)? else {
            return Ok(());
        };
        if (marker.kv.as_str(), marker.log.as_str()) == (kv, log) {
            return Ok(());
        }
        let message = format!(
            "the data was made with kv = \"{}\", log = \"{}\", and the configuration says kv = \
             \"{kv}\", log = \"{log}\"; use the former, or move the data with `trellis \
             migrate`",
            marker.kv, marker.log
        );
        Err(Error::new(ErrorKind::InvalidInput, message)
            .operation("open")
            .context("directory", self.path.display()))
    }

    /// Binds the directory to its engines, if it is not yet.
    ///
    /// # Durability
    /// Durable when it returns.
    pub(crate) fn mark(&self, kv: &str, log: &str) -> Result<()> {
        let path = self.path.join(MARKER_FILE);
        let fail = |source| io_error("the marker cannot be written", &path, source);
        if path.try_exists().map_err(fail)? {
            return Ok(());
        }
        let marker = Marker { format: FORMAT, kv: kv.to_owned(), log: log.to_owned() };
        let text = serde_json::to_string(&marker).map_err(|error| fail(error.into()))?;
        let unfinished = self.path.join(format!("{MARKER_FILE}.new"));
        let mut file = File::create(&unfinished).map_err(fail)?;
        file.write_all(format!("{text}\n").as_bytes()).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        std::fs::rename(&unfinished, &path).map_err(fail)?;
        sync_directory(&self.path).map_err(fail)
    }
}

fn locked(path: &Path, lock: &mut File) -> Error {
    let mut pid = String::new();
    // A holder that has not written its pid yet is still a holder.
    let pid = match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => pid.trim().to_owned(),
        _ => "unknown".to_owned(),
    };
    Error::new(ErrorKind::Locked, "another process or handle has the data open; close it first")
        .operation("open")
        .context("directory", path.display())
        .context("pid", pid)
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Creates a directory and those above it, so that their names survive loss of power.
pub(crate) fn create_durably(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    std::fs::create_dir_all(path)?;
    for created in missing {
        match created.parent() {
            None => {}
            Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."))?,
            Some(parent) => sync_directory(parent)?,
        }
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and renames are durable by themselves.
#[cfg(not(unix))]
pub(crate) fn sync_directory(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

/// An I/O error with the path at fault and, by its kind, what to do about it.
pub(crate) fn io_error(what: &str, path: &Path, source: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let (kind, remedy) = match source.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "give this user the right, or name another path")
        }
        Io::NotFound => (ErrorKind::NotFound, "check the path"),
        Io::NotADirectory | Io::AlreadyExists | Io::IsADirectory | Io::InvalidInput => {
            (ErrorKind::InvalidInput, "a file is in the way of a directory, or the reverse")
        }
        _ => (ErrorKind::Unavailable, "check the medium"),
    };
    let full = matches!(source.kind(), Io::StorageFull | Io::QuotaExceeded);
    let remedy = if full { "make room on the disk" } else { remedy };
    let error = Error::new(kind, format!("{what}; {remedy}")).context("path", path.display());
    let error = if full { error.context("reason", "storage_full") } else { error };
    error.source(source)
}

/// As [`io_error`], for `map_err`.
pub(crate) fn failed_at<'a>(
    what: &'a str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> Error + 'a {
    move |source| io_error(what, path, source)
}
