//! Leases and what they run when they end, with a clock that only a case moves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_presence::{LeaseInfo, LeaseWrite, Presence, PresenceOptions, Stored};
use trellis_tree::{Limits, Tree, TreeOptions};

use crate::tree::tools::{commit, exists, get, keys, path, refused, rev, set, setting, until};
use crate::tree::{Ground, TreeWorld};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("presence.end.clean_close", &["presence.end.close"], clean_close),
    Case::new("presence.end.after_silence", &["presence.end.silence"], silence),
    Case::new("presence.end.one_commit", &["presence.end.once"], one_commit),
    Case::new("presence.end.without_a_connection", &["presence.end.silence"], without_connection),
    Case::new("presence.end.over_a_restart", &["presence.end.restart"], restart),
    Case::new("presence.end.renewals_survive", &["presence.end.restart"], renewals_survive),
    Case::new("presence.end.drops_one_runs_the_rest", &["presence.end.rest"], drops_one),
    Case::new("presence.end.while_paused", &["presence.end.retried"], while_paused),
    Case::new("presence.end.append_fails", &["presence.end.retried"], append_fails)
        .needs(&[Need::WriteFault]),
    Case::new("presence.end.many_at_once", &["presence.end.once", "presence.count.zero"], many),
    Case::new("presence.lease.no_way_back", &["presence.lease.ended"], no_way_back),
    Case::new("presence.lease.taken_over", &["presence.lease.take"], taken_over),
    Case::new("presence.lease.costs_nothing", &["presence.lease.free"], costs_nothing),
    Case::new("presence.lease.times", &["presence.limits.exact"], times),
    Case::new("presence.store.replaced_and_cancelled", &["presence.store.replace"], replaced),
    Case::new("presence.store.transforms", &["presence.store.unresolved"], transforms),
    Case::new("presence.store.limits", &["presence.limits.exact"], limits),
    Case::new("presence.store.refused", &["presence.store.durable"], refused_writes),
    Case::new("presence.lease.limit", &["presence.limits.exact"], leases_limit),
    Case::new("presence.count.returns_to_zero", &["presence.count.zero"], returns_to_zero),
];

fn start_with(ground: &Ground, tree: &Tree, options: PresenceOptions) -> Presence {
    Presence::start(tree.clone(), ground.runtime(), options).expect("presence starts")
}

fn start(ground: &Ground, tree: &Tree) -> Presence {
    start_with(ground, tree, PresenceOptions::default())
}

pub(super) fn json_text(value: Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(&value).expect("JSON")
}

fn setting_at(at: &str, value: Value) -> LeaseWrite {
    LeaseWrite::Set { path: path(at), json: json_text(value) }
}

/// A write that tells how often it ran.
pub(super) fn counting(at: &str) -> LeaseWrite {
    setting_at(at, json!({".sv": {"increment": 1}}))
}

fn cancelling(at: &str) -> LeaseWrite {
    LeaseWrite::Cancel { path: path(at) }
}

fn updating(updates: &[(&str, Value)]) -> LeaseWrite {
    let updates = updates.iter().map(|(at, value)| (path(at), json_text(value.clone())));
    LeaseWrite::Update { updates: updates.collect() }
}

/// Lets the worker look at everything once: an answer comes at the end of a whole round.
fn settle(presence: &Presence) {
    refused(presence.renew("nobody").wait(), ErrorKind::NotFound, "a lease of nobody");
}

/// Whether nothing is left of anything.
pub(super) fn gone(presence: &Presence) -> bool {
    let stats = presence.stats();
    (stats.leases, stats.held, stats.ending, stats.writes, stats.bytes) == (0, 0, 0, 0, 0)
}

/// Nothing is counted, and nothing is stored.
#[track_caller]
fn assert_gone(presence: &Presence, tree: &Tree) {
    assert!(gone(presence), "{:?}", presence.stats());
    assert!(!exists(tree, "_leases"), "{}", get(tree, "_leases"));
}

