//! The file operations that the log makes, as a seam for fault and power-loss tests.
//!
//! Not part of the stable interface. Everything the log does to the medium goes through here, so
//! that a test can fail an operation, or keep what was not synced apart from what was.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Held while a log is open; dropping it gives the lock free.
pub type LockGuard = Box<dyn fmt::Debug + Send + Sync>;

/// A directory tree.
pub trait FileLayer: fmt::Debug + Send + Sync + 'static {
    /// Creates a directory and its parents; that it exists is no error.
    ///
    /// # Errors
    /// What the medium answers.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// What the medium answers.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Opens a file to read and write; with `create`, makes it if it is not there.
    ///
    /// # Errors
    /// What the medium answers.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>>;

    /// Replaces `to` by `from`.
    ///
    /// # Errors
    /// What the medium answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the medium answers.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// What the medium answers.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written to the medium of a directory; `None` where it cannot be
    /// told.
    fn available_bytes(&self, path: &Path) -> Option<u64> {
        let _anywhere = path;
        None
    }

    /// Takes the lock file; `None` if another open holds it.
    ///
    /// # Errors
    /// What the medium answers.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;
}

/// An open file.
pub trait LayerFile: fmt::Debug + Send + Sync + 'static {
    /// Writes all bytes at a position; after a failure any part of them may be there.
    ///
    /// # Errors
    /// What the medium answers.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Reads up to the length of `into`; 0 at the end of the file.
    ///
    /// # Errors
    /// What the medium answers.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads until `into` is full or the file ends.
    ///
    /// # Errors
    /// What the medium answers.
    fn read_full(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// What the medium answers; it must not be asked again.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// What the medium answers.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length.
    ///
    /// # Errors
    /// What the medium answers.
    fn size(&self) -> io::Result<u64>;
}

/// The files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFiles;

impl FileLayer for OsFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        fs::read_dir(path)?.map(name).collect()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false);
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn available_bytes(&self, path: &Path) -> Option<u64> {
        let system = rustix::fs::statvfs(path).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct OsFile(File);

impl LayerFile for OsFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(into, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
