//! A full disk, on a small file system of its own: writes that grow are refused, reads and removals
//! go on, and when there is room again so do writes, without a reopen.
//!
//! The file system is a tmpfs that the case mounts. Where the machine forbids that, the case says
//! `skipped` and why, and shows nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_runtime::Runtime;
use trellis_tree::{Commit, CommitError, Tree, TreeOptions};

use super::tools::{commit, delete_op, exists, get, keys, path, setting, until};
use super::{Ground, TreeWorld};
use crate::{Case, Need};

const PROVES: &[&str] = &["tree.commit.durable", "tree.commit.atomic"];

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.disk_full.filled_by_writes", PROVES, filled_by_writes)
        .needs(&[Need::AllOnDisk]),
    Case::new("tree.disk_full.filled_with_much_waiting", PROVES, filled_with_much_waiting)
        .needs(&[Need::AllOnDisk, Need::Reserve]),
    Case::new("tree.disk_full.filled_by_others", PROVES, filled_by_others)
        .needs(&[Need::AllOnDisk, Need::Reserve]),
];

const DISK_MIB: usize = 64;
const VALUE_BYTES: usize = 48 << 10;

/// A file system of its own, for the time of a case.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(world: &TreeWorld) -> Option<Self> {
        let dir = world.dir().join("disk");
        std::fs::create_dir(&dir).unwrap();
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "trellis"]).arg(&dir).output();
        let trouble = match mounted {
            Ok(output) if output.status.success() => return Some(Self(dir)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: no small file system can be mounted here: {trouble}");
        println!("skipped: no small file system can be mounted here: {trouble}");
        None
    }

    fn ground(&self, world: &TreeWorld) -> std::sync::Arc<Ground> {
        let data = self.0.join("data");
        std::fs::create_dir(&data).unwrap();
        world.factory().open(&data).unwrap()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system stays mounted");
    }
}

/// Writes zeros until `mib` are written or there is no room.
pub(crate) fn write_ballast(path: &Path, mib: usize) {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..mib {
        if file.write_all(&zeros).is_err() {
            break;
        }
    }
    // The last bytes as well.
    if mib == usize::MAX {
        while file.write_all(&zeros[..4096]).is_ok() {}
    }
}

/// Bytes that may wait for the store: what it can take at once, and more than it has room for at
/// once even after room was made.
const LITTLE: usize = 4 << 20;
const MUCH: usize = 12 << 20;

fn open(ground: &Ground, overlay_bytes_max: usize) -> Tree {
    let options = TreeOptions { overlay_bytes_max, ..TreeOptions::default() };
    ground.open_on(Runtime::system(), options).expect("the tree opens")
}

/// What was acknowledged: the fill of each name.
type Told = BTreeMap<String, u8>;

fn value(fill: u8) -> serde_json::Value {
    json!(char::from(b'a' + fill % 26).to_string().repeat(VALUE_BYTES))
}

fn is_full(error: &CommitError) -> bool {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.error.fact("reason"), Some("storage_full"), "{error:?}");
    true
}

/// Writes until that was refused some times: the tree may find room where it was its own to give.
fn fill(tree: &Tree, told: &mut Told) {
    let before = told.len();
    let mut refusals = 0;
    for n in 0..100_000_usize {
        let (name, fill) = (format!("{:06}", before + n), (n % 251) as u8);
        match tree.commit(setting(&format!("fill/{name}"), value(fill))) {
            Ok(_) => drop(told.insert(name, fill)),
            Err(error) => {
                assert!(is_full(&error));
                refusals += 1;
                if refusals == 5 {
                    return;
                }
            }
        }
    }
    panic!("the disk never became full");
}

fn must_hold(tree: &Tree, told: &Told) {
    assert_eq!(keys(tree, "fill"), told.keys().cloned().collect::<Vec<_>>());
    let view = tree.view().unwrap();
    for (name, fill) in told {
        let found = view.get(&path(&format!("fill/{name}"))).expect("reads go on");
        assert!(found == value(*fill), "fill/{name} is another value");
    }
}

