//! The child's side: sixteen writers, an auditor, and the house kept while they work.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trellis_engine_traits::{ErrorKind, KvBackend, MaintenanceBudget};
use trellis_runtime::Runtime;
use trellis_tree::{CommitError, Committed, Tree, TreeOptions};

use super::defects::{Defect, Watched, WatchedKv, WatchedLog};
use super::trail::{Outcome, Pen, Trail, Writer};
use super::work::{Submission, Task, marker, task};
use super::{WRITERS, plan};
use crate::child::{say, told};
use crate::tree::tools::{get, path};
use crate::tree::{Engines, Ground};
use crate::{Rng, Seed};

pub(super) const SEED: &str = "TRELLIS_CRASH_SEED";
pub(super) const TRAIL: &str = "TRELLIS_CRASH_TRAIL";
pub(super) const OVERLAY: &str = "TRELLIS_CRASH_OVERLAY_BYTES";
pub(super) const RETAIN: &str = "TRELLIS_CRASH_RETAIN_BYTES";
pub(super) const DEFECT: &str = "TRELLIS_CRASH_DEFECT";

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Options under which applying and trimming never rest.
pub(super) fn options(overlay_bytes_max: usize, journal_retain_bytes: u64) -> TreeOptions {
    TreeOptions {
        overlay_bytes_max,
        journal_retain_bytes,
        apply_after: Duration::from_millis(20),
        ..TreeOptions::default()
    }
}

/// What every thread of the child works with.
struct Shop {
    tree: Tree,
    kv: Arc<dyn KvBackend>,
    seed: Seed,
    trail: std::path::PathBuf,
    defect: Option<Defect>,
}

/// The child's side of the family: opens the tree and commits until it is killed. Its trail says
/// what it submits and what was answered, its standard output what is under way.
///
/// # Panics
/// When the tree does not open; when the parent did not set the environment.
pub fn crash_child(ground: &Ground) {
    let trail = std::env::var_os(TRAIL).expect("the parent names the trail");
    let trail = Path::new(&trail).to_owned();
    let defect = std::env::var(DEFECT).ok().map(|name| Defect::named(&name));
    let said = Trail::read(&trail);
    say("opening");
    let (kv, log) = match engines(ground) {
        Ok(engines) => engines,
        Err(error) => return Pen::on(&trail).complains(&format!("no engines: {error:?}")),
    };
    let watched = Watched::new(defect);
    let kv: Arc<dyn KvBackend> = Arc::new(WatchedKv(kv, Arc::clone(&watched)));
    let log = Arc::new(WatchedLog(log, watched));
    let options = options(told(OVERLAY) as usize, told(RETAIN));
    let tree = match Tree::open(Arc::clone(&kv), log, Runtime::system(), options) {
        Ok(tree) => tree,
        Err(error) => return Pen::on(&trail).complains(&format!("no tree: {error:?}")),
    };
    say("opened");
    let shop = Shop { tree, kv, seed: Seed(told(SEED)), trail, defect };
    std::thread::scope(|scope| {
        for (index, writer) in said.writers.into_iter().enumerate() {
            let shop = &shop;
            scope.spawn(move || shop.write(index, writer));
        }
        scope.spawn(|| shop.keep_house());
    });
}

/// Opens the engines. A process that was started at the same time from the same program holds its
/// files for a moment, until it becomes another program.
fn engines(ground: &Ground) -> trellis_engine_traits::Result<Engines> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match ground.engines() {
            Err(error) if error.kind() == ErrorKind::Locked && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            done => return done,
        }
    }
}

