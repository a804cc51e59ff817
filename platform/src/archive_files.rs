//! Archives as files of a directory: names, what they say of themselves, and what follows what.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use trellis_archive::{
    ArchiveKind, ArchiveReader, Header, Summary, TRAILER_CHUNK_BYTES, Trailer, Until,
};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::data_directory::{create_durably, failed_at, sync_directory};

/// How the files end.
const EXTENSION: &str = "trellis";
/// What is being written; locked meanwhile, and of no use afterwards.
const UNFINISHED: &str = "unfinished.tmp";

/// An archive, as it says of itself; not proved.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) trailer: Trailer,
}

impl Found {
    /// Refuses an archive that does not continue this one.
    pub(crate) fn check_next(&self, next: &Header) -> Result<()> {
        let end = self.trailer.end;
        let known = end.is_known() && next.from.is_known();
        if next.log_id == self.header.log_id
            && next.from.rev == end.rev
            && (!known || next.from.hash == end.hash)
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            "the newest archive is of another history; take a full backup into an empty directory",
        )
        .operation("backup")
        .context("file", self.path.display()))
    }
}

/// A free name for an archive in a directory that is held by an [`Unfinished`]: of another history
/// there may be one that ends at the same rev.
pub(crate) fn free_name(directory: &Path, summary: &Summary) -> Result<PathBuf> {
    let (from, to) = (summary.header.from.rev, summary.trailer.end.rev);
    let name = match summary.header.kind {
        ArchiveKind::Full => format!("full-{to}"),
        ArchiveKind::Incremental => format!("incremental-{from}-{to}"),
    };
    let mut path = directory.join(format!("{name}.{EXTENSION}"));
    for number in 2_u64.. {
        if !path.try_exists().map_err(failed_at("the directory cannot be read", directory))? {
            break;
        }
        path = directory.join(format!("{name}-{number}.{EXTENSION}"));
    }
    Ok(path)
}

/// The archives at a place: itself, or the files of a directory that are called like one.
pub(crate) fn paths(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let unreadable = failed_at("the directory cannot be read", place);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(place).map_err(&unreadable)? {
        let path = entry.map_err(&unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Begins to read an archive.
pub(crate) fn open(path: &Path) -> Result<ArchiveReader<BufReader<File>>> {
    let file = File::open(path).map_err(failed_at("the archive cannot be read", path))?;
    let reader = ArchiveReader::new(BufReader::with_capacity(1 << 20, file));
    reader.map_err(|error| error.context("file", path.display()))
}

/// What the archives at a place say of themselves, without reading them.
pub(crate) fn list(place: &Path) -> Result<Vec<Found>> {
    paths(place)?.into_iter().map(peek).collect()
}

fn peek(path: PathBuf) -> Result<Found> {
    let header = *open(&path)?.header();
    let trailer = peek_trailer(&path).map_err(|error| error.context("file", path.display()))?;
    Ok(Found { path, header, trailer })
}

fn peek_trailer(path: &Path) -> Result<Trailer> {
    let unreadable = failed_at("the archive cannot be read", path);
    let mut file = File::open(path).map_err(&unreadable)?;
    let size = file.metadata().map_err(&unreadable)?.len();
    let mut end = [0; TRAILER_CHUNK_BYTES];
    let start = size.saturating_sub(u64::try_from(end.len()).unwrap_or(0));
    file.seek(SeekFrom::Start(start)).map_err(&unreadable)?;
    // An archive that is too short for a trailer leaves zeros here, which are none.
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(&unreadable)?;
    for (target, byte) in end.iter_mut().zip(&tail) {
        *target = *byte;
    }
    Trailer::peek(&end)
}

/// Ways to a point, the best first: a full archive and what follows it.
pub(crate) fn ways(mut found: Vec<Found>, until: Until) -> Vec<Vec<Found>> {
    // The shortest way to the point begins with the newest full archive before it.
    found.sort_by_key(|one| std::cmp::Reverse((one.header.created_ms, one.trailer.end.rev)));
    let fulls = found.iter().filter(|one| {
        one.header.kind == ArchiveKind::Full
            && match until {
                Until::Newest => true,
                Until::Rev(rev) => one.header.from.rev <= rev,
                Until::Time(at_ms) => one.header.created_ms <= at_ms,
            }
    });
    fulls.map(|full| way(full, &found, until)).collect()
}

fn way(full: &Found, found: &[Found], until: Until) -> Vec<Found> {
    let mut way = vec![full.clone()];
    let mut last = full;
    loop {
        let enough = match until {
            Until::Newest => false,
            Until::Rev(rev) => last.trailer.end.rev >= rev,
            Until::Time(at_ms) => last.header.created_ms >= at_ms || last.trailer.end_ms > at_ms,
        };
        let next = found
            .iter()
            .filter(|one| one.header.kind == ArchiveKind::Incremental && one.trailer.records > 0)
            .filter(|one| last.check_next(&one.header).is_ok())
            .max_by_key(|one| one.trailer.end.rev);
        match next {
            Some(next) if !enough => {
                way.push(next.clone());
                last = next;
            }
            _ => return way,
        }
    }
}

/// The incremental archives that continue none of these.
pub(crate) fn orphans(archives: &[(PathBuf, Summary)]) -> Vec<(PathBuf, Error)> {
    let all = archives.iter().map(|(path, summary)| Found {
        path: path.clone(),
        header: summary.header,
        trailer: summary.trailer,
    });
    let all: Vec<Found> = all.collect();
    let orphans = all.iter().filter(|one| {
        one.header.kind == ArchiveKind::Incremental
            && !all.iter().any(|before| before.check_next(&one.header).is_ok())
    });
    orphans
        .map(|orphan| {
            let message = "no archive here ends where this one begins: one is missing";
            let error = Error::new(ErrorKind::NotFound, message)
                .context("from_rev", orphan.header.from.rev);
            (orphan.path.clone(), error)
        })
        .collect()
}

/// Whether an open file is still the one of this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((own.dev(), own.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere an open file keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> std::io::Result<bool> {
    Ok(true)
}

/// A file that is being written; removed unless it is finished.
#[derive(Debug)]
pub(crate) struct Unfinished {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Unfinished {
    /// Begins a file in a directory, which is created if need be.
    pub(crate) fn begin(directory: &Path) -> Result<Self> {
        let unwritable = failed_at("the directory of the backup cannot be written", directory);
        create_durably(directory).map_err(&unwritable)?;
        let path = directory.join(UNFINISHED);
        let file = loop {
            // What a process that ended left behind is overwritten, but only under its lock.
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(&unwritable)?;
            if let Err(source) = file.try_lock() {
                return Err(Error::new(
                    ErrorKind::Locked,
                    "another backup is being written into the directory; wait for it",
                )
                .operation("backup")
                .context("directory", directory.display())
                .source(source));
            }
            // It may have become somebody's finished archive between the opening and the lock.
            if is_at(&file, &path).map_err(&unwritable)? {
                break file;
            }
        };
        file.set_len(0).map_err(&unwritable)?;
        Ok(Self { directory: directory.to_owned(), path, file, finished: false })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it durable under its name.
    pub(crate) fn finish(mut self, path: &Path) -> Result<PathBuf> {
        let unwritable = failed_at("the backup cannot be made durable", path);
        self.file.sync_all().map_err(&unwritable)?;
        std::fs::rename(&self.path, path).map_err(&unwritable)?;
        self.finished = true;
        sync_directory(&self.directory).map_err(&unwritable)?;
        Ok(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "what was left of a backup could not be removed");
        }
    }
}
