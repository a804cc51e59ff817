//! What a merge reads of the state that it meets: leaves, endings and stamps by key.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::image::LeafScan;
use crate::stamp::{StampedChange, Version};

/// What the key of an ending's stamp has besides the path's: it sorts right behind the path and
/// before everything below it.
const ENDING: [u8; 2] = [0, 2];

/// The key under which a path's ending is stamped.
pub(crate) fn ending_key(path: &[u8]) -> Bytes {
    [path, &ENDING].concat().into()
}

/// The path's key, if this is the key of an ending's stamp.
pub(crate) fn ending_path(key: &[u8]) -> Option<&[u8]> {
    key.strip_suffix(&ENDING)
}

/// Where the paths begin whose endings' keys are not before a key.
pub(crate) fn ending_paths_from(key: &Bytes) -> Bytes {
    let path = ending_path(key).or_else(|| key.strip_suffix(&[0]));
    path.map_or_else(|| key.clone(), |path| key.slice(..path.len()))
}

/// What kind of record a stamp is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StampKind {
    /// Of a leaf, or of a path that ends.
    Live,
    /// Of a leaf that was here, or of a path that no longer ends.
    Tomb,
    /// Of a subtree that was emptied.
    Clear,
}

/// What is known of a record besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) version: Version,
    /// The commit here that wrote it.
    pub(crate) rev: u64,
    pub(crate) kind: StampKind,
}

pub(crate) type StampVisitor<'v> = dyn FnMut(&[u8], Stamp) -> ControlFlow<()> + 'v;
pub(crate) type EndingVisitor<'v> = dyn FnMut(&[u8], u64) -> ControlFlow<()> + 'v;

/// A state as a merge reads it. A visitor neither blocks nor reads the state.
pub(crate) trait Here: LeafScan {
    fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// The stamp of a key, that of an ending under its [`ending_key`].
    fn stamp(&self, key: &[u8]) -> Result<Option<Stamp>>;
    fn scan_stamps(&self, range: &KeyRange, visit: &mut StampVisitor<'_>) -> Result<()>;
    /// When a path ends.
    fn ending(&self, path: &[u8]) -> Result<Option<u64>>;
    fn scan_endings(&self, range: &KeyRange, visit: &mut EndingVisitor<'_>) -> Result<()>;
    /// Whether any path may end: spares the look.
    fn any_ending(&self) -> bool;
}

/// One record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) version: Version,
    pub(crate) change: StampedChange,
}

impl Held {
    /// Which of two records of a key stays: the one of the higher version; of the same version, the
    /// greater stored bytes, where what is removed is less than what is there.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version).then_with(|| rank(&self.change).cmp(&rank(&other.change)))
    }

    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self.change, StampedChange::Put(_))
    }
}

fn rank(change: &StampedChange) -> (u8, u64, &[u8]) {
    match change {
        StampedChange::Ending(None) | StampedChange::Tomb => (0, 0, &[]),
        StampedChange::Clear => (1, 0, &[]),
        StampedChange::Ending(Some(at)) => (2, *at, &[]),
        StampedChange::Put(stored) => (2, 0, stored),
    }
}

impl Stamp {
    /// The stored bytes.
    pub(crate) fn encode(self) -> Bytes {
        let kind = match self.kind {
            StampKind::Live => 1,
            StampKind::Tomb => 2,
            StampKind::Clear => 3,
        };
        let mut stored = Vec::with_capacity(25);
        stored.push(kind);
        for number in [self.version.hlc, self.version.origin, self.rev] {
            stored.extend_from_slice(&number.to_le_bytes());
        }
        stored.into()
    }

    /// # Errors
    /// `Corrupt` when they are no stamp's.
    pub(crate) fn decode(stored: &[u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Corrupt, "a stored stamp cannot be read");
        let (kind, rest) = stored.split_first().ok_or_else(damaged)?;
        let kind = match kind {
            1 => StampKind::Live,
            2 => StampKind::Tomb,
            3 => StampKind::Clear,
            _ => return Err(damaged()),
        };
        let (hlc, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (origin, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let rev = <[u8; 8]>::try_from(rest).map_err(|_| damaged())?;
        let [hlc, origin, rev] = [*hlc, *origin, rev].map(u64::from_le_bytes);
        Ok(Self { version: Version { hlc, origin }, rev, kind })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn a_stamp_reads_back_and_nothing_else_does() {
        for kind in [StampKind::Live, StampKind::Tomb, StampKind::Clear] {
            let version = Version { hlc: 7 << 16 | 3, origin: u64::MAX };
            let stamp = Stamp { version, rev: 9, kind };
            let stored = stamp.encode();
            assert_eq!(Stamp::decode(&stored).unwrap(), stamp);
            for cut in 0..stored.len() {
                assert!(Stamp::decode(stored.get(..cut).unwrap()).is_err());
            }
        }
        assert!(Stamp::decode(&[9; 25]).is_err());
    }
}
