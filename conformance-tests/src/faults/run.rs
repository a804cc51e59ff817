//! One run: a workload, one fault, and what has to hold afterwards.
//!
//! The judge is a tree in memory that is told what was acknowledged, and nothing else. While
//! something fails, a read is answered like there or not at all. After the fault is lifted, reads
//! are answered, and writes too, unless a write was left in doubt: then they are `poisoned` until
//! a reopen, which finds the one that is in doubt whole or not at all.

use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use trellis_engine_traits::{ErrorKind, Result};
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{Commit, Path, Tree, TreeOptions};

use super::injector::{Injector, Kind, Plan};
use super::workload::{self, COMMITS_EACH, Step, WRITERS, Workload};
use super::{FaultGround, Place};

/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a run came to.
#[derive(Debug)]
pub(super) struct Seen {
    /// Calls of the target until the workload was through.
    pub(super) calls: u64,
    /// Those that failed.
    pub(super) struck: Vec<String>,
    pub(super) poisoned: bool,
}

/// Runs a workload once.
///
/// # Panics
/// When a promise is broken; names the plan.
pub(super) fn run(ground: &Arc<FaultGround>, workload: Workload, plan: Plan) -> Seen {
    let injector = Arc::new(Injector::new(plan));
    let (done, waiting) = mpsc::channel();
    let here = (Arc::clone(ground), Arc::clone(&injector));
    let thread = std::thread::spawn(move || {
        let place = here.0.place();
        let run = Run::new(&place, here.1);
        let poisoned = match workload {
            Workload::Serial(steps) => run.serial(&steps()),
            Workload::Concurrent => run.concurrent(),
        };
        let _nobody_waits_any_more = done.send(poisoned);
    });
    let poisoned = match waiting.recv_timeout(DEADLINE) {
        Ok(poisoned) => poisoned,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("it hangs: {plan:?} struck {:?}", injector.struck());
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => false,
    };
    if let Err(panic) = thread.join() {
        eprintln!("broken under {plan:?}, which struck {:?}", injector.struck());
        std::panic::resume_unwind(panic);
    }
    Seen { calls: injector.calls(), struck: injector.struck(), poisoned }
}

struct Run<'a> {
    place: &'a Place<'a>,
    injector: Arc<Injector>,
    clock: Arc<SimulatedClock>,
}

type Leaves = Vec<(String, String)>;

