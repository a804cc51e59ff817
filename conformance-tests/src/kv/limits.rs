//! The largest and the smallest of everything.

use bytes::Bytes;
use trellis_engine_traits::{
    At, Durability, ErrorKind, Guard, KeyRange, KvBackend, Op, SpaceId, WriteBatch,
};

use super::KvWorld;
use super::tools::{
    OTHER, SPACE, at, batch, bytes, commit, dump, get, keys, names, put, puts, range,
};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.limits.longest_key", &["kv.commit.limits", "kv.get.exact"], longest_key),
    Case::new("kv.limits.longest_key_top_byte", &["kv.commit.limits"], longest_key_top_byte),
    Case::new("kv.limits.key_too_long", &["kv.commit.limits"], key_too_long),
    Case::new("kv.limits.get_of_overlong_key", &["kv.get.exact"], get_overlong),
    Case::new("kv.limits.largest_value", &["kv.commit.limits", "kv.get.exact"], largest_value),
    Case::new("kv.limits.value_too_large", &["kv.commit.limits"], value_too_large),
    Case::new("kv.limits.batch_bytes_over", &["kv.commit.limits"], batch_bytes_over),
    Case::new("kv.limits.batch_ops_over", &["kv.commit.limits"], batch_ops_over),
    Case::new("kv.limits.batch_of_ten_thousand", &["kv.commit.limits"], ten_thousand_ops),
    Case::new("kv.limits.batch_ops_minimum", &["kv.commit.limits"], million_ops).full(),
    Case::new("kv.limits.batch_bytes_full", &["kv.commit.limits"], batch_bytes_full).full(),
    Case::new("kv.limits.empty_key", &["kv.get.exact", "kv.scan.order"], empty_key),
    Case::new("kv.limits.empty_value", &["kv.get.exact"], empty_value),
    Case::new("kv.limits.edge_bytes", &["kv.get.exact", "kv.scan.order"], edge_bytes),
];

fn longest(kv: &dyn KvBackend, last: u8) -> Vec<u8> {
    let mut key = vec![b'k'; kv.profile().limits.key_bytes_max];
    *key.last_mut().unwrap() = last;
    key
}

fn longest_key(world: &KvWorld) {
    let kv = world.engine();
    let (a, b) = (longest(&*kv, b'a'), longest(&*kv, b'b'));
    let short = a[..a.len() - 1].to_vec();
    commit(&*kv, &puts([(&b, "b"), (&a, "a"), (&short, "short")]));
    assert_eq!(get(&*kv, &a).unwrap(), "a");
    assert_eq!(get(&*kv, &b).unwrap(), "b");
    assert_eq!(keys(&dump(&*kv)), [bytes(&short), bytes(&a), bytes(&b)]);
    let guarded = batch()
        .guard(Guard::Equals(at(&a), bytes("a")))
        .guard(Guard::Present(at(&b)))
        .guard(Guard::Absent(at(longest(&*kv, b'c'))))
        .put(SPACE, a.clone(), "a2");
    commit(&*kv, &guarded);
    drop(kv);
    let kv = world.reopen();
    assert_eq!(get(&*kv, &a).unwrap(), "a2");
    commit(&*kv, &batch().delete_range(SPACE, range(&a, &b)));
    assert_eq!(keys(&dump(&*kv)), [bytes(&short), bytes(&b)]);
    commit(&*kv, &batch().delete(SPACE, b));
    assert_eq!(keys(&dump(&*kv)), [bytes(&short)]);
}

fn longest_key_top_byte(world: &KvWorld) {
    let kv = world.engine();
    let top = vec![0xff; kv.profile().limits.key_bytes_max];
    put(&*kv, &top, "top");
    put(&*kv, "a", "1");
    assert_eq!(keys(&dump(&*kv)), [bytes("a"), bytes(&top)]);
    let end_excluded = batch().delete_range(SPACE, range("b", &top));
    commit(&*kv, &end_excluded);
    assert_eq!(get(&*kv, &top).unwrap(), "top");
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::prefix(&[0xff])));
    assert_eq!(names(&*kv), ["a"]);
}

/// Demands that `over` is refused as too large and changes nothing.
fn too_large(world: &KvWorld, over: &WriteBatch, limit: &str, what: &str) {
    let kv = world.engine();
    for durability in [Durability::Buffered, Durability::Synced] {
        let error = kv.commit(over, durability).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{what}: {error:?}");
        assert!(error.fact(limit).is_some(), "the error names {limit}: {error:?}");
        assert_eq!(names(&*kv), ["k"], "{what}: something was changed");
        assert_eq!(get(&*kv, "k").unwrap(), "v", "{what}: something was changed");
    }
}

fn key_too_long(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    let over = Bytes::from(vec![b'x'; kv.profile().limits.key_bytes_max + 1]);
    let good = || puts([("good", "v")]).delete(SPACE, "k");
    let wrongs = [
        ("a put", good().put(SPACE, over.clone(), "v")),
        ("a put in front", batch().put(SPACE, over.clone(), "v").delete(SPACE, "k")),
        ("a delete", good().delete(SPACE, over.clone())),
        ("the start of a range", good().delete_range(SPACE, KeyRange::new(over.clone(), None))),
        ("the end of a range", good().delete_range(SPACE, KeyRange::new("", Some(over.clone())))),
        ("a guard", good().guard(Guard::Absent(At::new(SPACE, over.clone())))),
    ];
    for (what, wrong) in wrongs {
        too_large(world, &wrong, "key_bytes_max", what);
    }
    put(&*kv, "k", "goes on");
}

fn get_overlong(world: &KvWorld) {
    let kv = world.engine();
    let longest = longest(&*kv, b'a');
    put(&*kv, &longest, "v");
    let over = [&longest[..], b"a"].concat();
    assert_eq!(get(&*kv, over), None, "no such key can exist");
    assert_eq!(get(&*kv, vec![b'k'; longest.len() * 20]), None, "no such key can exist");
}

