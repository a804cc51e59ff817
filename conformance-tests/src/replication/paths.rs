//! Which rule holds where, what spans several of them, and what of an operation above a prefix is
//! seen by who follows the prefix.

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_topology::{Mode, RefusalReason, Route, TopologySpec};
use trellis_tree::{Check, Commit};

use super::fleet::Fleet;
use super::tools::{
    below, delete_op, edge, hub, matching_hub, pair, path, rules, set_op, setting, update_op, when,
};
use crate::Case;
use crate::tree::TreeWorld;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.topology.longest_prefix", &["topology.zone.precedence"], longest),
    Case::new("replication.topology.whole_segments", &["topology.zone.precedence"], segments),
    Case::new(
        "replication.topology.role_primary_serves",
        &["topology.zone.precedence"],
        role_primary,
    ),
    Case::new(
        "replication.topology.role_replica_follows",
        &["topology.zone.precedence"],
        role_replica,
    ),
    Case::new("replication.topology.rule_above_role", &["topology.zone.precedence"], above_role),
    Case::new(
        "replication.topology.auth_is_excluded",
        &["topology.zone.precedence"],
        auth_excluded,
    ),
    Case::new("replication.topology.auth_by_a_rule", &["topology.zone.precedence"], auth_by_rule),
    Case::new("replication.topology.system_stays_here", &["topology.zone.system"], system_stays),
    Case::new("replication.topology.nonces_stay_here", &["topology.zone.system"], nonces_stay),
    Case::new(
        "replication.topology.auth_deleted_upstream",
        &["topology.zone.system"],
        auth_deleted,
    ),
    Case::new("replication.topology.auth_set_upstream", &["topology.zone.system"], auth_set),
    Case::new("replication.topology.auth_scalar_upstream", &["topology.zone.system"], auth_scalar),
    Case::new("replication.topology.auth_set_here_is_mixed", &["topology.route.mixed"], auth_mixed),
    Case::new("replication.topology.mixed_update", &["topology.route.mixed"], mixed_update),
    Case::new("replication.topology.mixed_delete", &["topology.route.mixed"], mixed_delete),
    Case::new("replication.topology.mixed_condition", &["topology.route.mixed"], mixed_condition),
    Case::new(
        "replication.topology.mixed_transaction",
        &["topology.route.mixed"],
        mixed_transaction,
    ),
    Case::new("replication.topology.ancestor_set", &["topology.feed.projected"], ancestor_set),
    Case::new(
        "replication.topology.ancestor_delete",
        &["topology.feed.projected"],
        ancestor_delete,
    ),
    Case::new(
        "replication.topology.ancestor_scalar",
        &["topology.feed.projected"],
        ancestor_scalar,
    ),
    Case::new("replication.topology.siblings_unseen", &["topology.feed.projected"], siblings),
    Case::new(
        "replication.topology.ancestor_while_cut",
        &["topology.feed.projected"],
        ancestor_cut,
    ),
    Case::new("replication.topology.overlap_is_cleared", &["topology.feed.projected"], overlap),
    Case::new("replication.topology.sync_in_a_replica", &["topology.zone.apart"], sync_in_replica),
    Case::new(
        "replication.topology.primary_in_a_replica",
        &["topology.zone.apart"],
        primary_in_replica,
    ),
    Case::new("replication.topology.left_out_by_the_source", &["topology.zone.apart"], left_out),
    Case::new("replication.topology.border_at_one_end", &["topology.zone.apart"], border),
];

fn longest(world: &TreeWorld) {
    let paths = [("a", Mode::Readonly), ("a/b", Mode::Primary), ("a/b/c", Mode::Readonly)];
    let mut spec = matching_hub(&paths);
    spec.paths = rules(&[("a/b", Mode::Primary), ("a/b/c", Mode::Primary)]);
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    fleet.set("hub", "a", json!({"x": 1}));
    fleet.set("hub", "a/b", json!({"x": 1}));
    fleet.set("hub", "a/b/c", json!({"x": 1}));
    fleet.add("edge", edge(&paths));
    fleet.set("edge", "a/b/mine", json!(2));
    fleet.settle();
    assert_eq!(fleet.get("edge", "a"), json!({"x": 1, "b": {"mine": 2, "c": {"x": 1}}}));
    fleet.refused("edge", setting("a/b/c/x", json!(2)), ErrorKind::Denied, "read_only_path");
    fleet.set("edge", "a/b/d", json!(3));
    assert_eq!(fleet.get("hub", "a/b/d"), json!(3));
}

