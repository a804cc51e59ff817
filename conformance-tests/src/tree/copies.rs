//! Copies of a tree that goes on being written: archives, held journal, paused writes, digests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use trellis_archive::{ArchiveReader, Backup, Restore, Until, parse};
use trellis_engine_traits::{ErrorKind, Result};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, DifferenceKind, Seeding, Tree, TreeOptions, differences};

use super::tools::{
    commit, delete_op, exists, get, incrementing, leasing, refused, rev, set, setting,
    small_overlay, until, update_op,
};
use super::{Ground, TreeWorld};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.copy.under_writers", &["tree.copy.exact", "tree.copy.hold"], under_writers),
    Case::new("tree.copy.to_a_time", &["tree.copy.exact"], to_a_time),
    Case::new("tree.copy.hold_keeps_journal", &["tree.copy.hold"], hold_keeps_journal),
    Case::new("tree.copy.pause_stands_still", &["tree.copy.pause"], pause_stands_still),
    Case::new("tree.copy.digest_of_content", &["tree.copy.digest"], digest_of_content),
];

pub(super) fn digest(tree: &Tree) -> String {
    tree.view().expect("a view").digest().expect("it is read")
}

pub(super) fn full(tree: &Tree, runtime: &Runtime) -> Vec<u8> {
    let mut bytes = Vec::new();
    let backup = Backup::full(tree, runtime).expect("it begins");
    backup.write_to(&mut bytes, &mut |_| {}).expect("it is written");
    bytes
}

pub(super) fn since(tree: &Tree, runtime: &Runtime, rev: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let backup = Backup::incremental(tree, runtime, rev).expect("it begins");
    backup.write_to(&mut bytes, &mut |_| {}).expect("it is written");
    bytes
}

/// The rev and the digest of what archives give, restored in memory.
fn restored(archives: &[&[u8]], until: Until) -> Result<(u64, String)> {
    let (kv, log) = Ground::in_memory().engines()?;
    let header = *ArchiveReader::new(archives[0])?.header();
    let source = Restore::source(&header, until);
    let seeding = Seeding::begin(kv, log, &Runtime::system(), source)?;
    let mut restore = Restore::new(seeding, until);
    for archive in archives {
        restore.archive(&mut ArchiveReader::new(*archive)?, &mut |_, _, _| {})?;
    }
    let digest = restore.digest()?;
    Ok((restore.finish()?.rev, digest))
}

/// Options under which the journal is trimmed as soon as it may be.
fn forgetful() -> TreeOptions {
    TreeOptions { journal_retain_bytes: 0, ..small_overlay() }
}

fn churn(writer: usize, n: u64) -> Commit {
    let at = format!("w{writer}/{}", n % 17);
    match n % 5 {
        0 => Commit::new(vec![delete_op(&at)]),
        1 => Commit::new(vec![delete_op(&format!("w{writer}"))]),
        2 => incrementing(&format!("count/{writer}"), 1),
        3 => leasing(&at, json!({"lease": n}), 1e6),
        _ => setting(&at, json!({"n": n, "text": "x".repeat(2000), "deep": {"er": [n]}})),
    }
}

/// Lets writers end, whatever becomes of the case.
struct StopWriters<'a>(&'a AtomicBool);

