//! Nodes of real trees, stores and sessions in one thread, with links that only carry messages.
//!
//! A case says what is connected and cut, and lets everything settle: until no message is on its
//! way and every node has seen the newest commit of its own tree. Time stands until a case moves
//! it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trellis_archive::{ArchiveReader, Backup, Restore, Until};
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_topology::{
    Admission, Event, ForwardId, ForwardOutcome, ForwardRequest, PeerIdentity, Refusal, Role,
    Session, SessionConfig, SessionOptions, SlotOptions, Store, TaskId, Topology, TopologySpec,
};
use trellis_tree::{Commit, CommitError, Committed, Seeding, Tree, TreeOptions};

use super::carry::{Carrier, Wire};
use crate::Factory;
use crate::tree::{Ground, TreeWorld};

/// Steps after which nodes that still talk are taken for a loop.
const STEPS_MAX: usize = 1_000_000;

/// Fleets so far: each has directories of its own.
static FLEETS: AtomicU64 = AtomicU64::new(0);

/// Who waits for the answer of a forwarded write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiter {
    Caller,
    Peer(usize, TaskId),
}

/// A node while it is open.
pub(super) struct Life {
    // Goes first: it holds the journal of the tree.
    pub(super) store: Store,
    pub(super) tree: Tree,
    pub(super) topology: Arc<Topology>,
    pub(super) admission: Arc<Admission>,
    pub(super) told: u64,
    pub(super) waiting: BTreeMap<ForwardId, Waiter>,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) roles: Vec<String>,
    pub(super) spec: TopologySpec,
    pub(super) dir: PathBuf,
    pub(super) ground: Option<Arc<Ground>>,
    pub(super) life: Option<Life>,
    pub(super) forwards: u64,
    pub(super) answers: BTreeMap<ForwardId, ForwardOutcome>,
    pub(super) cut: bool,
    /// How the last link to each url ended.
    pub(super) ended: BTreeMap<String, Refusal>,
}

/// One end of a link.
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) session: Session,
    /// Messages for it.
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) open: bool,
}

/// A link: the end that dialed and the one that accepted.
pub(super) struct Link {
    pub(super) id: String,
    pub(super) seats: [Seat; 2],
    /// What carries its messages, if not queues.
    pub(super) wire: Option<Wire>,
}

/// Some nodes, and the links between them.
pub(crate) struct Fleet {
    factory: Factory<Ground>,
    dir: PathBuf,
    carrier: Option<Arc<Carrier>>,
    number: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    pub(super) mono: Duration,
    pub(super) clock: Arc<SimulatedClock>,
    starts: u64,
    pub(crate) session: SessionOptions,
    pub(crate) slots: SlotOptions,
    pub(crate) tree: TreeOptions,
    /// Bytes of the largest message, and of all.
    pub(crate) largest: usize,
    pub(crate) sent: usize,
}

impl Fleet {
    /// No node yet, on the engines of a world.
    pub(crate) fn new(world: &TreeWorld) -> Self {
        Self {
            factory: world.factory().clone(),
            dir: world.dir().to_owned(),
            carrier: super::carry::carrier(),
            number: FLEETS.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            links: Vec::new(),
            mono: Duration::from_secs(1_000),
            clock: Arc::new(SimulatedClock::at(1_700_000_000_000)),
            starts: 0,
            // Time stands still while messages are carried.
            session: SessionOptions { rest_max: Duration::ZERO, ..SessionOptions::default() },
            slots: SlotOptions::default(),
            tree: TreeOptions::default(),
            largest: 0,
            sent: 0,
        }
    }

    /// A new node, open and not connected.
    pub(crate) fn add(&mut self, name: &str, spec: TopologySpec) {
        let dir = self.dir.join(format!("fleet-{}-{name}", self.number));
        std::fs::create_dir_all(&dir).expect("a directory");
        self.nodes.push(Node {
            name: name.to_owned(),
            roles: vec!["edge".to_owned()],
            spec,
            dir,
            ground: None,
            life: None,
            forwards: 0,
            answers: BTreeMap::new(),
            cut: false,
            ended: BTreeMap::new(),
        });
        self.start(name);
    }