fn segments(world: &TreeWorld) {
    let mut fleet = pair(world, &[("a", Mode::Readonly)]);
    fleet.set("hub", "ab", json!(1));
    fleet.set("hub", "a!", json!(1));
    fleet.set("hub", "a/b", json!(1));
    fleet.settle();
    assert_eq!(fleet.get("edge", "a"), json!({"b": 1}));
    assert_eq!(fleet.get("edge", "ab"), json!(null));
    fleet.set("edge", "ab", json!("mine"));
    fleet.set("edge", "a!", json!("mine"));
    assert_eq!(fleet.get("hub", "ab"), json!(1));
}

fn role_primary(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", TopologySpec::default());
    fleet.set("hub", "a", json!({"b": 1}));
    fleet.add("edge", TopologySpec { role: "replica".to_owned(), ..below("hub", &[]) });
    fleet.settle();
    fleet.set("hub", "c", json!(2));
    assert_eq!(fleet.get("edge", ""), json!({"a": {"b": 1}, "c": 2}));
}

fn role_replica(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", TopologySpec::default());
    fleet.add("edge", TopologySpec { role: "replica".to_owned(), ..below("hub", &[]) });
    fleet.settle();
    let committed = fleet.set("edge", "any/where", json!(1));
    assert!(committed.upstream.is_some_and(|upstream| upstream.applied));
    assert_eq!(fleet.get("hub", "any"), json!({"where": 1}));
    fleet.agree(&["hub", "edge"], "any");
}

fn above_role(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&[""], &["files"]);
    spec.paths = rules(&[("files", Mode::Primary)]);
    fleet.add("hub", spec);
    let paths = [("files", Mode::Primary)];
    fleet.add("edge", TopologySpec { role: "replica".to_owned(), ..below("hub", &paths) });
    fleet.set("hub", "data", json!(1));
    fleet.set("hub", "files/theirs", json!(1));
    fleet.set("edge", "files/mine", json!(2));
    fleet.settle();
    assert_eq!(fleet.get("edge", "data"), json!(1));
    assert_eq!(fleet.get("edge", "files"), json!({"mine": 2}));
    assert_eq!(fleet.get("hub", "files"), json!({"mine": 2, "theirs": 1}));
}

fn auth_excluded(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", TopologySpec::default());
    fleet.set_system("hub", "_auth/accounts/a", json!("secret"));
    fleet.set("hub", "data", json!(1));
    fleet.add("edge", TopologySpec { role: "replica".to_owned(), ..below("hub", &[]) });
    fleet.settle();
    assert_eq!(fleet.get("edge", "data"), json!(1));
    assert_eq!(fleet.get("edge", "_auth"), json!(null), "no rule names it");
    assert_eq!(fleet.topology("edge").mode(path("_auth/accounts").key()), None);
}

/// A hub that owns `_auth`, and an edge that replicates it.
fn auth(world: &TreeWorld) -> Fleet {
    let mut spec = hub(&["_auth"], &[]);
    spec.paths = rules(&[("_auth", Mode::Primary)]);
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("_auth", Mode::Replica)]));
    fleet.set_system("hub", "_auth/accounts", json!({"a": 1, "b": 2}));
    for own in ["_auth/nonces", "_auth/sessions", "_auth/server"] {
        fleet.set_system("hub", &format!("{own}/k"), json!("hub"));
        fleet.set_system("edge", &format!("{own}/k"), json!("edge"));
    }
    fleet.settle();
    fleet
}

fn own(fleet: &Fleet) -> serde_json::Value {
    let parts = ["nonces", "sessions", "server"];
    parts.map(|part| fleet.get("edge", &format!("_auth/{part}/k"))).to_vec().into()
}

fn auth_by_rule(world: &TreeWorld) {
    let mut fleet = auth(world);
    assert_eq!(fleet.get("edge", "_auth/accounts"), json!({"a": 1, "b": 2}));
    fleet.set_system("hub", "_auth/accounts/c", json!(3));
    assert_eq!(fleet.get("edge", "_auth/accounts/c"), json!(3));
}

