//! Children that are killed while they back up, restore and migrate.
//!
//! A backup is whole or not there, and one without its end is refused; a target that is half
//! filled is refused too, and the same call carries it on; the source loses nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trellis::{
    BackupKind, Config, ErrorKind, Trellis, Until, backup_to_directory, migrate, restore,
    verify_backup,
};

use super::plan::{Aim, run_and_kill};
use crate::child::{rounds, say, told};
use crate::tree::TreeWorld;
use crate::{Rng, Seed};

const JOB: &str = "TRELLIS_CRASH_JOB";
const WRITE_FROM: &str = "TRELLIS_CRASH_WRITE_FROM";
const JOBS: [&str; 3] = ["backup", "restore", "migrate"];
/// Rounds unless `TRELLIS_CRASH_ROUNDS` says otherwise; one of each job takes some seconds.
const ROUNDS: usize = 3;
const WRITERS: usize = 4;
/// Leaves of the source: together more than one batch of a restore.
const LEAVES: usize = 45;
const LEAF_BYTES: usize = 200 << 10;
/// Children killed before the same call is let through.
const KILLS_MOST: usize = 3;

/// Where everything of a round is.
struct Places(PathBuf);

impl Places {
    fn config(&self, name: &str, store: &str, log: &str) -> Config {
        let mut config = Config::in_directory(self.0.join(name));
        config.kv = Some(format!("{store}:store.{store}"));
        config.log = Some(if log == "kv" { "kv:".to_owned() } else { "segment:log".to_owned() });
        config
    }

    /// The source, and the target of what is restored.
    fn on(&self, name: &str, engines: &str) -> Config {
        let (store, log) = engines.split_once('+').expect("store+log");
        self.config(name, store.trim_start_matches("kv-"), log.trim_start_matches("log-"))
    }

    /// The target of a migration: another store.
    fn moved(&self, engines: &str) -> Config {
        let store = if engines.starts_with("kv-redb") { "sqlite" } else { "redb" };
        self.config("moved", store, "segment")
    }

    fn archives(&self) -> PathBuf {
        self.0.join("archives")
    }

    fn acknowledged(&self) -> PathBuf {
        self.0.join("acknowledged")
    }
}

/// Whether the parent wants a job done with archives.
pub(crate) fn is_archive_child() -> bool {
    std::env::var_os(JOB).is_some()
}

/// The child's side: does its job until it is killed or has done it.
///
/// # Panics
/// When the job fails; when the parent did not set the environment.
pub(crate) fn archive_child(engines: &str, dir: &Path) {
    let places = Places(dir.to_owned());
    say("opening");
    let source = places.on("source", engines);
    match std::env::var(JOB).expect("the parent names the job").as_str() {
        "backup" => back_up(&places, source),
        "restore" => {
            say("opened");
            say("+restore");
            let target = places.on("restored", engines);
            restore(&places.archives(), target, Until::Newest, &mut |_| {}).expect("restored");
            say("-restore");
        }
        "migrate" => {
            say("opened");
            say("+migrate");
            migrate(source, places.moved(engines), &mut |_| {}).expect("migrated");
            say("-migrate");
        }
        other => panic!("no job is called {other}"),
    }
}

/// Takes backups while four writers write.
fn back_up(places: &Places, source: Config) {
    let db = Trellis::open_config(source).expect("the source opens");
    say("opened");
    let first = told(WRITE_FROM);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = db.clone();
            let acknowledged = places.acknowledged();
            scope.spawn(move || {
                let mut pen = std::fs::OpenOptions::new();
                let mut pen = pen.create(true).append(true).open(acknowledged).expect("a file");
                for n in first.. {
                    let rev = db.set(format!("w/{writer}"), n).expect("committed");
                    let line = format!("{writer} {n} {rev}\n");
                    std::io::Write::write_all(&mut pen, line.as_bytes()).expect("it is written");
                }
            });
        }
        for number in 0.. {
            let full = number % 4 == 0;
            let kind = if full { BackupKind::Full } else { BackupKind::Incremental };
            say("+backup");
            backup_to_directory(&db, &places.archives(), kind, &mut |_| {}).expect("backed up");
            say("-backup");
        }
    });
}

