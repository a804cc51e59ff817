//! Backups: archives of an open database, here or behind a server, in files that are whole or not
//! there at all.
//!
//! Invariants:
//! 1. Every byte is read back through the archive's own reader while it is written.
//! 2. A file has its name only once it is whole and durable.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use trellis_archive::{ArchiveReader, Backup, Chunk, Summary};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::archive_files::{self, Found, Unfinished};
use crate::data_directory::failed_at;
use crate::handle::Trellis;

/// How far a backup, a restore or a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done: `copy`, `catch up`, `verify`.
    pub step: &'static str,
    /// Entries of this step so far.
    pub entries: u64,
    /// Journal records of this step so far.
    pub records: u64,
    /// Bytes of archive of this step so far.
    pub bytes: u64,
}

/// A database's content in one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentDigest {
    /// 64 hexadecimal digits: the same for the same leaves and endings on every store.
    pub digest: String,
    /// The rev at which it was taken.
    pub rev: u64,
}

/// Something that archives can be had from: an open database, or a server over the network.
///
/// [`Trellis`] is one. Whoever implements it for a server hands the server's answers through.
pub trait ArchiveSource {
    /// Begins an archive: everything, or the records after a rev.
    ///
    /// # Errors
    /// `NotFound` when the journal no longer reaches back to the rev; `InvalidInput` for a rev that
    /// is not there yet; `Unavailable`, `Closed`.
    fn archive(&self, since: Option<u64>) -> Result<Box<dyn Read + '_>>;

    /// Refuses writes until [`ArchiveSource::resume`]; when it returns, the rev stands still.
    /// Calling it twice is fine.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    fn pause(&self) -> Result<()>;

    /// Takes writes again. Calling it twice is fine.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    fn resume(&self) -> Result<()>;

    /// The content's digest.
    ///
    /// # Errors
    /// As for every read.
    fn digest(&self) -> Result<ContentDigest>;
}

impl ArchiveSource for Trellis {
    fn archive(&self, since: Option<u64>) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.backup(since)?.into_reader()))
    }

    fn pause(&self) -> Result<()> {
        self.pause_writes()
    }

    fn resume(&self) -> Result<()> {
        self.resume_writes();
        Ok(())
    }

    fn digest(&self) -> Result<ContentDigest> {
        Trellis::digest(self)
    }
}

impl Trellis {
    /// Begins an archive: everything, or what was committed after `since`. The database goes on
    /// being read and written; the archive is pulled chunk by chunk, and says at its end at which
    /// rev it is.
    ///
    /// # Errors
    /// `NotFound` when the journal no longer reaches back to `since`; `InvalidInput` for a rev that
    /// is not there yet; `Closed`; those of the engines.
    ///
    /// ```
    /// let db = trellis::Trellis::memory()?;
    /// db.set("a", 1)?;
    /// let mut bytes = Vec::new();
    /// let summary = db.backup(None)?.write_to(&mut bytes, &mut |_| {})?;
    /// assert_eq!(summary.trailer.end.rev, 1);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn backup(&self, since: Option<u64>) -> Result<Backup> {
        match since {
            None => Backup::full(self.tree(), self.runtime()),
            Some(rev) => Backup::incremental(self.tree(), self.runtime(), rev),
        }
    }

    /// Refuses writes with `Unavailable` until [`Trellis::resume_writes`]; reads go on. When it
    /// returns, every write accepted before is answered, and rev and content stand still.
    ///
    /// # Errors
    /// `Closed`.
    pub fn pause_writes(&self) -> Result<()> {
        let mut pause = self.pause_slot().lock();
        if pause.is_none() {
            *pause = Some(self.tree().pause_writes()?);
        }
        Ok(())
    }

    /// Takes writes again.
    pub fn resume_writes(&self) {
        self.pause_slot().lock().take();
    }

    /// The content's digest: the same for the same content on every store.
    ///
    /// # Errors
    /// As for every read.
    ///
    /// # Cost
    /// Reads everything.
    ///
    /// ```
    /// use trellis::Trellis;
    ///
    /// let (one, other) = (Trellis::memory()?, Trellis::memory()?);
    /// one.set("a/b", 1)?;
    /// one.set("a/c", 2)?;
    /// other.set("a", serde_json::json!({"c": 2, "b": 1}))?;
    /// assert_eq!(one.digest()?.digest, other.digest()?.digest);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn digest(&self) -> Result<ContentDigest> {
        let view = self.tree().view()?;
        Ok(ContentDigest { digest: view.digest()?, rev: view.rev() })
    }
}

/// What a backup into a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupKind {
    /// Everything.
    Full,
    /// What was committed since the newest archive in the directory.
    Incremental,
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The new file; `None` when nothing was committed since the newest archive.
    pub file: Option<PathBuf>,
    /// What it holds.
    pub summary: Summary,
}

