//! When leases end, and that what they run runs once, with a clock that only a case moves.

use std::time::Duration;

use serde_json::json;
use trellis_engine_traits::ErrorKind;

use super::tools::{assert_gone, counting, gone, restarted, setting_at, settle, start};
use crate::tree::TreeWorld;
use crate::tree::tools::{exists, get, keys, refused, rev, set, until};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("presence.end.clean_close", &["presence.end.close"], clean_close),
    Case::new("presence.end.after_silence", &["presence.end.silence"], silence),
    Case::new("presence.end.without_a_connection", &["presence.end.silence"], without_connection),
    Case::new("presence.end.over_a_restart", &["presence.end.restart"], restart),
    Case::new("presence.end.renewals_survive", &["presence.end.restart"], renewals_survive),
    Case::new("presence.end.one_of_two", &["presence.end.once"], one_of_two),
    Case::new("presence.end.while_paused", &["presence.end.retried"], while_paused),
    Case::new("presence.end.append_fails", &["presence.end.retried"], append_fails)
        .needs(&[Need::WriteFault]),
];

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

/// Two workers know of the same leases, as should never be: what one has run the other does not.
fn one_of_two(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let first = start(&ground, &tree);
    for number in 0..50 {
        first.hold().unwrap().store(counting(&format!("n/{number}"))).wait().unwrap();
    }
    let second = start(&ground, &tree);
    settle(&second);
    assert_eq!((first.stats().leases, second.stats().leases), (50, 50));
    ground.clock().advance_ms(45_000);
    until("both are done", || gone(&first) && gone(&second));
    let all = get(&tree, "n");
    assert_eq!(all.as_object().unwrap().len(), 50);
    assert!(all.as_object().unwrap().values().all(|runs| *runs == json!(1)), "{all}");
    assert_eq!(first.stats().writes_run + second.stats().writes_run, 50);
    assert_gone(&first, &tree);
    first.close();
    second.close();
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
