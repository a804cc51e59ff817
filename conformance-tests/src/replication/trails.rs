//! Loops and relays, grants and refusals, changes of mode, restarts, copies of nodes.

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_topology::{Mode, PeerSpec, RefusalReason, SourceSpec, TopologySpec};

use super::fleet::Fleet;
use super::tools::{below, edge, grant, hub, matching_hub, pair, rules, setting};
use crate::Case;
use crate::tree::TreeWorld;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.topology.no_echo", &["topology.loop.dead"], no_echo),
    Case::new("replication.topology.relay_of_a_relay", &["topology.loop.relayed"], chain),
    Case::new("replication.topology.relay_lost_and_back", &["topology.loop.relayed"], relay_lost),
    Case::new("replication.topology.two_ways_to_one", &["topology.loop.dead"], diamond),
    Case::new("replication.topology.ring_comes_to_rest", &["topology.loop.dead"], ring),
    Case::new("replication.topology.remap_cycle_ends", &["topology.loop.dead"], remap_cycle),
    Case::new("replication.topology.dual_hubs_in_sync", &["topology.loop.dead"], dual_hubs),
    Case::new("replication.topology.each_others_replica", &["topology.refuse.typed"], each_other),
    Case::new("replication.topology.dual_authority", &["topology.refuse.typed"], dual_authority),
    Case::new(
        "replication.topology.push_not_accepted",
        &["topology.refuse.typed"],
        push_not_accepted,
    ),
    Case::new(
        "replication.topology.pull_not_granted",
        &["topology.refuse.typed"],
        pull_not_granted,
    ),
    Case::new("replication.topology.unknown_peer", &["topology.refuse.typed"], unknown_peer),
    Case::new(
        "replication.topology.node_entry_before_role",
        &["topology.grant.only"],
        node_before_role,
    ),
    Case::new("replication.topology.grants_add_up", &["topology.grant.only"], grants_add_up),
    Case::new("replication.topology.push_within_the_grant", &["topology.grant.only"], push_within),
    Case::new("replication.topology.owner_is_right", &["topology.grant.owner"], owner),
    Case::new("replication.topology.mode_readonly_to_sync", &["topology.mode.change"], to_sync),
    Case::new("replication.topology.mode_sync_to_readonly", &["topology.mode.change"], to_readonly),
    Case::new(
        "replication.topology.mode_primary_to_replica",
        &["topology.mode.change"],
        to_replica,
    ),
    Case::new("replication.topology.prefix_is_added", &["topology.mode.change"], prefix_added),
    Case::new("replication.topology.restart_goes_on", &["topology.feed.resumed"], restart_goes_on),
    Case::new("replication.topology.source_restarts", &["topology.feed.resumed"], source_restarts),
    Case::new(
        "replication.topology.upstream_is_another_node",
        &["topology.feed.resumed"],
        other_node,
    ),
];

fn no_echo(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.set("edge", "config/a", json!(0));
    let before = (fleet.rev("hub"), fleet.rev("edge"));
    for value in 1..=10 {
        fleet.set("edge", "config/a", json!(value));
        fleet.set("hub", "config/b", json!(value));
    }
    let after = (fleet.rev("hub"), fleet.rev("edge"));
    assert_eq!(after, (before.0 + 20, before.1 + 20), "each commit is logged once at each node");
}

fn relay(paths: &[(&str, Mode)]) -> TopologySpec {
    TopologySpec { peers: matching_hub(paths).peers, ..edge(paths) }
}

