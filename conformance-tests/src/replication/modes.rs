//! The rows of the table of modes: what a write here becomes, what comes from the upstream, what is
//! filled at the start, and who wins. Modes in which both or only this node writes; `follows.rs`
//! has those that follow.

use serde_json::json;
use trellis_topology::Mode;

use super::fleet::Fleet;
use super::tools::{delete_op, edge, hub, matching_hub, pair, set_op};
use crate::Case;
use crate::tree::TreeWorld;
use crate::tree::tools::leasing;
use trellis_tree::Commit;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.topology.primary_is_pushed", &["topology.mode.primary"], primary_pushed),
    Case::new(
        "replication.topology.primary_is_pushed_at_start",
        &["topology.mode.primary"],
        primary_old,
    ),
    Case::new(
        "replication.topology.primary_deletes_travel",
        &["topology.mode.primary"],
        primary_deletes,
    ),
    Case::new(
        "replication.topology.primary_takes_nothing",
        &["topology.mode.primary"],
        primary_alone,
    ),
    Case::new("replication.topology.sync_goes_both_ways", &["topology.mode.sync"], sync_both),
    Case::new("replication.topology.sync_fills_by_merging", &["topology.mode.sync"], sync_fills),
    Case::new(
        "replication.topology.sync_later_write_wins",
        &["topology.merge.versions"],
        sync_later,
    ),
    Case::new(
        "replication.topology.sync_clear_spares_later",
        &["topology.merge.versions"],
        sync_clear,
    ),
    Case::new(
        "replication.topology.sync_delete_stays",
        &["topology.merge.versions"],
        sync_delete_stays,
    ),
    Case::new(
        "replication.topology.sync_scalar_or_object",
        &["topology.merge.versions"],
        sync_scalar,
    ),
    Case::new("replication.topology.sync_three_edges", &["topology.merge.versions"], sync_three),
    Case::new("replication.topology.sync_ends_alike", &["topology.merge.endings"], sync_ends),
    Case::new(
        "replication.topology.what_ends_above_is_gone_below",
        &["topology.merge.endings", "topology.feed.projected"],
        ends_above,
    ),
    Case::new(
        "replication.topology.writeonly_is_pushed",
        &["topology.mode.writeonly"],
        writeonly_pushed,
    ),
    Case::new(
        "replication.topology.writeonly_is_pushed_at_start",
        &["topology.mode.writeonly"],
        old_news,
    ),
    Case::new(
        "replication.topology.writeonly_takes_nothing",
        &["topology.mode.writeonly"],
        one_way,
    ),
    Case::new(
        "replication.topology.writeonly_of_many_merges",
        &["topology.mode.writeonly"],
        many_report,
    ),
    Case::new(
        "replication.topology.excluded_stays_here",
        &["topology.mode.excluded"],
        excluded_stays,
    ),
    Case::new(
        "replication.topology.excluded_is_not_filled",
        &["topology.mode.excluded"],
        not_filled,
    ),
    Case::new(
        "replication.topology.excluded_survives_a_clear",
        &["topology.mode.excluded"],
        spared,
    ),
    Case::new("replication.topology.commits_arrive_whole", &["topology.feed.whole"], whole),
];

fn primary_pushed(world: &TreeWorld) {
    let mut fleet = pair(world, &[("files", Mode::Primary)]);
    fleet.settle();
    fleet.set("edge", "files/a", json!({"name": "one", "size": 3}));
    assert_eq!(fleet.get("hub", "files"), json!({"a": {"name": "one", "size": 3}}));
    fleet.set("edge", "files/a/size", json!(4));
    fleet.set("edge", "other/x", json!(1));
    assert_eq!(fleet.get("hub", "files/a/size"), json!(4));
    assert_eq!(fleet.get("hub", "other"), json!(null), "the fallback is served, not pushed");
    fleet.agree(&["hub", "edge"], "files");
}

fn primary_old(world: &TreeWorld) {
    let mut fleet = pair(world, &[("files", Mode::Primary)]);
    for file in 0..30 {
        fleet.set("edge", &format!("files/f{file}"), json!(file));
    }
    fleet.settle();
    assert_eq!(fleet.get("hub", "files/f29"), json!(29));
    fleet.agree(&["hub", "edge"], "files");
}

