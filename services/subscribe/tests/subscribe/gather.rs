//! Many receivers are woken once for commits that are made together.

use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, Expect, LogProfile, Offset, ReadBudget, ReadEnd, RecordVisitor,
    Result, StreamId, StreamLog,
};
use trellis_runtime::{RuntimeOptions, SimulatedClock};
use trellis_tree::PendingCommit;

use super::*;

/// So many that commits are gathered for them.
const RECEIVERS: usize = 100;

/// A log whose appends wait to be let through, once it is shut.
#[derive(Debug, Default)]
struct Gated {
    log: MemoryLog,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    shut: bool,
    waiting: usize,
    passes: usize,
}

impl Gated {
    fn change(&self, change: impl FnOnce(&mut Gate)) {
        change(&mut self.gate.lock().unwrap());
        self.moved.notify_all();
    }

    fn wait_until(&self, is_there: impl Fn(&Gate) -> bool) {
        let _there = self.moved.wait_while(self.gate.lock().unwrap(), |gate| !is_there(gate));
    }
}

impl StreamLog for Gated {
    fn profile(&self) -> &LogProfile {
        self.log.profile()
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        self.change(|gate| gate.waiting += 1);
        self.wait_until(|gate| !gate.shut || gate.passes > 0);
        self.change(|gate| {
            gate.waiting -= 1;
            gate.passes = gate.passes.saturating_sub(1);
        });
        self.log.append(stream, records, expect, durability)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.log.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.log.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.log.trim(stream, before)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.log.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.log.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.log.close()
    }
}

/// Notes how many events had been made at each wake-up.
struct Woken {
    live: Live,
    at: Mutex<Vec<u64>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let events = self.live.stats().events;
        self.at.lock().unwrap().push(events);
    }
}

/// Receivers of one path, each of which waits; the first commit is visible, the second under way.
struct Scene {
    log: Arc<Gated>,
    clock: Arc<SimulatedClock>,
    live: Live,
    inboxes: Vec<Inbox>,
    woken: Arc<Woken>,
    pending: Vec<PendingCommit>,
}

impl Scene {
    fn new() -> Self {
        let (log, clock) = (Arc::new(Gated::default()), Arc::new(SimulatedClock::at(0)));
        let options = RuntimeOptions { clock: clock.clone(), ..RuntimeOptions::default() };
        let runtime = Runtime::new(options);
        let kv = Arc::new(MemoryKv::new());
        let options = TreeOptions::default();
        let tree = Tree::open(kv, log.clone(), Arc::clone(&runtime), options).unwrap();
        let live = Live::start(tree.clone(), &runtime, LiveOptions::default()).unwrap();
        let woken = Arc::new(Woken { live: live.clone(), at: Mutex::default() });
        let inboxes: Vec<Inbox> = (0..RECEIVERS).map(|_| live.inbox()).collect();
        for inbox in &inboxes {
            begin(inbox, "1", value("a"));
            assert!(fetch(inbox, &woken).is_none());
        }
        log.change(|gate| gate.shut = true);
        let pending = (1..=2).map(|number| {
            let input = Input::parse(number.to_string().as_bytes()).unwrap();
            let pending = tree.submit(Commit::set(Path::parse("a").unwrap(), input));
            // Or both would be flushed as one.
            log.wait_until(|gate| gate.waiting == 1);
            pending
        });
        let pending = pending.collect();
        log.change(|gate| gate.passes = 1);
        Self { log, clock, live, inboxes, woken, pending }
    }

    /// How many events there were when the receivers were woken, each of which finds them all.
    fn found(&self) -> u64 {
        while self.woken.at.lock().unwrap().len() < RECEIVERS {
            self.clock.advance_ms(1);
            std::thread::yield_now();
        }
        let woken = self.woken.at.lock().unwrap().clone();
        let events = *woken.first().unwrap();
        assert_eq!(woken, [events; RECEIVERS]);
        for inbox in &self.inboxes {
            let found = fetch(inbox, &self.woken).unwrap();
            assert_eq!(u64::try_from(found.len()).unwrap(), events);
        }
        events
    }

    fn wait_for_events(&self, count: u64) {
        while self.live.stats().events < count {
            std::thread::yield_now();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Or a test that fails would never end.
        self.log.change(|gate| gate.shut = false);
    }
}

fn fetch(inbox: &Inbox, woken: &Arc<Woken>) -> Option<Vec<Delivery>> {
    let waker = Waker::from(Arc::clone(woken));
    match std::pin::pin!(inbox.next()).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(deliveries) => Some(deliveries),
        Poll::Pending => None,
    }
}

#[test]
fn many_receivers_are_woken_once_for_a_commit_and_those_under_way() {
    let mut scene = Scene::new();
    scene.wait_for_events(1);
    scene.log.change(|gate| gate.passes = 1);
    scene.wait_for_events(2);
    assert_eq!(scene.found(), 2);
    for pending in scene.pending.drain(..) {
        pending.wait().unwrap();
    }
}

#[test]
fn a_commit_that_takes_long_does_not_hold_up_the_one_before_it() {
    let scene = Scene::new();
    scene.wait_for_events(1);
    assert_eq!(scene.found(), 1);
}