fn leaves(tree: &Tree) -> Result<Leaves> {
    let mut all = Vec::new();
    tree.view()?.for_each_leaf(&Path::root(), &mut |path, json| {
        all.push((path.to_string(), String::from_utf8_lossy(json).into_owned()));
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// A tree in memory, by the same clock.
fn oracle(runtime: Arc<Runtime>) -> Tree {
    let kv = Arc::new(trellis_kv_memory::MemoryKv::new());
    let log = Arc::new(trellis_log_memory::MemoryLog::new());
    Tree::open(kv, log, runtime, TreeOptions::default()).expect("a tree in memory")
}

fn both(one: &Tree, other: &Tree, commit: &Commit) {
    for tree in [one, other] {
        tree.commit(commit.clone()).expect("it is committed");
    }
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    Refused,
    Unknown,
    Poisoned,
}

fn commit(tree: &Tree, commit: &Commit) -> Answer {
    match tree.commit(commit.clone()) {
        Ok(_) => Answer::Done,
        Err(error) => match error.kind() {
            ErrorKind::OutcomeUnknown => Answer::Unknown,
            ErrorKind::Poisoned => Answer::Poisoned,
            ErrorKind::Unavailable => Answer::Refused,
            _ => panic!("a fault is answered with {error:?}"),
        },
    }
}

impl<'a> Run<'a> {
    fn new(place: &'a Place<'a>, injector: Arc<Injector>) -> Self {
        Self { place, injector, clock: Arc::new(SimulatedClock::at(1_700_000_000_000)) }
    }

    fn runtime(&self) -> Arc<Runtime> {
        let (clock, random) = (Arc::clone(&self.clock), Arc::new(SeededRandom::new(7)));
        Runtime::new(RuntimeOptions { clock, random, ..RuntimeOptions::default() })
    }

    /// A small overlay and no journal kept: so applying, trimming and new segments are met too.
    fn open(&self) -> Result<Tree> {
        let options = TreeOptions {
            overlay_bytes_max: 8 << 10,
            journal_retain_bytes: 0,
            journal_retain_age: Duration::ZERO,
            ..TreeOptions::default()
        };
        self.place.open(&self.injector, self.runtime(), options)
    }

    /// The first open, which may meet the fault.
    fn first_open(&self) -> Option<Tree> {
        match self.open() {
            Ok(tree) => Some(tree),
            Err(error) => {
                let kinds =
                    [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown, ErrorKind::Poisoned];
                assert!(kinds.contains(&error.kind()), "the open is answered with {error:?}");
                assert!(!self.injector.struck().is_empty(), "without a fault: {error:?}");
                None
            }
        }
    }

    fn serial(&self, steps: &[Step]) -> bool {
        let told = oracle(self.runtime());
        // The same with the commit that is in doubt, made when it was: endings count from then.
        let perhaps = oracle(self.runtime());
        let mut unknown = None;
        let mut poisoned = false;
        if let Some(tree) = self.first_open() {
            for step in steps {
                match step {
                    Step::Commit(step) => match commit(&tree, step) {
                        Answer::Done => {
                            assert!(unknown.is_none(), "after a doubt writes are poisoned");
                            both(&told, &perhaps, step);
                        }
                        Answer::Unknown => {
                            assert!(unknown.is_none(), "after a doubt writes are poisoned");
                            perhaps.commit(step.clone()).expect("it is good");
                            unknown = Some(step);
                        }
                        Answer::Refused | Answer::Poisoned => {}
                    },
                    // What the store does not take, the journal holds.
                    Step::Flush => drop(tree.flush()),
                    Step::Pass(ms) => self.clock.advance_ms(*ms),
                }
                self.must_read(&tree, &told);
            }
            self.injector.lift();
            poisoned = self.must_go_on(&tree, unknown.is_some());
            if !poisoned {
                both(&told, &perhaps, &workload::afterwards(0));
            }
            assert_eq!(leaves(&tree).expect("reads go on"), leaves(&told).unwrap());
            // A poisoned tree may say so once more.
            drop(tree.close());
        }
        self.injector.lift();
        let tree = self.open().expect("a reopen is clean");
        let found = leaves(&tree).expect("it is read");
        let whole = found == leaves(&perhaps).unwrap();
        let oracle = if whole { &perhaps } else { &told };
        assert_eq!(found, leaves(oracle).unwrap(), "what was acknowledged, and only that");
        // Under its key a commit counts once, however often and whenever it is sent.
        for step in unknown.into_iter().filter(|step| step.key.is_some()) {
            both(&tree, oracle, step);
        }
        both(&tree, oracle, &workload::afterwards(1));
        assert_eq!(leaves(&tree).unwrap(), leaves(oracle).unwrap());
        tree.close().expect("it closes");
        let tree = self.open().expect("a second reopen is clean");
        assert_eq!(leaves(&tree).unwrap(), leaves(oracle).unwrap());
        tree.close().expect("it closes");
        poisoned
    }

    /// A read while something may fail: the truth or a refusal.
    fn must_read(&self, tree: &Tree, oracle: &Tree) {
        match leaves(tree) {
            Ok(found) => assert_eq!(found, leaves(oracle).unwrap(), "a read is wrong"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert!(!self.injector.struck().is_empty(), "without a fault: {error:?}");
            }
        }
    }

    /// After the fault is lifted: writes go on, unless one was left in doubt. Answers whether they
    /// are refused for good.
    fn must_go_on(&self, tree: &Tree, in_doubt: bool) -> bool {
        let begun = Instant::now();
        loop {
            // What waits for another attempt waits by the clock.
            self.clock.advance_ms(1100);
            let stats = tree.stats().expect("the figures are there");
            if let Some(cause) = stats.poisoned {
                assert!(!cause.contains("broke down"), "a stage panicked: {cause}");
                self.must_be_in_doubt(&cause);
                assert_eq!(commit(tree, &workload::afterwards(0)), Answer::Poisoned);
                return true;
            }
            assert!(!in_doubt, "a commit is in doubt, and writes go on");
            match commit(tree, &workload::afterwards(0)) {
                Answer::Done => return false,
                Answer::Unknown => panic!("a doubt without a fault"),
                Answer::Refused | Answer::Poisoned => {}
            }
            assert!(begun.elapsed() < DEADLINE / 2, "writes are refused for ever");
            std::thread::yield_now();
        }
    }

    /// A fault that left nothing in doubt poisons nothing.
    fn must_be_in_doubt(&self, cause: &str) {
        let (plan, struck) = (self.injector.plan(), self.injector.struck());
        let doubtful = struck.iter().any(|call| {
            let word = call.split(' ').next().unwrap_or_default();
            match word {
                "append" | "commit" => plan.kind != Kind::Full,
                "flush" | "sync_data" | "sync_dir" => true,
                // The failed write could not be undone.
                "write_at" => plan.from_then_on,
                _ => false,
            }
        });
        assert!(doubtful, "{struck:?} poisoned: {cause}");
    }

    fn concurrent(&self) -> bool {
        let mut acknowledged = [(0, false); WRITERS];
        let mut poisoned = false;
        if let Some(tree) = self.first_open() {
            std::thread::scope(|scope| {
                for (writer, told) in acknowledged.iter_mut().enumerate() {
                    let tree = &tree;
                    scope.spawn(move || *told = write(tree, writer));
                }
            });
            self.injector.lift();
            poisoned = self.must_go_on(&tree, acknowledged.iter().any(|(_, unknown)| *unknown));
            // While it is open, what is in doubt is not to be seen.
            judge(&tree, &acknowledged.map(|(last, _)| (last, false)));
            drop(tree.close());
        }
        self.injector.lift();
        let tree = self.open().expect("a reopen is clean");
        judge(&tree, &acknowledged);
        for (writer, (last, unknown)) in acknowledged.iter().enumerate() {
            // Whatever became of it: under its key it counts once.
            let next = if *unknown { *last + 1 } else { *last };
            if next > 0 {
                tree.commit(workload::nth(writer, next)).expect("writes go on");
            }
        }
        let whole = acknowledged.map(|(last, unknown)| (last + u64::from(unknown), false));
        judge(&tree, &whole);
        tree.close().expect("it closes");
        let tree = self.open().expect("a second reopen is clean");
        judge(&tree, &whole);
        tree.close().expect("it closes");
        poisoned
    }
}

/// One writer's commits, one after the other; the last acknowledged, and whether the next is in
/// doubt.
fn write(tree: &Tree, writer: usize) -> (u64, bool) {
    let mut refusals = 0;
    let mut last = 0;
    while last < COMMITS_EACH && refusals < 5 {
        match commit(tree, &workload::nth(writer, last + 1)) {
            Answer::Done => last += 1,
            Answer::Refused => refusals += 1,
            Answer::Unknown => return (last, true),
            Answer::Poisoned => break,
        }
    }
    (last, false)
}

/// Each writer's commits are there up to the last one, whole, and each of them once.
fn judge(tree: &Tree, acknowledged: &[(u64, bool)]) {
    let view = tree.view().expect("reads go on");
    let get = |at: &str| view.get(&Path::parse(at).unwrap()).expect("it is read");
    let mut total = 0;
    for (writer, (last, unknown)) in acknowledged.iter().enumerate() {
        let found = get(&format!("w{writer}/b")).as_u64().unwrap_or(0);
        let more = *unknown && found == last + 1;
        assert!(found == *last || more, "writer {writer}: {found} is there, {last} was told");
        assert_eq!(get(&format!("w{writer}/a/n")).as_u64().unwrap_or(0), found, "half a commit");
        let log = get(&format!("log/{writer}")).as_object().map_or(0, serde_json::Map::len);
        assert_eq!(log as u64, found, "commits are missing");
        let scratch = get(&format!("scratch/{writer}"));
        let scratch = scratch.as_object().map_or(0, serde_json::Map::len);
        assert_eq!(scratch, usize::from(found > 0), "a removal is missing");
        total += found;
    }
    assert_eq!(get("sum").as_u64().unwrap_or(0), total, "each commit counts once");
}
