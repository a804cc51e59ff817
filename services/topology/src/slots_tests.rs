//! What slots keep and let go of, where writes are refused and while what is gone is collected.

use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::{Fault, MemoryDisk, MemoryLog};
use trellis_runtime::{Alarm, Clock, Runtime, RuntimeOptions, SystemClock};
use trellis_tree::{Tree, TreeOptions};

use crate::message::{LogPosition, OpenAt, OpenMode};
use crate::session_tests::{FIVE, REPLACE, source};
use crate::store_tests::{Node, hub, node, with};
use crate::*;

const AWAY_MS: u64 = 25 * 3600 * 1000;

fn open(store: &Store, consumer: &str, at: Option<OpenAt>, now: Now) -> TaskOutcome {
    let (consumer, owner) = (consumer.to_owned(), "edge".to_owned());
    store.execute(now, Task::OpenSlot(OpenSlot { consumer, owner, at }))
}

fn opened(store: &Store, consumer: &str, at: Option<OpenAt>, now: Now) -> SlotOpened {
    match open(store, consumer, at, now) {
        TaskOutcome::Slot(opened) => opened,
        other => panic!("{other:?}"),
    }
}

/// How many slots hold journal.
fn holding(store: &Store) -> usize {
    store.slots.table.lock().slots.values().filter(|slot| slot.hold.is_some()).count()
}

fn written_ends(hub: &Node) -> usize {
    hub.get("_repl/slots").matches("invalid").count()
}

/// Promise: who is gone for good costs no journal, whether or not that can be written.
#[test]
fn a_slot_that_ends_while_nothing_can_be_written_lets_go_of_its_journal() {
    let hub = node(&hub());
    hub.set("users/u1", "1");
    let mut now = Now { mono: Duration::from_secs(1), wall_ms: 1_000 };
    for consumer in ["0a-down", "0b-down"] {
        opened(&hub.store, consumer, None, now);
        let close = Task::CloseSlot { consumer: consumer.into() };
        assert!(matches!(hub.store.execute(now, close), TaskOutcome::Done));
    }
    assert_eq!(holding(&hub.store), 2);
    let pause = hub.store.tree().pause_writes().unwrap();
    now.wall_ms += AWAY_MS;
    assert_eq!(hub.store.upkeep(now).unwrap().ended.len(), 2);
    assert_eq!((holding(&hub.store), written_ends(&hub)), (0, 0));
    assert_eq!(hub.store.upkeep(now).unwrap().ended.len(), 0, "it ended once");
    drop(pause);
    hub.store.upkeep(now).unwrap();
    assert_eq!(written_ends(&hub), 2, "it is written when it can be");
    let before = hub.store.tree().position().rev;
    hub.store.upkeep(now).unwrap();
    assert_eq!(hub.store.tree().position().rev, before, "and once");
}

/// Promise: who is told of a follower that is far behind is told before its slot ends, once.
#[test]
fn a_follower_that_is_far_behind_is_known_before_its_slot_ends() {
    let hub = node(&hub());
    let options = SlotOptions { tail_bytes_max: 100_000, ..SlotOptions::default() };
    let store = Store::open(hub.store.tree().clone(), options).unwrap();
    let now = Now { mono: Duration::from_secs(1), wall_ms: 1_000 };
    opened(&store, "0a-down", None, now);
    let stands = || {
        hub.set("users/u1", &format!("\"{}\"", "x".repeat(20_000)));
        store.upkeep(now).unwrap();
        let table = store.slots.table.lock();
        (table.slots["0a-down"].far, table.slots["0a-down"].invalid)
    };
    let rounds: Vec<_> = (0..8).map(|_| stands()).collect();
    let far = rounds.iter().position(|(far, _)| *far).unwrap();
    let ended = rounds.iter().position(|(_, end)| *end == Some(SlotEnd::Bytes)).unwrap();
    assert!(0 < far && far < ended, "{rounds:?}");
}

/// Promise: however many followers there are, they are written in few commits: each of them is told
/// of each commit.
#[test]
fn slots_that_moved_are_written_together() {
    let hub = node(&hub());
    let mut now = Now { mono: Duration::from_secs(1), wall_ms: 1_000 };
    let consumers: Vec<String> = (0..100).map(|number| format!("{number:02}-down")).collect();
    for consumer in &consumers {
        opened(&hub.store, consumer, None, now);
        hub.store.execute(now, Task::Filled { consumer: consumer.clone() });
    }
    hub.set("users/u1", "1");
    let tree = hub.store.tree();
    let rev = tree.position().rev;
    let at = LogPosition { log_id: hub.store.node(), rev, hash: tree.position().hash };
    now.mono += Duration::from_secs(7);
    for consumer in consumers {
        let moved = Task::AckSlot { consumer, at, applied: rev, settled: 0 };
        assert!(matches!(hub.store.execute(now, moved), TaskOutcome::Done));
    }
    hub.store.upkeep(now).unwrap();
    assert!(tree.position().rev - rev <= 3, "{} commits", tree.position().rev - rev);
    let reopened = Store::open(tree.clone(), SlotOptions::default()).unwrap();
    assert!(reopened.slots(now).unwrap().iter().all(|slot| slot.rev == rev), "all are written");
}

