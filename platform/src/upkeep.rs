//! Check, repair and compaction of a database that nobody has open.
//!
//! Engines are opened without a tree, so that nothing is replayed or written before it was looked
//! at. Invariant: what a repair removes is in a file of its own, durably, before it is gone.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use trellis_engine_traits::{Error, ErrorKind, KvBackend, MaintenanceBudget, Result, StreamLog};
use trellis_runtime::Runtime;
use trellis_tree::{CheckOptions, CheckReport, Finding, Removed, Repair};

use crate::config::Config;
use crate::data_directory::{DataDirectory, io_error, made_with, sync_directory};
use crate::handle::Trellis;
use crate::registry::Choice;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Everything that was done, in its order.
    pub repairs: Vec<Repair>,
    /// Where copies of what was removed are, a JSON line each; `None` when nothing was.
    pub kept: Option<PathBuf>,
    /// The check after it.
    pub report: CheckReport,
}

/// What a compaction came to, in bytes before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Of the store's files.
    pub store_bytes: (u64, u64),
    /// The first rev in the journal.
    pub journal_first_rev: (u64, u64),
}

/// A database whose parts are open, each if it can be.
pub(crate) struct Parts {
    pub(crate) choice: Choice,
    pub(crate) kv: Option<Arc<dyn KvBackend>>,
    pub(crate) log: Option<Arc<dyn StreamLog>>,
    /// Why a part is not open: damage.
    pub(crate) unreadable: Vec<Finding>,
    pub(crate) directory: DataDirectory,
}

impl Parts {
    /// Opens what can be opened.
    ///
    /// # Errors
    /// `NotFound` when there is no database, `Locked` while somebody has it open, and whatever else
    /// is no damage.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let (kv_url, log_url) = (config.kv_url(), config.log_url());
        let choice = Choice::new(kv_url, log_url, &config.vfs)?;
        if choice.is_in_memory() {
            let message = "a database in memory is gone with its process; ask its server (--url)";
            return Err(Error::new(ErrorKind::InvalidInput, message).operation("open"));
        }
        if made_with(&config.data)?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "there is no database at this place")
                .operation("open")
                .context("directory", config.data.display()));
        }
        let directory = DataDirectory::hold(&config.data)?;
        directory.check(kv_url, log_url)?;
        let (kv, log) = choice.open_apart(&config.data, config.cache_bytes());
        let mut unreadable = Vec::new();
        let kv = readable("the store", kv, &mut unreadable);
        let log = log.map_or(Ok(None), |log| readable("the journal", log, &mut unreadable));
        let (kv, log) = match (kv, log) {
            (Ok(kv), Ok(log)) => (kv, log),
            (Ok(kv), Err(error)) => {
                close(kv.as_ref(), None)?;
                return Err(error);
            }
            (Err(error), log) => {
                close(None, log.ok().flatten().as_ref())?;
                return Err(error);
            }
        };
        Ok(Self { choice, kv, log, unreadable, directory })
    }

    /// Gives the files free, the directory last.
    ///
    /// A failure is only logged: what was written was durable before, and a damaged store may not
    /// close cleanly.
    pub(crate) fn close(self) -> DataDirectory {
        if let Err(error) = close(self.kv.as_ref(), self.log.as_ref()) {
            tracing::warn!(%error, "closing the engines");
        }
        self.directory
    }
}

fn close(kv: Option<&Arc<dyn KvBackend>>, log: Option<&Arc<dyn StreamLog>>) -> Result<()> {
    let log = log.map_or(Ok(()), |log| log.close());
    let kv = kv.map_or(Ok(()), |kv| kv.close());
    log.and(kv)
}