fn primary_deletes(world: &TreeWorld) {
    let mut fleet = pair(world, &[("files", Mode::Primary)]);
    fleet.settle();
    fleet.set("edge", "files", json!({"a": {"x": 1, "y": 2}, "b": 3}));
    fleet.delete("edge", "files/a");
    assert_eq!(fleet.get("hub", "files"), json!({"b": 3}));
    fleet.delete("edge", "files/b");
    assert_eq!(fleet.get("hub", "files"), json!(null));
    fleet.set("edge", "files/a/x", json!(9));
    fleet.agree(&["hub", "edge"], "files");
}

fn primary_alone(world: &TreeWorld) {
    let mut fleet = pair(world, &[("files", Mode::Primary)]);
    fleet.set("edge", "files/mine", json!(1));
    fleet.set("hub", "files/theirs", json!(2));
    fleet.settle();
    fleet.set("hub", "files/mine", json!("changed"));
    fleet.delete("hub", "files/theirs");
    fleet.set("hub", "files/more", json!(3));
    assert_eq!(fleet.get("edge", "files"), json!({"mine": 1}), "this node's word counts here");
}

fn sync_both(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.set("edge", "config/a", json!(1));
    fleet.set("hub", "config/b", json!({"c": [1, 2]}));
    assert_eq!(fleet.get("hub", "config"), json!({"a": 1, "b": {"c": [1, 2]}}));
    fleet.agree(&["hub", "edge"], "config");
    fleet.delete("hub", "config/a");
    fleet.delete("edge", "config/b");
    assert_eq!(fleet.get("edge", "config"), json!(null));
    fleet.agree(&["hub", "edge"], "config");
}

fn sync_fills(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    for at in 0..20 {
        fleet.set("edge", &format!("config/edge{at}"), json!(at));
        fleet.set("hub", &format!("config/hub{at}"), json!(at));
    }
    fleet.settle();
    assert_eq!(fleet.get("edge", "config/hub7"), json!(7));
    assert_eq!(fleet.get("hub", "config/edge7"), json!(7), "neither is lost");
    fleet.agree(&["hub", "edge"], "config");
}

fn sync_later(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.cut("edge");
    fleet.set("edge", "config/a", json!("first"));
    fleet.set("hub", "config/b", json!("first"));
    fleet.advance(10);
    fleet.set("hub", "config/a", json!("second"));
    fleet.set("edge", "config/b", json!("second"));
    fleet.heal("edge");
    for node in ["hub", "edge"] {
        assert_eq!(fleet.get(node, "config"), json!({"a": "second", "b": "second"}), "{node}");
    }
    fleet.agree(&["hub", "edge"], "config");
}

/// A removal at 10, a write below it at 12: the write stays at both, the rest is gone at both.
fn sync_clear(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.set("hub", "config", json!({"a": 1, "b": 2, "c": {"d": 3}}));
    fleet.cut("edge");
    fleet.advance(10);
    fleet.delete("hub", "config");
    fleet.advance(2);
    fleet.set("edge", "config/a", json!("later"));
    fleet.heal("edge");
    for node in ["hub", "edge"] {
        assert_eq!(fleet.get(node, "config"), json!({"a": "later"}), "{node}");
    }
    fleet.agree(&["hub", "edge"], "config");
}

fn sync_delete_stays(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.set("edge", "config", json!({"a": 1, "b": {"c": 2}}));
    fleet.cut("edge");
    fleet.advance(10);
    fleet.delete("hub", "config/a");
    fleet.delete("edge", "config/b");
    fleet.restart("edge");
    fleet.heal("edge");
    for node in ["hub", "edge"] {
        assert_eq!(fleet.get(node, "config"), json!(null), "{node}: nothing comes back");
    }
    fleet.agree(&["hub", "edge"], "config");
}

