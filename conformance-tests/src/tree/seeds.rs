//! Seeding: an empty pair of engines becomes a tree from archives of another.

use std::sync::Arc;

use serde_json::{Value, json};
use trellis_archive::{ArchiveReader, Chunk, Restore, Until};
use trellis_engine_traits::{ErrorKind, Result};
use trellis_runtime::Runtime;
use trellis_tree::{SeedPoint, Seeding, SeedingSource, Tree, TreeOptions};

use super::copies::{digest, full, since};
use super::ground::Engines;
use super::tools::{commit, get, incrementing, leasing, refused, rev, set, until};
use super::{Ground, TreeWorld};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.seed.goes_on", &["tree.seed.history", "tree.copy.exact"], goes_on),
    Case::new("tree.seed.cut_off", &["tree.seed.whole"], cut_off),
    Case::new("tree.seed.damaged", &["tree.seed.whole"], damaged),
    Case::new("tree.seed.occupied", &["tree.seed.whole"], occupied),
];

/// Leaves of as many megabytes as a seeding writes to the store at once, and more.
const LARGE: usize = 60;

/// A tree with large leaves, endings and keys.
fn source(leaves: usize) -> Arc<Ground> {
    let ground = Arc::new(Ground::in_memory());
    let tree = ground.tree();
    for n in 0..leaves {
        let text = "x".repeat(200_000);
        set(&tree, &format!("big/{n}"), json!({"text": text, "n": n, "empty": {}, "list": [n]}));
    }
    commit(&tree, incrementing("count", 5).with_key("once"));
    commit(&tree, leasing("lease", json!("mine"), 100.0));
    ground
}

fn begin(engines: &Engines, source: SeedingSource) -> Seeding {
    let (kv, log) = engines;
    // A runtime with a chance of its own, or the new id would be the old one.
    Seeding::begin(Arc::clone(kv), Arc::clone(log), &Runtime::system(), source).expect("it begins")
}

fn close(engines: Engines) {
    let (kv, log) = engines;
    log.close().and(kv.close()).expect("they close");
}

pub(super) fn restore(ground: &Ground, archives: &[&[u8]]) -> Result<()> {
    let engines = ground.engines()?;
    let header = *ArchiveReader::new(archives[0])?.header();
    let seeding = begin(&engines, Restore::source(&header, Until::Newest));
    let mut restore = Restore::new(seeding, Until::Newest);
    let mut outcome = Ok(());
    for archive in archives {
        let read = ArchiveReader::new(*archive);
        let read = read.and_then(|mut reader| restore.archive(&mut reader, &mut |_, _, _| {}));
        outcome = outcome.and(read.map(|_| ()));
    }
    if outcome.is_ok() {
        outcome = restore.finish().map(|_| ());
    } else {
        drop(restore);
    }
    close(engines);
    outcome
}

fn refuse_open(ground: &Ground) {
    let error = refused(ground.open(TreeOptions::default()), ErrorKind::InvalidInput, "an open");
    assert!(error.message().contains("has not finished"), "{error}");
}

fn goes_on(world: &TreeWorld) {
    let ground = world.engine();
    let from = source(10);
    let (tree, runtime) = (from.tree(), from.runtime());
    let archive = full(&tree, &runtime);
    let middle = rev(&tree);
    set(&tree, "big/7", json!("small"));
    commit(&tree, incrementing("count", 2).with_key("twice"));
    let rest = since(&tree, &runtime, middle);
    restore(&ground, &[&archive, &rest]).expect("it is restored");
    for round in 0..2 {
        let copy = if round == 0 { ground.tree() } else { ground.reopen() };
        assert_eq!(digest(&copy), digest(&tree), "round {round}");
        assert!(rev(&copy) >= rev(&tree), "revs never go back");
        assert_ne!(copy.identity().log_id, tree.identity().log_id);
        assert!(copy.identity().epoch > tree.identity().epoch);
        for (key, by) in [("once", 5), ("twice", 2)] {
            let again = commit(&copy, incrementing("count", by).with_key(key));
            assert!(again.replayed, "the key `{key}` was copied");
        }
        assert_eq!(get(&copy, "count"), json!(7));
    }
    let copy = ground.tree();
    let before = rev(&copy);
    assert_eq!(set(&copy, "more", json!(1)), before + 1);
    assert_eq!(ground.reopen().position().rev, before + 1);
    ground.clock().advance_ms(100_000);
    let copy = ground.tree();
    assert_eq!(get(&copy, "lease"), Value::Null, "the ending was copied");
    until("it is removed", || rev(&copy) > before + 1);
    let journal = copy.read_journal(before, 1 << 20).expect("the journal goes on");
    assert_eq!(journal.first().map(|record| record.rev), Some(before + 1));
    drop(copy);
    from.close().unwrap();
}

