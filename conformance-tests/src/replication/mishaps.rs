//! What befalls nodes: a hub restored from a backup, an edge that was away too long or is made for
//! less than its hub, a mode that changes in the midst of a fill, a disk that is full.

use serde_json::json;
use trellis_topology::{
    FeedState, Mode, OpenMode, RefusalReason, SlotEnd, SourceSpec, TopologySpec,
};
use trellis_tree::{Commit, Operation};

use super::fleet::Fleet;
use super::tools::{edge, hub, path};
use crate::tree::TreeWorld;
use crate::tree::disk_full::{SmallDisk, write_ballast};
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.mishap.hub_is_restored", &["topology.mishap.kept"], hub_restored),
    Case::new("replication.mishap.edge_is_restored", &["topology.mishap.kept"], edge_restored),
    Case::new("replication.mishap.mode_changes_in_a_fill", &["topology.mode.change"], mode_in_fill),
    Case::new("replication.mishap.away_beyond_all_bounds", &["topology.bloat.slot"], away),
    Case::new("replication.mishap.smaller_limits", &["topology.mishap.kept"], smaller_limits),
    Case::new("replication.mishap.many_endings", &["topology.mishap.kept"], many_endings),
    Case::new("replication.mishap.no_place_for_a_path", &["topology.mishap.kept"], no_place),
    Case::new("replication.mishap.disk_full", &["topology.mishap.kept"], disk_full)
        .needs(&[Need::AllOnDisk]),
];

const BOTH: &[(&str, Mode)] = &[("feeds", Mode::Readonly), ("config", Mode::Sync)];

fn both(world: &TreeWorld) -> Fleet {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["feeds", "config"], &["config"]));
    fleet.add("edge", edge(BOTH));
    fleet
}

/// The hub is what it was when the backup was made, and another node: what is only its own is as
/// the backup has it; what both write comes back to it from the edge, removals too.
fn hub_restored(world: &TreeWorld) {
    let mut fleet = both(world);
    fleet.set("hub", "feeds", json!({"a": 1, "b": 1}));
    fleet.set("hub", "config", json!({"old": 1, "kept": 1, "changed": 1}));
    fleet.settle();
    let backup = fleet.backup("hub");
    fleet.advance(10);
    fleet.set("hub", "feeds", json!({"a": 2, "c": 2}));
    fleet.set("hub", "config/late", json!("hub"));
    fleet.set("edge", "config/mine", json!("edge"));
    fleet.set("edge", "config/changed", json!(2));
    fleet.delete("edge", "config/old");
    fleet.cut("edge");
    fleet.set("edge", "config/offline", json!("edge"));
    fleet.restore("hub", &backup);
    fleet.set("hub", "config/since", json!("hub"));
    fleet.heal("edge");
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": 1, "b": 1}));
    let all = json!({
        "kept": 1, "changed": 2, "late": "hub", "mine": "edge", "offline": "edge", "since": "hub"
    });
    assert_eq!(fleet.get("hub", "config"), all);
    fleet.agree(&["hub", "edge"], "config");
    fleet.agree(&["hub", "edge"], "feeds");
    assert_eq!(fleet.status("edge", "upstream").pull.expect("it follows").set_aside, 0);
    fleet.set("edge", "config/after", json!(1));
    assert_eq!(fleet.get("hub", "config/after"), json!(1), "and it goes on");
}

/// A restored edge is another node. What it was sent comes again; and where it is to follow what it
/// had written itself, that is set aside first.
fn edge_restored(world: &TreeWorld) {
    let mut fleet = both(world);
    fleet.set("hub", "feeds/a", json!(1));
    fleet.set("hub", "config/old", json!(1));
    fleet.settle();
    fleet.set("edge", "config/mine", json!("edge"));
    let backup = fleet.backup("edge");
    fleet.delete("hub", "config/old");
    fleet.set("hub", "feeds/a", json!(2));
    fleet.restore("edge", &backup);
    fleet.settle();
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": 2}));
    assert_eq!(fleet.get("hub", "config"), json!({"mine": "edge"}), "what was removed stays so");
    fleet.agree(&["hub", "edge"], "config");
    // Before it is connected again it becomes a reader of what it wrote.
    fleet.cut("edge");
    fleet.set("edge", "config/unsent", json!("edge"));
    let backup = fleet.backup("edge");
    fleet.restore("edge", &backup);
    fleet.reconfigure("edge", edge(&[("config", Mode::Readonly)]));
    fleet.heal("edge");
    assert_eq!(fleet.get("edge", "config"), json!({"mine": "edge"}));
    let aside = fleet.get("edge", "_repl/set_aside").to_string();
    assert!(aside.contains("unsent"), "what the new mode discards is set aside: {aside}");
}

