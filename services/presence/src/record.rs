//! What is stored of a lease, below `_leases/<key>`: `until` and `ttl` in milliseconds, and under
//! `writes` the text of each write, in the order of their names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Check, Commit, Condition, Input, Operation, Path, View};

use crate::key::Key;
use crate::options::PresenceOptions;
use crate::write::{Change, StoredWrite, check_limits};

/// More than a lease within any limits takes.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// A lease as it is stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) until_ms: u64,
    pub(crate) ttl_ms: u64,
    /// By their number, which grows.
    writes: BTreeMap<u32, (StoredWrite, String)>,
    /// Numbers of writes that cannot be read.
    unreadable: Vec<u32>,
}

#[derive(Deserialize)]
struct Stored {
    until: u64,
    ttl: u64,
    #[serde(default)]
    writes: BTreeMap<String, String>,
}

impl Record {
    /// A lease without stored writes.
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, ..Self::default() }
    }

    /// Reads a lease; `None` when it is not stored.
    pub(crate) fn read(view: &View, key: Key) -> Result<Option<Self>> {
        let json = view.get_json(&key.path()?, RECORD_BYTES_MAX)?;
        if json == b"null" {
            return Ok(None);
        }
        let corrupt = || Error::new(ErrorKind::Corrupt, "a stored lease is not what was written");
        let stored: Stored =
            serde_json::from_slice(&json).map_err(|source| corrupt().source(source))?;
        let mut record = Self { until_ms: stored.until, ttl_ms: stored.ttl, ..Self::default() };
        for (name, text) in stored.writes {
            let number = u32::from_str_radix(&name, 16).map_err(|_| corrupt())?;
            match StoredWrite::parse(&text) {
                Ok(write) => drop(record.writes.insert(number, (write, text))),
                Err(error) => {
                    tracing::error!(%error, "a write of a lease cannot be read");
                    record.unreadable.push(number);
                }
            }
        }
        Ok(Some(record))
    }

    /// Paths of the stored writes.
    pub(crate) fn paths(&self) -> usize {
        self.writes.values().map(|(write, _)| write.paths()).sum()
    }

    /// Bytes of the stored writes.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.values().map(|(_, text)| text.len()).sum()
    }

    /// Stores or cancels; unchanged after an error.
    pub(crate) fn apply(&mut self, change: &Change, options: &PresenceOptions) -> Result<()> {
        let mut next = self.clone();
        match change {
            Change::Cancel(path) => next.forget(std::slice::from_ref(path))?,
            Change::Store(write) => {
                next.forget(&write.targets())?;
                let last = next.writes.keys().chain(&next.unreadable).max();
                let number = last.map_or(0, |last| last.saturating_add(1));
                next.writes.insert(number, (write.clone(), write.to_text()?));
                check_limits(next.paths(), next.bytes(), options)?;
            }
        }
        *self = next;
        Ok(())
    }

    fn forget(&mut self, above: &[Path]) -> Result<()> {
        for (write, text) in self.writes.values_mut() {
            if write.forget(above) {
                *text = write.to_text()?;
            }
        }
        self.writes.retain(|_, (write, _)| !write.is_empty());
        Ok(())
    }

    /// What makes the stored `before` (`None`: nothing) this record; empty when it is.
    pub(crate) fn operations(&self, before: Option<&Self>, key: Key) -> Result<Vec<Operation>> {
        let at = key.path()?;
        let mut operations = Vec::new();
        let empty = BTreeMap::new();
        let old = before.map_or(&empty, |before| &before.writes);
        for (number, (_, text)) in &self.writes {
            if old.get(number).is_none_or(|(_, before)| before != text) {
                operations.push(set(write_path(&at, *number)?, Value::String(text.clone()))?);
            }
        }
        for number in old.keys().filter(|number| !self.writes.contains_key(number)) {
            operations.push(Operation::Delete { path: write_path(&at, *number)? });
        }
        if before.is_none_or(|before| before.ttl_ms != self.ttl_ms) {
            operations.push(set(at.child("ttl")?, self.ttl_ms.into())?);
        }
        if !operations.is_empty() {
            operations.push(set(until_path(key)?, self.until_ms.into())?);
        }
        Ok(operations)
    }

    /// What the end of the lease runs, in order: each write with the paths it names.
    pub(crate) fn into_writes(self) -> Vec<StoredWrite> {
        self.writes.into_values().map(|(write, _)| write).collect()
    }

    /// Writes that cannot be read, and so cannot run.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.len()
    }
}

/// Where the end of a lease is stored.
pub(crate) fn until_path(key: Key) -> Result<Path> {
    key.path()?.child("until")
}

fn write_path(at: &Path, number: u32) -> Result<Path> {
    at.child("writes")?.child(&format!("{number:08x}"))
}

/// Sets a value.
pub(crate) fn set(path: Path, value: Value) -> Result<Operation> {
    Ok(Operation::Set { path, value: Input::from_json(value)?, expiry: None })
}

/// A commit of the worker's own.
pub(crate) fn own(operations: Vec<Operation>) -> Commit {
    Commit { operations, system: true, ..Commit::default() }
}

/// The end of a lease: its writes and its removal, if it is still there.
pub(crate) fn ending(key: Key, writes: &[StoredWrite]) -> Result<Commit> {
    let mut operations = writes.iter().map(StoredWrite::operation).collect::<Result<Vec<_>>>()?;
    operations.push(Operation::Delete { path: key.path()? });
    Ok(own(operations).when(Condition { path: until_path(key)?, check: Check::Exists }))
}
