//! Copies of a database: the move to another store, and a backup while others write.
//!
//! A backup is measured against a plain copy of as many bytes on the same disk, and the writers
//! beside it against the same writers alone.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trellis::{Config, Trellis};
use trellis_tree::{Commit, Input, Path as TreePath, Tree};

use crate::Result;
use crate::engine::load;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::{once, settle_disk};
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "copy";
const TARGET_LEAVES: f64 = 100_000.0;
const TARGET_BACKUP: f64 = 0.5;
const TARGET_WRITERS: f64 = 0.8;
/// Megabytes a second of a backup that leaves writers room.
const TARGET_PACED: f64 = 100.0;
const WRITERS: usize = 8;
const COPY_BYTES: usize = 1 << 20;
/// How long writers write alone, and beside backups that follow each other.
const WRITING_TIME: Duration = Duration::from_secs(5);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for (from, to) in [(Kv::Redb, Kv::Sqlite), (Kv::Sqlite, Kv::Redb), (Kv::Redb, Kv::Sled)] {
        if settings.kvs.contains(&from) && settings.kvs.contains(&to) {
            moves(settings, from, to, report)?;
        }
    }
    for kv in settings.engines() {
        backups(settings, kv, report)?;
    }
    Ok(())
}

fn config(settings: &Settings, kv: Kv) -> Config {
    let data = settings.dir.join(format!("copy-{}-{}", kv.name(), settings.keys));
    at(&data, kv)
}

fn at(data: &Path, kv: Kv) -> Config {
    let mut config = Config::in_directory(data);
    config.kv = Some(format!("{0}:tree.{0}", kv.name()));
    config.log = Some("segment:log".to_owned());
    config
}

/// A database with all keys; it is opened through the platform, as a user opens it.
fn loaded(settings: &Settings, kv: Kv) -> Result<Config> {
    let config = config(settings, kv);
    let data = config.data.clone();
    once(&data.with_extension("loaded"), || {
        let db = Trellis::open_config(config.clone())?;
        load(db.tree(), settings.keys)?;
        Ok(db.close()?)
    })?;
    Ok(config)
}

fn moves(settings: &Settings, from: Kv, to: Kv, report: &mut Report) -> Result<()> {
    let source = loaded(settings, from)?;
    let target = settings.dir.join("copy-target");
    let mut rates = Vec::new();
    for _ in 0..settings.rounds {
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        settle_disk(&settings.dir)?;
        let begin = Instant::now();
        trellis::migrate(source.clone(), at(&target, to), &mut |_| {})?;
        rates.push(settings.keys as f64 / begin.elapsed().as_secs_f64());
    }
    std::fs::remove_dir_all(&target)?;
    let title = format!("{} to {}, verified, {} leaves", from.name(), to.name(), settings.keys);
    report.push(Row::at_least(GROUP, title, "leaves/s", &rates, TARGET_LEAVES));
    Ok(())
}

fn backups(settings: &Settings, kv: Kv, report: &mut Report) -> Result<()> {
    let db = Trellis::open_config(loaded(settings, kv)?)?;
    let file = settings.dir.join("copy.archive");
    let time = if settings.quick { Duration::from_millis(500) } else { WRITING_TIME };
    let [mut rates, mut plain, mut alone, mut beside, mut paced] = [const { Vec::new() }; 5];
    for round in 0..settings.rounds {
        settle_disk(&settings.dir)?;
        let (bytes, seconds) = backup(&db, &file)?;
        rates.push(bytes / seconds);
        settle_disk(&settings.dir)?;
        let begin = Instant::now();
        copy(&file, &settings.dir.join("copy.plain"))?;
        plain.push(bytes / begin.elapsed().as_secs_f64());
        settle_disk(&settings.dir)?;
        let pause = || {
            std::thread::sleep(time);
            Ok(())
        };
        alone.push(writing(&db, settings, round, pause)?);
        settle_disk(&settings.dir)?;
        let again = || {
            let begin = Instant::now();
            while begin.elapsed() < time {
                let (bytes, seconds) = backup(&db, &file)?;
                paced.push(bytes / seconds);
            }
            Ok(())
        };
        beside.push(writing(&db, settings, round, again)?);
    }
    db.close()?;
    for name in ["copy.archive", "copy.plain"] {
        std::fs::remove_file(settings.dir.join(name))?;
    }
    let title = format!("{} backup vs a plain copy", kv.name());
    let row = Row::ratio(GROUP, title, "MB/s", (&rates, &plain), Some(TARGET_BACKUP));
    report.push(row.note("100 MB/s suffice where the disk is fast"));
    let title = format!("{} {WRITERS} writers beside a backup vs alone", kv.name());
    report.push(Row::ratio(GROUP, title, "commits/s", (&beside, &alone), Some(TARGET_WRITERS)));
    let title = format!("{} backup beside {WRITERS} writers", kv.name());
    report.push(Row::at_least(GROUP, title, "MB/s", &paced, TARGET_PACED));
    Ok(())
}

/// Megabytes and seconds of a backup to a file, synced.
fn backup(db: &Trellis, file: &Path) -> Result<(f64, f64)> {
    let begin = Instant::now();
    let mut out = BufWriter::with_capacity(COPY_BYTES, File::create(file)?);
    db.backup(None)?.write_to(&mut out, &mut |_| {})?;
    out.into_inner().map_err(|error| error.to_string())?.sync_all()?;
    Ok((std::fs::metadata(file)?.len() as f64 / 1e6, begin.elapsed().as_secs_f64()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        to.write_all(part)?;
    }
    Ok(to.sync_all()?)
}

/// Commits a second of some writers while `work` runs.
fn writing(
    db: &Trellis,
    settings: &Settings,
    round: usize,
    work: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let keys = settings.keys;
    let begin = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let writer = |number: usize| {
            let (over, done, tree) = (&over, &done, db.tree());
            move || write(tree, keys, (round * WRITERS + number) as u64, over, done)
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
        let worked = work();
        over.store(true, Ordering::Release);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        worked
    });
    outcome?;
    Ok(done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

fn write(tree: &Tree, keys: usize, seed: u64, over: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let mut random = Random::new(seed + 1);
    while !over.load(Ordering::Acquire) {
        let path = TreePath::parse(&keys::path_text(random.below(keys)))?;
        tree.commit(Commit::set(path, Input::parse(&keys::value_json(&mut random))?))?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
