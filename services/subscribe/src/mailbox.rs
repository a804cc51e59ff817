//! [`Mailbox`]: what waits for one receiver, bounded in bytes.
//!
//! A subscription is *held* from its registration until its acknowledgement is on the way: its
//! events are kept and not handed out, and those up to the snapshot's rev are dropped. So there is
//! neither a gap nor a duplicate between snapshot and events, whatever is committed meanwhile.
//!
//! Invariants:
//! 1. The events that wait take at most `bytes_max`. Beyond it a subscription that can keeps its
//!    newest event only; otherwise it becomes stale, drops its events and takes no more.
//! 2. `ready` names a subscription at least as often as it has events to hand out, and never more
//!    often than the most events that it ever had waiting: it is bounded as they are. It names
//!    none that has ended.
//! 3. A waker is stored under the lock under which it was found that nothing waits: no wake-up is
//!    lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::group::Group;
use crate::request::{Delivery, Event};
use crate::rounds::{HELD_BACK_PART, Rings, Round};

/// Text handed out at once: what is handed out is no longer counted.
const HAND_OUT_BYTES: usize = 256 << 10;
/// Deliveries handed out at once.
const HAND_OUT_MAX: usize = 256;

/// One subscription in a mailbox.
#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    group: Arc<Group>,
    held: bool,
    /// Events up to this rev are known to the receiver.
    known: u64,
    events: VecDeque<Arc<Event>>,
    /// How often `ready` names this slot.
    tickets: usize,
    notice: Notice,
}

/// What has to be told besides events.
#[derive(Debug)]
enum Notice {
    None,
    /// Events were dropped, and the receiver does not know yet.
    Stale,
    /// The receiver knows, and has not asked for a new snapshot yet.
    StaleTold,
    Cancelled(Error),
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<u64, Slot>,
    names: BTreeMap<Arc<str>, u64>,
    ready: VecDeque<u64>,
    bytes: usize,
    waker: Option<Waker>,
    /// Somebody waits with a thread, and was not woken yet.
    is_asleep: bool,
    /// Somebody is going to ring for what was put in.
    ring_due: bool,
    /// The round whose receivers this one was woken with, until it comes.
    round: Option<u64>,
    closed: bool,
}

/// What happened to an event that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// Older events of the subscription gave way to it.
    Coalesced,
    /// There was no room: the subscription is stale now.
    Stale,
    /// The subscription knows it, is stale or gone.
    Ignored,
}

/// What waits for one receiver.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    bell: Condvar,
    bytes_max: usize,
    round: Arc<Round>,
}

impl Slot {
    fn release(&mut self) -> usize {
        self.events.drain(..).map(|event| event.cost()).sum()
    }

    /// What has to be handed out next, if anything.
    fn next(&mut self) -> Option<(Delivery, usize)> {
        if let Notice::Cancelled(error) = &self.notice {
            let delivery =
                Delivery::Cancelled { name: Arc::clone(&self.name), error: error.duplicate() };
            return Some((delivery, 0));
        }
        if let Some(event) = self.events.pop_front() {
            let bytes = event.cost();
            return Some((Delivery::Event { name: Arc::clone(&self.name), event }, bytes));
        }
        if matches!(self.notice, Notice::Stale) {
            self.notice = Notice::StaleTold;
            return Some((Delivery::Stale { name: Arc::clone(&self.name) }, 0));
        }
        None
    }

    fn waiting(&self) -> usize {
        let notice = matches!(self.notice, Notice::Stale | Notice::Cancelled(_));
        self.events.len() + usize::from(notice)
    }
}

impl State {
    /// Makes sure that a slot is looked at as often as it has something to hand out.
    fn announce(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.held {
            return;
        }
        while slot.tickets < slot.waiting() {
            slot.tickets += 1;
            self.ready.push_back(id);
        }
    }

    fn put(&mut self, id: u64, event: &Arc<Event>, bytes_max: usize) -> Put {
        let Some(slot) = self.slots.get_mut(&id) else { return Put::Ignored };
        if event.rev <= slot.known || !matches!(slot.notice, Notice::None) {
            return Put::Ignored;
        }
        let mut outcome = Put::Kept;
        if self.bytes + event.cost() > bytes_max {
            let released = slot.release();
            self.bytes -= released.min(self.bytes);
            if !slot.group.coalesces() || self.bytes + event.cost() > bytes_max {
                slot.notice = Notice::Stale;
                self.announce(id);
                return Put::Stale;
            }
            outcome = Put::Coalesced;
        }
        // The publisher may tell the newest state, and then meet commits that are in it.
        slot.known = event.rev;
        slot.events.push_back(Arc::clone(event));
        self.bytes += event.cost();
        self.announce(id);
        outcome
    }

