//! Slots over time: written when they moved, ended beyond their bounds, and what nobody needs any
//! more collected.

use std::collections::BTreeMap;
use std::time::Duration;

use trellis_engine_traits::Result;

use crate::event::Now;
use crate::planted::{Planted, is_planted};
use crate::reads;
use crate::slots::{Mark, Slot, SlotEnd, SlotOptions, SlotStatus, Table};
use crate::store::Store;

/// Marks kept: with more of them every other one goes.
const MARKS_MAX: usize = 4096;
/// Time between collections at least.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// What upkeep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotUpkeep {
    /// Slots that ended, and why.
    pub ended: Vec<(String, SlotEnd)>,
    /// Tombstones and clears that were collected.
    pub collected: u64,
}

impl Store {
    /// Ends slots beyond their bounds, writes those that moved, collects tombstones and clears that
    /// no slot needs. To be called every few seconds.
    ///
    /// A slot that ends holds no journal from then on, whether or not that can be written: on a
    /// full disk it makes room. What could not be written is tried again.
    ///
    /// # Errors
    /// Those of the tree; what was done before stays done.
    ///
    /// # Cost
    /// A commit for some dozens of slots that moved; a collection once a minute, during which
    /// nobody waits.
    pub fn upkeep(&self, now: Now) -> Result<SlotUpkeep> {
        let slots = &self.slots;
        let journal = reads::journal(&slots.tree)?;
        let mut table = slots.table.lock();
        if table.marks.is_empty() {
            // What was there before the open counts as written now, in one piece.
            let rev = journal.first.saturating_sub(1);
            table.mark(Mark { rev, bytes: 0, at_ms: now.wall_ms });
        }
        table.mark(Mark { rev: journal.head, bytes: journal.appended, at_ms: now.wall_ms });
        let ended = table.end_slots(&slots.options, now);
        let after = slots.options.persist_after;
        if let Err(error) = slots.write_all(&mut table, now, |slot| slots.is_due(slot, after, now))
        {
            tracing::warn!(%error, "some slots are not written; again later");
        }
        let floor = table.begin_collecting(journal.head, &slots.options, now);
        drop(table);
        let Some(floor) = floor else { return Ok(SlotUpkeep { ended, collected: 0 }) };
        let age_ms = u64::try_from(slots.options.collect_age.as_millis()).unwrap_or(u64::MAX);
        let collected = slots.tree.collect(floor, age_ms);
        slots.table.lock().collecting = None;
        Ok(SlotUpkeep { ended, collected: collected?.removed })
    }

    /// Where each slot stands.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads a record of the journal for each follower that is behind.
    pub fn slots(&self, now: Now) -> Result<Vec<SlotStatus>> {
        let tree = &self.slots.tree;
        let journal = reads::journal(tree)?;
        let table = self.slots.table.lock();
        let status = |(consumer, slot): (&String, &Slot)| SlotStatus {
            consumer: consumer.clone(),
            owner: slot.owner.clone(),
            rev: slot.at.rev,
            lag_revs: journal.head.saturating_sub(slot.applied),
            lag: None,
            lag_bytes: behind(&table, slot.needed(), journal.appended),
            active: slot.active,
            idle: Duration::from_millis(if slot.active {
                0
            } else {
                now.wall_ms.saturating_sub(slot.seen_ms)
            }),
            invalid: slot.invalid,
        };
        let mut found: Vec<SlotStatus> = table.slots.iter().map(status).collect();
        drop(table);
        // Without the lock: the journal is read.
        for slot in &mut found {
            let applied = journal.head.saturating_sub(slot.lag_revs);
            slot.lag = reads::made_at(tree, applied)?.map(|made| {
                let age_ms = made.map_or(0, |at_ms| now.wall_ms.saturating_sub(at_ms));
                Duration::from_millis(age_ms)
            });
        }
        Ok(found)
    }

    /// How many followers are sent a snapshot or a delta, and how many wait for that.
    #[must_use]
    pub fn fills(&self) -> (usize, usize) {
        self.slots.table.lock().places.counts()
    }

    /// Slots that ended since open, by reason.
    #[must_use]
    pub fn slots_ended(&self) -> BTreeMap<SlotEnd, u64> {
        self.slots.table.lock().ended.clone()
    }

