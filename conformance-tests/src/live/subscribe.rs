//! Subscriptions: what they are told, from the acknowledgement to the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_subscribe::{
    Delivery, Inbox, Live, LiveOptions, LiveStats, Mode, Pattern, SubscribeRequest,
};
use trellis_tree::Tree;

use super::watch::Watch;
use super::workload::{Writing, draw_request};
use crate::Case;
use crate::tree::tools::{refused, set, small_overlay, until};
use crate::tree::{Ground, TreeWorld};

pub(super) const LONG: Duration = Duration::from_secs(60);
/// Watched by each receiver, so that it knows when it has heard of everything before a commit.
pub(super) const MARK: &str = "_mark";

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new(
        "live.subscribe.model",
        &["live.sub.ack", "live.sub.once", "live.sub.exact", "live.sub.wildcards"],
        model,
    ),
    Case::new(
        "live.subscribe.write_after_ack",
        &["live.sub.ack", "live.sub.once"],
        write_after_ack,
    ),
    Case::new("live.subscribe.while_written", &["live.sub.ack", "live.sub.once"], while_written),
    Case::new("live.subscribe.slow", &["live.sub.slow"], slow),
    Case::new("live.subscribe.lagging", &["live.sub.slow"], lagging),
    Case::new("live.subscribe.ends", &["live.sub.ends"], ends),
    Case::new("live.subscribe.limits", &["live.sub.limits"], limits),
];

pub(super) fn start(ground: &Ground, tree: &Tree, options: LiveOptions) -> Live {
    Live::start(tree.clone(), &ground.runtime(), options).expect("it starts")
}

/// Room for everything, so that nobody is slow.
pub(super) fn roomy() -> LiveOptions {
    let bytes = 1 << 30;
    LiveOptions {
        inbox_bytes_max: bytes,
        follow_bytes_max: bytes,
        frame_bytes_max: bytes,
        resume_bytes_max: bytes,
        ..LiveOptions::default()
    }
}

pub(super) fn value(pattern: &str) -> SubscribeRequest {
    SubscribeRequest::value(Pattern::parse(pattern).unwrap())
}

fn child(pattern: &str) -> SubscribeRequest {
    SubscribeRequest::child(Pattern::parse(pattern).unwrap())
}

/// Tells writers to end, also when a check fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A receiver of many subscriptions, with a model of each.
pub(super) struct Receiver {
    pub(super) inbox: Inbox,
    pub(super) watches: HashMap<String, Watch>,
}

impl Receiver {
    pub(super) fn new(live: &Live) -> Self {
        let mut new = Self { inbox: live.inbox(), watches: HashMap::new() };
        new.begin(MARK, value(MARK).mode(Mode::Notify));
        new
    }

    pub(super) fn begin(&mut self, name: &str, request: SubscribeRequest) {
        let begun = self.inbox.subscribe(name, request.clone()).expect("it begins");
        let mut watch = Watch::new(request);
        watch.acknowledged(&begun);
        self.watches.insert(name.to_owned(), watch);
        assert!(self.inbox.activate(name));
    }

    /// Receives until the mark of this rev.
    pub(super) fn until(&mut self, mark: u64) {
        while self.watches[MARK].rev < mark {
            let deliveries = self.inbox.wait(LONG);
            assert!(!deliveries.is_empty(), "nothing came, and the mark {mark} was to come");
            for delivery in deliveries {
                self.receive(delivery);
            }
        }
    }

    pub(super) fn receive(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Event { name, event } => {
                let watch = self.watches.get_mut(&*name).expect("what was ended tells nothing");
                watch.told(&event);
            }
            Delivery::Stale { name } => {
                let fresh = self.inbox.refresh(&name).expect("a new snapshot");
                self.watches.get_mut(&*name).expect("it is open").acknowledged(&fresh);
                assert!(self.inbox.activate(&name));
            }
            Delivery::Cancelled { name, error } => panic!("{name} was ended: {error:?}"),
        }
    }
}