fn chain(world: &TreeWorld) {
    let paths = [("config", Mode::Sync), ("feeds", Mode::Readonly)];
    let mut fleet = Fleet::new(world);
    fleet.add("hub", matching_hub(&paths));
    fleet.add("relay", relay(&paths));
    fleet.add("leaf", below("relay", &paths));
    fleet.set("hub", "feeds/old", json!(1));
    fleet.settle();
    fleet.set("leaf", "config/from", json!("leaf"));
    fleet.set("hub", "feeds/new", json!(2));
    fleet.set("hub", "config/also", json!("hub"));
    assert_eq!(fleet.get("leaf", "feeds"), json!({"old": 1, "new": 2}));
    assert_eq!(fleet.get("hub", "config"), json!({"from": "leaf", "also": "hub"}));
    fleet.agree(&["hub", "relay", "leaf"], "config");
    fleet.agree(&["hub", "relay", "leaf"], "feeds");
}

fn relay_lost(world: &TreeWorld) {
    let paths = [("config", Mode::Sync), ("feeds", Mode::Readonly)];
    let mut fleet = Fleet::new(world);
    fleet.add("hub", matching_hub(&paths));
    fleet.add("relay", relay(&paths));
    fleet.add("leaf", below("relay", &paths));
    fleet.settle();
    fleet.stop("relay");
    fleet.set("hub", "feeds/a", json!(1));
    fleet.set("hub", "config/a", json!("hub"));
    fleet.advance(5);
    fleet.set("leaf", "config/a", json!("leaf"));
    fleet.start("relay");
    fleet.settle();
    for node in ["hub", "relay", "leaf"] {
        assert_eq!(fleet.get(node, "config/a"), json!("leaf"), "{node}");
        assert_eq!(fleet.get(node, "feeds/a"), json!(1), "{node}");
    }
}

fn source(id: &str, url: &str, path: &str, local_prefix: &str) -> SourceSpec {
    SourceSpec {
        id: id.to_owned(),
        url: url.to_owned(),
        paths: vec![path.to_owned()],
        local_prefix: local_prefix.to_owned(),
        exclude_prefixes: Vec::new(),
    }
}

/// Two relays between a hub and a node that keeps in sync with one and follows the other.
fn diamond(world: &TreeWorld) {
    let paths = [("config", Mode::Sync)];
    let mut fleet = Fleet::new(world);
    fleet.add("hub", matching_hub(&paths));
    fleet.add("left", relay(&paths));
    fleet.add("right", relay(&paths));
    let mut spec = below("left", &paths);
    spec.sources = vec![source("right", "right", "config", "seen")];
    fleet.add("leaf", spec);
    fleet.settle();
    fleet.set("leaf", "config/a", json!("leaf"));
    fleet.set("hub", "config/b", json!("hub"));
    for node in ["hub", "left", "right", "leaf"] {
        assert_eq!(fleet.get(node, "config"), json!({"a": "leaf", "b": "hub"}), "{node}");
    }
    assert_eq!(fleet.get("leaf", "seen/config/b"), json!("hub"));
}

/// Three nodes, each the next one's upstream for the same path in sync.
fn ring(world: &TreeWorld) {
    let paths = [("config", Mode::Sync)];
    let names = ["one", "two", "three"];
    let mut fleet = Fleet::new(world);
    for (at, name) in names.iter().enumerate() {
        let peers = matching_hub(&paths).peers;
        fleet.add(name, TopologySpec { peers, ..below(names[(at + 1) % 3], &paths) });
    }
    fleet.settle();
    for (at, name) in names.iter().enumerate() {
        let before = names.map(|name| fleet.rev(name));
        fleet.set(name, &format!("config/{name}"), json!(at));
        for (node, before) in std::iter::zip(names, before) {
            assert_eq!(fleet.logged(node, before), 1, "{node} logs it once");
        }
    }
    fleet.delete("two", "config/one");
    fleet.agree(&names, "config");
    assert_eq!(fleet.get("three", "config"), json!({"two": 1, "three": 2}));
}

/// Each takes what the other has taken from it: it ends where a relay has seen it before.
fn remap_cycle(world: &TreeWorld) {
    let spec = |other: &str| TopologySpec {
        sources: vec![source("other", other, "data", "data/from")],
        peers: hub(&["data"], &[]).peers,
        ..TopologySpec::default()
    };
    let mut fleet = Fleet::new(world);
    fleet.add("one", spec("two"));
    fleet.add("two", spec("one"));
    fleet.settle();
    for (from, to) in [("one", "two"), ("two", "one")] {
        fleet.assert_refused(from, to, RefusalReason::Unsupported);
    }
}

