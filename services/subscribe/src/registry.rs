//! [`Registry`]: all open subscriptions, and whether the tree is followed for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_query::Queries;
use trellis_tree::{Follower, FollowerBell, Tree};

use crate::evaluate::Topic;
use crate::group::Group;
use crate::mailbox::{Mailbox, closed};
use crate::matching::Matches;
use crate::moment::Moment;
use crate::options::{LiveOptions, LiveStats};
use crate::resumer::Resumer;
use crate::rounds::{Rings, Round};
use crate::trie::Trie;

/// What the publisher and the inboxes share.
///
/// Locks are taken in the order registry, window, rings, group, mailbox, round.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) tree: Tree,
    pub(crate) options: LiveOptions,
    registry: Mutex<Registry>,
    pub(crate) rings: Mutex<Rings>,
    pub(crate) round: Arc<Round>,
    /// There is a follower to be taken over, or an end.
    bell: Condvar,
    ids: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) resumer: Resumer,
    pub(crate) queries: Queries,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) lagged: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) visited: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Registry {
    trie: Trie<Arc<Group>>,
    groups: HashMap<Topic, Arc<Group>>,
    subscriptions: usize,
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    following: bool,
    /// A new follower, not yet taken over by the publisher.
    follower: Option<Follower>,
    follower_bell: Option<FollowerBell>,
    closed: bool,
}

impl Registry {
    /// Begins to follow, so that nothing is missed that is committed from now on.
    fn follow(&mut self, tree: &Tree, bytes_max: usize, bell: &Condvar) -> Result<()> {
        if !self.following {
            let follower = tree.follow(bytes_max)?;
            self.follower_bell = Some(follower.bell());
            self.follower = Some(follower);
            self.following = true;
            bell.notify_all();
        }
        Ok(())
    }

    fn drop_group(&mut self, group: &Arc<Group>) {
        let own = self.groups.get(group.topic());
        if own.is_some_and(|own| Arc::ptr_eq(own, group)) {
            self.groups.remove(group.topic());
            self.trie.remove(&group.topic().pattern, &|item| Arc::ptr_eq(item, group));
        }
    }
}

