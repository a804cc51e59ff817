//! What sessions read of a tree, in the form in which they send it.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Scope, Tree};

use crate::message::WireDigest;
use crate::store::unsupported;
use crate::task::{PageRead, TailRead};

/// This node's id.
pub(crate) fn node_id(tree: &Tree) -> Result<u128> {
    u128::from_str_radix(&tree.identity().log_id, 16)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "the log's id is no id"))
}

pub(crate) fn hash_at(tree: &Tree, rev: u64) -> Result<Option<[u8; 16]>> {
    let _ = (tree, rev);
    Err(unsupported())
}

pub(crate) fn gc_floor(tree: &Tree) -> Result<u64> {
    let _ = tree;
    Err(unsupported())
}

pub(crate) fn page(
    tree: &Tree,
    scope: &Scope,
    start: &Bytes,
    items_max: usize,
    bytes_max: usize,
) -> Result<PageRead> {
    let _ = (tree, scope, start, items_max, bytes_max);
    Err(unsupported())
}

pub(crate) fn delta(
    tree: &Tree,
    scope: &Scope,
    after: u64,
    start: Option<Bytes>,
    items_max: usize,
    bytes_max: usize,
) -> Result<PageRead> {
    let _ = (tree, scope, after, start, items_max, bytes_max);
    Err(unsupported())
}

pub(crate) fn tail(
    tree: &Tree,
    scope: &Scope,
    after: u64,
    peer: u64,
    bytes_max: usize,
) -> Result<TailRead> {
    let _ = (tree, scope, after, peer, bytes_max);
    Err(unsupported())
}

pub(crate) fn digest(
    tree: &Tree,
    scope: &Scope,
    local_prefix: &Bytes,
) -> Result<(WireDigest, Vec<u128>)> {
    let _ = (tree, scope, local_prefix);
    Err(unsupported())
}

pub(crate) fn buckets(
    tree: &Tree,
    scope: &Scope,
    local_prefix: &Bytes,
    buckets: &[u8],
    start: &Bytes,
    bytes_max: usize,
) -> Result<PageRead> {
    let _ = (tree, scope, local_prefix, buckets, start, bytes_max);
    Err(unsupported())
}

/// What there is of a journal.
pub(crate) struct Journal {
    /// The newest commit.
    pub(crate) head: u64,
    /// The oldest commit in it.
    pub(crate) first: u64,
    /// Bytes appended, those before the open included as far as they are there.
    pub(crate) appended: u64,
}

pub(crate) fn journal(tree: &Tree) -> Result<Journal> {
    let stats = tree.stats()?;
    Ok(Journal { head: stats.rev, first: stats.journal_first_rev, appended: stats.journal_bytes })
}

pub(crate) fn collect(tree: &Tree, floor: u64, older_than: std::time::Duration) -> Result<u64> {
    let _ = (tree, floor, older_than);
    Ok(0)
}