/// Feeds some chunks of an archive and lets go, again and again.
fn cut_off(world: &TreeWorld) {
    let ground = world.engine();
    let from = source(LARGE);
    let (tree, runtime) = (from.tree(), from.runtime());
    let archive = full(&tree, &runtime);
    let header = *ArchiveReader::new(archive.as_slice()).unwrap().header();
    let source = Restore::source(&header, Until::Newest);
    let mut points = Vec::new();
    for chunks in [0, 2, 6, 11, 100] {
        let engines = ground.engines().unwrap();
        let mut seeding = begin(&engines, source);
        assert_eq!(seeding.is_resumed(), chunks > 0);
        points.push(seeding.point());
        let mut reader = ArchiveReader::new(archive.as_slice()).unwrap();
        for _ in 0..chunks {
            match reader.next_chunk().unwrap() {
                Some(Chunk::Entries(page)) => page
                    .for_each(|space, key, value| seeding.entry(space, key, value))
                    .expect("it is taken"),
                Some(Chunk::EntriesEnd { .. }) => seeding.entries_end(header.from).unwrap(),
                Some(Chunk::Records(_) | Chunk::End(_)) => {}
                None => break,
            }
        }
        drop(seeding);
        close(engines);
        refuse_open(&ground);
    }
    assert_eq!(points[0], SeedPoint::Entries(None));
    assert!(points.windows(2).any(|pair| pair[0] != pair[1]), "nothing was gone on with");
    // With another source it begins anew, and what was there is gone.
    let engines = ground.engines().unwrap();
    let other = begin(&engines, SeedingSource { token: [1; 32], epoch: 3 });
    assert_eq!((other.is_resumed(), other.point()), (false, SeedPoint::Entries(None)));
    drop(other);
    close(engines);
    restore(&ground, &[&archive]).expect("it is restored");
    assert_eq!(digest(&ground.tree()), digest(&tree));
    from.close().unwrap();
}

fn damaged(world: &TreeWorld) {
    let ground = world.engine();
    let from = source(10);
    let (tree, runtime) = (from.tree(), from.runtime());
    let archive = full(&tree, &runtime);
    let mut rng = world.rng("damage");
    for round in 0..4 {
        let mut bad = archive.clone();
        let at = rng.below(bad.len()).max(200);
        if round % 2 == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << rng.below(8);
        }
        let error = refused(restore(&ground, &[&bad]), ErrorKind::Corrupt, "a damaged archive");
        assert!(error.fact("position").is_some(), "{error}");
        refuse_open(&ground);
    }
    restore(&ground, &[&archive]).expect("it is restored");
    assert_eq!(digest(&ground.tree()), digest(&tree));
    from.close().unwrap();
}

fn occupied(world: &TreeWorld) {
    let ground = world.engine();
    let kept: Tree = ground.tree();
    set(&kept, "mine", json!(1));
    ground.close().unwrap();
    drop(kept);
    let (kv, log) = ground.engines().unwrap();
    let source = SeedingSource { token: [1; 32], epoch: 1 };
    let begun = Seeding::begin(Arc::clone(&kv), Arc::clone(&log), &Runtime::system(), source);
    refused(begun, ErrorKind::AlreadyExists, "seeding a database");
    close((kv, log));
    assert_eq!(get(&ground.tree(), ""), json!({"mine": 1}));
}