/// Subscriptions come and go while commits of every kind are made; each is compared with the tree
/// at every rev.
fn model(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("subscriptions");
    let mut writing = Writing::new(&ground, ground.tree_with(small_overlay()));
    let live = start(&ground, &writing.tree, roomy());
    let mut receiver = Receiver::new(&live);
    let mut begun = 0;
    for _ in 0..200 {
        writing.step(&mut rng);
        if rng.one_in(4) {
            begun += 1;
            receiver.begin(&begun.to_string(), draw_request(&mut rng));
        }
        if rng.one_in(12) {
            let name = (1 + rng.below(begun)).to_string();
            let mark = writing.mark(MARK);
            receiver.until(mark);
            if receiver.inbox.unsubscribe(&name) {
                let watch = receiver.watches.remove(&name).unwrap();
                watch.check(&writing.history, &name);
            }
        }
    }
    let mark = writing.mark(MARK);
    receiver.until(mark);
    for (name, watch) in receiver.watches.iter().filter(|(name, _)| *name != MARK) {
        watch.check(&writing.history, name);
    }
    live.close();
}

/// What is written at once after the acknowledgement arrives, and is the first that does.
fn write_after_ack(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let live = start(&ground, &tree, LiveOptions::default());
    let inbox = live.inbox();
    let mut last = json!(null);
    for round in 0..300_u64 {
        let name = round.to_string();
        let begun = inbox.subscribe(&name, value("a/n")).unwrap();
        assert_eq!(begun.data, last.to_string());
        let rev = set(&tree, "a/n", json!(round));
        last = json!(round);
        assert!(inbox.activate(&name));
        let deliveries = inbox.wait(LONG);
        let [Delivery::Event { name: of, event }] = &deliveries[..] else {
            panic!("round {round}: {deliveries:?}")
        };
        assert_eq!((&**of, event.rev), (&*name, rev));
        assert_eq!(event.body, format!(r#"[{{"type":"value","value":{round}}}]"#));
        assert!(inbox.unsubscribe(&name));
    }
    live.close();
}

/// Subscriptions begin while others write without a pause: each counts on from its snapshot.
fn while_written(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let live = start(&ground, &tree, roomy());
    let done = AtomicBool::new(false);
    let counted = std::thread::scope(|scope| {
        let stop = Stop(&done);
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (tree, done) = (&tree, &done);
                scope.spawn(move || {
                    let mut count = 0_u64;
                    while !done.load(Ordering::Relaxed) || count == 0 {
                        count += 1;
                        set(tree, &format!("n/{writer}/count"), json!(count));
                    }
                    count
                })
            })
            .collect();
        let inboxes: Vec<(Inbox, Vec<u64>)> = (0..60)
            .map(|number| {
                let inbox = live.inbox();
                let requests =
                    (0..3).map(|writer| (writer.to_string(), value(&format!("n/{writer}/count"))));
                let begun = inbox.subscribe_all(requests.collect());
                let revs: Vec<u64> = begun.iter().map(|one| one.as_ref().unwrap().rev).collect();
                assert!(revs.iter().all(|rev| *rev == revs[0]), "{number}: at one rev");
                let counts = begun.iter().map(|one| {
                    serde_json::from_slice::<Option<u64>>(&one.as_ref().unwrap().data).unwrap()
                });
                let counts = counts.map(|count| count.unwrap_or(0)).collect();
                (0..3).for_each(|writer| assert!(inbox.activate(&writer.to_string())));
                (inbox, counts)
            })
            .collect();
        drop(stop);
        let ends: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        for (inbox, mut counts) in inboxes {
            while counts != ends {
                let deliveries = inbox.wait(LONG);
                assert!(!deliveries.is_empty(), "{counts:?} of {ends:?}");
                for delivery in deliveries {
                    let Delivery::Event { name, event } = delivery else { panic!("an event") };
                    let writer: usize = name.parse().unwrap();
                    counts[writer] += 1;
                    let next = counts[writer];
                    assert_eq!(event.body, format!(r#"[{{"type":"value","value":{next}}}]"#));
                }
            }
        }
        ends.iter().sum::<u64>()
    });
    assert!(counted >= 3);
    live.close();
}

/// A receiver that takes nothing: memory stays within the bound, and in the end it holds what is
/// there.
fn slow(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("slow");
    let mut writing = Writing::new(&ground, ground.tree_with(small_overlay()));
    let bytes_max = 4000;
    let options = LiveOptions { inbox_bytes_max: bytes_max, ..roomy() };
    let live = start(&ground, &writing.tree, options);
    let (mut other, mut receiver) = (Receiver::new(&live), Receiver::new(&live));
    for number in 0..40 {
        receiver.begin(&number.to_string(), draw_request(&mut rng));
    }
    let lone = [live.inbox(), live.inbox()];
    for (inbox, request) in lone.iter().zip([value("lone"), child("lone")]) {
        inbox.subscribe("1", request).unwrap();
        inbox.activate("1");
    }
    for number in 0..50 {
        set(&writing.tree, "lone/text", json!(format!("{number:>100}")));
    }
    for _ in 0..200 {
        writing.step(&mut rng);
        assert!(receiver.inbox.waiting_bytes() <= bytes_max);
    }
    let mark = writing.mark(MARK);
    other.until(mark);
    assert!(receiver.inbox.waiting_bytes() <= bytes_max);
    let stats = live.stats();
    assert!(stats.stale > 0 && stats.coalesced > 0, "{stats:?}");
    // The value has its newest event last, the children are to be taken anew.
    let newest = lone[0].wait(LONG).pop();
    let Some(Delivery::Event { event, .. }) = newest else { panic!("{newest:?}") };
    assert!(String::from_utf8_lossy(&event.body).contains("  49\""), "{event:?}");
    let all = lone[1].wait(LONG);
    assert!(matches!(&all[..], [Delivery::Stale { .. }]), "{all:?}");
    drop(lone);
    // Now it reads: what it cannot be told one by one it takes anew.
    let mark = writing.mark(MARK);
    receiver.until(mark);
    let last = writing.mark(MARK);
    receiver.until(last);
    let now = writing.history.last_key_value().unwrap().1;
    for watch in receiver.watches.values() {
        watch.check_last(now);
    }
    live.close();
}

/// A publisher that is passed by: nothing is lost silently, and all hold what is there.
fn lagging(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let live = start(&ground, &tree, LiveOptions { follow_bytes_max: 1, ..roomy() });
    let mut receiver = Receiver::new(&live);
    receiver.begin("v", value("a"));
    receiver.begin("c", child("a"));
    receiver.begin("p", value("a").mode(Mode::Patch));
    // Much to be told at every commit, so that the publisher is the slowest of all.
    let big = (0..3000).map(|number| (number.to_string(), json!(number)));
    set(&tree, "a/big", serde_json::Value::Object(big.collect()));
    receiver.begin("all", value(""));
    receiver.begin("each", value("*"));
    let mut writing = Writing::new(&ground, tree.clone());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (done, tree, stop) = (&done, &tree, Stop(&done));
        for writer in 0..4 {
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    count += 1;
                    set(tree, &format!("a/{writer}/{}", count % 7), json!(count));
                }
            });
        }
        // Writers do not wait for the publisher, so that sooner or later it is passed by.
        until("the publisher lags", || {
            for delivery in receiver.inbox.wait(Duration::from_millis(1)) {
                receiver.receive(delivery);
            }
            live.stats().lagged > 0
        });
        drop(stop);
    });
    writing.note();
    let mark = set(&tree, "a/mark", json!(1));
    writing.note();
    let now = writing.history.last_key_value().unwrap().1.clone();
    until("everybody holds what is there", || {
        for delivery in receiver.inbox.wait(Duration::from_millis(1)) {
            receiver.receive(delivery);
        }
        let mut watches = receiver.watches.iter().filter(|(name, _)| *name != MARK);
        watches.all(|(_, watch)| watch.rev >= mark)
    });
    for watch in receiver.watches.values() {
        watch.check_last(&now);
    }
    live.close();
}

