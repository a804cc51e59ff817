//! Leases: held, taken over, over; how many there may be, and that none is left.

use std::time::Duration;

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_presence::{LeaseInfo, PresenceOptions};

use super::tools::{assert_gone, cancelling, counting, gone, restarted, settle, start, start_with};
use crate::Case;
use crate::tree::TreeWorld;
use crate::tree::tools::{commit, exists, get, refused, rev, setting, until};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("presence.end.many_at_once", &["presence.end.once", "presence.count.zero"], many),
    Case::new("presence.lease.no_way_back", &["presence.lease.ended"], no_way_back),
    Case::new("presence.lease.taken_over", &["presence.lease.take"], taken_over),
    Case::new("presence.lease.costs_nothing", &["presence.lease.free"], costs_nothing),
    Case::new("presence.lease.times", &["presence.limits.exact"], times),
    Case::new("presence.lease.limit", &["presence.limits.exact"], leases_limit),
    Case::new("presence.count.returns_to_zero", &["presence.count.zero"], returns_to_zero),
];

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
    for pending in stored {
        assert_eq!(pending.wait().unwrap().writes, 1);
    }
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
}
