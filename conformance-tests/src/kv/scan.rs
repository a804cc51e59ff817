//! Scans: order, bounds, stops, spaces; and `get` for exactly the key.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{
    Direction, KeyRange, KvBackend, KvSnapshotExt, Scan, ScanEnd, SpaceId,
};

use super::KvWorld;
use super::tools::{OTHER, SPACE, batch, bytes, commit, dump, dump_of, get, keys, puts, range};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.get.exact_key", &["kv.get.exact"], exact_key),
    Case::new("kv.get.exact_value", &["kv.get.exact"], exact_value),
    Case::new("kv.scan.byte_order", &["kv.scan.order"], byte_order),
    Case::new("kv.scan.order_of_single_bytes", &["kv.scan.order"], single_bytes),
    Case::new("kv.scan.each_pair_once", &["kv.scan.order"], each_pair_once),
    Case::new("kv.scan.forward_bounds", &["kv.scan.bounds"], forward_bounds),
    Case::new("kv.scan.reverse_excluded_end", &["kv.scan.bounds"], reverse_bounds),
    Case::new("kv.scan.empty_ranges", &["kv.scan.bounds"], empty_ranges),
    Case::new("kv.scan.stops_at_once", &["kv.scan.stop"], stops_at_once),
    Case::new("kv.scan.goes_on_where_it_stopped", &["kv.scan.stop", "kv.scan.bounds"], goes_on),
    Case::new("kv.scan.stays_in_its_space", &["kv.scan.spaces"], stays_in_space),
    Case::new("kv.scan.every_space", &["kv.scan.spaces", "kv.get.exact"], every_space),
];

fn scanned(kv: &dyn KvBackend, range: KeyRange, direction: Direction) -> Vec<Bytes> {
    let scan = Scan { space: SPACE, range, direction };
    let mut seen = Vec::new();
    let end = kv
        .snapshot()
        .unwrap()
        .scan(&scan, &mut |key, _| {
            seen.push(bytes(key));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(end, ScanEnd::Exhausted);
    seen
}

fn exact_key(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("key", "1"), ("KEY", "2"), ("key ", "3"), ("key\0", "4"), ("", "5")]));
    for (key, value) in [("key", "1"), ("KEY", "2"), ("key ", "3"), ("key\0", "4"), ("", "5")] {
        assert_eq!(get(&*kv, key).unwrap(), value, "{key:?}");
    }
    for missing in ["ke", "Key", " key", "key\0\0", "\0", "kez"] {
        assert_eq!(get(&*kv, missing), None, "{missing:?}");
    }
    assert_eq!(kv.snapshot().unwrap().get(OTHER, b"key").unwrap(), None);
}

fn exact_value(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("values");
    let lengths = [0, 1, 2, 7, 8, 255, 256, 1023, 4095, 4096, 4097, 65_535, 65_536, 1_000_000];
    let values: Vec<_> = lengths.iter().map(|len| rng.bytes(*len)).collect();
    for (len, value) in lengths.iter().zip(&values) {
        commit(&*kv, &puts([(len.to_string(), value)]));
    }
    drop(kv);
    let kv = world.reopen();
    for (len, value) in lengths.iter().zip(&values) {
        assert!(get(&*kv, len.to_string()).unwrap() == value, "the value of {len} bytes");
    }
    commit(&*kv, &puts([("1000000", "short now"), ("1", "longer than before")]));
    assert_eq!(get(&*kv, "1000000").unwrap(), "short now");
    assert_eq!(get(&*kv, "1").unwrap(), "longer than before");
}

fn byte_order(world: &KvWorld) {
    let kv = world.engine();
    let mut rng = world.rng("keys");
    let mut all: Vec<Vec<u8>> = (0..400)
        .map(|_| {
            let len = rng.below(6);
            rng.bytes(len)
        })
        .collect();
    all.extend([vec![], vec![0], vec![0, 0], vec![0x7f], vec![0x80], vec![0xff], vec![0xff, 0xff]]);
    for chunk in all.chunks(37) {
        commit(&*kv, &puts(chunk.iter().map(|key| (key, "v"))));
    }
    all.sort();
    all.dedup();
    let expected: Vec<_> = all.iter().map(bytes).collect();
    assert_eq!(scanned(&*kv, KeyRange::all(), Direction::Forward), expected);
    let reversed: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(scanned(&*kv, KeyRange::all(), Direction::Reverse), reversed);
}

fn single_bytes(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts((0..=255u8).rev().map(|byte| ([byte], [byte]))));
    let expected: Vec<_> = (0..=255u8).map(|byte| bytes([byte])).collect();
    assert_eq!(keys(&dump(&*kv)), expected);
}

fn each_pair_once(world: &KvWorld) {
    let kv = world.engine();
    let name = |index: u32| format!("{index:05}");
    for round in 0..3 {
        let part = (0..3_000).map(|index| (name(index), format!("{round}")));
        commit(&*kv, &puts(part));
    }
    let pairs = dump(&*kv);
    assert_eq!(pairs.len(), 3_000);
    for (index, (key, value)) in pairs.iter().enumerate() {
        assert_eq!((&key[..], &value[..]), (name(index as u32).as_bytes(), &b"2"[..]));
    }
}