/// The mode of a path changes while it is being filled: it is filled anew in the new mode, and what
/// was written meanwhile is there or set aside.
fn mode_in_fill(world: &TreeWorld) {
    let modes = [
        (Mode::Readonly, Mode::Sync),
        (Mode::Sync, Mode::Replica),
        (Mode::Sync, Mode::Primary),
        (Mode::Replica, Mode::Writeonly),
    ];
    for (number, (from, to)) in modes.into_iter().enumerate() {
        let mut fleet = Fleet::new(world);
        fleet.session.page_items = 50;
        fleet.session.credit_bytes = 1;
        fleet.add("hub", hub(&["data"], &["data"]));
        for part in 0..8 {
            let many: serde_json::Map<_, _> =
                (0..50).map(|leaf| (format!("l{leaf}"), json!("x".repeat(50)))).collect();
            fleet.set("hub", &format!("data/part{part}"), many.into());
        }
        let whole = fleet.get("hub", "data");
        fleet.add("edge", edge(&[("data", from)]));
        fleet.settle_for(10);
        let pull = fleet.status("edge", "upstream").pull.expect("it follows");
        assert!(pull.pages > 0 && !pull.complete, "in the midst of it: {pull:?}");
        fleet.cut("edge");
        let name = format!("mine{number}");
        if from == Mode::Sync {
            fleet.set("edge", &format!("data/{name}"), json!("edge"));
        }
        fleet.reconfigure("edge", edge(&[("data", to)]));
        fleet.heal("edge");
        let hub = fleet.get("hub", "data");
        match to {
            Mode::Primary | Mode::Writeonly => {
                assert_eq!(fleet.get("edge", "data/part7"), json!(null), "{to} is not filled");
            }
            _ => fleet.agree(&["hub", "edge"], "data"),
        }
        if from == Mode::Sync && to == Mode::Replica {
            assert_eq!(hub, whole);
            let aside = fleet.get("edge", "_repl/set_aside").to_string();
            assert!(aside.contains(&name), "{aside}");
        } else if from == Mode::Sync {
            assert_eq!(hub[&name], json!("edge"));
        }
        assert_eq!(hub["part3"], whole["part3"], "the hub keeps what it has");
    }
}

/// Away for longer than journal, slot and tombstones last: what was removed stays removed, and what
/// it wrote itself is not lost.
fn away(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.tree.journal_retain_bytes = 0;
    fleet.tree.overlay_bytes_max = 8 << 10;
    fleet.slots.tail_bytes_max = 16 << 10;
    fleet.slots.persist_after = std::time::Duration::ZERO;
    fleet.slots.collect_age = std::time::Duration::from_secs(1);
    fleet.add("hub", hub(&["feeds", "config"], &["config"]));
    fleet.add("edge", edge(BOTH));
    fleet.set("hub", "feeds", json!({"gone": 1, "kept": 1}));
    fleet.set("hub", "config", json!({"gone": 1, "kept": 1}));
    fleet.settle();
    fleet.set("edge", "config/sent", json!("edge"));
    fleet.cut("edge");
    let last = fleet.rev("hub");
    fleet.set("edge", "config/unsent", json!("edge"));
    for at in ["feeds/gone", "config/gone", "config/sent"] {
        fleet.delete("hub", at);
    }
    fleet.upkeep("hub");
    for number in 0..200 {
        fleet.set("hub", &format!("feeds/hot{}", number % 5), json!("x".repeat(500)));
    }
    fleet.advance(3_600_000);
    fleet.upkeep("hub");
    fleet.advance(120_000);
    fleet.upkeep("hub");
    assert_eq!(fleet.slots_ended("hub").get(&SlotEnd::Bytes), Some(&1));
    let stats = fleet.tree("hub").replication_stats().expect("stats");
    assert_eq!((stats.tombstones, stats.clears), (0, 0), "nothing tells what was removed");
    fleet.tree("hub").flush().expect("it is applied");
    let first = fleet.tree("hub").replication_stats().expect("stats").journal_first_rev;
    fleet.heal("edge");
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    // Where the journal is trimmed by whole files it is all there, perhaps. Where it is not, what
    // was removed is not known one by one any more.
    let opened = if first > last + 1 { OpenMode::Snapshot } else { OpenMode::Tail };
    assert_eq!(pull.opened, Some(opened), "journal from {first} on, last {last}: {pull:?}");
    assert_eq!(fleet.get("hub", "config"), json!({"kept": 1, "unsent": "edge"}));
    assert_eq!(fleet.get("edge", "feeds/gone"), json!(null));
    fleet.agree(&["hub", "edge"], "feeds");
    fleet.agree(&["hub", "edge"], "config");
}

/// What the hub took from its callers arrives at a node that would not take it from its own: by
/// pages, and behind it in the tail; and nothing behind it comes without it.
fn smaller_limits(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["feeds", "config"], &["config"]));
    fleet.set("hub", "feeds/before", json!("x".repeat(10_000)));
    let limits = fleet.tree.limits.clone();
    fleet.tree.limits.leaf_bytes_max = 100;
    fleet.tree.limits.commit_bytes_max = 500;
    fleet.tree.limits.commit_operations_max = 10;
    fleet.add("edge", edge(BOTH));
    fleet.tree.limits = limits;
    fleet.settle();
    fleet.cut("edge");
    fleet.set("hub", "feeds/large", json!("y".repeat(10_000)));
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("n{n}"), json!(n))).collect();
    fleet.set("hub", "config/many", many.into());
    fleet.set("hub", "feeds/small", json!(1));
    fleet.heal("edge");
    assert!(fleet.ended("edge", "hub").is_none(), "{:?}", fleet.ended("edge", "hub"));
    fleet.agree(&["hub", "edge"], "feeds");
    fleet.agree(&["hub", "edge"], "config");
}

