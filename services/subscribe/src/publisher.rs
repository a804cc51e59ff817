//! The one thread that follows the tree and tells who is touched.
//!
//! It follows only while there are subscriptions. Whatever it cannot tell exactly, it does not
//! tell: the subscription becomes stale, and its receiver takes a new snapshot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::Clock;
use trellis_tree::{Change, ChangeCause, Followed, Follower};

use crate::evaluate::{self, Topic};
use crate::group::Group;
use crate::matching::Touched;
use crate::moment::{Moment, event};
use crate::registry::{Core, Counters};
use crate::request::Event;
use crate::rounds::{MANY, Pace};
use crate::snapshot;

/// How long the publisher sleeps when nothing is committed.
const IDLE: Duration = Duration::from_secs(60);
/// Commits that are told before few receivers are woken.
const TOLD_TOGETHER: usize = 16;

/// Publishes until the subscriptions are closed.
pub(crate) fn run(core: &Arc<Core>, clock: &dyn Clock) {
    while let Some(follower) = core.await_follower() {
        let ended = catch_unwind(AssertUnwindSafe(|| core.publish_while_wanted(follower, clock)));
        let again = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                tracing::error!("publishing broke down; every subscription begins anew");
                // First follow, then take what was missed as lost: a snapshot taken from now on
                // has everything after it told.
                core.follow_anew().inspect(|()| core.stale_all())
            }
        };
        core.ring();
        if let Err(error) = again {
            core.cancel_all(&error);
            core.retire();
        }
    }
}

impl Core {
    fn publish_while_wanted(&self, mut follower: Follower, clock: &dyn Clock) -> Result<()> {
        self.round.tell(follower.bell());
        let mut pace = Pace::default();
        while !self.retire() {
            // Asked each time: the bell may mean that a round is over, and its rest begins.
            let wait = pace.patience(&self.round, clock.monotonic());
            let is_held_back = !self.rings.lock().mailboxes.is_empty();
            match follower.next(if is_held_back { wait } else { IDLE })? {
                Followed::Changes(changes) => {
                    // Each is let go when it is told: it keeps old versions.
                    for (number, change) in (1..).zip(changes) {
                        self.publish(&change);
                        if number % TOLD_TOGETHER == 0 || self.rings.lock().is_full {
                            self.ring_in_time(&mut pace, &follower, clock);
                        }
                    }
                }
                Followed::Lagged => {
                    Counters::add(&self.counters.lagged, 1);
                    self.catch_up();
                }
                Followed::Nothing => {}
            }
            self.ring_in_time(&mut pace, &follower, clock);
        }
        Ok(())
    }

    /// Wakes whoever was given something, unless they are many and it is not their time yet.
    fn ring_in_time(&self, pace: &mut Pace, follower: &Follower, clock: &dyn Clock) {
        let (receivers, is_full) = {
            let rings = self.rings.lock();
            (rings.mailboxes.len(), rings.is_full)
        };
        if receivers >= MANY {
            let now = clock.monotonic();
            if !is_full {
                let is_early = !pace.wait(&self.round, now).is_zero();
                if is_early || (pace.gathers(receivers, now) && follower.has_more_coming()) {
                    return;
                }
            }
            pace.begin(&self.round, now);
        }
        self.ring();
    }

    /// Tells everybody whom a commit touches.
    fn publish(&self, change: &Change) {
        if change.cause() == ChangeCause::Upkeep {
            return;
        }
        let moment = Moment::new(change);
        match self.find(&moment) {
            Ok(found) => {
                Counters::add(&self.counters.visited, found.visited);
                for touched in &found.touched {
                    self.tell(touched, &moment);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a commit cannot be told; every subscription begins anew");
                self.stale_all();
            }
        }
    }

    fn tell(&self, touched: &Touched<Arc<Group>>, moment: &Moment<'_>) {
        let group = &touched.item;
        if group.topic().query().is_some() {
            return self.follow_window(group, moment.change());
        }
        if touched.more {
            return self.stale(group);
        }
        let bytes_max = self.options.frame_bytes_max;
        match evaluate::events(group.topic(), moment, &touched.keys, bytes_max) {
            Ok(None) => {}
            Ok(Some(body)) => self.give(group, event(moment.change(), body)),
            Err(error) => self.cannot_tell(group, &error),
        }
    }

    /// A window finds by itself what a commit changed in it.
    fn follow_window(&self, group: &Arc<Group>, change: &Change) {
        let bytes_max = self.options.frame_bytes_max;
        let give = |change: &Change, body| self.give(group, event(change, body));
        if let Err(error) = group.window().follow(group.topic(), change, bytes_max, &give) {
            self.cannot_tell(group, &error);
        }
    }

    pub(crate) fn cannot_tell(&self, group: &Arc<Group>, error: &Error) {
        if error.kind() == ErrorKind::TooLarge && group.coalesces() {
            // A snapshot would be the same text.
            return self.cancel(group, error);
        }
        if error.kind() != ErrorKind::TooLarge {
            tracing::warn!(%error, "a commit cannot be told to a subscription; it begins anew");
        }
        self.stale(group);
    }

    /// Gives an event to a group. Nobody is woken before [`Core::ring`].
    pub(crate) fn give(&self, group: &Group, event: Event) {
        let told = {
            let mut rings = self.rings.lock();
            group.tell(&Arc::new(event), &mut rings)
        };
        Counters::add(&self.counters.events, 1);
        Counters::add(&self.counters.deliveries, told.kept + told.coalesced);
        Counters::add(&self.counters.coalesced, told.coalesced);
        Counters::add(&self.counters.stale, told.stale);
    }

    /// Wakes whoever was given something.
    pub(crate) fn ring(&self) {
        let rings = std::mem::take(&mut *self.rings.lock());
        for mailbox in rings.mailboxes {
            mailbox.ring();
        }
    }

    fn stale(&self, group: &Group) {
        Counters::add(&self.counters.stale, group.stale());
    }

    fn stale_all(&self) {
        for group in self.groups() {
            self.stale(&group);
        }
    }

    /// Commits were passed over: those whose newest event says everything get it, the others take
    /// a new snapshot.
    fn catch_up(&self) {
        let view = self.settled();
        for group in self.groups() {
            let Some(view) = view.as_ref().ok().filter(|_| group.coalesces()) else {
                self.stale(&group);
                continue;
            };
            match newest(group.topic(), view, self.options.frame_bytes_max) {
                Ok(event) => self.give(&group, event),
                Err(error) => self.cannot_tell(&group, &error),
            }
        }
    }
}

/// The newest state as an event.
fn newest(topic: &Topic, view: &trellis_tree::View, bytes_max: usize) -> Result<Event> {
    let value = snapshot::take(view, topic, bytes_max)?;
    let body = evaluate::newest_value(topic, &value);
    Ok(Event { rev: view.rev(), cause: ChangeCause::Request, commit_key: None, body })
}