impl Drop for StopWriters<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Archives of a tree that four threads write, and every state that a view of it showed meanwhile.
fn under_writers(world: &TreeWorld) {
    let ground = world.engine();
    let (tree, runtime) = (ground.tree_with(forgetful()), ground.runtime());
    for n in 0..300 {
        let text = "y".repeat(8000);
        commit(&tree, Commit::new(vec![update_op(&[(&format!("base/{n}"), json!(text))])]));
    }
    let stop = AtomicBool::new(false);
    let mut seen = BTreeMap::new();
    let (alone, archives) = std::thread::scope(|scope| {
        let stopping = StopWriters(&stop);
        for writer in 0..4 {
            let (tree, stop) = (&tree, &stop);
            scope.spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Acquire) {
                    match tree.commit(churn(writer, n)) {
                        Ok(_) => n += 1,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                        }
                    }
                }
            });
        }
        let mut take = |mut backup: Backup| {
            let mut bytes = Vec::new();
            while let Some(chunk) = backup.next_chunk().expect("it is read") {
                bytes.extend(chunk);
                let view = tree.view().expect("a view");
                seen.insert(view.rev(), view.digest().expect("it is read"));
                drop(view);
                let before = rev(&tree);
                until("somebody writes", || rev(&tree) > before + 10);
            }
            let end = parse(&bytes).expect("it is whole").trailer.end.rev;
            (bytes, end)
        };
        // The journal is trimmed as soon as it may be: a backup holds what it needs by itself.
        let (alone, _) = take(Backup::full(&tree, &runtime).expect("it begins"));
        let (hold, _) = tree.hold_journal().expect("it is held");
        let (first, end) = take(Backup::full(&tree, &runtime).expect("it begins"));
        let (second, end) = take(Backup::incremental(&tree, &runtime, end).expect("it begins"));
        let pause = tree.pause_writes().expect("it pauses");
        let third = since(&tree, &runtime, end);
        drop((hold, stopping));
        seen.insert(rev(&tree), digest(&tree));
        drop(pause);
        (alone, [first, second, third])
    });
    let (end, _) = restored(&[&alone], Until::Newest).expect("it is restored");
    assert_eq!(end, parse(&alone).expect("it is whole").trailer.end.rev);
    let all = [archives[0].as_slice(), &archives[1], &archives[2]];
    for (archives, at_least) in [(&all[..], 2), (&[alone.as_slice()], 0)] {
        let first_rev = parse(archives[0]).expect("it is whole").first_rev;
        let last = archives.last().expect("one at least");
        let end = parse(last).expect("it is whole").trailer.end.rev;
        let states = seen.range(first_rev..=end).rev().take(4);
        assert!(states.clone().count() >= at_least, "too few states to compare");
        for (rev, digest) in states {
            let found = restored(archives, Until::Rev(*rev)).expect("it is restored");
            assert_eq!(found, (*rev, digest.clone()), "the state at rev {rev}");
        }
    }
}

fn to_a_time(world: &TreeWorld) {
    let ground = world.engine();
    let (tree, runtime) = (ground.tree(), ground.runtime());
    set(&tree, "a", json!({"x": 1, "y": 2}));
    let archive = full(&tree, &runtime);
    let start = ground.clock();
    let mut states = Vec::new();
    let began_ms = trellis_runtime::Clock::now_ms(start);
    for n in 0..6 {
        start.advance_ms(1000);
        let at = if n % 2 == 0 { "a" } else { "a/x" };
        set(&tree, at, json!({"n": n}));
        states.push((rev(&tree), digest(&tree)));
    }
    start.advance_ms(1000);
    let rest = since(&tree, &runtime, 1);
    let all = [archive.as_slice(), &rest];
    for (n, state) in (1..).zip(&states) {
        let at = Until::Time(began_ms + n * 1000 + 500);
        assert_eq!(restored(&all, at).expect("it is restored"), *state);
    }
    let before = restored(&all, Until::Time(began_ms - 1));
    refused(before, ErrorKind::NotFound, "a time before the archive");
    let after = restored(&all, Until::Time(began_ms + 60_000));
    refused(after, ErrorKind::NotFound, "a time after the archive");
}

fn hold_keeps_journal(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(forgetful());
    let write = |count: usize| {
        for n in 0..count {
            set(&tree, &format!("a/{n}"), json!("x".repeat(1000)));
        }
        tree.flush().unwrap();
    };
    write(3);
    let (hold, position) = tree.hold_journal().unwrap();
    assert_eq!(position, tree.position());
    (0..10).for_each(|_| write(20));
    let (mut at, end) = (position, tree.position());
    while at.rev < end.rev {
        for record in tree.read_journal(at.rev, 10_000).expect("what is held is there") {
            at = at.advance(&record).expect("it continues the one before");
        }
    }
    assert_eq!(at, end);
    drop(hold);
    (0..10).for_each(|_| write(20));
    // What a flush brought into the store is trimmed after it.
    let mut first = 0;
    until("all after the first record is there", || {
        first = tree.stats().unwrap().journal_first_rev;
        tree.hold_journal_after(first - 1).is_ok()
    });
    if first > 2 {
        refused(tree.hold_journal_after(first - 2), ErrorKind::NotFound, "holding what is gone");
        refused(tree.read_journal(first - 2, 1), ErrorKind::NotFound, "reading what is gone");
    }
    let beyond = rev(&tree) + 1;
    refused(tree.hold_journal_after(beyond), ErrorKind::InvalidInput, "holding what is not there");
    assert_eq!(tree.read_journal(rev(&tree), 1).unwrap(), []);
}

