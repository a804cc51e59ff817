//! The bytes of an archive to values, checked as they come.

use std::io::Read;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{EntrySpace, JournalRecord, Position};

use crate::format::{
    self, ArchiveKind, CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, ENTRIES, ENTRIES_END, Fields, HEADER,
    Header, MAGIC, RECORDS, START_BYTES, Summary, TRAILER, Tag, Trailer, VERSION, corrupt,
};

/// One part of an archive.
#[derive(Debug)]
pub enum Chunk {
    /// Entries, ascending by kind and key through the whole archive.
    Entries(Entries),
    /// All entries were read.
    EntriesEnd {
        /// The rev of the last page: the oldest that entries and records give together.
        rev: u64,
    },
    /// Records, each continuing the one before.
    Records(Vec<JournalRecord>),
    /// The archive is whole.
    End(Trailer),
}

/// Entries of one kind.
#[derive(Debug)]
pub struct Entries {
    space: EntrySpace,
    count: usize,
    body: Bytes,
}

impl Entries {
    /// Visits the entries in their order until `visit` fails.
    ///
    /// # Errors
    /// That of `visit`.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(EntrySpace, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut fields = Fields(&self.body);
        for _ in 0..self.count {
            let (key_bytes, value_bytes) = (fields.length()?, fields.length()?);
            visit(self.space, fields.bytes(key_bytes)?, fields.bytes(value_bytes)?)?;
        }
        fields.end()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Entries,
    Records,
    Over,
}