fn clean_close(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    set(&tree, "s/a", json!("online"));
    let hold = presence.hold().unwrap();
    let stored = hold.store(setting_at("s/a", json!("offline"))).wait().unwrap();
    assert_eq!((stored.writes, stored.rev), (1, 2));
    assert_eq!(get(&tree, "s/a"), json!("online"), "not before the end");
    let id = hold.id().to_owned();
    assert!(!get(&tree, "_leases").to_string().contains(&id), "what is stored tells no id");
    let ended = hold.end().wait().unwrap();
    assert_eq!((ended.writes_run, ended.rev), (1, 3));
    assert_eq!(get(&tree, "s/a"), json!("offline"));
    assert_gone(&presence, &tree);
    // A goodbye that nobody waits for.
    let hold = presence.hold().unwrap();
    hold.store(counting("n")).wait().unwrap();
    hold.say_goodbye();
    settle(&presence);
    assert_eq!(get(&tree, "n"), json!(1));
    assert_eq!(presence.stats().ended, 2);
    assert_gone(&presence, &tree);
    presence.close();
}

fn silence(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let (silent, alive) = (presence.hold().unwrap(), presence.hold().unwrap());
    silent.store(counting("silent")).wait().unwrap();
    alive.store(counting("alive")).wait().unwrap();
    // Gone without a goodbye: the rest of its time is for a reconnect.
    drop(silent);
    ground.clock().advance_ms(44_999);
    alive.renew();
    settle(&presence);
    assert!(!exists(&tree, "silent"), "not a millisecond too early");
    assert_eq!(presence.stats().held, 1);
    ground.clock().advance_ms(1);
    until("the silent one ends", || exists(&tree, "silent"));
    ground.clock().advance_ms(44_998);
    settle(&presence);
    assert!(!exists(&tree, "alive") && !alive.is_ended(), "its renewal counts from then");
    ground.clock().advance_ms(1);
    until("a connection that says nothing ends too", || exists(&tree, "alive"));
    until("it is counted", || gone(&presence));
    assert!(alive.is_ended());
    let late = alive.store(counting("late")).wait();
    refused(late, ErrorKind::NotFound, "a write to a lease that ended");
    ground.clock().advance_ms(1_000_000);
    settle(&presence);
    assert_eq!((get(&tree, "silent"), get(&tree, "alive")), (json!(1), json!(1)), "once");
    assert_gone(&presence, &tree);
    presence.close();
}

fn one_commit(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    set(&tree, "list/a", json!({"x": 1}));
    let hold = presence.hold().unwrap();
    for write in [
        setting_at("list/b", json!({"y": [1, 2.5, null], "z": {".bytes": "AAEC"}})),
        LeaseWrite::Delete { path: path("list/a") },
        updating(&[("list/b/z", json!("later")), ("n", json!({".sv": {"increment": 2}}))]),
    ] {
        hold.store(write).wait().unwrap();
    }
    let before = rev(&tree);
    let ended = hold.end().wait().unwrap();
    assert_eq!((ended.rev, rev(&tree)), (before + 1, before + 1), "one commit");
    assert_eq!(ended.writes_run, 4);
    let whole = json!({"list": {"b": {"y": [1, 2.5, null], "z": "later"}}, "n": 2});
    assert_eq!(get(&tree, ""), whole, "in the order in which they were stored");
    assert_gone(&presence, &tree);
    presence.close();
    assert_eq!(get(&ground.reopen(), ""), whole);
}

fn without_connection(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let lease = presence.create(Some(Duration::from_secs(10))).wait().unwrap();
    let now = 1_700_000_000_000;
    assert_eq!((lease.ttl.as_secs(), lease.expires_at_ms), (10, now + 10_000));
    presence.store(&lease.id, counting("n")).wait().unwrap();
    for round in 1..=5 {
        ground.clock().advance_ms(9_000);
        let renewed = presence.renew(&lease.id).wait().unwrap();
        assert_eq!(renewed.expires_at_ms, now + round * 9_000 + 10_000);
        assert_eq!(renewed.id, lease.id);
    }
    assert!(!exists(&tree, "n"));
    ground.clock().advance_ms(10_000);
    until("it ends", || gone(&presence));
    assert_eq!(get(&tree, "n"), json!(1));
    refused(presence.renew(&lease.id).wait(), ErrorKind::NotFound, "renewing after its end");
    let other = presence.create(None).wait().unwrap();
    assert_eq!(other.ttl.as_secs(), 45);
    assert_ne!(other.id, lease.id);
    presence.store(&other.id, counting("n")).wait().unwrap();
    presence.end(&other.id).wait().unwrap();
    assert_eq!(get(&tree, "n"), json!(2));
    assert_gone(&presence, &tree);
    presence.close();
}

