//! What many writes leave behind, what a new follower costs, and several that follow at once.
//!
//! A quick run makes 20,000 writes, a full one 1,000,000 (a fifth of these with three followers).
//! Nothing here is about speed.

use std::time::Duration;

use serde_json::json;
use trellis_topology::{Mode, SlotEnd};
use trellis_tree::{PendingCommit, Tree};

use super::fleet::Fleet;
use super::tools::{edge, hub, setting};
use crate::tree::TreeWorld;
use crate::{Case, Cost};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.bloat.keys_not_writes", &["topology.bloat.keys"], keys_not_writes),
    Case::new("replication.bloat.clear_is_one", &["topology.bloat.keys"], clear_is_one),
    Case::new("replication.bloat.slot_has_an_end", &["topology.bloat.slot"], slot_has_an_end),
    Case::new("replication.bloat.fill_goes_on", &["topology.feed.resumed"], fill_goes_on),
    Case::new("replication.bloat.start_waits_for_none", &["topology.bloat.start"], start_waits),
    Case::new("replication.load.three_followers", &["topology.load.complete"], three_followers),
];

const KEYS: u64 = 400;

fn writes() -> u64 {
    match Cost::from_env() {
        Cost::Quick => 20_000,
        Cost::Full => 1_000_000,
    }
}

/// Writes to 400 paths, over and over, as many at once as a busy hub would.
fn write_hot(tree: &Tree, from: u64, count: u64) {
    let mut pending: Vec<PendingCommit> = Vec::new();
    for number in from..from + count {
        let at = format!("hot/p{}", number % KEYS);
        pending.push(tree.submit(setting(&at, json!(number))));
        if pending.len() == 1_000 {
            for one in pending.drain(..) {
                one.wait().expect("it is committed");
            }
        }
    }
    for one in pending {
        one.wait().expect("it is committed");
    }
}

fn hot_hub(world: &TreeWorld) -> Fleet {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["hot"], &[]));
    fleet
}

fn follower() -> trellis_topology::TopologySpec {
    edge(&[("hot", Mode::Readonly)])
}

fn keys_not_writes(world: &TreeWorld) {
    let mut fleet = hot_hub(world);
    write_hot(&fleet.tree("hub"), 0, writes());
    let stats = fleet.tree("hub").replication_stats().expect("stats");
    let kept = (stats.by_rev_entries, stats.tombstones, stats.clears);
    assert_eq!(kept, (KEYS, 0, 0), "one entry for each leaf that is there");
    fleet.add("edge", follower());
    fleet.settle();
    fleet.agree(&["hub", "edge"], "hot");
    assert!(fleet.status("edge", "upstream").pull.expect("it follows").complete);
    assert!(fleet.sent < 2 << 20, "{} bytes were sent for {KEYS} leaves", fleet.sent);
    assert!(fleet.largest <= 512 << 10, "a frame of {} bytes", fleet.largest);
    let revs = fleet.rev("edge");
    assert!(revs < KEYS, "the history is not what it was filled from: {revs} commits");
}

fn clear_is_one(world: &TreeWorld) {
    let mut fleet = hot_hub(world);
    fleet.add("edge", follower());
    fleet.settle();
    let many: serde_json::Map<_, _> =
        (0..5_000).map(|leaf| (format!("l{leaf}"), json!(leaf))).collect();
    fleet.set("hub", "hot", many.into());
    let (before, sent) = (fleet.rev("edge"), fleet.sent);
    fleet.delete("hub", "hot");
    assert_eq!(fleet.rev("edge"), before + 1);
    assert!(fleet.sent - sent < 16 << 10, "{} bytes for one removal", fleet.sent - sent);
    assert_eq!(fleet.get("edge", "hot"), json!(null));
    let commits = fleet.tree("edge").read_commits(before, 1 << 20).expect("they are there");
    let ops: usize = commits.iter().map(|commit| commit.ops.len()).sum();
    assert_eq!(ops, 1, "one clear, not one tombstone a leaf");
}

/// What is kept for a follower that is away has a bound; it comes back all the same.
fn slot_has_an_end(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.slots.tail_bytes_max = 64 << 10;
    fleet.slots.persist_after = Duration::ZERO;
    fleet.add("hub", hub(&["hot"], &[]));
    fleet.add("edge", follower());
    fleet.set("hub", "hot/early", json!(1));
    fleet.settle();
    fleet.cut("edge");
    fleet.delete("hub", "hot/early");
    fleet.upkeep("hub");
    write_hot(&fleet.tree("hub"), 0, 4_000);
    fleet.upkeep("hub");
    let ended = fleet.slots_ended("hub");
    assert_eq!(ended.get(&SlotEnd::Bytes), Some(&1), "{ended:?}");
    fleet.heal("edge");
    fleet.agree(&["hub", "edge"], "hot");
    assert_eq!(fleet.get("edge", "hot/early"), json!(null), "nor comes back what was removed");
}

/// A fill that is cut off goes on at its page.
fn fill_goes_on(world: &TreeWorld) {
    let mut fleet = hot_hub(world);
    for part in 0..10 {
        let many: serde_json::Map<_, _> =
            (0..500).map(|leaf| (format!("l{leaf}"), json!("x".repeat(100)))).collect();
        fleet.set("hub", &format!("hot/part{part}"), many.into());
    }
    fleet.add("edge", follower());
    fleet.settle_for(12);
    let applied = fleet.status("edge", "upstream").pull.expect("it follows");
    assert!(applied.pages > 0 && !applied.complete, "in the midst of it: {applied:?}");
    fleet.cut("edge");
    fleet.restart("edge");
    fleet.set("hub", "hot/part3/l7", json!("changed meanwhile"));
    fleet.heal("edge");
    let rest = fleet.status("edge", "upstream").pull.expect("it follows");
    let all = 5_000_u64.div_ceil(u64::from(fleet.session.page_items));
    assert!(rest.pages <= all + 1 - applied.pages, "{} pages, then {rest:?}", applied.pages);
    fleet.agree(&["hub", "edge"], "hot");
}

/// A node whose upstream is away, or stops in the midst of a fill, is there all the same.
fn start_waits(world: &TreeWorld) {
    let mut fleet = hot_hub(world);
    write_hot(&fleet.tree("hub"), 0, 2_000);
    fleet.stop("hub");
    fleet.add("edge", follower());
    fleet.settle();
    fleet.set("edge", "mine", json!(1));
    fleet.start("hub");
    fleet.settle_for(8);
    fleet.stop("hub");
    fleet.restart("edge");
    fleet.set("edge", "mine", json!(2));
    assert_eq!(fleet.get("edge", "mine"), json!(2));
    fleet.start("hub");
    fleet.settle();
    fleet.agree(&["hub", "edge"], "hot");
}

fn three_followers(world: &TreeWorld) {
    let mut fleet = hot_hub(world);
    let names = ["one", "two", "three"];
    for name in names {
        fleet.add(name, follower());
    }
    fleet.settle();
    let rounds = writes() / 5_000;
    for round in 0..rounds {
        if round == 1 {
            fleet.cut("three");
        }
        write_hot(&fleet.tree("hub"), round * 1_000, 1_000);
        fleet.advance(50);
    }
    fleet.agree(&["hub", "one", "two"], "hot");
    let pull = fleet.status("one", "upstream").pull.expect("it follows");
    assert_eq!(pull.position, fleet.rev("hub"), "{pull:?}");
    fleet.heal("three");
    fleet.agree(&["hub", "three"], "hot");
}
