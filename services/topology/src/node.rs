//! [`Node`]: drives sessions over links, and is the door through which a tree's writes pass.
//!
//! One thread a link: it polls the link, steps the session and does the session's tasks itself, so
//! that what is slow slows its own peer only. Start-up waits for nobody.
//!
//! Deliberately absent: transports, and what an operator writes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, Replicator, Result};
use trellis_runtime::{Alarm, Runtime, Worker};
use trellis_tree::{Gate, Path, ReplicationStats, Tree};

use crate::kept::SetAside;
use crate::node_gate::Asked;
use crate::node_options::{NodeOptions, check_skips};
use crate::node_poll::{self, Boxed};
use crate::node_shared::{LinkEntry, Shared};
use crate::slots::{SlotEnd, SlotStatus};
use crate::status::{FeedState, LinkState, LinkStatus, SessionStatus};
use crate::store::Store;
use crate::topology::Topology;
use crate::zones::{ZoneStatus, covers};
use crate::{node_accept, node_dial};

/// Time between two looks at the followers.
const UPKEEP_EVERY: Duration = Duration::from_secs(2);
/// How much longer than a count the time to the next one is.
const COUNT_SHARE: u32 = 20;
/// How long the transport may take to end.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Not being level for so long counts as being behind.
const BEHIND_AFTER: Duration = Duration::from_secs(5);

/// Where a node stands: for people, metrics and readiness.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// 32 hexadecimal digits.
    pub node: String,
    /// What it is called.
    pub name: String,
    /// Its newest commit.
    pub head: u64,
    /// What holds where.
    pub zones: Vec<ZoneStatus>,
    /// Links that this node makes, then those that peers made.
    pub links: Vec<LinkStatus>,
    /// The followers, connected or not.
    pub slots: Vec<SlotStatus>,
    /// How many followers are sent a snapshot or a delta, and how many wait for that.
    pub fills: (usize, usize),
    /// What links that peers made and that have ended counted, and how many there were.
    pub ended: (u64, SessionStatus),
    /// Slots given up, by reason.
    pub slots_ended: BTreeMap<SlotEnd, u64>,
    /// What is kept for followers; stamps as [`Node::count`] counted them last.
    pub stats: ReplicationStats,
    /// Links over which everything is to be filled anew once they are up.
    pub resyncs: Vec<String>,
    /// Copies of what was set aside: [`Node::set_asides`].
    pub set_asides: usize,
    /// The time on the node's clock, that of `level_at`.
    pub now: Duration,
}

/// A prefix that is not what its upstream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The prefix.
    pub path: Path,
    /// Why: not complete yet, not connected, behind.
    pub reason: String,
}

/// A node of a topology. Dropping it closes it.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Worker>>,
}

impl Node {
    /// Sets the tree's gate, begins to dial and to accept. The tree was opened with
    /// [`Topology::zoning`].
    ///
    /// # Errors
    /// `AlreadyExists` when the tree has a gate; `InvalidInput` when `skips_unwritten_max` is less
    /// than twice `links_max`; those of reading the slots; `Unavailable` when the system has no
    /// thread to give. No link is made then.
    ///
    /// # Cost
    /// A thread for each link, one that accepts and one for upkeep. Waits for nobody.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use trellis_engine_traits::{Replicator, Result};
    /// use trellis_runtime::Runtime;
    /// use trellis_topology::{Node, NodeOptions, Topology};
    /// use trellis_tree::Tree;
    ///
    /// fn join(
    ///     tree: &Tree,
    ///     topology: Arc<Topology>,
    ///     links: Arc<dyn Replicator>,
    ///     runtime: &Arc<Runtime>,
    ///     options: NodeOptions,
    /// ) -> Result<()> {
    ///     let node = Node::start(tree, topology, links, runtime, options)?;
    ///     println!("{} links", node.status()?.links.len());
    ///     node.close();
    ///     Ok(())
    /// }
    /// ```
    pub fn start(
        tree: &Tree,
        topology: Arc<Topology>,
        replicator: Arc<dyn Replicator>,
        runtime: &Arc<Runtime>,
        options: NodeOptions,
    ) -> Result<Self> {
        check_skips(&options)?;
        let store = Store::open(tree.clone(), options.slots.clone())?;
        store.kept().begin_changed(topology.dials().iter().map(|dial| &dial.plan))?;
        let shared = Shared::new(store, topology, replicator, Arc::clone(runtime), options);
        tree.set_gate(Arc::clone(&shared.gate) as Arc<dyn Gate>)?;
        let node = Self { shared: Arc::clone(&shared), workers: Mutex::default() };
        node.announce()?;
        for (dial, entry) in shared.topology.dials().iter().zip(&shared.dials) {
            let (entry, dial) = (Arc::clone(entry), dial.clone());
            node.spawn("dial", move |shared| node_dial::run(shared, &entry, &dial))?;
        }
        node.spawn("accept", node_accept::run)?;
        node.spawn("slots", upkeep)?;
        Ok(node)
    }

