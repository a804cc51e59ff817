//! The rows of the table of modes in which another node is right: `replica`, `readonly`, the
//! destinations of sources; and writes that are forwarded.

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_topology::{Mode, SourceSpec, TopologySpec};
use trellis_tree::{Check, Commit};

use super::fleet::Fleet;
use super::tools::{delete_op, edge, hub, pair, set_op, setting, when};
use crate::Case;
use crate::tree::TreeWorld;
use crate::tree::tools::{incrementing, push_op};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.topology.replica_is_filled", &["topology.mode.replica"], replica_filled),
    Case::new("replication.topology.replica_follows", &["topology.mode.replica"], replica_follows),
    Case::new(
        "replication.topology.replica_replaces",
        &["topology.mode.replica"],
        replica_replaces,
    ),
    Case::new(
        "replication.topology.forward_commits_upstream",
        &["topology.forward.whole"],
        forwarded,
    ),
    Case::new("replication.topology.forward_conditions", &["topology.forward.whole"], conditions),
    Case::new("replication.topology.forward_transforms", &["topology.forward.whole"], transforms),
    Case::new("replication.topology.forward_push", &["topology.forward.whole"], pushes),
    Case::new("replication.topology.forward_key_once", &["topology.forward.once"], once),
    Case::new(
        "replication.topology.forward_while_cut",
        &["topology.forward.unavailable"],
        while_cut,
    ),
    Case::new(
        "replication.topology.forward_through_a_relay",
        &["topology.forward.whole"],
        two_hops,
    ),
    Case::new("replication.topology.forward_not_granted", &["topology.grant.only"], not_granted),
    Case::new("replication.topology.replica_rejects", &["topology.mode.replica"], rejects),
    Case::new(
        "replication.topology.readonly_is_filled",
        &["topology.mode.readonly"],
        readonly_filled,
    ),
    Case::new(
        "replication.topology.readonly_follows",
        &["topology.mode.readonly"],
        readonly_follows,
    ),
    Case::new(
        "replication.topology.readonly_refuses",
        &["topology.mode.readonly"],
        readonly_refuses,
    ),
    Case::new(
        "replication.topology.readonly_replaces",
        &["topology.mode.readonly"],
        readonly_replaces,
    ),
    Case::new("replication.topology.source_is_filled", &["topology.mode.source"], source_filled),
    Case::new(
        "replication.topology.source_is_remapped",
        &["topology.mode.source"],
        source_remapped,
    ),
    Case::new(
        "replication.topology.source_refuses_writes",
        &["topology.mode.source"],
        source_refuses,
    ),
    Case::new(
        "replication.topology.source_leaves_out",
        &["topology.mode.source"],
        source_leaves_out,
    ),
    Case::new("replication.topology.sources_are_apart", &["topology.mode.source"], sources_apart),
    Case::new(
        "replication.topology.source_below_a_delete",
        &["topology.mode.source"],
        below_delete,
    ),
];

fn replica_filled(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    for user in 0..50 {
        fleet.set("hub", &format!("users/u{user}"), json!({"name": user, "tags": ["a"]}));
    }
    fleet.set("hub", "other/x", json!(1));
    fleet.settle();
    assert_eq!(fleet.get("edge", "users/u49/name"), json!(49));
    assert_eq!(fleet.get("edge", "other"), json!(null));
    fleet.agree(&["hub", "edge"], "users");
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert!(pull.complete, "{pull:?}");
}

fn replica_follows(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    fleet.set("hub", "users", json!({"u1": {"a": 1}, "u2": {"a": 1}}));
    fleet.set("hub", "users/u1/b", json!(2));
    fleet.delete("hub", "users/u2");
    assert_eq!(fleet.get("edge", "users"), json!({"u1": {"a": 1, "b": 2}}));
    fleet.cut("edge");
    fleet.set("hub", "users/u3", json!(3));
    fleet.delete("hub", "users/u1");
    fleet.heal("edge");
    assert_eq!(fleet.get("edge", "users"), json!({"u3": 3}));
    fleet.agree(&["hub", "edge"], "users");
}

