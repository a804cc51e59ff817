//! Files in memory under the segment log: one disk, cheap enough for thousands of opens a second.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_log_segment::layer::{FileLayer, LayerFile, LockGuard};

type Bytes = Arc<Mutex<Vec<u8>>>;

/// A disk in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<BTreeMap<PathBuf, Bytes>>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// The file at this path; made if it is not there.
    pub(super) fn file(&self, path: &Path) -> MemoryFile {
        MemoryFile(Arc::clone(locked(&self.0).entry(path.to_owned()).or_default()))
    }

    /// Every file whose name ends so, with its contents.
    pub(super) fn files(&self, suffix: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let files = locked(&self.0);
        let wanted = files.iter().filter(|(path, _)| path.to_string_lossy().ends_with(suffix));
        wanted.map(|(path, bytes)| (path.clone(), locked(bytes).clone())).collect()
    }
}

/// A file in memory.
#[derive(Debug)]
pub(super) struct MemoryFile(Bytes);

impl MemoryFile {
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut locked(&self.0));
    }
}

impl LayerFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let begin = usize::try_from(position).map_err(io::Error::other)?;
        let mut file = locked(&self.0);
        if file.len() < begin + bytes.len() {
            file.resize(begin + bytes.len(), 0);
        }
        file[begin..begin + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let file = locked(&self.0);
        let begin = usize::try_from(position).unwrap_or(usize::MAX).min(file.len());
        let count = into.len().min(file.len() - begin);
        into[..count].copy_from_slice(&file[begin..begin + count]);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        locked(&self.0).resize(bytes, 0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(locked(&self.0).len() as u64)
    }
}

impl FileLayer for Disk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let files = locked(&self.0);
        let below = files.keys().filter_map(|file| file.strip_prefix(path).ok());
        let first = below.filter_map(|rest| rest.components().next());
        let mut names: Vec<_> =
            first.map(|name| name.as_os_str().to_string_lossy().into_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
        if !create && !locked(&self.0).contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(self.file(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.0);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.0).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<LockGuard>> {
        Ok(Some(Box::new(())))
    }
}
