//! Slots: how far each follower has come, and what is kept for it.
//!
//! A slot is a leaf at `_repl/slots/<consumer>`, written lazily, and a hold on the journal behind
//! what was written last: after a restart the follower finds what it needs. Beyond its bounds a
//! slot is invalid: its journal may go, and its follower is filled anew.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Commit, Input, JournalHold, Operation, Path, Tree};

use crate::event::Now;
use crate::message::{LogPosition, Refusal, RefusalReason};
use crate::places::Places;
use crate::position::{log_json, log_position, number};
use crate::turn::denied;

/// What is kept for followers, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOptions {
    /// Journal kept for a slot; beyond it the slot is invalid, and its follower filled anew.
    pub tail_bytes_max: u64,
    /// Age of journal kept for a slot.
    pub tail_age_max: Duration,
    /// Time after which a slot whose follower is away is invalid.
    pub idle_max: Duration,
    /// Slots at most.
    pub slots_max: usize,
    /// Followers that are sent a snapshot or a delta at once; others wait for their turn.
    pub fills_at_once: usize,
    /// Age of tombstones and clears before they are collected.
    pub collect_age: Duration,
    /// Time after which a slot that moved is written, with others; at most twice as long.
    pub persist_after: Duration,
    /// Revs after which a slot that moved is written.
    pub persist_revs: u64,
    /// Snapshots and deltas that a follower may begin in [`SlotOptions::fills_window`].
    pub fills_max: usize,
    /// The window of that.
    pub fills_window: Duration,
}

impl Default for SlotOptions {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            tail_bytes_max: 256 << 20,
            tail_age_max: 7 * day,
            idle_max: day,
            slots_max: 256,
            fills_at_once: 8,
            collect_age: day,
            persist_after: Duration::from_secs(5),
            persist_revs: 10_000,
            fills_max: 30,
            fills_window: Duration::from_secs(60),
        }
    }
}

/// Why nothing is kept for a slot any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotEnd {
    /// Its journal was larger than may be kept.
    Bytes,
    /// Its journal was older than may be kept.
    Age,
    /// Its follower was away for too long.
    Idle,
    /// Its journal was not there after a restart.
    Trimmed,
}

impl SlotEnd {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Bytes, Self::Age, Self::Idle, Self::Trimmed];

    /// Its code in status and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Trimmed => "trimmed",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.code() == code)
    }
}

/// Where a slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    /// Its name: the follower's node id and feed.
    pub consumer: String,
    /// The peer to whom it belongs.
    pub owner: String,
    /// The commit up to which the follower has everything durably.
    pub rev: u64,
    /// Commits that it lacks.
    pub lag_revs: u64,
    /// How long ago the oldest commit that it lacks was made; zero when it lacks none, `None` when
    /// that is not in the journal any more.
    pub lag: Option<Duration>,
    /// Bytes of journal kept for it, about.
    pub lag_bytes: u64,
    /// Whether its follower is connected.
    pub active: bool,
    /// For how long it has not been.
    pub idle: Duration,
    /// Why nothing is kept for it.
    pub invalid: Option<SlotEnd>,
}

/// How far a follower has come.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) owner: String,
    pub(crate) at: LogPosition,
    /// The commit up to which it has applied everything, as far as it said so to this process.
    pub(crate) applied: u64,
    /// Where the tail begins after a delta: journal is needed from there only.
    pub(crate) pin: Option<u64>,
    /// Whether the pages of a snapshot are still on their way: until they have come, `at` is where
    /// its tail will begin, and no tombstone before it is known to the follower.
    pub(crate) filling: bool,
    /// The commit up to which also all is here that the follower wrote before it knew of that:
    /// what a removal up to there has to meet has met it.
    pub(crate) settled: u64,
    pub(crate) invalid: Option<SlotEnd>,
    /// Whether more than half of the journal that may be kept for it is.
    pub(crate) far: bool,
    /// Whether its end is not written yet.
    pub(crate) unnoted: bool,
    pub(crate) active: bool,
    pub(crate) seen_ms: u64,
    pub(crate) hold: Option<JournalHold>,
    /// The rev that was written last, and when.
    written: u64,
    written_at: Duration,
    fills: VecDeque<Duration>,
}