/// Closes presence and tree, lets time pass, and opens both again.
fn restarted(ground: &Ground, presence: &Presence, away_ms: u64) -> (Tree, Presence) {
    presence.close();
    ground.close().expect("the tree closes");
    ground.clock().advance_ms(away_ms);
    let tree = ground.tree();
    let presence = start(ground, &tree);
    settle(&presence);
    (tree, presence)
}

fn restart(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    hold.store(counting("held")).wait().unwrap();
    let created = presence.create(Some(Duration::from_secs(600))).wait().unwrap();
    presence.store(&created.id, counting("created")).wait().unwrap();
    let id = hold.id().to_owned();
    ground.clock().advance_ms(20_000);
    let before = rev(&tree);
    drop((hold, tree));
    // An orderly stop is not the end of the client's lease.
    let (tree, presence) = restarted(&ground, &presence, 5_000);
    assert_eq!(rev(&tree), before, "neither the stop nor the start ended anything");
    assert_eq!((presence.stats().leases, presence.stats().writes), (2, 2));
    ground.clock().advance_ms(19_999);
    settle(&presence);
    assert!(!exists(&tree, "held"), "20 s of the 45 are left");
    ground.clock().advance_ms(1);
    until("the remaining time is over", || exists(&tree, "held"));
    settle(&presence);
    refused(presence.renew(&id).wait(), ErrorKind::NotFound, "it ended");
    drop(tree);
    // Longer away than was left: whoever comes back at once still has it.
    let (tree, presence) = restarted(&ground, &presence, 3_600_000);
    ground.clock().advance_ms(9_999);
    settle(&presence);
    assert!(!exists(&tree, "created"));
    presence.renew(&created.id).wait().unwrap();
    drop(tree);
    let (tree, presence) = restarted(&ground, &presence, 3_600_000);
    ground.clock().advance_ms(10_000);
    until("nobody came back", || exists(&tree, "created"));
    settle(&presence);
    assert_eq!(get(&tree, ""), json!({"held": 1, "created": 1}));
    assert_gone(&presence, &tree);
    presence.close();
}

fn renewals_survive(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let holds: Vec<_> = (0..20).map(|_| presence.hold().unwrap()).collect();
    for (number, hold) in holds.iter().enumerate() {
        hold.store(counting(&format!("n{number}"))).wait().unwrap();
    }
    let stored = rev(&tree);
    // Five minutes of renewals, a second apart.
    for _ in 0..300 {
        ground.clock().advance_ms(1_000);
        holds.iter().for_each(trellis_presence::Hold::renew);
        settle(&presence);
    }
    let notes = rev(&tree) - stored;
    assert!((10..=20).contains(&notes), "{notes} commits for 20 leases in 20 times 15 s");
    drop((holds, tree));
    let (tree, presence) = restarted(&ground, &presence, 1_000);
    // Noted at most a third of its time ago.
    ground.clock().advance_ms(45_000 - 16_000 - 1_000);
    settle(&presence);
    assert_eq!((presence.stats().leases, keys(&tree, "").len()), (20, 0));
    ground.clock().advance_ms(16_000);
    until("all end", || gone(&presence));
    assert_eq!(keys(&tree, "").len(), 20);
    assert_gone(&presence, &tree);
    presence.close();
}

fn drops_one(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    for write in [
        counting("first"),
        setting_at("list/0/x", json!(1)),
        updating(&[("text/n", json!(1)), ("text2", json!({".sv": {"increment": 1}}))]),
        counting("last"),
    ] {
        hold.store(write).wait().unwrap();
    }
    // By now they cannot be applied.
    set(&tree, "list", json!([1, 2]));
    set(&tree, "text2", json!("no number"));
    let ended = hold.end().wait().unwrap();
    assert_eq!(ended.writes_run, 2);
    assert_eq!(get(&tree, ""), json!({"first": 1, "last": 1, "list": [1, 2], "text2": "no number"}));
    assert_eq!((presence.stats().writes_run, presence.stats().writes_dropped), (2, 3));
    // Nothing of it can be applied: the lease ends all the same.
    let hold = presence.hold().unwrap();
    hold.store(setting_at("list/1/x", json!(1))).wait().unwrap();
    assert_eq!(hold.end().wait().unwrap().writes_run, 0);
    assert_eq!(presence.stats().writes_dropped, 4);
    assert_gone(&presence, &tree);
    presence.close();
}