fn system_stays(world: &TreeWorld) {
    let mut fleet = auth(world);
    assert_eq!(own(&fleet), json!(["edge", "edge", "edge"]));
    fleet.set_system("hub", "_auth/sessions/more", json!("hub"));
    fleet.set_system("hub", "_auth/server/key", json!("hub"));
    fleet.delete_system("hub", "_auth/server/k");
    assert_eq!(own(&fleet), json!(["edge", "edge", "edge"]));
    assert_eq!(fleet.get("edge", "_auth/server"), json!({"k": "edge"}), "the key stays there");
}

fn nonces_stay(world: &TreeWorld) {
    let mut fleet = auth(world);
    fleet.set_system("hub", "_auth/nonces/n", json!("hub"));
    assert_eq!(fleet.get("edge", "_auth/nonces"), json!({"k": "edge"}));
    let topology = fleet.topology("edge");
    assert_eq!(topology.mode(path("_auth/nonces/n").key()), Some(Mode::Primary));
}

fn auth_deleted(world: &TreeWorld) {
    let mut fleet = auth(world);
    fleet.delete_system("hub", "_auth");
    assert_eq!(fleet.get("edge", "_auth/accounts"), json!(null));
    assert_eq!(own(&fleet), json!(["edge", "edge", "edge"]), "another node's are not touched");
}

fn auth_set(world: &TreeWorld) {
    let mut fleet = auth(world);
    fleet.set_system("hub", "_auth", json!({"accounts": {"z": 9}, "nonces": {"k": "theirs"}}));
    assert_eq!(fleet.get("edge", "_auth/accounts"), json!({"z": 9}), "siblings are gone");
    assert_eq!(own(&fleet), json!(["edge", "edge", "edge"]));
}

/// A leaf cannot be where something is below it: it gives way to what this node owns.
fn auth_scalar(world: &TreeWorld) {
    let mut spec = hub(&["data"], &[]);
    spec.paths = Vec::new();
    let mut fleet = Fleet::new(world);
    fleet.add("hub", spec);
    let mut spec = edge(&[("data", Mode::Replica)]);
    spec.exclude_prefixes = vec!["data/own".to_owned()];
    fleet.add("edge", spec);
    fleet.set("hub", "data", json!({"a": 1}));
    fleet.set("edge", "data/own/k", json!("edge"));
    fleet.settle();
    fleet.set("hub", "data", json!(5));
    assert_eq!(fleet.get("edge", "data"), json!({"own": {"k": "edge"}}));
    fleet.set("hub", "data", json!({"b": 2}));
    assert_eq!(fleet.get("edge", "data"), json!({"own": {"k": "edge"}, "b": 2}));
}

fn auth_mixed(world: &TreeWorld) {
    let fleet = auth(world);
    let topology = fleet.topology("edge");
    let refused = |commit: Commit| match topology.route(&commit) {
        Route::Refused(error) => error.error.fact("reason").map(str::to_owned),
        other => panic!("{other:?}"),
    };
    let mixed = Some("mixed_routing".to_owned());
    assert_eq!(refused(Commit::new(vec![delete_op("_auth")])), mixed);
    let two = [("_auth/accounts/a", json!(1)), ("_auth/nonces/n", json!(1))];
    assert_eq!(refused(Commit::new(vec![update_op(&two)])), mixed);
    let accounts = Commit::new(vec![delete_op("_auth/accounts")]);
    assert!(matches!(topology.route(&accounts), Route::Forward { .. }));
}

/// `users` is the hub's, `mine` is this node's.
fn two_ways(world: &TreeWorld) -> Fleet {
    let mut fleet = pair(world, &[("users", Mode::Replica)]);
    fleet.settle();
    fleet.set("hub", "users/u1", json!(1));
    fleet.set("edge", "mine/a", json!(1));
    fleet
}

const MIXED: (ErrorKind, &str) = (ErrorKind::InvalidInput, "mixed_routing");

fn mixed_update(world: &TreeWorld) {
    let mut fleet = two_ways(world);
    let two = update_op(&[("users/u1", json!(2)), ("mine/a", json!(2))]);
    let error = fleet.refused("edge", Commit::new(vec![two]), MIXED.0, MIXED.1);
    let zones = error.error.fact("zones").expect("the paths are named");
    assert!(zones.contains("users to the upstream"), "{zones}");
    assert_eq!(fleet.get("hub", "users"), json!({"u1": 1}));
}

