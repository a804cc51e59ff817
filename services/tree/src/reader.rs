//! [`Reader`]: the leaves of a state as JSON, with what is due hidden.
//!
//! Invariant: whoever receives what is read works outside the store's scan, so that a slow receiver
//! never holds the store.

use std::ops::ControlFlow;

use bytes::Bytes;
use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result, Visitor};

use crate::endings::Hidden;
use crate::json::JsonWriter;
use crate::leaf::{self, Leaf};
use crate::path::{self, Path};
use crate::space::DATA;
use crate::state::State;

/// JSON bytes gathered before they are handed on, outside the store's scan.
pub(crate) const SLICE_BYTES: usize = 64 << 10;
/// Keys of one child passed over before the scan jumps to the next child.
const SKIP_MAX: usize = 32;

/// A state with what is due hidden from it.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) state: State,
    /// Keys of paths that have ended and are not yet removed.
    pub(crate) hidden: Hidden,
}

pub(crate) fn too_large(bytes_max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the value is larger than one answer; page through it with children, or stream it",
    )
    .operation("get")
    .context("bytes_max", bytes_max)
}

pub(crate) fn raw(json: Vec<u8>) -> Result<Box<RawValue>> {
    String::from_utf8(json)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok())
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a stored value is not JSON"))
}

impl Reader {
    /// A state from which nothing is hidden.
    pub(crate) fn unhidden(state: State) -> Self {
        Self { state, hidden: Hidden::new() }
    }

    fn is_hidden(&self, key: &[u8]) -> bool {
        !self.hidden.is_empty()
            && std::iter::once(key)
                .chain(path::ancestors(key))
                .any(|path| self.hidden.contains(path))
    }

