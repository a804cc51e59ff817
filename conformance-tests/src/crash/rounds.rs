//! The rounds: kill children, look at what is left, carry on with the same database.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use trellis_runtime::Runtime;
use trellis_tree::Tree;

use super::child::{self, now_ms, said};
use super::model::Model;
use super::plan::{Aim, KILLS_MOST, run_and_kill};
use super::trail::{Answered, Outcome, Pen, Trail, Writer};
use super::work::{marker, task};
use super::{Defect, WRITERS};
use crate::tree::follower::history_fits;
use crate::tree::tools::{get, leaves, rev};
use crate::tree::{Ground, TreeWorld};
use crate::{Rng, Seed};

/// Rounds unless `TRELLIS_CRASH_ROUNDS` says otherwise: some twenty seconds.
const ROUNDS: usize = 100;
/// Commits before a kill whose history is looked at.
const HISTORY_COMMITS: u64 = 40;
/// Rounds on one database, before a fresh one.
const ROUNDS_OF_ONE: usize = 25;
/// Rounds after which a planted defect must have been noticed.
const ROUNDS_TO_NOTICE: usize = 40;

/// What came of a run.
#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    kills: usize,
    /// How many kills hit something.
    hit: BTreeMap<String, usize>,
    acknowledged: usize,
    unanswered: usize,
    /// Commits whose history was looked at.
    told: usize,
    time: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, kills, acknowledged, unanswered, told, .. } = self;
        let hit: Vec<_> = self.hit.iter().map(|(what, count)| format!("{what} {count}")).collect();
        let seconds = self.time.as_secs_f64();
        write!(
            f,
            "{rounds} rounds, {kills} kills (while {}), {acknowledged} acknowledged commits, \
             {unanswered} unanswered, {told} told by histories; {seconds:.1} s, {:.2} s a round",
            hit.join(", "),
            seconds / (*rounds).max(1) as f64
        )
    }
}

/// One database that is carried on from kill to kill.
struct Campaign<'a> {
    world: &'a TreeWorld,
    dir: PathBuf,
    ground: Arc<Ground>,
    seed: Seed,
    model: Model,
    /// As known when the parent looked last.
    writers: Vec<Writer>,
    rev: u64,
    defect: Option<Defect>,
}

pub(super) fn killed_anywhere(world: &TreeWorld) {
    let (tally, lost) = run(world, crate::child::rounds(ROUNDS), None);
    let name = world.factory().name();
    if let Some(lost) = lost {
        panic!("{lost}\n{name}: {tally}, 1 loss");
    }
    eprintln!("{name}: {tally}; 0 losses, seed {}", Seed::of_run().0);
    assert!(tally.acknowledged > 0, "no child committed anything");
    assert!(tally.told > 0, "no history was looked at");
}

/// Runs with a planted defect; what the parent said when it noticed.
pub(super) fn notices(world: &TreeWorld, defect: Defect) -> Option<String> {
    run(world, ROUNDS_TO_NOTICE, Some(defect)).1
}

fn run(world: &TreeWorld, rounds: usize, defect: Option<Defect>) -> (Tally, Option<String>) {
    let mut rng = world.rng("kills");
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut campaign = None;
    for round in 0..rounds {
        if round % ROUNDS_OF_ONE == 0 {
            if let Some(old) = campaign.take() {
                let Campaign { dir, .. } = old;
                std::fs::remove_dir_all(dir).expect("a database that is closed goes");
            }
            campaign = Some(Campaign::fresh(world, round, &mut rng, defect));
        }
        let campaign = campaign.as_mut().expect("made in the first round");
        let done = catch_unwind(AssertUnwindSafe(|| campaign.round(&mut rng, &mut tally)));
        let failed = match done {
            Ok(done) => done.err(),
            Err(_) => Some("the check itself broke down; see above".to_owned()),
        };
        tally.rounds += 1;
        tally.time = began.elapsed();
        if let Some(failed) = failed {
            let kept = if defect.is_none() { campaign.keep() } else { String::new() };
            return (tally, Some(format!("round {round}: {failed}{kept}")));
        }
    }
    (tally, None)
}

impl<'a> Campaign<'a> {
    fn fresh(world: &'a TreeWorld, round: usize, rng: &mut Rng, defect: Option<Defect>) -> Self {
        let dir = world.dir().join(format!("from-round-{round}"));
        std::fs::create_dir_all(dir.join("db")).expect("a directory");
        let ground = world.factory().open(&dir.join("db")).expect("a ground is only a directory");
        let writers = vec![Writer::default(); WRITERS];
        let (seed, model) = (Seed(rng.next_u64()), Model::default());
        Self { world, dir, ground, seed, model, writers, rev: 0, defect }
    }

    fn trail(&self) -> PathBuf {
        self.dir.join("trail")
    }

