//! Leaves gathered into updates.
//!
//! A batch is one commit, whose paths must not overlap; so a leaf at, above or below a path of the
//! batch begins the next one, and the later leaf wins.

use std::collections::BTreeSet;

use crate::cli::target::Entry;

/// Most leaves of a batch.
const LEAVES_MAX: usize = 1_000;
/// A batch this long takes no more leaves; a longer leaf is a batch of its own.
const BYTES_MAX: usize = 512 << 10;

/// Leaves of one commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Length of the paths and values as JSON, about.
    pub(super) bytes: usize,
    paths: BTreeSet<String>,
}

impl Batch {
    /// Adds a leaf; gives back the batch before it when that is full, or cannot hold it.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Self> {
        // A quote or a backslash of a path takes two bytes.
        let bytes = 2 * entry.path.len() + entry.value.get().len() + 6;
        let is_full = self.entries.len() >= LEAVES_MAX
            || (!self.entries.is_empty() && self.bytes + bytes > BYTES_MAX)
            || self.overlaps(&entry.path);
        let full = is_full.then(|| std::mem::take(self));
        self.bytes += bytes;
        self.paths.insert(entry.path.clone());
        self.entries.push(entry);
        full
    }

    fn overlaps(&self, path: &str) -> bool {
        if self.paths.contains(path) {
            return true;
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if self.paths.contains(parent) {
                return true;
            }
            above = parent;
        }
        let below = format!("{path}/");
        self.paths.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, value: &str) -> Entry {
        let value = serde_json::value::RawValue::from_string(value.to_owned()).expect("JSON");
        Entry { path: path.to_owned(), value }
    }

    #[test]
    fn overlapping_leaves_are_never_in_one_batch() {
        for (first, second) in [("a/b", "a/b"), ("a", "a/b/c"), ("a/b/c", "a")] {
            let mut batch = Batch::default();
            assert!(batch.push(entry(first, "1")).is_none());
            let full = batch.push(entry(second, "2")).expect("a batch for the first");
            assert_eq!(full.entries.len(), 1);
            assert_eq!(batch.entries.len(), 1);
        }
        let mut batch = Batch::default();
        for path in ["a/b", "a/c", "a!", "ab", "b"] {
            assert!(batch.push(entry(path, "1")).is_none(), "{path}");
        }
    }

    #[test]
    fn a_batch_ends_at_its_limits() {
        let mut batch = Batch::default();
        for index in 0..LEAVES_MAX {
            assert!(batch.push(entry(&format!("k{index}"), "1")).is_none());
        }
        assert_eq!(batch.push(entry("z", "1")).expect("full").entries.len(), LEAVES_MAX);
        let long = format!("\"{}\"", "x".repeat(BYTES_MAX));
        assert_eq!(batch.push(entry("long", &long)).expect("full").entries.len(), 1);
        assert_eq!(batch.push(entry("y", "1")).expect("full").entries.len(), 1);
    }
}
