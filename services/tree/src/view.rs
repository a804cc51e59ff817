//! Reading: values, children and hashes at one rev, streamed from the store's scan.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result, Visitor};

use crate::json;
use crate::leaf::{self, Leaf};
use crate::path::Path;
use crate::reader::{Reader, SLICE_BYTES, raw, too_large};
use crate::state::State;
use crate::views::Views;
use crate::zoning::Zoning;

/// Leaves handed on at a time.
const SLICE_LEAVES: usize = 512;

/// The tree at one rev: consistent however long it is read, whatever is written meanwhile.
///
/// Reads block on engine I/O: async callers go through the runtime. An open view keeps old versions
/// in memory and on disk; drop it within seconds.
#[derive(Debug)]
pub struct View {
    reader: Reader,
    views: Arc<Views>,
}

/// One page of children.
#[derive(Debug, Clone)]
pub struct Children {
    /// In the byte order of their keys.
    pub items: Vec<Child>,
    /// The key to continue after; `None` on the last page.
    pub next: Option<String>,
}

/// A child.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its key.
    pub key: String,
    /// Its value, where asked for.
    pub value: Option<Box<RawValue>>,
}

impl View {
    pub(crate) fn new(reader: Reader, views: Arc<Views>) -> Self {
        Self { reader, views }
    }

    pub(crate) fn zoning(&self) -> Option<&dyn Zoning> {
        self.views.zoning.as_deref()
    }

    pub(crate) fn state(&self) -> &State {
        &self.reader.state
    }

    /// The rev that the view shows.
    #[must_use]
    pub fn rev(&self) -> u64 {
        self.reader.state.at
    }

    /// Whether there is a value. The root always is.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`, `Closed`, as for every read.
    pub fn exists(&self, path: &Path) -> Result<bool> {
        self.reader.exists(path)
    }

    /// The value's JSON text; `null` when absent.
    ///
    /// # Errors
    /// `TooLarge` beyond `bytes_max`; `Corrupt`, `Unavailable`, `Closed`.
    ///
    /// # Cost
    /// One get for a leaf, else one scan; no intermediate tree.
    pub fn get_json(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.append_json(path, bytes_max, &mut out)?;
        Ok(out)
    }

    /// Appends the value's JSON text to a buffer, which is as before after an error.
    ///
    /// # Errors
    /// As for [`View::get_json`].
    pub fn append_json(&self, path: &Path, bytes_max: usize, out: &mut Vec<u8>) -> Result<()> {
        self.reader.append_json(path, bytes_max, out)
    }

    /// As [`View::append_json`], cheaper where the value is an object: it is not first looked for
    /// as a leaf.
    ///
    /// # Errors
    /// As for [`View::get_json`].
    ///
    /// # Cost
    /// One scan.
    pub fn append_object_json(
        &self,
        path: &Path,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.reader.append_scanned_json(path, bytes_max, out)
    }

    /// The value; bytes are `{".bytes": "<base64>"}`.
    ///
    /// # Errors
    /// As for [`View::get_json`], without a limit.
    pub fn get(&self, path: &Path) -> Result<serde_json::Value> {
        let json = self.get_json(path, usize::MAX)?;
        serde_json::from_slice(&json).map_err(|source| {
            Error::new(ErrorKind::Corrupt, "a stored value is not JSON").source(source)
        })
    }

    /// Hands the value's JSON text on in chunks of some 64 KiB, whatever its size. The store is not
    /// held while `sink` works; `Break` ends the stream early.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`, `Closed`; what was handed on is then incomplete.
    pub fn stream_json(
        &self,
        path: &Path,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.reader.stream_json(path, sink)
    }

    /// The keys of an object as `{"key":true,...}`; a leaf as it is.
    ///
    /// # Errors
    /// As for [`View::get_json`].
    pub fn shallow_json(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
        let (keys, _) = self.reader.child_keys(path, None, usize::MAX - 1)?;
        if keys.is_empty() {
            return self.get_json(path, bytes_max);
        }
        let mut out = vec![b'{'];
        for key in &keys {
            if out.len() > 1 {
                out.push(b',');
            }
            json::write_key(key.as_bytes(), &mut out)?;
            out.extend_from_slice(b":true");
            if out.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
        }
        out.push(b'}');
        Ok(out)
    }

