//! Reading frames: a window over a file, and the walk that a read makes.
//!
//! A read holds no lock while it reads or visits, and no more memory than one record or 64 KiB. It
//! checks each frame's header and each record it visits; whatever does not hold is `Corrupt`,
//! because a read only goes where the stream is known to have records.

use std::io;
use std::sync::Arc;

use trellis_engine_traits::{
    Error, Offset, ReadBudget, ReadEnd, ReadStop, RecordVisitor, Result, StreamId,
};

use crate::error;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, RECORD_HEADER_BYTES, record_sum, u32_at};
use crate::layer::LayerFile;
use crate::segment::Segment;

const WINDOW_BYTES: usize = 64 << 10;

/// A part of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn LayerFile>,
    start: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    filled: usize,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn LayerFile>) -> Self {
        Self { file, start: 0, buffer: Vec::new(), filled: 0 }
    }

    /// Whatever is in memory from `position` on, `least` bytes at least; fewer at the end of the
    /// file. Whoever walks on in small steps reads each byte of the file about once.
    pub(crate) fn ahead(&mut self, position: u64, least: usize) -> io::Result<&[u8]> {
        self.at(position, least)?;
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..).unwrap_or_default())
    }

    /// The `bytes` bytes at `position`; fewer at the end of the file.
    pub(crate) fn at(&mut self, position: u64, bytes: usize) -> io::Result<&[u8]> {
        let end = self.start + self.filled as u64;
        if position < self.start || position + bytes as u64 > end {
            let wanted = bytes.max(WINDOW_BYTES);
            if self.buffer.len() != wanted {
                self.buffer = vec![0; wanted];
            }
            (self.start, self.filled) = (position, 0);
            self.filled = self.file.read_full(&mut self.buffer, position)?;
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..self.filled).unwrap_or_default();
        Ok(rest.get(..bytes).unwrap_or(rest))
    }
}

/// A read on its way through the segments.
pub(crate) struct Walk<'a, 'v> {
    pub(crate) stream: &'a StreamId,
    /// The next offset to visit.
    pub(crate) offset: Offset,
    pub(crate) budget: ReadBudget,
    pub(crate) visited: bool,
    pub(crate) visit: &'a mut RecordVisitor<'v>,
}

impl Walk<'_, '_> {
    /// Visits the records below `until` of one segment; answers how the read ended, if it did.
    pub(crate) fn segment(
        &mut self,
        segment: &Segment,
        file: Arc<dyn LayerFile>,
        until: Offset,
    ) -> Result<Option<ReadEnd>> {
        let mut window = Window::new(file);
        let (mut frame_first, mut position) = segment.find(self.offset);
        while self.offset < until {
            let medium = |cause| error::medium(cause, &segment.path).operation("read");
            let bytes = window.at(position, FRAME_HEADER_BYTES).map_err(medium)?;
            let header = FrameHeader::parse(bytes, segment.nonce)
                .filter(|header| header.first == frame_first && header.next() <= until)
                .ok_or_else(|| self.damaged(segment, frame_first))?;
            segment.note(header.first, position);
            if header.next() > self.offset {
                let end = self.frame(segment, &mut window, position, header)?;
                if end.is_some() {
                    return Ok(end);
                }
            }
            frame_first = header.next();
            position += u64::from(header.frame_bytes);
        }
        Ok(None)
    }

    fn frame(
        &mut self,
        segment: &Segment,
        window: &mut Window,
        position: u64,
        header: FrameHeader,
    ) -> Result<Option<ReadEnd>> {
        let end = position + u64::from(header.frame_bytes);
        let mut at = position + FRAME_HEADER_BYTES as u64;
        for offset in header.first..header.next() {
            let medium = |cause| error::medium(cause, &segment.path).operation("read");
            let prefix = window.at(at, RECORD_HEADER_BYTES).map_err(medium)?;
            let (length, sum) = match (u32_at(prefix, 0), u32_at(prefix, 4)) {
                (Some(length), Some(sum)) => (length as usize, sum),
                _ => return Err(self.damaged(segment, offset)),
            };
            at += RECORD_HEADER_BYTES as u64;
            if at + length as u64 > end {
                return Err(self.damaged(segment, offset));
            }
            if offset >= self.offset {
                if self.exceeds(length) {
                    return Ok(Some(ReadEnd { next: offset, stop: ReadStop::Budget }));
                }
                let record = window.at(at, length).map_err(medium)?;
                if record.len() != length || record_sum(offset, record) != sum {
                    return Err(self.damaged(segment, offset));
                }
                self.count(length);
                self.offset = offset + 1;
                if (self.visit)(offset, record).is_break() {
                    let next = self.offset;
                    return Ok(Some(ReadEnd { next, stop: ReadStop::Stopped }));
                }
            }
            at += length as u64;
        }
        if at == end { Ok(None) } else { Err(self.damaged(segment, header.first)) }
    }

    fn exceeds(&self, length: usize) -> bool {
        self.visited && (self.budget.records_max == 0 || length > self.budget.bytes_max)
    }

    fn count(&mut self, length: usize) {
        self.visited = true;
        self.budget.records_max = self.budget.records_max.saturating_sub(1);
        self.budget.bytes_max = self.budget.bytes_max.saturating_sub(length);
    }

    fn damaged(&self, segment: &Segment, offset: Offset) -> Error {
        error::damaged(self.stream, offset.max(self.offset), &segment.path).operation("read")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A file of zeros that counts the bytes that are read.
    #[derive(Debug)]
    struct Counted(usize, AtomicUsize);

    impl LayerFile for Counted {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
            let left = self.0.saturating_sub(position as usize).min(into.len());
            self.1.fetch_add(left, Ordering::Relaxed);
            Ok(left)
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.0 as u64)
        }
    }

    #[test]
    fn small_steps_through_a_file_read_it_about_once() {
        const FILE_BYTES: usize = 1 << 20;
        let file = Arc::new(Counted(FILE_BYTES, AtomicUsize::new(0)));
        let mut window = Window::new(Arc::<Counted>::clone(&file));
        for position in (0..FILE_BYTES as u64).step_by(4) {
            let ahead = window.ahead(position, FRAME_HEADER_BYTES).unwrap().len();
            assert!(ahead >= FRAME_HEADER_BYTES.min(FILE_BYTES - position as usize));
        }
        assert!(file.1.load(Ordering::Relaxed) < 2 * FILE_BYTES);
    }
}
