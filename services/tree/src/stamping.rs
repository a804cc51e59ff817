//! Since when what is stamped: a stamp counts if its commit came after its path was tracked last.
//!
//! The note stands with each opening in the log, which every store is replayed from, and in the
//! store, for the stamps that it holds. Invariants:
//! 1. Where nothing is tracked commits leave stamps as they are, so those from before are void once
//!    it is tracked again: they go at open, and no replay brings them back.
//! 2. An opening without a zoning voids nothing by itself: whoever looks at a closed tree, or
//!    copies it, does no harm. What is committed then does, at the next open.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::path;
use crate::stamp::Scope;
use crate::zoning::Zoning;

/// Since when what is stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamping {
    /// Whether commits of this opening are stamped.
    pub(crate) is_on: bool,
    pub(crate) zones: Zones,
}

/// Prefixes in order, and after which rev all below is stamped, other prefixes aside; `None`: not
/// at all, as is what no prefix covers.
pub(crate) type Zones = Vec<(Bytes, Option<u64>)>;

fn since(zones: &Zones, key: &[u8]) -> Option<u64> {
    let covering = zones.iter().filter(|(prefix, _)| path::covers(prefix, key));
    covering.max_by_key(|(prefix, _)| prefix.len()).and_then(|(_, since)| *since)
}

impl Stamping {
    /// That of an opening at `rev` which follows another.
    pub(crate) fn next(
        last: Option<&Self>,
        last_rev: Option<u64>,
        zoning: Option<&dyn Zoning>,
        rev: u64,
    ) -> Option<Self> {
        let known = last.filter(|last| last.is_on || last_rev == Some(rev));
        let zones = known.map(|known| known.zones.clone());
        match zoning {
            None => zones.map(|zones| Self { is_on: false, zones }),
            Some(zoning) => {
                let zones = next_zones(&zones.unwrap_or_default(), &zoning.tracked(), rev);
                Some(Self { is_on: true, zones })
            }
        }
    }

    /// Whether commits of this opening are stamped.
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether the stamp of a commit at `rev` counts.
    pub(crate) fn counts(&self, key: &[u8], rev: u64) -> bool {
        since(&self.zones, key).is_some_and(|since| rev > since)
    }

    /// The revs after which anything, and everything, is stamped that is tracked.
    pub(crate) fn range(&self) -> (u64, u64) {
        let revs = || self.zones.iter().filter_map(|(_, since)| *since);
        (revs().min().unwrap_or(0), revs().max().unwrap_or(0))
    }
}

/// What was tracked before and still is keeps its rev; what is new begins at `rev`.
fn next_zones(known: &Zones, tracked: &Scope, rev: u64) -> Zones {
    let prefixes = tracked.within.iter().chain(&tracked.except);
    let prefixes: BTreeSet<&Bytes> = prefixes.chain(known.iter().map(|(at, _)| at)).collect();
    let mut zones = Zones::new();
    for prefix in prefixes {
        let now = tracked.covers(prefix).then(|| since(known, prefix).unwrap_or(rev));
        if now != since(&zones, prefix) {
            zones.push((prefix.clone(), now));
        }
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(within: &[&'static str], except: &[&'static str]) -> Scope {
        let keys = |paths: &[&'static str]| {
            paths.iter().map(|path| Bytes::from_static(path.as_bytes())).collect()
        };
        Scope { within: keys(within), except: keys(except) }
    }

    /// Promise: what stays tracked keeps its stamps, what comes, or comes back, begins anew.
    #[test]
    fn what_is_tracked_anew_begins_anew() {
        let begun = next_zones(&Zones::new(), &scope(&["a", "b"], &["a\0x"]), 10);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&begun, key.as_bytes())),
            [Some(10), None, Some(10), None]
        );
        let wider = next_zones(&begun, &scope(&["a", "c"], &[]), 20);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&wider, key.as_bytes())),
            [Some(10), Some(20), None, Some(20)]
        );
        let back = next_zones(&wider, &scope(&["a", "b"], &["a\0x"]), 30);
        assert_eq!(
            ["a", "a\0x\0y", "b", "c"].map(|key| since(&back, key.as_bytes())),
            [Some(10), None, Some(30), None]
        );
        assert_eq!(back, next_zones(&back, &scope(&["a", "b"], &["a\0x"]), 40), "nothing is new");
    }
}