/// Reads an archive part by part and checks everything it reads.
///
/// ```
/// use trellis_archive::{ArchiveReader, Backup, Chunk};
/// # use std::sync::Arc;
/// # use trellis_runtime::Runtime;
/// # use trellis_tree::{Tree, TreeOptions};
/// # let kv = Arc::new(trellis_kv_memory::MemoryKv::new());
/// # let log = Arc::new(trellis_log_memory::MemoryLog::new());
/// # let runtime = Runtime::system();
/// # let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default())?;
///
/// let mut bytes = Vec::new();
/// Backup::full(&tree, &runtime)?.write_to(&mut bytes, &mut |_| {})?;
/// let mut reader = ArchiveReader::new(bytes.as_slice())?;
/// while let Some(chunk) = reader.next_chunk()? {
///     if let Chunk::End(trailer) = chunk {
///         assert_eq!(trailer.end, tree.position());
///     }
/// }
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug)]
pub struct ArchiveReader<R> {
    source: R,
    /// Where the next byte is.
    at: u64,
    tag: Tag,
    header: Header,
    stage: Stage,
    last_entry: Option<(EntrySpace, Vec<u8>)>,
    first_rev: u64,
    seen: Trailer,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the beginning of an archive.
    ///
    /// # Errors
    /// `Corrupt` when it is none, `Unsupported` when a newer version wrote it, `Unavailable` when
    /// the source cannot be read.
    pub fn new(source: R) -> Result<Self> {
        let from = Position::default();
        let header = Header { kind: ArchiveKind::Full, log_id: 0, epoch: 0, from, created_ms: 0 };
        let mut reader = Self {
            source,
            at: 0,
            tag: Tag::default(),
            header,
            stage: Stage::Entries,
            last_entry: None,
            first_rev: 0,
            seen: Trailer::default(),
        };
        let start: [u8; START_BYTES] = reader.array()?;
        let (magic, version) = start.split_at_checked(MAGIC.len()).unwrap_or_default();
        if magic != MAGIC {
            return Err(corrupt("this is no archive of Trellis").context("position", 0));
        }
        let version = version.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if version > VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the archive was written by a newer Trellis; read it with that version",
            )
            .context("format", version));
        }
        if version != VERSION {
            return Err(corrupt("the archive's version is none").context("position", MAGIC.len()));
        }
        reader.tag = format::first_tag(&start);
        let position = reader.at;
        let (kind, payload) = reader.chunk()?;
        if kind != HEADER {
            return Err(at(position, corrupt("the archive does not begin with its header")));
        }
        reader.header = Header::decode(&payload).map_err(|error| at(position, error))?;
        reader.seen.end = reader.header.from;
        reader.first_rev = reader.header.from.rev;
        if reader.header.kind == ArchiveKind::Incremental {
            reader.stage = Stage::Records;
        }
        Ok(reader)
    }

    /// What the archive says of itself at its beginning.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next part; `None` after the end, behind which there is nothing.
    ///
    /// # Errors
    /// `Corrupt` with the position of what is damaged, missing or too much; `Unavailable` when the
    /// source cannot be read. Nothing that is handed out after an error can be relied on.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.stage == Stage::Over {
            return Ok(None);
        }
        let position = self.at;
        let (kind, payload) = self.chunk()?;
        let chunk = match (kind, self.stage) {
            (ENTRIES, Stage::Entries) => self.entries(payload),
            (ENTRIES_END, Stage::Entries) => self.entries_end(&payload),
            (RECORDS, Stage::Records) => self.records(payload),
            (TRAILER, Stage::Records) => self.trailer(&payload),
            _ => Err(corrupt("a chunk of the archive is in the wrong place")),
        };
        chunk.map(Some).map_err(|error| at(position, error))
    }

    /// Reads the rest, and says what the whole archive was.
    ///
    /// # Errors
    /// As for [`ArchiveReader::next_chunk`].
    pub fn read_to_end(&mut self) -> Result<Summary> {
        while self.next_chunk()?.is_some() {}
        Ok(Summary {
            header: self.header,
            first_rev: self.first_rev,
            trailer: self.seen,
            bytes: self.at,
        })
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn entries(&mut self, payload: Vec<u8>) -> Result<Chunk> {
        let body = Bytes::from(payload);
        let mut fields = Fields(&body);
        let [number] = fields.array()?;
        let space = EntrySpace::from_number(number);
        let space = space.ok_or_else(|| corrupt("a kind of entry is unknown"))?;
        let count = fields.length()?;
        let skip = body.len() - fields.0.len();
        let entries = Entries { space, count, body: body.slice(skip..) };
        let mut last = self.last_entry.take();
        entries.for_each(|space, key, _| {
            if last
                .as_ref()
                .is_some_and(|(own, own_key)| (*own, own_key.as_slice()) >= (space, key))
            {
                return Err(corrupt("the entries of the archive are not in order"));
            }
            match &mut last {
                Some((own, own_key)) => {
                    *own = space;
                    own_key.clear();
                    own_key.extend_from_slice(key);
                }
                None => last = Some((space, key.to_vec())),
            }
            Ok(())
        })?;
        self.last_entry = last;
        self.seen.entries += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Chunk::Entries(entries))
    }

    fn entries_end(&mut self, payload: &[u8]) -> Result<Chunk> {
        let mut fields = Fields(payload);
        let rev = fields.u64()?;
        fields.end()?;
        if rev < self.header.from.rev {
            return Err(corrupt("the entries of the archive are older than its beginning"));
        }
        self.first_rev = rev;
        self.stage = Stage::Records;
        Ok(Chunk::EntriesEnd { rev })
    }

    fn records(&mut self, payload: Vec<u8>) -> Result<Chunk> {
        let body = Bytes::from(payload);
        let mut fields = Fields(&body);
        let count = fields.length()?;
        let mut records = Vec::new();
        for _ in 0..count {
            let record_bytes = fields.length()?;
            let record = body.slice_ref(fields.bytes(record_bytes)?);
            let record = JournalRecord::decode(record)?;
            self.seen.end = self.seen.end.advance(&record)?;
            self.seen.end_ms = record.at_ms;
            self.seen.records += 1;
            records.push(record);
        }
        fields.end()?;
        Ok(Chunk::Records(records))
    }

    fn trailer(&mut self, payload: &[u8]) -> Result<Chunk> {
        let trailer = Trailer::decode(payload)?;
        if trailer != self.seen || self.seen.end.rev < self.first_rev {
            return Err(corrupt("the archive does not hold what its end says"));
        }
        if !self.fill(1)?.is_empty() {
            return Err(corrupt("something follows the end of the archive"));
        }
        self.stage = Stage::Over;
        Ok(Chunk::End(trailer))
    }

    /// The next chunk, proved by its tag.
    fn chunk(&mut self) -> Result<(u8, Vec<u8>)> {
        let position = self.at;
        let head: [u8; CHUNK_HEAD_BYTES] = self.array()?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > CHUNK_BYTES_MAX {
            return Err(at(position, corrupt("a chunk of the archive is damaged: its length")));
        }
        let payload = self.fill(length)?;
        if payload.len() < length {
            return Err(self.cut_short());
        }
        let tag: Tag = self.array()?;
        if tag != format::next_tag(&self.tag, &head, &payload) {
            return Err(at(position, corrupt("a chunk of the archive is damaged: its checksum")));
        }
        self.tag = tag;
        Ok((kind, payload))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.fill(N)?;
        bytes.first_chunk().copied().ok_or_else(|| self.cut_short())
    }

    /// Reads so many bytes, fewer only at the source's end. Takes memory as they come.
    fn fill(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count.min(2 << 20));
        let limit = u64::try_from(count).unwrap_or(u64::MAX);
        let read = self.source.by_ref().take(limit).read_to_end(&mut bytes);
        self.at += u64::try_from(bytes.len()).unwrap_or(0);
        match read {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(bytes),
            // What the source says in the library's own terms, such as damage, stays what it is.
            Err(error) => Err(error.downcast::<Error>().unwrap_or_else(|source| {
                Error::new(ErrorKind::Unavailable, "the archive cannot be read")
                    .operation("read archive")
                    .context("position", self.at)
                    .source(source)
            })),
        }
    }

    fn cut_short(&self) -> Error {
        at(self.at, corrupt("the archive is cut short: it ends before its trailer"))
    }
}

fn at(position: u64, error: Error) -> Error {
    if error.fact("position").is_some() { error } else { error.context("position", position) }
}

/// Reads a whole archive in memory and checks everything; any bytes may be given.
///
/// # Errors
/// As for [`ArchiveReader::next_chunk`].
///
/// ```
/// use trellis_engine_traits::ErrorKind;
///
/// let error = trellis_archive::parse(b"no archive at all").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Corrupt);
/// ```
pub fn parse(bytes: &[u8]) -> Result<Summary> {
    ArchiveReader::new(bytes)?.read_to_end()
}
