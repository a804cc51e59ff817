//! What this node wrote, copied to `_repl/set_aside/<feed>/<id>` before a snapshot replaces it.
//!
//! The copy is ordinary data below its path, so that it can be looked at and written back. It stays
//! until an operator removes it ([`Kept::drop_set_aside`](crate::Kept::drop_set_aside)).

use bytes::Bytes;
use trellis_engine_traits::Result;
use trellis_tree::{
    Commit, Input, Leaf, Operation, Path, Scope, StampedChange, StampedOp, Tree, Version,
};

use crate::reads;

/// Leaves read and written at a time.
const PAGE_ITEMS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// Copies what this node wrote within a scope; how many leaves.
pub(crate) fn copy(tree: &Tree, feed: &str, id: &str, scope: &Scope) -> Result<u64> {
    let own = tree.origin();
    let mut start = Bytes::new();
    let mut leaves = 0;
    loop {
        let page = reads::page(tree, scope, &start, PAGE_ITEMS, PAGE_BYTES)?;
        let mut updates = Vec::new();
        for StampedOp { key, version, change } in page.ops {
            let StampedChange::Put(stored) = change else { continue };
            if version != Version::ZERO && version.origin != own {
                continue;
            }
            let mut text = Vec::new();
            Leaf::append_json(&stored, &mut text)?;
            leaves += 1;
            updates.push((place(feed, id, &key, leaves)?, Input::parse(&text)?));
        }
        if !updates.is_empty() {
            let operation = Operation::Update { updates, expiry: None };
            tree.commit(Commit { system: true, ..Commit::new(vec![operation]) })?;
        }
        match page.next {
            Some(next) => start = next,
            None => return Ok(leaves),
        }
    }
}

/// Where a leaf is kept: at its path below the copy, or by its number where that is too long.
fn place(feed: &str, id: &str, key: &Bytes, number: u64) -> Result<Path> {
    let place = Path::from_segments(["_repl", "set_aside", feed, id])?;
    let path = Path::from_key(key)?;
    match place.join(&path) {
        Ok(path) => Ok(path),
        Err(_) => place.child("_long")?.child(&number.to_string()),
    }
}
