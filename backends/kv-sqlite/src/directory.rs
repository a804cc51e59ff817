//! Makes the way to a new file, and makes that way durable: a synced file whose directory entry is
//! lost with the power is lost as well.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The directories whose entries have to be synced once the file exists.
#[derive(Debug)]
pub(crate) struct NewEntries(Vec<PathBuf>);

/// Creates the directories above `path` that are missing.
pub(crate) fn create_parents(path: &Path) -> io::Result<NewEntries> {
    let mut changed = Vec::new();
    for ancestor in path.ancestors().skip(1) {
        // A relative path ends in the empty one, which stands for the current directory.
        let named = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        // The nearest one in any case: who made the file may have been killed before it was synced.
        changed.push(named.to_path_buf());
        if named.exists() {
            break;
        }
    }
    if let Some(parent) = changed.first() {
        fs::create_dir_all(parent)?;
    }
    Ok(NewEntries(changed))
}

impl NewEntries {
    /// Makes the new entries durable; the file has to exist by now.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // Only Unix can open and sync a directory; elsewhere the file system sees to it.
        if cfg!(unix) {
            for directory in &self.0 {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(())
    }
}