    /// Forgets a slot; its follower is filled anew if it comes back. Whether there was one.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn drop_slot(&self, consumer: &str) -> Result<bool> {
        self.slots.remove(consumer)
    }

    /// Writes every slot that moved: before a close.
    ///
    /// # Errors
    /// Those of the tree, once all of them were tried.
    pub fn write_slots(&self, now: Now) -> Result<()> {
        let mut table = self.slots.table.lock();
        let unwritten = |slot: &Slot| slot.unnoted || (slot.is_moved() && slot.invalid.is_none());
        self.slots.write_all(&mut table, now, unwritten)
    }
}

impl Table {
    pub(crate) fn mark(&mut self, mark: Mark) {
        if self.marks.back().is_some_and(|last| last.rev >= mark.rev) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push_back(mark);
    }

    /// Ends the slots beyond their bounds, and lets go of their journal.
    fn end_slots(&mut self, options: &SlotOptions, now: Now) -> Vec<(String, SlotEnd)> {
        let Self { slots, marks, ended, .. } = self;
        let mut done = Vec::new();
        for (consumer, slot) in slots.iter_mut().filter(|(_, slot)| slot.invalid.is_none()) {
            if slot.active {
                slot.seen_ms = now.wall_ms;
            }
            let marks = marks.make_contiguous();
            let bytes = lacking(slot, marks).map_or(0, |(bytes, _)| bytes);
            let far = bytes > options.tail_bytes_max / 2;
            if far && !slot.far {
                let most = options.tail_bytes_max;
                tracing::warn!(%consumer, bytes, most, "a follower is far behind: see to its link");
            }
            slot.far = far;
            let Some(end) = beyond(slot, marks, options, now) else { continue };
            let reason = end.code();
            tracing::warn!(%consumer, reason, "a slot ended: its follower is filled anew");
            (slot.invalid, slot.unnoted, slot.hold) = (Some(end), true, None);
            *ended.entry(end).or_default() += 1;
            done.push((consumer.clone(), end));
        }
        done
    }

    /// Up to where tombstones and clears may go, if it is time for that. Whoever opens meanwhile
    /// is taken to lack what is being collected.
    fn begin_collecting(&mut self, head: u64, options: &SlotOptions, now: Now) -> Option<u64> {
        let every = COLLECT_EVERY.min(options.collect_age);
        let due = self.collected_at.is_none_or(|at| now.mono >= at + every);
        if !due || self.collecting.is_some() {
            return None;
        }
        self.collected_at = Some(now.mono);
        let needed = self.slots.values().filter(|slot| slot.invalid.is_none());
        let needed = needed.map(Slot::seen).min();
        let needed = needed.filter(|_| !is_planted(Planted::CollectIgnoresSlots));
        self.collecting = Some(needed.unwrap_or(head));
        self.collecting
    }
}

/// Why nothing is to be kept for a slot any more.
fn beyond(slot: &Slot, marks: &[Mark], options: &SlotOptions, now: Now) -> Option<SlotEnd> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if !slot.active && now.wall_ms.saturating_sub(slot.seen_ms) > ms(options.idle_max) {
        return Some(SlotEnd::Idle);
    }
    let (bytes, since_ms) = lacking(slot, marks)?;
    if bytes > options.tail_bytes_max {
        return Some(SlotEnd::Bytes);
    }
    let age_ms = now.wall_ms.saturating_sub(since_ms);
    (age_ms > ms(options.tail_age_max)).then_some(SlotEnd::Age)
}

/// How much of the journal a slot certainly lacks, and since when.
fn lacking(slot: &Slot, marks: &[Mark]) -> Option<(u64, u64)> {
    // The first mark behind the slot: everything after it is lacking.
    let at = marks.partition_point(|mark| mark.rev <= slot.needed());
    let (first, last) = (marks.get(at)?, marks.last()?);
    Some((last.bytes.saturating_sub(first.bytes), first.at_ms))
}

/// Bytes of journal after a rev, about.
fn behind(table: &Table, rev: u64, appended: u64) -> u64 {
    let before = table.marks.iter().rev().find(|mark| mark.rev <= rev);
    appended.saturating_sub(before.or(table.marks.front()).map_or(appended, |mark| mark.bytes))
}