/// Writes an archive into a directory, as `full-REV.trellis` or `incremental-FROM-TO.trellis`, with
/// a number behind it where that name is taken; creates the directory if need be.
///
/// # Errors
/// `NotFound` for an incremental backup into a directory without a full one, or when the journal
/// no longer reaches back to the newest archive: take a full one. `InvalidInput` when the newest
/// archive there is of another history. `Locked` while another backup goes into the directory.
/// `Unavailable`, `Denied` when the directory cannot be written; those of the source. No file is
/// left behind.
///
/// # Durability
/// The file is durable when it returns.
pub fn backup_to_directory(
    source: &dyn ArchiveSource,
    directory: &Path,
    kind: BackupKind,
    progress: &mut dyn FnMut(&Progress),
) -> Result<BackupReport> {
    let unfinished = Unfinished::begin(directory)?;
    let newest = match kind {
        BackupKind::Full => None,
        BackupKind::Incremental => Some(newest_end(directory)?),
    };
    let since = newest.as_ref().map(|found| found.trailer.end.rev);
    let mut bytes = source.archive(since)?;
    let mut reader = ArchiveReader::new(Tee { source: &mut bytes, target: &unfinished })?;
    if let Some(newest) = &newest {
        newest.check_next(reader.header())?;
    }
    let summary = read_through(&mut reader, "copy", progress)?;
    drop(reader);
    if kind == BackupKind::Incremental && summary.trailer.records == 0 {
        return Ok(BackupReport { file: None, summary });
    }
    let file = unfinished.finish(&archive_files::free_name(directory, &summary)?)?;
    Ok(BackupReport { file: Some(file), summary })
}

fn newest_end(directory: &Path) -> Result<Found> {
    let found = archive_files::list(directory)?;
    found.into_iter().max_by_key(|one| (one.header.created_ms, one.trailer.end.rev)).ok_or_else(
        || {
            Error::new(ErrorKind::NotFound, "the directory holds no archive: take a full one first")
                .operation("backup")
                .context("directory", directory.display())
        },
    )
}

/// Writes an archive into one file: everything, or what was committed after `since`.
///
/// # Errors
/// `AlreadyExists` when the file is there; else as for [`backup_to_directory`].
///
/// # Durability
/// The file is durable when it returns.
pub fn backup_to_file(
    source: &dyn ArchiveSource,
    file: &Path,
    since: Option<u64>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<BackupReport> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unfinished = Unfinished::begin(directory)?;
    // Under the lock, or two backups could both find the name free.
    if file.exists() {
        return Err(Error::new(ErrorKind::AlreadyExists, "the file exists; name another")
            .operation("backup")
            .context("file", file.display()));
    }
    let mut bytes = source.archive(since)?;
    let mut reader = ArchiveReader::new(Tee { source: &mut bytes, target: &unfinished })?;
    let summary = read_through(&mut reader, "copy", progress)?;
    drop(reader);
    let file = unfinished.finish(file)?;
    Ok(BackupReport { file: Some(file), summary })
}

/// What reading archives back found.
#[derive(Debug, Default)]
pub struct BackupCheck {
    /// The sound ones, oldest first.
    pub archives: Vec<(PathBuf, Summary)>,
    /// Files that are damaged, or that nothing there leads up to.
    pub problems: Vec<(PathBuf, Error)>,
}

/// Reads an archive, or all archives of a directory, from beginning to end: every checksum, every
/// record's place in the history, and whether each incremental one continues another.
///
/// # Errors
/// `NotFound` when there is no archive, `Denied`, `Unavailable` when the place cannot be read. What
/// is damaged is no error but a finding.
pub fn verify_backup(place: &Path, progress: &mut dyn FnMut(&Progress)) -> Result<BackupCheck> {
    let mut check = BackupCheck::default();
    for path in archive_files::paths(place)? {
        let read = archive_files::open(&path)
            .and_then(|mut reader| read_through(&mut reader, "verify", progress));
        match read {
            Ok(summary) => check.archives.push((path, summary)),
            Err(error) => {
                let named = error.fact("file").is_some();
                let error = if named { error } else { error.context("file", path.display()) };
                check.problems.push((path, error));
            }
        }
    }
    check.archives.sort_by_key(|(_, summary)| summary.header.created_ms);
    if place.is_dir() {
        let orphans = archive_files::orphans(&check.archives);
        check.problems.extend(orphans);
    }
    if check.archives.is_empty() && check.problems.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there is no archive at this place")
            .operation("verify")
            .context("place", place.display()));
    }
    Ok(check)
}

/// Reads an archive to its end.
pub(crate) fn read_through<R: Read>(
    reader: &mut ArchiveReader<R>,
    step: &'static str,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary> {
    let (mut entries, mut records) = (0, 0);
    while let Some(chunk) = reader.next_chunk()? {
        match chunk {
            Chunk::Entries(page) => entries += u64::try_from(page.count()).unwrap_or(0),
            Chunk::Records(page) => records += u64::try_from(page.len()).unwrap_or(0),
            Chunk::EntriesEnd { .. } | Chunk::End(_) => {}
        }
        progress(&Progress { step, entries, records, bytes: reader.position() });
    }
    reader.read_to_end()
}

/// Writes what is read.
struct Tee<'a> {
    source: &'a mut dyn Read,
    target: &'a Unfinished,
}

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(into)?;
        let bytes = into.get(..read).unwrap_or_default();
        // Told as what it is: to whoever reads, it would be a failure to read.
        let unwritable = failed_at("the backup cannot be written", self.target.path());
        let mut file = self.target.file();
        file.write_all(bytes).map_err(|error| std::io::Error::other(unwritable(error)))?;
        Ok(read)
    }
}