fn mixed_delete(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["data/users"], &[]));
    fleet.add("edge", edge(&[("data/users", Mode::Replica)]));
    fleet.settle();
    fleet.set("edge", "data/users/u1", json!(1));
    fleet.set("edge", "data/mine", json!(1));
    fleet.refused("edge", Commit::new(vec![delete_op("data")]), MIXED.0, MIXED.1);
    fleet.refused("edge", setting("data", json!({"mine": 2})), MIXED.0, MIXED.1);
    assert_eq!(fleet.get("edge", "data"), json!({"users": {"u1": 1}, "mine": 1}));
}

fn mixed_condition(world: &TreeWorld) {
    let mut fleet = two_ways(world);
    let commit = || setting("mine/a", json!(2));
    let on = |at: &str| commit().when(when(at, Check::Exists));
    fleet.refused("edge", on("users/u1"), MIXED.0, MIXED.1);
    fleet.commit("edge", on("mine/a")).expect("both are this node's");
    let upstream = setting("users/u1", json!(2)).when(when("mine/a", Check::Exists));
    fleet.refused("edge", upstream, MIXED.0, MIXED.1);
    assert_eq!(fleet.get("hub", "users/u1"), json!(1));
}

fn mixed_transaction(world: &TreeWorld) {
    let mut fleet = two_ways(world);
    let commit = Commit::new(vec![set_op("mine/a", json!(2)), delete_op("users/u1")]);
    fleet.refused("edge", commit, MIXED.0, MIXED.1);
    assert_eq!(fleet.get("edge", "mine/a"), json!(1));
}

/// An edge that follows one user.
fn narrow(world: &TreeWorld) -> Fleet {
    let mut fleet = pair(world, &[("users/u1", Mode::Readonly)]);
    fleet.settle();
    fleet.set("hub", "users", json!({"u1": {"a": 1, "b": 2}, "u2": {"a": 1}}));
    fleet
}

fn ancestor_set(world: &TreeWorld) {
    let mut fleet = narrow(world);
    assert_eq!(fleet.get("edge", "users"), json!({"u1": {"a": 1, "b": 2}}));
    fleet.set("hub", "users", json!({"u1": {"c": 3}, "u3": 3}));
    assert_eq!(fleet.get("edge", "users"), json!({"u1": {"c": 3}}), "what is gone there is gone");
    fleet.set("hub", "users", json!({"u3": 3}));
    assert_eq!(fleet.get("edge", "users"), json!(null));
}

fn ancestor_delete(world: &TreeWorld) {
    let mut fleet = narrow(world);
    fleet.delete("hub", "users");
    assert_eq!(fleet.get("edge", "users"), json!(null));
    fleet.set("hub", "users/u1/a", json!(2));
    assert_eq!(fleet.get("edge", "users"), json!({"u1": {"a": 2}}));
}

fn ancestor_scalar(world: &TreeWorld) {
    let mut fleet = narrow(world);
    fleet.set("hub", "users", json!("closed"));
    assert_eq!(fleet.get("edge", "users"), json!(null), "nothing of it is below the prefix");
    fleet.set("hub", "users", json!({"u1": "open"}));
    assert_eq!(fleet.get("edge", "users"), json!({"u1": "open"}));
}

fn siblings(world: &TreeWorld) {
    let mut fleet = narrow(world);
    let before = fleet.rev("edge");
    fleet.set("hub", "users/u2/a", json!(5));
    fleet.delete("hub", "users/u2");
    fleet.set("hub", "users/u10", json!(5));
    assert_eq!(fleet.rev("edge"), before, "what is not seen is no commit here");
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.position, fleet.rev("hub"), "and yet the position moves");
}

fn ancestor_cut(world: &TreeWorld) {
    let mut fleet = narrow(world);
    fleet.cut("edge");
    fleet.delete("hub", "users");
    fleet.set("hub", "users/u1/new", json!(1));
    fleet.restart("edge");
    fleet.heal("edge");
    assert_eq!(fleet.get("edge", "users"), json!({"u1": {"new": 1}}));
    fleet.agree(&["hub", "edge"], "users/u1");
}

