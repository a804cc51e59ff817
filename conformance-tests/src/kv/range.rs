//! `DeleteRange` takes its range and no neighbour, and prefixes are not patterns.

use trellis_engine_traits::{KeyRange, KvSnapshotExt, Scan};

use super::KvWorld;
use super::tools::{OTHER, SPACE, batch, bytes, commit, dump, get, keys, names, puts, range};
use crate::Case;

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.delete_range.bounds", &["kv.delete_range.exact"], bounds),
    Case::new("kv.delete_range.nothing", &["kv.delete_range.exact"], nothing),
    Case::new("kv.delete_range.open_ends", &["kv.delete_range.exact"], open_ends),
    Case::new("kv.delete_range.other_space", &["kv.delete_range.exact"], other_space),
    Case::new("kv.delete_range.prefix_neighbours", &["kv.delete_range.exact"], neighbours),
    Case::new("kv.delete_range.many", &["kv.delete_range.exact"], many),
    Case::new(
        "kv.decoys.metacharacters",
        &["kv.get.exact", "kv.scan.bounds", "kv.delete_range.exact"],
        metacharacters,
    ),
];

const LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn letters(world: &KvWorld) {
    let kv = world.engine();
    let all = batch().delete_range(SPACE, KeyRange::all());
    commit(&*kv, &all);
    commit(&*kv, &puts(LETTERS.map(|letter| (letter, letter))));
}

fn removing(world: &KvWorld, removed: KeyRange) -> Vec<String> {
    letters(world);
    commit(&*world.engine(), &batch().delete_range(SPACE, removed));
    names(&*world.engine())
}

fn bounds(world: &KvWorld) {
    assert_eq!(removing(world, range("b", "d")), ["a", "d", "e"]);
    assert_eq!(removing(world, range("b", "b\0")), ["a", "c", "d", "e"]);
    assert_eq!(removing(world, range("aa", "cc")), ["a", "d", "e"]);
    assert_eq!(removing(world, range("b\0", "d\0")), ["a", "b", "e"]);
}

fn nothing(world: &KvWorld) {
    assert_eq!(removing(world, range("b", "b")), LETTERS);
    assert_eq!(removing(world, range("d", "b")), LETTERS, "a range that ends before it starts");
    assert_eq!(removing(world, range("", "")), LETTERS);
    assert_eq!(removing(world, range("bb", "bc")), LETTERS);
    assert_eq!(removing(world, range("f", "z")), LETTERS);
}

fn open_ends(world: &KvWorld) {
    assert_eq!(removing(world, KeyRange::new("c", None)), ["a", "b"]);
    assert_eq!(removing(world, range("", "c")), ["c", "d", "e"]);
    assert_eq!(removing(world, KeyRange::all()), [""; 0]);
    let kv = world.engine();
    let top = vec![0xff; 40];
    commit(&*kv, &puts([(&b""[..], ""), (&top, ""), (b"m", "")]));
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::new("m", None)));
    assert_eq!(keys(&dump(&*kv)), [bytes("")]);
    commit(&*kv, &batch().delete_range(SPACE, range("", "\0")));
    assert!(dump(&*kv).is_empty(), "the empty key is the first of the space");
}

fn other_space(world: &KvWorld) {
    letters(world);
    let kv = world.engine();
    commit(&*kv, &batch().put(OTHER, "c", "1").put(trellis_engine_traits::SpaceId(6), "c", "1"));
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::all()));
    let snapshot = kv.snapshot().unwrap();
    assert!(snapshot.get(OTHER, b"c").unwrap().is_some());
    assert!(snapshot.get(trellis_engine_traits::SpaceId(6), b"c").unwrap().is_some());
    assert!(dump(&*kv).is_empty());
}