/// A place in the journal: how much was before it, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) rev: u64,
    pub(crate) bytes: u64,
    pub(crate) at_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) slots: BTreeMap<String, Slot>,
    pub(crate) places: Places,
    pub(crate) marks: VecDeque<Mark>,
    pub(crate) ended: BTreeMap<SlotEnd, u64>,
    pub(crate) collected_at: Option<Duration>,
    /// Tombstones and clears up to this rev are going at the moment.
    pub(crate) collecting: Option<u64>,
}

/// All slots of a node.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) tree: Tree,
    pub(crate) node: u128,
    pub(crate) options: SlotOptions,
    pub(crate) table: Mutex<Table>,
}

/// Slots in one commit at most.
const WRITTEN_AT_ONCE: usize = 64;
/// Bytes that the note of a slot certainly does not take.
const NOTE_BYTES: usize = 2048;

fn root() -> Result<Path> {
    Path::parse("_repl/slots")
}

fn system(operations: Vec<Operation>) -> Commit {
    Commit { system: true, operations, ..Commit::default() }
}

/// What is written of a slot.
fn note(consumer: &str, slot: &Slot) -> Result<Operation> {
    let (path, value) = (root()?.child(consumer)?, Input::from_json(slot.to_json())?);
    Ok(Operation::Set { path, value, expiry: None })
}

impl Slots {
    /// Takes up the slots that are in the tree, and holds the journal for them.
    pub(crate) fn open(tree: Tree, node: u128, options: SlotOptions) -> Result<Self> {
        let stored = tree.view()?.get(&root()?)?;
        let mut table = Table::default();
        for (consumer, value) in stored.as_object().into_iter().flatten() {
            // A restored copy holds the slots of the node that it is a copy of.
            let slot = read_slot(value).filter(|slot| slot.at.log_id == node);
            let Some(mut slot) = slot else {
                let path = root()?.child(consumer)?;
                tree.commit(Commit { system: true, ..Commit::delete(path) })?;
                continue;
            };
            if slot.invalid.is_none() {
                match tree.hold_journal_after(slot.needed()) {
                    Ok(hold) => slot.hold = Some(hold),
                    Err(error) if is_gone(error.kind()) => slot.invalid = Some(SlotEnd::Trimmed),
                    Err(error) => return Err(error),
                }
            }
            table.slots.insert(consumer.clone(), slot);
        }
        Ok(Self { tree, node, options, table: Mutex::new(table) })
    }

    /// Writes a slot, and holds the journal from there on.
    pub(crate) fn write(&self, consumer: &str, slot: &mut Slot, now: Now) -> Result<()> {
        self.tree.commit(system(vec![note(consumer, slot)?]))?;
        self.written(slot, now)
    }

    /// Writes those of the slots for which `which` says so, some in each commit.
    pub(crate) fn write_all(
        &self,
        table: &mut Table,
        now: Now,
        which: impl Fn(&Slot) -> bool,
    ) -> Result<()> {
        let chosen = table.slots.iter().filter(|(_, slot)| which(slot));
        let chosen: Vec<String> = chosen.map(|(consumer, _)| consumer.clone()).collect();
        let mut done = Ok(());
        for some in chosen.chunks(self.written_at_once()) {
            let slots = some.iter().filter_map(|one| table.slots.get(one).map(|slot| (one, slot)));
            let notes = slots.map(|(consumer, slot)| note(consumer, slot));
            let commit = system(notes.collect::<Result<_>>()?);
            let written = self.tree.commit(commit).map_err(|refused| refused.error);
            let mut each = some.iter();
            done = done.and(written.and_then(|_| {
                each.try_for_each(|one| match table.slots.get_mut(one) {
                    Some(slot) => self.written(slot, now),
                    None => Ok(()),
                })
            }));
        }
        done
    }

