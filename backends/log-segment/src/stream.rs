//! An open stream: appending, flushing, rolling and trimming.
//!
//! Locks, taken in this order: `writer` (one append, roll or trim at a time), `mark` (one flush at
//! a time), `view` (a few words, never held over a file operation). An append writes under
//! `writer` and flushes without it, so appends that come meanwhile are covered by the next flush,
//! or by this one: whoever then finds its records durable returns at once.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use trellis_engine_traits::{
    Appended, Bounds, Durability, Expect, Offset, ReadBudget, ReadEnd, ReadStop, RecordVisitor,
    Result, StreamId,
};

use crate::error;
use crate::frame;
use crate::layer::{FileLayer, LayerFile};
use crate::mark::{Durable, Mark};
use crate::reader::Walk;
use crate::reserve::{Reserve, is_full};
use crate::segment::{FRAMES_BEGIN, Segment, fill_target, write_zeros};

/// A frame from this size on extends the file itself: its flush is dominated by its bytes.
const UNFILLED_FRAME_BYTES: u64 = 256 << 10;

/// A buffer that grew beyond this is given back after the append.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// What all streams of a log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layer: Arc<dyn FileLayer>,
    pub(crate) reserve: Reserve,
    pub(crate) segment_bytes: u64,
    pub(crate) poisoned: AtomicBool,
    pub(crate) closed: AtomicBool,
}

impl Shared {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed()) } else { Ok(()) }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.is_poisoned() { Err(error::poisoned()) } else { Ok(()) }
    }

    /// Refuses every later write; answers what the failed one is to its caller.
    pub(crate) fn poison(&self, cause: io::Error) -> trellis_engine_traits::Error {
        self.poisoned.store(true, Ordering::Release);
        tracing::error!(error = %cause, "the log is poisoned: a flush or a write failed");
        error::unknown(cause)
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    name: StreamId,
    directory: PathBuf,
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    mark: Mutex<Mark>,
    view: Mutex<View>,
    durable_next: AtomicU64,
}

/// What only writers need.
#[derive(Debug)]
struct Writer {
    /// The active segment's blocks exist up to here.
    filled: u64,
    frame: Vec<u8>,
}

/// What readers see. Changed only under `writer`.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Ascending, never empty; the last one is active.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: Arc<Segment>,
    pub(crate) file: Arc<dyn LayerFile>,
    /// Where the next frame goes.
    pub(crate) position: u64,
    pub(crate) next: Offset,
}

impl View {
    fn first(&self) -> Offset {
        self.segments.front().map_or(self.active.first, |segment| segment.first)
    }
}

impl Stream {
    /// A stream as recovery found it; everything in it is durable.
    pub(crate) fn new(
        name: StreamId,
        directory: PathBuf,
        shared: Arc<Shared>,
        view: View,
        filled: u64,
        mark: Mark,
    ) -> Self {
        let durable_next = AtomicU64::new(view.next);
        let writer = Mutex::new(Writer { filled, frame: Vec::new() });
        let (mark, view) = (Mutex::new(mark), Mutex::new(view));
        Self { name, directory, shared, writer, mark, view, durable_next }
    }

    /// Makes a stream that was never appended to.
    pub(crate) fn create(
        shared: &Arc<Shared>,
        name: &StreamId,
        directory: PathBuf,
    ) -> Result<Self> {
        let layer = &*shared.layer;
        let medium = |cause| error::medium(cause, &directory);
        layer.create_dir(&directory).map_err(medium)?;
        let (mark, _) = Mark::open(layer, &directory).map_err(medium)?;
        let active = Arc::new(Segment::new(name, &directory, 1));
        let (file, filled) =
            active.create(layer).map_err(|cause| error::medium(cause, &active.path))?;
        for path in [Some(&*directory), directory.parent()].into_iter().flatten() {
            layer.sync_dir(path).map_err(|cause| shared.poison(cause))?;
        }
        let segments = VecDeque::from([Arc::clone(&active)]);
        let view = View { segments, active, file, position: FRAMES_BEGIN, next: 1 };
        Ok(Self::new(name.clone(), directory, Arc::clone(shared), view, filled, mark))
    }

    pub(crate) fn append(
        &self,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        let mut writer = self.writer.lock();
        self.shared.check_writable()?;
        let first = self.view.lock().next;
        if let Expect::Next(expected) = expect
            && expected != first
        {
            return Err(error::conflict(expected, first));
        }
        if records.is_empty() {
            let room = self.shared.reserve.check(&*self.shared.layer);
            room.map_err(|cause| error::medium(cause, &self.directory))?;
        } else {
            self.write(&mut writer, records)?;
        }
        drop(writer);
        let next = first + records.len() as u64;
        if durability == Durability::Synced {
            self.sync(next)?;
        }
        Ok(Appended { first, next })
    }

