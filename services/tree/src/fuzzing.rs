//! The decoders of stored bytes, and a value's way into the store and back.
//!
//! Not part of the stable interface: public only so that the fuzz targets reach what files and the
//! pipeline would otherwise stand in front of.

use std::cell::Cell;

use bytes::Bytes;
use trellis_engine_traits::{Result, SpaceId};

use crate::input::{Input, Node, flatten};
use crate::json::JsonWriter;
use crate::leaf::Leaf;
use crate::path::Path;
use crate::record::{Applied, Opening, Record};
use crate::space::{split_time_key, time_key};

/// Reads a journal record and writes it again.
///
/// # Errors
/// `Corrupt` or `Unsupported` for what is no record of this version.
pub fn journal_record(bytes: &[u8]) -> Result<Bytes> {
    Record::decode(bytes)?.encode()
}

/// The same for the record of an opening.
///
/// # Errors
/// As for [`journal_record`].
pub fn opening(bytes: &[u8]) -> Result<Bytes> {
    Opening::decode(bytes)?.encode()
}

/// The same for the store's note of how far it has come.
///
/// # Errors
/// As for [`journal_record`].
pub fn applied(bytes: &[u8]) -> Result<Bytes> {
    Applied::decode(bytes)?.encode()
}

/// Takes a key that is ordered by time apart and puts it together again.
#[must_use]
pub fn ordered_by_time(key: &[u8]) -> Option<Bytes> {
    split_time_key(key).map(|(time, key)| time_key(time, key))
}

/// The space of the store that holds leaves.
pub const LEAVES: SpaceId = crate::space::DATA;

/// The bytes under which a path is stored.
#[must_use]
pub fn path_key(path: &Path) -> Bytes {
    path.key().clone()
}

/// Writes JSON as leaves and reads it back, as a set and a get would; `None` where nothing would
/// be stored, or a transform would decide.
///
/// # Errors
/// `InvalidInput` for what is no value.
pub fn round_trip(json: &[u8]) -> Result<Option<Vec<u8>>> {
    let input = Input::parse(json)?;
    let mut leaves: Vec<(Vec<u8>, Bytes)> = Vec::new();
    let transforms = Cell::new(false);
    flatten(&input.0, Vec::new(), &mut |key, node| {
        match node {
            Node::Leaf(leaf) => leaves.push((key, leaf.encode())),
            Node::Transform(_) => transforms.set(true),
            Node::Null | Node::Object(_) => {}
        }
        Ok(())
    })?;
    if transforms.get() || leaves.is_empty() {
        return Ok(None);
    }
    leaves.sort();
    let (mut writer, mut out) = (JsonWriter::default(), Vec::new());
    for (key, stored) in &leaves {
        Leaf::decode(stored)?;
        writer.leaf(key, stored, &mut out)?;
    }
    writer.finish(&mut out)?;
    Ok(Some(out))
}