fn largest_value(world: &KvWorld) {
    let kv = world.engine();
    let largest = world.rng("value").bytes(kv.profile().limits.value_bytes_max);
    put(&*kv, "large", &largest);
    assert!(get(&*kv, "large").unwrap() == largest);
    put(&*kv, "small", "v");
    drop(kv);
    let kv = world.reopen();
    assert!(get(&*kv, "large").unwrap() == largest, "after a reopen");
    let guarded = batch().guard(Guard::Equals(at("large"), largest.into())).delete(SPACE, "large");
    commit(&*kv, &guarded);
    assert_eq!(names(&*kv), ["small"]);
}

fn value_too_large(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    let over = Bytes::from(vec![1; kv.profile().limits.value_bytes_max + 1]);
    let good = || puts([("good", "v")]).delete(SPACE, "k");
    too_large(world, &good().put(SPACE, "large", over.clone()), "value_bytes_max", "a put");
    let guarded = good().guard(Guard::Equals(at("k"), over));
    too_large(world, &guarded, "value_bytes_max", "a guard");
}

/// Puts of one shared value that take `total_bytes` with their keys.
fn of_size(total_bytes: usize, value_bytes: usize) -> WriteBatch {
    let value = Bytes::from(vec![3; value_bytes]);
    let mut filled = batch();
    let mut left = total_bytes;
    let mut index = 0;
    while left > 0 {
        let key = format!("b{index:05}");
        let part = value_bytes.min(left - key.len());
        // What is left must be enough for one more key.
        let rest = left - key.len() - part;
        let part = if rest > 0 && rest < 6 { part - 6 } else { part };
        left -= key.len() + part;
        filled = filled.put(SPACE, key, value.slice(..part));
        index += 1;
    }
    filled
}

fn batch_bytes_over(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    let limits = kv.profile().limits;
    let over = of_size(limits.batch_bytes_max + 1, limits.value_bytes_max);
    too_large(world, &over, "batch_bytes_max", "one byte more");
}

fn batch_ops_over(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    let limit = kv.profile().limits.batch_ops_max;
    let op = Op::Delete(at("k"));
    let mut over = WriteBatch { guards: Vec::new(), ops: vec![op; limit] };
    over.guards.push(Guard::Present(at("k")));
    too_large(world, &over, "batch_ops_max", "a guard more");
}

fn ten_thousand_ops(world: &KvWorld) {
    let kv = world.engine();
    let name = |index: u32| format!("{index:06}");
    let mut rng = world.rng("order");
    let mut order: Vec<u32> = (0..10_000).collect();
    for index in (1..order.len()).rev() {
        order.swap(index, rng.below(index + 1));
    }
    commit(&*kv, &puts(order.iter().map(|index| (name(*index), "v"))));
    assert_eq!(names(&*kv), (0..10_000).map(name).collect::<Vec<_>>());
    let removal = order.iter().fold(batch(), |batch, index| batch.delete(SPACE, name(*index)));
    commit(&*kv, &removal);
    assert!(dump(&*kv).is_empty());
}

fn million_ops(world: &KvWorld) {
    let kv = world.engine();
    let count = 1_000_000u32;
    commit(&*kv, &puts((0..count).map(|index| (index.to_be_bytes(), "v"))));
    assert_eq!(dump(&*kv).len(), count as usize);
    drop(kv);
    assert_eq!(dump(&*world.reopen()).len(), count as usize);
}

fn batch_bytes_full(world: &KvWorld) {
    let kv = world.engine();
    let limits = kv.profile().limits;
    let full = of_size(limits.batch_bytes_max, limits.value_bytes_max);
    let count = full.ops.len();
    kv.commit(&full, Durability::Synced).expect("exactly the limit is accepted");
    assert_eq!(dump(&*kv).len(), count);
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::all()));
    assert!(dump(&*kv).is_empty());
}

fn empty_key(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("", "empty"), ("\0", "zero")]));
    assert_eq!(get(&*kv, "").unwrap(), "empty");
    assert_eq!(keys(&dump(&*kv)), [bytes(""), bytes("\0")]);
    commit(&*kv, &batch().guard(Guard::Equals(at(""), bytes("empty"))).delete(SPACE, ""));
    assert_eq!(keys(&dump(&*kv)), [bytes("\0")]);
    assert_eq!(get(&*kv, ""), None);
}

fn empty_value(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("k", ""), ("l", "full")]).put(OTHER, "", ""));
    assert_eq!(get(&*kv, "k").unwrap(), "");
    put(&*kv, "l", "");
    drop(kv);
    let kv = world.reopen();
    assert_eq!(dump(&*kv), [(bytes("k"), bytes("")), (bytes("l"), bytes(""))]);
    assert_eq!(kv.snapshot().unwrap().get(OTHER, b"").unwrap().unwrap(), "");
}

fn edge_bytes(world: &KvWorld) {
    let kv = world.engine();
    let mut all: Vec<Vec<u8>> = Vec::new();
    for len in [1, 2, 3, 100] {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] {
            all.push(vec![byte; len]);
        }
    }
    commit(&*kv, &puts(all.iter().map(|key| (key, key))));
    let edges = [SpaceId(0), SpaceId(255)];
    let others = edges.iter().fold(batch(), |batch, space| batch.put(*space, vec![0xff; 3], "v"));
    commit(&*kv, &others);
    all.sort();
    assert_eq!(keys(&dump(&*kv)), all.iter().map(bytes).collect::<Vec<_>>());
    for key in &all {
        assert_eq!(get(&*kv, key).unwrap(), key[..]);
    }
}