fn sync_scalar(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.set("hub", "config", json!({"a": {"x": 1}, "b": {"x": 1}}));
    fleet.cut("edge");
    fleet.set("hub", "config/a", json!("leaf"));
    fleet.set("edge", "config/b", json!("leaf"));
    fleet.advance(10);
    fleet.set("edge", "config/a/y", json!("below"));
    fleet.set("hub", "config/b/y", json!("below"));
    fleet.heal("edge");
    for node in ["hub", "edge"] {
        let expected = json!({"a": {"y": "below"}, "b": {"y": "below"}});
        assert_eq!(fleet.get(node, "config"), expected, "{node}: what is later stays");
    }
    fleet.agree(&["hub", "edge"], "config");
}

fn sync_three(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    let edges = ["one", "two", "three"];
    fleet.add("hub", hub(&["config"], &["config"]));
    for name in edges {
        fleet.add(name, edge(&[("config", Mode::Sync)]));
    }
    fleet.settle();
    for name in edges {
        fleet.cut(name);
    }
    for (at, name) in edges.iter().enumerate() {
        fleet.set(name, &format!("config/{name}"), json!(at));
        fleet.set(name, "config/shared", json!(*name));
        fleet.advance(5);
    }
    fleet.delete("one", "config/shared");
    for name in edges {
        fleet.heal(name);
    }
    let expected = json!({"one": 0, "two": 1, "three": 2});
    assert_eq!(fleet.get("two", "config"), expected, "the removal was last");
    fleet.agree(&["hub", "one", "two", "three"], "config");
}

fn sync_ends(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync)]);
    fleet.settle();
    fleet.commit("edge", leasing("config/soon", json!(1), 5.0)).expect("it is set");
    fleet.set("hub", "config/stays", json!(2));
    assert_eq!(fleet.get("hub", "config/soon"), json!(1));
    fleet.cut("edge");
    fleet.advance(6_000);
    for node in ["hub", "edge"] {
        fleet.tree(node).settle().expect("what is due is removed");
        assert_eq!(fleet.get(node, "config"), json!({"stays": 2}), "{node}");
    }
    fleet.agree(&["hub", "edge"], "config");
    fleet.heal("edge");
    fleet.agree(&["hub", "edge"], "config");
}

/// Who follows a part of what ends as a whole is told that it is gone when it is gone there.
fn ends_above(world: &TreeWorld) {
    for mode in [Mode::Readonly, Mode::Replica, Mode::Sync] {
        let mut fleet = pair(world, &[("users/u1", mode)]);
        fleet.settle();
        for cut in [false, true] {
            let users = json!({"u1": {"name": "Ann"}, "u2": 2});
            fleet.commit("hub", leasing("users", users, 5.0)).expect("it is set");
            assert_eq!(fleet.get("edge", "users"), json!({"u1": {"name": "Ann"}}), "{mode}");
            if cut {
                fleet.cut("edge");
            }
            fleet.advance(6_000);
            fleet.tree("hub").settle().expect("what is due is removed");
            if cut {
                let stays = fleet.get("edge", "users/u1/name");
                assert_eq!(stays, json!("Ann"), "{mode}: nobody told when it ends");
                fleet.heal("edge");
            }
            fleet.settle();
            assert_eq!(fleet.get("edge", "users"), json!(null), "{mode}");
            fleet.agree(&["hub", "edge"], "users/u1");
        }
    }
}

fn writeonly_pushed(world: &TreeWorld) {
    let mut fleet = pair(world, &[("telemetry", Mode::Writeonly)]);
    fleet.settle();
    fleet.set("edge", "telemetry/cpu", json!(0.5));
    assert_eq!(fleet.get("hub", "telemetry/cpu"), json!(0.5));
    fleet.delete("edge", "telemetry/cpu");
    assert_eq!(fleet.get("hub", "telemetry"), json!(null));
}

fn old_news(world: &TreeWorld) {
    let mut fleet = pair(world, &[("telemetry", Mode::Writeonly)]);
    fleet.set("edge", "telemetry", json!({"a": 1, "b": {"c": 2}}));
    fleet.settle();
    assert_eq!(fleet.get("hub", "telemetry"), json!({"a": 1, "b": {"c": 2}}));
}

