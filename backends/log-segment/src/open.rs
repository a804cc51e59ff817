//! Opening a log.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use trellis_engine_traits::{LogLimits, LogProfile, Persistence, Result, StreamId};

use crate::error;
use crate::layer::{FileLayer, LockGuard, OsFiles};
use crate::recover::recover;
use crate::reserve::Reserve;
use crate::stream::{Shared, Stream};

const FORMAT: &str = "trellis-log-segment 1\n";
const FORMAT_STEM: &str = "trellis-log-segment ";
const SEGMENT_BYTES_MIN: u64 = 8192;

/// How a log keeps its files. Takes effect for what is written from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// Bytes from which on a new segment is begun; also how much a trim may keep. 8 KiB at least.
    pub segment_bytes: u64,
    /// Bytes that are written ahead to a file `RESERVE`, and used after an append was refused
    /// because the medium is full: what is appended then should be what makes room. At most a
    /// segment; 0 for none.
    pub reserve_bytes: u64,
    /// Bytes that are to stay free on the medium: an append that needs more is refused like on a
    /// full one. Others, the store above all, need some to make room.
    pub headroom_bytes: u64,
}

impl SegmentOptions {
    /// The same with this segment size.
    #[must_use]
    pub const fn segment_bytes(mut self, segment_bytes: u64) -> Self {
        self.segment_bytes = segment_bytes;
        self
    }

    /// The same with this reserve.
    #[must_use]
    pub const fn reserve_bytes(mut self, reserve_bytes: u64) -> Self {
        self.reserve_bytes = reserve_bytes;
        self
    }

    /// The same with this headroom.
    #[must_use]
    pub const fn headroom_bytes(mut self, headroom_bytes: u64) -> Self {
        self.headroom_bytes = headroom_bytes;
        self
    }
}

impl Default for SegmentOptions {
    /// Segments of 64 MiB, 4 MiB of reserve, 16 MiB of headroom.
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, reserve_bytes: 4 << 20, headroom_bytes: 16 << 20 }
    }
}

/// A log in a directory.
///
/// ```
/// use bytes::Bytes;
/// use trellis_engine_traits::{Durability, Expect, StreamId, StreamLog};
/// use trellis_log_segment::{SegmentLog, SegmentOptions};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let log = SegmentLog::open(path, SegmentOptions::default())?;
/// let journal = StreamId::new("journal")?;
/// log.append(&journal, &[Bytes::from("a")], Expect::Next(1), Durability::Synced)?;
/// assert_eq!(log.bounds(&journal)?.durable_next, 2);
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentLog {
    pub(crate) shared: Arc<Shared>,
    pub(crate) profile: LogProfile,
    pub(crate) streams: RwLock<BTreeMap<StreamId, Arc<Stream>>>,
    pub(crate) streams_directory: PathBuf,
    /// Held while a stream is made.
    pub(crate) creating: Mutex<()>,
    /// Last, so that the files are closed before another open gets it.
    pub(crate) lock: Mutex<Option<LockGuard>>,
}

impl SegmentLog {
    /// Opens the log in `directory`, and makes it if nothing is there.
    ///
    /// # Errors
    /// `Locked` if it is open; `Unsupported` for a newer format; `Corrupt` if durable records are
    /// damaged or missing, and then nothing was changed; `InvalidInput` for an option out of range;
    /// `Unavailable`, `OutcomeUnknown` from the medium.
    ///
    /// # Durability
    /// Everything that an open finds is durable when it returns.
    ///
    /// # Cost
    /// Reads the last segment of every stream.
    pub fn open(directory: impl AsRef<Path>, options: SegmentOptions) -> Result<Self> {
        Self::open_with(Arc::new(OsFiles), directory.as_ref(), options)
    }

    /// As [`Self::open`], on other file operations; for tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[doc(hidden)]
    pub fn open_with(
        layer: Arc<dyn FileLayer>,
        directory: &Path,
        options: SegmentOptions,
    ) -> Result<Self> {
        Self::open_inner(layer, directory, options)
            .map_err(|error| error.backend(error::BACKEND).operation("open"))
    }