    fn notice(&mut self, id: u64, notice: Notice) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        match (&slot.notice, &notice) {
            (Notice::Cancelled(_), _) | (Notice::Stale | Notice::StaleTold, Notice::Stale) => {
                return false;
            }
            _ => {}
        }
        let released = slot.release();
        slot.notice = notice;
        self.bytes -= released.min(self.bytes);
        self.announce(id);
        true
    }

    fn remove(&mut self, id: u64) -> Option<Slot> {
        let mut slot = self.slots.remove(&id)?;
        self.names.remove(&slot.name);
        if slot.tickets > 0 {
            // Or a receiver that ends what it never read would leave ever more of them.
            self.ready.retain(|own| *own != id);
        }
        let released = slot.release();
        self.bytes -= released.min(self.bytes);
        Some(slot)
    }

    fn hand_out(&mut self) -> Vec<Delivery> {
        let mut out = Vec::with_capacity(self.ready.len().min(HAND_OUT_MAX));
        let mut bytes = 0;
        while out.len() < HAND_OUT_MAX && bytes < HAND_OUT_BYTES {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.tickets = slot.tickets.saturating_sub(1);
            if slot.held {
                continue;
            }
            let Some((delivery, cost)) = slot.next() else { continue };
            bytes += cost;
            self.bytes -= cost.min(self.bytes);
            if matches!(delivery, Delivery::Cancelled { .. }) {
                self.remove(id);
            }
            out.push(delivery);
        }
        out
    }
}

