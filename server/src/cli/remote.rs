//! A database that archives are had from: one that this process opens, or one behind a server.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use trellis::{ArchiveSource, Config, ContentDigest, Error, ErrorKind, Result, Trellis, Until};
use trellis_client::{Admin, Archive, ClientError, ClientOptions};

/// Whether a place is a server's address.
pub(super) fn is_url(place: &str) -> bool {
    ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| place.starts_with(scheme))
}

/// A server as a source of archives. Its calls block: they are made off the executor.
pub(super) struct Remote {
    admin: Admin,
    executor: Handle,
    url: String,
}

impl Remote {
    /// The server at this address; nothing is asked yet.
    pub(super) fn new(url: &str) -> Result<Self, ClientError> {
        let admin = Admin::new(url, ClientOptions::default())?;
        Ok(Self { admin, executor: Handle::current(), url: url.to_owned() })
    }

    /// A client's error as the library's, with the kind that the server named.
    fn error(&self, error: &ClientError) -> Error {
        let kind = ErrorKind::from_code(error.code()).unwrap_or(ErrorKind::Unavailable);
        let advice = match error.code() {
            "unreachable" => {
                "; does a server run there? A closed database is named by its directory"
            }
            _ => "",
        };
        Error::new(kind, format!("{error}{advice}")).context("server", &self.url)
    }
}

/// A database that archives are had from.
pub(super) enum Source {
    Local(Trellis),
    Remote(Box<Remote>),
}

impl Source {
    /// Opens the database of these settings, which has to be there. Reading it changes nothing:
    /// what is due stays.
    pub(super) fn open(config: Config) -> Result<Self> {
        Trellis::open_existing_paused(config).map(Self::Local)
    }

    pub(super) fn archives(&self) -> &dyn ArchiveSource {
        match self {
            Self::Local(db) => db,
            Self::Remote(remote) => remote.as_ref(),
        }
    }

    /// The database itself; a copy of it in `directory` where a server has it.
    pub(super) fn opened(&self, directory: &Path) -> Result<Trellis> {
        let remote = match self {
            Self::Local(db) => return Ok(db.clone()),
            Self::Remote(remote) => remote,
        };
        let copy = Config::in_directory(directory);
        let archive = &mut *remote.archive(None)?;
        trellis::restore_from(archive, copy.clone(), Until::Newest, &mut |_| {})?;
        Trellis::open_existing_paused(copy)
    }

    /// Closes what this process opened.
    pub(super) fn close(self) -> Result<()> {
        match self {
            Self::Local(db) => db.close(),
            Self::Remote(_) => Ok(()),
        }
    }
}

impl ArchiveSource for Remote {
    fn archive(&self, since: Option<u64>) -> Result<Box<dyn Read + '_>> {
        let archive = self.executor.block_on(self.admin.archive(since));
        let archive = archive.map_err(|error| self.error(&error))?;
        Ok(Box::new(RemoteReader { archive, remote: self, chunk: Bytes::new() }))
    }

    fn pause(&self) -> Result<()> {
        let paused = self.executor.block_on(self.admin.pause());
        paused.map(drop).map_err(|error| self.error(&error))
    }

    fn resume(&self) -> Result<()> {
        let resumed = self.executor.block_on(self.admin.resume());
        resumed.map(drop).map_err(|error| self.error(&error))
    }

    fn digest(&self) -> Result<ContentDigest> {
        let found = self.executor.block_on(self.admin.digest());
        let found = found.map_err(|error| self.error(&error))?;
        let digest = found.get("digest").and_then(serde_json::Value::as_str);
        let rev = found.get("rev").and_then(serde_json::Value::as_u64);
        match (digest, rev) {
            (Some(digest), Some(rev)) => Ok(ContentDigest { digest: digest.to_owned(), rev }),
            _ => Err(Error::new(ErrorKind::Unsupported, "the server answers no digest; update it")),
        }
    }
}

struct RemoteReader<'a> {
    archive: Archive,
    remote: &'a Remote,
    chunk: Bytes,
}

impl Read for RemoteReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.remote.executor.block_on(self.archive.next_chunk()) {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(self.remote.error(&error))),
            }
        }
        let length = self.chunk.len().min(into.len());
        if let Some(into) = into.get_mut(..length) {
            self.chunk.copy_to_slice(into);
        }
        Ok(length)
    }
}
