//! Guards, the order of changes, the numbers of commits.

use trellis_engine_traits::{At, Durability, ErrorKind, Guard, WriteBatch};

use super::KvWorld;
use super::tools::{OTHER, SPACE, at, batch, bytes, commit, dump, get, names, put, puts, refused};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.guards.absent", &["kv.commit.guards"], absent),
    Case::new("kv.guards.present", &["kv.commit.guards"], present),
    Case::new("kv.guards.equals", &["kv.commit.guards"], equals),
    Case::new("kv.guards.all_must_hold", &["kv.commit.guards"], all_must_hold),
    Case::new("kv.guards.see_the_state_before", &["kv.commit.guards"], state_before),
    Case::new("kv.guards.conflict_changes_nothing", &["kv.commit.guards"], conflict_is_clean),
    Case::new("kv.guards.without_changes", &["kv.commit.guards"], guards_alone),
    Case::new("kv.guards.keep_to_their_space", &["kv.commit.guards"], guard_spaces),
    Case::new("kv.commit.changes_in_order", &["kv.commit.order"], changes_in_order),
    Case::new("kv.commit.ranges_in_order", &["kv.commit.order"], ranges_in_order),
    Case::new("kv.commit.numbers_increase", &["kv.commit.order"], numbers_increase),
    Case::new("kv.commit.empty", &["kv.commit.order"], empty_batch),
    Case::new("kv.commit.several_spaces", &["kv.commit.order", "kv.get.exact"], several_spaces),
    Case::new("kv.commit.delete_missing", &["kv.commit.order"], delete_missing),
];

fn try_guard(world: &KvWorld, guard: Guard) -> bool {
    let kv = world.engine();
    let before = dump(&*kv);
    match kv.commit(&batch().guard(guard).put(SPACE, "z", "written"), Durability::Buffered) {
        Ok(_) => {
            assert_eq!(get(&*kv, "z").as_deref(), Some(&b"written"[..]));
            commit(&*kv, &batch().delete(SPACE, "z"));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            assert_eq!(dump(&*kv), before, "a refused batch changed something");
            false
        }
    }
}

fn absent(world: &KvWorld) {
    put(&*world.engine(), "k", "1");
    put(&*world.engine(), "e", "");
    assert!(try_guard(world, Guard::Absent(at("x"))));
    assert!(try_guard(world, Guard::Absent(at("k\0"))), "a longer key is another key");
    assert!(try_guard(world, Guard::Absent(at(""))), "the empty key is another key");
    assert!(!try_guard(world, Guard::Absent(at("k"))));
    assert!(!try_guard(world, Guard::Absent(at("e"))), "an empty value is a value");
}

fn present(world: &KvWorld) {
    put(&*world.engine(), "k", "1");
    put(&*world.engine(), "e", "");
    assert!(try_guard(world, Guard::Present(at("k"))));
    assert!(try_guard(world, Guard::Present(at("e"))), "an empty value is a value");
    assert!(!try_guard(world, Guard::Present(at("x"))));
    assert!(!try_guard(world, Guard::Present(at("k\0"))));
    commit(&*world.engine(), &batch().delete(SPACE, "k"));
    assert!(!try_guard(world, Guard::Present(at("k"))), "removed is not present");
}

fn equals(world: &KvWorld) {
    put(&*world.engine(), "k", "value");
    put(&*world.engine(), "e", "");
    assert!(try_guard(world, Guard::Equals(at("k"), bytes("value"))));
    assert!(try_guard(world, Guard::Equals(at("e"), bytes(""))));
    for other in ["", "valu", "value\0", "VALUE", "wrong"] {
        assert!(!try_guard(world, Guard::Equals(at("k"), bytes(other))), "equal to {other:?}?");
    }
    assert!(!try_guard(world, Guard::Equals(at("x"), bytes(""))), "absent is not empty");
}

fn all_must_hold(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("a", "1"), ("b", "2")]));
    let holds = [
        Guard::Equals(at("a"), bytes("1")),
        Guard::Present(at("b")),
        Guard::Absent(at("c")),
        Guard::Equals(at("b"), bytes("2")),
    ];
    for failing in 0..=holds.len() {
        let mut guarded = puts([("written", "yes")]);
        guarded.guards = holds.to_vec();
        guarded.guards.insert(failing, Guard::Present(at("missing")));
        refused(kv.commit(&guarded, Durability::Buffered), ErrorKind::Conflict, "one guard fails");
        assert_eq!(names(&*kv), ["a", "b"]);
    }
    let mut guarded = puts([("written", "yes")]);
    guarded.guards = holds.to_vec();
    commit(&*kv, &guarded);
    assert_eq!(names(&*kv), ["a", "b", "written"]);
    let mut contradiction = puts([("never", "yes")]);
    contradiction.guards = vec![Guard::Present(at("a")), Guard::Absent(at("a"))];
    refused(kv.commit(&contradiction, Durability::Buffered), ErrorKind::Conflict, "contradiction");
}

