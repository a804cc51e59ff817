//! The files: the exclusive lock, and syncs that reach the medium.
//!
//! sled's `flush` hands the log to the kernel (`sync_file_range`), which survives the end of the
//! process but not loss of power, and it never syncs the files of large values (`blobs/`). Both
//! happen here.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use trellis_engine_traits::Result;

use crate::error;

const LOCK_NAME: &str = "trellis.lock";

const RELEASE_POLL: Duration = Duration::from_millis(2);
const RELEASE_POLLS_MAX: u32 = 2500;

/// Creates the directory and those above it, and answers those that got a new entry.
pub(crate) fn create(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for ancestor in directory.ancestors() {
        // A relative path ends in the empty one, which stands for the current directory.
        let named = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        changed.push(named.to_path_buf());
        if named.exists() {
            break;
        }
    }
    fs::create_dir_all(directory).map_err(error::io)?;
    Ok(changed)
}

/// Refuses a directory that holds other things: sled would put its files among them.
pub(crate) fn check_ours(directory: &Path) -> Result<()> {
    if directory.join("conf").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(error::io)? {
        if entry.map_err(error::io)?.file_name() != LOCK_NAME {
            let message = "the directory holds other files; choose an empty or a new one";
            return Err(error::unsupported(message));
        }
    }
    Ok(())
}

/// Removes what a process that was killed left of a summary of the log: sled writes it beside the
/// others under a name of its own, takes it for one of them at the next open, and reports damage.
/// The log has everything; the lock is held.
pub(crate) fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The exclusive lock. sled has one of its own, whose failure it does not tell from others. The
/// kernel releases ours when the process ends, however it ends; the file stays.
pub(crate) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_NAME);
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(error::io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(error::locked()),
        Err(TryLockError::Error(failure)) => Err(error::io(failure)),
    }
}

/// Makes the entries of directories durable.
pub(crate) fn sync_directories(directories: &[PathBuf]) -> io::Result<()> {
    // Only Unix can open and sync a directory; elsewhere the file system sees to it.
    if cfg!(unix) {
        for directory in directories {
            File::open(directory)?.sync_all()?;
        }
    }
    Ok(())
}

/// Bytes of all files below `directory`.
pub(crate) fn bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // sled removes files meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        total += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// Syncs what sled has written.
#[derive(Debug)]
pub(crate) struct Syncer {
    log: File,
    blobs: PathBuf,
    /// Files of large values are named by ever larger numbers; those up to here are synced.
    synced_blob_max: i64,
}

impl Syncer {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let log = File::options().read(true).write(true).open(directory.join("db"))?;
        // What an earlier process left may not have been synced: begin with every file.
        Ok(Self { log, blobs: directory.join("blobs"), synced_blob_max: -1 })
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let mut newest = self.synced_blob_max;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
            if number.is_none_or(|number| number <= self.synced_blob_max) {
                continue;
            }
            match File::open(entry.path()) {
                Ok(blob) => blob.sync_all()?,
                Err(failure) if failure.kind() == io::ErrorKind::NotFound => continue,
                Err(failure) => return Err(failure),
            }
            newest = newest.max(number.unwrap_or(newest));
        }
        if newest > self.synced_blob_max {
            sync_directories(std::slice::from_ref(&self.blobs))?;
            self.synced_blob_max = newest;
        }
        self.log.sync_data()
    }

    /// Waits until sled has let go of its file, at most about five seconds: its threads hold it for
    /// a moment after the last handle is gone, and a reopen would meet sled's own lock.
    pub(crate) fn wait_for_release(&self) {
        for _ in 0..RELEASE_POLLS_MAX {
            match self.log.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(RELEASE_POLL),
                // Our lock on it goes with our handle. Where nothing can be locked, nothing waits.
                Ok(()) | Err(TryLockError::Error(_)) => return,
            }
        }
    }
}