    /// Slots in one commit, so that it stays far below what a commit may be.
    fn written_at_once(&self) -> usize {
        let limits = &self.tree.options().limits;
        let most = limits.commit_operations_max / 16;
        most.min(limits.commit_bytes_max / NOTE_BYTES).clamp(1, WRITTEN_AT_ONCE)
    }

    fn written(&self, slot: &mut Slot, now: Now) -> Result<()> {
        (slot.written, slot.written_at, slot.unnoted) = (slot.at.rev, now.mono, false);
        if slot.invalid.is_some() {
            slot.hold = None;
            return Ok(());
        }
        let needed = slot.needed();
        if slot.hold.as_ref().is_none_or(|hold| hold.after() != needed) {
            // The old one goes only now that the new one stands.
            slot.hold = Some(self.tree.hold_journal_after(needed)?);
        }
        Ok(())
    }

    /// Moves a slot; `false` when it is invalid, and would move.
    pub(crate) fn acknowledge(
        &self,
        consumer: &str,
        at: LogPosition,
        applied: u64,
        settled: u64,
        now: Now,
    ) -> Result<bool> {
        let mut table = self.table.lock();
        let Some(slot) = table.slots.get_mut(consumer) else { return Ok(false) };
        if slot.invalid.is_some() {
            // As long as it does not move there is nothing to begin anew for.
            return Ok(at.rev <= slot.at.rev);
        }
        let moves = at.rev > slot.at.rev;
        if moves {
            slot.at = LogPosition { log_id: self.node, ..at };
            slot.pin = slot.pin.filter(|pin| *pin > at.rev);
        }
        slot.filling = false;
        slot.settled = slot.settled.max(settled);
        slot.applied = applied.max(slot.at.rev);
        slot.seen_ms = now.wall_ms;
        // In time it is written with others, by upkeep.
        if self.is_due(slot, self.options.persist_after * 2, now) {
            self.write(consumer, slot, now)?;
        }
        Ok(true)
    }

    /// Whether a slot is to be written: it ended, or it moved far or so long ago.
    pub(crate) fn is_due(&self, slot: &Slot, after: Duration, now: Now) -> bool {
        if slot.invalid.is_some() {
            return slot.unnoted;
        }
        let moved = slot.at.rev.saturating_sub(slot.written);
        let old = now.mono.saturating_sub(slot.written_at) >= after;
        moved > 0 && (old || moved >= self.options.persist_revs)
    }

    /// The follower is gone for now.
    pub(crate) fn close(&self, consumer: &str, now: Now) -> Result<()> {
        let mut table = self.table.lock();
        table.places.leave(consumer);
        let Some(slot) = table.slots.get_mut(consumer) else { return Ok(()) };
        slot.active = false;
        slot.seen_ms = now.wall_ms;
        if slot.is_moved() { self.write(consumer, slot, now) } else { Ok(()) }
    }

    /// Forgets a slot: its follower is filled anew if it comes back.
    pub(crate) fn remove(&self, consumer: &str) -> Result<bool> {
        self.forget(&mut self.table.lock(), consumer)
    }

    pub(crate) fn forget(&self, table: &mut Table, consumer: &str) -> Result<bool> {
        if table.slots.remove(consumer).is_none() {
            return Ok(false);
        }
        let path = root()?.child(consumer)?;
        self.tree.commit(Commit { system: true, ..Commit::delete(path) })?;
        Ok(true)
    }
}

impl Table {
    /// The slot that goes where all are taken and another follower comes: one that ended, else the
    /// one that was away longest of those who have most. Nobody who has one slot loses it to who
    /// takes many.
    pub(crate) fn spare(&self, consumer: &str, owner: &str, slots_max: usize) -> Option<String> {
        if self.slots.contains_key(consumer) || self.slots.len() < slots_max {
            return None;
        }
        let held = |owner: &str| self.slots.values().filter(|slot| slot.owner == owner).count();
        let own = held(owner);
        let mut away: Vec<_> = self.slots.iter().filter(|(_, slot)| !slot.active).collect();
        away.retain(|(_, slot)| {
            slot.invalid.is_some() || slot.owner == owner || held(&slot.owner) > own + 1
        });
        let spare = away.into_iter().min_by_key(|(_, slot)| {
            (slot.invalid.is_none(), std::cmp::Reverse(held(&slot.owner)), slot.seen_ms)
        });
        spare.map(|(consumer, _)| consumer.clone())
    }