fn pause_stands_still(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("lease", json!(1), 10.0));
    let accepted = tree.submit(setting("early", json!(1)));
    let pause = tree.pause_writes().unwrap();
    let other = tree.pause_writes().unwrap();
    super::tools::block_on(accepted).expect("it was accepted before the pause");
    let before = (rev(&tree), digest(&tree));
    assert!(tree.is_paused());
    for _ in 0..3 {
        let error = refused(tree.commit(setting("a", json!(1))), ErrorKind::Unavailable, "a write");
        assert!(error.to_string().contains("paused for a migration"), "{error}");
        let pending = super::tools::block_on(tree.submit(setting("a", json!(1))));
        refused(pending, ErrorKind::Unavailable, "a submission");
    }
    ground.clock().advance_ms(20_000);
    assert!(!exists(&tree, "lease"), "reads go on, and see what is due as gone");
    tree.flush().unwrap();
    assert_eq!((rev(&tree), digest(&tree)), before, "an ending waits as well");
    drop(pause);
    refused(tree.commit(setting("a", json!(1))), ErrorKind::Unavailable, "one pause is left");
    drop(other);
    set(&tree, "a", json!(1));
    let (at, _) = before;
    until("what is due is removed", || rev(&tree) >= at + 2 && digest(&tree) != before.1);
    assert_eq!(get(&tree, ""), json!({"a": 1, "early": 1}));
}

fn digest_of_content(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(small_overlay());
    let memory = Ground::in_memory();
    let other = memory.tree();
    let nothing = digest(&tree);
    assert_eq!(digest(&other), nothing);
    // By one way: piece by piece, with detours, some of it in the store.
    for n in 0..100 {
        set(&tree, &format!("data/{n}/deep"), json!(n));
    }
    tree.flush().unwrap();
    commit(&tree, leasing("gone/with/its/last", json!(1), 50.0));
    commit(&tree, Commit::new(vec![delete_op("gone/with/its/last")]));
    for n in 0..100 {
        set(&tree, &format!("data/{n}"), json!({"n": n, "list": [n, null]}));
    }
    commit(&tree, leasing("lease", json!("x"), 50.0));
    // By another: at once, elsewhere.
    let data: serde_json::Map<_, _> =
        (0..100).map(|n| (n.to_string(), json!({"list": [n, null], "n": n}))).collect();
    set(&other, "data", data.into());
    commit(&other, leasing("lease", json!("x"), 50.0).with_key("a key is no content"));
    assert_eq!(digest(&tree), digest(&other));
    assert_eq!(digest(&ground.reopen()), digest(&other), "and after a reopen");
    let tree = ground.tree();
    let (left, right) = (tree.view().unwrap(), other.view().unwrap());
    assert_eq!(differences(&left, &right, 10).unwrap(), []);
    drop((left, right));
    set(&tree, "data/5/n", json!(5.5));
    set(&tree, "data/7/new", json!({}));
    commit(&other, leasing("lease", json!("x"), 51.0));
    set(&other, "zz", json!(false));
    assert_ne!(digest(&tree), digest(&other));
    let (left, right) = (tree.view().unwrap(), other.view().unwrap());
    let found = differences(&left, &right, 10).unwrap();
    let found: Vec<_> = found.iter().map(|one| (one.path.to_string(), one.kind)).collect();
    let expected = [
        ("data/5/n", DifferenceKind::Value),
        ("data/7/new", DifferenceKind::OnlyLeft),
        ("zz", DifferenceKind::OnlyRight),
        ("lease", DifferenceKind::Ending),
    ];
    assert_eq!(found, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(differences(&left, &right, 2).unwrap().len(), 2);
    drop((left, right));
    memory.close().unwrap();
}
