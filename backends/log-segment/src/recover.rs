//! Opening a stream after whatever happened to it.
//!
//! Only the last segment can end in a torn frame: a segment begins after all before it is durable.
//! There, frames are valid up to some position. If only zeros follow, that is the end. If not, an
//! append was cut short, unless something proves that there were durable records: the mark, or a
//! later frame that says so. With proof it is `Corrupt` and nothing is changed; without, the rest
//! becomes zeros, so that it can never come back.
//!
//! A later frame alone is no proof: the kernel writes pages in any order, so of several unflushed
//! appends the last may have reached the medium without the first.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trellis_engine_traits::{Offset, Result, StreamId};

use crate::error;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, find_magic};
use crate::layer::LayerFile;
use crate::mark::{Durable, Mark};
use crate::reader::Window;
use crate::segment::{FRAMES_BEGIN, Segment, all_zero, write_zeros};
use crate::stream::{Shared, Stream, View};

const PIECE_BYTES: usize = 256 << 10;

/// Opens a stream; `None` if nothing was ever appended to it.
///
/// # Errors
/// `Corrupt` if durable records are damaged or missing; `Unavailable`, `OutcomeUnknown` from the
/// medium.
pub(crate) fn recover(
    shared: &Arc<Shared>,
    name: &StreamId,
    directory: PathBuf,
) -> Result<Option<Stream>> {
    let layer = &*shared.layer;
    let medium = |cause| error::medium(cause, &directory).operation("open");
    let mut firsts: Vec<Offset> = Vec::new();
    for file in layer.list(&directory).map_err(medium)? {
        if Segment::is_unfinished(&file) {
            layer.remove(&directory.join(&file)).map_err(medium)?;
        }
        firsts.extend(Segment::parse_name(&file));
    }
    firsts.sort_unstable();
    let (mut mark, durable) = Mark::open(layer, &directory).map_err(medium)?;
    let mut segments = VecDeque::new();
    let mut last = None;
    for first in firsts {
        let segment = Arc::new(Segment::new(name, &directory, first));
        let file = layer.open(&segment.path, false).map_err(medium)?;
        segment.check(name, &*file)?;
        segments.push_back(Arc::clone(&segment));
        last = Some((segment, file));
    }
    let Some((active, file)) = last else {
        return if durable.next > 1 {
            Err(error::damaged(name, 1, &directory).operation("open"))
        } else {
            Ok(None)
        };
    };
    // The directory may never have been synced if the process died between rename and sync.
    layer.sync_dir(&directory).map_err(|cause| shared.poison(cause))?;
    let scan = Scan { stream: name, segment: &active, file: &file, durable };
    let (position, next) = scan.run().map_err(|error| error.operation("open"))?;
    let filled = file.size().map_err(medium)?;
    file.sync_data().map_err(|cause| shared.poison(cause))?;
    let found = Durable { next, segment: active.first, position };
    if found != durable {
        mark.note(found);
    }
    let view = View { segments, active, file, position, next };
    let shared = Arc::clone(shared);
    Ok(Some(Stream::new(name.clone(), directory, shared, view, filled, mark)))
}

/// The scan of the last segment.
struct Scan<'a> {
    stream: &'a StreamId,
    segment: &'a Segment,
    file: &'a Arc<dyn LayerFile>,
    durable: Durable,
}

impl Scan<'_> {
    /// Where the frames end and the offset after the last, with everything up to there written
    /// anew unless it is known to be durable, and zeros behind. Not synced.
    fn run(&self) -> Result<(u64, Offset)> {
        let path: &Path = &self.segment.path;
        let medium = |cause| error::medium(cause, path);
        let (position, next) = self.frames().map_err(medium)?;
        if self.durable.next > next {
            return Err(error::damaged(self.stream, next, path));
        }
        let end = self.file.size().map_err(medium)?;
        if !self.is_zero(position, end).map_err(medium)? {
            if self.is_proven(position, end, next).map_err(medium)? {
                return Err(error::damaged(self.stream, next, path));
            }
            tracing::warn!(
                stream = %self.stream,
                file = %path.display(),
                offset = next,
                dropped_bytes = end.saturating_sub(position),
                "an append that was cut short is dropped"
            );
            write_zeros(&**self.file, position, end).map_err(medium)?;
        }
        self.rewrite(position).map_err(medium)?;
        Ok((position, next))
    }

    fn frames(&self) -> io::Result<(u64, Offset)> {
        let mut window = Window::new(Arc::clone(self.file));
        let (mut position, mut next) = (FRAMES_BEGIN, self.segment.first);
        loop {
            let bytes = window.at(position, FRAME_HEADER_BYTES)?;
            let header = FrameHeader::parse(bytes, self.segment.nonce);
            let Some(header) = header.filter(|header| header.first == next) else { break };
            if !body_holds(&mut window, position, &header)? {
                break;
            }
            self.segment.note(next, position);
            position += u64::from(header.frame_bytes);
            next = header.next();
        }
        Ok((position, next))
    }

    fn is_zero(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut window = Window::new(Arc::clone(self.file));
        let mut position = from;
        while position < to {
            let bytes = window.at(position, PIECE_BYTES)?;
            if bytes.is_empty() || !all_zero(bytes) {
                return Ok(bytes.is_empty());
            }
            position += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Whether a frame behind `from` says that the record at `next` was durable.
    fn is_proven(&self, from: u64, to: u64, next: Offset) -> io::Result<bool> {
        let mut window = Window::new(Arc::clone(self.file));
        let mut position = from;
        while position < to {
            let bytes = window.ahead(position, FRAME_HEADER_BYTES)?;
            let Some(at) = find_magic(bytes) else {
                // A magic may begin in the last three bytes.
                position += bytes.len().saturating_sub(3).max(1) as u64;
                continue;
            };
            position += at as u64;
            let bytes = window.at(position, FRAME_HEADER_BYTES)?;
            let header = FrameHeader::parse(bytes, self.segment.nonce);
            if header.is_some_and(|header| header.durable_next > next) {
                return Ok(true);
            }
            position += 1;
        }
        Ok(false)
    }

    /// Writes what is not known to be durable once more. After a flush that failed in an earlier
    /// process the kernel may hold pages as clean that never reached the medium; a mere flush
    /// would then do nothing, and loss of power would take what this open had answered.
    fn rewrite(&self, end: u64) -> io::Result<()> {
        let known = self.durable.segment == self.segment.first;
        let mut position = if known { self.durable.position } else { FRAMES_BEGIN };
        let mut window = Window::new(Arc::clone(self.file));
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(usize::MAX);
            let bytes = window.at(position, left.min(PIECE_BYTES))?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_at(bytes, position)?;
            position += bytes.len() as u64;
        }
        Ok(())
    }
}

fn body_holds(window: &mut Window, position: u64, header: &FrameHeader) -> io::Result<bool> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = position + FRAME_HEADER_BYTES as u64;
    let end = position + u64::from(header.frame_bytes);
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let bytes = window.at(at, left.min(PIECE_BYTES))?;
        if bytes.is_empty() {
            return Ok(false);
        }
        hasher.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(hasher.finalize() == header.body_sum)
}