    /// Writes one frame and publishes it.
    fn write(&self, writer: &mut Writer, records: &[Bytes]) -> Result<()> {
        let frame_bytes = frame::frame_bytes(records).ok_or_else(error::too_many_records)?;
        let bytes = u64::from(frame_bytes);
        let beyond = self.view.lock().position + bytes > self.shared.segment_bytes;
        if beyond && self.view.lock().position > FRAMES_BEGIN {
            self.roll(writer, bytes)?;
        }
        if let Err(cause) = self.make_blocks(writer, bytes) {
            if !is_full(&cause) || !self.shared.reserve.met_full() {
                return Err(error::medium(cause, &self.directory));
            }
            self.roll_into_reserve(writer, bytes)?;
        }
        let (active, file, position, first) = {
            let view = self.view.lock();
            (Arc::clone(&view.active), Arc::clone(&view.file), view.position, view.next)
        };
        let end = position + bytes;
        let durable_next = self.durable_next.load(Ordering::Acquire);
        frame::encode(&mut writer.frame, records, frame_bytes, (first, durable_next, active.nonce));
        if let Err(cause) = file.write_at(&writer.frame, position) {
            if is_full(&cause) {
                self.shared.reserve.met_full();
            }
            return Err(self.undo(&*file, writer.filled, (position, end), &active, cause));
        }
        writer.filled = writer.filled.max(end);
        if writer.frame.capacity() > KEPT_BUFFER_BYTES {
            writer.frame = Vec::new();
        }
        active.note(first, position);
        let mut view = self.view.lock();
        view.position = end;
        view.next = first + records.len() as u64;
        Ok(())
    }

    /// Sees to it that the active segment has blocks for a frame of `bytes`, or may take them.
    fn make_blocks(&self, writer: &mut Writer, bytes: u64) -> io::Result<()> {
        let (file, position) = {
            let view = self.view.lock();
            (Arc::clone(&view.file), view.position)
        };
        let end = position + bytes;
        if end <= writer.filled {
            return Ok(());
        }
        let scarce = self.shared.reserve.ask(&*self.shared.layer, end - writer.filled)?;
        if scarce || bytes < UNFILLED_FRAME_BYTES {
            let target = fill_target(writer.filled, end, self.shared.segment_bytes, scarce);
            // What a failed fill leaves behind is zeros, as if it had not been tried.
            write_zeros(&*file, writer.filled, target)?;
            writer.filled = target;
        }
        Ok(())
    }

    /// After a failed write: zeros where the frame was to be, and durably so, because the next
    /// frame goes there and a part of this one must never be taken for it. If even that fails,
    /// nobody knows.
    fn undo(
        &self,
        file: &dyn LayerFile,
        filled: u64,
        (position, end): (u64, u64),
        active: &Segment,
        cause: io::Error,
    ) -> trellis_engine_traits::Error {
        let restored = file
            .set_len(filled)
            .and_then(|()| write_zeros(file, position, end.min(filled)))
            .and_then(|()| file.sync_data());
        match restored {
            Ok(()) => error::medium(cause, &active.path),
            Err(second) => self.shared.poison(second),
        }
    }

    /// Ends the active segment, durably, and begins the next one, for a frame of `bytes`. The
    /// caller holds `writer`.
    fn roll(&self, writer: &mut Writer, bytes: u64) -> Result<()> {
        let mut mark = self.mark.lock();
        self.sync_active(&mut mark)?;
        let active = Arc::new(self.segment_after());
        match active.create(&*self.shared.layer) {
            Ok((file, filled)) => self.begin(writer, &mut mark, active, file, filled),
            Err(cause) if is_full(&cause) && self.shared.reserve.met_full() => {
                self.begin_in_reserve(writer, &mut mark, active, bytes)
            }
            Err(cause) => Err(error::medium(cause, &active.path)),
        }
    }

    /// The same where there is no room for another segment.
    fn roll_into_reserve(&self, writer: &mut Writer, bytes: u64) -> Result<()> {
        let mut mark = self.mark.lock();
        self.sync_active(&mut mark)?;
        let active = Arc::new(self.segment_after());
        self.begin_in_reserve(writer, &mut mark, active, bytes)
    }

    fn segment_after(&self) -> Segment {
        Segment::new(&self.name, &self.directory, self.view.lock().next)
    }

    fn begin_in_reserve(
        &self,
        writer: &mut Writer,
        mark: &mut Mark,
        active: Arc<Segment>,
        bytes: u64,
    ) -> Result<()> {
        let (layer, reserve) = (&*self.shared.layer, &self.shared.reserve);
        let taken = reserve.hand_over(FRAMES_BEGIN + bytes, |zeros| active.adopt(layer, zeros));
        let (file, filled) = taken.map_err(|cause| error::medium(cause, &active.path))?;
        layer.sync_dir(reserve.directory()).map_err(|cause| self.shared.poison(cause))?;
        self.begin(writer, mark, active, file, filled)
    }