    /// One page of children, in the byte order of their keys, after the key `after`.
    ///
    /// With `values_bytes_max` each child carries its value, and the page ends early before their
    /// sum passes this bound.
    ///
    /// # Errors
    /// `TooLarge` when the first child alone passes the bound; else as for every read.
    pub fn children(
        &self,
        path: &Path,
        after: Option<&str>,
        limit: usize,
        values_bytes_max: Option<usize>,
    ) -> Result<Children> {
        let (keys, mut more) = self.reader.child_keys(path, after, limit)?;
        let mut items = Vec::with_capacity(keys.len());
        let mut left = values_bytes_max.unwrap_or(0);
        for key in keys {
            let value = if values_bytes_max.is_some() {
                let value = match self.get_json(&path.child(&key)?, left) {
                    Ok(value) => value,
                    Err(error) if error.kind() == ErrorKind::TooLarge && !items.is_empty() => {
                        more = true;
                        break;
                    }
                    Err(error) => return Err(error),
                };
                left = left.saturating_sub(value.len());
                Some(raw(value)?)
            } else {
                None
            };
            items.push(Child { key, value });
        }
        let next = if more { items.last().map(|child| child.key.clone()) } else { None };
        Ok(Children { items, next })
    }

    /// A hash of the value's JSON text, the same on every store and node: 32 hexadecimal digits.
    /// `None` when absent.
    ///
    /// # Errors
    /// As for every read.
    ///
    /// # Cost
    /// Reads the whole value.
    pub fn hash(&self, path: &Path) -> Result<Option<String>> {
        self.reader.hash(path)
    }

    /// The leaf at a path; `None` where there is an object or nothing, or inside an array.
    ///
    /// # Errors
    /// As for every read.
    ///
    /// # Cost
    /// One get.
    pub fn leaf(&self, path: &Path) -> Result<Option<Leaf>> {
        let stored = self.reader.leaf(path.key())?;
        stored.map(|stored| Leaf::decode(&stored)).transpose()
    }

    /// Visits the stored leaves at and below a path, in key order, after the key `after`: key and
    /// stored bytes ([`Path::from_key`], [`Leaf::decode`]). From the root, system paths are left
    /// out.
    ///
    /// The visitor runs inside the store's scan: it neither blocks nor reads this tree. `Break`
    /// ends early.
    ///
    /// # Errors
    /// As for every read; what was visited before is valid.
    ///
    /// # Cost
    /// One scan of what is visited.
    pub fn leaves(&self, path: &Path, after: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        let next = after.map(|after| [after, &[0]].concat());
        self.reader.leaves(path, next.as_deref(), visit)
    }

    /// Visits the stored leaves whose keys are in a range, ascending, or descending with
    /// `reverse`; system paths included. The visitor is as for [`View::leaves`].
    ///
    /// # Errors
    /// As for every read; what was visited before is valid.
    ///
    /// # Cost
    /// One scan of what is visited.
    ///
    /// ```
    /// # use std::{ops::ControlFlow, sync::Arc};
    /// # use trellis_engine_traits::KeyRange;
    /// # use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
    /// # let kv = Arc::new(trellis_kv_memory::MemoryKv::new());
    /// # let log = Arc::new(trellis_log_memory::MemoryLog::new());
    /// # let runtime = trellis_runtime::Runtime::system();
    /// # let tree = Tree::open(kv, log, runtime, TreeOptions::default())?;
    /// let value = Input::parse(br#"{"k1":1,"k2":2}"#)?;
    /// tree.commit(Commit::set(Path::parse("a")?, value))?;
    /// let mut last = Vec::new();
    /// tree.view()?.leaves_in(&KeyRange::prefix(b"a\0"), true, &mut |key, _stored| {
    ///     last = key.to_vec();
    ///     ControlFlow::Break(())
    /// })?;
    /// assert_eq!(last, b"a\0k2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leaves_in(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        self.reader.leaves_in(range, reverse, visit)
    }

    /// Whether something is due that is not yet removed: it is hidden from every read, while
    /// whatever is derived from stored leaves still has it.
    #[must_use]
    pub fn hides(&self) -> bool {
        !self.reader.hidden.is_empty()
    }

    /// Visits every leaf at and below a path with its JSON text, in key order.
    ///
    /// The store is not held while `visit` works; `Break` ends early.
    ///
    /// # Errors
    /// As for every read.
    pub fn for_each_leaf(
        &self,
        path: &Path,
        visit: &mut dyn FnMut(&Path, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut slice: Vec<(Vec<u8>, Bytes)> = Vec::with_capacity(SLICE_LEAVES);
            let mut bytes = 0;
            self.reader.leaves(path, after.as_deref(), &mut |key, stored| {
                bytes += stored.len();
                slice.push((key.to_vec(), Bytes::copy_from_slice(stored)));
                if slice.len() >= SLICE_LEAVES || bytes >= SLICE_BYTES {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            let Some((last, _)) = slice.last() else { return Ok(()) };
            let mut next = last.clone();
            next.push(0);
            after = Some(next);
            let mut text = Vec::new();
            for (key, stored) in slice {
                text.clear();
                leaf::write_json(&stored, &mut text)?;
                if visit(&Path::from_key(&key)?, &text).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.views.close(self.reader.state.at);
    }
}