fn neighbours(world: &KvWorld) {
    let kv = world.engine();
    for prefix in [&b"p"[..], b"p\xff", b"p\xff\xff", b"\xff", b"\xff\xff", b"p\x00", b"\x00", b"%"]
    {
        let mut inside = vec![prefix.to_vec()];
        for tail in [&b"\0"[..], b"a", b"\xff", b"\xff\xff\xff"] {
            inside.push([prefix, tail].concat());
        }
        let mut outside = vec![b"".to_vec(), b"o\xff\xff".to_vec(), b"q".to_vec()];
        outside.push(prefix[..prefix.len() - 1].to_vec());
        if let Some((last, head)) = prefix.split_last() {
            for near in [last.wrapping_sub(1), last.wrapping_add(1)] {
                outside.push([head, &[near]].concat());
                outside.push([head, &[near, 0xff, 0xff]].concat());
            }
        }
        outside.retain(|key| !key.starts_with(prefix));
        outside.sort();
        outside.dedup();
        commit(&*kv, &batch().delete_range(SPACE, KeyRange::all()));
        commit(&*kv, &puts(inside.iter().chain(&outside).map(|key| (key, "v"))));
        let scan = Scan::forward(SPACE, KeyRange::prefix(prefix));
        let found = kv.snapshot().unwrap().collect(&scan, usize::MAX).unwrap();
        assert_eq!(keys(&found), inside.iter().map(bytes).collect::<Vec<_>>(), "{prefix:?}");
        commit(&*kv, &batch().delete_range(SPACE, KeyRange::prefix(prefix)));
        let left: Vec<_> = outside.iter().map(bytes).collect();
        assert_eq!(keys(&dump(&*kv)), left, "after the removal of {prefix:?}");
    }
}

fn many(world: &KvWorld) {
    let kv = world.engine();
    let name = |index: u32| format!("key/{index:06}");
    for chunk in 0..5 {
        let part = (0..2_000).map(|index| (name(chunk * 2_000 + index), "value"));
        commit(&*kv, &puts(part));
    }
    commit(&*kv, &batch().delete_range(SPACE, range(name(10), name(9_990))));
    let left: Vec<_> = (0..10).chain(9_990..10_000).map(name).collect();
    assert_eq!(names(&*kv), left);
    drop(kv);
    assert_eq!(names(&*world.reopen()), left, "after a reopen");
}

fn metacharacters(world: &KvWorld) {
    let kv = world.engine();
    let decoys: Vec<&[u8]> = vec![
        b"a%b",
        b"a*b",
        b"a_b",
        b"axb",
        b"a.b",
        b"a?b",
        b"A_B",
        b"a[b]",
        b"a\\b",
        b"a'b",
        b"a\"b",
        b"a;b",
        b"a\0b",
        b"a\nb",
        b"a/b",
        b"a\xffb",
        b"a\x80b",
        "a\u{e9}b".as_bytes(),
        b"%",
        b"_",
        b"*",
        b"' OR 1=1 --",
    ];
    let mut sorted = decoys.clone();
    sorted.sort_unstable();
    commit(&*kv, &puts(decoys.iter().map(|key| (key, key))));
    for decoy in &sorted {
        assert_eq!(get(&*kv, decoy).as_deref(), Some(*decoy), "each key has its own value");
        let scan = Scan::forward(SPACE, KeyRange::prefix(decoy));
        let found = kv.snapshot().unwrap().collect(&scan, usize::MAX).unwrap();
        let expected: Vec<_> = sorted.iter().filter(|key| key.starts_with(decoy)).collect();
        assert_eq!(found.len(), expected.len(), "prefix {decoy:?} matched {found:?}");
    }
    commit(&*kv, &batch().delete(SPACE, "a_b"));
    assert_eq!(get(&*kv, "axb").unwrap(), "axb", "removing a_b left axb");
    commit(&*kv, &batch().delete_range(SPACE, KeyRange::prefix(b"%")));
    let left: Vec<_> =
        sorted.iter().filter(|key| **key != b"a_b" && **key != b"%").map(bytes).collect();
    assert_eq!(keys(&dump(&*kv)), left);
}
