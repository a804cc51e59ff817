//! The journal's part of a check: every record, the chain of their hashes, and whether the store
//! holds what the newest of them say.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{
    ErrorKind, KeyRange, KvSnapshot, Op, ReadBudget, Result, Scan, SpaceId, StreamId,
};

use crate::check_pages::Page;
use crate::checking::{Check, REMOVED, Recent, disagrees};
use crate::finding::{Finding, FindingKind, Fix, Remedy, Spot};
use crate::memtable::Found;
use crate::record::{self, Chain, Record};
use crate::seal;

/// Records read at a time, so that the log is not held for long.
const BUDGET: ReadBudget = ReadBudget { records_max: 4096, bytes_max: 8 << 20 };
/// Damaged records passed over one by one before the rest is left.
const DAMAGED_MAX: u32 = 100;
/// Keys compared with one view.
const COMPARED_AT_ONCE: usize = 1000;
/// Findings that are confirmed together: the journal is read once for all of them.
const UNCONFIRMED_MAX: usize = 10_000;

/// What is known of the record before.
struct Walk {
    /// Its hash, unless it could not be read.
    chain: Option<Chain>,
    next: u64,
    failure: Option<Finding>,
}

impl Check<'_> {
    /// Reads every record once.
    pub(crate) fn journal(&mut self) -> Result<()> {
        let Some(log) = self.log else { return Ok(()) };
        let stream = StreamId::new("journal")?;
        let bounds = log.bounds(&stream)?;
        let base = self.base();
        if bounds.first < bounds.next {
            self.report.journal_revs = (base + bounds.first, base + bounds.next - 1);
        }
        let mut walk = Walk { chain: None, next: bounds.first, failure: None };
        let mut damaged = 0;
        while walk.next < bounds.next {
            let from = walk.next;
            let read = log.read(&stream, from, BUDGET, &mut |offset, bytes| {
                if offset >= bounds.next {
                    return ControlFlow::Break(());
                }
                self.record(base, offset, bytes, &mut walk);
                ControlFlow::Continue(())
            });
            if let Some(finding) = walk.failure.take() {
                self.found(finding);
            }
            match read {
                Ok(end) => walk.next = end.next.max(from + 1),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let offset = walk.next;
                    let detail = format!("the record cannot be read: {error}");
                    self.damaged_record(base + offset, detail);
                    walk = Walk { chain: None, next: offset + 1, failure: None };
                    damaged += 1;
                    if damaged > DAMAGED_MAX {
                        let rest =
                            format!("the journal after rev {}: too much damage", base + offset);
                        self.report.skipped.push(rest);
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn record(&mut self, base: u64, offset: u64, bytes: &[u8], walk: &mut Walk) {
        let rev = base + offset;
        walk.next = offset + 1;
        self.report.records += 1;
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                walk.chain = None;
                self.damaged_record(rev, error.message());
                return;
            }
        };
        let follows = walk.chain.is_none_or(|chain| chain == record.prev);
        if record.rev != rev || !follows {
            let detail = "the record does not continue the history of the one before it";
            let place = format!("rev {rev}");
            self.found(Finding::new(FindingKind::History, place, detail, Remedy::Restore));
        }
        let chain = record::chain(bytes);
        walk.chain = Some(chain);
        if let Some(applied) = &self.applied
            && applied.rev == rev
            && applied.chain != Chain::default()
            && applied.chain != chain
        {
            let detail = "the store was made from another record of this rev";
            let place = format!("rev {rev}");
            self.found(Finding::new(FindingKind::Pair, place, detail, Remedy::Restore));
        }
        if rev <= self.applied_rev() {
            self.recent.enter(&record);
        }
    }

    fn damaged_record(&mut self, rev: u64, detail: impl Into<String>) {
        let applied = self.applied_rev();
        let place = format!("rev {rev}");
        let finding = if rev <= applied && self.kv.is_some() {
            let detail = format!("{}; the store holds what it says", detail.into());
            Finding::new(FindingKind::Record, place, detail, Remedy::Remove)
                .fix(Fix::Trim(applied + 1 - self.base()))
        } else {
            Finding::new(FindingKind::Record, place, detail, Remedy::Restore)
        };
        self.found(finding);
    }

    /// What the journal says after a rev, to its end. Nothing where it cannot be read.
    pub(crate) fn after(&self, rev: u64) -> Result<Recent> {
        // What is not applied yet is bounded by the overlay.
        let mut later = Recent::with_stamped();
        let Some(log) = self.log else { return Ok(later) };
        let stream = StreamId::new("journal")?;
        let bounds = log.bounds(&stream)?;
        let mut from = (rev + 1).saturating_sub(self.base()).max(bounds.first);
        while from < bounds.next {
            let read = log.read(&stream, from, BUDGET, &mut |_, bytes| {
                if let Ok(record) = Record::decode(bytes) {
                    later.enter(&record);
                }
                ControlFlow::Continue(())
            });
            match read {
                Ok(end) => from = end.next.max(from + 1),
                Err(error) if error.kind() == ErrorKind::Corrupt => break,
                Err(error) => return Err(error),
            }
        }
        Ok(later)
    }

    /// Compares the store with what the newest records say of it.
    pub(crate) fn compare(&mut self) -> Result<()> {
        let Some(kv) = self.kv else { return Ok(()) };
        let mut findings = Vec::new();
        for batch in self.recent.batches() {
            for ops in batch.ops.chunks(COMPARED_AT_ONCE) {
                let view = kv.snapshot()?;
                let mut large = Vec::new();
                for op in ops {
                    let compared = match op {
                        Op::Put(at, _) | Op::Delete(at) => {
                            self.report.compared += 1;
                            self.compare_key(view.as_ref(), (at.space, at.key.clone()))
                        }
                        Op::DeleteRange(space, range) => {
                            let found = self.compare_cleared(view.as_ref(), *space, range);
                            found.map(|found| {
                                found.unwrap_or_else(|| {
                                    large.push((*space, range.clone()));
                                    Vec::new()
                                })
                            })
                        }
                    };
                    match compared {
                        Ok(found) => findings.extend(found),
                        // Found once more, and reported, when the spaces are read.
                        Err(error) if error.kind() == ErrorKind::Corrupt => {}
                        Err(error) => return Err(error),
                    }
                }
                drop(view);
                for (space, range) in large {
                    self.compare_large(space, &range)?;
                }
                if findings.len() > UNCONFIRMED_MAX {
                    self.confirm(std::mem::take(&mut findings), self.applied_rev())?;
                }
            }
        }
        self.confirm(findings, self.applied_rev())
    }

    fn compare_key(&self, view: &dyn KvSnapshot, spot: Spot) -> Result<Vec<Finding>> {
        let stored = view.get(spot.0, &spot.1)?;
        Ok(Vec::from_iter(self.disagreement(&spot, stored.as_ref())))
    }

    /// A cleared range holds only what was written later; `None` when it holds so much that it has
    /// to be read in pages.
    fn compare_cleared(
        &self,
        view: &dyn KvSnapshot,
        space: SpaceId,
        range: &KeyRange,
    ) -> Result<Option<Vec<Finding>>> {
        let (mut findings, mut pairs) = (Vec::new(), 0);
        view.scan(&Scan::forward(space, range.clone()), &mut |key, _| {
            findings.extend(self.recent.left_over(space, key));
            pairs += 1;
            if pairs < COMPARED_AT_ONCE {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok((pairs < COMPARED_AT_ONCE).then_some(findings))
    }

    fn compare_large(&mut self, space: SpaceId, range: &KeyRange) -> Result<()> {
        let recent = std::mem::replace(&mut self.recent, Recent::new(0));
        let rev = self.applied_rev();
        let mut left = Vec::new();
        let compared = self.each_page(space, range, &mut |page: &Page, _| {
            let keys = page.fresh().iter().map(|(key, _)| key);
            left.extend(keys.filter_map(|key| recent.left_over(space, key)));
            Ok(())
        });
        self.recent = recent;
        compared?;
        self.confirm(left, rev)
    }

    fn disagreement(&self, spot: &Spot, stored: Option<&Bytes>) -> Option<Finding> {
        let (space, key) = spot;
        match (self.recent.expected(spot), stored) {
            (Found::Value(_), None) => Some(disagrees(spot, "missing in the store")),
            (Found::Value(value), Some(stored)) => match seal::unseal(*space, key, stored) {
                Ok(stored) if *stored != *value => {
                    Some(disagrees(spot, "the store holds another value than the journal says"))
                }
                // A wrong seal is reported when the spaces are read.
                _ => None,
            },
            (Found::Absent, Some(_)) => Some(disagrees(spot, REMOVED)),
            (Found::Absent, None) | (Found::Unknown, _) => None,
        }
    }
}