    /// Gives a follower its slot: the one it has, or a new one.
    pub(crate) fn take(
        &mut self,
        consumer: &str,
        owner: &str,
        slots_max: usize,
    ) -> Result<&mut Slot, Refusal> {
        if let Some(slot) = self.slots.get(consumer)
            && slot.owner != owner
        {
            return Err(denied("this slot belongs to another peer"));
        }
        if !self.slots.contains_key(consumer) && self.slots.len() >= slots_max {
            return Err(Refusal::new(
                RefusalReason::Busy,
                format!("{slots_max} followers have their slots: drop those that are gone"),
            ));
        }
        let new = || Slot::new(owner.to_owned());
        Ok(self.slots.entry(consumer.to_owned()).or_insert_with(new))
    }
}

impl Slot {
    fn new(owner: String) -> Self {
        Self {
            owner,
            at: LogPosition::default(),
            applied: 0,
            pin: None,
            filling: false,
            settled: 0,
            invalid: None,
            far: false,
            unnoted: false,
            active: false,
            seen_ms: 0,
            hold: None,
            written: 0,
            written_at: Duration::ZERO,
            fills: VecDeque::new(),
        }
    }

    /// Whether its follower may begin with pages once more.
    pub(crate) fn may_fill(&mut self, options: &SlotOptions, now: Now) -> bool {
        let since = now.mono.saturating_sub(options.fills_window);
        self.fills.retain(|at| *at >= since);
        let may = self.fills.len() < options.fills_max;
        if may {
            self.fills.push_back(now.mono);
        }
        may
    }

    /// What its follower acknowledged last, where that is worth something.
    pub(crate) fn known(&self) -> LogPosition {
        let counts = self.hold.is_some() || self.invalid.is_some();
        if counts { self.at } else { LogPosition::default() }
    }

    /// The rev after which journal is needed.
    pub(crate) fn needed(&self) -> u64 {
        self.pin.unwrap_or(self.at.rev)
    }

    /// The rev up to which no tombstone and no clear is needed for its follower any more.
    pub(crate) fn seen(&self) -> u64 {
        if self.filling { 0 } else { self.at.rev.min(self.settled) }
    }

    /// Whether it stands elsewhere than it was written.
    pub(crate) fn is_moved(&self) -> bool {
        self.at.rev > self.written
    }

    fn to_json(&self) -> Value {
        let mut value = json!({
            "owner": self.owner,
            "at": log_json(&self.at),
            "seenMs": self.seen_ms.to_string(),
            "settled": self.settled.to_string(),
        });
        if let Some(members) = value.as_object_mut() {
            if let Some(pin) = self.pin {
                members.insert("pin".into(), pin.to_string().into());
            }
            if self.filling {
                members.insert("filling".into(), true.into());
            }
            if let Some(end) = self.invalid {
                members.insert("invalid".into(), end.code().into());
            }
        }
        value
    }
}

/// Reads a slot as it was written; `None` when it is none.
pub(crate) fn read_slot(value: &Value) -> Option<Slot> {
    let mut slot = Slot::new(value.get("owner")?.as_str()?.to_owned());
    slot.at = log_position(value.get("at")?)?;
    (slot.written, slot.applied) = (slot.at.rev, slot.at.rev);
    slot.seen_ms = number(value.get("seenMs")?)?;
    slot.pin = value.get("pin").and_then(number);
    slot.settled = value.get("settled").and_then(number).unwrap_or(0);
    // Its end may not have been written; then the follower opens with a tail.
    slot.filling = value.get("filling").is_some();
    slot.invalid = value.get("invalid").and_then(Value::as_str).and_then(SlotEnd::from_code);
    Some(slot)
}

/// Whether journal is not there: it was trimmed, or lost.
pub(crate) fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidInput)
}