fn state_before(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &batch().guard(Guard::Absent(at("k"))).put(SPACE, "k", "1"));
    let replace = batch().guard(Guard::Equals(at("k"), bytes("1"))).put(SPACE, "k", "2");
    commit(&*kv, &replace);
    refused(kv.commit(&replace, Durability::Buffered), ErrorKind::Conflict, "a value replaced");
    commit(&*kv, &batch().guard(Guard::Present(at("k"))).delete(SPACE, "k"));
    let own = batch().guard(Guard::Present(at("new"))).put(SPACE, "new", "1");
    refused(kv.commit(&own, Durability::Buffered), ErrorKind::Conflict, "what it writes itself");
    assert_eq!(names(&*kv), [""; 0]);
}

fn conflict_is_clean(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("a", "1"), ("b", "2"), ("c", "3")]));
    commit(&*kv, &batch().put(OTHER, "o", "1"));
    let before = dump(&*kv);
    let seq_before = kv.snapshot().unwrap().seq();
    let failing = batch()
        .put(SPACE, "a", "changed")
        .delete(SPACE, "b")
        .put(SPACE, "d", "4")
        .delete_range(OTHER, trellis_engine_traits::KeyRange::all())
        .guard(Guard::Absent(at("c")));
    for durability in [Durability::Buffered, Durability::Synced] {
        refused(kv.commit(&failing, durability), ErrorKind::Conflict, "a failing guard");
        assert_eq!(dump(&*kv), before);
        assert!(kv.snapshot().unwrap().get(OTHER, b"o").unwrap().is_some());
    }
    assert_eq!(kv.snapshot().unwrap().seq(), seq_before, "a refused batch is no commit");
    put(&*kv, "d", "goes on");
    drop(kv);
    let kv = world.reopen();
    assert_eq!(names(&*kv), ["a", "b", "c", "d"]);
}

fn guards_alone(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "1");
    commit(&*kv, &batch().guard(Guard::Present(at("k"))));
    let failing = batch().guard(Guard::Absent(at("k")));
    refused(kv.commit(&failing, Durability::Synced), ErrorKind::Conflict, "a failing guard");
}

fn guard_spaces(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &batch().put(OTHER, "k", "1"));
    assert!(try_guard(world, Guard::Absent(at("k"))));
    assert!(!try_guard(world, Guard::Present(at("k"))));
    assert!(try_guard(world, Guard::Present(At::new(OTHER, "k"))));
}

fn changes_in_order(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "old", "1");
    let changes = batch()
        .put(SPACE, "twice", "first")
        .put(SPACE, "twice", "second")
        .put(SPACE, "gone", "1")
        .delete(SPACE, "gone")
        .delete(SPACE, "old")
        .put(SPACE, "old", "2")
        .put(SPACE, "last", "op");
    commit(&*kv, &changes);
    assert_eq!(names(&*kv), ["last", "old", "twice"]);
    assert_eq!(get(&*kv, "twice").unwrap(), "second");
    assert_eq!(get(&*kv, "old").unwrap(), "2");
    assert_eq!(get(&*kv, "last").unwrap(), "op");
    assert_eq!(get(&*kv, "gone"), None);
}

fn ranges_in_order(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("b1", ""), ("b2", "")]));
    let changes = batch()
        .put(SPACE, "b3", "removed with the range")
        .delete_range(SPACE, super::tools::range("b", "c"))
        .put(SPACE, "b2", "after the range");
    commit(&*kv, &changes);
    assert_eq!(names(&*kv), ["b2"]);
    assert_eq!(get(&*kv, "b2").unwrap(), "after the range");
}

fn numbers_increase(world: &KvWorld) {
    let kv = world.engine();
    let mut last = kv.snapshot().unwrap().seq();
    for round in 0..50 {
        let durability = if round % 5 == 0 { Durability::Synced } else { Durability::Buffered };
        let seq = kv.commit(&puts([("k", round.to_string())]), durability).unwrap();
        assert!(seq > last, "{seq:?} after {last:?}");
        assert_eq!(kv.snapshot().unwrap().seq(), seq, "a snapshot names its last commit");
        last = seq;
    }
}

fn empty_batch(world: &KvWorld) {
    let kv = world.engine();
    let first = put(&*kv, "k", "1");
    let empty = commit(&*kv, &WriteBatch::new());
    let synced = kv.commit(&WriteBatch::new(), Durability::Synced).expect("nothing to do is fine");
    let last = put(&*kv, "k", "2");
    assert!(first < empty && empty < synced && synced < last, "numbers strictly increase");
    assert_eq!(names(&*kv), ["k"]);
}

fn several_spaces(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &batch().put(SPACE, "k", "here").put(OTHER, "k", "there").put(OTHER, "l", "x"));
    commit(&*kv, &batch().delete(OTHER, "l").put(SPACE, "l", "y"));
    let snapshot = kv.snapshot().unwrap();
    assert_eq!(snapshot.get(SPACE, b"k").unwrap().unwrap(), "here");
    assert_eq!(snapshot.get(OTHER, b"k").unwrap().unwrap(), "there");
    assert_eq!(snapshot.get(SPACE, b"l").unwrap().unwrap(), "y");
    assert_eq!(snapshot.get(OTHER, b"l").unwrap(), None);
}

fn delete_missing(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "1");
    commit(&*kv, &batch().delete(SPACE, "nothing").delete(OTHER, "k").delete(SPACE, ""));
    assert_eq!(names(&*kv), ["k"]);
}