    /// Appends to a segment that was just made from here on.
    fn begin(
        &self,
        writer: &mut Writer,
        mark: &mut Mark,
        active: Arc<Segment>,
        file: Arc<dyn LayerFile>,
        filled: u64,
    ) -> Result<()> {
        // The segment is there under its name: from here on there is no way back to the old one.
        self.shared.layer.sync_dir(&self.directory).map_err(|cause| self.shared.poison(cause))?;
        let next = active.first;
        mark.note(Durable { next, segment: next, position: FRAMES_BEGIN });
        mark.sync();
        writer.filled = filled;
        let mut view = self.view.lock();
        if view.active.first == next {
            // Nothing was written to the old one, and the new one has taken its name.
            view.segments.pop_back();
        }
        view.segments.push_back(Arc::clone(&active));
        view.active = active;
        view.file = file;
        view.position = FRAMES_BEGIN;
        Ok(())
    }

    /// Returns once records below `next` are durable.
    fn sync(&self, next: Offset) -> Result<()> {
        if self.durable_next.load(Ordering::Acquire) >= next {
            return Ok(());
        }
        let mut mark = self.mark.lock();
        if self.durable_next.load(Ordering::Acquire) >= next {
            return Ok(());
        }
        self.sync_active(&mut mark)
    }

    /// Flushes all that is written; the segments before the active one are durable already.
    fn sync_active(&self, mark: &mut Mark) -> Result<()> {
        if self.shared.is_poisoned() {
            return Err(error::unknown_by_other());
        }
        let (file, durable) = {
            let View { active, file, position, next, .. } = &*self.view.lock();
            let durable = Durable { next: *next, segment: active.first, position: *position };
            (Arc::clone(file), durable)
        };
        file.sync_data().map_err(|cause| self.shared.poison(cause))?;
        self.durable_next.fetch_max(durable.next, Ordering::AcqRel);
        mark.note(durable);
        Ok(())
    }

    pub(crate) fn flush(&self, up_to: Offset) -> Result<()> {
        self.shared.check_writable()?;
        let next = self.view.lock().next;
        if up_to > next { Err(error::beyond(next)) } else { self.sync(next) }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let view = self.view.lock();
        let durable_next = self.durable_next.load(Ordering::Acquire).min(view.next);
        Bounds { first: view.first(), next: view.next, durable_next }
    }

    pub(crate) fn trim(&self, before: Offset) -> Result<()> {
        let mut writer = self.writer.lock();
        self.shared.check_writable()?;
        let view = self.view.lock().clone();
        if before > view.next {
            return Err(error::beyond(view.next));
        }
        if before == view.next && before > view.active.first {
            self.roll(&mut writer, 0)?;
        }
        let mut trimmed = false;
        while let Some(oldest) = self.take_oldest(before) {
            let layer = &*self.shared.layer;
            if let Err(cause) = layer.remove(&oldest.path) {
                let failure = error::medium(cause, &oldest.path);
                self.view.lock().segments.push_front(oldest);
                return Err(failure);
            }
            // One at a time, so that whatever is lost in a crash, no hole is left.
            layer.sync_dir(&self.directory).map_err(|cause| error::medium(cause, &oldest.path))?;
            trimmed = true;
        }
        if trimmed {
            self.mark.lock().sync();
        }
        Ok(())
    }

    /// Takes the oldest segment out of sight if all its records are before `before`.
    fn take_oldest(&self, before: Offset) -> Option<Arc<Segment>> {
        let mut view = self.view.lock();
        let second = view.segments.get(1)?;
        if second.first <= before { view.segments.pop_front() } else { None }
    }

    pub(crate) fn read(
        &self,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        let bounds = self.bounds();
        if from > bounds.next {
            return Err(error::beyond(bounds.next));
        }
        let stream = &self.name;
        let mut walk = Walk { stream, offset: from, budget, visited: false, visit };
        loop {
            let (segment, file, until) = {
                let view = self.view.lock();
                if walk.offset >= bounds.next {
                    return Ok(ReadEnd { next: bounds.next, stop: ReadStop::End });
                }
                if walk.offset < view.first() {
                    return Err(error::trimmed(view.first()));
                }
                let after = view.segments.partition_point(|segment| segment.first <= walk.offset);
                let Some(segment) = after.checked_sub(1).and_then(|at| view.segments.get(at))
                else {
                    return Err(error::trimmed(view.first()));
                };
                let until = view.segments.get(after).map_or(bounds.next, |later| later.first);
                let active = Arc::ptr_eq(segment, &view.active);
                let file = active.then(|| Arc::clone(&view.file));
                (Arc::clone(segment), file, until)
            };
            let file = match file {
                Some(file) => file,
                None => match self.shared.layer.open(&segment.path, false) {
                    Ok(file) => file,
                    // Trimmed between the look at the view and now: the next look will say so.
                    Err(_) if self.bounds().first > walk.offset => continue,
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                        return Err(error::damaged(stream, walk.offset, &segment.path));
                    }
                    Err(cause) => return Err(error::medium(cause, &segment.path)),
                },
            };
            if let Some(end) = walk.segment(&segment, file, until.min(bounds.next))? {
                return Ok(end);
            }
        }
    }

    /// Makes everything durable for the last time.
    pub(crate) fn close(&self) -> Result<()> {
        let _writer = self.writer.lock();
        let mut mark = self.mark.lock();
        self.sync_active(&mut mark)?;
        mark.sync();
        Ok(())
    }
}
