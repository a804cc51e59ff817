//! [`Group`]: everybody who watches the same thing in the same way. It is evaluated once a commit,
//! and its event is shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_engine_traits::Error;

use crate::evaluate::Topic;
use crate::mailbox::{Mailbox, Put};
use crate::matching::Registered;
use crate::request::{Event, EventKind, Mode};
use crate::rounds::Rings;
use crate::window::Window;

/// Subscriptions of one topic.
#[derive(Debug)]
pub(crate) struct Group {
    id: u64,
    topic: Topic,
    /// By the number of the subscription: who came first is told first, which is also how they lie
    /// in memory.
    members: Mutex<BTreeMap<u64, Arc<Mailbox>>>,
    /// Of a query.
    window: Window,
}

/// What became of an event for the members of a group.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) kept: u64,
    pub(crate) coalesced: u64,
    pub(crate) stale: u64,
}

impl Group {
    pub(crate) fn new(id: u64, topic: Topic) -> Self {
        Self { id, topic, members: Mutex::default(), window: Window::default() }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// Whether the newest event says all that those before it say.
    pub(crate) fn coalesces(&self) -> bool {
        self.topic.event == EventKind::Value
            && self.topic.mode != Mode::Patch
            && !self.topic.pattern.is_wild()
    }

    pub(crate) fn join(&self, id: u64, mailbox: Arc<Mailbox>) {
        self.members.lock().insert(id, mailbox);
    }

    /// Takes a member out: whether it was one, and whether it was the last.
    pub(crate) fn part(&self, id: u64) -> (bool, bool) {
        let mut members = self.members.lock();
        let was = members.remove(&id).is_some();
        (was, members.is_empty())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.lock().is_empty()
    }

    /// Gives an event to every member; who has to be woken then stands in `rings`.
    pub(crate) fn tell(&self, event: &Arc<Event>, rings: &mut Rings) -> Told {
        let mut told = Told::default();
        for (id, mailbox) in &*self.members.lock() {
            match mailbox.put(*id, event, rings) {
                Put::Kept => told.kept += 1,
                Put::Coalesced => told.coalesced += 1,
                Put::Stale => told.stale += 1,
                Put::Ignored => {}
            }
        }
        told
    }

    /// Tells every member that it needs a new snapshot; how many did not know.
    pub(crate) fn stale(&self) -> u64 {
        self.window.lose();
        let members = self.members.lock();
        let news = members.iter().filter(|(id, mailbox)| mailbox.stale(**id));
        u64::try_from(news.count()).unwrap_or(u64::MAX)
    }

    /// Ends every member's subscription; how many there were.
    pub(crate) fn cancel(&self, error: &Error) -> usize {
        let members = std::mem::take(&mut *self.members.lock());
        for (id, mailbox) in &members {
            mailbox.cancel(*id, error.duplicate());
        }
        members.len()
    }
}

impl Registered for Arc<Group> {
    fn id(&self) -> u64 {
        self.id
    }
}
