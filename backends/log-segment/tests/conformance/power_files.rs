//! Files in memory that can lose power.
//!
//! Stricter than any real file system: of what was not synced, each sector, each length and each
//! directory entry is lost or kept for itself. A failed sync loses its pages silently: they can
//! still be read, and no later sync writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_log_segment::layer::{FileLayer, LayerFile, LockGuard};

use crate::model::Random;

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Default)]
struct Contents {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A directory entry: `None` is a directory, a number a file.
type Entries = BTreeMap<PathBuf, Option<usize>>;

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    current: Entries,
    durable: Entries,
    /// Operations until everything fails; then only a crash helps.
    fuse: Option<u64>,
    fail_sync: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct PowerFiles {
    state: Arc<Mutex<State>>,
}

impl PowerFiles {
    /// After as many operations that change something, every one fails.
    pub(crate) fn light_fuse(&self, operations: Option<u64>) {
        self.state.lock().fuse = operations;
    }

    /// Lets the next sync of a segment fail.
    pub(crate) fn fail_sync(&self) {
        self.state.lock().fail_sync = true;
    }

    pub(crate) fn lose_power(&self, random: &mut Random) {
        let mut state = self.state.lock();
        let State { files, current, durable, .. } = &mut *state;
        let mut kept = Entries::new();
        let paths: BTreeSet<PathBuf> = current.keys().chain(durable.keys()).cloned().collect();
        for path in paths {
            let (now, then) = (current.get(&path), durable.get(&path));
            let chosen = if random.below(2) == 0 { now } else { then };
            let parent = path.parent().unwrap();
            if let Some(entry) = chosen
                && (parent == Path::new("/") || kept.contains_key(parent))
            {
                kept.insert(path, *entry);
            }
        }
        (*current, *durable) = (kept.clone(), kept);
        for file in files {
            let Contents { current, durable, dirty } = file;
            if random.below(2) == 0 {
                durable.resize(current.len(), 0);
            }
            for sector in std::mem::take(dirty) {
                let from = sector * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(current.len()).min(durable.len());
                if random.below(2) == 0 && from < to {
                    durable[from..to].copy_from_slice(&current[from..to]);
                }
            }
            current.clone_from(durable);
        }
        state.fuse = None;
        state.fail_sync = false;
    }

    /// The state, if the fuse has not blown.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        match &mut state.fuse {
            Some(0) => return Err(io::Error::other("the power is about to go")),
            Some(left) => *left -= 1,
            None => {}
        }
        change(&mut state)
    }
}

impl FileLayer for PowerFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            for path in path.ancestors().filter(|path| path.parent().is_some()) {
                state.current.insert(path.into(), None);
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let within = state.current.keys().filter(|entry| entry.parent() == Some(path));
        Ok(within.map(|entry| entry.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
        let found = self.state.lock().current.get(path).copied().flatten();
        let number = match found {
            Some(number) => number,
            None if create => self.change(|state| {
                state.files.push(Contents::default());
                state.current.insert(path.into(), Some(state.files.len() - 1));
                Ok(state.files.len() - 1)
            })?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let segment = path.to_str().unwrap().contains(".segment");
        Ok(Arc::new(PowerFile { files: self.clone(), number, segment }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let file = state.current.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.current.insert(to.into(), file);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.current.remove(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.durable.retain(|entry, _| entry.parent() != Some(path));
            for (entry, file) in &state.current {
                if entry.parent() == Some(path) {
                    state.durable.insert(entry.clone(), *file);
                }
            }
            Ok(())
        })
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<LockGuard>> {
        // Whether a lock excludes is tested on real files.
        Ok(Some(Box::new(())))
    }
}

#[derive(Debug)]
struct PowerFile {
    files: PowerFiles,
    number: usize,
    segment: bool,
}

impl LayerFile for PowerFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        // A blown fuse leaves part of the write: sectors are dirty one by one anyway.
        let outcome = self.files.change(|_| Ok(()));
        let part = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let file = &mut self.files.state.lock().files[self.number];
        let from = position as usize;
        let to = from + part.len();
        file.current.resize(file.current.len().max(to), 0);
        file.current[from..to].copy_from_slice(part);
        file.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
        outcome
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.files.state.lock();
        let rest = state.files[self.number].current.get(position as usize..).unwrap_or_default();
        let bytes = rest.len().min(into.len());
        into[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.change(|state| {
            let failed = self.segment && std::mem::take(&mut state.fail_sync);
            let Contents { current, durable, dirty } = &mut state.files[self.number];
            let dirty = std::mem::take(dirty);
            if failed {
                return Err(io::Error::other("the medium lost what it was to write"));
            }
            durable.resize(current.len(), 0);
            for sector in dirty {
                let from = (sector * SECTOR_BYTES).min(current.len());
                let to = (from + SECTOR_BYTES).min(current.len());
                durable[from..to].copy_from_slice(&current[from..to]);
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.files.change(|state| {
            let file = &mut state.files[self.number];
            file.current.resize(bytes as usize, 0);
            file.dirty.extend(0..(bytes as usize).div_ceil(SECTOR_BYTES));
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.files.state.lock().files[self.number].current.len() as u64)
    }
}