pub(super) fn killed(world: &TreeWorld) {
    let mut rng = world.rng("archives");
    let rounds = rounds(ROUNDS);
    let (mut kills, mut in_time) = (0, 0);
    for round in 0..rounds {
        let dir = world.dir().join(format!("round{round}"));
        std::fs::create_dir(&dir).expect("a directory");
        let mut bench = Bench { world, places: Places(dir.clone()), written: 1, kills: 0, hit: 0 };
        let job = JOBS[round % JOBS.len()];
        let done = bench.round(job, &mut rng);
        if let Err(error) = done {
            panic!("round {round}, {job}: {error}");
        }
        kills += bench.kills;
        in_time += bench.hit;
        std::fs::remove_dir_all(dir).expect("a directory that is closed goes");
    }
    let (name, seed) = (world.factory().name(), Seed::of_run().0);
    eprintln!(
        "{name}: {rounds} rounds of backup, restore and migration, {kills} kills, {in_time} of \
         them in the midst; 0 losses, seed {seed}"
    );
}

/// One round: its places, and what was killed.
struct Bench<'a> {
    world: &'a TreeWorld,
    places: Places,
    /// What writers of the next child begin with.
    written: u64,
    kills: usize,
    /// Kills while the job was under way.
    hit: usize,
}

impl Bench<'_> {
    fn engines(&self) -> &str {
        self.world.factory().name()
    }

    fn round(&mut self, job: &'static str, rng: &mut Rng) -> Result<(), String> {
        let source = self.places.on("source", self.engines());
        let digest = self.fill(&source, rng)?;
        match job {
            "backup" => {
                for _ in 0..KILLS_MOST {
                    self.kill(job, rng)?;
                    self.look_at_backups(&source, rng)?;
                }
                Ok(())
            }
            "restore" => {
                let db = open(source)?;
                let archives = self.places.archives();
                let done = backup_to_directory(&db, &archives, BackupKind::Full, &mut |_| {});
                done.map_err(|error| format!("no backup: {error:?}"))?;
                db.close().map_err(|error| format!("{error:?}"))?;
                let target = self.places.on("restored", self.engines());
                self.until_done(job, rng, &target, &digest, || {
                    restore(&archives, target.clone(), Until::Newest, &mut |_| {}).map(drop)
                })
            }
            _ => {
                let target = self.places.moved(self.engines());
                self.until_done(job, rng, &target, &digest, || {
                    migrate(source.clone(), target.clone(), &mut |_| {}).map(drop)
                })?;
                same(source.clone(), &digest).map_err(|error| format!("the source: {error}"))
            }
        }
    }

    /// A source with more in it than one batch; its digest.
    fn fill(&self, source: &Config, rng: &mut Rng) -> Result<String, String> {
        let db = Trellis::open_config(source.clone()).map_err(|error| format!("{error:?}"))?;
        for leaf in 0..LEAVES {
            let byte = char::from(b'a' + rng.below(26) as u8);
            let text: String = std::iter::repeat_n(byte, LEAF_BYTES).collect();
            db.set(format!("bulk/{leaf}"), json!(text)).map_err(|error| format!("{error:?}"))?;
        }
        let digest = db.digest().map_err(|error| format!("{error:?}"))?.digest;
        db.close().map_err(|error| format!("{error:?}"))?;
        Ok(digest)
    }

    fn kill(&mut self, job: &'static str, rng: &mut Rng) -> Result<(), String> {
        let mut command = self.world.factory().child_command(&self.places.0);
        command.env(JOB, job).env(WRITE_FROM, self.written.to_string());
        let most = if job == "backup" { 150_000 } else { 400_000 };
        let aim = Aim::Within(job, 1 + rng.below(3) * usize::from(job == "backup"), most);
        match run_and_kill(command, aim, rng) {
            Ok(hit) => self.hit += usize::from(hit.iter().any(|what| what == job)),
            // It may be done before it is killed.
            Err(error) if error.ends_with("exit status: 0") && job != "backup" => {}
            Err(error) => return Err(error),
        }
        self.kills += 1;
        Ok(())
    }

    /// Kills the job some times, and lets it through at last.
    fn until_done(
        &mut self,
        job: &'static str,
        rng: &mut Rng,
        target: &Config,
        digest: &str,
        through: impl FnOnce() -> trellis::Result<()>,
    ) -> Result<(), String> {
        let mut done = false;
        for _ in 0..=rng.below(KILLS_MOST) {
            self.kill(job, rng)?;
            done = match Trellis::open_existing(target.clone()) {
                Ok(db) => {
                    drop(db);
                    same(target.clone(), digest)
                        .map_err(|error| format!("a half filled target was opened: {error}"))?;
                    true
                }
                Err(error) if error.kind() == ErrorKind::Locked => {
                    return Err(format!("nobody has the target open: {error:?}"));
                }
                Err(_) => false,
            };
            if done {
                break;
            }
        }
        match through() {
            Ok(()) if !done => {}
            Err(error) if done && error.kind() == ErrorKind::AlreadyExists => {}
            other => return Err(format!("done before: {done}; the same call again: {other:?}")),
        }
        same(target.clone(), digest).map_err(|error| format!("the target: {error}"))
    }

    /// Every archive is whole; what it restores is what was acknowledged at its rev; and the
    /// source has everything.
    fn look_at_backups(&mut self, source: &Config, rng: &mut Rng) -> Result<(), String> {
        let told = std::fs::read_to_string(self.places.acknowledged()).unwrap_or_default();
        let whole = told.rfind('\n').map_or("", |end| &told[..end]);
        let acknowledged: Vec<[u64; 3]> = whole.lines().map(numbers).collect();
        let db = open(source.clone())?;
        holds(&db, &acknowledged, u64::MAX)?;
        db.close().map_err(|error| format!("{error:?}"))?;
        let most = acknowledged.iter().map(|[_, n, _]| *n).max().unwrap_or(self.written);
        self.written = most + 2;

        let archives = self.places.archives();
        let check = match verify_backup(&archives, &mut |_| {}) {
            Ok(check) => check,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("backups cannot be looked at: {error:?}")),
        };
        if let Some(problem) = check.problems.first() {
            return Err(format!("a backup is not whole: {problem:?}"));
        }
        let target = self.places.on("restored", self.engines());
        let report = restore(&archives, target.clone(), Until::Newest, &mut |_| {});
        let report = report.map_err(|error| format!("backups are not restored: {error:?}"))?;
        let db = open(target.clone())?;
        holds(&db, &acknowledged, report.rev)?;
        let found = db.digest().map_err(|error| format!("{error:?}"))?.digest;
        db.close().map_err(|error| format!("{error:?}"))?;
        if found != report.digest {
            return Err("what was restored is not what was in the backup".to_owned());
        }
        std::fs::remove_dir_all(&target.data).map_err(|error| error.to_string())?;
        let (path, _) = &check.archives[rng.below(check.archives.len())];
        self.cut_off_is_refused(path, rng)
    }

    fn cut_off_is_refused(&self, archive: &Path, rng: &mut Rng) -> Result<(), String> {
        let bytes = std::fs::read(archive).map_err(|error| error.to_string())?;
        let cut = self.places.0.join("cut.trellis");
        std::fs::write(&cut, &bytes[..rng.below(bytes.len())])
            .map_err(|error| error.to_string())?;
        if let Ok(check) = verify_backup(&cut, &mut |_| {})
            && check.problems.is_empty()
        {
            return Err("a backup that was cut off passes for a whole one".to_owned());
        }
        let target = self.places.on("from-cut", self.engines());
        if let Ok(report) = restore(&cut, target.clone(), Until::Newest, &mut |_| {}) {
            return Err(format!("a backup that was cut off was restored: {report:?}"));
        }
        if Trellis::open_existing(target.clone()).is_ok() {
            return Err("what a cut off backup left can be opened".to_owned());
        }
        drop(std::fs::remove_dir_all(target.data));
        Ok(())
    }
}

