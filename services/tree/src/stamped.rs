//! What those who replicate a tree read of it: its identity, its commits, pages of stamped records.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, ReadBudget, Result};

use crate::cause::ChangeCause;
use crate::effect::Effect;
use crate::here::{StampKind, ending_key, ending_path};
use crate::journal::Position;
use crate::path::{self, Path};
use crate::record::{self, Record};
use crate::space::{BY_REV, STAMP, split_time_key};
use crate::stamp::{Author, Scope, StampedChange, StampedOp};
use crate::stamped_scan::{Packed, Seen, SeenChange, clear_above, path_of, ranges};
use crate::tree::Tree;
use crate::view::View;
use crate::zoning::Zoning;

/// Where the commit up to which was collected stands.
pub(crate) const COLLECTED: [&str; 2] = ["_repl", "collected"];
/// Entries by rev looked at at a time.
const SLICE_ENTRIES: usize = 256;

/// A commit as it stands in the journal, for those who replicate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedCommit {
    /// Its rev, and the hash of its record.
    pub position: Position,
    /// The opening in which it was made.
    pub epoch: u64,
    /// When it was made here, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why.
    pub cause: ChangeCause,
    /// Where it comes from.
    pub author: Author,
    /// What it changes; clears first. Of tracked zones only.
    pub ops: Vec<StampedOp>,
    /// Bytes of the record.
    pub bytes: usize,
}

/// A page of what a scope holds, in the order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampedPage {
    /// Live leaves, tombstones, clears and endings; what was never stamped has
    /// [`Version::ZERO`](crate::Version::ZERO). Keys and leaves are in one buffer, which each of
    /// them keeps.
    pub ops: Vec<StampedOp>,
    /// The key where the next page starts; `None` after the last.
    pub next: Option<Bytes>,
    /// Bytes of keys and values in it.
    pub bytes: usize,
}

/// A page of what changed in a scope after a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampedDelta {
    /// What is there now, in the order of the commits that changed it last.
    pub ops: Vec<StampedOp>,
    /// A cursor for the next page; `None` after the last.
    pub next: Option<Bytes>,
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Followers that have less than this commit can no longer be told by revs what is gone.
    pub gc_floor: u64,
    /// Tombstones and clears that went.
    pub removed: u64,
}

/// The commits after which what is tracked is stamped. Both rise to the tree's newest commit when
/// it is opened with a zoning after commits without one; the second also when more is tracked than
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StampedSince {
    /// That of what is tracked for the longest time.
    pub oldest: u64,
    /// That of what came last.
    pub newest: u64,
}

/// What replication keeps in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ReplicationStats {
    /// Entries of the order of revs: one for each stamp, and what a large removal left behind that
    /// is not yet tidied up.
    pub by_rev_entries: u64,
    /// Stamps of leaves and endings that are gone.
    pub tombstones: u64,
    /// Stamps of subtrees that were emptied.
    pub clears: u64,
    /// See [`Collected::gc_floor`].
    pub gc_floor: u64,
    /// The oldest commit in the journal.
    pub journal_first_rev: u64,
    /// Bytes appended to the journal since open.
    pub journal_bytes: u64,
}

impl Tree {
    /// The node's id, which is that of its log.
    #[must_use]
    pub fn node_id(&self) -> u128 {
        self.core().log_id
    }