fn while_paused(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let (asked, silent) = (presence.hold().unwrap(), presence.hold().unwrap());
    asked.store(counting("asked")).wait().unwrap();
    silent.store(counting("silent")).wait().unwrap();
    let pause = tree.pause_writes().unwrap();
    let late = silent.store(counting("late")).wait();
    refused(late, ErrorKind::Unavailable, "a write that is to be stored");
    let id = asked.id().to_owned();
    refused(asked.end().wait(), ErrorKind::Unavailable, "an end that cannot run yet");
    refused(presence.renew(&id).wait(), ErrorKind::NotFound, "it is over all the same");
    ground.clock().advance_ms(45_000);
    until("both have ended", || presence.stats().ending == 2);
    assert!(!exists(&tree, "asked"));
    drop(pause);
    for _ in 0..2 {
        ground.clock().advance_ms(30_000);
        settle(&presence);
    }
    until("they run when they can", || gone(&presence));
    assert_eq!(get(&tree, ""), json!({"asked": 1, "silent": 1}));
    assert!(presence.stats().retries >= 2);
    assert_gone(&presence, &tree);
    presence.close();
}

fn append_fails(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    world.throw(Flag::FailWrite);
    refused(hold.store(counting("n")).wait(), ErrorKind::Unavailable, "what is not appended");
    assert_eq!(presence.stats().writes, 0);
    hold.store(counting("n")).wait().unwrap();
    world.throw(Flag::FailWrite);
    refused(hold.end().wait(), ErrorKind::Unavailable, "an end that is not appended");
    assert!(!exists(&tree, "n"));
    ground.clock().advance_ms(1_000);
    until("it is tried again", || gone(&presence));
    ground.clock().advance_ms(100_000);
    settle(&presence);
    assert_eq!(get(&tree, "n"), json!(1), "once");
    world.throw(Flag::FailWrite);
    refused(presence.create(None).wait(), ErrorKind::Unavailable, "a lease that is not stored");
    assert_gone(&presence, &tree);
    presence.close();
}

fn many(world: &TreeWorld) {
    let count = if world.factory().name().contains("memory") { 10_000 } else { 2_000 };
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let holds: Vec<_> = (0..count).map(|_| presence.hold().unwrap()).collect();
    let stored: Vec<_> = holds
        .iter()
        .enumerate()
        .map(|(number, hold)| hold.store(counting(&format!("n/{number:05}"))))
        .collect();
    stored.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    let stats = presence.stats();
    assert_eq!((stats.leases, stats.held, stats.writes), (count, count, count));
    drop(holds);
    ground.clock().advance_ms(45_000);
    until("all have ended", || gone(&presence));
    assert_eq!(presence.stats().writes_run, count as u64);
    let all = get(&tree, "n");
    assert_eq!(all.as_object().unwrap().len(), count);
    assert!(all.as_object().unwrap().values().all(|runs| *runs == json!(1)), "each once");
    assert_gone(&presence, &tree);
    presence.close();
}

fn no_way_back(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let lease = presence.create(None).wait().unwrap();
    presence.store(&lease.id, counting("n")).wait().unwrap();
    let (first, second) = (presence.end(&lease.id), presence.end(&lease.id));
    assert_eq!(first.wait().unwrap().writes_run, 1);
    refused(second.wait(), ErrorKind::NotFound, "a second end");
    let long = "x".repeat(10_000);
    for id in [lease.id.as_str(), "", "no such id", long.as_str()] {
        refused(presence.renew(id).wait(), ErrorKind::NotFound, "renewing");
        refused(presence.store(id, counting("n")).wait(), ErrorKind::NotFound, "storing");
        refused(presence.end(id).wait(), ErrorKind::NotFound, "ending");
        if let Ok((hold, taken)) = presence.take_over(id, None) {
            refused(taken.wait(), ErrorKind::NotFound, "taking over");
            assert!(hold.is_ended(), "what could not be taken over is no lease");
            refused(hold.store(counting("n")).wait(), ErrorKind::NotFound, "storing with it");
        }
    }
    assert_eq!(get(&tree, ""), json!({"n": 1}));
    assert_gone(&presence, &tree);
    presence.close();
    refused(presence.create(None).wait(), ErrorKind::Closed, "a lease after the close");
}

