//! Seals: a checksum on every value in the store, so that no damaged value is ever served.
//!
//! Some engines check what they read and some do not; the tree does not rely on it. A stored value
//! ends with four bytes of the XXH3 of its space, key and value, so that a value under the wrong
//! key is found too. XXH3 costs a third of a CRC on values as short as most leaves are. Values in
//! the overlay and in the journal carry none: the journal has checksums of its own.
//!
//! Deliberately absent: proof that nothing is missing. A key that an engine loses is found by
//! comparing the store with the journal, not by reading.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trellis_engine_traits::{
    Error, ErrorKind, KeyRange, KvSnapshot, Op, Result, Scan, SpaceId, Visitor, WriteBatch,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes that a seal takes.
const SEAL_BYTES: usize = 4;

fn checksum(space: SpaceId, key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let place = xxh3_64_with_seed(key, u64::from(space.0));
    let [a, b, c, d, ..] = xxh3_64_with_seed(value, place).to_le_bytes();
    [a, b, c, d]
}

/// The value as it is stored.
#[cfg(test)]
pub(crate) fn seal(space: SpaceId, key: &[u8], value: &[u8]) -> Bytes {
    let mut sealed = Vec::with_capacity(value.len() + SEAL_BYTES);
    sealed.extend_from_slice(value);
    sealed.extend_from_slice(&checksum(space, key, value));
    sealed.into()
}

/// Seals every value of a batch; one buffer holds them all.
pub(crate) fn seal_batch(batch: &mut WriteBatch) {
    let sealed_bytes = |op: &Op| match op {
        Op::Put(_, value) => value.len() + SEAL_BYTES,
        Op::Delete(_) | Op::DeleteRange(..) => 0,
    };
    let mut buffer = BytesMut::with_capacity(batch.ops.iter().map(sealed_bytes).sum());
    for op in &mut batch.ops {
        if let Op::Put(at, value) = op {
            buffer.extend_from_slice(value);
            buffer.extend_from_slice(&checksum(at.space, &at.key, value));
            *value = buffer.split().freeze();
        }
    }
}

/// The value in what is stored.
///
/// # Errors
/// `Corrupt` when it is not what was sealed under this key.
pub(crate) fn unseal<'a>(space: SpaceId, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8]> {
    match stored.split_last_chunk::<SEAL_BYTES>() {
        Some((value, seal)) if *seal == checksum(space, key, value) => Ok(value),
        _ => Err(damaged(space)),
    }
}

#[cold]
fn damaged(space: SpaceId) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "a stored value is damaged: its checksum is wrong; run `trellis check`",
    )
    .context("space", space.0)
}

/// A snapshot of the store whose values are checked as they are read.
#[derive(Debug, Clone)]
pub(crate) struct SealedSnapshot(Arc<dyn KvSnapshot>);

impl SealedSnapshot {
    pub(crate) fn new(snapshot: Box<dyn KvSnapshot>) -> Self {
        Self(Arc::from(snapshot))
    }

    pub(crate) fn from_arc(snapshot: Arc<dyn KvSnapshot>) -> Self {
        Self(snapshot)
    }

    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let Some(stored) = self.0.get(space, key)? else { return Ok(None) };
        let value_bytes = unseal(space, key, &stored)?.len();
        Ok(Some(stored.slice(..value_bytes)))
    }

    /// Visits the pairs of a range, ascending; ends early when the visitor breaks.
    pub(crate) fn scan(
        &self,
        space: SpaceId,
        range: KeyRange,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        self.visit(&Scan::forward(space, range), visit)
    }

    /// The same, descending.
    pub(crate) fn scan_reverse(
        &self,
        space: SpaceId,
        range: KeyRange,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        self.visit(&Scan::reverse(space, range), visit)
    }

    fn visit(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<()> {
        let (space, mut failure) = (scan.space, None);
        self.0.scan(scan, &mut |key, stored| match unseal(space, key, stored) {
            Ok(value) => visit(key, value),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{DATA, EXPIRY};

    #[test]
    fn a_sealed_value_reads_back_under_its_own_key_only() {
        let sealed = seal(DATA, b"a", b"value");
        assert_eq!(unseal(DATA, b"a", &sealed).unwrap(), b"value");
        assert_eq!(unseal(DATA, b"b", &sealed).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(unseal(EXPIRY, b"a", &sealed).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let sealed = seal(DATA, b"key", b"some value");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(DATA, b"key", &damaged).is_err(), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert!(unseal(DATA, b"key", &sealed[..cut]).is_err(), "cut at {cut}");
        }
    }
}
