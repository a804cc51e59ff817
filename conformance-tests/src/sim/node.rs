//! A node of the simulation: a real tree on disks that crash, a real store, and a session a link.
//!
//! What a driver of links would do with threads happens here one step at a time, when the world
//! says so: tasks one after the other, and between any two of them anything else may happen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use trellis_runtime::{Clock as _, Runtime, RuntimeOptions, SeededRandom};
use trellis_topology::{Backoff, ForwardId, Kept, Now, Session, Store, Task, TaskId};
use trellis_tree::{Tree, TreeOptions};

use super::clock::{NodeClock, Rest, Time};
use super::engines::{Disks, Ending, Machine};
use super::network::{LinkId, Side};
use super::plan::Tuning;
use super::wiring::Wiring;

/// A session at one end of a link.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Session,
    pub(super) side: Side,
    pub(super) peer: usize,
    pub(super) tasks: VecDeque<(TaskId, Task)>,
    /// The newest commit that it was told of.
    pub(super) head: u64,
    /// When it is stepped next without a reason.
    pub(super) tick_at: Option<u64>,
    pub(super) since: u64,
    /// When it was woken last by its deadline, and how often at that moment.
    pub(super) ticks: (u64, u32),
}

/// Who waits for the answer to a forwarded write.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller of this node.
    Caller(String),
    /// A peer's session.
    Seat(LinkId, TaskId),
}

/// Another node that this one dials.
#[derive(Debug, Default)]
pub(super) struct Dialing {
    pub(super) link: Option<LinkId>,
    pub(super) backoff: Backoff,
}

/// A node between start and end.
#[derive(Debug)]
pub(super) struct Life {
    // Declared first, so that it goes first: it holds the journal of the tree.
    pub(super) store: Store,
    pub(super) tree: Tree,
    pub(super) machine: Machine,
    rest: Arc<Rest>,
    pub(super) topology: Arc<Wiring>,
    pub(super) seats: BTreeMap<LinkId, Seat>,
    pub(super) dialing: Vec<Dialing>,
    pub(super) waiting: BTreeMap<ForwardId, Waiter>,
    pub(super) forwards: u64,
}

#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) name: String,
    pub(super) disks: Disks,
    pub(super) skew_ms: Arc<AtomicI64>,
    pub(super) life: Option<Life>,
    pub(super) starts: u64,
    /// The commit that was under way when the machine ended.
    pub(super) in_doubt: Option<String>,
}

impl SimNode {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            disks: Disks::default(),
            skew_ms: Arc::default(),
            life: None,
            starts: 0,
            in_doubt: None,
        }
    }

    /// Opens what is on the disks. The machine may end meanwhile: then there is no life.
    pub(super) fn start(
        &mut self,
        time: &Time,
        tuning: &Tuning,
        topology: Arc<Wiring>,
        seed: u64,
    ) -> Result<(), String> {
        self.starts += 1;
        let (machine, kv, log) = Machine::start(&self.disks);
        let clock = NodeClock::new(time, &self.skew_ms);
        let rest = clock.rest();
        let runtime = Runtime::new(RuntimeOptions {
            clock: Arc::new(clock),
            random: Arc::new(SeededRandom::new(seed.wrapping_add(self.starts))),
            pool_threads: 1,
            pool_queue_max: 16,
        });
        if let Some((calls, happens)) = tuning.fuse_at_start(seed, self.starts) {
            machine.burn(calls, happens);
        }
        let options = TreeOptions { zoning: Some(topology.zoning()), ..tuning.tree() };
        let opened = Tree::open(kv, log, runtime, options).and_then(|tree| {
            rest.wait();
            let store = Store::open(tree.clone(), tuning.slots.clone())?;
            Kept::new(tree.clone()).begin_changed(topology.dials.iter().map(|dial| &dial.plan))?;
            Ok((store, tree))
        });
        match opened {
            Ok((store, tree)) => {
                let dialing = topology.dials.iter().map(|_| Dialing::default()).collect();
                self.life = Some(Life {
                    store,
                    tree,
                    machine,
                    rest,
                    topology,
                    seats: BTreeMap::new(),
                    dialing,
                    waiting: BTreeMap::new(),
                    forwards: 0,
                });
                Ok(())
            }
            Err(_) if machine.is_dead() => {
                machine.end(Ending::Kill);
                Ok(())
            }
            Err(error) => Err(format!("{} does not open: {error}", self.name)),
        }
    }

    /// The machine ends; what it had in memory is gone.
    pub(super) fn end(&mut self, ending: Ending) -> Option<Life> {
        let life = self.life.take()?;
        life.machine.end(ending);
        Some(life)
    }

    pub(super) fn now(&self, time: &Time) -> Now {
        let clock = NodeClock::new(time, &self.skew_ms);
        Now { mono: clock.monotonic(), wall_ms: clock.now_ms() }
    }

    pub(super) fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Life {
    pub(super) fn head(&self) -> u64 {
        self.tree.view().map_or(0, |view| view.rev())
    }

    /// What is to be done from time to time: slots, and what is old.
    pub(super) fn upkeep(&self, now: Now) {
        let _dead_or_done = self.store.upkeep(now);
    }

    /// Waits for what the tree does by itself.
    pub(super) fn rest(&self) {
        self.rest.wait();
    }

    /// Brings the overlay into the store, and waits for what the tree does behind that.
    pub(super) fn apply(&self) {
        let _dead_or_done = self.tree.flush();
        self.rest.wait();
    }
}

/// A time as the simulation counts it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
