//! Files in memory that keep a record of everything done to them, in order.
//!
//! The seam of `log-segment` (`FileLayer`) and that of redb (`StorageBackend`) both end here, so
//! that a store and its journal share one order of operations. A medium can be told to betray its
//! user in one way ([`Betrayal`]): the checks must notice.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::image::{Data, Image, Node, Operation, Playback, grow, set_len};
use crate::Rng;

/// How a medium lies about what is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Betrayal {
    /// Not at all.
    #[default]
    None,
    /// Syncs of files whose path contains this answer and do nothing.
    SyncsNothing(&'static str),
    /// Syncs of directories answer and do nothing.
    SyncsNoDirectory,
    /// A segment is synced only after the mark that says so is written.
    MarkBeforeData,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Arc<Vec<u8>>>,
    entries: BTreeMap<PathBuf, Node>,
    operations: Vec<Operation>,
    betrayal: Betrayal,
    /// A sync that is done late.
    late: Option<usize>,
}

/// A recording medium; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Medium {
    start: Arc<Image>,
    state: Arc<Mutex<State>>,
}

/// Everything that was done to a medium, from what it began with.
#[derive(Debug)]
pub(crate) struct Recording {
    start: Arc<Image>,
    operations: Vec<Operation>,
}

impl Recording {
    /// The number of operations.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Draws an image for each of the points in time, which ascend.
    pub(crate) fn images(
        &self,
        points: &[usize],
        rng: &mut Rng,
        mut judge: impl FnMut(usize, Image),
    ) {
        let mut playback = Playback::new(&self.start, &self.operations);
        for point in points {
            playback.play_to(*point);
            judge(*point, playback.image(rng));
        }
    }
}

impl Medium {
    /// A medium that begins with what an image holds.
    pub(crate) fn holding(image: Image, betrayal: Betrayal) -> Self {
        let State { late, operations, .. } = State::default();
        let (files, entries) = (image.files.clone(), image.entries.clone());
        let state = State { files, entries, operations, betrayal, late };
        Self { start: Arc::new(image), state: Arc::new(Mutex::new(state)) }
    }