    /// The ranges below a path; from the root, system paths are read by naming them only.
    fn ranges(path: &Path, after: Option<&[u8]>) -> Vec<KeyRange> {
        let mut range = path::subtree(path.key());
        if let Some(after) = after {
            range.start = Bytes::copy_from_slice(after);
        }
        if !path.is_root() {
            return vec![range];
        }
        let system = [Bytes::from_static(b"_"), Bytes::from_static(b"`")];
        let [from, to] = system;
        [KeyRange::new(range.start.clone(), Some(from)), KeyRange::new(range.start.max(to), None)]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// The leaf stored at exactly this key.
    pub(crate) fn leaf(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let stored = self.state.get(DATA, key)?;
        Ok(stored.filter(|_| self.hidden.is_empty() || !self.is_hidden(key)))
    }

    /// Visits leaves at and below a path from key `after` on.
    pub(crate) fn leaves(
        &self,
        path: &Path,
        after: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        let mut stopped = false;
        for range in Self::ranges(path, after) {
            if stopped {
                break;
            }
            self.state.scan(DATA, &range, &mut |key, value| {
                if !self.hidden.is_empty() && self.is_hidden(key) {
                    return ControlFlow::Continue(());
                }
                let flow = visit(key, value);
                stopped = flow.is_break();
                flow
            })?;
        }
        Ok(())
    }

    /// Visits leaves whose keys are in a range, ascending or descending.
    pub(crate) fn leaves_in(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        let mut visit = |key: &[u8], value: &[u8]| {
            if !self.hidden.is_empty() && self.is_hidden(key) {
                return ControlFlow::Continue(());
            }
            visit(key, value)
        };
        if reverse {
            self.state.scan_reverse(DATA, range, &mut visit)
        } else {
            self.state.scan(DATA, range, &mut visit)
        }
    }

    pub(crate) fn exists(&self, path: &Path) -> Result<bool> {
        if path.is_root() {
            return Ok(true);
        }
        let mut found = false;
        self.leaves(path, None, &mut |_, _| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found || self.inside_array(path)?.is_some())
    }

    /// What a path names inside an array that is a leaf above it.
    fn inside_array(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        for ancestor in path::ancestors(path.key()) {
            let Some(stored) = self.state.get(DATA, ancestor)? else { continue };
            let Leaf::Array(text) = Leaf::decode(&stored)? else { return Ok(None) };
            if self.is_hidden(ancestor) {
                return Ok(None);
            }
            let damaged = || Error::new(ErrorKind::Corrupt, "a stored array is not JSON");
            let array: serde_json::Value = serde_json::from_str(&text).map_err(|_| damaged())?;
            let depth = path::depth(ancestor);
            let inner =
                path.segments().skip(depth).try_fold(&array, |value, segment| match value {
                    serde_json::Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
                    serde_json::Value::Object(members) => members.get(segment),
                    _ => None,
                });
            return Ok(inner.filter(|value| !value.is_null()).map(|value| {
                let mut text = Vec::new();
                // Writing to memory does not fail.
                let _written = serde_json::to_writer(&mut text, value);
                text
            }));
        }
        Ok(None)
    }

    pub(crate) fn append_json(
        &self,
        path: &Path,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        // Most reads name one leaf: a get is cheaper than a scan.
        if !path.is_root()
            && let Some(stored) = self.leaf(path.key())?
        {
            let start = out.len();
            leaf::write_json(&stored, out)?;
            if out.len().saturating_sub(start) > bytes_max {
                out.truncate(start);
                return Err(too_large(bytes_max));
            }
            return Ok(());
        }
        self.append_scanned_json(path, bytes_max, out)
    }

    /// As [`Reader::append_json`], for what is an object as a rule: without the get first.
    pub(crate) fn append_scanned_json(
        &self,
        path: &Path,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let result = self.try_append_json(path, bytes_max, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn try_append_json(&self, path: &Path, bytes_max: usize, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let limit = start.saturating_add(bytes_max);
        let base = path.key();
        let mut writer = JsonWriter::default();
        let mut failure = None;
        self.leaves(path, None, &mut |key, stored| {
            if let Err(error) = writer.leaf(relative(base, key), stored, out) {
                failure = Some(error);
            } else if out.len() > limit {
                failure = Some(too_large(bytes_max));
            }
            if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if out.len() == start
            && let Some(inner) = self.inside_array(path)?
        {
            out.extend_from_slice(&inner);
        } else {
            writer.finish(out)?;
        }
        if out.len() > limit { Err(too_large(bytes_max)) } else { Ok(()) }
    }

    pub(crate) fn stream_json(
        &self,
        path: &Path,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let base = path.key();
        let mut writer = JsonWriter::default();
        let mut slice = Vec::with_capacity(SLICE_BYTES + 4096);
        let mut after: Option<Vec<u8>> = None;
        let mut any = false;
        loop {
            let mut failure = None;
            let mut last: Option<Vec<u8>> = None;
            self.leaves(path, after.as_deref(), &mut |key, stored| {
                any = true;
                if let Err(error) = writer.leaf(relative(base, key), stored, &mut slice) {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
                if slice.len() < SLICE_BYTES {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            let Some(mut last) = last else { break };
            if sink(&slice).is_break() {
                return Ok(());
            }
            slice.clear();
            last.push(0);
            after = Some(last);
        }
        match self.inside_array(path)? {
            Some(inner) if !any => slice.extend_from_slice(&inner),
            _ => writer.finish(&mut slice)?,
        }
        // Nothing follows, so it no longer matters whether the receiver wants more.
        let _end = sink(&slice);
        Ok(())
    }

    pub(crate) fn hash(&self, path: &Path) -> Result<Option<String>> {
        let mut unbounded = u64::MAX;
        self.hash_within(path, &mut unbounded)
    }

    /// As [`Reader::hash`]; takes the bytes that are read from those that are left.
    ///
    /// # Errors
    /// `TooLarge` when they do not suffice.
    pub(crate) fn hash_within(&self, path: &Path, left: &mut u64) -> Result<Option<String>> {
        let mut hasher = blake3::Hasher::new();
        let mut first: Option<Vec<u8>> = None;
        let mut suffices = true;
        self.stream_json(path, &mut |slice| {
            first.get_or_insert_with(|| slice.to_vec());
            hasher.update(slice);
            suffices = *left >= slice.len() as u64;
            *left = left.saturating_sub(slice.len() as u64);
            if suffices { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if !suffices {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "the conditions of the commit read too much together; test narrower paths",
            ));
        }
        if first.as_deref() == Some(b"null") {
            return Ok(None);
        }
        Ok(Some(short_hex(&hasher.finalize())))
    }

    /// Children's keys from `after` on, at most `limit`; whether there are more.
    pub(crate) fn child_keys(
        &self,
        path: &Path,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool)> {
        let base = path.key();
        let mut start = match after {
            Some(after) => path::after_subtree(path.child(after)?.key()).to_vec(),
            None => path::below(base).start.to_vec(),
        };
        let mut keys: Vec<String> = Vec::new();
        loop {
            let mut skipped = 0;
            let mut jump = None;
            self.leaves(path, Some(&start), &mut |key, _| {
                let name = relative(base, key).split(|byte| *byte == 0).next().unwrap_or_default();
                if name.is_empty() {
                    return ControlFlow::Continue(());
                }
                if keys.last().is_some_and(|last| last.as_bytes() == name) {
                    skipped += 1;
                    if skipped < SKIP_MAX {
                        return ControlFlow::Continue(());
                    }
                    let end = key.len() - relative(base, key).len() + name.len();
                    jump = key.get(..end).map(path::after_subtree);
                    return ControlFlow::Break(());
                }
                skipped = 0;
                keys.push(String::from_utf8_lossy(name).into_owned());
                if keys.len() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            match jump {
                Some(next) => start = next.to_vec(),
                None => break,
            }
        }
        let more = keys.len() > limit;
        keys.truncate(limit);
        Ok((keys, more))
    }
}

/// The part of a key below its base.
fn relative<'a>(base: &[u8], key: &'a [u8]) -> &'a [u8] {
    let skip = if base.is_empty() { 0 } else { (base.len() + 1).min(key.len()) };
    key.get(skip..).unwrap_or_default()
}

pub(crate) fn short_hex(hash: &blake3::Hash) -> String {
    hash.to_hex().chars().take(32).collect()
}
