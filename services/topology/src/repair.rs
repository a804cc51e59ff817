//! What differs between two ends, and the commits that make it the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trellis_tree::{Author, ChangeCause, RemoteCommit, RemoteRule, StampedOp, Version};

use crate::incoming::Following;
use crate::message::origin;
use crate::plan::FillRule;

/// The keys at which two sides do not hold the same.
pub(crate) fn differing(
    theirs: &BTreeMap<Bytes, StampedOp>,
    ours: &BTreeMap<Bytes, StampedOp>,
) -> BTreeSet<Bytes> {
    let keys = theirs.keys().chain(ours.keys());
    keys.filter(|key| theirs.get(*key) != ours.get(*key)).cloned().collect()
}

/// One commit for each key: what the source has there, or nothing. Where both write, what the
/// source lacks stays: it is for the source to fetch.
pub(crate) fn repairs(
    following: &Following,
    keys: &[Bytes],
    theirs: &BTreeMap<Bytes, StampedOp>,
) -> Vec<RemoteCommit> {
    let repair = |key: &Bytes| {
        let op = theirs.get(key).cloned();
        let local = following.plan.local_key(key);
        // What both write is merged here and told by this node: where what is here wins, the source
        // is to hear of it again.
        let (rule, author) = match following.fill_rule(key)? {
            FillRule::Replace => {
                let until = Some([&local, &[0][..]].concat().into());
                (RemoteRule::Replace { from: local, until }, following.peer)
            }
            FillRule::Merge if op.is_some() => (RemoteRule::Settle, following.node),
            FillRule::Merge => return None,
        };
        let hlc = op.as_ref().map_or(0, |op| op.version.hlc);
        Some(RemoteCommit {
            author: Author { version: Version { hlc, origin: origin(author) }, via: Vec::new() },
            cause: ChangeCause::Request,
            ops: following.local_ops(op.into_iter().collect()).ok()?,
            scope: following.plan.local_scope(&following.scope),
            rule,
            notes: Vec::new(),
        })
    };
    keys.iter().filter_map(repair).collect()
}