impl Shop {
    fn write(&self, index: usize, mut known: Writer) {
        let mut pen = Pen::on(&self.trail);
        let mut rng = Seed(now_ms()).of(&index.to_string()).rng();
        if let Some((of, rev)) = known.keyed {
            self.repeat(&mut pen, of, rev);
        }
        if let Some(pending) = known.pending.take() {
            let asked = task(self.seed, pending);
            // Without a key only the writer's own mark tells whether it was committed.
            let mark = || get(&self.tree, &marker(index)).as_u64();
            if asked.key.is_none() && mark() == Some(pending.n) {
                pen.answered(pending, &Outcome::Found, false);
                known.last = pending.n;
            } else if self.submit(&mut pen, pending, &asked) {
                known.last = pending.n;
            }
        }
        for n in known.submitted + 1.. {
            let ends_ms = now_ms() + lease_ms(&mut rng);
            let of = Submission { writer: index, n, ends_ms, last: known.last };
            pen.submits(of);
            if self.submit(&mut pen, of, &task(self.seed, of)) {
                known.last = n;
            }
        }
    }

    /// Repeats what was answered before: it must be remembered.
    fn repeat(&self, pen: &mut Pen, of: Submission, rev: u64) {
        match self.tree.commit(task(self.seed, of).commit()) {
            Ok(again) if again.replayed && again.rev == rev => {}
            other => {
                pen.complains(&format!("{of:?} was rev {rev}, its repetition is {other:?}"));
            }
        }
    }

    /// Commits and says what was answered; whether it was committed.
    fn submit(&self, pen: &mut Pen, of: Submission, asked: &Task) -> bool {
        let answer = match self.defect {
            Some(Defect::TwoHalves) => self.in_two_halves(asked),
            _ => self.tree.commit(asked.commit()),
        };
        match answer {
            Ok(done) => {
                let outcome = Outcome::Committed(done.rev, said(&done));
                pen.answered(of, &outcome, asked.key.is_some());
                true
            }
            Err(error) if error.kind() == ErrorKind::Conflict && !asked.demands.is_empty() => {
                pen.answered(of, &Outcome::Refused, asked.key.is_some());
                false
            }
            Err(error) => {
                pen.complains(&format!("{of:?}: {error:?}"));
                false
            }
        }
    }

    /// A planted defect: what must be one commit is two.
    fn in_two_halves(&self, asked: &Task) -> Result<Committed, CommitError> {
        let mut second = asked.clone();
        if asked.answers_something() || asked.changes.len() < 2 {
            return self.tree.commit(asked.commit());
        }
        let mut first = asked.clone();
        first.key = asked.key.as_ref().map(|key| format!("{key}-first"));
        second.changes = first.changes.split_off(1);
        second.demands.clear();
        self.tree.commit(first.commit())?;
        self.tree.commit(second.commit())
    }

    /// Reads while others write, has the store looked after, and brings everything into it.
    fn keep_house(&self) {
        let mut pen = Pen::on(&self.trail);
        let mut rng = Seed(now_ms()).of("house").rng();
        loop {
            match rng.below(4) {
                0 => {
                    let budget = MaintenanceBudget { time: Duration::from_millis(5) };
                    if let Err(error) = self.kv.maintain(budget) {
                        pen.complains(&format!("maintain: {error:?}"));
                    }
                }
                1 => {
                    if let Err(error) = self.tree.flush() {
                        pen.complains(&format!("flush: {error:?}"));
                    }
                }
                _ => self.audit(&mut pen),
            }
        }
    }

    /// Pairs are written by one commit each: no view may show them apart.
    fn audit(&self, pen: &mut Pen) {
        let view = self.tree.view().expect("a view");
        for pair in 0..3 {
            let pair = view.get(&path(&format!("pair/{pair}"))).expect("it is read");
            if pair.get("x") != pair.get("y") {
                pen.complains(&format!("half a commit is visible: {pair}"));
            }
        }
    }
}

/// What an answer says besides its rev.
pub(super) fn said(done: &Committed) -> Vec<String> {
    let results = done.results.iter();
    let words = results.flat_map(|result| {
        let resolved = result.resolved.iter().map(|(_, json)| json.get().to_owned());
        result.pushed.clone().into_iter().chain(resolved)
    });
    words.collect()
}

/// Most leases end soon, some outlive the run.
fn lease_ms(rng: &mut Rng) -> u64 {
    if rng.one_in(4) { 3_600_000 } else { 5 + rng.below(400) as u64 }
}

/// So many writers that a group of the pipeline holds several commits.
const _: () = assert!(WRITERS >= 16 && plan::KILLS_MOST > 0);
