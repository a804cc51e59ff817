//! Conditions of a commit, tested against exactly the state that it changes.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::answer::{CommitError, FailedCondition};
use crate::commit::{Check, Condition};
use crate::core::Core;
use crate::endings::Hidden;
use crate::input::{Input, Node, flatten};
use crate::json::JsonWriter;
use crate::path::Path;
use crate::reader::{Reader, raw};
use crate::state::State;

/// A current value larger than this is left out of a refusal.
const FAILED_VALUE_BYTES_MAX: usize = 64 << 10;
/// Beyond this sum the values of a refusal are left out.
const FAILED_BYTES_MAX: usize = 512 << 10;
/// JSON that is hashed for the conditions of a commit together, unless it has one only: nobody
/// else commits meanwhile.
const HASHED_BYTES_MAX: u64 = 64 << 20;
/// Journal records that are read for the conditions of a commit together, to see what changed
/// after a rev; one that needs more does not hold.
const RECORDS_MAX: u64 = 100_000;

/// Refuses the commit unless every condition holds.
pub(crate) fn check_conditions(
    core: &Core,
    state: &State,
    hidden: &Hidden,
    conditions: &[Condition],
) -> Result<(), CommitError> {
    if conditions.is_empty() {
        return Ok(());
    }
    let reader = Reader { state: state.clone(), hidden: hidden.clone() };
    let hashed_bytes = if conditions.len() == 1 { u64::MAX } else { HASHED_BYTES_MAX };
    check_within(core, &reader, conditions, hashed_bytes)
}

/// As [`check_conditions`]; so many bytes are hashed at most for all of them.
pub(crate) fn check_within(
    core: &Core,
    reader: &Reader,
    conditions: &[Condition],
    mut hashed_bytes: u64,
) -> Result<(), CommitError> {
    let asked = conditions.iter().filter_map(|condition| match &condition.check {
        Check::Rev(rev) => Some((*rev, &condition.path)),
        _ => None,
    });
    let asked: Vec<_> = asked.collect();
    let mut changed = core.changed_after(&reader.state, &asked, RECORDS_MAX)?.into_iter();
    let mut failed = Vec::new();
    let mut left = FAILED_BYTES_MAX;
    for Condition { path, check } in conditions {
        let mut known = None;
        let held = match check {
            Check::Rev(_) => Ok(changed.next() == Some(false)),
            check => holds(reader, path, check, &mut hashed_bytes, &mut known),
        };
        if !held.map_err(|error| CommitError::at(path, error))? {
            let value = reader.get_value(path, left)?;
            // What is too large was read all the same.
            let read = value.as_ref().map_or(FAILED_VALUE_BYTES_MAX, |value| value.get().len());
            left = left.saturating_sub(read);
            let too_large = value.is_none();
            let null = || raw(b"null".to_vec());
            let hash = match (known, &value) {
                (Some(hash), _) => hash,
                (None, Some(_)) => reader.hash(path)?,
                (None, None) => within(reader.hash_within(path, &mut hashed_bytes))?,
            };
            let value: Box<RawValue> = value.map_or_else(null, Ok)?;
            failed.push(FailedCondition { path: path.clone(), value, hash, too_large });
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Conflict,
        format!("{} of {} conditions did not hold", failed.len(), conditions.len()),
    )
    .operation("commit");
    Err(CommitError { error, path: None, failed })
}

/// A hash that is only told: none where it would read too much.
fn within(hash: Result<Option<String>>) -> Result<Option<String>> {
    match hash {
        Err(error) if error.kind() == ErrorKind::TooLarge => Ok(None),
        hash => hash,
    }
}

/// Whether a condition on what is there holds; the hash that it asked for becomes known.
fn holds(
    reader: &Reader,
    path: &Path,
    check: &Check,
    hashed_bytes: &mut u64,
    known: &mut Option<Option<String>>,
) -> Result<bool> {
    Ok(match check {
        Check::Exists => reader.exists(path)?,
        Check::Absent => !reader.exists(path)?,
        Check::Hash(hash) => {
            let present = known.insert(reader.hash_within(path, hashed_bytes)?);
            present.as_deref() == Some(hash.as_str())
        }
        Check::Value(value) => {
            let wanted = canonical(value)?;
            let mut present = Vec::new();
            match reader.append_json(path, wanted.len(), &mut present) {
                Ok(()) => present == wanted,
                Err(error) if error.kind() == ErrorKind::TooLarge => false,
                Err(error) => return Err(error),
            }
        }
        // Told by the journal, for all conditions at once.
        Check::Rev(_) => false,
    })
}

/// The JSON text that a value would read back as.
fn canonical(value: &Input) -> Result<Vec<u8>> {
    let mut leaves = BTreeMap::new();
    let refuse =
        || Error::new(ErrorKind::InvalidInput, "a condition's value cannot contain a transform");
    flatten(&value.0, Vec::new(), &mut |key, node| match node {
        Node::Leaf(leaf) => {
            leaves.insert(key, leaf.encode());
            Ok(())
        }
        _ => Err(refuse()),
    })?;
    let mut out = Vec::new();
    let mut writer = JsonWriter::default();
    for (key, stored) in leaves {
        writer.leaf(&key, &stored, &mut out)?;
    }
    writer.finish(&mut out)?;
    Ok(out)
}

impl Reader {
    /// The value's JSON, `None` when it is too large for a refusal.
    fn get_value(&self, path: &Path, left: usize) -> Result<Option<Box<RawValue>>> {
        let mut json = Vec::new();
        match self.append_json(path, left.min(FAILED_VALUE_BYTES_MAX), &mut json) {
            Ok(()) => raw(json).map(Some),
            Err(error) if error.kind() == ErrorKind::TooLarge => Ok(None),
            Err(error) => Err(error),
        }
    }
}