fn dual_hubs(world: &TreeWorld) {
    let paths = [("config", Mode::Sync)];
    let mut fleet = Fleet::new(world);
    for (name, other) in [("east", "west"), ("west", "east")] {
        let peers = matching_hub(&paths).peers;
        fleet.add(name, TopologySpec { peers, ..below(other, &paths) });
    }
    fleet.settle();
    let before = (fleet.rev("east"), fleet.rev("west"));
    fleet.set("east", "config/a", json!(1));
    fleet.set("west", "config/b", json!(2));
    assert_eq!((fleet.logged("east", before.0), fleet.logged("west", before.1)), (2, 2));
    fleet.agree(&["east", "west"], "config");
}

fn each_other(world: &TreeWorld) {
    let paths = [("data", Mode::Replica)];
    let mut fleet = Fleet::new(world);
    for (name, other) in [("east", "west"), ("west", "east")] {
        let peers = matching_hub(&paths).peers;
        fleet.add(name, TopologySpec { peers, ..below(other, &paths) });
    }
    fleet.settle();
    let refused = |from: &str, to: &str| {
        fleet.ended(from, to).is_some_and(|ended| ended.reason == RefusalReason::NoAuthority)
    };
    assert!(refused("east", "west") || refused("west", "east"), "nobody owns it");
}

fn dual_authority(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&[], &[]);
    spec.paths = rules(&[("files", Mode::Primary)]);
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("files", Mode::Primary)]));
    fleet.set("edge", "files/a", json!(1));
    fleet.settle();
    fleet.assert_refused("edge", "hub", RefusalReason::DualAuthority);
    assert_eq!(fleet.get("hub", "files"), json!(null));
}

fn push_not_accepted(world: &TreeWorld) {
    for mode in [Mode::Primary, Mode::Sync, Mode::Writeonly] {
        let mut fleet = Fleet::new(world);
        fleet.add(&format!("hub-{mode}"), hub(&["data"], &[]));
        let name = format!("edge-{mode}");
        fleet.add(&name, below(&format!("hub-{mode}"), &[("data", mode)]));
        fleet.set(&name, "data/a", json!(1));
        fleet.settle();
        fleet.assert_refused(&name, &format!("hub-{mode}"), RefusalReason::PushNotAccepted);
        assert_eq!(fleet.get(&name, "data/a"), json!(1), "what was written here stays");
    }
}

