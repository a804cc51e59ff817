//! The world of one seed: nodes, links, and one event after the other.
//!
//! Everything is decided by the seed: when a message arrives, when a task is done, who writes what,
//! what breaks. No thread of a tree decides anything: clocks wake nobody, what is due is removed
//! before anything else happens at a node, and the overlay is applied when the world says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use trellis_topology::{Action, Event, TaskOutcome};

use super::clock::Time;
use super::engines::Ending;
use super::model::Model;
use super::network::{LinkId, Network, Side};
use super::node::{Life, SimNode, Waiter, millis};
use super::plan::Tuning;
use super::rewind::Archive;
use super::shapes::Shape;
use super::trace::Trace;
use super::wiring::Wiring;
use super::workload::Wish;
use crate::Rng;

/// Takes down what happened, at the time of the simulation.
macro_rules! note {
    ($world:expr, $($what:tt)*) => {{
        let now = $world.time.now();
        $world.trace.note(now, format_args!($($what)*));
    }};
}
pub(super) use note;

/// More than any run comes to that is not going round in circles.
const HAPPENINGS_MAX: u64 = 60_000;

/// Wakings of a session at one moment.
const TICKS_MAX: u32 = 100;

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A message may have arrived at an end.
    Arrive(LinkId, Side),
    /// A session does its next task.
    Work(usize, LinkId),
    /// A session's deadline.
    Tick(usize, LinkId),
    /// An end notices that its link is gone.
    Gone(usize, LinkId),
    /// A node dials one of its peers.
    Dial(usize, usize),
    /// A node starts.
    Start(usize),
    /// A node's overlay is applied, and what is old given free.
    Upkeep(usize),
    /// Somebody writes.
    Write,
    /// Something breaks.
    Break,
    /// A direction gets through again.
    Unblock(usize, usize),
    /// Something of what only rough seeds have goes wrong.
    Trouble,
    /// A full disk has room again.
    Room(usize),
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    /// What further troubles are drawn from.
    pub(super) troubles: Option<Rng>,
    pub(super) time: Time,
    pub(super) tuning: Tuning,
    pub(super) shape: Shape,
    pub(super) wirings: Vec<Arc<Wiring>>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) network: Network,
    pub(super) agenda: BTreeSet<(u64, u64, Happening)>,
    numbers: u64,
    pub(super) model: Model,
    pub(super) trace: Trace,
    pub(super) wishes: BTreeMap<String, Wish>,
    pub(super) serial: u64,
    pub(super) left_to_wish: u64,
    pub(super) calm: bool,
    pub(super) backups: BTreeMap<usize, Archive>,
    /// Nodes that were restored, counted.
    pub(super) restored: usize,
    /// Nodes and those of their links on which every feed was opened once.
    pub(super) met: BTreeSet<(usize, usize)>,
    pub(super) commits: u64,
    pub(super) happenings: u64,
    pub(super) failure: Option<String>,
    /// Where each feed stood when it was looked at last: history, rev, whether at its tail.
    pub(super) positions: BTreeMap<(usize, String), (String, u64, bool)>,
    /// Commits that changed nothing.
    pub(super) idle: BTreeSet<String>,
}

impl World {
    pub(super) fn now(&self) -> u64 {
        self.time.now()
    }