/// Ended subscriptions tell nothing, and nothing is left of them.
fn ends(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let live = start(&ground, &tree, LiveOptions::default());
    let mut receiver = Receiver::new(&live);
    for number in 0..20 {
        receiver.begin(&number.to_string(), value(&format!("a/{}", number % 3)));
    }
    set(&tree, "a", json!({"0": 1, "1": 1, "2": 1}));
    for number in 0..20 {
        let name = number.to_string();
        assert!(receiver.inbox.unsubscribe(&name));
        assert!(!receiver.inbox.unsubscribe(&name), "it has ended");
        assert!(!receiver.inbox.activate(&name));
        refused(receiver.inbox.refresh(&name), ErrorKind::NotFound, "no subscription");
        receiver.watches.remove(&name);
    }
    // Whatever waited for the ended ones does not come: the model knows none of them.
    let mut writing = Writing::new(&ground, tree.clone());
    let mark = writing.mark(MARK);
    receiver.until(mark);
    drop(receiver);
    let LiveStats { subscriptions, groups, inboxes, waiting_bytes, .. } = live.stats();
    assert_eq!((subscriptions, groups, inboxes, waiting_bytes), (0, 0, 0, 0));
    until("the tree is no longer followed", || !live.stats().following);

    let inbox = live.inbox();
    inbox.subscribe("1", value("a")).unwrap();
    live.close();
    assert!(inbox.wait(LONG).is_empty(), "whoever waits is told at once");
    refused(inbox.subscribe("2", value("a")), ErrorKind::Closed, "closed");
    refused(live.inbox().subscribe("2", value("a")), ErrorKind::Closed, "closed");
    assert_eq!(live.stats().subscriptions, 0);
}

