//! Promises of archives: what is read back is what was there, at exactly the rev asked for, and no
//! damage goes unnoticed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::sync::Arc;

use serde_json::{Value, json};
use trellis_archive::{ArchiveKind, ArchiveReader, Backup, Restore, Trailer, Until, parse};
use trellis_engine_traits::{ErrorKind, KvBackend, Result, StreamLog};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::{Runtime, RuntimeOptions, SimulatedClock};
use trellis_tree::{Commit, Expiry, Input, Operation, Path, Seeding, Tree, TreeOptions};

const START_MS: u64 = 1_700_000_000_000;

struct Bed {
    clock: Arc<SimulatedClock>,
    runtime: Arc<Runtime>,
}

impl Bed {
    fn new() -> Self {
        let clock = Arc::new(SimulatedClock::at(START_MS));
        let options = RuntimeOptions { clock: Arc::clone(&clock) as _, ..Default::default() };
        Self { clock, runtime: Runtime::new(options) }
    }

    fn tree(&self) -> Tree {
        self.open(Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()))
    }

    fn open(&self, kv: Arc<dyn KvBackend>, log: Arc<dyn StreamLog>) -> Tree {
        Tree::open(kv, log, Arc::clone(&self.runtime), TreeOptions::default()).unwrap()
    }

    fn full(&self, tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        Backup::full(tree, &self.runtime).unwrap().write_to(&mut bytes, &mut |_| {}).unwrap();
        bytes
    }

    fn since(&self, tree: &Tree, rev: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let backup = Backup::incremental(tree, &self.runtime, rev).unwrap();
        backup.write_to(&mut bytes, &mut |_| {}).unwrap();
        bytes
    }

    /// A tree from these archives, and the digest that the restore told.
    fn restore(&self, archives: &[&[u8]], until: Until) -> Result<(Tree, String)> {
        let kv: Arc<dyn KvBackend> = Arc::new(MemoryKv::new());
        let log: Arc<dyn StreamLog> = Arc::new(MemoryLog::new());
        let header = *ArchiveReader::new(archives[0])?.header();
        let source = Restore::source(&header, until);
        let seeding = Seeding::begin(Arc::clone(&kv), Arc::clone(&log), &self.runtime, source)?;
        let mut restore = Restore::new(seeding, until);
        for archive in archives {
            restore.archive(&mut ArchiveReader::new(*archive)?, &mut |_, _, _| {})?;
        }
        let digest = restore.digest()?;
        restore.finish()?;
        Ok((self.open(kv, log), digest))
    }
}

fn set(tree: &Tree, at: &str, value: Value) -> u64 {
    tree.commit(Commit::set(Path::parse(at).unwrap(), Input::from_json(value).unwrap()))
        .unwrap()
        .rev
}

fn delete(tree: &Tree, at: &str) -> u64 {
    tree.commit(Commit::delete(Path::parse(at).unwrap())).unwrap().rev
}

fn get(tree: &Tree, at: &str) -> Value {
    tree.view().unwrap().get(&Path::parse(at).unwrap()).unwrap()
}

fn digest(tree: &Tree) -> String {
    tree.view().unwrap().digest().unwrap()
}

#[test]
fn what_is_restored_is_what_was_there_under_a_history_of_its_own() {
    let bed = Bed::new();
    let tree = bed.tree();
    set(&tree, "users", json!({"a": {"name": "A"}, "b": {}, "c": [1, 2]}));
    delete(&tree, "users/b");
    let counted = Input::from_json(json!({".sv": {"increment": 5}})).unwrap();
    let counting = Commit::set(Path::parse("count").unwrap(), counted).with_key("once");
    tree.commit(counting.clone()).unwrap();
    let ending = Operation::Set {
        path: Path::parse("lease").unwrap(),
        value: Input::from_json(json!("mine")).unwrap(),
        expiry: Some(Expiry::TtlSeconds(60.0)),
    };
    tree.commit(Commit::new(vec![ending])).unwrap();
    let (copy, told) = bed.restore(&[&bed.full(&tree)], Until::Newest).unwrap();
    assert_eq!(told, digest(&tree));
    assert_eq!(told, digest(&copy));
    assert_eq!(copy.position(), tree.position());
    assert_ne!(copy.identity().log_id, tree.identity().log_id);
    assert!(copy.identity().epoch > tree.identity().epoch);
    assert!(copy.commit(counting).unwrap().replayed, "the key was copied");
    assert_eq!(get(&copy, "count"), json!(5));
    assert_eq!(set(&copy, "more", json!(1)), tree.position().rev + 1);
    bed.clock.advance_ms(61_000);
    assert_eq!(get(&copy, "lease"), Value::Null, "the ending was copied");
}