fn taken_over(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let first = presence.hold().unwrap();
    first.store(counting("n")).wait().unwrap();
    ground.clock().advance_ms(40_000);
    let (second, taken) = presence.take_over(first.id(), None).unwrap();
    let LeaseInfo { id, ttl, .. } = taken.wait().unwrap();
    assert_eq!((id.as_str(), ttl.as_secs()), (first.id(), 45));
    assert!(first.is_ended());
    // Whatever the old connection does is nothing to the lease.
    first.renew();
    refused(first.store(counting("m")).wait(), ErrorKind::NotFound, "a write of the old holder");
    refused(first.end().wait(), ErrorKind::NotFound, "an end by the old holder");
    ground.clock().advance_ms(44_999);
    settle(&presence);
    assert!(!exists(&tree, "n"), "taking over renews");
    assert_eq!((presence.stats().leases, presence.stats().held), (1, 1));
    second.store(counting("m")).wait().unwrap();
    drop(second);
    // A restart in between, and a connection that never closed properly.
    drop(tree);
    let (tree, presence) = restarted(&ground, &presence, 1_000);
    let (third, taken) = presence.take_over(&id, Some(Duration::from_secs(60))).unwrap();
    assert_eq!(taken.wait().unwrap().ttl.as_secs(), 60);
    ground.clock().advance_ms(59_999);
    settle(&presence);
    assert!(!exists(&tree, "n"));
    third.end().wait().unwrap();
    assert_eq!(get(&tree, ""), json!({"n": 1, "m": 1}));
    assert_gone(&presence, &tree);
    presence.close();
}

fn costs_nothing(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let unknown = presence.hold().unwrap();
    let (held, dropped) = (presence.hold().unwrap(), presence.hold().unwrap());
    held.announce(Some(Duration::from_secs(600))).wait().unwrap();
    dropped.announce(None).wait().unwrap();
    held.store(cancelling("")).wait().unwrap();
    assert_eq!((presence.stats().leases, presence.stats().held), (2, 2));
    for _ in 0..100 {
        ground.clock().advance_ms(5_000);
        held.renew();
        dropped.renew();
        settle(&presence);
    }
    drop((unknown, dropped));
    settle(&presence);
    assert_eq!(presence.stats().leases, 1, "what would run nothing need not be waited for");
    assert_eq!(held.end().wait().unwrap().writes_run, 0);
    assert_eq!(rev(&tree), 0, "no commit for any of it");
    assert_gone(&presence, &tree);
    presence.close();
}

fn times(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    for good in [10_000, 45_000, 600_000] {
        let ttl = Some(Duration::from_millis(good));
        let lease = presence.create(ttl).wait().unwrap();
        assert_eq!(lease.ttl.as_millis(), u128::from(good));
        presence.end(&lease.id).wait().unwrap();
        let hold = presence.hold().unwrap();
        assert_eq!(hold.announce(ttl).wait().unwrap().ttl.as_millis(), u128::from(good));
    }
    for bad in [0, 1, 9_999, 600_001, u64::MAX] {
        let ttl = Some(Duration::from_millis(bad));
        refused(presence.create(ttl).wait(), ErrorKind::InvalidInput, "a lease's time");
        let hold = presence.hold().unwrap();
        refused(hold.announce(ttl).wait(), ErrorKind::InvalidInput, "a lease's time");
    }
    settle(&presence);
    assert_gone(&presence, &tree);
    presence.close();
}

