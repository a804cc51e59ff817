//! What two nodes come to over real trees: topology, sessions, store and merge together.

use std::sync::Arc;
use std::time::Duration;

use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};

use crate::message::{Message, OpenMode};
use crate::pair::{Host, Pair};
use crate::*;

/// A node over engines in memory.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) topology: Arc<Topology>,
}

impl Host for Node {
    fn node(&self) -> u128 {
        self.store.node()
    }

    fn head(&self) -> u64 {
        self.store.tree().position().rev
    }

    fn run(&mut self, now: Now, task: Task) -> TaskOutcome {
        self.store.execute(now, task)
    }

    fn route(&mut self, commit: &Commit) -> RoutedOutcome {
        self.store.tree().commit(commit.clone())
    }
}

pub(crate) fn node(spec: &TopologySpec) -> Node {
    with(spec, Runtime::system())
}

/// A node of a runtime.
pub(crate) fn with(spec: &TopologySpec, runtime: Arc<Runtime>) -> Node {
    let topology = Arc::new(Topology::compile(spec).unwrap());
    let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    let tree = Tree::open(kv, log, runtime, options).unwrap();
    Node { store: Store::open(tree, SlotOptions::default()).unwrap(), topology }
}

impl Node {
    pub(crate) fn set(&self, path: &str, json: &str) {
        let value = Input::parse(json.as_bytes()).unwrap();
        self.store.tree().commit(Commit::set(Path::parse(path).unwrap(), value)).unwrap();
    }

    pub(crate) fn delete(&self, path: &str) {
        self.store.tree().commit(Commit::delete(Path::parse(path).unwrap())).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let view = self.store.tree().view().unwrap();
        view.get(&Path::parse(path).unwrap()).unwrap().to_string()
    }
}

pub(crate) fn hub() -> TopologySpec {
    let all = vec![String::new()];
    let peers = vec![PeerSpec { pull: all.clone(), push: all, ..PeerSpec::default() }];
    TopologySpec { peers: Some(peers), ..TopologySpec::default() }
}

pub(crate) fn edge(paths: &[(&str, Mode)]) -> TopologySpec {
    TopologySpec {
        primary_url: Some("ws://hub/db".into()),
        paths: paths.iter().map(|(path, mode)| PathSpec::new(*path, *mode)).collect(),
        ..TopologySpec::default()
    }
}

/// An edge and its hub, which have said hello.
pub(crate) fn linked(edge: Node, hub: Node, items: u32) -> Pair<Node> {
    let dial = edge.topology.dials().first().expect("there is something to do").plan.clone();
    let policy: Arc<dyn LinkPolicy> = Arc::clone(&hub.topology) as Arc<dyn LinkPolicy>;
    let roles = [Role::Dialer(Box::new(dial)), Role::Acceptor(policy)];
    let wall_ms = Runtime::system().clock().now_ms();
    let now = Now { mono: Duration::from_secs(100), wall_ms };
    let options = SessionOptions { page_items: items, ..crate::pair::options() };
    Pair::of(roles, [edge, hub], options, now)
}

fn get(pair: &Pair<Node>, end: usize, path: &str) -> String {
    pair.ends[end].host.get(path)
}

fn set(pair: &Pair<Node>, end: usize, path: &str, json: &str) {
    pair.ends[end].host.set(path, json);
}

/// Compares what is followed, until both ends stand still; how often it was the same.
fn verified(pair: &mut Pair<Node>) -> u64 {
    pair.event(0, Event::Verify { repair: false });
    pair.run();
    let status = pair.pulled();
    assert_eq!(status.diverged, 0, "{status:?}");
    status.verified
}