    /// The medium as the end of a process leaves it after as many operations: nothing is lost, and
    /// what was not synced is not durable yet.
    pub(crate) fn left_by_kill(recording: &Recording, at: usize, betrayal: Betrayal) -> Self {
        let operations = recording.operations[..at].to_vec();
        let Image { files, entries } = Playback::new(&recording.start, &operations).all_kept(at);
        let state = State { files, entries, operations, betrayal, late: None };
        Self { start: Arc::clone(&recording.start), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations so far.
    pub(crate) fn now(&self) -> usize {
        self.state().operations.len()
    }

    /// What was done so far.
    pub(crate) fn recording(&self) -> Recording {
        let operations = self.state().operations.clone();
        Recording { start: Arc::clone(&self.start), operations }
    }

    /// What is on it now, synced or not.
    pub(crate) fn contents(&self) -> Image {
        let state = self.state();
        Image { files: state.files.clone(), entries: state.entries.clone() }
    }

    /// A medium that begins with what an image holds, and is honest.
    pub(crate) fn of(image: Image) -> Self {
        Self::holding(image, Betrayal::None)
    }

    /// Whether there is such a file.
    #[cfg(feature = "kv-redb")]
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.state().entries.contains_key(path)
    }

    /// A file for redb, made if it is not there, and emptied if `is_new`.
    #[cfg(feature = "kv-redb")]
    pub(crate) fn redb_file(
        &self,
        path: &Path,
        is_new: bool,
    ) -> impl trellis_kv_redb::StorageBackend {
        let file = self.open_file(path, true).expect("it is made");
        if is_new {
            file.cut(0);
        }
        file
    }

    /// Replaces `to` by `from`; answers whether that was there.
    pub(crate) fn rename_file(&self, from: &Path, to: &Path) -> bool {
        let mut state = self.state();
        let Some(node) = state.entries.remove(from) else { return false };
        state.entries.insert(to.into(), node);
        state.operations.push(Operation::Rename { from: from.into(), to: to.into(), node });
        true
    }

    /// Opens a file; with `create`, makes it if it is not there.
    pub(super) fn open_file(&self, path: &Path, create: bool) -> io::Result<MediumFile> {
        let mut state = self.state();
        let found = state.entries.get(path).copied().flatten();
        let number = match found {
            Some(number) => number,
            None if create => {
                let number = state.files.len();
                state.files.push(Arc::default());
                state.entries.insert(path.into(), Some(number));
                let operation = Operation::Create { path: path.into(), node: Some(number) };
                state.operations.push(operation);
                number
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        drop(state);
        Ok(MediumFile { medium: self.clone(), number, path: path.into() })
    }

    /// Makes creations, renames and removals in a directory durable.
    pub(crate) fn sync_directory(&self, path: &Path) {
        let mut state = self.state();
        if state.betrayal != Betrayal::SyncsNoDirectory {
            state.operations.push(Operation::SyncDirectory { path: path.into() });
        }
    }
}

/// An open file of a medium.
#[derive(Debug)]
pub(super) struct MediumFile {
    medium: Medium,
    number: usize,
    /// As it was opened.
    path: PathBuf,
}

impl MediumFile {
    fn is(&self, part: &str) -> bool {
        self.path.to_str().is_some_and(|path| path.contains(part))
    }

    fn write(&self, bytes: &[u8], position: u64) {
        let position = usize::try_from(position).expect("files here are small");
        let mut state = self.medium.state();
        let contents = Arc::make_mut(&mut state.files[self.number]);
        grow(contents, position + bytes.len());
        contents[position..position + bytes.len()].copy_from_slice(bytes);
        let data = Data::of(bytes);
        state.operations.push(Operation::Write { file: self.number, position, data });
        if self.is("durable")
            && let Some(file) = state.late.take()
        {
            state.operations.push(Operation::SyncFile { file });
        }
    }

    /// Reads up to the end of the file; answers how much.
    fn read(&self, into: &mut [u8], position: u64) -> usize {
        let state = self.medium.state();
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let rest = state.files[self.number].get(position..).unwrap_or_default();
        let bytes = rest.len().min(into.len());
        into[..bytes].copy_from_slice(&rest[..bytes]);
        bytes
    }

    fn sync(&self) {
        let mut state = self.medium.state();
        match state.betrayal {
            Betrayal::SyncsNothing(part) if self.is(part) => {}
            Betrayal::MarkBeforeData if self.is(".segment") => {
                if let Some(file) = state.late.replace(self.number) {
                    state.operations.push(Operation::SyncFile { file });
                }
            }
            _ => state.operations.push(Operation::SyncFile { file: self.number }),
        }
    }

    fn cut(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).expect("files here are small");
        let mut state = self.medium.state();
        set_len(Arc::make_mut(&mut state.files[self.number]), bytes);
        state.operations.push(Operation::SetLen { file: self.number, bytes });
    }

    fn len(&self) -> u64 {
        self.medium.state().files[self.number].len() as u64
    }
}

#[cfg(feature = "log-segment")]
mod layer {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use trellis_log_segment::layer::{FileLayer, LayerFile, LockGuard};

    use super::{Medium, MediumFile, Operation};

    impl FileLayer for Medium {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            let mut above: Vec<_> = path.ancestors().filter(|it| it.parent().is_some()).collect();
            above.reverse();
            for path in above {
                if !state.entries.contains_key(path) {
                    state.entries.insert(path.into(), None);
                    state.operations.push(Operation::Create { path: path.into(), node: None });
                }
            }
            Ok(())
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            let state = self.state();
            let within = state.entries.keys().filter(|entry| entry.parent() == Some(path));
            let name = |entry: &std::path::PathBuf| entry.file_name()?.to_str().map(str::to_owned);
            Ok(within.filter_map(name).collect())
        }

        fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
            Ok(Arc::new(self.open_file(path, create)?))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            let done = self.rename_file(from, to);
            done.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            let mut state = self.state();
            state.entries.remove(path).ok_or(io::ErrorKind::NotFound)?;
            state.operations.push(Operation::Remove { path: path.into() });
            Ok(())
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.sync_directory(path);
            Ok(())
        }

        fn lock(&self, _path: &Path) -> io::Result<Option<LockGuard>> {
            // Nobody else knows this medium.
            Ok(Some(Box::new(())))
        }
    }

    impl LayerFile for MediumFile {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            self.write(bytes, position);
            Ok(())
        }

        fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
            Ok(self.read(into, position))
        }

        fn sync_data(&self) -> io::Result<()> {
            self.sync();
            Ok(())
        }

        fn set_len(&self, bytes: u64) -> io::Result<()> {
            self.cut(bytes);
            Ok(())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.len())
        }
    }
}

#[cfg(feature = "kv-redb")]
impl trellis_kv_redb::StorageBackend for MediumFile {
    fn len(&self) -> io::Result<u64> {
        Ok(Self::len(self))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let all = Self::read(self, out, offset) == out.len();
        all.then_some(()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cut(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::write(self, data, offset);
        Ok(())
    }
}
