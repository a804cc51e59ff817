//! Which keys a scope covers: ranges, and the prefixes in them that it leaves alone.

use bytes::Bytes;
use trellis_engine_traits::KeyRange;

use crate::path::{self, outermost};
use crate::stamp::Scope;
use crate::zoning::{Tracking, Zoning};

/// The tracked parts of a scope in an interval, each with the prefixes in it that are left alone:
/// exceptions, and zones that are not tracked.
pub(crate) fn ranges(
    zoning: &dyn Zoning,
    scope: &Scope,
    interval: &KeyRange,
) -> Vec<(KeyRange, Vec<Bytes>)> {
    let mut parts = Vec::new();
    for within in &scope.within {
        tracked_parts(zoning, within.clone(), &mut parts);
    }
    parts.retain(|(root, _)| scope.covers(root));
    let parts = parts.into_iter().map(|(root, mut edges)| {
        let subtree = path::subtree(&root);
        let end = match (&subtree.end, &interval.end) {
            (Some(one), Some(other)) => Some(one.min(other).clone()),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        let range = KeyRange::new(subtree.start.max(interval.start.clone()), end);
        edges.extend(scope.except.iter().filter(|at| path::covers(&root, at)).cloned());
        (range, outermost(edges))
    });
    parts.filter(|(range, _)| !range.is_empty()).collect()
}

/// The topmost tracked paths at and below a path, each with the zones below it that are not.
fn tracked_parts(zoning: &dyn Zoning, key: Bytes, parts: &mut Vec<(Bytes, Vec<Bytes>)>) {
    if zoning.zone(&key).tracking == Tracking::None {
        for carved in zoning.carved(&key) {
            tracked_parts(zoning, carved, parts);
        }
        return;
    }
    let mut edges = Vec::new();
    untracked(zoning, &key, &mut edges);
    let inner = edges.clone();
    parts.push((key, edges));
    for edge in inner {
        tracked_parts(zoning, edge, parts);
    }
}

/// The topmost zones below a path that are not tracked.
fn untracked(zoning: &dyn Zoning, key: &[u8], into: &mut Vec<Bytes>) {
    for carved in zoning.carved(key) {
        if zoning.zone(&carved).tracking == Tracking::None {
            into.push(carved);
        } else {
            untracked(zoning, &carved, into);
        }
    }
}