fn open(config: Config) -> Result<Trellis, String> {
    Trellis::open_existing(config).map_err(|error| format!("it does not open: {error:?}"))
}

/// Demands that a database has this content.
fn same(config: Config, digest: &str) -> Result<(), String> {
    let db = open(config)?;
    let found = db.digest().map_err(|error| format!("{error:?}"))?;
    db.close().map_err(|error| format!("{error:?}"))?;
    if found.digest == digest { Ok(()) } else { Err(format!("its content is another: {found:?}")) }
}

/// Demands that everything is there that was acknowledged up to a rev.
fn holds(db: &Trellis, acknowledged: &[[u64; 3]], up_to: u64) -> Result<(), String> {
    for writer in 0..WRITERS as u64 {
        let of_writer = acknowledged.iter().filter(|[who, _, rev]| *who == writer && *rev <= up_to);
        let last = of_writer.map(|[_, n, _]| *n).max().unwrap_or(0);
        let found = db.get(format!("w/{writer}")).map_err(|error| format!("{error:?}"))?;
        let found = if found == Value::Null { Some(0) } else { found.as_u64() };
        if found < Some(last) {
            return Err(format!("{last} was acknowledged to writer {writer}, there is {found:?}"));
        }
    }
    Ok(())
}

fn numbers(line: &str) -> [u64; 3] {
    let mut words = line.split(' ').map(|word| word.parse().expect("a number"));
    std::array::from_fn(|_| words.next().expect("three numbers"))
}
