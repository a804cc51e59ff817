//! The row that describes the store, and the names of the tables.
//!
//! Layout, little endian: format (4 bytes), number of the last commit (8), live bytes (8).

use redb::TableDefinition;
use trellis_engine_traits::{Result, SpaceId};

use crate::error;

const FORMAT: u32 = 1;
pub(crate) const STATE_KEY: &[u8] = b"state";
pub(crate) const STATE_TABLE: TableDefinition<'static, &[u8], &[u8]> =
    TableDefinition::new("trellis");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) live_bytes: u64,
}

impl State {
    pub(crate) fn encode(self) -> [u8; 20] {
        let mut row = [0; 20];
        let parts = FORMAT.to_le_bytes().into_iter();
        let parts = parts.chain(self.seq.to_le_bytes()).chain(self.live_bytes.to_le_bytes());
        row.iter_mut().zip(parts).for_each(|(slot, byte)| *slot = byte);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self> {
        let damaged = || error::corrupt("the row that describes the store is damaged");
        let (format, rest) = row.split_first_chunk::<4>().ok_or_else(damaged)?;
        let format = u32::from_le_bytes(*format);
        if format > FORMAT {
            return Err(error::unsupported(
                "the file was written by a newer version; use that version or a later one",
            )
            .context("file_format", format)
            .context("supported_format", FORMAT));
        }
        let (seq, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (live_bytes, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        if format != FORMAT || !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self { seq: u64::from_le_bytes(*seq), live_bytes: u64::from_le_bytes(*live_bytes) })
    }
}

/// The name of the table of a space.
pub(crate) fn table_name(space: SpaceId) -> String {
    format!("space-{}", space.0)
}