fn pull_not_granted(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["users/public"], &[]));
    fleet.set("hub", "users", json!({"public": 1, "private": 2}));
    fleet.add("edge", edge(&[("users", Mode::Readonly)]));
    fleet.settle();
    fleet.assert_refused("edge", "hub", RefusalReason::Denied);
    assert_eq!(fleet.get("edge", "users"), json!(null));
    fleet.reconfigure("edge", edge(&[("users/public", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "users"), json!({"public": 1}));
}

fn unknown_peer(world: &TreeWorld) {
    let mut fleet = pair(world, &[("users", Mode::Readonly)]);
    fleet.set_roles("edge", &["guest"]);
    fleet.settle();
    fleet.assert_refused("edge", "hub", RefusalReason::Denied);
}

fn node_before_role(world: &TreeWorld) {
    let mut spec = hub(&["users"], &[]);
    let own = PeerSpec { node: Some("edge".to_owned()), role: None, ..grant(&["news"], &[]) };
    spec.peers.as_mut().expect("grants").push(own);
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    fleet.set("hub", "news/a", json!(1));
    fleet.add("edge", edge(&[("news", Mode::Readonly)]));
    fleet.add("other", edge(&[("users", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "news/a"), json!(1));
    fleet.reconfigure("edge", edge(&[("users", Mode::Readonly)]));
    fleet.settle();
    fleet.assert_refused("edge", "hub", RefusalReason::Denied);
    assert!(fleet.ended("other", "hub").is_none(), "by its role it may");
}

fn grants_add_up(world: &TreeWorld) {
    let mut spec = hub(&["users"], &[]);
    let everyone = PeerSpec { role: None, ..grant(&["news"], &["reports"]) };
    spec.peers.as_mut().expect("grants").push(everyone);
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    fleet.set("hub", "news/a", json!(1));
    fleet.set("hub", "users/a", json!(1));
    let paths = [("news", Mode::Readonly), ("users", Mode::Readonly), ("reports", Mode::Writeonly)];
    fleet.add("edge", edge(&paths));
    fleet.settle();
    fleet.set("edge", "reports/r", json!(1));
    assert_eq!(fleet.get("edge", "users/a"), json!(1));
    assert_eq!(fleet.get("edge", "news/a"), json!(1));
    assert_eq!(fleet.get("hub", "reports/r"), json!(1));
}

/// What lies in a zone that the hub keeps for itself is not written by a peer's push.
fn push_within(world: &TreeWorld) {
    let mut spec = hub(&["config"], &["config"]);
    spec.exclude_prefixes = vec!["config/locked".to_owned()];
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    fleet.set("hub", "config/locked/k", json!("hub"));
    fleet.add("edge", edge(&[("config", Mode::Sync)]));
    fleet.set("edge", "config/locked/k", json!("edge"));
    fleet.set("edge", "config/a", json!(1));
    fleet.settle();
    fleet.set("edge", "config/locked/more", json!("edge"));
    fleet.delete("edge", "config");
    assert_eq!(fleet.get("hub", "config"), json!({"locked": {"k": "hub"}}));
}

/// A hub that one node owns `files` of.
fn owned_by_edge() -> TopologySpec {
    let entry = PeerSpec {
        node: Some("edge".to_owned()),
        role: None,
        merge: "owner".to_owned(),
        ..grant(&[], &["files"])
    };
    TopologySpec { peers: Some(vec![entry, grant(&["files"], &[])]), ..TopologySpec::default() }
}

fn owner(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", TopologySpec::default());
    fleet.set("hub", "files/left", json!("over"));
    fleet.reconfigure("hub", owned_by_edge());
    fleet.add("edge", edge(&[("files", Mode::Primary)]));
    fleet.set("edge", "files/a", json!(1));
    fleet.add("reader", edge(&[("files", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("hub", "files"), json!({"a": 1}), "what its owner does not have goes");
    fleet.refused("hub", setting("files/b", json!(1)), ErrorKind::Denied, "source_owned");
    fleet.set("edge", "files/b", json!(2));
    assert_eq!(fleet.get("reader", "files"), json!({"a": 1, "b": 2}));
    fleet.add("thief", edge(&[("files", Mode::Primary)]));
    fleet.settle();
    fleet.assert_refused("thief", "hub", RefusalReason::DualAuthority);
}

fn to_sync(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["data"], &["data"]));
    fleet.add("edge", edge(&[("data", Mode::Readonly)]));
    fleet.set("hub", "data/a", json!(1));
    fleet.settle();
    fleet.reconfigure("edge", edge(&[("data", Mode::Sync)]));
    fleet.set("edge", "data/b", json!(2));
    fleet.settle();
    assert_eq!(fleet.get("hub", "data"), json!({"a": 1, "b": 2}));
    fleet.agree(&["hub", "edge"], "data");
}

fn to_readonly(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["data"], &["data"]));
    fleet.add("edge", edge(&[("data", Mode::Sync)]));
    fleet.set("hub", "data/a", json!(1));
    fleet.settle();
    fleet.cut("edge");
    fleet.set("edge", "data/unsent", json!("mine"));
    fleet.reconfigure("edge", edge(&[("data", Mode::Readonly)]));
    fleet.heal("edge");
    assert_eq!(fleet.get("edge", "data"), json!({"a": 1}));
    let aside = fleet.get("edge", "_repl/set_aside").to_string();
    assert!(aside.contains("mine"), "what the new mode discards is set aside: {aside}");
    fleet.agree(&["hub", "edge"], "data");
}

fn to_replica(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["data"], &["data"]));
    fleet.set("hub", "data/theirs", json!(1));
    fleet.add("edge", edge(&[("data", Mode::Primary)]));
    fleet.set("edge", "data/mine", json!(2));
    fleet.settle();
    assert_eq!(fleet.get("edge", "data"), json!({"mine": 2}));
    fleet.reconfigure("edge", edge(&[("data", Mode::Replica)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "data"), json!({"mine": 2, "theirs": 1}));
    fleet.set("edge", "data/mine", json!(3));
    assert_eq!(fleet.get("hub", "data/mine"), json!(3), "forwarded from now on");
    fleet.agree(&["hub", "edge"], "data");
}

fn prefix_added(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["a", "b"], &[]));
    fleet.set("hub", "a/x", json!(1));
    fleet.set("hub", "b/x", json!(1));
    fleet.add("edge", edge(&[("a", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "b"), json!(null));
    fleet.reconfigure("edge", edge(&[("a", Mode::Readonly), ("b", Mode::Readonly)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "b"), json!({"x": 1}), "what was there before comes too");
    fleet.agree(&["hub", "edge"], "a");
}

fn restart_goes_on(world: &TreeWorld) {
    let mut fleet = pair(world, &[("feeds", Mode::Readonly), ("config", Mode::Sync)]);
    for at in 0..50 {
        fleet.set("hub", &format!("feeds/f{at}"), json!(at));
    }
    fleet.settle();
    fleet.stop("edge");
    fleet.set("hub", "feeds/f1", json!("new"));
    fleet.delete("hub", "feeds/f2");
    fleet.start("edge");
    fleet.settle();
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.pages, 0, "it goes on where it was: {pull:?}");
    assert_eq!(fleet.get("edge", "feeds/f1"), json!("new"));
    fleet.agree(&["hub", "edge"], "feeds");
}

fn source_restarts(world: &TreeWorld) {
    let mut fleet = pair(world, &[("feeds", Mode::Readonly), ("config", Mode::Sync)]);
    fleet.set("hub", "feeds/a", json!(1));
    fleet.settle();
    fleet.stop("hub");
    fleet.set("edge", "config/offline", json!(1));
    fleet.start("hub");
    fleet.set("hub", "feeds/b", json!(2));
    fleet.settle();
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.pages, 0, "{pull:?}");
    assert_eq!(fleet.get("hub", "config/offline"), json!(1));
    fleet.agree(&["hub", "edge"], "feeds");
}

/// The upstream is replaced by another node: its data replaces what was followed, and what was
/// written here in sync reaches it.
fn other_node(world: &TreeWorld) {
    let paths = [("feeds", Mode::Readonly), ("config", Mode::Sync)];
    let mut fleet = Fleet::new(world);
    fleet.add("old", matching_hub(&paths));
    fleet.add("new", matching_hub(&paths));
    fleet.set("old", "feeds", json!({"a": 1, "b": 2}));
    fleet.set("new", "feeds", json!({"b": 3, "c": 4}));
    fleet.add("edge", below("old", &paths));
    fleet.settle();
    fleet.set("edge", "config/mine", json!(1));
    fleet.reconfigure("edge", below("new", &paths));
    fleet.settle();
    assert_eq!(fleet.get("edge", "feeds"), json!({"b": 3, "c": 4}));
    assert_eq!(fleet.get("new", "config"), json!({"mine": 1}));
    fleet.agree(&["new", "edge"], "feeds");
    fleet.agree(&["new", "edge"], "config");
}
