//! 64 writers on random keys of a large store, sustained, against the engine's own group commit
//! of the same keys and against Redis that syncs every write.
//!
//! Sustained: a quarter of each round is not counted, so that the overlay has reached its working
//! size; what is counted includes the store's share of the work. Between rounds the overlay is
//! brought into the store, off the clock, so that nobody works in another's round.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use trellis_tree::{Commit, Input, Path, Tree};

use crate::engine::loaded_tree;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::settle_disk;
use crate::measure::{Achieved, Client, Load, median};
use crate::raw_engine::{Pair, RawEngine};
use crate::redis::Redis;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::{Result, raw};

const GROUP: &str = "concurrent-writers";
const TARGET: f64 = 1.5;
const TARGET_REDIS: f64 = 1.0;
const THREADS: usize = 64;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let redis = match settings.alone {
        true => None,
        false => Redis::start(&settings.dir, settings.keys)?,
    };
    if redis.is_none() && !settings.alone {
        eprintln!("redis-server is not installed: its rows are left out");
    }
    for kv in settings.engines() {
        compare(settings, kv, redis.as_ref(), report)?;
    }
    Ok(())
}

fn compare(settings: &Settings, kv: Kv, redis: Option<&Redis>, report: &mut Report) -> Result<()> {
    let tree = loaded_tree(settings, kv, settings.writing.clone())?;
    let mut engine = raw::loaded(settings, kv)?;
    let load = Load {
        threads: THREADS,
        warm_up: Duration::from_secs_f64(settings.seconds / 4.0),
        measured: Duration::from_secs_f64(settings.seconds * 0.75),
    };
    let keys = settings.keys;
    let mut sides = [const { Vec::new() }; 3];
    let [of_raw, of_tree, of_redis] = &mut sides;
    let mut notes = Notes::default();
    for round in 0..settings.rounds {
        let seed = round as u64 + 1;
        if !settings.alone {
            settle_disk(&settings.dir)?;
            of_raw.push(raw_round(engine.as_mut(), &load, seed, keys)?);
        }
        settle_disk(&settings.dir)?;
        of_tree.push(tree_round(&tree, &load, seed, keys, &mut notes)?);
        if let Some(redis) = redis {
            settle_disk(&settings.dir)?;
            of_redis.push(redis.round(&load, seed, keys)?);
        }
        for (side, name) in [(&*of_raw, "rival"), (of_tree, "Trellis"), (of_redis, "Redis")] {
            if let Some(achieved) = side.last() {
                eprintln!("{} round {round}: {name} {achieved:.1?}", kv.name());
            }
        }
    }
    tree.close()?;
    push_rows(report, kv, &sides, &notes);
    Ok(())
}

fn push_rows(report: &mut Report, kv: Kv, sides: &[Vec<Achieved>; 3], notes: &Notes) {
    let rates = |side: &[Achieved]| side.iter().map(|it| it.per_second).collect::<Vec<_>>();
    let [of_raw, of_tree, of_redis] = sides;
    let words =
        format!("Trellis {}; rival {}; {}", latencies(of_tree), latencies(of_raw), notes.words());
    let name = format!("{} vs its own group commit", kv.name());
    let both = (&*rates(of_tree), &*rates(of_raw));
    report.push(Row::ratio(GROUP, name, "commits/s", both, Some(TARGET)).note(words));
    if !of_redis.is_empty() {
        let name = format!("{} vs Redis appendfsync always", kv.name());
        let both = (&*rates(of_tree), &*rates(of_redis));
        let row = Row::ratio(GROUP, name, "commits/s", both, Some(TARGET_REDIS));
        report.push(row.note(format!("rival {}", latencies(of_redis))));
    }
}

fn latencies(side: &[Achieved]) -> String {
    let of = |pick: fn(&Achieved) -> f64| median(&side.iter().map(pick).collect::<Vec<_>>());
    format!(
        "p50 {:.1} p99 {:.1} max {:.0} ms, slowest second {:.0}",
        of(|it| it.p50_ms),
        of(|it| it.p99_ms),
        of(|it| it.max_ms),
        of(|it| it.slowest_second)
    )
}

/// What shows whether the pipeline was at its bound.
#[derive(Debug, Default)]
struct Notes {
    overlay_peak_bytes: usize,
    batches: u64,
    flush_seconds: Vec<f64>,
    commits_per_flush: Vec<f64>,
}

impl Notes {
    fn words(&self) -> String {
        format!(
            "overlay peak {} MiB, {} batches, {:.0} commits a flush, {:.1} s to drain",
            self.overlay_peak_bytes >> 20,
            self.batches,
            median(&self.commits_per_flush),
            median(&self.flush_seconds)
        )
    }
}

fn tree_round(
    tree: &Tree,
    load: &Load,
    seed: u64,
    keys: usize,
    notes: &mut Notes,
) -> Result<Achieved> {
    let before = tree.stats()?;
    let peak = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let achieved = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let bytes = tree.stats().map_or(0, |stats| stats.overlay_bytes);
                peak.fetch_max(bytes, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let achieved = load.run(seed, &|_| {
            Ok(Box::new(|random: &mut Random| {
                let path = Path::parse(&keys::path_text(random.below(keys)))?;
                tree.commit(Commit::set(path, Input::parse(&keys::value_json(random))?))?;
                Ok(())
            }) as Client<'_>)
        });
        over.store(true, Ordering::Release);
        achieved
    })?;
    let after = tree.stats()?;
    let begin = Instant::now();
    tree.flush()?;
    notes.flush_seconds.push(begin.elapsed().as_secs_f64());
    notes.overlay_peak_bytes = notes.overlay_peak_bytes.max(peak.into_inner());
    notes.batches += after.batches - before.batches;
    let groups = (after.groups - before.groups).max(1);
    notes.commits_per_flush.push((after.commits - before.commits) as f64 / groups as f64);
    Ok(achieved)
}

type Request = (Pair, SyncSender<()>);

/// One committer with the engine to itself; each group is what waits when it comes back.
fn raw_round(engine: &mut dyn RawEngine, load: &Load, seed: u64, keys: usize) -> Result<Achieved> {
    let (sender, receiver) = mpsc::channel::<Request>();
    std::thread::scope(|scope| {
        let committer = scope.spawn(move || commit_groups(engine, &receiver));
        let achieved = load.run(seed, &|_| Ok(raw_client(sender.clone(), keys)));
        drop(sender);
        committer.join().map_err(|_| "the committer panicked")??;
        achieved
    })
}

fn raw_client(sender: Sender<Request>, keys: usize) -> Client<'static> {
    let (answer, answered) = mpsc::sync_channel(1);
    Box::new(move |random| {
        let key = keys::raw_key(random.below(keys));
        sender.send(((key, keys::raw_value(random)), answer.clone()))?;
        answered.recv()?;
        Ok(())
    })
}

fn commit_groups(engine: &mut dyn RawEngine, receiver: &Receiver<Request>) -> Result<()> {
    let mut pairs = Vec::new();
    let mut answers = Vec::new();
    while let Ok(first) = receiver.recv() {
        for (pair, answer) in std::iter::once(first).chain(receiver.try_iter()) {
            pairs.push(pair);
            answers.push(answer);
        }
        pairs.sort();
        engine.commit(&pairs)?;
        pairs.clear();
        for answer in answers.drain(..) {
            answer.send(())?;
        }
    }
    Ok(())
}