fn bounded(world: &KvWorld, direction: Direction) {
    let kv = world.engine();
    let all = ["", "\0", "a", "a\0", "aa", "b", "b\0", "c", "\u{7f}"];
    commit(&*kv, &puts(all.map(|key| (key, "v"))));
    for start in all {
        for end in all {
            let mut expected: Vec<_> =
                all.iter().filter(|key| **key >= start && **key < end).map(bytes).collect();
            if direction == Direction::Reverse {
                expected.reverse();
            }
            let found = scanned(&*kv, range(start, end), direction);
            assert_eq!(found, expected, "from {start:?} to {end:?} {direction:?}");
        }
        let mut expected: Vec<_> = all.iter().filter(|key| **key >= start).map(bytes).collect();
        if direction == Direction::Reverse {
            expected.reverse();
        }
        assert_eq!(scanned(&*kv, KeyRange::new(start, None), direction), expected);
    }
    let between = scanned(&*kv, range("a\0\0", "b\0\0"), direction);
    assert_eq!(between.len(), 3, "bounds need not exist: {between:?}");
}

fn forward_bounds(world: &KvWorld) {
    bounded(world, Direction::Forward);
}

fn reverse_bounds(world: &KvWorld) {
    bounded(world, Direction::Reverse);
}

fn empty_ranges(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts([("", "v"), ("a", "v"), ("b", "v")]));
    for direction in [Direction::Forward, Direction::Reverse] {
        for (start, end) in [("a", "a"), ("b", "a"), ("", ""), ("z", "a"), ("aa", "ab")] {
            let found = scanned(&*kv, range(start, end), direction);
            assert!(found.is_empty(), "{start:?} to {end:?}: {found:?}");
        }
    }
}

fn stops_at_once(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts((0..100).map(|index| (format!("{index:02}"), "v"))));
    let snapshot = kv.snapshot().unwrap();
    for direction in [Direction::Forward, Direction::Reverse] {
        for wanted in [1, 2, 50, 99, 100] {
            let mut seen = 0;
            let scan = Scan { space: SPACE, range: KeyRange::all(), direction };
            let end = snapshot
                .scan(&scan, &mut |_, _| {
                    seen += 1;
                    if seen < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .unwrap();
            assert_eq!((seen, end), (wanted, ScanEnd::Stopped));
        }
        assert_eq!(snapshot.get(SPACE, b"42").unwrap().unwrap(), "v", "the view is usable");
    }
}

fn goes_on(world: &KvWorld) {
    let kv = world.engine();
    let name = |index: u32| format!("{index:03}");
    commit(&*kv, &puts((0..500).map(|index| (name(index), "v"))));
    let snapshot = kv.snapshot().unwrap();
    let mut seen: Vec<Bytes> = Vec::new();
    loop {
        let start = seen.last().map_or(Bytes::new(), |last| bytes([&last[..], &[0]].concat()));
        let page = snapshot.collect(&Scan::forward(SPACE, KeyRange::new(start, None)), 17).unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(keys(&page));
    }
    assert_eq!(seen, (0..500).map(|index| bytes(name(index))).collect::<Vec<_>>());
    let mut back: Vec<Bytes> = Vec::new();
    loop {
        let rest = KeyRange::new(Bytes::new(), back.last().cloned());
        let page = snapshot.collect(&Scan::reverse(SPACE, rest), 17).unwrap();
        if page.is_empty() {
            break;
        }
        back.extend(keys(&page));
    }
    back.reverse();
    assert_eq!(back, seen);
}

fn stays_in_space(world: &KvWorld) {
    let kv = world.engine();
    let top = vec![0xff; 30];
    for space in [6, 7, 8] {
        let space = SpaceId(space);
        commit(&*kv, &batch().put(space, "", "first").put(space, top.clone(), "last"));
    }
    commit(&*kv, &batch().delete(SPACE, "").delete(SPACE, top).put(SPACE, "mine", "v"));
    assert_eq!(keys(&dump(&*kv)), [bytes("mine")]);
    let snapshot = kv.snapshot().unwrap();
    assert_eq!(dump_of(&*snapshot, OTHER).len(), 2);
    let beyond = Scan::reverse(SPACE, KeyRange::new("n", None));
    assert!(snapshot.collect(&beyond, 9).unwrap().is_empty());
}

fn every_space(world: &KvWorld) {
    let kv = world.engine();
    let all = (0..=255u8).fold(batch(), |batch, id| batch.put(SpaceId(id), "same", [id].to_vec()));
    commit(&*kv, &all);
    let snapshot = kv.snapshot().unwrap();
    for id in 0..=255u8 {
        let expected = vec![(bytes("same"), bytes([id]))];
        assert_eq!(dump_of(&*snapshot, SpaceId(id)), expected, "space {id}");
        assert_eq!(snapshot.get(SpaceId(id), b"same").unwrap().unwrap(), [id][..]);
    }
}
