//! Promises of a large removal: what it leaves behind goes by itself, and nobody sees a difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{At, Op, WriteBatch};
use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::batch::commit_sealed;
use crate::commit::Commit;
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::space::{BY_REV, META, STALE_KEY, time_key};
use crate::stamp::Scope;
use crate::tree::Tree;
use crate::zoning::{Endings, Tracking, Zone, Zoning};

/// One zone.
#[derive(Debug)]
struct Whole;

impl Zoning for Whole {
    fn zone(&self, _key: &[u8]) -> Zone {
        let tracking = Tracking::Shared;
        Zone { id: 0, prefix_bytes: 0, tracking, endings: Endings::Everywhere }
    }

    fn carved(&self, _key: &[u8]) -> Vec<Bytes> {
        Vec::new()
    }

    fn any_tracked(&self, _key: &[u8]) -> bool {
        true
    }
}

/// What outlives a tree.
pub(crate) struct Disks {
    pub(crate) kv: MemoryDisk,
    pub(crate) log: trellis_log_memory::MemoryDisk,
}

impl Disks {
    pub(crate) fn new() -> Self {
        Self { kv: MemoryDisk::new(), log: trellis_log_memory::MemoryDisk::new() }
    }

    /// Applies when it is told to.
    pub(crate) fn open(&self) -> Tree {
        let apply_after = Duration::from_secs(3600);
        let zoning: Option<Arc<dyn Zoning>> = Some(Arc::new(Whole));
        let options = TreeOptions { zoning, apply_after, ..TreeOptions::default() };
        self.open_with(options)
    }

    pub(crate) fn open_with(&self, options: TreeOptions) -> Tree {
        let (kv, log) = (MemoryKv::on(&self.kv).unwrap(), MemoryLog::on(&self.log).unwrap());
        Tree::open(Arc::new(kv), Arc::new(log), Runtime::system(), options).unwrap()
    }
}

pub(crate) fn set(tree: &Tree, path: &str, json: &str) -> u64 {
    let (path, value) = (Path::parse(path).unwrap(), Input::parse(json.as_bytes()).unwrap());
    tree.commit(Commit::set(path, value)).unwrap().rev
}

/// Waits until nothing is left behind of what the store holds.
fn swept(tree: &Tree) {
    tree.flush().unwrap();
    let core = tree.core();
    let mut stages = core.stages.lock();
    while core.sweep.lock().is_under_way() {
        core.progress.wait_for(&mut stages, Duration::from_millis(50));
    }
}

fn entries(tree: &Tree) -> u64 {
    tree.replication_stats().unwrap().by_rev_entries
}

const LEAVES: usize = 20_000;
const PARTS: usize = 10;

fn fill(tree: &Tree) {
    for part in 0..PARTS {
        let leaves = (0..LEAVES / PARTS).map(|at| format!("\"k{at}\":{at}")).collect::<Vec<_>>();
        set(tree, &format!("big/{part}"), &format!("{{{}}}", leaves.join(",")));
    }
}

/// Promise: after a removal of many leaves the order of revs holds one entry for each stamp.
#[test]
fn what_a_large_removal_leaves_behind_goes() {
    let tree = Disks::new().open();
    set(&tree, "other", "1");
    fill(&tree);
    swept(&tree);
    let middle = tree.position().rev;
    // Each part that was set says that nothing else is in it.
    assert_eq!(entries(&tree), LEAVES as u64 + PARTS as u64 + 1);
    let all = Scope { within: vec![Bytes::new()], ..Scope::default() };
    let before = tree.view().unwrap();
    set(&tree, "big", "null");
    set(&tree, "big/again", "1");
    assert!(entries(&tree) > LEAVES as u64 / 2, "the removal itself does not pay for all of it");
    swept(&tree);
    let stats = tree.replication_stats().unwrap();
    assert_eq!((stats.by_rev_entries, stats.clears), (3, 1));
    let view = tree.view().unwrap();
    let delta = |after| view.stamped_since(&all, after, None, 100, 1 << 20).unwrap().ops.len();
    assert_eq!((delta(0), delta(middle)), (3, 2));
    let old = before.stamped_since(&all, 0, None, usize::MAX, usize::MAX).unwrap();
    assert_eq!(old.ops.len(), LEAVES + PARTS + 1, "an older view is what it was");
}

/// Promise: what was removed before it was ever applied leaves nothing behind either.
#[test]
fn what_never_was_in_the_store_leaves_nothing_behind() {
    let tree = Disks::new().open();
    fill(&tree);
    set(&tree, "big", "null");
    let batch = tree.core().layers.read().active.read().batch();
    let note = |op: &Op| matches!(op, Op::Put(At { space: META, key }, _) if key == STALE_KEY);
    assert!(note(&batch.ops[0]), "the note is there before what it tells of");
    swept(&tree);
    assert_eq!(entries(&tree), 1);
}

/// Promise: what an opening did not come to the next one goes on with.
#[test]
fn a_sweep_that_was_cut_off_goes_on() {
    let disks = Disks::new();
    let tree = disks.open();
    let rev = set(&tree, "a", "1");
    set(&tree, "b", "1");
    tree.close().unwrap();
    let kv = MemoryKv::on(&disks.kv).unwrap();
    let mut batch = WriteBatch::new();
    for at in 0..12_000 {
        let entry = time_key(rev, format!("gone\0{at}").as_bytes());
        batch.ops.push(Op::Put(At::new(BY_REV, entry), Bytes::new()));
    }
    commit_sealed(&kv, batch.put(META, STALE_KEY, Bytes::new())).unwrap();
    drop(kv);
    let tree = disks.open();
    swept(&tree);
    assert_eq!(entries(&tree), 2);
    tree.close().unwrap();
    let kv = MemoryKv::on(&disks.kv).unwrap();
    let note = trellis_engine_traits::KvBackend::snapshot(&kv).unwrap().get(META, STALE_KEY);
    assert_eq!(note.unwrap(), None, "nothing is looked for again");
}
