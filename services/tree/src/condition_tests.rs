//! Promises of conditions: what they read, and what is told of those that failed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;

use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::commit::{Check, Commit, Condition};
use crate::condition::check_within;
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::tree::Tree;

fn tree() -> Tree {
    let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    Tree::open(kv, log, Runtime::system(), TreeOptions::default()).unwrap()
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn set(tree: &Tree, at: &str, json: &str) -> u64 {
    let value = Input::parse(json.as_bytes()).unwrap();
    tree.commit(Commit::set(path(at), value)).unwrap().rev
}

/// Promise: a conflict is told as one, however much the path holds: hashes that are only told
/// refuse nothing, and one that was asked for is read once.
#[test]
fn a_conflict_is_told_however_large_the_path_is() {
    let tree = tree();
    let large = format!("\"{}\"", "x".repeat(100 << 10));
    set(&tree, "large", &large);
    set(&tree, "small", "7");
    let reader = tree.core().reader().unwrap();
    let when = |at: &str, check: Check| Condition { path: path(at), check };
    let failed = |conditions: &[Condition], hashed_bytes| {
        check_within(tree.core(), &reader, conditions, hashed_bytes).unwrap_err()
    };
    let absent = [when("small", Check::Exists), when("large", Check::Absent)];
    let refused = failed(&absent, 1 << 10);
    assert_eq!(refused.error.kind(), ErrorKind::Conflict);
    let [told] = &refused.failed[..] else { panic!("{refused:?}") };
    assert!(told.too_large && told.hash.is_none(), "{told:?}");
    let hash = |at: &str| reader.hash(&path(at)).unwrap();
    let absent = [when("small", Check::Absent), when("large", Check::Absent)];
    let refused = failed(&absent, 100 << 20);
    let hashes: Vec<_> = refused.failed.iter().map(|one| one.hash.clone()).collect();
    assert_eq!(hashes, [hash("small"), hash("large")]);
    // Enough for reading it once.
    let refused = failed(&[when("large", Check::Hash("0".repeat(32)))], 110 << 10);
    assert_eq!(refused.error.kind(), ErrorKind::Conflict);
    assert_eq!(refused.failed[0].hash, hash("large"));
    let wanted = when("large", Check::Hash("0".repeat(32)));
    assert_eq!(failed(&[wanted], 1 << 10).error.kind(), ErrorKind::TooLarge);
}

/// Promise: what several conditions ask about revs is answered by one reading, so that none takes
/// from what another may read; only what is itself too long ago counts as changed.
#[test]
fn what_changed_after_revs_is_read_once_for_all() {
    let tree = tree();
    let rev = set(&tree, "a", "1");
    set(&tree, "b", "1");
    let revs: Vec<u64> = (0..10).map(|at| set(&tree, &format!("other/{at}"), "1")).collect();
    tree.flush().unwrap();
    let reader = tree.core().reader().unwrap();
    let [a, b, c, new] = ["a", "b", "c", "other/9"].map(path);
    let asked = [(rev, &a), (rev, &b), (rev + 1, &b), (rev, &c), (revs[8], &new), (revs[9], &new)];
    let changed =
        |records_max| tree.core().changed_after(&reader.state, &asked, records_max).unwrap();
    assert_eq!(changed(11), [false, true, false, false, true, false], "11 after the first");
    assert_eq!(changed(10), [true, true, false, true, true, false]);
    assert_eq!(changed(5), [true, true, true, true, true, false]);
}
