//! Room for the day on which the medium is full.
//!
//! Ordinary appends stop while there is still some room on the medium (`headroom_bytes`): others
//! need it, the store that applies what the log holds first of all. The append that meets this
//! bound, or a full medium, is refused. What is given to the log after that refusal is taken to be
//! worth the last room: it may use the headroom, and when there is none, a file of zeros that was
//! written and synced in good time (`RESERVE`) becomes the next segment.
//!
//! Invariants: the reserve is used only between a refusal and the moment at which headroom and
//! reserve are there again; an append of no records asks for that moment and changes nothing else.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::layer::FileLayer;
use crate::segment::write_zeros;

const NAME: &str = "RESERVE";
const UNFINISHED: &str = "RESERVE.unfinished";

#[derive(Debug)]
pub(crate) struct Reserve {
    directory: PathBuf,
    /// 0 for none.
    bytes: u64,
    headroom_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The file is there, of full size and durable.
    there: bool,
    /// An append was refused, and the room is not back.
    full: bool,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

/// Whether a failure says that there is no room.
pub(crate) fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Reserve {
    /// Finds the reserve in a log's directory; it is made when the log first grows.
    pub(crate) fn find(
        layer: &dyn FileLayer,
        directory: &Path,
        bytes: u64,
        headroom_bytes: u64,
    ) -> io::Result<Self> {
        let there = bytes > 0
            && layer.list(directory)?.iter().any(|name| name == NAME)
            && layer.open(&directory.join(NAME), false)?.size()? >= bytes;
        let state = Mutex::new(State { there, full: false });
        Ok(Self { directory: directory.to_owned(), bytes, headroom_bytes, state })
    }

    /// Asks before the log takes `bytes` more of the medium; answers whether room is scarce.
    ///
    /// # Errors
    /// `StorageFull` for too much, until [`Self::met_full`] notes it; whoever asks after that is
    /// let through, and the medium itself decides.
    pub(crate) fn ask(&self, layer: &dyn FileLayer, bytes: u64) -> io::Result<bool> {
        let mut state = self.state.lock();
        let available = layer.available_bytes(&self.directory);
        if state.full {
            if available.is_some() {
                self.refill(&mut state, layer, available);
            }
            return Ok(state.full);
        }
        let wanted = bytes.saturating_add(self.headroom_bytes);
        if available.is_some_and(|available| available < wanted) {
            // Noted by `met_full`, which has to tell this refusal from a later one.
            return Err(full());
        }
        if self.bytes > 0 && !state.there {
            // A log that grows without a reserve is better than one that does not grow.
            self.make(&mut state, layer);
        }
        Ok(false)
    }

    /// Notes that the medium is full; `true` if an append was refused before, so that the reserve
    /// may be used now.
    pub(crate) fn met_full(&self) -> bool {
        std::mem::replace(&mut self.state.lock().full, true)
    }

    /// Whether the room is back, if it was ever gone.
    ///
    /// # Errors
    /// `StorageFull` if not.
    pub(crate) fn check(&self, layer: &dyn FileLayer) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.full {
            self.refill(&mut state, layer, layer.available_bytes(&self.directory));
        }
        if state.full { Err(full()) } else { Ok(()) }
    }

    /// Hands the reserve over: `adopt` gives its file another name.
    ///
    /// # Errors
    /// `StorageFull` if there is none; those of `adopt`.
    pub(crate) fn hand_over<T>(
        &self,
        bytes: u64,
        adopt: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<(T, u64)> {
        let mut state = self.state.lock();
        if !state.there || bytes > self.bytes {
            return Err(full());
        }
        let adopted = adopt(&self.directory.join(NAME))?;
        state.there = false;
        tracing::warn!("the medium is full: the log goes on in its reserve");
        Ok((adopted, self.bytes))
    }

    /// Where the reserve's name is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn refill(&self, state: &mut State, layer: &dyn FileLayer, available: Option<u64>) {
        let missing_bytes = if state.there { 0 } else { self.bytes };
        let wanted = self.headroom_bytes.saturating_add(missing_bytes);
        if available.is_some_and(|available| available < wanted) {
            return;
        }
        if missing_bytes > 0 {
            self.make(state, layer);
        }
        state.full = missing_bytes > 0 && !state.there;
    }

    /// Writes the reserve, so that its blocks exist.
    fn make(&self, state: &mut State, layer: &dyn FileLayer) {
        let unfinished = self.directory.join(UNFINISHED);
        let made = || {
            let file = layer.open(&unfinished, true)?;
            file.set_len(0)?;
            write_zeros(&*file, 0, self.bytes)?;
            file.sync_data()?;
            layer.rename(&unfinished, &self.directory.join(NAME))?;
            layer.sync_dir(&self.directory)
        };
        match made() {
            Ok(()) => state.there = true,
            Err(error) => {
                tracing::warn!(%error, "the log's reserve could not be made; trying again later");
                if let Err(error) = layer.remove(&unfinished) {
                    tracing::debug!(%error, "an unfinished reserve stays until the next attempt");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use trellis_engine_traits::{Durability, Error, ErrorKind, Expect, StreamId, StreamLog};

    use super::*;
    use crate::layer::{LayerFile, LockGuard, OsFiles};
    use crate::open::{SegmentLog, SegmentOptions};

    /// Real files on a medium that has as much room as it is told.
    #[derive(Debug)]
    struct Told(AtomicU64);

    impl FileLayer for Told {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            OsFiles.create_dir(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            OsFiles.list(path)
        }

        fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LayerFile>> {
            OsFiles.open(path, create)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            OsFiles.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            OsFiles.remove(path)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            OsFiles.sync_dir(path)
        }

        fn available_bytes(&self, _path: &Path) -> Option<u64> {
            Some(self.0.load(Ordering::Relaxed))
        }

        fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
            OsFiles.lock(path)
        }
    }

    /// Promise: the append that meets the bound is refused and takes nothing of the reserve; those
    /// after it are let through, until there is room again.
    #[test]
    fn the_reserve_is_for_what_comes_after_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Arc::new(Told(AtomicU64::new(u64::MAX)));
        let layer: Arc<dyn FileLayer> = medium.clone();
        let log = SegmentLog::open_with(layer, directory.path(), SegmentOptions::default());
        let log = log.unwrap();
        let stream = StreamId::new("journal").unwrap();
        let record = [Bytes::from(vec![7; 100 << 10])];
        let append = |records| log.append(&stream, records, Expect::Any, Durability::Synced);
        let refused = |error: Error| {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert_eq!(error.fact("reason"), Some("storage_full"), "{error:?}");
        };
        append(&record).unwrap();
        let reserve = directory.path().join(NAME);
        assert!(reserve.exists(), "it is made when the log grows");
        medium.0.store(0, Ordering::Relaxed);
        // What exists of the segment takes one more or two.
        let written = (0..4).map(|_| append(&record)).take_while(Result::is_ok).count();
        assert!(written < 4, "nothing was refused");
        assert!(reserve.exists(), "the refused append took the reserve");
        let next = log.bounds(&stream).unwrap().next;
        refused(append(&[]).unwrap_err());
        append(&record).expect("what comes after a refusal is let through");
        refused(append(&[]).unwrap_err());
        medium.0.store(u64::MAX, Ordering::Relaxed);
        append(&[]).expect("there is room again");
        append(&record).unwrap();
        assert_eq!(log.bounds(&stream).unwrap().next, next + 2);
        log.close().unwrap();
    }
}
