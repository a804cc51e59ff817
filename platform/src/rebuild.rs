//! Rebuild: a store that is lost or damaged is made anew from its journal.
//!
//! Possible as long as the journal goes back to the beginning. Invariant: the old store's files are
//! put aside under another name, never removed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use trellis_engine_traits::{Error, ErrorKind, Result, StreamId, StreamLog};

use crate::config::Config;
use crate::data_directory::{io_error, sync_directory};
use crate::handle::Trellis;
use crate::upkeep::Parts;

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// The rev up to which the new store holds everything: the journal's last.
    pub rev: u64,
    /// The content's digest.
    pub digest: String,
    /// The old store's files under their new names; remove them when all is well.
    pub put_aside: Vec<PathBuf>,
}

/// Makes the store of a database that nobody has open anew from its journal, and puts the old one
/// aside. The history and the journal stay the same.
///
/// # Errors
/// `NotFound` when the journal no longer goes back to the beginning, `Unsupported` when it is in
/// the store itself, `Corrupt` when it is damaged: nothing was changed, restore a backup. As for
/// [`Trellis::open_config`] otherwise.
///
/// # Durability
/// Durable when it returns. Cut off, the next open goes on with it.
///
/// # Cost
/// Reads the whole journal and writes the whole store.
///
/// ```
/// use trellis::{Config, Trellis, rebuild};
///
/// # let directory = tempfile::tempdir()?;
/// # let config = Config::in_directory(directory.path());
/// let db = Trellis::open_config(config.clone())?;
/// db.set("a", 1)?;
/// db.close()?;
/// std::fs::write(config.data.join("tree.redb"), "damage")?;
/// let report = rebuild(&config)?;
/// assert_eq!((report.rev, report.put_aside.len()), (1, 1));
/// assert_eq!(Trellis::open_config(config)?.get("a")?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rebuild(config: &Config) -> Result<RebuildReport> {
    let parts = Parts::open(config)?;
    let checked = match &parts.log {
        _ if parts.choice.journal_is_in_store() => Err(Error::new(
            ErrorKind::Unsupported,
            "the journal is in the store itself, so that neither outlives the other: restore a \
             backup with `trellis restore`",
        )),
        Some(log) => goes_back(log.as_ref()),
        None => Err(Error::new(
            ErrorKind::Corrupt,
            "the journal cannot be read either: restore a backup with `trellis restore`",
        )),
    };
    let store = parts.choice.kv.path_in(&config.data);
    let in_memory = parts.choice.kv.scheme() == "memory";
    // Held until the files have their new names.
    let directory = parts.close();
    checked.map_err(|error| error.operation("rebuild"))?;
    let put_aside = if in_memory { Vec::new() } else { put_aside(&store)? };
    drop(directory);
    let db = Trellis::open_alone(config.clone())?;
    let made = db.tree().flush().and_then(|()| {
        let view = db.tree().view()?;
        Ok((view.rev(), view.digest()?))
    });
    db.close()?;
    let (rev, digest) = made?;
    Ok(RebuildReport { rev, digest, put_aside })
}

/// Refuses a journal whose first record is not the first of the history.
fn goes_back(log: &dyn StreamLog) -> Result<()> {
    let report = trellis_tree::check(None, Some(log), &trellis_tree::CheckOptions::default())?;
    if let Some(finding) = report.findings.first() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "the journal is damaged: restore a backup with `trellis restore`",
        )
        .context("place", &finding.place));
    }
    let bounds = log.bounds(&StreamId::new("journal")?)?;
    if bounds.first != 1 || report.journal_base != 0 {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the journal no longer goes back to the beginning: restore a backup with `trellis \
             restore`, or repair the store with `trellis check --repair`",
        )
        .context("first_rev", report.journal_base + bounds.first));
    }
    Ok(())
}

/// Renames a store's files: `X` becomes `X.before-rebuild`, or the first such name that is free.
fn put_aside(store: &Path) -> Result<Vec<PathBuf>> {
    let with = |suffix: &str| {
        let mut name = store.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mark = (0_u32..)
        .map(|n| if n == 0 { ".before-rebuild".to_owned() } else { format!(".before-rebuild-{n}") })
        .find(|mark| !with(mark).exists())
        .unwrap_or_default();
    let mut renamed = Vec::new();
    // SQLite's log belongs to its file and must not meet the new one, so it goes first; other
    // engines have no such neighbours.
    for suffix in ["-wal", "-shm", ""] {
        let (old, new) = (with(suffix), with(&format!("{mark}{suffix}")));
        match std::fs::rename(&old, &new) {
            Ok(()) => renamed.push(new),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("the old store cannot be renamed", &old, error)),
        }
    }
    if let Some(parent) = store.parent() {
        sync_directory(parent)
            .map_err(|error| io_error("the directory cannot be synced", parent, error))?;
    }
    Ok(renamed)
}