impl Mailbox {
    pub(crate) fn new(bytes_max: usize, round: Arc<Round>) -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), bytes_max, round }
    }

    /// Enters a held subscription.
    ///
    /// # Errors
    /// `InvalidInput` for a name in use, `TooLarge` beyond `slots_max`, `Closed`.
    pub(crate) fn enter(
        &self,
        id: u64,
        name: &str,
        group: Arc<Group>,
        slots_max: usize,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        if state.names.contains_key(name) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a subscription of this id is open; choose another id or end it first",
            )
            .operation("sub"));
        }
        if state.slots.len() >= slots_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "too many subscriptions on one connection; end some, or watch a path above them",
            )
            .operation("sub")
            .context("subscriptions_max", slots_max));
        }
        let name: Arc<str> = name.into();
        state.names.insert(Arc::clone(&name), id);
        let slot = Slot {
            name,
            group,
            held: true,
            known: 0,
            events: VecDeque::new(),
            tickets: 0,
            notice: Notice::None,
        };
        state.slots.insert(id, slot);
        Ok(())
    }

    /// What the receiver knows: events up to this rev are dropped, and `missed` come before those
    /// that are held. `false`, and nothing changed, when there is no room for what was missed.
    pub(crate) fn know(&self, id: u64, rev: u64, missed: Vec<Arc<Event>>) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(slot) = state.slots.get_mut(&id) else { return false };
        let added: usize = missed.iter().map(|event| event.cost()).sum();
        if state.bytes + added > self.bytes_max && added > 0 {
            return false;
        }
        slot.known = slot.known.max(rev);
        let held = std::mem::take(&mut slot.events);
        let (old, new): (Vec<_>, Vec<_>) = held.into_iter().partition(|event| event.rev <= rev);
        let dropped: usize = old.iter().map(|event| event.cost()).sum();
        slot.events = missed.into_iter().chain(new).collect();
        state.bytes = (state.bytes + added) - dropped.min(state.bytes);
        true
    }

    /// Lets a held subscription's events out; `false` when there is none of this name.
    pub(crate) fn activate(&self, name: &str) -> bool {
        self.change(|state| {
            let Some(id) = state.names.get(name).copied() else { return false };
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.held = false;
            }
            state.announce(id);
            true
        })
    }

    /// Holds a subscription anew, to take a new snapshot: id and group.
    pub(crate) fn hold(&self, name: &str) -> Option<(u64, Arc<Group>)> {
        let mut state = self.state.lock();
        let id = state.names.get(name).copied()?;
        let slot = state.slots.get_mut(&id)?;
        if matches!(slot.notice, Notice::Cancelled(_)) {
            return None;
        }
        slot.held = true;
        slot.notice = Notice::None;
        let released = slot.release();
        let group = Arc::clone(&slot.group);
        state.bytes -= released.min(state.bytes);
        Some((id, group))
    }

    /// Puts an event in, without waking the receiver: those in `rings` are to be woken by
    /// [`Mailbox::ring`].
    pub(crate) fn put(self: &Arc<Self>, id: u64, event: &Arc<Event>, rings: &mut Rings) -> Put {
        let mut state = self.state.lock();
        let put = state.put(id, event, self.bytes_max);
        if !state.ready.is_empty() && !std::mem::replace(&mut state.ring_due, true) {
            rings.mailboxes.push(Arc::clone(self));
        }
        if state.waker.is_some() || state.is_asleep {
            rings.is_full |= state.bytes >= self.bytes_max / HELD_BACK_PART;
        }
        put
    }

    /// Wakes the receiver if anything waits; it is then one of the round until it comes.
    pub(crate) fn ring(&self) {
        self.change(|state| {
            // Who does not wait is busy, perhaps with a peer that takes nothing: it is not waited
            // for.
            if state.waker.is_some() && !state.ready.is_empty() {
                state.round = Some(self.round.enter());
            }
        });
    }

    /// Events are dropped: the receiver needs a new snapshot. Whether that is news.
    pub(crate) fn stale(&self, id: u64) -> bool {
        self.change(|state| state.notice(id, Notice::Stale))
    }

    /// The subscription has ended, which its receiver is told.
    pub(crate) fn cancel(&self, id: u64, error: Error) {
        self.change(|state| state.notice(id, Notice::Cancelled(error)));
    }

    /// Takes a subscription out; nothing of it is handed out any more.
    pub(crate) fn leave(&self, id: u64) {
        // Its events are freed outside the lock.
        let slot = self.state.lock().remove(id);
        drop(slot);
    }

    /// Id and group of a subscription.
    pub(crate) fn find(&self, name: &str) -> Option<(u64, Arc<Group>)> {
        let state = self.state.lock();
        let id = *state.names.get(name)?;
        Some((id, Arc::clone(&state.slots.get(&id)?.group)))
    }

    /// Ends everything; whoever waits is told by an empty answer.
    pub(crate) fn close(&self) -> Vec<(u64, Arc<Group>)> {
        let mut slots = BTreeMap::new();
        self.change(|state| {
            state.closed = true;
            state.names.clear();
            state.ready.clear();
            state.bytes = 0;
            if let Some(number) = state.round.take() {
                self.round.leave(number);
            }
            slots = std::mem::take(&mut state.slots);
        });
        slots.into_iter().map(|(id, slot)| (id, slot.group)).collect()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Vec<Delivery>> {
        let mut state = self.state.lock();
        let out = state.hand_out();
        if let Some(number) = state.round.take() {
            self.round.leave(number);
        }
        if !out.is_empty() || state.closed {
            return Poll::Ready(out);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits by blocking the thread; empty when nothing came in time, or closed.
    pub(crate) fn wait(&self, wait: Duration) -> Vec<Delivery> {
        let mut state = self.state.lock();
        loop {
            let out = state.hand_out();
            if !out.is_empty() || state.closed {
                return out;
            }
            state.is_asleep = true;
            if self.bell.wait_for(&mut state, wait).timed_out() {
                state.is_asleep = false;
                return state.hand_out();
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (outcome, waker, rings) = {
            let mut state = self.state.lock();
            let outcome = change(&mut state);
            state.ring_due = false;
            let rings = !state.ready.is_empty() || state.closed;
            state.is_asleep &= !rings;
            (outcome, if rings { state.waker.take() } else { None }, rings)
        };
        if let Some(waker) = waker {
            waker.wake();
        } else if rings {
            self.bell.notify_all();
        }
        outcome
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "subscriptions were closed").operation("sub")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use bytes::Bytes;
    use trellis_tree::ChangeCause;

    use super::*;
    use crate::evaluate::Topic;
    use crate::pattern::Pattern;
    use crate::request::{EventKind, Mode};

    fn event(rev: u64) -> Arc<Event> {
        let body = Bytes::from_static(b"[]");
        Arc::new(Event { rev, cause: ChangeCause::Request, commit_key: None, body })
    }

    #[test]
    fn what_is_ended_unread_leaves_nothing_behind() {
        let mailbox = Arc::new(Mailbox::new(1 << 20, Arc::default()));
        let mut rings = Rings::default();
        let pattern = Pattern::parse("a").unwrap();
        let topic = Topic { pattern, event: EventKind::Child, mode: Mode::Full };
        let group = Arc::new(Group::new(0, topic));
        for id in 1..=100 {
            let name = (id % 2).to_string();
            mailbox.enter(id, &name, Arc::clone(&group), 2).unwrap();
            assert!(mailbox.activate(&name));
            for rev in 1..=10 {
                assert_eq!(mailbox.put(id, &event(rev), &mut rings), Put::Kept);
            }
            if id > 1 {
                mailbox.leave(id - 1);
            }
        }
        // Those of the last one.
        assert_eq!(mailbox.state.lock().ready.len(), 10);
        assert_eq!(mailbox.wait(Duration::ZERO).len(), 10);
        mailbox.leave(100);
        assert_eq!(mailbox.bytes(), 0);
    }

    #[test]
    fn a_receiver_that_is_busy_is_not_waited_for() {
        let round = Arc::new(Round::default());
        let mailbox = Arc::new(Mailbox::new(1 << 20, Arc::clone(&round)));
        let mut rings = Rings::default();
        let pattern = Pattern::parse("a").unwrap();
        let topic = Topic { pattern, event: EventKind::Child, mode: Mode::Full };
        mailbox.enter(1, "1", Arc::new(Group::new(0, topic)), 1).unwrap();
        assert!(mailbox.activate("1"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(mailbox.poll(&mut context).is_pending());
        for (rev, comes) in [(1, true), (2, false), (3, false)] {
            assert_eq!(mailbox.put(1, &event(rev), &mut rings), Put::Kept);
            mailbox.ring();
            // It comes only the first time, and then has too much to do to come again.
            assert_eq!(round.is_over(), !comes);
            if comes {
                assert!(mailbox.poll(&mut context).is_ready());
            }
            assert!(round.is_over());
        }
    }
}
