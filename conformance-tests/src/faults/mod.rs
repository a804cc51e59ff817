//! The family of faults: the N-th call of the store, of the log, or to the log's files fails, for
//! every N of six workloads.
//!
//! A run has a directory of its own, one fault, and a judge (`run`). A quick run of the suite
//! tries a few faults a case, drawn from its seed; a full one tries all.
//!
//! Deliberately absent: loss of power, and damage; they have families of their own.

mod engines;
#[cfg(feature = "log-segment")]
mod files;
mod injector;
mod run;
mod workload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trellis_engine_traits::Result;
use trellis_runtime::Runtime;
use trellis_tree::{Tree, TreeOptions};

use crate::tree::Engines;
use crate::{Case, Cost, Engine, Need, World};
use engines::{FaultyKv, FaultyLog};
use injector::{Kind, Plan, Target};
use workload::Workload;

pub(crate) use injector::Injector;

type FaultWorld = World<FaultGround>;
type Open = Arc<dyn Fn(&Path, &Arc<Injector>) -> Result<Engines> + Send + Sync>;
type Forget = Arc<dyn Fn(&Path) + Send + Sync>;

/// Where the runs of a case happen, and on which engines.
pub(crate) struct FaultGround {
    dir: PathBuf,
    open: Open,
    forget: Forget,
    runs: AtomicU64,
}

impl FaultGround {
    /// A ground below `dir`; `forget` is told of each directory that is gone.
    pub(crate) fn new(dir: &Path, open: Open, forget: Forget) -> Self {
        Self { dir: dir.to_owned(), open, forget, runs: AtomicU64::new(0) }
    }

    /// A fresh directory.
    fn place(&self) -> Place<'_> {
        let dir = self.dir.join(format!("run-{}", self.runs.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).expect("a directory can be made");
        Place { ground: self, dir }
    }
}

/// The directory of one run; it goes with the run.
struct Place<'a> {
    ground: &'a FaultGround,
    dir: PathBuf,
}

impl Place<'_> {
    /// Opens a tree on engines that fail as planned.
    fn open(
        &self,
        injector: &Arc<Injector>,
        runtime: Arc<Runtime>,
        options: TreeOptions,
    ) -> Result<Tree> {
        let (kv, log) = (self.ground.open)(&self.dir, injector)?;
        let opened = Tree::open(
            Arc::new(FaultyKv::new(Arc::clone(&kv), injector)),
            Arc::new(FaultyLog::new(Arc::clone(&log), injector)),
            runtime,
            options,
        );
        if opened.is_err() {
            drop(log.close().and(kv.close()));
        }
        opened
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // What is left of a failed run goes with the world.
        drop(std::fs::remove_dir_all(&self.dir));
        (self.ground.forget)(&self.dir);
    }
}

impl Engine for FaultGround {
    fn close_engine(&self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Debug for FaultGround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultGround").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The files of a segment log, failing as planned.
#[cfg(feature = "log-segment")]
pub(crate) fn faulty_files(
    injector: &Arc<Injector>,
) -> Arc<dyn trellis_log_segment::layer::FileLayer> {
    Arc::new(files::FaultyFiles(Arc::clone(injector)))
}

const PROVES: &[&str] = &[
    "tree.commit.durable",
    "tree.commit.atomic",
    "tree.commit.order",
    "tree.commit.key",
    "tree.poison.reads",
];

/// A workload with every fault of a target.
macro_rules! case {
    ($id:literal, $workload:ident, $target:ident) => {
        Case::new($id, PROVES, |world| every_fault(world, workload::$workload, Target::$target))
    };
}

const FILES: &[Need] = &[Need::FileFaults];

/// Every case of the family.
pub(crate) fn cases() -> Vec<Case<FaultWorld>> {
    CASES.to_vec()
}

const CASES: &[Case<FaultWorld>] = &[
    case!("faults.store.sets", SETS, Store),
    case!("faults.store.updates", UPDATES, Store),
    case!("faults.store.increments", INCREMENTS, Store),
    case!("faults.store.subtrees", SUBTREES, Store),
    case!("faults.store.endings", ENDINGS, Store),
    case!("faults.store.writers", WRITERS_AT_ONCE, Store),
    case!("faults.log.sets", SETS, Log),
    case!("faults.log.updates", UPDATES, Log),
    case!("faults.log.increments", INCREMENTS, Log),
    case!("faults.log.subtrees", SUBTREES, Log),
    case!("faults.log.endings", ENDINGS, Log),
    case!("faults.log.writers", WRITERS_AT_ONCE, Log),
    case!("faults.files.sets", SETS, Files).needs(FILES),
    case!("faults.files.updates", UPDATES, Files).needs(FILES),
    case!("faults.files.increments", INCREMENTS, Files).needs(FILES),
    case!("faults.files.subtrees", SUBTREES, Files).needs(FILES),
    case!("faults.files.endings", ENDINGS, Files).needs(FILES),
    case!("faults.files.writers", WRITERS_AT_ONCE, Files).needs(FILES),
    Case::new("faults.fsync.poisons", PROVES, fsync_poisons).needs(FILES),
];

/// Faults of one case in a quick run.
const QUICK_FAULTS: usize = 4;

/// How calls fail, and whether once or from then on.
const WAYS: [(Kind, bool); 6] = [
    (Kind::Io, false),
    (Kind::Io, true),
    (Kind::Full, false),
    (Kind::Full, true),
    (Kind::Short, false),
    (Kind::Short, true),
];

fn every_fault(world: &FaultWorld, workload: Workload, target: Target) {
    let ground = world.engine();
    let none = Plan { target, nth: 0, kind: Kind::Io, from_then_on: false };
    let calls = run::run(&ground, workload, none).calls;
    assert!(calls > 10, "the workload makes only {calls} calls");
    if Cost::from_env() == Cost::Quick {
        let mut rng = world.rng("faults");
        for _ in 0..QUICK_FAULTS {
            let nth = 1 + rng.below(usize::try_from(calls).unwrap_or(usize::MAX)) as u64;
            let (kind, from_then_on) = WAYS[rng.below(WAYS.len())];
            run::run(&ground, workload, Plan { target, nth, kind, from_then_on });
        }
        return;
    }
    for (kind, from_then_on) in WAYS {
        // Threads take turns as they like, so the number of calls differs between runs.
        for nth in 1.. {
            let seen = run::run(&ground, workload, Plan { target, nth, kind, from_then_on });
            if seen.struck.is_empty() {
                break;
            }
        }
    }
}

/// A flush that fails leaves a doubt: somewhere among the flushes of a run are those of commits.
fn fsync_poisons(world: &FaultWorld) {
    let ground = world.engine();
    let mut poisoned = 0;
    let quick = Cost::from_env() == Cost::Quick;
    // Every append is a write and a flush: in a stretch of the run there are some of each.
    for nth in (20..).step_by(if quick { 7 } else { 1 }) {
        let plan = Plan { target: Target::Files, nth, kind: Kind::Io, from_then_on: false };
        let seen = run::run(&ground, workload::SETS, plan);
        let flush = seen.struck.iter().any(|call| call.starts_with("sync_data"));
        poisoned += u64::from(flush && seen.poisoned);
        if seen.struck.is_empty() || (quick && poisoned > 0) {
            break;
        }
    }
    assert!(poisoned > 0, "no failed flush poisoned");
}