#[test]
fn a_full_archive_and_what_follows_give_every_rev_and_time() {
    let bed = Bed::new();
    let tree = bed.tree();
    let mut digests = vec![digest(&tree)];
    let commit = |n: u64| match n % 4 {
        3 => delete(&tree, &format!("data/{}", n - 2)),
        _ => set(&tree, &format!("data/{n}"), json!({"n": n, "deep": {"er": [n]}})),
    };
    for n in 1..=10 {
        assert_eq!(commit(n), n);
        digests.push(digest(&tree));
        bed.clock.advance_ms(1000);
    }
    let full = bed.full(&tree);
    for n in 11..=20 {
        commit(n);
        digests.push(digest(&tree));
        bed.clock.advance_ms(1000);
    }
    let first = bed.since(&tree, 10);
    for n in 21..=30 {
        commit(n);
        digests.push(digest(&tree));
        bed.clock.advance_ms(1000);
    }
    let second = bed.since(&tree, 20);
    let all = [full.as_slice(), &first, &second];
    for rev in [10, 11, 19, 20, 21, 30] {
        let (copy, told) = bed.restore(&all, Until::Rev(rev)).unwrap();
        assert_eq!((copy.position().rev, &told), (rev, &digests[rev as usize]));
    }
    // Commit n was made at second n - 1, so that the state at second 14.5 is that of commit 15.
    let (copy, _) = bed.restore(&all, Until::Time(START_MS + 14_500)).unwrap();
    assert_eq!((copy.position().rev, digest(&copy)), (15, digests[15].clone()));
    let (copy, _) = bed.restore(&all, Until::Newest).unwrap();
    assert_eq!((copy.position(), digest(&copy)), (tree.position(), digest(&tree)));

    let refused = |archives: &[&[u8]], until, kind| {
        let error = bed.restore(archives, until).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    };
    refused(&all, Until::Rev(9), ErrorKind::NotFound);
    refused(&all, Until::Rev(31), ErrorKind::NotFound);
    refused(&all, Until::Time(START_MS + 5000), ErrorKind::NotFound);
    refused(&all, Until::Time(START_MS + 500_000), ErrorKind::NotFound);
    refused(&[&full, &second], Until::Newest, ErrorKind::Corrupt);
    refused(&[&first], Until::Newest, ErrorKind::InvalidInput);
    let stranger = bed.tree();
    for n in 1..=12 {
        set(&stranger, "other", json!(n));
    }
    refused(&[&full, &bed.since(&stranger, 10)], Until::Newest, ErrorKind::Corrupt);
}

