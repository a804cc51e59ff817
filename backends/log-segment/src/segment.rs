//! A segment file: a header block, frames one after the other, zeros.
//!
//! The header block, little endian; the rest of it is zero and frames begin at 4096, so that no
//! write of a frame touches the header's sector:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `TLS1` |
//! | 4 | 4 | format version, 1 |
//! | 8 | 8 | first offset, as in the file's name |
//! | 16 | 8 | nonce: CRC-32 of the stream's name, and of the name and the first offset |
//! | 24 | 4 | CRC-32 of 0 to 24 |
//!
//! Zeros are written ahead of the frames, so that a frame overwrites blocks that exist and its
//! flush need not touch the file system's journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_engine_traits::{Offset, Result, StreamId};

use crate::error;
use crate::frame::{u32_at, u64_at};
use crate::layer::{FileLayer, LayerFile};

/// Where the frames begin.
pub(crate) const FRAMES_BEGIN: u64 = 4096;
const MAGIC: [u8; 4] = *b"TLS1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 28;
const SUFFIX: &str = ".segment";
const UNFINISHED: &str = ".new";

/// Bytes between two entries of the sparse index.
const INDEX_EVERY_BYTES: u64 = 64 << 10;

/// The least and the most that is filled ahead at a time: little for the many small streams, and
/// for a busy one a bigger flush only every few megabytes.
const FILL_BYTES_MIN: u64 = 64 << 10;
const FILL_BYTES_MAX: u64 = 4 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Whether all bytes are zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    // Compared as a block: an open looks at megabytes of them.
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

/// One segment; the file itself is opened by whoever needs it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: Offset,
    pub(crate) path: PathBuf,
    pub(crate) nonce: u64,
    /// Frames by offset and position, ascending, about every 64 KiB. May be thrown away.
    index: Mutex<Vec<(Offset, u64)>>,
}

impl Segment {
    pub(crate) fn new(stream: &StreamId, directory: &Path, first: Offset) -> Self {
        let path = directory.join(format!("{first:020}{SUFFIX}"));
        let name = stream.as_str().as_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(name);
        hasher.update(&first.to_le_bytes());
        let nonce = u64::from(crc32fast::hash(name)) << 32 | u64::from(hasher.finalize());
        Self { first, path, nonce, index: Mutex::new(vec![(first, FRAMES_BEGIN)]) }
    }

    /// The first offset that a file name tells, if it is a segment's.
    pub(crate) fn parse_name(name: &str) -> Option<Offset> {
        let digits = name.strip_suffix(SUFFIX)?;
        let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|first| plain && *first > 0)
    }

    /// Whether a file name is that of a segment whose creation was cut short.
    pub(crate) fn is_unfinished(name: &str) -> bool {
        name.strip_suffix(UNFINISHED).and_then(Self::parse_name).is_some()
    }

    /// Makes the file under its final name, header durable, first zeros there. The directory is
    /// not synced yet. After a failure the segment is not there.
    pub(crate) fn create(&self, layer: &dyn FileLayer) -> io::Result<(Arc<dyn LayerFile>, u64)> {
        let mut unfinished = self.path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        let written = self.write_unfinished(layer, &unfinished);
        let outcome = written.and_then(|file| {
            layer.rename(&unfinished, &self.path)?;
            Ok(file)
        });
        outcome.inspect_err(|_| {
            if let Err(error) = layer.remove(&unfinished) {
                tracing::debug!(%error, "an unfinished segment stays until the next open");
            }
        })
    }

    /// As [`Self::create`], out of a file of zeros whose blocks exist.
    pub(crate) fn adopt(
        &self,
        layer: &dyn FileLayer,
        zeros: &Path,
    ) -> io::Result<Arc<dyn LayerFile>> {
        let file = layer.open(zeros, false)?;
        file.write_at(&self.header(), 0)?;
        file.sync_data()?;
        layer.rename(zeros, &self.path)?;
        Ok(file)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.first.to_le_bytes());
        header.extend_from_slice(&self.nonce.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        header
    }

    fn write_unfinished(
        &self,
        layer: &dyn FileLayer,
        path: &Path,
    ) -> io::Result<(Arc<dyn LayerFile>, u64)> {
        let file = layer.open(path, true)?;
        file.set_len(0)?;
        write_zeros(&*file, 0, FILL_BYTES_MIN)?;
        file.write_at(&self.header(), 0)?;
        file.sync_data()?;
        Ok((file, FILL_BYTES_MIN))
    }

    /// Checks the header against the name.
    pub(crate) fn check(&self, stream: &StreamId, file: &dyn LayerFile) -> Result<()> {
        let mut header = [0; HEADER_BYTES];
        let filled =
            file.read_full(&mut header, 0).map_err(|cause| error::medium(cause, &self.path))?;
        let damaged = || error::damaged(stream, self.first, &self.path).operation("open");
        let sum = crc32fast::hash(header.get(..24).unwrap_or_default());
        if filled < HEADER_BYTES || !header.starts_with(&MAGIC) || u32_at(&header, 24) != Some(sum)
        {
            return Err(damaged());
        }
        match u32_at(&header, 4) {
            Some(VERSION) => {}
            found => {
                let found = found.unwrap_or_default().to_string();
                return Err(error::newer_format(&self.path, &found).operation("open"));
            }
        }
        let same =
            u64_at(&header, 8) == Some(self.first) && u64_at(&header, 16) == Some(self.nonce);
        if same { Ok(()) } else { Err(damaged()) }
    }

    /// Notes a frame that was met; only every 64 KiB one is kept.
    pub(crate) fn note(&self, first: Offset, position: u64) {
        let mut index = self.index.lock();
        if index.last().is_none_or(|(_, last)| position >= last + INDEX_EVERY_BYTES) {
            index.push((first, position));
        }
    }

    /// The last known frame at or before `offset`.
    pub(crate) fn find(&self, offset: Offset) -> (Offset, u64) {
        let index = self.index.lock();
        let after = index.partition_point(|(first, _)| *first <= offset);
        let found = after.checked_sub(1).and_then(|at| index.get(at));
        found.copied().unwrap_or((self.first, FRAMES_BEGIN))
    }
}

/// How far to fill so that `end` is covered; no further than needed when room is `scarce`.
pub(crate) fn fill_target(filled: u64, end: u64, segment_bytes: u64, scarce: bool) -> u64 {
    if scarce {
        return end.next_multiple_of(FILL_BYTES_MIN);
    }
    let ahead = filled + filled.clamp(FILL_BYTES_MIN, FILL_BYTES_MAX);
    ahead.min(segment_bytes).max(end).next_multiple_of(4096)
}

/// Writes zeros from `from` to `to`.
pub(crate) fn write_zeros(file: &dyn LayerFile, from: u64, to: u64) -> io::Result<()> {
    let mut position = from;
    while position < to {
        let bytes = usize::try_from(to - position).unwrap_or(usize::MAX).min(ZEROS.len());
        let zeros = ZEROS.get(..bytes).unwrap_or_default();
        file.write_at(zeros, position)?;
        position += bytes as u64;
    }
    Ok(())
}