    /// The place of a node.
    pub(crate) fn at(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    fn life(&self, name: &str) -> &Life {
        self.nodes[self.at(name)].life.as_ref().expect("the node is open")
    }

    /// The tree of a node.
    pub(crate) fn tree(&self, name: &str) -> Tree {
        self.life(name).tree.clone()
    }

    /// The topology of a node.
    pub(crate) fn topology(&self, name: &str) -> Arc<Topology> {
        Arc::clone(&self.life(name).topology)
    }

    /// Opens a node that is closed.
    pub(crate) fn start(&mut self, name: &str) {
        let at = self.at(name);
        let (tree_options, slots) = (self.tree.clone(), self.slots.clone());
        self.starts += 1;
        let (clock, random) = (Arc::clone(&self.clock), SeededRandom::new(self.starts));
        let random = Arc::new(random);
        let runtime = Runtime::new(RuntimeOptions { clock, random, ..RuntimeOptions::default() });
        let node = &mut self.nodes[at];
        let topology = Topology::compile(&node.spec);
        let topology = Arc::new(topology.unwrap_or_else(|error| panic!("{name}: {error}")));
        let factory = &self.factory;
        let ground = node
            .ground
            .get_or_insert_with(|| factory.open(&node.dir).expect("a ground is only a directory"));
        let options = TreeOptions { zoning: Some(topology.zoning()), ..tree_options };
        let tree = ground.open_on(runtime, options).expect("the tree opens");
        let store = Store::open(tree.clone(), slots).expect("the store opens");
        node.life = Some(Life {
            store,
            tree,
            admission: Arc::new(Admission::new(Arc::clone(&topology))),
            topology,
            told: 0,
            waiting: BTreeMap::new(),
        });
    }

    /// Closes a node; its links are down.
    pub(crate) fn stop(&mut self, name: &str) {
        let at = self.at(name);
        self.drop_links(|link| link.seats.iter().any(|seat| seat.node == at));
        if let Some(life) = self.nodes[at].life.take() {
            drop(life.store);
            match life.tree.close() {
                // What it has no room for in the store is in the journal.
                Err(error) if error.fact("reason") == Some("storage_full") => {}
                closed => closed.expect("the tree closes"),
            }
        }
    }

    /// What a backup of a node holds.
    pub(crate) fn backup(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let backup = Backup::full(&self.tree(name), &Runtime::system()).expect("it begins");
        backup.write_to(&mut bytes, &mut |_| {}).expect("it is written");
        bytes
    }

    /// Replaces a node's data by what a backup holds: it is another node by the same name.
    pub(crate) fn restore(&mut self, name: &str, backup: &[u8]) {
        self.stop(name);
        let at = self.at(name);
        let dir = self.nodes[at].dir.join("restored");
        std::fs::create_dir_all(&dir).expect("a directory");
        let ground = self.factory.open(&dir).expect("a ground is only a directory");
        let (kv, log) = ground.engines().expect("the engines open");
        let header = *ArchiveReader::new(backup).expect("an archive").header();
        let source = Restore::source(&header, Until::Newest);
        let seeding = Seeding::begin(kv, log, &Runtime::system(), source).expect("it begins");
        let mut restore = Restore::new(seeding, Until::Newest);
        let mut archive = ArchiveReader::new(backup).expect("an archive");
        restore.archive(&mut archive, &mut |_, _, _| {}).expect("it is read");
        restore.finish().expect("it is restored");
        let node = &mut self.nodes[at];
        drop(node.ground.replace(ground));
        let old = std::mem::replace(&mut node.dir, dir);
        self.factory.dir_is_gone(&old);
        self.start(name);
    }

    /// A new node in a directory of its own choice.
    pub(crate) fn add_in(&mut self, dir: PathBuf, name: &str, spec: TopologySpec) {
        let own = std::mem::replace(&mut self.dir, dir);
        self.add(name, spec);
        self.dir = own;
    }

    /// Closes a node and opens it with another configuration.
    pub(crate) fn reconfigure(&mut self, name: &str, spec: TopologySpec) {
        self.stop(name);
        let at = self.at(name);
        self.nodes[at].spec = spec;
        self.start(name);
    }

    pub(crate) fn restart(&mut self, name: &str) {
        self.stop(name);
        self.start(name);
    }

    /// Cuts all links of a node, until `heal`.
    pub(crate) fn cut(&mut self, name: &str) {
        let at = self.at(name);
        self.nodes[at].cut = true;
        self.drop_links(|link| link.seats.iter().any(|seat| seat.node == at));
    }

    pub(crate) fn heal(&mut self, name: &str) {
        let at = self.at(name);
        self.nodes[at].cut = false;
        self.settle();
    }

    /// Lets time pass, for records and for sessions.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.mono += Duration::from_millis(ms);
        self.clock.advance_ms(ms);
        for at in 0..self.links.len() {
            for side in 0..2 {
                let due = self.links[at].seats[side].session.deadline();
                if due.is_some_and(|due| due <= self.mono) {
                    self.step(at, side, Event::Tick);
                }
            }
        }
        self.settle();
    }

    /// Dials what is configured and not linked, and carries messages until none is left.
    pub(crate) fn settle(&mut self) {
        assert!(self.settle_for(STEPS_MAX), "the nodes do not come to rest");
    }

    /// The same for some rounds of messages; answers whether none is left.
    pub(crate) fn settle_for(&mut self, rounds: usize) -> bool {
        self.dial_all();
        for _ in 0..rounds {
            let mut moved = self.tell_heads();
            for at in 0..self.links.len() {
                for side in 0..2 {
                    if let Some(message) = self.links[at].seats[side].inbox.pop_front() {
                        self.step(at, side, Event::Received(message));
                        moved = true;
                    }
                }
            }
            for at in 0..self.links.len() {
                for side in 0..2 {
                    moved |= !moved && self.take_all(at, side);
                }
            }
            if !moved {
                self.links.retain(|link| link.seats.iter().all(|seat| seat.open));
                return true;
            }
        }
        false
    }