/// Each leaf of a commit may have an ending beside it: that it has more parts than a caller's
/// commit may have is no reason not to take it.
fn many_endings(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.tree.limits.commit_operations_max = 50;
    fleet.add("hub", hub(&["feeds", "config"], &["config"]));
    fleet.add("edge", edge(BOTH));
    fleet.settle();
    let updates = (0..50).map(|n| (path(&format!("feeds/f{n}")), super::tools::input(json!(n))));
    let expiry = Some(trellis_tree::Expiry::TtlSeconds(1e6));
    let operation = Operation::Update { updates: updates.collect(), expiry };
    fleet.commit("hub", Commit::new(vec![operation])).expect("as many as there may be");
    fleet.set("hub", "feeds/after", json!(1));
    assert!(fleet.ended("edge", "hub").is_none(), "{:?}", fleet.ended("edge", "hub"));
    assert_eq!(fleet.get("edge", "feeds/after"), json!(1));
    fleet.agree(&["hub", "edge"], "feeds");
}

/// A path of a source that would be too deep behind its prefix stops that source and says which;
/// left out, it goes on.
fn no_place(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("press", hub(&["news"], &[]));
    let spec = |except: &[&str]| TopologySpec {
        sources: vec![SourceSpec {
            id: "press".into(),
            url: "press".into(),
            paths: vec!["news".into()],
            local_prefix: "ext/press".into(),
            exclude_prefixes: except.iter().map(|path| (*path).to_owned()).collect(),
        }],
        ..TopologySpec::default()
    };
    fleet.add("reader", spec(&[]));
    let levels = |count: usize| vec!["d"; count].join("/");
    fleet.set("press", "news/a", json!(1));
    // As deep as it may be there, with an ending beside it.
    let value = super::tools::input(json!(1));
    let expiry = Some(trellis_tree::Expiry::TtlSeconds(1e6));
    let at = path(&format!("news/deepest/{}", levels(60)));
    let deepest = Operation::Set { path: at, value, expiry };
    fleet.commit("press", Commit::new(vec![deepest])).expect("it is a path");
    fleet.settle();
    fleet.agree_remapped("press", "news", "reader", "ext/press/news");
    let deep = format!("news/deep/{}", levels(61));
    fleet.set("press", &deep, json!("too deep"));
    fleet.set("press", "news/b", json!(2));
    fleet.assert_refused("reader", "press", RefusalReason::Unsupported);
    let said = fleet.ended("reader", "press").expect("it ended").message.clone();
    assert!(said.contains("news/deep/d"), "it says which: {said}");
    assert_eq!(fleet.get("reader", "ext/press/news/a"), json!(1), "what is here stays");
    assert_eq!(fleet.get("reader", "ext/press/news/b"), json!(null), "nothing is passed over");
    fleet.reconfigure("reader", spec(&["news/deep"]));
    fleet.settle();
    assert_eq!(fleet.get("reader", "ext/press/news/b"), json!(2));
}

/// A replica whose disk is full waits, says so and loses nothing; its hub and the others go on; and
/// when there is room it has everything.
fn disk_full(world: &TreeWorld) {
    let Some(disk) = SmallDisk::mount(world) else { return };
    let mut fleet = Fleet::new(world);
    fleet.tree.overlay_bytes_max = 1 << 20;
    fleet.add("hub", hub(&["feeds", "config"], &["config"]));
    fleet.add("other", edge(BOTH));
    fleet.add_in(disk.path().join("data"), "edge", edge(BOTH));
    fleet.set("hub", "feeds/first", json!(1));
    write_ballast(&disk.ballast(), usize::MAX);
    let mut written = 0;
    let paused = loop {
        for _ in 0..8 {
            let text = "x".repeat(100_000 + written % 3);
            fleet.set("hub", &format!("feeds/f{written}"), json!(text));
            fleet.set("hub", &format!("feeds/small{written}"), json!(written));
            written += 1;
        }
        let pull = fleet.status("edge", "upstream").pull.expect("it follows");
        if pull.state == FeedState::Paused {
            break pull;
        }
        assert!(written < 500, "the disk never became full: {pull:?}");
    };
    let why = paused.paused.expect("it says why");
    assert!(why.contains("storage_full") || why.contains("room"), "{why}");
    fleet.agree(&["hub", "other"], "feeds");
    // Ended as it is, it has no more than it says that it has; an engine needs room to open.
    fleet.stop("edge");
    std::fs::remove_file(disk.ballast()).expect("there was a ballast");
    fleet.start("edge");
    for _ in 0..20 {
        fleet.advance(6_000);
    }
    fleet.agree(&["hub", "other", "edge"], "feeds");
    fleet.set("edge", "config/mine", json!(1));
    assert_eq!(fleet.get("hub", "config/mine"), json!(1));
    drop(fleet);
    drop(disk);
}
