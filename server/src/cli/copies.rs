//! `backup`, `restore`, `migrate`, `verify`: a database as an archive, and at another place.

use std::io::ErrorKind::AlreadyExists;
use std::io::Write;
use std::path::{Path, PathBuf};

use trellis::{
    ArchiveSummary, BackupKind, Comparison, Config, Error, ErrorKind, Progress as Step, Until,
    backup_to_directory, backup_to_file,
};

use crate::cli::failure::Failure;
use crate::cli::operators::{Backup, Migrate, Restore, Verify};
use crate::cli::output::print_line;
use crate::cli::progress::Progress;
use crate::cli::remote::{Remote, Source, is_url};
use crate::cli::upkeep::{blocking, config_of};

/// Scratch directories of one process number that may lie about.
const SCRATCHES_MAX: usize = 1_000;
/// Differences that are named.
const NAMED_MAX: usize = 10;

/// Moves a progress bar along.
fn follow(progress: &Progress) -> impl FnMut(&Step) + Send + 'static {
    let bar = progress.bar().clone();
    move |step| {
        bar.set_position(step.bytes);
        bar.set_message(format!(
            "{}: {} entries, {} records",
            step.step, step.entries, step.records
        ));
    }
}

/// Takes a backup, or reads backups back.
pub(super) async fn backup(backup: Backup) -> Result<(), Failure> {
    if backup.verify {
        return verify_backup(PathBuf::from(backup.to)).await;
    }
    let is_directory = backup.to != "-" && !is_file(Path::new(&backup.to));
    if backup.incremental && !is_directory {
        return Err(Failure::Usage(
            "--incremental continues the archives of a directory; for a file or standard output \
             say with --since after which rev"
                .to_owned(),
        ));
    }
    if backup.since.is_some() && is_directory {
        return Err(Failure::Usage(
            "--since writes a file called NAME.trellis or standard output; into a directory it is \
             --incremental"
                .to_owned(),
        ));
    }
    let progress = Progress::begin("backed up", None);
    let mut told = follow(&progress);
    let config = match backup.place.is_local() {
        true => Some(config_of(&backup.place.database)?),
        false => None,
    };
    let remote = match config {
        None => Some(Remote::new(&backup.place.url()?)?),
        Some(_) => None,
    };
    let done = blocking(move || {
        let source = match (config, remote) {
            (Some(config), _) => Source::open(config)?,
            (None, Some(remote)) => Source::Remote(Box::new(remote)),
            (None, None) => return Err(Error::new(ErrorKind::InvalidInput, "no source")),
        };
        let archives = source.archives();
        let to = PathBuf::from(&backup.to);
        let done = if backup.to == "-" {
            copy_to_output(archives, backup.since).map(|bytes| (None, bytes, None))
        } else if is_file(&to) {
            backup_to_file(archives, &to, backup.since, &mut told)
                .map(|report| (report.file, report.summary.bytes, Some(report.summary)))
        } else {
            let kind = match backup.incremental {
                true => BackupKind::Incremental,
                false => BackupKind::Full,
            };
            backup_to_directory(archives, &to, kind, &mut told)
                .map(|report| (report.file, report.summary.bytes, Some(report.summary)))
        };
        let closed = source.close();
        let done = done?;
        closed.map(|()| done)
    });
    let (file, bytes, summary) = done.await?;
    progress.finish(bytes, "bytes");
    match (&file, summary) {
        (Some(file), Some(summary)) => print_line(&told_archive(file, &summary)),
        (None, Some(_)) => print_line("nothing was committed since the newest archive"),
        _ => Ok(()),
    }
}

/// A name ending in `.trellis` is a file, every other a directory.
fn is_file(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_some_and(|extension| extension == "trellis")
}

fn told_archive(file: &Path, summary: &ArchiveSummary) -> String {
    format!(
        "{}: {} entries, {} records, up to rev {}",
        file.display(),
        summary.trailer.entries,
        summary.trailer.records,
        summary.trailer.end.rev
    )
}

fn copy_to_output(source: &dyn trellis::ArchiveSource, since: Option<u64>) -> trellis::Result<u64> {
    let mut out = std::io::stdout().lock();
    let mut bytes = source.archive(since)?;
    std::io::copy(&mut bytes, &mut out).and_then(|copied| out.flush().map(|()| copied)).map_err(
        |error| Error::new(ErrorKind::Unavailable, format!("the archive broke off: {error}")),
    )
}

async fn verify_backup(place: PathBuf) -> Result<(), Failure> {
    if !place.exists() {
        let message = format!("there is no archive at {}", place.display());
        return Err(Failure::Unchecked(message));
    }
    let progress = Progress::begin("verified", None);
    let mut told = follow(&progress);
    let checked = blocking(move || trellis::verify_backup(&place, &mut told)).await;
    progress.clear();
    let checked = checked.map_err(|error| Failure::Unchecked(Failure::from(error).to_string()))?;
    for (file, summary) in &checked.archives {
        print_line(&told_archive(file, summary))?;
    }
    for (file, error) in &checked.problems {
        print_line(&format!("{}: {error}", file.display()))?;
    }
    match checked.problems.len() {
        0 => Ok(()),
        count => Err(Failure::Damaged(format!(
            "{count} archives are damaged or lack what they continue; take a full backup"
        ))),
    }
}

