//! Short names for what the cases about leases do all the time.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_presence::{LeaseWrite, Presence, PresenceOptions};
use trellis_tree::Tree;

use crate::tree::Ground;
use crate::tree::tools::{exists, get, path, refused};

pub(super) fn start_with(ground: &Ground, tree: &Tree, options: PresenceOptions) -> Presence {
    Presence::start(tree.clone(), ground.runtime(), options).expect("presence starts")
}

pub(super) fn start(ground: &Ground, tree: &Tree) -> Presence {
    start_with(ground, tree, PresenceOptions::default())
}

pub(super) fn json_text(value: Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(&value).expect("JSON")
}

pub(super) fn setting_at(at: &str, value: Value) -> LeaseWrite {
    LeaseWrite::Set { path: path(at), json: json_text(value) }
}

/// A write that tells how often it ran.
pub(super) fn counting(at: &str) -> LeaseWrite {
    setting_at(at, json!({".sv": {"increment": 1}}))
}

pub(super) fn cancelling(at: &str) -> LeaseWrite {
    LeaseWrite::Cancel { path: path(at) }
}

pub(super) fn updating(updates: &[(&str, Value)]) -> LeaseWrite {
    let updates = updates.iter().map(|(at, value)| (path(at), json_text(value.clone())));
    LeaseWrite::Update { updates: updates.collect() }
}

/// Lets the worker look at everything once. What waits for another commit of its lease is carried
/// out after the first answer, and before the second request is taken.
pub(super) fn settle(presence: &Presence) {
    for _ in 0..2 {
        refused(presence.renew("nobody").wait(), ErrorKind::NotFound, "a lease of nobody");
    }
}

/// Whether nothing is left of anything.
pub(super) fn gone(presence: &Presence) -> bool {
    let stats = presence.stats();
    (stats.leases, stats.held, stats.ending, stats.writes, stats.bytes) == (0, 0, 0, 0, 0)
}

/// Nothing is counted, and nothing is stored.
#[track_caller]
pub(super) fn assert_gone(presence: &Presence, tree: &Tree) {
    assert!(gone(presence), "{:?}", presence.stats());
    assert!(!exists(tree, "_leases"), "{}", get(tree, "_leases"));
}

/// Closes presence and tree, lets time pass, and opens both again.
pub(super) fn restarted(ground: &Ground, presence: &Presence, away_ms: u64) -> (Tree, Presence) {
    presence.close();
    ground.close().expect("the tree closes");
    ground.clock().advance_ms(away_ms);
    let tree = ground.tree();
    let presence = start(ground, &tree);
    settle(&presence);
    (tree, presence)
}