    /// Starts a thread whose work begins anew after a defect.
    fn spawn(
        &self,
        name: &'static str,
        work: impl Fn(&Arc<Shared>) + Send + 'static,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let guarded = move || {
            while catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() && !shared.is_closing()
            {
                tracing::error!(thread = name, "a thread of the node broke down; it begins anew");
                let alarm = Alarm::new(shared.runtime.clock().as_ref());
                shared.watch(&alarm);
                shared.pause(&alarm, UPKEEP_EVERY);
            }
        };
        let worker = self.shared.runtime.spawn_worker(name, guarded)?;
        self.workers.lock().push(worker);
        Ok(())
    }

    fn announce(&self) -> Result<()> {
        let shared = &self.shared;
        let tree = shared.store.tree();
        // Nothing is counted here that grows with the data: the start waits for this.
        let stats = tree.replication_bounds()?;
        tracing::info!(
            node = %format!("{:032x}", shared.store.node()),
            name = %shared.options.name,
            head = tree.position().rev,
            journal_from = stats.journal_first_rev,
            entries = tree.position().rev.saturating_sub(stats.journal_first_rev.saturating_sub(1)),
            // Below that a follower is filled anew.
            told_from = stats.gc_floor,
            dials = shared.dials.len(),
            followers = shared.store.slots(shared.now())?.len(),
            "replication begins"
        );
        Ok(())
    }

    /// Where it stands.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads a record of the journal for each follower that is behind.
    pub fn status(&self) -> Result<NodeStatus> {
        let shared = &self.shared;
        let (store, now) = (&shared.store, shared.now());
        let (_, counted) = *shared.counted.lock();
        let (links, ended) = self.links_and_ended();
        Ok(NodeStatus {
            node: format!("{:032x}", store.node()),
            name: shared.options.name.clone(),
            head: store.tree().position().rev,
            zones: shared.topology.zone_status(),
            links,
            slots: store.slots(now)?,
            fills: store.fills(),
            ended,
            slots_ended: store.slots_ended(),
            stats: ReplicationStats {
                by_rev_entries: counted.by_rev_entries,
                tombstones: counted.tombstones,
                clears: counted.clears,
                ..store.tree().replication_bounds()?
            },
            resyncs: self.resyncs()?,
            set_asides: store.kept().set_aside_count()?,
            now: now.mono,
        })
    }

    /// Counts what is kept for followers, for the next status, unless that was done lately.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads every stamp, a second or so for a million; the next count is due after twenty times
    /// as long. Returns at once while another call counts.
    pub fn count(&self) -> Result<()> {
        let shared = &self.shared;
        let Some(_one) = shared.counting.try_lock() else { return Ok(()) };
        let begin = shared.now().mono;
        if begin < shared.counted.lock().0 {
            return Ok(());
        }
        let stats = shared.store.tree().replication_stats()?;
        let took = shared.now().mono.saturating_sub(begin);
        *shared.counted.lock() = (begin + took * COUNT_SHARE, stats);
        Ok(())
    }

    /// Links that this node makes, then those that peers made.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links_and_ended().0
    }

    fn links_and_ended(&self) -> (Vec<LinkStatus>, (u64, SessionStatus)) {
        let shared = &self.shared;
        let now = shared.now().mono;
        let dialed = shared.dials.iter().map(|entry| entry.status(now));
        let mut links: Vec<LinkStatus> = dialed.collect();
        // Locked to the end: a link that ends meanwhile counts once.
        let accepted = shared.accepted.lock();
        links.extend(accepted.values().map(|one| one.entry.status(now)));
        let ended = shared.ended.lock().clone();
        (links, ended)
    }

    /// Prefixes at or around a path that are not ready; all of them for the root.
    #[must_use]
    pub fn not_ready(&self, path: &Path) -> Vec<NotReady> {
        let now = self.shared.now().mono;
        let mut found = Vec::new();
        for zone in self.shared.topology.zone_status() {
            let pulled = matches!(zone.mode, "replica" | "readonly" | "sync" | "source");
            let near = covers(zone.path.key(), path.key()) || covers(path.key(), zone.path.key());
            let Some(link) = zone.link.filter(|_| pulled && near) else { continue };
            let entry = self.shared.dials.iter().find(|entry| entry.id == link.as_ref());
            let session = entry.map(|entry| entry.status(now).session).unwrap_or_default();
            if let Some(reason) = lacks(&session, now) {
                found.push(NotReady { path: zone.path, reason: reason.to_owned() });
            }
        }
        found
    }

    /// Compares what is followed over a link with its source and changes nothing; the outcome is
    /// in the status (`answered`, `differing`). All links that this node makes without
    /// an id. Returns at once: the comparison begins when both ends stand at the same commit, and
    /// is tried again until they do. What differs is compared twice: a leaf that ends by itself
    /// ends at its own time on each clock.
    ///
    /// # Errors
    /// `NotFound` for no such link, `Unavailable` while it is down.
    pub fn verify(&self, link: Option<&str>) -> Result<()> {
        self.ask_all(link, Asked { verify: true, ..Asked::default() })
    }

    /// As [`Node::verify`], and makes what differs as it is at the source, one commit for each leaf
    /// (`repaired`); then compares again. Where both nodes write, what only this one has stays: the
    /// source is to fetch it.
    ///
    /// # Errors
    /// As for [`Node::verify`].
    pub fn repair(&self, link: Option<&str>) -> Result<()> {
        self.ask_all(link, Asked { repair: true, ..Asked::default() })
    }

    fn ask_all(&self, link: Option<&str>, asked: Asked) -> Result<()> {
        match link {
            Some(link) => self.ask(link, asked),
            None => {
                let ask = |entry: &Arc<LinkEntry>| self.ask(&entry.id, asked);
                self.shared.dials.iter().map(ask).fold(Ok(()), Result::and)
            }
        }
    }

    /// Fills what is followed over a link anew, at once where the link is up and else when it next
    /// is: what was asked for is durable on return, and in the status until it begins. Whether the
    /// link is up. Returns at once.
    ///
    /// # Errors
    /// `NotFound` for no such link; `InvalidInput` for one over which nothing is followed; those of
    /// the tree.
    pub fn resync(&self, link: &str) -> Result<bool> {
        let entry = self.entry(link)?;
        self.shared.store.kept().ask_resync(self.shared.topology.feed_of(link)?)?;
        Ok(entry.mail.ask(Asked { resync: true, ..Asked::default() }))
    }

    fn resyncs(&self) -> Result<Vec<String>> {
        let asked = self.shared.store.kept().resyncs()?;
        let dials = self.shared.topology.dials().iter();
        let is_asked =
            |feed: Option<&str>| feed.is_some_and(|feed| asked.iter().any(|one| one == feed));
        Ok(dials.filter(|dial| is_asked(dial.feed())).map(|dial| dial.id.to_string()).collect())
    }

    /// What this node wrote that was set aside before it was replaced.
    ///
    /// # Errors
    /// Those of the tree.
    ///
    /// # Cost
    /// Reads all of it.
    pub fn set_asides(&self) -> Result<Vec<SetAside>> {
        self.shared.store.kept().set_asides()
    }

    /// Removes what was set aside under a name of [`Node::set_asides`]; whether there was any.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; those of the tree.
    pub fn drop_set_aside(&self, name: &str) -> Result<bool> {
        self.shared.store.kept().drop_set_aside(name)
    }

    /// The link of this name that this node makes.
    fn entry(&self, link: &str) -> Result<&Arc<LinkEntry>> {
        let id = &self.shared.topology.dial(link)?.id;
        let entry = self.shared.dials.iter().find(|entry| entry.id == id.as_ref());
        entry.ok_or_else(|| Error::new(ErrorKind::NotFound, "this node makes no such link"))
    }

    fn ask(&self, link: &str, asked: Asked) -> Result<()> {
        let entry = self.entry(link)?;
        if entry.mail.ask(asked) {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Unavailable, "the link is down; try again");
        Err(error.context("link", link))
    }

    /// Forgets a follower; whether there was one. If it comes back it is filled anew or by what
    /// changed.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn drop_slot(&self, consumer: &str) -> Result<bool> {
        self.shared.store.drop_slot(consumer)
    }

    /// Ends the links and the replicator, writes where the followers are, and returns when its
    /// threads have ended. Writes that would be forwarded are refused from then on. Idempotent.
    ///
    /// # Cost
    /// Some seconds at most for peers that take nothing.
    pub fn close(&self) {
        let shared = &self.shared;
        // Held to the end: whoever closes a second time returns when it is closed.
        let mut workers = self.workers.lock();
        let first = shared.begin_close();
        for worker in workers.drain(..) {
            worker.join();
        }
        // Nobody accepts any more: what is here is all there is.
        let links: Vec<Worker> =
            shared.accepted.lock().values_mut().filter_map(|one| one.worker.take()).collect();
        links.into_iter().for_each(Worker::join);
        if !first {
            return;
        }
        let clock = shared.runtime.clock().as_ref();
        let alarm = Alarm::new(clock);
        let mut closing: Boxed<'_, Result<()>> = shared.replicator.close();
        let deadline = node_poll::deadline_in(clock, CLOSE_WAIT);
        let _ended = node_poll::wait(&mut closing, &alarm, clock, Some(deadline), &|| false);
        if let Err(error) = shared.store.write_slots(shared.now()) {
            tracing::warn!(%error, "where the followers are is not written; they send it again");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why what is followed over a link is not what its source has.
fn lacks(session: &SessionStatus, now: Duration) -> Option<&'static str> {
    let Some(pull) = session.pull.as_ref().filter(|_| session.link == LinkState::Up) else {
        return Some("not_connected");
    };
    if !pull.complete {
        return Some("not_complete");
    }
    match pull.state {
        FeedState::Tail => {}
        FeedState::Connecting => return Some("not_connected"),
        state => return Some(state.name()),
    }
    let level = pull.level_at.is_some_and(|at| now.saturating_sub(at) <= BEHIND_AFTER);
    (!level && pull.position < pull.head).then_some("behind")
}

/// Looks after the followers until the node closes.
fn upkeep(shared: &Arc<Shared>) {
    let alarm = Alarm::new(shared.runtime.clock().as_ref());
    shared.watch(&alarm);
    while !shared.is_closing() {
        match shared.store.upkeep(shared.now()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => tracing::warn!(%error, "followers are not looked after; again later"),
        }
        shared.pause(&alarm, UPKEEP_EVERY);
    }
}