    fn open_inner(
        layer: Arc<dyn FileLayer>,
        directory: &Path,
        options: SegmentOptions,
    ) -> Result<Self> {
        if options.segment_bytes < SEGMENT_BYTES_MIN {
            return Err(error::bad_option("segment_bytes", SEGMENT_BYTES_MIN));
        }
        let streams_directory = directory.join("streams");
        let medium = |cause| error::medium(cause, directory);
        layer.create_dir(directory).map_err(medium)?;
        let lock_path = directory.join("LOCK");
        let lock = layer.lock(&lock_path).map_err(|cause| error::medium(cause, &lock_path))?;
        let lock = lock.ok_or_else(|| error::locked(&lock_path))?;
        check_format(&*layer, directory)?;
        layer.create_dir(&streams_directory).map_err(medium)?;
        for path in [Some(&*streams_directory), Some(directory), directory.parent()] {
            let path = path.filter(|path| !path.as_os_str().is_empty());
            path.map_or(Ok(()), |path| layer.sync_dir(path)).map_err(medium)?;
        }
        let reserve_bytes = options.reserve_bytes.min(options.segment_bytes);
        let headroom_bytes = options.headroom_bytes;
        let reserve = Reserve::find(&*layer, directory, reserve_bytes, headroom_bytes);
        let shared = Arc::new(Shared {
            reserve: reserve.map_err(medium)?,
            layer,
            segment_bytes: options.segment_bytes,
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let streams = recover_all(&shared, &streams_directory)?;
        Ok(Self {
            shared,
            profile: described(),
            streams: RwLock::new(streams),
            streams_directory,
            creating: Mutex::new(()),
            lock: Mutex::new(Some(lock)),
        })
    }
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLog")
            .field("directory", &self.streams_directory)
            .finish_non_exhaustive()
    }
}

fn described() -> LogProfile {
    LogProfile {
        name: error::BACKEND,
        limits: LogLimits::DEFAULT,
        persistence: Persistence::Disk,
        emulated: &[],
    }
}

fn recover_all(shared: &Arc<Shared>, directory: &Path) -> Result<BTreeMap<StreamId, Arc<Stream>>> {
    let mut streams = BTreeMap::new();
    let names = shared.layer.list(directory).map_err(|cause| error::medium(cause, directory))?;
    for name in names {
        let Ok(id) = StreamId::new(&name) else {
            tracing::warn!(name, "not a stream's directory; left alone");
            continue;
        };
        if let Some(stream) = recover(shared, &id, directory.join(&name))? {
            streams.insert(id, Arc::new(stream));
        }
    }
    Ok(streams)
}

/// Reads the file `FORMAT`, or makes it where there is no log yet.
fn check_format(layer: &dyn FileLayer, directory: &Path) -> Result<()> {
    let path = directory.join("FORMAT");
    let medium = |cause| error::medium(cause, &path);
    let names = layer.list(directory).map_err(medium)?;
    if !names.iter().any(|name| name == "FORMAT") {
        if names.iter().any(|name| name == "streams") {
            return Err(error::not_a_log(&path));
        }
        let unfinished = directory.join("FORMAT.new");
        let file = layer.open(&unfinished, true).map_err(medium)?;
        file.set_len(0).map_err(medium)?;
        file.write_at(FORMAT.as_bytes(), 0).map_err(medium)?;
        file.sync_data().map_err(medium)?;
        layer.rename(&unfinished, &path).map_err(medium)?;
        return layer.sync_dir(directory).map_err(medium);
    }
    if !names.iter().any(|name| name == "streams") {
        // Whoever renamed it may have been killed before the name was durable; the directory of
        // the streams must not outlive it.
        layer.sync_dir(directory).map_err(medium)?;
    }
    let file = layer.open(&path, false).map_err(medium)?;
    let mut bytes = [0; 64];
    let filled = file.read_full(&mut bytes, 0).map_err(medium)?;
    let text = bytes.get(..filled).and_then(|text| std::str::from_utf8(text).ok());
    match text {
        Some(FORMAT) => Ok(()),
        Some(text) => match text.strip_prefix(FORMAT_STEM).map(str::trim) {
            Some(version) if version.parse::<u32>().is_ok_and(|version| version > 1) => {
                Err(error::newer_format(&path, version))
            }
            _ => Err(error::not_a_log(&path)),
        },
        None => Err(error::not_a_log(&path)),
    }
}