    /// Kills some children and looks.
    fn round(&mut self, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
        let overlay_bytes = [8 << 10, 32 << 10, 1 << 20][rng.below(3)];
        let retain_bytes = [4 << 10, 100 << 10][rng.below(2)];
        for _ in 0..=rng.below(KILLS_MOST) {
            let mut command = self.world.factory().child_command(&self.dir.join("db"));
            command
                .env(child::SEED, self.seed.0.to_string())
                .env(child::TRAIL, self.trail())
                .env(child::OVERLAY, overlay_bytes.to_string())
                .env(child::RETAIN, retain_bytes.to_string());
            if let Some(defect) = self.defect {
                command.env(child::DEFECT, format!("{defect:?}"));
            }
            let hit = run_and_kill(command, Aim::draw(rng), rng);
            let hit = hit.map_err(|error| self.complaint().unwrap_or(error))?;
            tally.kills += 1;
            for what in hit {
                *tally.hit.entry(what).or_default() += 1;
            }
        }
        if let Some(complaint) = self.complaint() {
            return Err(complaint);
        }
        let options = child::options(overlay_bytes, retain_bytes);
        copy(&self.dir.join("db"), &self.dir.join("left")).expect("a copy of what is left");
        let tree = self.ground.open_on(Runtime::system(), options);
        let tree = tree.map_err(|error| format!("the tree does not open: {error:?}"))?;
        self.look(&tree, tally)?;
        tree.close().map_err(|error| format!("the tree does not close: {error:?}"))
    }

    /// What a child saw broken.
    fn complaint(&self) -> Option<String> {
        Trail::read(&self.trail()).complaints.into_iter().next()
    }

    /// Looks at what is left, and begins a new trail.
    fn look(&mut self, tree: &Tree, tally: &mut Tally) -> Result<(), String> {
        let before_ms = now_ms();
        let found = leaves(tree, "");
        let after_ms = now_ms();
        let mut trail = Trail::read(&self.trail());
        tally.acknowledged += trail.answered.len();
        for index in 0..WRITERS {
            tally.unanswered += usize::from(trail.writers[index].pending.is_some());
            self.settle(tree, &mut trail, index)?;
        }
        self.take(&trail)?;
        if rev(tree) < self.rev {
            return Err(format!("rev {} was acknowledged, {} is the last", self.rev, rev(tree)));
        }
        tally.told += history_fits(tree, HISTORY_COMMITS)?;
        let differs = self.model.differs(&found, (before_ms, after_ms));
        if !differs.is_empty() {
            return Err(differs.join("\n  "));
        }
        std::fs::remove_file(self.trail()).ok();
        let mut pen = Pen::on(&self.trail());
        for (index, writer) in trail.writers.iter().enumerate() {
            pen.begins(index, writer);
        }
        self.writers = trail.writers;
        Ok(())
    }

    /// Finds out whether what was not answered is there; its repetition tells the rev.
    fn settle(&self, tree: &Tree, trail: &mut Trail, index: usize) -> Result<(), String> {
        let writer = &mut trail.writers[index];
        let there = get(tree, &marker(index)).as_u64().unwrap_or(0);
        let Some(of) = writer.pending.filter(|of| of.n == there) else { return Ok(()) };
        writer.pending = None;
        writer.last = of.n;
        let asked = task(self.seed, of);
        let outcome = if asked.key.is_some() {
            let again = tree.commit(asked.commit());
            let again = again.map_err(|error| format!("{of:?} is there; repeated: {error:?}"))?;
            if !again.replayed {
                return Err(format!("{of:?} is there and was done a second time"));
            }
            writer.rev = again.rev;
            writer.keyed = Some((of, again.rev));
            Outcome::Committed(again.rev, said(&again))
        } else {
            Outcome::Found
        };
        trail.answered.push(Answered { of, outcome });
        Ok(())
    }

    /// Takes what happened into the model, in the order of revs.
    fn take(&mut self, trail: &Trail) -> Result<(), String> {
        let mut newest: Vec<u64> = self.writers.iter().map(|writer| writer.rev).collect();
        let mut events = BTreeMap::new();
        for Answered { of, outcome } in &trail.answered {
            let newest = &mut newest[of.writer];
            // What was found without a rev touches only its writer's own places.
            let (at, said) = match outcome {
                Outcome::Refused => continue,
                Outcome::Found => ((*newest, 1 + of.writer, of.n), None),
                Outcome::Committed(rev, said) => {
                    if *rev <= *newest || *rev <= self.rev {
                        return Err(format!(
                            "{of:?} is rev {rev}, after {newest} and {}",
                            self.rev
                        ));
                    }
                    *newest = *rev;
                    ((*rev, 0, 0), Some(said.as_slice()))
                }
            };
            if let Some((other, _)) = events.insert(at, (of, said)) {
                return Err(format!("{of:?} and {other:?} have the same rev {}", at.0));
            }
        }
        for ((rev, ..), (of, said)) in events {
            self.rev = self.rev.max(rev);
            let asked = task(self.seed, *of);
            let applied = self.model.apply(&asked, said);
            applied.map_err(|error| format!("{of:?} at rev {rev}: {error}"))?;
        }
        Ok(())
    }

    /// Keeps the directory of a failed round beyond the world; says where it is and what replays.
    fn keep(&self) -> String {
        let (name, seed) = (self.world.factory().name(), Seed::of_run().0);
        let kept = std::env::temp_dir().join(format!("trellis-crash-{name}-{seed}"));
        let copied = copy(&self.dir, &kept);
        let (kv, log) = name.split_once('+').expect("store+log");
        let names = format!(
            "--kv {} --log {}",
            kv.trim_start_matches("kv-"),
            log.trim_start_matches("log-")
        );
        format!(
            "\nkept in {} ({copied:?}): `left` is what the kill left, `trail` what was said\n\
             replay: cargo xtask crash --rounds {} {names} --seed {seed}",
            kept.display(),
            crate::child::rounds(ROUNDS),
        )
    }
}

/// Copies a directory; what was there before goes.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(to).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