fn replaced(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let store = |write| hold.store(write).wait().unwrap().writes;
    // The same request twice, as after a lost answer, is stored once.
    assert_eq!((store(counting("a/n")), store(counting("a/n"))), (1, 1));
    assert_eq!(store(updating(&[("a/m", json!(1)), ("b/x", json!(1)), ("c", json!(1))])), 4);
    assert_eq!(store(setting_at("a", json!({"k": 1}))), 3, "what is below is replaced");
    assert_eq!(store(setting_at("a/later", json!(2))), 4, "what is above is not");
    assert_eq!(store(cancelling("b")), 3, "at and below");
    assert_eq!(store(cancelling("c/below")), 3, "not above");
    assert_eq!(store(cancelling("cc")), 3, "no neighbour");
    hold.end().wait().unwrap();
    assert_eq!(get(&tree, ""), json!({"a": {"k": 1, "later": 2}, "c": 1}));
    let hold = presence.hold().unwrap();
    hold.store(counting("n")).wait().unwrap();
    hold.store(updating(&[("x", json!(1)), ("y", json!(1))])).wait().unwrap();
    let Stored { writes, bytes, .. } = hold.store(cancelling("")).wait().unwrap();
    assert_eq!((writes, bytes), (0, 0));
    assert_eq!(hold.end().wait().unwrap().writes_run, 0);
    assert!(!exists(&tree, "n"));
    assert_gone(&presence, &tree);
    presence.close();
}

fn transforms(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let value = json!({"at": {".sv": "timestamp"}, "n": {".sv": {"increment": 5}}, "..sv": 1});
    hold.store(updating(&[("s", value)])).wait().unwrap();
    hold.store(setting_at("total", json!({".sv": {"increment": 1}}))).wait().unwrap();
    set(&tree, "total", json!(41));
    ground.clock().advance_ms(30_000);
    drop((hold, tree));
    let (tree, presence) = restarted(&ground, &presence, 1_000);
    ground.clock().advance_ms(60_000);
    until("it ends", || gone(&presence));
    let s = get(&tree, "s");
    assert_eq!(s["at"], json!(1_700_000_000_000_u64 + 91_000), "the time of running");
    assert_eq!((&s["n"], &s["..sv"]), (&json!(5), &json!(1)));
    assert_eq!(get(&tree, "total"), json!(42), "what was there when it ran");
    assert_gone(&presence, &tree);
    presence.close();
}

fn limits(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let many: Vec<_> = (0..99).map(|n| format!("many/{n}")).collect();
    let updates: Vec<_> = many.iter().map(|at| (at.as_str(), json!(1))).collect();
    assert_eq!(hold.store(updating(&updates)).wait().unwrap().writes, 99);
    assert_eq!(hold.store(counting("n")).wait().unwrap().writes, 100);
    refused(hold.store(counting("m")).wait(), ErrorKind::TooLarge, "one write more");
    assert_eq!(hold.store(counting("n")).wait().unwrap().writes, 100, "replacing is none more");
    assert_eq!(hold.store(cancelling("many")).wait().unwrap().writes, 1);
    let empty = hold.store(setting_at("text", json!(""))).wait().unwrap().bytes;
    let most = "x".repeat((64 << 10) - empty);
    let over = setting_at("text", json!(format!("{most}x")));
    refused(hold.store(over).wait(), ErrorKind::TooLarge, "one byte more");
    let huge = setting_at("text", json!("x".repeat(1 << 20)));
    refused(hold.store(huge).wait(), ErrorKind::TooLarge, "much more");
    let full = hold.store(setting_at("text", json!(most))).wait().unwrap();
    assert_eq!((full.writes, full.bytes), (2, 64 << 10));
    refused(hold.store(counting("m")).wait(), ErrorKind::TooLarge, "no byte is left");
    assert_eq!(hold.end().wait().unwrap().writes_run, 2);
    assert_eq!(get(&tree, "text").as_str().map(str::len), Some(most.len()));
    assert_gone(&presence, &tree);
    presence.close();
}

