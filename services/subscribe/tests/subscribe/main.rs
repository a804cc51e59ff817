//! Subscriptions on a tree in memory: what they begin with, what they are told, and what is left
//! of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod rounds;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;
use trellis_subscribe::{
    Delivery, Event, Inbox, Live, LiveOptions, Mode, Pattern, SubscribeRequest,
};
use trellis_tree::{Commit, Input, Operation, Path, Tree, TreeOptions};

const LONG: Duration = Duration::from_secs(60);

struct Ground {
    tree: Tree,
    live: Live,
}

impl Ground {
    fn new(options: LiveOptions) -> Self {
        let runtime = Runtime::system();
        let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
        let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default()).unwrap();
        let live = Live::start(tree.clone(), &runtime, options).unwrap();
        Self { tree, live }
    }

    fn set(&self, path: &str, value: Value) -> u64 {
        let input = Input::parse(value.to_string().as_bytes()).unwrap();
        self.tree.commit(Commit::set(Path::parse(path).unwrap(), input)).unwrap().rev
    }

    fn delete(&self, path: &str) -> u64 {
        self.tree.commit(Commit::delete(Path::parse(path).unwrap())).unwrap().rev
    }

    fn update(&self, updates: &[(&str, Value)]) -> u64 {
        let updates = updates.iter().map(|(path, value)| {
            let input = Input::parse(value.to_string().as_bytes()).unwrap();
            (Path::parse(path).unwrap(), input)
        });
        let update = Operation::Update { updates: updates.collect(), expiry: None };
        self.tree.commit(Commit::new(vec![update])).unwrap().rev
    }
}

fn value(pattern: &str) -> SubscribeRequest {
    SubscribeRequest::value(Pattern::parse(pattern).unwrap())
}

fn child(pattern: &str) -> SubscribeRequest {
    SubscribeRequest::child(Pattern::parse(pattern).unwrap())
}

fn begin(inbox: &Inbox, name: &str, request: SubscribeRequest) -> Value {
    let begun = inbox.subscribe(name, request).unwrap();
    assert!(inbox.activate(name));
    serde_json::from_slice(&begun.data).unwrap()
}

/// The next event, which is of this rev.
fn next(inbox: &Inbox, queue: &mut Vec<Delivery>, rev: u64) -> Value {
    let event = next_event(inbox, queue);
    assert_eq!(event.rev, rev);
    serde_json::from_slice(&event.body).unwrap()
}

fn next_event(inbox: &Inbox, queue: &mut Vec<Delivery>) -> Arc<Event> {
    if queue.is_empty() {
        *queue = inbox.wait(LONG);
    }
    match queue.remove(0) {
        Delivery::Event { event, .. } => event,
        other => panic!("not an event: {other:?}"),
    }
}

