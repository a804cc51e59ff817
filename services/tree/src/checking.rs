//! A check under way: what it was asked, what it has found, and what the newest records say.

use std::collections::HashSet;

use bytes::Bytes;
use trellis_engine_traits::{KvBackend, SpaceId, StreamLog, WriteBatch};

use crate::effect::Effect;
use crate::finding::{
    CheckOptions, CheckReport, Finding, FindingKind, Fix, Remedy, Spot, place_of,
};
use crate::memtable::{Found, MemTable, key_hash};
use crate::record::{Applied, Opening, Record};
use crate::space::{INDEX, STAMP};

pub(crate) struct Check<'a> {
    pub(crate) kv: Option<&'a dyn KvBackend>,
    pub(crate) log: Option<&'a dyn StreamLog>,
    pub(crate) options: &'a CheckOptions,
    pub(crate) report: CheckReport,
    pub(crate) opening: Option<Opening>,
    pub(crate) applied: Option<Applied>,
    pub(crate) recent: Recent,
}

impl Check<'_> {
    pub(crate) fn found(&mut self, finding: Finding) {
        if self.report.findings.len() < self.options.findings_max {
            self.report.findings.push(finding);
        } else {
            self.report.more_findings += 1;
        }
    }

    /// The rev before the journal's first record.
    pub(crate) fn base(&self) -> u64 {
        self.opening.as_ref().map_or(0, |opening| opening.base)
    }

    pub(crate) fn applied_rev(&self) -> u64 {
        self.applied.as_ref().map_or(self.base(), |applied| applied.rev)
    }
}

/// What the newest records say, in bounded memory: of two tables the older one goes when the newer
/// one is full.
#[derive(Debug)]
pub(crate) struct Recent {
    older: MemTable,
    newer: MemTable,
    bytes_max: usize,
    /// Keys whose stamps alone are changed, if these are asked for.
    stamped: Option<HashSet<Bytes>>,
}

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { older: MemTable::default(), newer: MemTable::default(), bytes_max, stamped: None }
    }

    /// All of them, with the keys whose stamps alone are changed.
    pub(crate) fn with_stamped() -> Self {
        Self { stamped: Some(HashSet::new()), ..Self::new(usize::MAX) }
    }

    pub(crate) fn enter(&mut self, record: &Record) {
        let (key, effects) = (record.key.as_ref(), &record.effects);
        self.newer.enter(record.rev, record.at_ms, effects, key, record.rev);
        if let Some(stamped) = &mut self.stamped {
            stamped.extend(effects.iter().filter_map(|effect| match effect {
                Effect::Mark(key) | Effect::Collect(key) => Some(key.clone()),
                _ => None,
            }));
        }
        if self.newer.bytes() > self.bytes_max / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
    }

    /// What the store should hold.
    pub(crate) fn expected(&self, (space, key): &Spot) -> Found {
        let hash = key_hash(*space, key);
        match self.newer.get(*space, key, hash, u64::MAX) {
            Found::Unknown => self.older.get(*space, key, hash, u64::MAX),
            known => known,
        }
    }

    /// Whether the records say anything of it. The journal knows no indexes: a spot in their space
    /// is a path, with all above, at and below it.
    pub(crate) fn knows(&self, spot: &Spot) -> bool {
        if spot.0 == INDEX {
            return [&self.older, &self.newer].iter().any(|table| table.changed_after(0, &spot.1));
        }
        if spot.0 == STAMP {
            return self.stamped.as_ref().is_some_and(|stamped| stamped.contains(&spot.1));
        }
        !matches!(self.expected(spot), Found::Unknown)
    }

    /// What is wrong with a key that is still there.
    pub(crate) fn left_over(&self, space: SpaceId, key: &[u8]) -> Option<Finding> {
        let spot = (space, Bytes::copy_from_slice(key));
        let gone = matches!(self.expected(&spot), Found::Absent);
        gone.then(|| disagrees(&spot, REMOVED))
    }

    pub(crate) fn batches(&self) -> [WriteBatch; 2] {
        [self.older.batch(), self.newer.batch()]
    }
}

pub(crate) fn disagrees(spot: &Spot, detail: &str) -> Finding {
    let place = place_of(spot.0, &spot.1);
    Finding::new(FindingKind::Disagreement, place, detail, Remedy::Journal)
        .fix(Fix::Journal(spot.clone()))
        .about(spot.0, &spot.1)
}

pub(crate) const REMOVED: &str = "the journal says that this was removed, and the store holds it";