fn replica_replaces(world: &TreeWorld) {
    let mut fleet = pair(world, &[]);
    fleet.set("edge", "users", json!({"mine": 1, "u1": "mine"}));
    fleet.set("hub", "users", json!({"u1": "theirs", "u2": 2}));
    fleet.reconfigure("hub", hub(&["users"], &[]));
    fleet.reconfigure("edge", edge(&[("users", Mode::Replica)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "users"), json!({"u1": "theirs", "u2": 2}));
    fleet.agree(&["hub", "edge"], "users");
}

fn forwarded(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    let committed = fleet.set("edge", "users/u1", json!({"name": "Ann"}));
    let upstream = committed.upstream.expect("it was committed there");
    assert_eq!(upstream.rev, fleet.rev("hub"), "the exact commit is named");
    assert!(upstream.applied, "and was applied here before the answer");
    assert_eq!(fleet.get("hub", "users/u1/name"), json!("Ann"));
    assert_eq!(fleet.get("edge", "users/u1/name"), json!("Ann"), "one reads one's own write");
    fleet.delete("edge", "users/u1");
    assert_eq!(fleet.get("hub", "users"), json!(null));
    fleet.agree(&["hub", "edge"], "users");
}

fn conditions(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    let create = || setting("users/u1", json!(1)).when(when("users/u1", Check::Absent));
    fleet.commit("edge", create()).expect("it is absent");
    let error = fleet.commit("edge", create()).expect_err("it is there by now");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.failed.len(), 1, "the authority says what is there: {error:?}");
    assert_eq!(error.failed[0].value.get(), "1");
    let both = Commit::new(vec![set_op("users/u1", json!(2)), set_op("users/u2", json!(2))]);
    let both = both.when(when("users/u2", Check::Exists));
    fleet.commit("edge", both).expect_err("all or nothing");
    assert_eq!(fleet.get("hub", "users"), json!({"u1": 1}));
}

fn transforms(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    for _ in 0..3 {
        fleet.commit("edge", incrementing("users/count", 2)).expect("it is forwarded");
    }
    assert_eq!(fleet.get("hub", "users/count"), json!(6), "resolved once, at the authority");
    assert_eq!(fleet.get("edge", "users/count"), json!(6));
}

fn pushes(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    let push = Commit::new(vec![push_op("users", json!("new"))]);
    let committed = fleet.commit("edge", push).expect("it is forwarded");
    let id = committed.results[0].pushed.clone().expect("an id");
    assert_eq!(fleet.get("hub", &format!("users/{id}")), json!("new"));
    assert_eq!(fleet.get("edge", &format!("users/{id}")), json!("new"));
}

fn once(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    let write = || incrementing("users/count", 1).with_key("the-same");
    let first = fleet.commit("edge", write()).expect("it is forwarded");
    let again = fleet.commit("edge", write()).expect("it is answered again");
    assert!(!first.replayed && again.replayed);
    assert_eq!(fleet.get("hub", "users/count"), json!(1));
}

fn while_cut(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    fleet.set("hub", "users/u1", json!(1));
    fleet.cut("edge");
    let kind = ErrorKind::Unavailable;
    fleet.refused("edge", setting("users/u1", json!(2)), kind, "upstream_unavailable");
    assert_eq!(fleet.get("edge", "users/u1"), json!(1), "reads go on");
    fleet.set("edge", "mine/a", json!(1));
    fleet.heal("edge");
    fleet.set("edge", "users/u1", json!(2));
    assert_eq!(fleet.get("hub", "users/u1"), json!(2));
}

