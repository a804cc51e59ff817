//! The files of a segment log, whose operations fail as planned. They are never really synced:
//! nothing here loses power.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trellis_log_segment::layer::{FileLayer, LayerFile, LockGuard, OsFiles};

use super::injector::{Injector, Kind, Target};

#[derive(Debug)]
pub(super) struct FaultyFiles(pub(super) Arc<Injector>);

fn cause(kind: Kind) -> io::Error {
    match kind {
        Kind::Io => io::Error::other("planned: the medium fails"),
        Kind::Full => io::ErrorKind::StorageFull.into(),
        Kind::Short => io::ErrorKind::WriteZero.into(),
    }
}

fn strike(injector: &Injector, call: &str, path: &Path) -> io::Result<()> {
    match injector.strike(Target::Files, format_args!("{call} {}", path.display())) {
        None => Ok(()),
        Some(kind) => Err(cause(kind)),
    }
}

impl FileLayer for FaultyFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        strike(&self.0, "create_dir", path)?;
        OsFiles.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        strike(&self.0, "list", path)?;
        OsFiles.list(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
        strike(&self.0, "open", path)?;
        let inner = OsFiles.open(path, create)?;
        Ok(Arc::new(FaultyFile { inner, path: path.to_owned(), injector: Arc::clone(&self.0) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        strike(&self.0, "rename", from)?;
        OsFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        strike(&self.0, "remove", path)?;
        OsFiles.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        strike(&self.0, "sync_dir", path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        OsFiles.lock(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn LayerFile>,
    path: PathBuf,
    injector: Arc<Injector>,
}

impl LayerFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let call = format_args!("write_at {}", self.path.display());
        let Some(kind) = self.injector.strike(Target::Files, call) else {
            return self.inner.write_at(bytes, position);
        };
        if kind == Kind::Short {
            self.inner.write_at(&bytes[..bytes.len() / 2], position)?;
        }
        Err(cause(kind))
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        strike(&self.injector, "read_at", &self.path)?;
        self.inner.read_at(into, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        strike(&self.injector, "sync_data", &self.path)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        strike(&self.injector, "set_len", &self.path)?;
        self.inner.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        strike(&self.injector, "size", &self.path)?;
        self.inner.size()
    }
}