fn readable<T>(what: &str, opened: Result<T>, into: &mut Vec<Finding>) -> Result<Option<T>> {
    match opened {
        Ok(part) => Ok(Some(part)),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            into.push(Finding::unreadable(what, &error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Checks a database that nobody has open; an open one is checked with
/// [`Tree::check`](crate::Tree::check).
///
/// # Errors
/// Why it could not be checked: `NotFound` without a database, `Locked` while somebody has it open,
/// `InvalidInput` for one in memory or a restore that has not finished, `Denied`, `Unavailable`.
/// Damage is no error but what the report is for.
///
/// # Cost
/// Reads everything.
///
/// ```
/// use trellis::{CheckOptions, Config, Trellis, check};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let db = Trellis::open(directory)?;
/// db.set("a", 1)?;
/// db.close()?;
/// let report = check(&Config::in_directory(directory), &CheckOptions::default())?;
/// assert!(report.is_clean() && report.leaves == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check(config: &Config, options: &CheckOptions) -> Result<CheckReport> {
    let mut parts = Parts::open(config)?;
    let options = &with_indexes(options);
    let report = trellis_tree::check(parts.kv.as_deref(), parts.log.as_deref(), options);
    let unreadable = std::mem::take(&mut parts.unreadable);
    parts.close();
    let mut report = report?;
    report.findings.splice(0..0, unreadable);
    Ok(report)
}

/// Repairs what can be repaired in a database that nobody has open: what the journal still says is
/// written again, what follows from the data is derived again, and what is damaged beyond that is
/// removed, after a copy of it was put beside the data (`removed-TIME.ndjson`).
///
/// # Errors
/// As for [`check`]; `Unavailable`, `Denied` when the copies cannot be written: nothing was removed
/// then that is not in them.
///
/// # Durability
/// Durable when it returns.
pub fn repair(config: &Config, options: &CheckOptions) -> Result<RepairReport> {
    let mut parts = Parts::open(config)?;
    let options = &with_indexes(options);
    let runtime = Runtime::system();
    let path = config.data.join(format!("removed-{}.ndjson", runtime.clock().now_ms()));
    let mut file = None;
    let repaired = match parts.kv.as_deref() {
        Some(kv) => {
            let log = parts.log.as_deref();
            let mut keep = |removed: &Removed<'_>| keep_copy(&path, &mut file, removed);
            trellis_tree::repair(kv, log, &runtime, options, &mut keep)
                .map(|done| (done.repairs, done.report))
        }
        None => trellis_tree::check(None, parts.log.as_deref(), options)
            .map(|report| (Vec::new(), report)),
    };
    let unreadable = std::mem::take(&mut parts.unreadable);
    parts.close();
    let (repairs, mut report) = repaired?;
    report.findings.splice(0..0, unreadable);
    Ok(RepairReport { repairs, kept: file.map(|_| path), report })
}

fn with_indexes(options: &CheckOptions) -> CheckOptions {
    CheckOptions { derivation: Some(&trellis_query::FIELD_INDEXES), ..options.clone() }
}

/// Appends a JSON line, durably.
fn keep_copy(path: &Path, file: &mut Option<File>, removed: &Removed<'_>) -> Result<()> {
    let fail = |source| io_error("copies of what is removed cannot be written", path, source);
    let file = match file {
        Some(file) => file,
        none => {
            let made = OpenOptions::new().create_new(true).append(true).open(path);
            let made = made.map_err(fail)?;
            // Its name has to be durable as well.
            path.parent().map_or(Ok(()), sync_directory).map_err(fail)?;
            none.insert(made)
        }
    };
    let mut line = serde_json::json!({
        "place": removed.place,
        "space": removed.space,
        "key": hex(removed.key),
        "stored": hex(removed.stored),
    })
    .to_string();
    line.push('\n');
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to memory does not fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Compacts a database that nobody has open: brings the journal into the store, removes what of it
/// is beyond the configured retention, and has the engine make its files smaller.
///
/// # Errors
/// As for [`Trellis::open_config`], `NotFound` without a database; those of the engines. Nothing is
/// lost.
///
/// # Cost
/// Up to a rewrite of the store's files.
pub fn compact(config: &Config) -> Result<CompactReport> {
    Parts::open(config)?.close();
    let db = Trellis::open_alone(config.clone())?;
    let compacted = db.tree().compact();
    db.close()?;
    let compacted = compacted?;
    // Some engines compact only while nobody reads, and a tree always does.
    let parts = Parts::open(config)?;
    let mut store_bytes = compacted.store_bytes;
    if let Some(kv) = &parts.kv {
        while kv.maintain(MaintenanceBudget::UNBOUNDED)?.more {}
        store_bytes.1 = kv.usage()?.disk_bytes;
    }
    parts.close();
    Ok(CompactReport { store_bytes, journal_first_rev: compacted.journal_first_rev })
}