#[test]
fn a_replica_is_filled_from_the_data_and_follows_it() {
    let source = node(&hub());
    source.set("users", r#"{"u1":{"name":"a","n":1},"u2":{"name":"b"},"u3":{"name":"c"}}"#);
    source.set("other", "7");
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 2);
    pair.run();
    assert_eq!(get(&pair, 0, "users"), get(&pair, 1, "users"));
    assert_eq!((get(&pair, 0, "other"), pair.pulled().pages), ("null".into(), 3));
    pair.ends[1].host.delete("users/u1");
    set(&pair, 1, "users/u4", r#"{"name":"d"}"#);
    pair.run();
    assert_eq!(get(&pair, 0, "users"), get(&pair, 1, "users"));
    assert_eq!(pair.pulled().opened, Some(OpenMode::Snapshot));
    assert_eq!(verified(&mut pair), 1);
}

#[test]
fn a_replica_that_was_away_goes_on_where_it_was() {
    let source = node(&hub());
    source.set("users", r#"{"u1":1,"u2":2}"#);
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 200);
    pair.run();
    let [edge, hub] = pair.ends.map(|end| end.host);
    hub.set("users/u3", "3");
    hub.delete("users/u1");
    let mut pair = linked(edge, hub, 200);
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Tail));
    assert_eq!(get(&pair, 0, "users"), r#"{"u2":2,"u3":3}"#);
    assert_eq!(verified(&mut pair), 1);
}