/// Removes every `every`-th value, one by one; none of the removals may be refused.
fn remove(world: &TreeWorld, tree: &Tree, told: &mut Told, every: usize) {
    // Where the journal is in the store itself, a reserve holds some dozens of removals.
    let reserve = world.factory().offered().contains(&Need::SegmentLog);
    let removals_max = if reserve { usize::MAX } else { 25 };
    let names: Vec<String> = told.keys().step_by(every).take(removals_max).cloned().collect();
    for name in names {
        let at = format!("fill/{name}");
        tree.commit(Commit::new(vec![delete_op(&at)])).expect("removals go on");
        assert!(!exists(tree, &at));
        told.remove(&name);
    }
}

fn must_resume(tree: &Tree) {
    until("writes resume by themselves", || match tree.commit(setting("more", json!(1))) {
        Ok(_) => true,
        Err(error) => !is_full(&error),
    });
    commit(tree, setting("much", value(9)));
    until("nothing is said of a full disk any more", || !tree.stats().unwrap().storage_full);
}

fn must_be_there_after_a_reopen(ground: &Ground, tree: &Tree, told: &Told) {
    tree.close().expect("it closes");
    let tree = open(ground, LITTLE);
    must_hold(&tree, told);
    assert_eq!(get(&tree, "more"), json!(1));
    assert_eq!(get(&tree, "much"), value(9));
    commit(&tree, setting("after", json!(1)));
    tree.close().expect("it closes");
}

fn filled_by_writes(world: &TreeWorld) {
    fill_by_writes(world, LITTLE, DISK_MIB / 4);
}

fn filled_with_much_waiting(world: &TreeWorld) {
    fill_by_writes(world, MUCH, DISK_MIB / 2);
}

fn fill_by_writes(world: &TreeWorld, overlay_bytes_max: usize, ballast_mib: usize) {
    let Some(disk) = SmallDisk::mount(world) else { return };
    let ground = disk.ground(world);
    write_ballast(&disk.ballast(), ballast_mib);
    let tree = open(&ground, overlay_bytes_max);
    let mut told = Told::new();
    fill(&tree, &mut told);
    assert!(tree.stats().unwrap().storage_full, "the figures do not say it");
    must_hold(&tree, &told);
    remove(world, &tree, &mut told, 3);
    must_hold(&tree, &told);
    // What the store has no room for, the journal holds.
    drop(tree.close());
    let tree = open(&ground, overlay_bytes_max);
    must_hold(&tree, &told);
    std::fs::remove_file(disk.ballast()).unwrap();
    must_resume(&tree);
    must_hold(&tree, &told);
    must_be_there_after_a_reopen(&ground, &tree, &told);
}

fn filled_by_others(world: &TreeWorld) {
    let Some(disk) = SmallDisk::mount(world) else { return };
    let ground = disk.ground(world);
    let tree = open(&ground, LITTLE);
    let mut told = Told::new();
    for n in 0..100_u8 {
        let name = format!("{n:06}");
        commit(&tree, setting(&format!("fill/{name}"), value(n)));
        told.insert(name, n);
    }
    // A store that is in the middle of a batch when others take the last room may meet the end of
    // the disk itself, which nothing it asks before can rule out.
    tree.flush().expect("there is room yet");
    write_ballast(&disk.ballast(), usize::MAX);
    fill(&tree, &mut told);
    assert!(tree.stats().unwrap().storage_full, "the figures do not say it");
    must_hold(&tree, &told);
    remove(world, &tree, &mut told, 2);
    must_hold(&tree, &told);
    std::fs::remove_file(disk.ballast()).unwrap();
    must_resume(&tree);
    must_hold(&tree, &told);
    must_be_there_after_a_reopen(&ground, &tree, &told);
}