/// Two prefixes that this node follows, one in the other, each by its own mode: what removes the
/// outer one at the source removes both here.
fn overlap(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["a"], &["a/b"]));
    fleet.add("edge", edge(&[("a", Mode::Readonly), ("a/b", Mode::Replica)]));
    fleet.set("hub", "a", json!({"x": 1, "b": {"y": 2}}));
    fleet.settle();
    fleet.set("edge", "a/b/z", json!(3));
    assert_eq!(fleet.get("edge", "a"), json!({"x": 1, "b": {"y": 2, "z": 3}}));
    fleet.set("hub", "a", json!({"new": 1}));
    assert_eq!(fleet.get("edge", "a"), json!({"new": 1}));
    fleet.set("hub", "a/b", json!({"y": 4}));
    fleet.delete("hub", "a");
    assert_eq!(fleet.get("edge", "a"), json!(null));
}

fn sync_in_replica(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["app"], &["app/notes"]));
    fleet.add("edge", edge(&[("app", Mode::Replica), ("app/notes", Mode::Sync)]));
    fleet.set("hub", "app", json!({"name": "x", "notes": {"n1": "hub"}}));
    fleet.set("edge", "app/notes/n2", json!("edge"));
    fleet.settle();
    let all = json!({"name": "x", "notes": {"n1": "hub", "n2": "edge"}});
    assert_eq!(fleet.get("edge", "app"), all);
    assert_eq!(fleet.get("hub", "app"), all);
    fleet.cut("edge");
    fleet.set("edge", "app/notes/n3", json!("offline"));
    fleet.heal("edge");
    assert_eq!(fleet.get("hub", "app/notes/n3"), json!("offline"));
    fleet.agree(&["hub", "edge"], "app");
}

fn primary_in_replica(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&["app"], &["app/files"]);
    spec.paths = rules(&[("app/files", Mode::Primary)]);
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("app", Mode::Replica), ("app/files", Mode::Primary)]));
    fleet.settle();
    fleet.set("edge", "app/files/f1", json!("mine"));
    fleet.set("hub", "app/name", json!("x"));
    fleet.set("hub", "app", json!({"name": "y"}));
    let all = json!({"name": "y", "files": {"f1": "mine"}});
    assert_eq!(fleet.get("edge", "app"), all, "its own is left alone");
    fleet.set("edge", "app/files/f2", json!("mine"));
    assert_eq!(fleet.get("hub", "app"), json!({"name": "y", "files": {"f2": "mine"}}));
    fleet.delete("edge", "app/files/f2");
    fleet.delete("hub", "app");
    assert_eq!(fleet.get("edge", "app"), json!({"files": {"f1": "mine"}}));
}

/// What the source leaves out, the follower keeps as it has it.
fn left_out(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&["config"], &["config"]);
    spec.exclude_prefixes = vec!["config/secret".to_owned()];
    fleet.add("hub", spec);
    fleet.set("hub", "config", json!({"a": 1}));
    fleet.set("hub", "config/secret/k", json!("hub"));
    fleet.add("edge", edge(&[("config", Mode::Sync)]));
    fleet.set("edge", "config/secret/k", json!("edge"));
    fleet.settle();
    fleet.delete("hub", "config");
    fleet.set("hub", "config/b", json!(2));
    assert_eq!(fleet.get("edge", "config"), json!({"b": 2, "secret": {"k": "edge"}}));
    assert_eq!(fleet.get("hub", "config"), json!({"b": 2}), "where it was removed, all of it was");
    fleet.set("hub", "config/secret/k", json!("again"));
    fleet.delete("edge", "config");
    assert_eq!(fleet.get("hub", "config"), json!({"secret": {"k": "again"}}));
}

/// A zone of one node inside of what the other follows as one: refused with what to write.
fn border(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let mut spec = hub(&["app"], &[]);
    spec.paths = rules(&[("app/files", Mode::Primary)]);
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("app", Mode::Replica)]));
    fleet.set("hub", "app/files/f1", json!(1));
    fleet.settle();
    fleet.assert_refused("edge", "hub", RefusalReason::Unsupported);
    let told = fleet.ended("edge", "hub").expect("a refusal").message.clone();
    assert!(told.contains("app/files"), "{told}");
    fleet.reconfigure("edge", edge(&[("app", Mode::Replica), ("app/files", Mode::Replica)]));
    fleet.settle();
    assert_eq!(fleet.get("edge", "app/files/f1"), json!(1));
}
