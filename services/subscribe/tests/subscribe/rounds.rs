//! Many receivers are woken in rounds: together for what was committed meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trellis_runtime::{RuntimeOptions, SimulatedClock};

use super::*;

/// So many that they are woken in rounds.
const RECEIVERS: usize = 100;

/// Counts wake-ups of one receiver.
#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Receivers of one path, each of which waits, on a clock that only the test moves.
struct Scene {
    clock: Arc<SimulatedClock>,
    tree: Tree,
    live: Live,
    receivers: Vec<(Inbox, Arc<Woken>)>,
    commits: AtomicU64,
    nudges: AtomicU64,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(SimulatedClock::at(0));
        let options = RuntimeOptions { clock: clock.clone(), ..RuntimeOptions::default() };
        let runtime = Runtime::new(options);
        let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
        let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default()).unwrap();
        let live = Live::start(tree.clone(), &runtime, LiveOptions::default()).unwrap();
        let receivers = (0..RECEIVERS).map(|_| {
            let (inbox, woken) = (live.inbox(), Arc::new(Woken::default()));
            begin(&inbox, "1", value("a"));
            assert_eq!(fetch(&inbox, &woken), 0);
            (inbox, woken)
        });
        let receivers = receivers.collect();
        let (commits, nudges) = Default::default();
        Self { clock, tree, live, receivers, commits, nudges }
    }

    /// Commits, and waits until it was put into the inboxes.
    fn commit(&self) {
        let number = self.commits.fetch_add(1, Ordering::AcqRel) + 1;
        self.set("a", number);
        while self.live.stats().events < number {
            std::thread::yield_now();
        }
    }

    /// Waits until these receivers were woken so often.
    fn wait_until_woken(&self, receivers: &[(Inbox, Arc<Woken>)], times: usize) {
        for (_, woken) in receivers {
            while woken.0.load(Ordering::Acquire) < times {
                // Where a commit looked as if it were still under way, it is waited for, and this
                // clock stands still: another one, elsewhere, has that looked at anew.
                self.set("elsewhere", self.nudges.fetch_add(1, Ordering::AcqRel));
                std::thread::yield_now();
            }
        }
    }

    fn set(&self, path: &str, value: impl ToString) {
        let input = Input::parse(value.to_string().as_bytes()).unwrap();
        self.tree.commit(Commit::set(Path::parse(path).unwrap(), input)).unwrap();
    }

    fn woken(&self) -> usize {
        self.receivers.iter().map(|(_, woken)| woken.0.load(Ordering::Acquire)).sum()
    }
}

/// How many events there were; once there are none, the receiver waits.
fn fetch(inbox: &Inbox, woken: &Arc<Woken>) -> usize {
    let waker = Waker::from(Arc::clone(woken));
    let mut events = 0;
    loop {
        match std::pin::pin!(inbox.next()).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(deliveries) => events += deliveries.len(),
            Poll::Pending => return events,
        }
    }
}

#[test]
fn a_lone_commit_is_told_at_once_and_those_during_a_round_are_told_together() {
    let scene = Scene::new();
    scene.commit();
    scene.wait_until_woken(&scene.receivers, 1);
    let (last, others) = scene.receivers.split_last().unwrap();
    for (inbox, woken) in others {
        assert_eq!(fetch(inbox, woken), 1);
    }
    scene.commit();
    scene.commit();
    assert_eq!(scene.woken(), RECEIVERS, "woken while one of them had not come");
    // With the last one the round is over, and took no time.
    assert_eq!(fetch(&last.0, &last.1), 3);
    scene.wait_until_woken(others, 2);
    for (inbox, woken) in others {
        assert_eq!(fetch(inbox, woken), 2, "not told together");
    }
    // The last one had fetched all before it could be woken again.
    assert_eq!(scene.woken(), 2 * RECEIVERS - 1);
}

#[test]
fn a_receiver_that_does_not_come_holds_nobody_up_beyond_the_bound() {
    let scene = Scene::new();
    scene.commit();
    scene.wait_until_woken(&scene.receivers, 1);
    let (blocked, others) = scene.receivers.split_last().unwrap();
    for (inbox, woken) in others {
        assert_eq!(fetch(inbox, woken), 1);
    }
    scene.commit();
    scene.commit();
    assert_eq!(scene.woken(), RECEIVERS, "woken while one of them had not come");
    let (first, _) = others.split_first().unwrap();
    while first.1.0.load(Ordering::Acquire) == 1 {
        scene.clock.advance_ms(1);
        std::thread::yield_now();
    }
    scene.wait_until_woken(others, 2);
    for (inbox, woken) in others {
        assert_eq!(fetch(inbox, woken), 2, "not told together");
    }
    assert_eq!(blocked.1.0.load(Ordering::Acquire), 1);
    assert_eq!(fetch(&blocked.0, &blocked.1), 3, "what waited for it");
}

#[test]
fn an_inbox_that_watches_the_same_many_times_does_not_fill_while_a_round_is_waited_for() {
    const SUBSCRIPTIONS: usize = 500;
    let scene = Scene::new();
    let ((inbox, woken), others) = scene.receivers.split_first().unwrap();
    for name in 2..=SUBSCRIPTIONS {
        begin(inbox, &name.to_string(), value("a"));
    }
    scene.commit();
    scene.wait_until_woken(&scene.receivers, 1);
    assert_eq!(fetch(inbox, woken), SUBSCRIPTIONS);
    // Nobody else comes: the round is under way for ever, on a clock that stands still.
    for _ in 0..20 {
        scene.commit();
    }
    scene.wait_until_woken(&scene.receivers[..1], 2);
    assert_eq!(fetch(inbox, woken), 20 * SUBSCRIPTIONS, "events gave way");
    assert!(others.iter().all(|(_, woken)| woken.0.load(Ordering::Acquire) == 1));
}

#[test]
fn no_inbox_fills_while_a_round_is_waited_for() {
    let scene = Scene::new();
    scene.commit();
    scene.wait_until_woken(&scene.receivers, 1);
    let (_, others) = scene.receivers.split_last().unwrap();
    for (inbox, woken) in others {
        assert_eq!(fetch(inbox, woken), 1);
    }
    for letter in ["a", "b", "c", "d", "e", "f"] {
        scene.set("a", json!(letter.repeat(100 << 10)));
    }
    // On a clock that stands still, though one of them did not come.
    scene.wait_until_woken(others, 2);
}
