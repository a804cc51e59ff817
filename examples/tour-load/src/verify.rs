//! Compares an export with what has to be in it: the imported files, every acknowledged record, and
//! nothing that nobody sent.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path as FilePath, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::Failure;
use crate::record::{Acknowledged, COUNT_PATH, record, record_path};

/// Leaves by path: what a tree holds.
type Leaves = BTreeMap<String, Value>;

/// An imported file and the path that it was imported under.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) file: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    path: String,
    value: Value,
}

/// What was compared, for the table of the tour.
pub(crate) struct Verified {
    pub(crate) imported_leaves: usize,
    pub(crate) acknowledged: u64,
    /// Sent, not acknowledged when the server was killed, and there all the same.
    pub(crate) unacknowledged: u64,
}

pub(crate) fn verify(
    export: &FilePath,
    acknowledged: &Acknowledged,
    sources: &[Source],
) -> Result<Verified, Failure> {
    let mut found = Leaves::new();
    read_lines(export, "", &mut found)?;
    let imported_leaves = take_imported(&mut found, sources)?;
    let mut records = 0;
    for (connection, count) in acknowledged.connections.iter().enumerate() {
        for number in 0..*count {
            if !take_record(&mut found, connection, number)? {
                return Err(format!(
                    "LOST: record {number} of connection {connection} was acknowledged and is gone"
                )
                .into());
            }
            records += 1;
        }
    }
    // One write of each connection was under way when the server died: whole, or not at all.
    let mut unacknowledged = 0;
    for (connection, count) in acknowledged.connections.iter().enumerate() {
        unacknowledged += u64::from(take_record(&mut found, connection, *count)?);
    }
    let counted = found.remove(COUNT_PATH).and_then(|count| count.as_u64()).unwrap_or(0);
    if counted != records + unacknowledged {
        return Err(format!(
            "HALF DONE: the counter that every commit increments is {counted}, and there are {} \
             records",
            records + unacknowledged
        )
        .into());
    }
    match found.first_key_value() {
        None => Ok(Verified { imported_leaves, acknowledged: records, unacknowledged }),
        Some((path, _)) => {
            Err(format!("{} leaves that nobody sent, the first at {path}", found.len()).into())
        }
    }
}

fn read_lines(file: &FilePath, prefix: &str, leaves: &mut Leaves) -> Result<(), Failure> {
    for line in BufReader::new(std::fs::File::open(file)?).lines() {
        let line: Line = serde_json::from_str(&line?)?;
        flatten(&format!("{prefix}{}", line.path), line.value, leaves);
    }
    Ok(())
}

fn take_imported(found: &mut Leaves, sources: &[Source]) -> Result<usize, Failure> {
    let mut imported = Leaves::new();
    for source in sources {
        if source.file.extension().is_some_and(|extension| extension == "ndjson") {
            read_lines(&source.file, &format!("{}/", source.path), &mut imported)?;
        } else {
            let value = serde_json::from_slice(&std::fs::read(&source.file)?)?;
            flatten(&source.path, value, &mut imported);
        }
    }
    for (path, value) in &imported {
        match found.remove(path) {
            Some(stored) if stored == *value => {}
            Some(_) => return Err(format!("CHANGED: {path} is not what was imported").into()),
            None => return Err(format!("LOST: {path} was imported and is gone").into()),
        }
    }
    Ok(imported.len())
}

/// Takes a record out, whole; `false` when no part of it is there.
fn take_record(found: &mut Leaves, connection: usize, number: u64) -> Result<bool, Failure> {
    let mut expected = Leaves::new();
    let path = record_path(connection, number);
    flatten(&path, record(connection, number), &mut expected);
    let present = expected.iter().filter(|(path, value)| found.get(*path) == Some(value)).count();
    let there = expected.keys().filter(|path| found.contains_key(*path)).count();
    if there == 0 {
        return Ok(false);
    }
    if present < expected.len() {
        return Err(format!("HALF DONE: {present} of {} leaves of {path}", expected.len()).into());
    }
    for path in expected.keys() {
        found.remove(path);
    }
    Ok(true)
}

fn flatten(path: &str, value: Value, leaves: &mut Leaves) {
    match value {
        Value::Null => {}
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                let below = if path.is_empty() { key } else { format!("{path}/{key}") };
                flatten(&below, member, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_owned(), leaf);
        }
    }
}