#[test]
fn an_archive_taken_while_it_is_written_is_the_state_at_its_rev() {
    let bed = Bed::new();
    let tree = bed.tree();
    for n in 0..40 {
        set(&tree, &format!("data/{n}"), json!({"a": "x".repeat(100_000), "n": n}));
    }
    let mut backup = Backup::full(&tree, &bed.runtime).unwrap();
    let mut bytes = Vec::new();
    let mut digests = std::collections::BTreeMap::new();
    while let Some(chunk) = backup.next_chunk().unwrap() {
        bytes.extend(chunk);
        // What was copied changes, what was not copied yet changes, and more comes.
        for n in [0, 13, 39] {
            set(&tree, &format!("data/{n}"), json!({"b": bytes.len(), "c": {"d": n}}));
            digests.insert(tree.position().rev, digest(&tree));
        }
        delete(&tree, &format!("data/{}", 20 + digests.len() % 20));
        digests.insert(tree.position().rev, digest(&tree));
        set(&tree, &format!("more/{}", bytes.len()), json!(1));
        digests.insert(tree.position().rev, digest(&tree));
    }
    let summary = parse(&bytes).unwrap();
    let (first, end) = (summary.first_rev, summary.trailer.end.rev);
    assert!(first > summary.header.from.rev + 10 && end >= first, "{summary:?}");
    let (_, told) = bed.restore(&[&bytes], Until::Newest).unwrap();
    assert_eq!(told, digests[&end]);
    let pause = tree.pause_writes().unwrap();
    let rest = bed.since(&tree, end);
    for (rev, digest) in digests.range(first..) {
        let (_, told) = bed.restore(&[&bytes, &rest], Until::Rev(*rev)).unwrap();
        assert_eq!(told, *digest, "at rev {rev}");
    }
    let (copy, told) = bed.restore(&[&bytes, &rest], Until::Newest).unwrap();
    assert_eq!((copy.position(), told), (tree.position(), digest(&tree)));
    drop(pause);
}

/// A small archive with every kind of chunk.
fn sample() -> Vec<u8> {
    let bed = Bed::new();
    let tree = bed.tree();
    set(&tree, "a", json!({"b": 1, "c": "text"}));
    tree.commit(Commit::set(Path::parse("k").unwrap(), Input::parse(b"1").unwrap()).with_key("k"))
        .unwrap();
    let mut backup = Backup::full(&tree, &bed.runtime).unwrap();
    let mut bytes = backup.next_chunk().unwrap().unwrap();
    set(&tree, "later", json!(true));
    while let Some(chunk) = backup.next_chunk().unwrap() {
        bytes.extend(chunk);
    }
    let summary = parse(&bytes).unwrap();
    let end = bytes.last_chunk().unwrap();
    assert_eq!(Trailer::peek(end).unwrap(), summary.trailer);
    assert_eq!((summary.header.kind, summary.trailer.records), (ArchiveKind::Full, 1));
    bytes
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let bytes = sample();
    for end in 0..bytes.len() {
        let error = parse(&bytes[..end]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {end}: {error}");
        assert!(error.fact("position").is_some(), "cut at {end}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(parse(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn every_flipped_bit_of_an_archive_is_found() {
    let bytes = sample();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = parse(&damaged).unwrap_err();
        // A flip may make the version a newer one.
        let known = [ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind());
        assert!(known, "bit {bit}: {error}");
    }
}

#[test]
fn a_damaged_archive_leaves_nothing_that_opens() {
    let bed = Bed::new();
    let bytes = sample();
    let header = *ArchiveReader::new(bytes.as_slice()).unwrap().header();
    for end in [bytes.len() - 1, bytes.len() * 2 / 3, bytes.len() / 2] {
        let kv: Arc<dyn KvBackend> = Arc::new(MemoryKv::new());
        let log: Arc<dyn StreamLog> = Arc::new(MemoryLog::new());
        let begin = || {
            let source = Restore::source(&header, Until::Newest);
            let (kv, log) = (Arc::clone(&kv), Arc::clone(&log));
            Restore::new(Seeding::begin(kv, log, &bed.runtime, source).unwrap(), Until::Newest)
        };
        let mut restore = begin();
        let mut reader = ArchiveReader::new(&bytes[..end]).unwrap();
        restore.archive(&mut reader, &mut |_, _, _| {}).unwrap_err();
        drop(restore);
        let (same_kv, same_log) = (Arc::clone(&kv), Arc::clone(&log));
        let runtime = Arc::clone(&bed.runtime);
        let error = Tree::open(same_kv, same_log, runtime, TreeOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("run the same command again"), "{error}");
        // With the whole archive the same target becomes a tree.
        let mut restore = begin();
        let mut reader = ArchiveReader::new(bytes.as_slice()).unwrap();
        restore.archive(&mut reader, &mut |_, _, _| {}).unwrap();
        restore.finish().unwrap();
        assert_eq!(get(&bed.open(kv, log), "a/b"), json!(1));
    }
}
