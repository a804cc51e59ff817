//! Restore: archives become a database at an empty place.

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use trellis_archive::{ArchiveReader, Restore, Until};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::archive_files::{self, Found};
use crate::backup::Progress;
use crate::config::Config;
use crate::target::Target;

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The new history's id, 32 hexadecimal digits: the database is another one from here on.
    pub log_id: String,
    /// The rev that it begins with.
    pub rev: u64,
    /// Its content's digest.
    pub digest: String,
}

/// Makes a database of a backup: of one file with a full archive, or of a directory with full and
/// incremental ones, as it was at their end, at a rev or at a time.
///
/// A restore that was cut off is gone on with by the same call; until it has finished, nobody opens
/// the place.
///
/// # Errors
/// `AlreadyExists` when the place holds a database: nothing was changed. `NotFound` when the
/// archives do not reach to the point asked for. `Corrupt` for a damaged archive: nothing at the
/// place can be opened. `Locked`, `InvalidInput` for a place that is open, in memory or made with
/// other engines; those of the engines.
///
/// # Durability
/// Durable when it returns.
///
/// ```
/// use trellis::{BackupKind, Config, Trellis, Until, backup_to_directory, restore};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let backups = directory.join("backups");
/// let db = Trellis::open(directory.join("data"))?;
/// db.set("a", 1)?;
/// backup_to_directory(&db, &backups, BackupKind::Full, &mut |_| {})?;
/// db.set("a", 2)?;
/// backup_to_directory(&db, &backups, BackupKind::Incremental, &mut |_| {})?;
///
/// let config = Config::in_directory(directory.join("copy"));
/// restore(&backups, config.clone(), Until::Rev(1), &mut |_| {})?;
/// assert_eq!(Trellis::open_config(config)?.get("a")?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn restore(
    from: &Path,
    into: Config,
    until: Until,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RestoreReport> {
    let mut refusal = Error::new(
        ErrorKind::NotFound,
        "no full archive here was taken before the point asked for",
    )
    .operation("restore")
    .context("place", from.display());
    let ways = archive_files::ways(archive_files::list(from)?, until);
    if ways.is_empty() {
        return Err(refusal);
    }
    let target = Target::open(&into)?;
    for way in ways {
        match restore_way(&target, &way, until, progress) {
            Ok(report) => {
                target.close()?;
                return Ok(report);
            }
            // The point is before the end of the reading of this archive's entries.
            Err(error) if error.kind() == ErrorKind::NotFound => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

fn restore_way(
    target: &Target,
    way: &[Found],
    until: Until,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RestoreReport> {
    let mut restore = None;
    for found in way {
        let mut reader = archive_files::open(&found.path)?;
        let restore = match &mut restore {
            Some(restore) => restore,
            none => {
                Restore::check(reader.header(), until)?;
                let source = Restore::source(reader.header(), until);
                none.insert(target.restore(source, until)?)
            }
        };
        take_in(restore, &mut reader, "copy", progress)
            .map_err(|error| error.context("file", found.path.display()))?;
    }
    let missing = || Error::new(ErrorKind::NotFound, "there is no archive");
    finish(restore.ok_or_else(missing)?)
}

/// Makes a database of one archive that comes as a stream, such as standard input.
///
/// # Errors
/// As for [`restore`].
pub fn restore_from(
    source: &mut dyn Read,
    into: Config,
    until: Until,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RestoreReport> {
    let mut reader = ArchiveReader::new(source)?;
    Restore::check(reader.header(), until)?;
    let target = Target::open(&into)?;
    let mut restore = target.restore(Restore::source(reader.header(), until), until)?;
    take_in(&mut restore, &mut reader, "copy", progress)?;
    let report = finish(restore)?;
    target.close()?;
    Ok(report)
}

/// Takes one archive in.
pub(crate) fn take_in<R: Read>(
    restore: &mut Restore,
    reader: &mut ArchiveReader<R>,
    step: &'static str,
    progress: &mut dyn FnMut(&Progress),
) -> Result<()> {
    let told = &mut |entries, records, bytes| {
        progress(&Progress { step, entries, records, bytes });
    };
    restore.archive(reader, told).map(|_| ())
}

fn finish(mut restore: Restore) -> Result<RestoreReport> {
    let digest = restore.digest()?;
    let seeded = restore.finish()?;
    Ok(RestoreReport { log_id: seeded.log_id, rev: seeded.rev, digest })
}