    /// What a node does from time to time: slots beyond their bounds, journal, what is old.
    pub(crate) fn upkeep(&mut self, name: &str) {
        let now = self.now();
        self.life(name).store.upkeep(now).expect("upkeep");
    }

    /// How often slots of a node ended, by reason.
    pub(crate) fn slots_ended(
        &self,
        name: &str,
    ) -> std::collections::BTreeMap<trellis_topology::SlotEnd, u64> {
        self.life(name).store.slots_ended()
    }

    fn dial_all(&mut self) {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let (Some(life), false) = (&node.life, node.cut) else { continue };
            for dial in life.topology.dials().to_vec() {
                let linked = |link: &Link| link.id == *dial.id && link.seats[0].node == at;
                if self.links.iter().any(linked) {
                    continue;
                }
                let target = self.nodes.iter().position(|node| node.name == dial.url);
                let target = target.unwrap_or_else(|| panic!("there is no node {}", dial.url));
                if self.nodes[target].life.is_none() || self.nodes[target].cut {
                    continue;
                }
                self.nodes[at].ended.remove(&dial.url);
                self.link(at, target, &dial);
            }
        }
    }

    fn link(&mut self, at: usize, target: usize, dial: &trellis_topology::Dial) {
        let life = self.nodes[target].life.as_ref().expect("it is open");
        let roles = [
            Role::Dialer(Box::new(dial.plan.clone())),
            Role::Acceptor(Arc::clone(&life.admission) as _),
        ];
        let seats = std::iter::zip([(at, target), (target, at)], roles);
        let seats: Vec<Seat> = seats
            .map(|((node, peer), role)| Seat {
                node,
                session: Session::new(role, self.config(node, peer)),
                inbox: VecDeque::new(),
                open: true,
            })
            .collect();
        let Ok(seats) = seats.try_into() else { unreachable!("two ends") };
        let wire = self.carrier.as_ref().map(|carrier| carrier.link());
        self.links.push(Link { id: dial.id.to_string(), seats, wire });
        let link = self.links.len() - 1;
        self.step(link, 0, Event::Connected);
        self.step(link, 1, Event::Connected);
    }

    fn config(&self, node: usize, peer: usize) -> SessionConfig {
        let (own, peer) = (&self.nodes[node], &self.nodes[peer]);
        let tree = &own.life.as_ref().expect("it is open").tree;
        SessionConfig {
            node: tree.node_id(),
            name: own.name.clone(),
            epoch: tree.identity().epoch,
            life: tree.identity().epoch,
            attempt: 1,
            head: super::tools::rev(tree),
            schema: 0,
            peer: PeerIdentity {
                name: peer.name.clone(),
                roles: peer.roles.clone(),
                loopback: true,
            },
            options: self.session.clone(),
        }
    }

    fn drop_links(&mut self, gone: impl Fn(&Link) -> bool) {
        for at in 0..self.links.len() {
            if gone(&self.links[at]) {
                for side in 0..2 {
                    self.links[at].seats[side].inbox.clear();
                    self.step(at, side, Event::Closed);
                    self.links[at].seats[side].open = false;
                }
                if let Some(wire) = &self.links[at].wire {
                    wire.close();
                }
            }
        }
        self.links.retain(|link| link.seats.iter().all(|seat| seat.open));
    }

    /// A caller's commit at a node: what it came to, with all that it brought about.
    pub(crate) fn commit(&mut self, name: &str, commit: Commit) -> Result<Committed, CommitError> {
        let at = self.at(name);
        let wait = Duration::from_secs(10);
        let request = ForwardRequest { commit, wait, hops: 0 };
        if let Some(answer) = self.route(at, request, Waiter::Caller) {
            self.settle();
            return answer;
        }
        let id = ForwardId(self.nodes[at].forwards);
        self.settle();
        self.nodes[at].answers.remove(&id).expect("the forwarded write is answered")
    }

    /// How the last link from one node to another ended.
    pub(crate) fn ended(&self, from: &str, to: &str) -> Option<&Refusal> {
        self.nodes[self.at(from)].ended.get(to)
    }

    /// Where the link of a node to its upstream or a source stands.
    pub(crate) fn status(&self, name: &str, link: &str) -> trellis_topology::SessionStatus {
        let at = self.at(name);
        let found = self.links.iter().find(|one| one.id == link && one.seats[0].node == at);
        found.unwrap_or_else(|| panic!("{name} is not connected")).seats[0].session.status().clone()
    }

    /// Sets the roles by which a node is known to others.
    pub(crate) fn set_roles(&mut self, name: &str, roles: &[&str]) {
        let at = self.at(name);
        self.nodes[at].roles = roles.iter().map(|role| (*role).to_owned()).collect();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for wire in self.links.iter().filter_map(|link| link.wire.as_ref()) {
            wire.close();
        }
        self.links.clear();
        for node in &mut self.nodes {
            if let Some(life) = node.life.take() {
                drop(life.store);
                drop(life.tree.close());
            }
            drop(node.ground.take());
            self.factory.dir_is_gone(&node.dir);
        }
    }
}
