//! Frozen views: current when taken, unchanged for ever after.

use std::ops::ControlFlow;

use trellis_engine_traits::{
    Durability, KeyRange, KvSnapshot, MaintenanceBudget, Scan, ScanEnd, WriteBatch,
};

use super::KvWorld;
use super::tools::{OTHER, Pairs, SPACE, batch, commit, dump_of, get_of, put, puts, range};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.snapshot.holds_what_returned", &["kv.snapshot.current"], holds_what_returned),
    Case::new("kv.snapshot.names_last_commit", &["kv.snapshot.current"], names_last_commit),
    Case::new("kv.snapshot.of_nothing", &["kv.snapshot.current"], of_nothing),
    Case::new("kv.snapshot.hides_puts", &["kv.snapshot.frozen"], hides_puts),
    Case::new("kv.snapshot.hides_deletes", &["kv.snapshot.frozen"], hides_deletes),
    Case::new("kv.snapshot.each_its_own", &["kv.snapshot.frozen"], each_its_own),
    Case::new(
        "kv.snapshot.outlives_commits",
        &["kv.snapshot.outlives", "kv.snapshot.frozen"],
        outlives_commits,
    ),
    Case::new("kv.snapshot.many_threads_read", &["kv.snapshot.frozen"], many_threads_read),
];

fn holds_what_returned(world: &KvWorld) {
    let kv = world.engine();
    for round in 0..100 {
        let durability = if round % 10 == 0 { Durability::Synced } else { Durability::Buffered };
        let key = format!("k{round:03}");
        kv.commit(&puts([(&key, "v")]).put(OTHER, key.clone(), "w"), durability).unwrap();
        let snapshot = kv.snapshot().unwrap();
        assert_eq!(get_of(&*snapshot, &key).unwrap(), "v");
        assert_eq!(snapshot.get(OTHER, key.as_bytes()).unwrap().unwrap(), "w");
        assert_eq!(dump_of(&*snapshot, SPACE).len(), round + 1);
    }
}

fn names_last_commit(world: &KvWorld) {
    let kv = world.engine();
    let before = kv.snapshot().unwrap();
    let seq = put(&*kv, "k", "1");
    let after = kv.snapshot().unwrap();
    assert!(before.seq() < seq, "an older view names an older commit");
    assert_eq!(after.seq(), seq);
    put(&*kv, "k", "2");
    assert_eq!(after.seq(), seq, "a view names the same commit for ever");
}

fn of_nothing(world: &KvWorld) {
    let kv = world.engine();
    let snapshot = kv.snapshot().unwrap();
    assert_eq!(get_of(&*snapshot, "k"), None);
    assert_eq!(get_of(&*snapshot, ""), None);
    assert!(dump_of(&*snapshot, SPACE).is_empty());
    let scan = Scan::forward(SPACE, range("a", "b"));
    let end = snapshot.scan(&scan, &mut |_, _| panic!("there is nothing to visit")).unwrap();
    assert_eq!(end, ScanEnd::Exhausted);
}

/// Takes a view, applies `change`, and demands that the view shows what it showed.
fn unchanged_by(world: &KvWorld, change: &WriteBatch) {
    let kv = world.engine();
    let snapshot = kv.snapshot().unwrap();
    let before = views(&*snapshot);
    commit(&*kv, change);
    assert_eq!(views(&*snapshot), before, "the view changed with {change:?}");
    assert_ne!(views(&*kv.snapshot().unwrap()), before, "the change did nothing");
    kv.commit(change, Durability::Synced).unwrap();
    assert_eq!(views(&*snapshot), before, "the view changed with a synced commit");
}

fn views(snapshot: &dyn KvSnapshot) -> (Pairs, Pairs, Option<bytes::Bytes>) {
    let seen = dump_of(snapshot, SPACE);
    for (key, value) in &seen {
        assert_eq!(snapshot.get(SPACE, key).unwrap().as_ref(), Some(value), "get and scan agree");
    }
    (seen, dump_of(snapshot, OTHER), snapshot.get(SPACE, b"new").unwrap())
}

fn hides_puts(world: &KvWorld) {
    commit(&*world.engine(), &puts([("a", "1"), ("b", "2"), ("c", "3")]));
    unchanged_by(world, &puts([("new", "1")]));
    unchanged_by(world, &puts([("b", "overwritten")]));
    unchanged_by(world, &puts([("", "first"), ("zz", "last")]));
    unchanged_by(world, &batch().put(OTHER, "o", "1"));
}

fn hides_deletes(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts((0..100).map(|index| (format!("k{index:02}"), "v"))).put(OTHER, "o", "1"));
    unchanged_by(world, &batch().delete(SPACE, "k50"));
    unchanged_by(world, &batch().delete_range(SPACE, range("k10", "k40")));
    unchanged_by(world, &batch().delete_range(OTHER, KeyRange::all()));
    unchanged_by(world, &batch().delete_range(SPACE, KeyRange::all()));
}

fn each_its_own(world: &KvWorld) {
    let kv = world.engine();
    let mut views = Vec::new();
    for round in 0..20 {
        commit(&*kv, &puts([("k", round.to_string()), (&format!("only{round:02}"), "".into())]));
        views.push(kv.snapshot().unwrap());
    }
    for (round, view) in views.iter().enumerate().rev() {
        assert_eq!(get_of(&**view, "k").unwrap(), round.to_string());
        assert_eq!(dump_of(&**view, SPACE).len(), round + 2);
    }
}

fn outlives_commits(world: &KvWorld) {
    let kv = world.engine();
    let big = vec![7u8; 10_000];
    commit(&*kv, &puts((0..50).map(|index| (format!("k{index:02}"), &big))));
    let snapshot = kv.snapshot().unwrap();
    let before = views(&*snapshot);
    for round in 0..60u32 {
        let value = vec![round as u8; 10_000];
        let seq = commit(&*kv, &puts([(format!("k{:02}", round % 50), &value)]));
        if round % 10 == 0 {
            kv.flush(seq).unwrap();
            kv.maintain(MaintenanceBudget { time: std::time::Duration::from_millis(5) }).unwrap();
        }
    }
    assert_eq!(views(&*snapshot), before);
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::all()));
    assert_eq!(views(&*snapshot), before);
}

fn many_threads_read(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts((0..500).map(|index| (format!("k{index:03}"), format!("v{index}")))));
    let snapshot = kv.snapshot().unwrap();
    let shared = &*snapshot;
    std::thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                for index in (0..500).skip(reader).step_by(4) {
                    let value = get_of(shared, format!("k{index:03}"));
                    assert_eq!(value.unwrap(), format!("v{index}"));
                }
                let mut seen = 0;
                let scan = Scan::reverse(SPACE, KeyRange::all());
                let count = &mut |_: &[u8], _: &[u8]| {
                    seen += 1;
                    ControlFlow::Continue(())
                };
                shared.scan(&scan, count).unwrap();
                assert_eq!(seen, 500);
            });
        }
        put(&*kv, "k999", "later");
    });
}
