//! What sessions read of a tree, in the form in which they send it.

use bytes::Bytes;
use trellis_engine_traits::Result;
use trellis_tree::{LoggedCommit, Scope, StampedChange, StampedOp, Tree, Zoning};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::incoming::cause_code;
use crate::message::{WireDigest, WireRecord};
use crate::planted::{Planted, is_planted};
use crate::project;
use crate::slots::is_gone;
use crate::task::PageRead;
use crate::verify::BUCKETS;

/// Leaves read at a time where all of them are.
const SLICE_ITEMS: usize = 1000;
const SLICE_BYTES: usize = 1 << 20;

pub(crate) fn page(
    tree: &Tree,
    scope: &Scope,
    start: &Bytes,
    items_max: usize,
    bytes_max: usize,
) -> Result<PageRead> {
    let view = tree.view()?;
    let page = view.stamped_page(scope, start, items_max, bytes_max)?;
    Ok(PageRead { ops: page.ops, next: page.next, rev: view.rev() })
}

pub(crate) fn delta(
    tree: &Tree,
    scope: &Scope,
    after: u64,
    start: Option<Bytes>,
    items_max: usize,
    bytes_max: usize,
) -> Result<PageRead> {
    let view = tree.view()?;
    let delta = view.stamped_since(scope, after, start, items_max, bytes_max)?;
    Ok(PageRead { ops: delta.ops, next: delta.next, rev: view.rev() })
}

/// When the first commit after a rev was made; `Some(None)` when there is none, `None` when it is
/// not in the journal any more.
pub(crate) fn made_at(tree: &Tree, after: u64) -> Result<Option<Option<u64>>> {
    match tree.read_commits(after, 1) {
        Ok(commits) => Ok(Some(commits.first().map(|commit| commit.at_ms))),
        Err(error) if is_gone(error.kind()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What of a commit is sent; nothing when it does not touch the scope.
pub(crate) fn record(
    commit: &LoggedCommit,
    scope: &Scope,
    zoning: &dyn Zoning,
) -> Option<WireRecord> {
    let mut ops = project(commit, scope, zoning);
    if is_planted(Planted::ProjectionIgnored) {
        ops.retain(|op| commit.ops.contains(op));
    }
    (!ops.is_empty()).then(|| WireRecord {
        rev: commit.position.rev,
        hash: commit.position.hash,
        at_ms: commit.at_ms,
        cause: cause_code(commit.cause),
        author: commit.author.clone(),
        ops,
    })
}

/// Visits what a scope shows: live leaves and endings, with the keys that they have at the source.
fn each_shown(
    tree: &Tree,
    scope: &Scope,
    local_prefix: &Bytes,
    start: &Bytes,
    visit: &mut dyn FnMut(StampedOp) -> bool,
) -> Result<u64> {
    let view = tree.view()?;
    let mut start = start.clone();
    let skip = if local_prefix.is_empty() { 0 } else { local_prefix.len() + 1 };
    loop {
        let page = view.stamped_page(scope, &start, SLICE_ITEMS, SLICE_BYTES)?;
        for op in page.ops {
            let shown = match op.change {
                StampedChange::Put(_) | StampedChange::Ending(Some(_)) => true,
                StampedChange::Tomb | StampedChange::Clear | StampedChange::Ending(None) => false,
            };
            let key = op.key.slice(skip.min(op.key.len())..);
            if shown && !visit(StampedOp { key, ..op }) {
                return Ok(view.rev());
            }
        }
        match page.next {
            Some(next) => start = next,
            None => return Ok(view.rev()),
        }
    }
}

/// The bucket of a key.
fn bucket(key: &[u8]) -> u8 {
    xxh3_64(key).to_le_bytes().first().copied().unwrap_or(0)
}

/// What a leaf or an ending adds to the digest.
fn weight(op: &StampedOp) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&u64::try_from(op.key.len()).unwrap_or(0).to_le_bytes());
    hash.update(&op.key);
    hash.update(&op.version.hlc.to_le_bytes());
    hash.update(&op.version.origin.to_le_bytes());
    match &op.change {
        StampedChange::Put(stored) => hash.update(stored),
        StampedChange::Ending(Some(at_ms)) => hash.update(&at_ms.to_le_bytes()),
        StampedChange::Tomb | StampedChange::Clear | StampedChange::Ending(None) => {}
    }
    hash.digest128()
}

/// The digest of a scope: sums over what it shows, the same in any order.
pub(crate) fn digest(
    tree: &Tree,
    scope: &Scope,
    local_prefix: &Bytes,
) -> Result<(WireDigest, Vec<u128>)> {
    let (mut buckets, mut total, mut leaves) = (vec![0_u128; BUCKETS], 0_u128, 0_u64);
    let rev = each_shown(tree, scope, local_prefix, &Bytes::new(), &mut |op| {
        let weight = weight(&op);
        total = total.wrapping_add(weight);
        leaves += 1;
        if let Some(sum) = buckets.get_mut(usize::from(bucket(&op.key))) {
            *sum = sum.wrapping_add(weight);
        }
        true
    })?;
    Ok((WireDigest { rev, total, leaves }, buckets))
}

/// What is in some buckets of a scope's digest, from a key on.
pub(crate) fn buckets(
    tree: &Tree,
    scope: &Scope,
    local_prefix: &Bytes,
    buckets: &[u8],
    start: &Bytes,
    bytes_max: usize,
) -> Result<PageRead> {
    let from =
        if start.is_empty() { Bytes::new() } else { crate::remap::prefixed(local_prefix, start) };
    let (mut ops, mut bytes, mut next) = (Vec::new(), 0, None);
    let rev = each_shown(tree, scope, local_prefix, &from, &mut |op| {
        if buckets.binary_search(&bucket(&op.key)).is_err() {
            return true;
        }
        if bytes >= bytes_max {
            next = Some(op.key);
            return false;
        }
        let stored = if let StampedChange::Put(stored) = &op.change { stored.len() } else { 8 };
        bytes += 48 + op.key.len() + stored;
        ops.push(alone(op));
        true
    })?;
    Ok(PageRead { ops, next, rev })
}

/// An op of a page that does not keep the page.
fn alone(op: StampedOp) -> StampedOp {
    let change = match op.change {
        StampedChange::Put(stored) => StampedChange::Put(Bytes::copy_from_slice(&stored)),
        change => change,
    };
    StampedOp { key: Bytes::copy_from_slice(&op.key), change, ..op }
}

/// What there is of a journal.
pub(crate) struct Journal {
    /// The newest commit.
    pub(crate) head: u64,
    /// The oldest commit in it.
    pub(crate) first: u64,
    /// Bytes appended since open.
    pub(crate) appended: u64,
}

pub(crate) fn journal(tree: &Tree) -> Result<Journal> {
    let stats = tree.stats()?;
    Ok(Journal { head: stats.rev, first: stats.journal_first_rev, appended: stats.journal_bytes })
}
