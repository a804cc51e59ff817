//! The file `durable`: how far a stream is proven durable.
//!
//! Two slots, at 0 and 4096, written in turn, so that one is whole whatever happens. A slot:
//! magic `TLD1` (4), checksum of what follows (4), number of the write (8), `durable_next` (8),
//! first offset of the segment (8), position in it (8); little endian.
//!
//! A slot is written after the flush that it tells of, so it never says too much. It is not
//! synced each time: that would double the cost of an append, and what it adds after loss of power
//! the frames say as well, in `durable_next`. After the mere end of a process it is exact.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trellis_engine_traits::Offset;

use crate::frame::{u32_at, u64_at};
use crate::layer::{FileLayer, LayerFile};

const MAGIC: [u8; 4] = *b"TLD1";
const SLOT_BYTES: usize = 40;
const SLOT_DISTANCE_BYTES: u64 = 4096;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) next: Offset,
    /// The segment that `position` is in, by its first offset.
    pub(crate) segment: Offset,
    pub(crate) position: u64,
}

impl Durable {
    /// What is durable of a stream of which nothing is.
    pub(crate) const NOTHING: Self = Self { next: 1, segment: 0, position: 0 };
}

#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    file: Arc<dyn LayerFile>,
    writes: u64,
}

impl Mark {
    /// Opens the mark of a stream's directory, and tells what it says.
    pub(crate) fn open(layer: &dyn FileLayer, directory: &Path) -> io::Result<(Self, Durable)> {
        let path = directory.join("durable");
        let file = layer.open(&path, true)?;
        let mut found = (0, Durable::NOTHING);
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            let filled = file.read_full(&mut bytes, slot * SLOT_DISTANCE_BYTES)?;
            let read = bytes.get(..filled).and_then(parse);
            found = read.filter(|(writes, _)| *writes > found.0).unwrap_or(found);
        }
        Ok((Self { path, file, writes: found.0 }, found.1))
    }

    /// Notes what has just become durable. A failure costs a proof, never a record.
    pub(crate) fn note(&mut self, durable: Durable) {
        self.writes += 1;
        let mut fields = [0; SLOT_BYTES - 8];
        let numbers = [self.writes, durable.next, durable.segment, durable.position];
        for (field, number) in fields.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32fast::hash(&fields).to_le_bytes();
        let slot = [&MAGIC[..], &sum, &fields].concat();
        let position = self.writes % 2 * SLOT_DISTANCE_BYTES;
        if let Err(error) = self.file.write_at(&slot, position) {
            tracing::warn!(file = %self.path.display(), %error, "cannot note what is durable");
        }
    }

    /// Makes the last note durable.
    pub(crate) fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(file = %self.path.display(), %error, "cannot sync what is durable");
        }
    }
}

fn parse(slot: &[u8]) -> Option<(u64, Durable)> {
    let fields = slot.get(8..SLOT_BYTES)?;
    if !slot.starts_with(&MAGIC) || u32_at(slot, 4)? != crc32fast::hash(fields) {
        return None;
    }
    let next = u64_at(fields, 8)?;
    let durable = Durable { next, segment: u64_at(fields, 16)?, position: u64_at(fields, 24)? };
    Some((u64_at(fields, 0)?, durable))
}
