//! What of a commit a follower sees, and whom a commit is not sent to.

use std::collections::HashSet;

use bytes::Bytes;
use trellis_tree::{Author, LoggedCommit, Scope, StampedChange, StampedOp, VIA_MAX, Zoning};

use crate::zones::is_below;

/// The part of a commit that lies in a scope; nothing when it does not touch it.
///
/// What is said of a path above a prefix of the scope, in the same zone, is said of the prefix:
/// whatever it was, it removed what was older there. So a `Clear` of `users`, a leaf or a tombstone
/// at `users` becomes a `Clear` of `users/u1` for who follows that. Clears come first.
#[must_use]
pub fn project(commit: &LoggedCommit, scope: &Scope, zoning: &dyn Zoning) -> Vec<StampedOp> {
    let mut clears = Vec::new();
    let mut rest = Vec::new();
    let mut projected: HashSet<Bytes> = HashSet::new();
    for op in &commit.ops {
        let hides = !matches!(op.change, StampedChange::Ending(_));
        if hides {
            let zone = zoning.zone(&op.key).id;
            let below = scope.within.iter().filter(|prefix| is_below(prefix, &op.key));
            for prefix in below.filter(|prefix| zoning.zone(prefix).id == zone) {
                if scope.covers(prefix) && projected.insert(prefix.clone()) {
                    let (key, version) = (prefix.clone(), op.version);
                    clears.push(StampedOp { key, version, change: StampedChange::Clear });
                }
            }
        }
        if scope.covers(&op.key) {
            let list = if op.change == StampedChange::Clear { &mut clears } else { &mut rest };
            list.push(op.clone());
        }
    }
    clears.extend(rest);
    clears
}

/// Whether a commit is not sent to a peer: it wrote it, sent it here, or relayed it before.
#[must_use]
pub fn is_echo(author: &Author, peer: u64) -> bool {
    author.version.origin == peer || author.via.contains(&peer)
}

/// The relays of a commit once `sender` has handed it on; `None` when it has passed too many.
#[must_use]
pub fn relays(author: &Author, sender: u64) -> Option<Vec<u64>> {
    let mut via = author.via.clone();
    if author.version.origin != sender && via.last() != Some(&sender) {
        via.push(sender);
    }
    (via.len() <= VIA_MAX).then_some(via)
}
