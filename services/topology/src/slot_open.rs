//! How a follower that opens gets on: tail, delta or snapshot, and its slot pinned for that.

use trellis_engine_traits::{ErrorKind, Result};

use crate::event::Now;
use crate::message::{LogPosition, OpenAt, OpenMode, Refusal, RefusalReason};
use crate::slots::{Slot, Slots, Table, is_gone};
use crate::task::{OpenSlot, SlotOpened, TaskOutcome};

/// What a follower's place in this node's history is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is of this history.
    Ours,
    /// It is of another history, although of this log: what was not durable was lost.
    Theirs,
    /// Too long ago to tell, or of another log.
    Unknown,
}

/// Whether it is for lack of room, of one kind or the other, that something is not written.
const fn is_room(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::TooLarge)
}

impl Slots {
    /// Decides how a follower gets on, and pins its slot before anything is read for it.
    pub(crate) fn open_slot(&self, wanted: &OpenSlot, now: Now) -> TaskOutcome {
        let mut table = self.table.lock();
        match self.has_turn(&mut table, wanted, now) {
            Ok(Ok(())) => {}
            Ok(Err(ahead)) => {
                return TaskOutcome::Queued { ahead: u32::try_from(ahead).unwrap_or(u32::MAX) };
            }
            Err(error) => return TaskOutcome::Failed(error),
        }
        if let Some(spare) = table.spare(&wanted.consumer, &wanted.owner, self.options.slots_max) {
            tracing::warn!(slot = %spare, "all slots are taken: this one goes");
            match self.forget(&mut table, &spare) {
                // No room to remove it: it comes back with the next start, and goes again.
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                Err(error) => return TaskOutcome::Failed(error),
                Ok(_) => {}
            }
        }
        let is_new = !table.slots.contains_key(&wanted.consumer);
        let floor = match self.floor(&table) {
            Ok(floor) => floor,
            Err(error) => return TaskOutcome::Failed(error),
        };
        let taken = table.take(&wanted.consumer, &wanted.owner, self.options.slots_max);
        let slot = match taken {
            Ok(slot) => slot,
            Err(refusal) => return TaskOutcome::Refused(refusal),
        };
        let decided = self.decide(slot, floor, wanted, now);
        if is_new && !matches!(decided, Ok(Ok(_))) {
            // It has seen nothing yet: everything would be kept for it.
            table.slots.remove(&wanted.consumer);
        }
        match decided {
            Ok(Ok(opened)) => TaskOutcome::Slot(opened),
            Ok(Err(refusal)) => TaskOutcome::Refused(refusal),
            Err(error) => TaskOutcome::Failed(error),
        }
    }

    /// Whether a follower may begin, or how many wait before it. Nothing is kept for one that
    /// waits.
    fn has_turn(
        &self,
        table: &mut Table,
        wanted: &OpenSlot,
        now: Now,
    ) -> Result<std::result::Result<(), usize>> {
        let floor = self.floor(table)?;
        let Table { slots, places, .. } = table;
        let slot = slots.get_mut(&wanted.consumer);
        if slot.as_ref().is_some_and(|slot| slot.owner != wanted.owner) {
            // It is refused.
            return Ok(Ok(()));
        }
        let known = slot.as_ref().map(|slot| slot.known()).unwrap_or_default();
        if self.mode(wanted.at.as_ref(), known, floor)?.0 == OpenMode::Tail {
            places.leave(&wanted.consumer);
            return Ok(Ok(()));
        }
        let turn = places.enter(&wanted.consumer, self.options.fills_at_once);
        if let (Err(_), Some(slot)) = (&turn, slot) {
            // It is not away.
            slot.seen_ms = now.wall_ms;
        }
        Ok(turn)
    }