fn two_hops(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["users"], &[]));
    let mut relay = edge(&[("users", Mode::Replica)]);
    relay.peers = hub(&["users"], &[]).peers;
    fleet.add("relay", relay);
    fleet.add("leaf", super::tools::below("relay", &[("users", Mode::Replica)]));
    fleet.settle();
    fleet.set("leaf", "users/u1", json!("from afar"));
    assert_eq!(fleet.get("hub", "users/u1"), json!("from afar"));
    fleet.agree(&["hub", "relay", "leaf"], "users");
}

fn not_granted(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&["users"], &[]);
    spec.peers.as_mut().expect("a grant")[0].forward = false;
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("users", Mode::Replica)]));
    fleet.settle();
    fleet.set("hub", "users/u1", json!(1));
    let error = fleet.commit("edge", setting("users/u1", json!(2))).expect_err("not granted");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(fleet.get("hub", "users/u1"), json!(1));
}

fn rejects(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["users"], &[]));
    let mut spec = edge(&[("users", Mode::Replica)]);
    spec.write_proxy = "reject".to_owned();
    fleet.add("edge", spec);
    fleet.settle();
    fleet.set("hub", "users/u1", json!(1));
    fleet.refused("edge", setting("users/u1", json!(2)), ErrorKind::Denied, "write_rejected");
    assert_eq!(fleet.get("edge", "users/u1"), json!(1));
}

fn readonly_filled(world: &TreeWorld) {
    let mut fleet = pair(world, &[("feeds", Mode::Readonly)]);
    fleet.set("hub", "feeds", json!({"a": {"x": 1}, "b": []}));
    fleet.settle();
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": {"x": 1}, "b": []}));
}

fn readonly_follows(world: &TreeWorld) {
    let mut fleet = pair(world, &[("feeds", Mode::Readonly)]);
    fleet.settle();
    fleet.set("hub", "feeds/a", json!(1));
    fleet.set("hub", "feeds/b", json!(2));
    fleet.delete("hub", "feeds/a");
    assert_eq!(fleet.get("edge", "feeds"), json!({"b": 2}));
    fleet.restart("edge");
    fleet.set("hub", "feeds/c", json!(3));
    fleet.settle();
    fleet.agree(&["hub", "edge"], "feeds");
}

fn readonly_refuses(world: &TreeWorld) {
    let mut fleet = pair(world, &[("feeds", Mode::Readonly)]);
    fleet.settle();
    fleet.set("hub", "feeds/a", json!(1));
    let (kind, reason) = (ErrorKind::Denied, "read_only_path");
    fleet.refused("edge", setting("feeds/a", json!(2)), kind, reason);
    fleet.refused("edge", Commit::new(vec![delete_op("feeds")]), kind, reason);
    fleet.refused("edge", Commit::new(vec![push_op("feeds", json!(2))]), kind, reason);
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": 1}));
}