#[test]
fn what_a_node_wrote_is_set_aside_before_it_follows() {
    let source = node(&hub());
    source.set("users", r#"{"u1":1}"#);
    let mine = node(&edge(&[("users", Mode::Replica)]));
    mine.set("users", r#"{"mine":{"deep":"kept"}}"#);
    let mut pair = linked(mine, source, 200);
    pair.run();
    assert_eq!(get(&pair, 0, "users"), r#"{"u1":1}"#);
    assert_eq!(pair.pulled().set_aside, 1);
    let copies = get(&pair, 0, "_repl/set_aside");
    assert!(copies.contains(r#"{"users":{"mine":{"deep":"kept"}}}"#), "{copies}");
}

#[test]
fn partners_converge_whatever_they_did_apart() {
    let (one, other) = (node(&edge(&[("config", Mode::Sync)])), node(&hub()));
    one.set("config", r#"{"a":1,"shared":{"x":1}}"#);
    other.set("config", r#"{"b":2,"shared":{"y":2}}"#);
    let mut pair = linked(one, other, 2);
    pair.run();
    assert_eq!(get(&pair, 0, "config"), get(&pair, 1, "config"));
    set(&pair, 0, "config/a", "10");
    set(&pair, 1, "config/c", "3");
    pair.run();
    let [edge, hub] = pair.ends.map(|end| end.host);
    edge.delete("config/shared");
    hub.set("config/d", "4");
    let mut pair = linked(edge, hub, 2);
    pair.run();
    assert_eq!(get(&pair, 0, "config"), get(&pair, 1, "config"));
    assert!(!get(&pair, 1, "config").contains("shared"));
    let before = [pair.ends[0].host.head(), pair.ends[1].host.head()];
    for _ in 0..4 {
        pair.pass(Duration::from_secs(5));
    }
    assert_eq!([pair.ends[0].host.head(), pair.ends[1].host.head()], before, "nothing echoes");
    assert!(verified(&mut pair) >= 1);
}

#[test]
fn a_node_pushes_what_it_owns_and_is_told_nothing_of_it() {
    let here = node(&edge(&[("telemetry", Mode::Writeonly), ("files", Mode::Primary)]));
    here.set("telemetry", r#"{"t1":1}"#);
    here.set("files", r#"{"f1":"x"}"#);
    here.set("private", "1");
    let mut pair = linked(here, node(&hub()), 200);
    pair.run();
    set(&pair, 0, "files/f2", r#""y""#);
    set(&pair, 1, "telemetry/remote", "2");
    pair.run();
    assert_eq!(get(&pair, 1, "files"), r#"{"f1":"x","f2":"y"}"#);
    assert_eq!(get(&pair, 1, "telemetry/t1"), "1");
    assert_eq!(get(&pair, 0, "telemetry"), r#"{"t1":1}"#);
    assert_eq!(get(&pair, 1, "private"), "null");
}

#[test]
fn slots_survive_and_move_only_to_what_is_durable() {
    let source = node(&hub());
    source.set("users", r#"{"u1":1}"#);
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 200);
    pair.run();
    set(&pair, 1, "users/u2", "2");
    pair.run();
    let now = pair.now;
    let slots = pair.ends[1].host.store.slots(now).unwrap();
    let position = pair.pulled().position;
    assert_eq!(slots.len(), 1);
    assert!(slots[0].active && slots[0].rev <= position && slots[0].invalid.is_none());
    let [edge, hub] = pair.ends.map(|end| end.host);
    hub.store.write_slots(now).unwrap();
    let reopened = Store::open(hub.store.tree().clone(), SlotOptions::default()).unwrap();
    let again = reopened.slots(now).unwrap();
    assert_eq!((&again[0].consumer, again[0].rev), (&slots[0].consumer, slots[0].rev));
    drop(edge);
}

/// Pages of what changed end where tombstones were collected that they would have told of: the
/// follower lost its slot meanwhile, and would never hear of them.
#[test]
fn a_delta_ends_where_what_is_gone_is_forgotten() {
    let source = node(&hub());
    source.set("users", r#"{"u1":1,"u2":2}"#);
    let after = source.head();
    source.delete("users/u1");
    let page = |source: &Node| {
        let scope = trellis_tree::Scope { within: vec!["users".into()], except: Vec::new() };
        let (items_max, bytes_max) = (100, 1 << 20);
        let task = Task::ReadDelta { scope, after, start: None, items_max, bytes_max };
        source.store.execute(Now::default(), task)
    };
    assert!(matches!(page(&source), TaskOutcome::Page(page) if page.ops.len() == 1));
    let collected = source.store.tree().collect(source.head(), 0).unwrap();
    assert!(collected.removed > 0);
    assert!(matches!(page(&source), TaskOutcome::TailGone));
}

#[test]
fn a_slot_beyond_its_bounds_ends_with_its_reason() {
    let source = node(&hub());
    source.set("users", r#"{"u1":1}"#);
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 200);
    pair.run();
    let mut now = pair.now;
    let hub = &pair.ends[1].host;
    hub.store.upkeep(now).unwrap();
    pair.event(1, Event::Closed);
    pair.event(0, Event::Closed);
    now.wall_ms += 25 * 3600 * 1000;
    let done = pair.ends[1].host.store.upkeep(now).unwrap();
    assert_eq!(done.ended.len(), 1);
    assert_eq!(done.ended[0].1, SlotEnd::Idle);
    assert_eq!(pair.ends[1].host.store.slots_ended()[&SlotEnd::Idle], 1);
    let status = pair.ends[1].host.store.slots(now).unwrap();
    assert_eq!(status[0].invalid, Some(SlotEnd::Idle));
    assert!(pair.ends[1].host.store.drop_slot(&status[0].consumer).unwrap());
    assert!(pair.ends[1].host.store.slots(now).unwrap().is_empty());
}

#[test]
fn a_feed_begins_anew_after_another_mode_though_no_link_came_up_under_it() {
    let readonly = edge(&[("config", Mode::Readonly)]);
    let source = node(&hub());
    source.set("config", r#"{"a":1}"#);
    let mut pair = linked(node(&readonly), source, 200);
    pair.run();
    let [here, _source] = pair.ends.map(|end| end.host);
    let kept = Kept::new(here.store.tree().clone());
    let start = |spec: &TopologySpec| {
        let topology = Topology::compile(spec).unwrap();
        kept.begin_changed(topology.dials().iter().map(|dial| &dial.plan)).unwrap();
        kept.feeds().unwrap().into_iter().find(|kept| kept.feed == UPSTREAM).unwrap().position
    };
    assert!(start(&readonly).is_some(), "as it was");
    assert_eq!(start(&edge(&[("config", Mode::Sync)])), None, "it may be written here now");
    assert_eq!(start(&readonly), None, "and may have been");
}

#[test]
fn removals_are_not_forgotten_while_a_follower_is_filled() {
    let options = SlotOptions { collect_age: Duration::ZERO, ..SlotOptions::default() };
    let mut source = node(&hub());
    source.store = Store::open(source.store.tree().clone(), options.clone()).unwrap();
    source.set("users", r#"{"u1":1}"#);
    source.delete("users/u1");
    let now = Now { mono: Duration::from_secs(1), wall_ms: u64::MAX >> 20 };
    let open = OpenSlot { consumer: "0a-down".into(), owner: "edge".into(), at: None };
    let TaskOutcome::Slot(opened) = source.store.execute(now, Task::OpenSlot(open)) else {
        panic!("it has no slot")
    };
    assert_eq!(source.store.upkeep(now).unwrap().collected, 0);
    source.store = Store::open(source.store.tree().clone(), options).unwrap();
    assert_eq!(source.store.upkeep(now).unwrap().collected, 0, "over a restart");
    let (consumer, at) = ("0a-down".to_owned(), opened.pin);
    let filled = Task::AckSlot { consumer, at, applied: at.rev, settled: at.rev };
    assert!(matches!(source.store.execute(now, filled), TaskOutcome::Done));
    assert!(source.store.upkeep(now).unwrap().collected > 0);
}

#[test]
fn a_slot_of_another_peer_cannot_be_taken() {
    let hub = node(&hub());
    let open = |owner: &str| {
        let slot = OpenSlot { consumer: "0a-down".into(), owner: owner.into(), at: None };
        hub.store.execute(Now::default(), Task::OpenSlot(slot))
    };
    assert!(matches!(open("one"), TaskOutcome::Slot(_)));
    let TaskOutcome::Refused(refusal) = open("other") else { panic!("it was taken") };
    assert_eq!(refusal.reason, RefusalReason::Denied);
    for _ in 0..SlotOptions::default().fills_max {
        open("one");
    }
    let TaskOutcome::Refused(refusal) = open("one") else { panic!("snapshots without end") };
    assert_eq!(refusal.reason, RefusalReason::Busy);
}

#[test]
fn so_many_are_filled_at_once_and_the_rest_in_the_order_in_which_they_came() {
    let mut hub = node(&hub());
    let options = SlotOptions { fills_at_once: 2, ..SlotOptions::default() };
    hub.store = Store::open(hub.store.tree().clone(), options).unwrap();
    let at = |consumer: &str, at| {
        let (consumer, owner) = (consumer.to_owned(), "edge".to_owned());
        hub.store.execute(Now::default(), Task::OpenSlot(OpenSlot { consumer, owner, at }))
    };
    let open = |consumer: &str| match at(consumer, None) {
        TaskOutcome::Slot(_) => None,
        TaskOutcome::Queued { ahead } => Some(ahead),
        other => panic!("{other:?}"),
    };
    let end = |task| assert!(matches!(hub.store.execute(Now::default(), task), TaskOutcome::Done));
    assert_eq!(["a", "b", "c", "d", "e"].map(open), [None, None, Some(0), Some(1), Some(2)]);
    assert_eq!(hub.store.fills(), (2, 3));
    assert_eq!(hub.store.slots(Now::default()).unwrap().len(), 2, "nothing is kept for the rest");
    end(Task::Filled { consumer: "a".into() });
    assert_eq!(["e", "d", "c"].map(open), [Some(2), Some(1), None], "in turn");
    end(Task::CloseSlot { consumer: "b".into() });
    end(Task::CloseSlot { consumer: "d".into() });
    assert_eq!(open("e"), None, "who is gone is not waited for");
    let tree = hub.store.tree();
    let rev = tree.position().rev;
    let hash = tree.hash_at(rev).unwrap().unwrap();
    let here = LogPosition { log_id: hub.store.node(), rev, hash };
    let TaskOutcome::Slot(opened) = at("f", Some(crate::message::OpenAt::Tail(here))) else {
        panic!("it waits")
    };
    assert_eq!(opened.mode, OpenMode::Tail, "who needs no pages does not wait");
}

#[test]
fn a_source_is_kept_under_its_prefix_and_compared_as_it_is_there() {
    let there = node(&hub());
    there.set("catalog", r#"{"a":{"x":1},"b":2,"hidden":3}"#);
    let source = SourceSpec {
        id: "other".into(),
        url: "ws://other/db".into(),
        paths: vec!["catalog".into()],
        local_prefix: "ext".into(),
        exclude_prefixes: vec!["catalog/hidden".into()],
    };
    let here = node(&TopologySpec { sources: vec![source], ..TopologySpec::default() });
    let mut pair = linked(here, there, 1);
    pair.run();
    assert_eq!(get(&pair, 0, "ext/catalog"), r#"{"a":{"x":1},"b":2}"#);
    pair.ends[1].host.delete("catalog/a");
    set(&pair, 1, "catalog/c", "3");
    pair.run();
    assert_eq!(get(&pair, 0, "ext/catalog"), r#"{"b":2,"c":3}"#);
    assert_eq!(verified(&mut pair), 1);
    set(&pair, 1, "catalog/hidden", "4");
    pair.run();
    assert_eq!(pair.pulled().position, pair.ends[1].host.head());
}

#[test]
fn a_hub_hands_one_edges_commits_to_the_others_and_not_back() {
    let edges = [node(&edge(&[("config", Mode::Sync)])), node(&edge(&[("config", Mode::Sync)]))];
    let [one, two] = edges;
    let mut pair = linked(one, node(&hub()), 200);
    pair.run();
    set(&pair, 0, "config/a", r#"{"from":"one"}"#);
    pair.run();
    assert_eq!(pair.pulled().commits, 0, "it does not come back");
    let [one, hub] = pair.ends.map(|end| end.host);
    let mut pair = linked(two, hub, 200);
    pair.run();
    assert_eq!(get(&pair, 0, "config/a/from"), r#""one""#);
    set(&pair, 0, "config/b", r#"{"from":"two"}"#);
    pair.run();
    let [_, hub] = pair.ends.map(|end| end.host);
    let mut pair = linked(one, hub, 200);
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Tail));
    assert_eq!(get(&pair, 0, "config/b/from"), r#""two""#);
    assert_eq!(get(&pair, 0, "config"), get(&pair, 1, "config"));
}

#[test]
fn a_relay_serves_what_it_follows_with_its_author() {
    let top = node(&hub());
    top.set("users", r#"{"u1":1}"#);
    let relay = TopologySpec { paths: vec![PathSpec::new("users", Mode::Replica)], ..hub() };
    let relay = TopologySpec { primary_url: Some("ws://top/db".into()), ..relay };
    let mut pair = linked(node(&relay), top, 200);
    pair.run();
    set(&pair, 1, "users/u2", "2");
    pair.run();
    let author = pair.ends[1].host.store.tree().origin();
    let [relay, top] = pair.ends.map(|end| end.host);
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), relay, 200);
    pair.run();
    assert_eq!(get(&pair, 0, "users"), r#"{"u1":1,"u2":2}"#);
    let [leaf, relay] = pair.ends.map(|end| end.host);
    let mut pair = linked(relay, top, 200);
    pair.run();
    pair.ends[1].host.delete("users/u1");
    pair.run();
    let [relay, _top] = pair.ends.map(|end| end.host);
    let mut pair = linked(leaf, relay, 200);
    pair.run();
    assert_eq!(get(&pair, 0, "users"), r#"{"u2":2}"#);
    let tree = pair.ends[0].host.store.tree().clone();
    let commits = tree.read_commits(0, 1 << 20).unwrap();
    let relayed = pair.ends[1].host.store.tree().origin();
    let last = commits.iter().rev().find(|commit| !commit.ops.is_empty()).unwrap();
    assert_eq!((last.author.version.origin, &last.author.via), (author, &vec![relayed]));
}

/// Promise: a comparison holds a few MiB of either end, and goes on behind them until all is alike.
#[test]
fn what_differs_by_more_than_is_compared_at_a_time_is_repaired_piece_by_piece() {
    const LEAF_BYTES: usize = 512 << 10;
    const COMPARED_BYTES: usize = 4 << 20;
    let large = |letter: &str| format!("\"{}\"", letter.repeat(LEAF_BYTES));
    let source = node(&hub());
    for number in 10..20 {
        source.set(&format!("users/a{number}"), &large("s"));
    }
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 200);
    pair.run();
    for number in 10..20 {
        set(&pair, 0, &format!("users/a{number}"), &large("e"));
    }
    for number in 10..28 {
        set(&pair, 0, &format!("users/z{number}"), &large("e"));
    }
    pair.run();
    let mut rounds = 0;
    while get(&pair, 0, "users") != get(&pair, 1, "users") {
        rounds += 1;
        assert!(rounds < 60, "it comes to an end: {:?}", pair.pulled());
        pair.event(0, Event::Verify { repair: true });
        pair.pass(Duration::from_secs(5));
    }
    let mut held = std::collections::BTreeMap::<u64, usize>::new();
    for (_, message) in &pair.said {
        if let Message::BucketPage { number, ops, .. } = message {
            *held.entry(*number).or_default() += ops.len() * LEAF_BYTES;
        }
    }
    assert!(held.len() > 2, "in pieces: {held:?}");
    let most = COMPARED_BYTES + 2 * LEAF_BYTES;
    assert!(held.values().all(|bytes| *bytes <= most), "{held:?}");
}