    /// The first failure is the one that counts.
    pub(super) fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            note!(self, "FAILED: {why}");
            self.failure = Some(why);
        }
    }

    pub(super) fn plan(&mut self, delay: u64, what: Happening) {
        self.plan_at(self.now() + delay, what);
    }

    fn plan_at(&mut self, at: u64, what: Happening) {
        self.numbers += 1;
        self.agenda.insert((at, self.numbers, what));
    }

    pub(super) fn chance_up_to(&mut self, most: u64) -> u64 {
        self.rng.below(most as usize + 1) as u64
    }

    /// A world at its beginning: every node is about to start.
    pub(super) fn new(seed: u64, keep_all: bool, shape: Shape, tuning: Tuning, rng: Rng) -> Self {
        let nodes = shape.nodes.iter().map(|node| SimNode::new(&node.name)).collect();
        let wirings = shape.nodes.iter().map(|node| Arc::new(Wiring::new(&node.spec, &shape)));
        let wirings = wirings.collect();
        let mut world = Self {
            seed,
            rng,
            troubles: None,
            time: Time::default(),
            left_to_wish: tuning.wishes,
            tuning,
            shape,
            wirings,
            nodes,
            network: Network::default(),
            agenda: BTreeSet::new(),
            numbers: 0,
            model: Model::default(),
            trace: Trace::new(keep_all),
            wishes: BTreeMap::new(),
            serial: 0,
            calm: false,
            backups: BTreeMap::new(),
            restored: 0,
            met: BTreeSet::new(),
            commits: 0,
            happenings: 0,
            failure: None,
            positions: BTreeMap::new(),
            idle: BTreeSet::new(),
        };
        for node in 0..world.nodes.len() {
            let delay = if world.rng.one_in(4) { world.chance_up_to(20_000) } else { 0 };
            world.plan(delay, Happening::Start(node));
        }
        let gap = world.tuning.work_ms / world.tuning.wishes;
        world.plan(gap, Happening::Write);
        if let Some(gap) = world.tuning.fault_ms {
            world.plan(gap, Happening::Break);
        }
        world
    }

    /// Lets everything happen up to a time.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.failure.is_none() {
            let Some(&next) = self.agenda.first() else { break };
            if next.0 > end {
                break;
            }
            self.agenda.remove(&next);
            self.happenings += 1;
            if self.happenings > HAPPENINGS_MAX {
                let heads: Vec<u64> = self.heads();
                return self.fail(format!("it goes round in circles: {heads:?}"));
            }
            self.time.set(next.0.max(self.now()));
            self.happen(next.2);
        }
        self.time.set(end.max(self.now()));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive(link, side) => self.arrive(link, side),
            Happening::Work(node, link) => self.work(node, link),
            Happening::Tick(node, link) => self.tick(node, link),
            Happening::Gone(node, link) => self.gone(node, link),
            Happening::Dial(node, peer) => self.dial(node, peer),
            Happening::Start(node) => self.start(node),
            Happening::Upkeep(node) => self.upkeep(node),
            Happening::Write => self.write(),
            Happening::Break => self.break_something(),
            Happening::Unblock(from, to) => self.unblock(from, to),
            Happening::Trouble => self.trouble(),
            Happening::Room(node) => self.make_room(node),
        }
    }

    /// The node, if it is up, with what was due there removed.
    pub(super) fn awake(&mut self, node: usize) -> Option<&mut Life> {
        let life = self.nodes[node].life.as_mut()?;
        let _dead = life.tree.settle();
        if life.machine.is_full() {
            // Of a full log the tree makes room in a thread of its own.
            life.rest();
        }
        if life.machine.is_dead() {
            self.ended_by_itself(node);
            return None;
        }
        self.nodes[node].life.as_mut()
    }

    fn arrive(&mut self, link: LinkId, side: Side) {
        let Some(found) = self.network.links.get(&link) else { return };
        let node = found.nodes[side];
        let now = self.now();
        while let Some(message) = self.network.arrived(link, side, now) {
            if !self.network.links.get(&link).is_some_and(|link| link.open[side]) {
                return;
            }
            self.step(node, link, Event::Received(message));
        }
    }

    fn work(&mut self, node: usize, link: LinkId) {
        let time = self.time.clone();
        let now = self.nodes[node].now(&time);
        let Some(life) = self.awake(node) else { return };
        let Some(seat) = life.seats.get_mut(&link) else { return };
        let Some((id, task)) = seat.tasks.pop_front() else { return };
        let outcome = life.store.execute(now, task);
        let more = !seat.tasks.is_empty();
        if life.machine.is_dead() {
            return self.ended_by_itself(node);
        }
        if more {
            let delay = self.chance_up_to(self.tuning.task_ms);
            self.plan(delay, Happening::Work(node, link));
        }
        self.step(node, link, Event::Done(id, outcome));
        self.tell_head(node);
    }

    fn tick(&mut self, node: usize, link: LinkId) {
        let now = self.now();
        let Some(life) = self.awake(node) else { return };
        let Some(seat) = life.seats.get_mut(&link) else { return };
        if seat.tick_at.is_none_or(|planned| planned > now) {
            // It was planned anew, for later.
            return;
        }
        seat.tick_at = None;
        let due = seat.session.deadline().is_some_and(|at| millis(at) <= now);
        if due {
            seat.ticks = if seat.ticks.0 == now { (now, seat.ticks.1 + 1) } else { (now, 1) };
            if seat.ticks.1 > TICKS_MAX {
                let name = self.nodes[node].name.clone();
                return self.fail(format!("link {link} at {name} wants to be woken for ever"));
            }
            self.step(node, link, Event::Tick);
        } else {
            self.plan_tick(node, link);
        }
    }

    fn plan_tick(&mut self, node: usize, link: LinkId) {
        let now = self.now();
        let Some(life) = &mut self.nodes[node].life else { return };
        let Some(seat) = life.seats.get_mut(&link) else { return };
        let Some(at) = seat.session.deadline().map(|at| millis(at).max(now)) else { return };
        if seat.tick_at.is_none_or(|planned| at < planned) {
            seat.tick_at = Some(at);
            self.plan_at(at, Happening::Tick(node, link));
        }
    }

    /// Tells every session of a node of its newest commit.
    pub(super) fn tell_head(&mut self, node: usize) {
        let Some(life) = self.awake(node) else { return };
        let head = life.head();
        let behind = life.seats.iter_mut().filter(|(_, seat)| seat.head < head);
        let behind: Vec<LinkId> = behind
            .map(|(link, seat)| {
                seat.head = head;
                *link
            })
            .collect();
        for link in behind {
            self.step(node, link, Event::Committed(head));
        }
    }

    /// One step of a session, and everything that it wants done.
    pub(super) fn step(&mut self, node: usize, link: LinkId, event: Event) {
        let time = self.time.clone();
        let now = self.nodes[node].now(&time);
        let Some(life) = self.awake(node) else { return };
        let Some(seat) = life.seats.get_mut(&link) else { return };
        let side = seat.side;
        let actions = seat.session.step(now, event);
        for action in actions {
            if self.failure.is_some() || self.nodes[node].life.is_none() {
                return;
            }
            self.act(node, link, side, action);
        }
        self.plan_tick(node, link);
    }

    fn act(&mut self, node: usize, link: LinkId, side: Side, action: Action) {
        match action {
            Action::Send { bytes, .. } => self.send(link, side, bytes),
            Action::Do(id, task) => {
                let delay = self.chance_up_to(self.tuning.task_ms);
                let Some(life) = &mut self.nodes[node].life else { return };
                let Some(seat) = life.seats.get_mut(&link) else { return };
                seat.tasks.push_back((id, task));
                if seat.tasks.len() == 1 {
                    self.plan(delay, Happening::Work(node, link));
                }
            }
            Action::Route(id, request) => self.route(node, link, id, request),
            Action::Forwarded(id, outcome) => {
                let waiter =
                    self.nodes[node].life.as_mut().and_then(|life| life.waiting.remove(&id));
                match waiter {
                    Some(Waiter::Caller(key)) => self.answered(node, &key, &outcome),
                    Some(Waiter::Seat(link, id)) => {
                        self.step(node, link, Event::Done(id, TaskOutcome::Routed(outcome)));
                    }
                    None => self.fail("a write is answered twice".to_owned()),
                }
            }
            Action::Close(refusal) => {
                note!(
                    self,
                    "{} ends link {link}: {} {}",
                    self.nodes[node].name,
                    refusal.reason.code(),
                    refusal.message
                );
                self.leave(node, link, refusal.reason.into());
                self.plan_gone_at_other_end(link, side);
            }
        }
    }

    fn send(&mut self, link: LinkId, side: Side, bytes: Bytes) {
        let now = self.now();
        if let Some(at) = self.network.send(link, side, bytes, now, &mut self.rng) {
            self.plan_at(at, Happening::Arrive(link, 1 - side));
        }
    }

    /// The machine of a node ran into its end.
    pub(super) fn ended_by_itself(&mut self, node: usize) {
        let ending = if self.rng.one_in(2) { Ending::Kill } else { Ending::PowerLoss };
        self.crash(node, ending);
    }
}