/// Makes a database of a backup.
pub(super) async fn restore(restore: Restore) -> Result<(), Failure> {
    let until = match (restore.to_rev, &restore.to_time) {
        (Some(rev), _) => Until::Rev(rev),
        (None, Some(time)) => Until::Time(parse_time(time)?),
        (None, None) => Until::Newest,
    };
    let into = Config::at(&restore.to, restore.log.as_deref())?;
    let progress = Progress::begin("restored", None);
    let mut told = follow(&progress);
    let restored = blocking(move || {
        if restore.from == "-" {
            trellis::restore_from(&mut std::io::stdin().lock(), into, until, &mut told)
        } else {
            trellis::restore(Path::new(&restore.from), into, until, &mut told)
        }
    });
    let restored = restored.await;
    progress.clear();
    let restored = restored?;
    print_line(&format!(
        "restored at rev {}, digest {}, as the new history {}",
        restored.rev, restored.digest, restored.log_id
    ))
}

/// Milliseconds since 1970, or a date and time such as `2026-03-01T12:00:00Z`.
fn parse_time(text: &str) -> Result<u64, Failure> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| {
        Failure::Usage(format!(
            "{text:?} is no time: {error}; write 2026-03-01T12:00:00Z, or milliseconds since 1970"
        ))
    })?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Moves a database to other engines.
pub(super) async fn migrate(migrate: Migrate) -> Result<(), Failure> {
    let to = Config::at(&migrate.to, migrate.log.as_deref())?;
    let progress = Progress::begin("moved", None);
    let mut told = follow(&progress);
    let moved = if is_url(&migrate.from) {
        let source = Remote::new(&migrate.from)?;
        let resume = migrate.resume;
        blocking(move || {
            let moved = trellis::migrate_from(&source, to, &mut told)?;
            if resume {
                trellis::ArchiveSource::resume(&source)?;
            }
            Ok(moved)
        })
        .await
    } else {
        let from = Config::at(&migrate.from, migrate.from_log.as_deref())?;
        blocking(move || trellis::migrate(from, to, &mut told)).await
    };
    progress.clear();
    let moved = moved?;
    print_line(&format!("moved to {} at rev {}, digest {}", migrate.to, moved.rev, moved.digest))?;
    if is_url(&migrate.from) && !migrate.resume {
        eprintln!(
            "{} refuses writes now, so that nothing is lost while clients are switched over; POST \
             /admin/resume takes that back",
            migrate.from
        );
    }
    Ok(())
}

/// Compares two databases.
pub(super) async fn verify(verify: Verify) -> Result<(), Failure> {
    let unchecked = |failure: Failure| Failure::Unchecked(failure.to_string());
    let progress = Progress::begin("compared", None);
    let places = [verify.place, verify.against];
    let open = |place: &String| -> Result<Result<Remote, Config>, Failure> {
        Ok(match is_url(place) {
            true => Ok(Remote::new(place)?),
            false => Err(Config::at(place, None)?),
        })
    };
    let [left, right] = &places;
    let (left, right) = (open(left).map_err(unchecked)?, open(right).map_err(unchecked)?);
    let compared = blocking(move || {
        let source = |place: Result<Remote, Config>| match place {
            Ok(remote) => Ok(Source::Remote(Box::new(remote))),
            Err(config) => Source::open(config),
        };
        let (left, right) = (source(left)?, source(right)?);
        let compared = match (&left, &right) {
            (Source::Local(left), Source::Local(right)) => trellis::verify(left, right, NAMED_MAX)?,
            _ => verify_with_server(&left, &right)?,
        };
        left.close()?;
        right.close()?;
        Ok(compared)
    });
    let compared = compared.await;
    progress.clear();
    let found = compared.map_err(|error| unchecked(error.into()))?;
    for (place, found) in places.iter().zip([&found.left, &found.right]) {
        print_line(&format!("{} rev {} {place}", found.digest, found.rev))?;
    }
    for difference in &found.differences {
        print_line(&format!("{:?}: {}", difference.kind, difference.path))?;
    }
    if found.left.digest == found.right.digest {
        return print_line("the same content");
    }
    Err(Failure::Damaged("the two differ".to_owned()))
}

/// As [`trellis::verify`], where a server is one of the two: if the digests differ, what it holds
/// is copied into a scratch directory, so that the paths can be named. If that does not succeed it
/// is said, and that they differ is known nevertheless.
fn verify_with_server(left: &Source, right: &Source) -> trellis::Result<Comparison> {
    let of = |source: &Source| source.archives().digest();
    let (left_digest, right_digest) = (of(left)?, of(right)?);
    if left_digest.digest == right_digest.digest {
        let differences = Vec::new();
        return Ok(Comparison { left: left_digest, right: right_digest, differences });
    }
    let named = Scratch::new().and_then(|scratch| {
        let left = left.opened(&scratch.0.join("left"))?;
        let right = right.opened(&scratch.0.join("right"))?;
        trellis::verify(&left, &right, NAMED_MAX)
    });
    named.or_else(|error| {
        eprintln!("warning: where they differ cannot be told: {error}");
        let differences = Vec::new();
        Ok(Comparison { left: left_digest, right: right_digest, differences })
    })
}

/// A directory for this user alone, which goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> trellis::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let mut number = 0;
        loop {
            let name = format!("trellis-verify-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                // A process of this number was killed and left its own.
                Err(error) if error.kind() == AlreadyExists && number < SCRATCHES_MAX => {
                    number += 1;
                }
                Err(error) => {
                    let message = "the temporary directory cannot be written";
                    let error = Error::new(ErrorKind::Unavailable, message).source(error);
                    return Err(error.context("path", path.display()));
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary directory, where it does no harm.
        let _is_gone = std::fs::remove_dir_all(&self.0).is_ok();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn a_scratch_directory_that_was_left_is_in_nobodys_way() {
        let (left, mine) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        assert_ne!(left.0, mine.0);
        let path = mine.0.clone();
        drop(mine);
        assert!(left.0.exists() && !path.exists());
    }
}
