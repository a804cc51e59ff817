//! [`VfsBackend`]: immutable blobs under flat keys. Not a file system.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::profile::{Persistence, Semantic};

/// The name of a blob: 1 to 512 bytes of visible ASCII without `\`; segments between `/` are
/// neither empty nor `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

impl BlobKey {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// `InvalidInput` for a name outside the rule above.
    ///
    /// ```
    /// use trellis_engine_traits::BlobKey;
    ///
    /// assert!(BlobKey::new("ab/cd.bin").is_ok());
    /// assert!(BlobKey::new("ab/../cd").is_err());
    /// ```
    pub fn new(name: &str) -> Result<Self> {
        let graphic = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if name.len() > 512 || !graphic || !plain {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a blob key is 1 to 512 bytes of visible ASCII in segments other than '.', '..'",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a put may replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Only a new blob, else `AlreadyExists`.
    Create,
    /// Whatever is there.
    Overwrite,
    /// Only the blob with this tag, else `Conflict`.
    IfMatch(String),
}

/// What is known of a blob without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Changes whenever the content does.
    pub tag: String,
}

/// The bytes from `start` (included) to `end` (excluded; `None`: to the end of the blob).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The first byte that is no longer wanted.
    pub end: Option<u64>,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin with this; empty for all.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<BlobKey>,
    /// The number of keys, at most 1,000.
    pub limit: usize,
}

/// The answer to a [`ListRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// Keys in byte order.
    pub blobs: Vec<(BlobKey, BlobInfo)>,
    /// Whether later keys exist.
    pub more: bool,
}

/// Whether a delete found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deleted {
    /// The blob was there.
    Removed,
    /// There was none.
    Absent,
}

/// The largest inputs a blob store accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VfsLimits {
    /// Bytes of a blob.
    pub blob_bytes_max: u64,
    /// Bytes of one part of an upload.
    pub part_bytes_max: usize,
}

/// What a blob store says of itself; constant while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfsProfile {
    /// The stem of the crate, the feature and the URL scheme: `local`.
    pub name: &'static str,
    /// The largest inputs.
    pub limits: VfsLimits,
    /// Where the blobs are after the process has ended.
    pub persistence: Persistence,
    /// Promises that the adapter provides because the engine does not.
    pub emulated: &'static [Semantic],
}

/// Immutable blobs under flat keys.
///
/// Directories, renames and sharing are metadata in the tree, so that a local disk and an object
/// store behave alike.
///
/// # Contract
/// - `vfs.put.whole`: a blob appears whole or not at all, and is durable when the call returns.
/// - `vfs.put.modes`: `Create` and `IfMatch` decide races: exactly one wins.
/// - `vfs.upload.whole`: parts become a blob at `finish`; after `abort`, a drop or a crash nothing
///   is left that can be listed or read.
/// - `vfs.read.range`: answers exactly the bytes asked for, cut at the end of the blob.
/// - `vfs.list.order`: byte order, paged, without gaps for keys that exist throughout.
/// - `vfs.delete.idempotent`: removing what does not exist is no error.
/// - `vfs.close.idempotent`: closing twice is fine; every other call then answers `Closed`.
#[async_trait]
pub trait VfsBackend: fmt::Debug + Send + Sync + 'static {
    /// What the store says of itself.
    fn profile(&self) -> &VfsProfile;

    /// Stores a blob.
    ///
    /// # Errors
    /// `AlreadyExists`, `Conflict`, `TooLarge`, `Unavailable`, `Closed`: nothing was stored.
    async fn put(&self, key: &BlobKey, body: Bytes, mode: PutMode) -> Result<BlobInfo>;

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// As for `put`.
    async fn upload(&self, key: &BlobKey, mode: PutMode) -> Result<Box<dyn BlobUpload>>;

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when the range begins beyond the end; `Unavailable`, `Closed`.
    async fn read(&self, key: &BlobKey, range: ByteRange) -> Result<Box<dyn BlobRead>>;

    /// What is known of a blob, `None` when it does not exist.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn info(&self, key: &BlobKey) -> Result<Option<BlobInfo>>;

    /// One page of keys.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn list(&self, request: &ListRequest) -> Result<ListPage>;

    /// Removes a blob.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn delete(&self, key: &BlobKey) -> Result<Deleted>;

    /// Gives every resource free. Idempotent.
    ///
    /// # Errors
    /// `Unavailable`; the store is closed all the same.
    async fn close(&self) -> Result<()>;
}

/// An upload under way. Dropped without `finish` it leaves nothing behind.
#[async_trait]
pub trait BlobUpload: fmt::Debug + Send {
    /// Adds a part, in order.
    ///
    /// # Errors
    /// `TooLarge`, `Unavailable`; the upload can only be aborted then.
    async fn part(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the blob appear.
    ///
    /// # Errors
    /// As for [`VfsBackend::put`].
    async fn finish(self: Box<Self>) -> Result<BlobInfo>;

    /// Forgets the parts.
    ///
    /// # Errors
    /// `Unavailable`; the parts are collected later.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// A blob being read.
#[async_trait]
pub trait BlobRead: fmt::Debug + Send {
    /// What is known of the whole blob.
    fn info(&self) -> &BlobInfo;

    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}