fn refused_writes(world: &TreeWorld) {
    let ground = world.engine();
    let limits = Limits { leaf_bytes_max: 100, ..Limits::default() };
    let tree = ground.tree_with(TreeOptions { limits, ..TreeOptions::default() });
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let mut deep = json!(1);
    for _ in 0..63 {
        deep = json!({"d": deep});
    }
    for (write, kind) in [
        (setting_at("_leases/x", json!(1)), ErrorKind::Denied),
        (LeaseWrite::Delete { path: path("_auth") }, ErrorKind::Denied),
        (updating(&[("a", json!(1)), ("_a", json!(1))]), ErrorKind::Denied),
        (setting_at("", json!(1)), ErrorKind::InvalidInput),
        (LeaseWrite::Delete { path: path("") }, ErrorKind::InvalidInput),
        (updating(&[]), ErrorKind::InvalidInput),
        (updating(&[("a", json!(1)), ("a/b", json!(1))]), ErrorKind::InvalidInput),
        (setting_at("a", json!({".sv": "nonsense"})), ErrorKind::InvalidInput),
        (setting_at("a", json!({"x/y": 1})), ErrorKind::InvalidInput),
        (setting_at("a", json!("x".repeat(101))), ErrorKind::TooLarge),
        (setting_at("a", json!({"b": {"c": "x".repeat(101)}})), ErrorKind::TooLarge),
        (setting_at("a/b/c", deep), ErrorKind::TooLarge),
    ] {
        let what = format!("{write:?}");
        refused(hold.store(write).wait(), kind, &what);
    }
    assert_eq!(rev(&tree), 0, "nothing was stored");
    let fits = hold.store(setting_at("a", json!("x".repeat(100)))).wait().unwrap();
    assert_eq!((fits.rev, fits.writes), (1, 1));
    drop((hold, tree));
    let (tree, presence) = restarted(&ground, &presence, 0);
    assert_eq!(presence.stats().writes, 1, "what was acknowledged is durable");
    ground.clock().advance_ms(45_000);
    until("it ends", || gone(&presence));
    assert_eq!(get(&tree, "a").as_str().map(str::len), Some(100));
    assert_gone(&presence, &tree);
    presence.close();
}

fn leases_limit(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let options = PresenceOptions { leases_max: 3, ..PresenceOptions::default() };
    let presence = start_with(&ground, &tree, options);
    let created = presence.create(None).wait().unwrap();
    let holds: Vec<_> = (0..3).map(|_| presence.hold().unwrap()).collect();
    holds[0].announce(None).wait().unwrap();
    holds[1].store(counting("n")).wait().unwrap();
    refused(holds[2].announce(None).wait(), ErrorKind::Busy, "one lease more");
    refused(holds[2].store(counting("n")).wait(), ErrorKind::Busy, "one lease more");
    refused(presence.create(None).wait(), ErrorKind::Busy, "one lease more");
    holds[0].store(counting("m")).wait().unwrap();
    presence.end(&created.id).wait().unwrap();
    let late = presence.hold().unwrap();
    late.store(counting("late")).wait().unwrap();
    late.end().wait().unwrap();
    drop(holds);
    ground.clock().advance_ms(45_000);
    until("all end", || gone(&presence));
    assert_eq!(get(&tree, ""), json!({"n": 1, "m": 1, "late": 1}));
    assert_gone(&presence, &tree);
    presence.close();
}

/// Everything at once, from many threads, in the order that chance gives.
fn returns_to_zero(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (presence, tree) = (&presence, &tree);
            let mut rng = world.rng(&format!("worker{worker}"));
            scope.spawn(move || {
                for round in 0..40 {
                    let at = format!("w{worker}/{round}");
                    let hold = presence.hold().unwrap();
                    let pending = hold.store(counting(&at));
                    match rng.below(6) {
                        0 => drop(pending.wait().unwrap()),
                        1 => {
                            let (other, taken) = presence.take_over(hold.id(), None).unwrap();
                            pending.wait().unwrap();
                            taken.wait().unwrap();
                            drop(hold);
                            other.end().wait().unwrap();
                            continue;
                        }
                        2 => drop(hold.store(cancelling("")).wait().unwrap()),
                        3 => {
                            presence.end(hold.id()).wait().unwrap();
                            pending.wait().unwrap();
                            commit(tree, setting(&at, json!(1)));
                        }
                        4 => drop(pending),
                        _ => {
                            hold.say_goodbye();
                            pending.wait().unwrap();
                            continue;
                        }
                    }
                }
            });
        }
    });
    settle(&presence);
    assert_eq!(presence.stats().held, 0, "nobody holds one any more");
    ground.clock().advance_ms(45_000);
    until("all end", || gone(&presence));
    for worker in 0..8 {
        let ran = get(&tree, &format!("w{worker}"));
        assert!(ran.as_object().unwrap().values().all(|runs| *runs == json!(1)), "{ran}");
    }
    assert_gone(&presence, &tree);
    presence.close();
    assert!(Arc::strong_count(&ground) >= 1);
}