#[test]
fn a_value_is_told_from_its_snapshot_on() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("users/u1", json!({"name": "Ann", "age": 5}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    assert_eq!(begin(&inbox, "1", value("users/u1")), json!({"name": "Ann", "age": 5}));
    ground.set("users/u2", json!(1));
    let rev = ground.set("users/u1/age", json!(6));
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(told, json!([{"type": "value", "value": {"name": "Ann", "age": 6}}]));
    let rev = ground.delete("users");
    assert_eq!(next(&inbox, &mut queue, rev), json!([{"type": "value", "value": null}]));
}

#[test]
fn children_are_told_removed_added_changed_in_this_order() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("a", json!({"x": 1, "y": {"z": 2, "q": 3}, "w": 5}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    assert_eq!(begin(&inbox, "1", child("a")), json!({"w": 5, "x": 1, "y": {"q": 3, "z": 2}}));
    let rev = ground.update(&[("a/y/z", json!(9)), ("a/v", json!(1)), ("a/x", json!(null))]);
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(
        told,
        json!([
            {"type": "removed", "key": "x"},
            {"type": "added", "key": "v", "value": 1},
            {"type": "changed", "key": "y", "value": {"q": 3, "z": 9}},
        ])
    );
    let rev = ground.set("a", json!(7));
    let keys: Vec<Value> = ["v", "w", "y"].map(|key| json!({"type": "removed", "key": key})).into();
    assert_eq!(next(&inbox, &mut queue, rev), Value::Array(keys));
}

#[test]
fn a_patch_holds_only_what_changed() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("a", json!({"x": 1, "y": {"z": 2, "q": 3}, "big": {"k": [1, 2]}}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    begin(&inbox, "1", value("a").mode(Mode::Patch));
    let rev = ground.set("a", json!({"x": 1, "y": {"z": 4, "q": 3}, "big": {"k": [1, 2]}}));
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(told, json!([{"type": "value", "patch": {"y/z": 4}}]));
    // An object gives way to a leaf, a leaf to an object, and a subtree goes.
    let rev = ground.update(&[("a/x/n", json!(1)), ("a/y", json!(2)), ("a/big", json!(null))]);
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(told, json!([{"type": "value", "patch": {"big": null, "x/n": 1, "y": 2}}]));
    let rev = ground.set("a", json!(5));
    assert_eq!(next(&inbox, &mut queue, rev), json!([{"type": "value", "patch": {"": 5}}]));
}

#[test]
fn wildcards_capture_and_leave_system_paths_out() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("rooms", json!({"r1": {"m": {"1": "a"}}, "r2": {"n": 1}, "r3": 5}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    assert_eq!(begin(&inbox, "1", child("rooms/*/m")), json!({"rooms/r1/m": {"1": "a"}}));
    let rev = ground.update(&[("rooms/r2/m/5", json!(1)), ("rooms/r1", json!(null))]);
    let told = next(&inbox, &mut queue, rev);
    let (first, second) = (["r1"], ["r2"]);
    assert_eq!(
        told,
        json!([
            {"type": "removed", "path": "rooms/r1/m", "captures": first, "key": "1"},
            {"type": "added", "path": "rooms/r2/m", "captures": second, "key": "5", "value": 1},
        ])
    );
    // Everything goes at once: the places are found in what was there.
    let rev = ground.set("rooms", json!([1, 2]));
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(
        told,
        json!([{"type": "removed", "path": "rooms/r2/m", "captures": second, "key": "5"}])
    );
    let commit = Commit::set(Path::parse("_own/m/x").unwrap(), Input::parse(b"1").unwrap());
    ground.tree.commit(Commit { system: true, ..commit }).unwrap();
    assert_eq!(begin(&inbox, "2", child("*/m")), json!({}));
    let commit = Commit::set(Path::parse("_own/m/y").unwrap(), Input::parse(b"1").unwrap());
    ground.tree.commit(Commit { system: true, ..commit }).unwrap();
    let rev = ground.set("own/m/y", json!(1));
    assert_eq!(next(&inbox, &mut queue, rev)[0]["path"], "own/m");
}

#[test]
fn places_in_an_array_are_told_when_they_change() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("a", json!([1, {"b": 2}]));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    assert_eq!(begin(&inbox, "1", value("a/1/b")), json!(2));
    ground.set("a", json!([5, {"b": 2}]));
    let rev = ground.set("a", json!([5, {"b": 3}]));
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"], 3);
    let rev = ground.delete("a");
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"], Value::Null);
    let rev = ground.set("a", json!({"1": {"b": 7}}));
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"], 7);
}

#[test]
fn an_array_in_place_of_an_object_that_looks_the_same_is_not_told() {
    let ground = Ground::new(LiveOptions::default());
    let object = json!({"0": {"b": 2, "c": [3]}, "1": 5});
    ground.set("a", object.clone());
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    begin(&inbox, "1", value("a/0"));
    ground.set("a", json!([{"b": 2, "c": [3]}]));
    ground.set("a", object);
    ground.set("a", json!([{"b": 2, "c": [3]}, 6]));
    let rev = ground.set("a", json!([{"b": 2, "c": [3, 4]}]));
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(told[0]["value"], json!({"b": 2, "c": [3, 4]}));
    let rev = ground.set("a", json!({"0": {"b": 2, "c": [3, 4], "d": 1}}));
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"]["d"], 1);
    let rev = ground.set("a", json!([{"b": 2}]));
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"], json!({"b": 2}));
    let rev = ground.delete("a");
    assert_eq!(next(&inbox, &mut queue, rev)[0]["value"], Value::Null);
}

#[test]
fn what_is_larger_than_a_frame_is_told_to_come_and_go_above_it() {
    let ground = Ground::new(LiveOptions { frame_bytes_max: 1 << 10, ..Default::default() });
    let members = (0..2000).map(|number| (number.to_string(), json!("some text")));
    let large = Value::Object(members.collect());
    ground.set("a", json!({"large": large.clone()}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    begin(&inbox, "1", value("a/large").mode(Mode::Notify));
    ground.set("a", json!({"large": large.clone(), "other": 1}));
    for value in [json!({}), json!({"large": large}), json!([1]), json!({"large": 1})] {
        let was_there = ground.tree.view().unwrap().exists(&Path::parse("a/large").unwrap());
        let rev = ground.set("a", value.clone());
        if was_there.unwrap() || value.get("large").is_some() {
            assert_eq!(next(&inbox, &mut queue, rev), json!([{"type": "value"}]));
        }
    }
}

#[test]
fn snapshots_of_one_call_are_bounded_together() {
    let frame_bytes_max = 1 << 10;
    let ground = Ground::new(LiveOptions { frame_bytes_max, ..Default::default() });
    ground.set("a", json!("x".repeat(1000)));
    let inbox = ground.live.inbox();
    let requests = (0..100).map(|number| (number.to_string(), value("a")));
    let answers = inbox.subscribe_all(requests.collect());
    let shown = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(shown, 17);
    assert!(answers[..shown].iter().all(Result::is_ok));
    for refused in &answers[shown..] {
        assert_eq!(refused.as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    }
    assert_eq!(ground.live.stats().subscriptions, shown);
}

#[test]
fn what_changes_nothing_is_not_told() {
    let ground = Ground::new(LiveOptions::default());
    ground.set("a", json!({"x": 1, "y": 2}));
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    begin(&inbox, "1", value("a"));
    begin(&inbox, "2", child("a"));
    begin(&inbox, "3", value("a").mode(Mode::Patch));
    ground.set("a/x", json!(1));
    ground.set("a", json!({"x": 1, "y": 2}));
    ground.delete("a/none");
    let rev = ground.set("a/x", json!(3));
    for _ in 0..3 {
        next(&inbox, &mut queue, rev);
    }
    assert!(queue.is_empty());
}

#[test]
fn everything_returns_to_zero() {
    let ground = Ground::new(LiveOptions::default());
    let inbox = ground.live.inbox();
    for number in 0..20 {
        begin(&inbox, &number.to_string(), value(&format!("a/{}", number % 5)));
    }
    let other = ground.live.inbox();
    begin(&other, "x", child("a/*/b"));
    let stats = ground.live.stats();
    assert_eq!((stats.subscriptions, stats.groups, stats.inboxes), (21, 6, 2));
    assert!(inbox.unsubscribe("3"));
    assert!(!inbox.unsubscribe("3"));
    ground.set("a/3", json!(1));
    drop((inbox, other));
    let stats = ground.live.stats();
    assert_eq!((stats.subscriptions, stats.groups, stats.inboxes), (0, 0, 0));
    assert_eq!(stats.waiting_bytes, 0);
}

#[test]
fn subscriptions_elsewhere_cost_a_write_nothing() {
    let many = 100_000;
    let ground = Ground::new(LiveOptions { subscriptions_max: many, ..LiveOptions::default() });
    let (inbox, crowd, mut queue) = (ground.live.inbox(), ground.live.inbox(), Vec::new());
    let requests = (0..many).map(|number| {
        let path = format!("crowd/{}/{number}", number % 100);
        (number.to_string(), value(&path))
    });
    for begun in crowd.subscribe_all(requests.collect()) {
        begun.unwrap();
    }
    begin(&inbox, "1", value("a/b"));
    let before = ground.live.stats().nodes_visited;
    let rev = ground.set("a/b", json!(1));
    next(&inbox, &mut queue, rev);
    // The root, `a` and `a/b`.
    assert_eq!(ground.live.stats().nodes_visited - before, 3);
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as an async runtime would, without one.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    let ground = Ground::new(LiveOptions::default());
    let inbox = ground.live.inbox();
    begin(&inbox, "1", value("a"));
    let rounds = 3000;
    std::thread::scope(|scope| {
        let (ground, inbox) = (&ground, &inbox);
        scope.spawn(move || {
            for round in 0..rounds {
                ground.set("a", json!(round));
            }
        });
        // Whoever misses a wake-up here waits for ever.
        let mut heard = 0;
        while heard < rounds {
            // A future that was polled and dropped takes nothing with it.
            let mut idle = std::pin::pin!(inbox.next());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let first = match idle.as_mut().poll(&mut context) {
                std::task::Poll::Ready(arrived) => arrived,
                std::task::Poll::Pending => block_on(inbox.next()),
            };
            for delivery in first {
                let Delivery::Event { event, .. } = delivery else { panic!("{delivery:?}") };
                assert_eq!(event.body, format!(r#"[{{"type":"value","value":{heard}}}]"#));
                heard += 1;
            }
        }
    });
}

#[test]
fn a_tree_that_is_closed_ends_its_subscriptions() {
    let ground = Ground::new(LiveOptions::default());
    let inbox = ground.live.inbox();
    begin(&inbox, "1", value("a"));
    begin(&inbox, "2", child("b"));
    ground.tree.close().unwrap();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        for delivery in inbox.wait(LONG) {
            let Delivery::Cancelled { name, error } = delivery else { panic!("{delivery:?}") };
            assert_eq!(error.kind(), ErrorKind::Closed);
            ended.push(name);
        }
    }
    assert_eq!(ground.live.stats().subscriptions, 0);
    let refused = inbox.subscribe("1", value("a")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

#[test]
fn a_commit_of_many_changes_is_one_event() {
    let many = 9000;
    let frame_bytes_max = 4 << 20;
    let options = LiveOptions { frame_bytes_max, inbox_bytes_max: 64 << 20, ..Default::default() };
    let ground = Ground::new(options);
    for at in ["a", "b"] {
        let members = (0..many).map(|number| (number.to_string(), json!({"x": 1, "y": 2})));
        ground.set(at, Value::Object(members.collect()));
    }
    let (inbox, mut queue) = (ground.live.inbox(), Vec::new());
    begin(&inbox, "child", child("a"));
    begin(&inbox, "patch", value("a").mode(Mode::Patch));
    begin(&inbox, "wild", value("*/5/x"));
    // As many emptied subtrees, and leaves beside and below them.
    let paths: Vec<String> = (0..many).map(|number| format!("a/{number}")).collect();
    let updates: Vec<(&str, Value)> = paths.iter().map(|path| (&**path, json!(null))).collect();
    let rev = ground.update(&updates);
    let told: Vec<Value> = (0..3).map(|_| next(&inbox, &mut queue, rev)).collect();
    let lengths: Vec<usize> = told.iter().map(|told| told.as_array().unwrap().len()).collect();
    assert_eq!(lengths.iter().max(), Some(&many));
    let patch = told.iter().find_map(|told| told[0]["patch"].as_object()).unwrap();
    assert_eq!(patch.len(), many);
    // All at once, found in what was there.
    let rev = ground.delete("b");
    let told = next(&inbox, &mut queue, rev);
    assert_eq!(told[0]["captures"], json!(["b"]));
}

#[test]
fn too_many_places_at_once_are_a_new_snapshot() {
    let ground = Ground::new(LiveOptions::default());
    let many = 12_000;
    let members = (0..many).map(|number| (number.to_string(), json!(1)));
    ground.set("a", Value::Object(members.collect()));
    let inbox = ground.live.inbox();
    begin(&inbox, "1", value("a/*").mode(Mode::Notify));
    ground.delete("a");
    let deliveries = inbox.wait(LONG);
    assert!(matches!(&deliveries[..], [Delivery::Stale { .. }]), "{deliveries:?}");
    let fresh = inbox.refresh("1").unwrap();
    assert_eq!(fresh.data, "null");
    assert!(inbox.activate("1"));
    let rev = ground.set("a/1", json!(2));
    assert_eq!(next(&inbox, &mut Vec::new(), rev)[0]["captures"], json!(["1"]));
}