    fn decide(
        &self,
        slot: &mut Slot,
        floor: u64,
        wanted: &OpenSlot,
        now: Now,
    ) -> Result<Result<SlotOpened, Refusal>> {
        let (mode, since) = self.mode(wanted.at.as_ref(), slot.known(), floor)?;
        if mode != OpenMode::Tail && !slot.may_fill(&self.options, now) {
            let message = "this follower begins anew too often: find out why, or wait a minute";
            return Ok(Err(Refusal::new(RefusalReason::Busy, message)));
        }
        let here = |rev, hash| LogPosition { log_id: self.node, rev, hash };
        let at = match (mode, wanted.at.as_ref()) {
            (OpenMode::Tail, Some(OpenAt::Tail(at)))
            | (OpenMode::ResumeSnapshot, Some(OpenAt::Snapshot(at))) => {
                // Held from there or from before, where it was written.
                (*at, None)
            }
            (OpenMode::ResumeDelta, Some(OpenAt::Delta { from, pin })) => (*from, Some(*pin)),
            (OpenMode::Delta, Some(OpenAt::Tail(from) | OpenAt::Delta { from, .. })) => {
                let (hold, head) = self.tree.hold_journal()?;
                slot.hold = Some(hold);
                (*from, Some(here(head.rev, head.hash)))
            }
            _ => {
                let (hold, head) = self.tree.hold_journal()?;
                slot.hold = Some(hold);
                (here(head.rev, head.hash), None)
            }
        };
        let moved = slot.at != at.0 || slot.invalid.is_some();
        let lazily = mode == OpenMode::Tail && slot.hold.is_some() && slot.at.rev <= at.0.rev;
        (slot.at, slot.applied) = (at.0, at.0.rev);
        slot.pin = at.1.map(|pin| pin.rev);
        slot.filling = !matches!(mode, OpenMode::Tail | OpenMode::Delta | OpenMode::ResumeDelta);
        (slot.invalid, slot.active, slot.seen_ms) = (None, true, now.wall_ms);
        if slot.hold.is_none() || (moved && !lazily) {
            if slot.hold.is_none() {
                slot.hold = Some(self.tree.hold_journal_after(slot.needed())?);
            }
            match self.write(&wanted.consumer, slot, now) {
                // No room to write it, or none in a commit: held it is all the same, as long as
                // this node runs.
                Err(error) if is_room(error.kind()) => {
                    tracing::warn!(consumer = %wanted.consumer, %error, "a slot is not written");
                }
                written => written?,
            }
        }
        let pin = at.1.unwrap_or(at.0);
        let head = self.tree.position().rev;
        Ok(Ok(SlotOpened { mode, pin, since, head }))
    }

    /// How a follower gets on from what it has; for a delta, the commit since which.
    fn mode(&self, at: Option<&OpenAt>, known: LogPosition, floor: u64) -> Result<(OpenMode, u64)> {
        let snapshot = Ok((OpenMode::Snapshot, 0));
        match at {
            None => snapshot,
            Some(OpenAt::Tail(at)) => match self.place(*at, known)? {
                Place::Theirs => Ok((OpenMode::Diverged, 0)),
                Place::Ours if self.reaches(at.rev)? => Ok((OpenMode::Tail, 0)),
                Place::Ours if at.rev >= floor => Ok((OpenMode::Delta, at.rev)),
                Place::Ours | Place::Unknown => snapshot,
            },
            Some(OpenAt::Snapshot(pin)) => match self.place(*pin, known)? {
                Place::Theirs => Ok((OpenMode::Diverged, 0)),
                Place::Ours if self.reaches(pin.rev)? => Ok((OpenMode::ResumeSnapshot, 0)),
                Place::Ours | Place::Unknown => snapshot,
            },
            Some(OpenAt::Delta { from, pin }) => {
                let (since, until) = (self.place(*from, known)?, self.place(*pin, known)?);
                if since == Place::Theirs || until == Place::Theirs || from.rev > pin.rev {
                    return Ok((OpenMode::Diverged, 0));
                }
                if from.rev < floor {
                    return snapshot;
                }
                let resumed = until == Place::Ours && self.reaches(pin.rev)?;
                match since {
                    _ if resumed => Ok((OpenMode::ResumeDelta, from.rev)),
                    Place::Ours => Ok((OpenMode::Delta, from.rev)),
                    Place::Theirs | Place::Unknown => snapshot,
                }
            }
        }
    }

    /// Whether a place is of this node's history. `known` is what the follower acknowledged last.
    fn place(&self, at: LogPosition, known: LogPosition) -> Result<Place> {
        if at.log_id != self.node {
            return Ok(Place::Unknown);
        }
        let head = self.tree.position().rev;
        if at.rev > head {
            return Ok(Place::Theirs);
        }
        if at.rev == 0 || at == known {
            return Ok(Place::Ours);
        }
        Ok(match self.tree.hash_at(at.rev)? {
            Some(hash) if hash == at.hash => Place::Ours,
            Some(_) => Place::Theirs,
            None => Place::Unknown,
        })
    }

    /// Whether the journal holds everything after a rev, and tells all of it.
    fn reaches(&self, rev: u64) -> Result<bool> {
        if rev < self.tree.stamped_since().newest {
            return Ok(false);
        }
        match self.tree.hold_journal_after(rev) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(error.kind()) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The commit up to which tombstones and clears are gone, or are going.
    fn floor(&self, table: &Table) -> Result<u64> {
        Ok(self.tree.gc_floor()?.max(table.collecting.unwrap_or(0)))
    }
}
