//! Migration: a database moves to other engines, offline or beside a running server.
//!
//! It is a restore from an archive that is made while it is read. Invariant: the target is opened
//! to nobody before its digest is that of the source, both at the same rev with writes paused.

use serde::Serialize;
use trellis_archive::{ArchiveReader, Restore, Until};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::backup::{ArchiveSource, Progress};
use crate::config::Config;
use crate::handle::Trellis;
use crate::restore::take_in;
use crate::target::Target;

/// Records that may be left for the time in which writes are paused.
const LAG_RECORDS: u64 = 1000;
/// How often the journal is caught up with before writes are paused, however much is left.
const CATCH_UPS_MAX: usize = 20;

/// What a migration came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrateReport {
    /// The new history's id, 32 hexadecimal digits.
    pub log_id: String,
    /// The rev at which both sides are.
    pub rev: u64,
    /// The content's digest, taken on both sides.
    pub digest: String,
}

/// Moves a database to another place, on any store and journal, while nobody else has it open.
///
/// The source is left as it was. A migration that was cut off is gone on with by the same call, as
/// long as nothing was written to the source in between.
///
/// # Errors
/// `NotFound` when there is no database at the source, `Locked` while somebody has it open;
/// `AlreadyExists` when the target holds a database: nothing was changed. `Corrupt` when the
/// digests differ, after which the target cannot be opened. Those of the engines.
///
/// # Durability
/// Durable when it returns.
///
/// ```
/// use trellis::{Config, Trellis, migrate};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let from = Config::in_directory(directory.join("old"));
/// let db = Trellis::open_config(from.clone())?;
/// db.set("a", 1)?;
/// db.close()?;
///
/// let to = Config { log: Some("segment:journal".into()), ..Config::default() };
/// let to = Config { data: directory.join("new"), ..to };
/// let report = migrate(from, to.clone(), &mut |_| {})?;
/// let db = Trellis::open_config(to)?;
/// assert_eq!((db.digest()?.digest, db.digest()?.rev), (report.digest, report.rev));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn migrate(
    from: Config,
    to: Config,
    progress: &mut dyn FnMut(&Progress),
) -> Result<MigrateReport> {
    // What is due and what is to be forgotten waits: the rev stands still from the beginning.
    let source = Trellis::open_existing_paused(from)?;
    let moved = migrate_from(&source, to, progress);
    source.close()?;
    moved
}

/// Moves a database that goes on being used: copies it, catches up with its journal, pauses its
/// writes, takes the rest, and compares both sides.
///
/// When it returns without an error, the source is **still paused**, so that nothing is written to
/// the old place while the operator switches over; [`ArchiveSource::resume`] undoes it. After an
/// error writes go on.
///
/// # Errors
/// `AlreadyExists` when the target holds a database; `NotFound` when the source's journal was
/// trimmed faster than it was read: keep more of it (`journal_retain_bytes`); `Corrupt` when the
/// digests differ; those of the source and of the target.
///
/// # Durability
/// The target is durable when it returns.
pub fn migrate_from(
    source: &dyn ArchiveSource,
    to: Config,
    progress: &mut dyn FnMut(&Progress),
) -> Result<MigrateReport> {
    // A source that answers nothing leaves no trace at the target.
    let mut reader = ArchiveReader::new(source.archive(None)?)?;
    let target = Target::open(&to)?;
    let mut restore = target.restore(Restore::live_source(reader.header()), Until::Newest)?;
    take_in(&mut restore, &mut reader, "copy", progress)?;
    drop(reader);
    for _ in 0..CATCH_UPS_MAX {
        let before = restore.rev();
        catch_up(source, &mut restore, progress)?;
        if restore.rev() - before <= LAG_RECORDS {
            break;
        }
    }
    let report = switch(source, restore, progress).and_then(|report| {
        target.close()?;
        Ok(report)
    });
    if report.is_err()
        && let Err(error) = source.resume()
    {
        tracing::error!(%error, "the source takes no writes: resume it");
    }
    report
}

fn catch_up(
    source: &dyn ArchiveSource,
    restore: &mut Restore,
    progress: &mut dyn FnMut(&Progress),
) -> Result<()> {
    let mut reader = ArchiveReader::new(source.archive(Some(restore.rev()))?)?;
    take_in(restore, &mut reader, "catch up", progress)
}

/// Takes the rest with writes paused, and compares.
fn switch(
    source: &dyn ArchiveSource,
    mut restore: Restore,
    progress: &mut dyn FnMut(&Progress),
) -> Result<MigrateReport> {
    source.pause()?;
    catch_up(source, &mut restore, progress)?;
    let verifying = Progress { step: "verify", entries: 0, records: 0, bytes: 0 };
    progress(&verifying);
    let (there, digest) = (source.digest()?, restore.digest()?);
    if (there.rev, &there.digest) != (restore.rev(), &digest) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "the copy is not what the source holds; the source is unharmed, and the copy cannot be \
             opened: remove it, and check the source with `trellis check`",
        )
        .operation("migrate")
        .context("source_rev", there.rev)
        .context("target_rev", restore.rev())
        .context("source_digest", there.digest)
        .context("target_digest", digest));
    }
    let seeded = restore.finish()?;
    Ok(MigrateReport { log_id: seeded.log_id, rev: seeded.rev, digest })
}