impl Core {
    pub(crate) fn new(tree: Tree, options: LiveOptions) -> Self {
        Self {
            queries: Queries::new(&tree),
            tree,
            options,
            registry: Mutex::default(),
            rings: Mutex::default(),
            round: Arc::default(),
            bell: Condvar::new(),
            ids: AtomicU64::new(1),
            counters: Counters::default(),
            resumer: Resumer::default(),
        }
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A mailbox and its number.
    pub(crate) fn open_mailbox(&self) -> (u64, Arc<Mailbox>) {
        let round = Arc::clone(&self.round);
        let mailbox = Arc::new(Mailbox::new(self.options.inbox_bytes_max, round));
        let id = self.next_id();
        let mut registry = self.registry.lock();
        if registry.closed {
            drop(registry);
            mailbox.close();
        } else {
            registry.mailboxes.insert(id, Arc::clone(&mailbox));
        }
        (id, mailbox)
    }

    /// Ends a mailbox and all its subscriptions.
    pub(crate) fn close_mailbox(&self, id: u64, mailbox: &Mailbox) {
        self.registry.lock().mailboxes.remove(&id);
        for (id, group) in mailbox.close() {
            self.part(id, &group);
        }
    }

    /// Enters a held subscription: its number and group. From here on every commit that becomes
    /// visible later reaches its mailbox.
    ///
    /// # Errors
    /// `Busy` when there are too many, `Closed`, those of [`Mailbox::enter`].
    pub(crate) fn join(
        &self,
        name: &str,
        topic: Topic,
        mailbox: &Arc<Mailbox>,
    ) -> Result<(u64, Arc<Group>)> {
        let id = self.next_id();
        let mut registry = self.registry.lock();
        if registry.closed {
            return Err(closed());
        }
        if registry.subscriptions >= self.options.subscriptions_total_max {
            return Err(Error::new(ErrorKind::Busy, "the server has too many subscriptions")
                .operation("sub")
                .context("subscriptions_total_max", self.options.subscriptions_total_max));
        }
        registry.follow(&self.tree, self.options.follow_bytes_max, &self.bell)?;
        let group = if let Some(group) = registry.groups.get(&topic) {
            Arc::clone(group)
        } else {
            let group = Arc::new(Group::new(self.next_id(), topic.clone()));
            registry.trie.insert(&topic.pattern, Arc::clone(&group));
            registry.groups.insert(topic, Arc::clone(&group));
            group
        };
        let max = self.options.subscriptions_max;
        if let Err(error) = mailbox.enter(id, name, Arc::clone(&group), max) {
            if group.is_empty() {
                registry.drop_group(&group);
            }
            return Err(error);
        }
        group.join(id, Arc::clone(mailbox));
        registry.subscriptions += 1;
        Ok((id, group))
    }

    /// Takes a subscription out of its group.
    pub(crate) fn part(&self, id: u64, group: &Arc<Group>) {
        let mut registry = self.registry.lock();
        let (was, last) = group.part(id);
        if was {
            // None are counted once everything is closed.
            registry.subscriptions = registry.subscriptions.saturating_sub(1);
        }
        if last {
            registry.drop_group(group);
        }
        if registry.subscriptions == 0
            && let Some(bell) = &registry.follower_bell
        {
            // The publisher stops following.
            bell.ring();
        }
    }

    /// Ends the subscriptions of a group; its receivers are told.
    pub(crate) fn cancel(&self, group: &Arc<Group>, error: &Error) {
        let mut registry = self.registry.lock();
        let ended = group.cancel(error);
        registry.subscriptions -= ended.min(registry.subscriptions);
        registry.drop_group(group);
        drop(registry);
        Counters::add(&self.counters.cancelled, u64::try_from(ended).unwrap_or(0));
    }

    /// Ends all subscriptions; its receivers are told.
    pub(crate) fn cancel_all(&self, error: &Error) {
        for group in self.groups() {
            self.cancel(&group, error);
        }
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.registry.lock().groups.values().cloned().collect()
    }

    /// What a commit touches.
    ///
    /// # Errors
    /// Those of reads.
    pub(crate) fn find(&self, moment: &Moment<'_>) -> Result<Matches<Arc<Group>>> {
        Matches::find(&self.registry.lock().trie, moment)
    }

    /// Waits until there is something to follow for; `None` at the end.
    pub(crate) fn await_follower(&self) -> Option<Follower> {
        let mut registry = self.registry.lock();
        loop {
            if registry.closed {
                return None;
            }
            if let Some(follower) = registry.follower.take() {
                return Some(follower);
            }
            self.bell.wait(&mut registry);
        }
    }

    /// Whether there is nobody left to follow for; from then on the next subscription begins anew.
    pub(crate) fn retire(&self) -> bool {
        let mut registry = self.registry.lock();
        let idle = registry.closed || registry.subscriptions == 0;
        if idle {
            registry.following = false;
            registry.follower_bell = None;
        }
        idle
    }

    /// Follows anew after the follower was lost.
    ///
    /// # Errors
    /// `Closed`.
    pub(crate) fn follow_anew(&self) -> Result<()> {
        let mut registry = self.registry.lock();
        registry.following = false;
        registry.follower_bell = None;
        if registry.closed || registry.subscriptions == 0 {
            return Ok(());
        }
        registry.follow(&self.tree, self.options.follow_bytes_max, &self.bell)
    }

    pub(crate) fn close(&self) {
        let (mailboxes, groups) = {
            let mut registry = self.registry.lock();
            registry.closed = true;
            if let Some(bell) = &registry.follower_bell {
                bell.ring();
            }
            self.bell.notify_all();
            registry.follower = None;
            registry.subscriptions = 0;
            registry.trie = Trie::default();
            (std::mem::take(&mut registry.mailboxes), std::mem::take(&mut registry.groups))
        };
        drop(groups);
        for mailbox in mailboxes.values() {
            // Its groups went with the registry.
            let _left = mailbox.close();
        }
    }

    pub(crate) fn stats(&self) -> LiveStats {
        let registry = self.registry.lock();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        LiveStats {
            subscriptions: registry.subscriptions,
            groups: registry.groups.len(),
            inboxes: registry.mailboxes.len(),
            following: registry.following,
            waiting_bytes: registry.mailboxes.values().map(|mailbox| mailbox.bytes()).sum(),
            events: read(&counters.events),
            deliveries: read(&counters.deliveries),
            coalesced: read(&counters.coalesced),
            stale: read(&counters.stale),
            cancelled: read(&counters.cancelled),
            lagged: read(&counters.lagged),
            resumed: read(&counters.resumed),
            nodes_visited: read(&counters.visited),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use trellis_runtime::Runtime;
    use trellis_tree::TreeOptions;

    use super::*;
    use crate::pattern::Pattern;
    use crate::request::{EventKind, Mode};

    #[test]
    fn a_subscription_that_ends_after_the_close_is_counted_once() {
        let kv = Arc::new(trellis_kv_memory::MemoryKv::new());
        let log = Arc::new(trellis_log_memory::MemoryLog::new());
        let tree = Tree::open(kv, log, Runtime::system(), TreeOptions::default()).unwrap();
        let core = Core::new(tree, LiveOptions::default());
        let (_, mailbox) = core.open_mailbox();
        let pattern = Pattern::parse("a").unwrap();
        let topic = Topic { pattern, event: EventKind::Value, mode: Mode::Full };
        let (id, group) = core.join("1", topic, &mailbox).unwrap();
        // As when the close comes between the two halves of an `unsubscribe` or a `subscribe`.
        core.close();
        core.part(id, &group);
        assert_eq!(core.stats().subscriptions, 0);
    }
}