/// Each limit takes its own value and refuses one more; what is refused leaves nothing.
fn limits(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let options = LiveOptions {
        subscriptions_max: 3,
        subscriptions_total_max: 5,
        frame_bytes_max: 100,
        ..roomy()
    };
    let live = start(&ground, &tree, options);
    let (inbox, other) = (live.inbox(), live.inbox());
    let begin = |inbox: &Inbox, name: &str, request| inbox.subscribe(name, request).map(drop);
    for name in ["1", "2", "3"] {
        begin(&inbox, name, value("a")).unwrap();
        inbox.activate(name);
    }
    refused(begin(&inbox, "4", value("a")), ErrorKind::TooLarge, "one more on the inbox");
    refused(begin(&inbox, "1", value("b")), ErrorKind::InvalidInput, "a name in use");
    begin(&other, "1", value("a").mode(Mode::Notify)).unwrap();
    begin(&other, "2", child("a")).unwrap();
    refused(begin(&other, "3", value("a")), ErrorKind::Busy, "one more of all");
    other.unsubscribe("1");

    // A snapshot of exactly the limit, and of one byte more.
    set(&tree, "text", json!("x".repeat(98)));
    begin(&other, "3", value("text")).unwrap();
    other.unsubscribe("3");
    set(&tree, "text", json!("x".repeat(99)));
    refused(begin(&other, "3", value("text")), ErrorKind::TooLarge, "a large snapshot");
    begin(&other, "3", value("text").mode(Mode::Notify)).unwrap();
    assert_eq!(live.stats().subscriptions, 5);

    // A value that outgrows a frame ends its subscriptions with advice.
    set(&tree, "a", json!("x".repeat(100)));
    let mut ended = Vec::new();
    while ended.len() < 3 {
        for delivery in inbox.wait(LONG) {
            let Delivery::Cancelled { name, error } = delivery else { panic!("{delivery:?}") };
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.message().contains("notify"), "{error}");
            ended.push(name.to_string());
        }
    }
    ended.sort();
    assert_eq!(ended, ["1", "2", "3"]);
    assert_eq!(live.stats().subscriptions, 2);
    begin(&inbox, "1", value("text").mode(Mode::Notify)).unwrap();
    drop((inbox, other));
    assert_eq!(live.stats().subscriptions, 0);
    live.close();
}