fn one_way(world: &TreeWorld) {
    let mut fleet = pair(world, &[("telemetry", Mode::Writeonly)]);
    fleet.set("hub", "telemetry/theirs", json!(1));
    fleet.settle();
    fleet.set("edge", "telemetry/mine", json!(2));
    fleet.delete("hub", "telemetry/mine");
    assert_eq!(fleet.get("edge", "telemetry"), json!({"mine": 2}), "nothing comes back");
}

fn many_report(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&[], &["telemetry"]));
    for name in ["one", "two"] {
        fleet.add(name, edge(&[("telemetry", Mode::Writeonly)]));
        fleet.set(name, &format!("telemetry/{name}/early"), json!(1));
    }
    fleet.settle();
    fleet.set("one", "telemetry/one/late", json!(2));
    fleet.set("two", "telemetry/two/late", json!(2));
    let all = json!({"early": 1, "late": 2});
    assert_eq!(fleet.get("hub", "telemetry"), json!({"one": all.clone(), "two": all}));
    assert_eq!(fleet.get("one", "telemetry/two"), json!(null), "a reporter sees no other");
}

/// An edge that keeps `config` in sync, `config/local` apart.
fn apart(world: &TreeWorld) -> Fleet {
    let paths = [("config", Mode::Sync)];
    let mut fleet = Fleet::new(world);
    fleet.add("hub", matching_hub(&paths));
    let mut spec = edge(&paths);
    spec.exclude_prefixes = vec!["config/local".to_owned()];
    fleet.add("edge", spec);
    fleet
}

fn excluded_stays(world: &TreeWorld) {
    let mut fleet = apart(world);
    fleet.set("edge", "config/local/a", json!(1));
    fleet.settle();
    fleet.set("edge", "config/local/b", json!(2));
    fleet.set("edge", "config/c", json!(3));
    assert_eq!(fleet.get("hub", "config"), json!({"c": 3}));
    assert_eq!(fleet.get("edge", "config/local"), json!({"a": 1, "b": 2}));
}

fn not_filled(world: &TreeWorld) {
    let mut fleet = apart(world);
    fleet.set("hub", "config", json!({"a": 1, "local": {"b": 2}}));
    fleet.settle();
    assert_eq!(fleet.get("edge", "config"), json!({"a": 1}));
    fleet.set("hub", "config/local/c", json!(3));
    fleet.set("hub", "config", json!({"a": 2, "local": {"d": 4}}));
    assert_eq!(fleet.get("edge", "config"), json!({"a": 2}));
}

fn spared(world: &TreeWorld) {
    let mut fleet = apart(world);
    fleet.settle();
    fleet.set("hub", "config/a", json!(1));
    fleet.set("edge", "config/local/mine", json!(2));
    fleet.delete("hub", "config");
    assert_eq!(fleet.get("edge", "config"), json!({"local": {"mine": 2}}));
    fleet.set("hub", "config", json!({"b": 3, "local": {"mine": "theirs"}}));
    assert_eq!(fleet.get("edge", "config"), json!({"b": 3, "local": {"mine": 2}}));
    fleet.restart("edge");
    fleet.settle();
    assert_eq!(fleet.get("edge", "config"), json!({"b": 3, "local": {"mine": 2}}));
}

/// A commit over two followed zones of different modes is one commit of the follower.
fn whole(world: &TreeWorld) {
    let mut fleet = pair(world, &[("config", Mode::Sync), ("feeds", Mode::Readonly)]);
    fleet.settle();
    let both = |value: u64| {
        Commit::new(vec![set_op("config/a", json!(value)), set_op("feeds/a", json!(value))])
    };
    fleet.commit("hub", both(1)).expect("it is committed");
    let before = fleet.rev("edge");
    fleet.commit("hub", both(2)).expect("it is committed");
    assert_eq!(fleet.get("edge", "config/a"), json!(2));
    assert_eq!(fleet.get("edge", "feeds/a"), json!(2));
    assert_eq!(fleet.rev("edge"), before + 1, "one commit there, one here");
    let gone = Commit::new(vec![delete_op("config"), delete_op("feeds/a")]);
    fleet.commit("hub", gone).expect("it is committed");
    assert_eq!(fleet.rev("edge"), before + 2);
}