    /// The node's id in versions: its low 64 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub fn origin(&self) -> u64 {
        self.core().log_id as u64
    }

    /// The hash of the record at a rev; `None` when it was trimmed or is not there yet.
    ///
    /// # Errors
    /// `Corrupt` for a damaged record; those of the journal.
    pub fn hash_at(&self, rev: u64) -> Result<Option<[u8; 16]>> {
        let core = self.core();
        let newest = self.position();
        if rev >= newest.rev || rev < core.base {
            return Ok((rev == newest.rev).then_some(newest.hash));
        }
        // The record itself, or the one behind it, which has its hash.
        for (at, is_next) in [(rev, false), (rev + 1, true)] {
            if at == core.base {
                continue;
            }
            let mut found = Ok(None);
            let one = ReadBudget { records_max: 1, bytes_max: usize::MAX };
            let read = core.log.read(&core.journal, at - core.base, one, &mut |_, bytes| {
                found = if is_next {
                    Record::decode(bytes).map(|record| Some(record.prev))
                } else {
                    Ok(Some(record::chain(bytes)))
                };
                ControlFlow::Break(())
            });
            match read {
                Ok(_) => return found,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Commits after a rev in order, only such as survive loss of power; some `bytes_max` bytes of
    /// them, at least one if there is one.
    ///
    /// # Errors
    /// `NotFound` when the next one was trimmed, or is from before [`Tree::stamped_since`];
    /// `InvalidInput` for a rev that is not there yet, `Corrupt` for a damaged record; those of the
    /// journal.
    pub fn read_commits(&self, after: u64, bytes_max: usize) -> Result<Vec<LoggedCommit>> {
        let stamped_since = self.stamped_since().newest;
        if after < stamped_since {
            let message = "the commits are from before all that is replicated now was stamped";
            let error = Error::new(ErrorKind::NotFound, message);
            return Err(error.context("stamped_since", stamped_since));
        }
        let durable = self.core().durable.load(Ordering::Acquire);
        let records = self.read_journal(after, bytes_max)?;
        let records = records.into_iter().filter(|record| record.rev <= durable);
        records.map(|record| logged(&record.bytes)).collect()
    }

    /// What replication keeps.
    ///
    /// # Errors
    /// Those of the engines.
    ///
    /// # Cost
    /// Reads every stamp: a second or so for a million.
    pub fn replication_stats(&self) -> Result<ReplicationStats> {
        let mut stats = self.replication_bounds()?;
        let state = self.core().newest();
        state.scan(BY_REV, &KeyRange::all(), &mut |_, _| {
            stats.by_rev_entries += 1;
            ControlFlow::Continue(())
        })?;
        state.scan(STAMP, &KeyRange::all(), &mut |_, stored| {
            match crate::here::Stamp::decode(stored).map(|stamp| stamp.kind) {
                Ok(StampKind::Tomb) => stats.tombstones += 1,
                Ok(StampKind::Clear) => stats.clears += 1,
                Ok(StampKind::Live) | Err(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(stats)
    }

    /// What of it is known without counting.
    ///
    /// # Errors
    /// Those of the engines.
    pub fn replication_bounds(&self) -> Result<ReplicationStats> {
        let tree = self.stats()?;
        Ok(ReplicationStats {
            journal_first_rev: tree.journal_first_rev,
            journal_bytes: tree.journal_bytes,
            gc_floor: self.gc_floor()?,
            ..ReplicationStats::default()
        })
    }

    /// See [`Collected::gc_floor`].
    ///
    /// # Errors
    /// Those of reading.
    pub fn gc_floor(&self) -> Result<u64> {
        let leaf = self.view()?.leaf(&Path::from_segments(COLLECTED)?)?;
        let rev = match leaf {
            Some(crate::leaf::Leaf::Int(rev)) => u64::try_from(rev).unwrap_or(0),
            _ => 0,
        };
        // A copy begins behind what it was copied from: of what is gone there it has no trace. Nor
        // is there any of what went while nothing was tracked.
        Ok(rev.max(self.core().base).max(self.stamped_since().newest))
    }

    /// Since which commits is stamped what is tracked: whoever has less than the newest of them
    /// can be told neither by commits nor by revs what it lacks.
    #[must_use]
    pub fn stamped_since(&self) -> StampedSince {
        let (oldest, newest) = self.core().stamped;
        StampedSince { oldest, newest }
    }
}

/// A journal record, as those see it who replicate.
fn logged(bytes: &[u8]) -> Result<LoggedCommit> {
    let record = Record::decode(bytes)?;
    let position = Position { rev: record.rev, hash: record::chain(bytes) };
    let (mut clears, mut rest) = (Vec::new(), Vec::new());
    let author = record.authored.as_ref().map_or_else(Author::default, |own| own.author.clone());
    if let Some(authored) = &record.authored {
        for (effect, version) in record.effects.into_iter().zip(authored.versions()) {
            let Some(version) = version else { continue };
            let (key, change) = match effect {
                Effect::Clear(key) | Effect::Mark(key) => (key, StampedChange::Clear),
                Effect::Put(key, stored) => (key, StampedChange::Put(stored)),
                Effect::Delete(key) => (key, StampedChange::Tomb),
                Effect::Expire(key, at) => (ending_key(&key), StampedChange::Ending(Some(at))),
                Effect::Unexpire(key) => (ending_key(&key), StampedChange::Ending(None)),
                Effect::Unindex(..) | Effect::Forget(..) | Effect::Collect(_) => continue,
            };
            let list = if change == StampedChange::Clear { &mut clears } else { &mut rest };
            list.push(StampedOp { key, version, change });
        }
    }
    clears.append(&mut rest);
    let (epoch, at_ms) = (record.epoch, record.at_ms);
    let cause = record.cause;
    Ok(LoggedCommit { position, epoch, at_ms, cause, author, ops: clears, bytes: bytes.len() })
}

fn op_bytes(op: &StampedOp) -> usize {
    let value = if let StampedChange::Put(stored) = &op.change { stored.len() } else { 8 };
    op.key.len() + value
}

fn behind(key: &[u8]) -> Bytes {
    [key, &[0][..]].concat().into()
}

impl View {
    /// A page of what a scope holds, from a key on; at least one op if there is one. Before the
    /// first key of a prefix of the scope comes the newest clear above it in its zone, as one of
    /// the prefix; it counts for nothing.
    ///
    /// # Errors
    /// Those of reading.
    ///
    /// # Cost
    /// Reads what is in the page, and what of the scope's exceptions lies in between.
    pub fn stamped_page(
        &self,
        scope: &Scope,
        start: &[u8],
        items_max: usize,
        bytes_max: usize,
    ) -> Result<StampedPage> {
        let mut page = StampedPage::default();
        let (mut count, mut packed) = (0, Packed::default());
        for mut range in ranges(scope) {
            if range.end.as_ref().is_some_and(|end| **end <= *start) {
                continue;
            }
            if let Some(zoning) = self.zoning()
                && *start <= *range.start
                && scope.within.contains(&range.start)
                && let Some(op) = clear_above(self.state(), zoning, &range.start)?
            {
                packed.push(Seen { key: &op.key, version: op.version, change: SeenChange::Clear });
            }
            if *start > *range.start {
                range.start = Bytes::copy_from_slice(start);
            }
            let left = items_max.saturating_sub(count);
            let flow = self.state().visit_stamped(&range, left, &mut |seen| {
                if !scope.covers(path_of(seen.key)) {
                    return Ok(ControlFlow::Continue(()));
                }
                if count >= items_max.max(1) || (count > 0 && page.bytes >= bytes_max) {
                    page.next = Some(Bytes::copy_from_slice(seen.key));
                    return Ok(ControlFlow::Break(()));
                }
                count += 1;
                let leaf = if let SeenChange::Put(stored) = seen.change { stored.len() } else { 8 };
                page.bytes += seen.key.len() + leaf;
                packed.push(seen);
                Ok(ControlFlow::Continue(()))
            })?;
            if flow.is_break() {
                break;
            }
        }
        page.ops = packed.into_ops().collect();
        Ok(page)
    }

    /// A page of what changed after a commit and up to the view's, as it is now.
    ///
    /// # Errors
    /// Those of reading.
    pub fn stamped_since(
        &self,
        scope: &Scope,
        after_rev: u64,
        start: Option<Bytes>,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<StampedDelta> {
        let first = Bytes::copy_from_slice(&(after_rev + 1).to_be_bytes());
        let end = Bytes::copy_from_slice(&self.rev().saturating_add(1).to_be_bytes());
        let mut range = KeyRange::new(start.map_or(first.clone(), |at| at.max(first)), Some(end));
        let (mut delta, mut bytes) = (StampedDelta::default(), 0);
        loop {
            let mut entries = Vec::new();
            self.state().scan(BY_REV, &range, &mut |entry, _| {
                entries.push(Bytes::copy_from_slice(entry));
                if entries.len() < SLICE_ENTRIES {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            let Some(last) = entries.last() else { return Ok(delta) };
            range.start = behind(last);
            for entry in entries {
                let Some((rev, key)) = split_time_key(&entry) else { continue };
                let key = entry.slice(entry.len() - key.len()..);
                let before = delta.ops.len();
                self.add_changed(scope, rev, &key, &mut delta.ops)?;
                bytes += delta.ops.iter().skip(before).map(op_bytes).sum::<usize>();
                if delta.ops.len() >= items_max.max(1)
                    || (bytes >= bytes_max && !delta.ops.is_empty())
                {
                    delta.next = Some(behind(&entry));
                    return Ok(delta);
                }
            }
        }
    }

    /// What an entry of the order of revs says of a scope.
    fn add_changed(
        &self,
        scope: &Scope,
        rev: u64,
        key: &Bytes,
        ops: &mut Vec<StampedOp>,
    ) -> Result<()> {
        let state = self.state();
        // What a large clear took leaves entries behind.
        let Some(stamp) = state.stamp(key)?.filter(|stamp| stamp.rev == rev) else {
            return Ok(());
        };
        if scope.covers(path_of(key)) {
            ops.extend(state.stamped_op(key, stamp)?);
        }
        if ending_path(key).is_some() {
            return Ok(());
        }
        let below = |prefix: &&Bytes| prefix.len() > key.len() && path::covers(key, prefix);
        for prefix in scope.within.iter().filter(below) {
            let reaches = |zoning: &dyn Zoning| zoning.zone(prefix).id == zoning.zone(key).id;
            let outer = scope.within.iter().any(|other| {
                other.len() < prefix.len() && path::covers(other, prefix) && below(&other)
            });
            if self.zoning().is_some_and(reaches) && !outer && scope.covers(prefix) {
                let (key, version) = (prefix.clone(), stamp.version);
                ops.push(StampedOp { key, version, change: StampedChange::Clear });
            }
        }
        Ok(())
    }
}