fn readonly_replaces(world: &TreeWorld) {
    let mut fleet = pair(world, &[]);
    fleet.set("hub", "feeds", json!({"a": 1}));
    fleet.advance(10);
    fleet.set("edge", "feeds", json!({"a": "later", "left": "over"}));
    fleet.reconfigure("hub", hub(&["feeds"], &[]));
    fleet.reconfigure("edge", edge(&[("feeds", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": 1}), "the upstream is right, however old");
}

fn following(sources: &[(&str, &str, &[&str], &str)]) -> TopologySpec {
    let source = |(id, url, paths, local): &(&str, &str, &[&str], &str)| SourceSpec {
        id: (*id).to_owned(),
        url: (*url).to_owned(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        local_prefix: (*local).to_owned(),
        exclude_prefixes: Vec::new(),
    };
    TopologySpec { sources: sources.iter().map(source).collect(), ..TopologySpec::default() }
}

fn source_filled(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("shop", hub(&["catalog"], &[]));
    fleet.set("shop", "catalog", json!({"p1": {"price": 3}, "p2": {"price": 4}}));
    fleet.add("reader", following(&[("shop", "shop", &["catalog"], "")]));
    fleet.settle();
    fleet.delete("shop", "catalog/p1");
    assert_eq!(fleet.get("reader", "catalog"), json!({"p2": {"price": 4}}));
    fleet.agree(&["shop", "reader"], "catalog");
}

fn source_remapped(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("shop", hub(&["catalog", "news"], &[]));
    fleet.set("shop", "catalog/p1", json!({"price": 3}));
    fleet.set("shop", "news/n1", json!("first"));
    fleet.add("reader", following(&[("shop", "shop", &["catalog", "news"], "ext/shop")]));
    fleet.settle();
    fleet.set("shop", "catalog", json!({"p2": {"price": 5}}));
    let expected = json!({"catalog": {"p2": {"price": 5}}, "news": {"n1": "first"}});
    assert_eq!(fleet.get("reader", "ext/shop"), expected);
    assert_eq!(fleet.get("reader", "catalog"), json!(null));
}

fn source_refuses(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("shop", hub(&["catalog"], &[]));
    fleet.add("reader", following(&[("shop", "shop", &["catalog"], "ext")]));
    fleet.settle();
    fleet.set("shop", "catalog/p1", json!(1));
    let (kind, reason) = (ErrorKind::Denied, "source_owned");
    fleet.refused("reader", setting("ext/catalog/p1", json!(2)), kind, reason);
    fleet.refused("reader", Commit::new(vec![delete_op("ext/catalog")]), kind, reason);
    fleet.set("reader", "ext/own", json!(1));
    assert_eq!(fleet.get("reader", "ext"), json!({"catalog": {"p1": 1}, "own": 1}));
}

fn source_leaves_out(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("shop", hub(&["catalog"], &[]));
    fleet.set("shop", "catalog", json!({"p1": 1, "drafts": {"d1": 2}}));
    let mut spec = following(&[("shop", "shop", &["catalog"], "")]);
    spec.sources[0].exclude_prefixes = vec!["catalog/drafts".to_owned()];
    fleet.add("reader", spec);
    fleet.settle();
    fleet.set("shop", "catalog/drafts/d2", json!(3));
    fleet.set("shop", "catalog/p2", json!(4));
    assert_eq!(fleet.get("reader", "catalog"), json!({"p1": 1, "p2": 4}));
}

fn sources_apart(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    for name in ["shop", "press"] {
        fleet.add(name, hub(&["items"], &[]));
        fleet.set(name, "items/old", json!(name));
    }
    let sources: &[(&str, &str, &[&str], &str)] =
        &[("a", "shop", &["items"], "ext/shop"), ("b", "press", &["items"], "ext/press")];
    fleet.add("reader", following(sources));
    fleet.stop("press");
    fleet.settle();
    fleet.set("shop", "items/new", json!(1));
    let shop = json!({"items": {"old": "shop", "new": 1}});
    assert_eq!(fleet.get("reader", "ext"), json!({"shop": shop}), "one is down, the other goes on");
    fleet.start("press");
    fleet.settle();
    assert_eq!(fleet.get("reader", "ext/press/items"), json!({"old": "press"}));
}

/// What is removed above a destination leaves it alone: the source still has it.
fn below_delete(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("shop", hub(&["items"], &[]));
    fleet.set("shop", "items/a", json!(1));
    fleet.add("reader", following(&[("shop", "shop", &["items"], "feeds/ext")]));
    fleet.settle();
    fleet.set("reader", "feeds/own", json!({"x": 1}));
    fleet.delete("reader", "feeds");
    assert_eq!(fleet.get("reader", "feeds"), json!({"ext": {"items": {"a": 1}}}));
    let whole = setting("feeds", json!({"new": 1, "ext": {"items": {"a": 2}}}));
    fleet.refused("reader", whole, ErrorKind::InvalidInput, "mixed_routing");
    fleet.set("reader", "feeds", json!({"new": 1}));
    assert_eq!(fleet.get("reader", "feeds"), json!({"new": 1, "ext": {"items": {"a": 1}}}));
}