/// Promise: a follower that was refused keeps nothing.
#[test]
fn a_slot_that_could_not_be_opened_is_none() {
    let disk = MemoryDisk::new();
    let log = Arc::new(MemoryLog::on(&disk).unwrap());
    let options =
        TreeOptions { zoning: Some(node(&hub()).topology.zoning()), ..Default::default() };
    let tree = Tree::open(Arc::new(MemoryKv::new()), log, Runtime::system(), options).unwrap();
    let store = Store::open(tree, SlotOptions::default()).unwrap();
    disk.fail_once(Fault::Flush);
    let TaskOutcome::Failed(error) = open(&store, "0a-down", None, Now::default()) else {
        panic!("it is open")
    };
    assert_ne!(error.kind(), ErrorKind::Unavailable);
    assert!(store.slots.table.lock().slots.is_empty());
}

/// A clock that has a follower open whenever it is read in a thread: where it was, and whether it
/// had to wait.
#[derive(Debug)]
struct Visitor {
    clock: SystemClock,
    visits: Mutex<Weak<Store>>,
    thread: ThreadId,
    at: Mutex<Option<OpenAt>>,
    found: Mutex<Vec<Option<OpenMode>>>,
}

impl Clock for Visitor {
    fn now_ms(&self) -> u64 {
        let here = std::thread::current().id() == self.thread;
        let at = if here { self.at.lock().take() } else { None };
        let store = self.visits.lock().upgrade();
        if let Some((store, at)) = store.zip(at) {
            let free = store.slots.table.try_lock().is_some();
            let open = || opened(&store, "0b-down", Some(at), Now::default()).mode;
            self.found.lock().push(free.then(open));
        }
        self.clock.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn watch(&self, alarm: &Arc<Alarm>) {
        self.clock.watch(alarm);
    }

    fn runs(&self) -> bool {
        self.clock.runs()
    }
}

/// Promise: nobody waits while what is gone is collected, and whoever opens meanwhile and might
/// miss some of it is filled anew.
#[test]
fn followers_open_while_removals_are_collected_and_miss_none() {
    let clock = Arc::new(Visitor {
        clock: SystemClock::new(),
        visits: Mutex::default(),
        thread: std::thread::current().id(),
        at: Mutex::default(),
        found: Mutex::default(),
    });
    let options = RuntimeOptions { clock: Arc::clone(&clock) as _, ..RuntimeOptions::default() };
    let hub = with(&hub(), Runtime::new(options));
    let tree = hub.store.tree().clone();
    let here = || {
        let at = tree.position();
        LogPosition { log_id: tree.node_id(), rev: at.rev, hash: at.hash }
    };
    hub.set("users", r#"{"u1":1,"u2":2}"#);
    let from = here();
    hub.delete("users/u1");
    let at = || Some(OpenAt::Delta { from, pin: here() });
    let options = SlotOptions { collect_age: Duration::ZERO, ..SlotOptions::default() };
    let store = Arc::new(Store::open(tree.clone(), options).unwrap());
    let now = Now { mono: Duration::from_secs(1), wall_ms: u64::MAX >> 20 };
    let mode = opened(&store, "0a-down", at(), now).mode;
    assert_eq!(mode, OpenMode::ResumeDelta, "before, it would hear of the removal");
    store.drop_slot("0a-down").unwrap();
    *clock.visits.lock() = Arc::downgrade(&store);
    *clock.at.lock() = at();
    assert!(store.upkeep(now).unwrap().collected > 0);
    assert_eq!(*clock.found.lock(), [Some(OpenMode::Snapshot)], "it did not wait");
}

/// What an acknowledgement from before an open says is not said of what was opened.
#[test]
fn a_follower_that_is_filled_anew_is_not_taken_for_filled() {
    let mut pair = crate::pair::Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[1].lazy = true;
    for value in ["1", "2"] {
        pair.ends[1].host.write("a\0five", value);
        pair.run();
        let waiting = &mut pair.ends[1].waiting;
        let read = waiting.iter().position(|(_, task)| matches!(task, Task::ReadTail { .. }));
        let (id, task) = waiting.remove(read.unwrap());
        let outcome = pair.ends[1].host.execute(task);
        pair.event(1, Event::Done(id, outcome));
        pair.run();
    }
    pair.event(0, Event::Resync);
    pair.run();
    let moved = |task: &Task| matches!(task, Task::AckSlot { .. });
    let order: Vec<bool> = pair.ends[1].waiting.iter().map(|(_, task)| moved(task)).collect();
    assert_eq!(order, [true, false], "one is on its way: {:?}", pair.ends[1].waiting);
    let (id, task) = pair.ends[1].waiting.remove(0);
    let outcome = pair.ends[1].host.execute(task);
    pair.event(1, Event::Done(id, outcome));
    let behind = pair.ends[1].waiting.iter().filter(|(_, task)| moved(task)).count();
    assert_eq!(behind, 0, "{:?}", pair.ends[1].waiting);
    pair.ends[1].lazy = false;
    let (id, task) = pair.ends[1].waiting.remove(0);
    let outcome = pair.ends[1].host.execute(task);
    pair.event(1, Event::Done(id, outcome));
    pair.run();
    assert_eq!(
        (pair.pulled().state, pair.pulled().opened),
        (FeedState::Tail, Some(OpenMode::Snapshot))
    );
    assert!(moved(pair.ends[1].host.done.last().unwrap()), "once it has come");
}
