//! What a database costs as it grows: durable commits and point reads at each size against those
//! at the smallest, and its files after random updates.
//!
//! Reads and commits are taken at random keys of the whole, one at a time, with the product's own
//! options and the cache of `--cache-mib`.

use std::time::{Duration, Instant};

use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};

use crate::Result;
use crate::engine::{loaded_tree_of, update};
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::settle_disk;
use crate::measure::{median, rate_for};
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "growth";
/// How much slower the largest may be than the smallest, as a ratio of rates.
const TARGET_RATE: f64 = 1.0 / 1.5;
const TARGET_DISK: f64 = 2.5;
const SIZES: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const QUICK_SIZES: [usize; 2] = [2_000, 20_000];
/// Leaves of one commit of the random updates.
const UPDATE_LEAVES: usize = 200;
/// Time for one figure of one round.
const FIGURE_TIME: Duration = Duration::from_secs(5);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let sizes: &[usize] = if settings.quick { &QUICK_SIZES } else { &SIZES };
    for kv in settings.engines() {
        let mut smallest: Option<[Vec<f64>; 2]> = None;
        for size in sizes {
            let tree = loaded_tree_of(settings, kv, *size, TreeOptions::default())?;
            let rates = measure(settings, &tree, *size)?;
            let base = smallest.get_or_insert_with(|| rates.clone());
            let names = [("durable commits", "commits/s"), ("point reads", "gets/s")];
            for ((what, unit), (rates, base)) in names.into_iter().zip(rates.iter().zip(&*base)) {
                let title = format!("{} {what}, {size} leaves", kv.name());
                report.push(Row::ratio(GROUP, title, unit, (rates, base), Some(TARGET_RATE)));
            }
            disk(settings, kv, &tree, *size, report)?;
            tree.close()?;
        }
    }
    Ok(())
}

/// Commits and reads a second, by round.
fn measure(settings: &Settings, tree: &Tree, size: usize) -> Result<[Vec<f64>; 2]> {
    let time = if settings.quick { Duration::from_millis(200) } else { FIGURE_TIME };
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..settings.rounds {
        let mut random = Random::new(round as u64 + 7);
        settle_disk(&settings.dir)?;
        rates[0].push(rate_for(time, || {
            let path = Path::parse(&keys::path_text(random.below(size)))?;
            let value = Input::parse(&keys::value_json(&mut random))?;
            tree.commit(Commit::set(path, value))?;
            Ok(())
        })?);
        tree.flush()?;
        let mut out = Vec::new();
        rates[1].push(rate_for(time, || {
            let path = Path::parse(&keys::path_text(random.below(size)))?;
            out.clear();
            tree.view()?.append_json(&path, usize::MAX, &mut out)?;
            Ok(())
        })?);
    }
    Ok(rates)
}

/// Random updates for the time of `--seconds`, then the files against what they hold.
fn disk(settings: &Settings, kv: Kv, tree: &Tree, size: usize, report: &mut Report) -> Result<()> {
    let mut random = Random::new(size as u64);
    let (begin, mut updates) = (Instant::now(), 0_usize);
    while begin.elapsed() < Duration::from_secs_f64(settings.seconds) {
        let paths: std::collections::BTreeSet<String> =
            (0..UPDATE_LEAVES).map(|_| keys::path_text(random.below(size))).collect();
        updates += paths.len();
        update(tree, paths.into_iter(), &mut random)?;
    }
    tree.flush()?;
    let stats = tree.stats()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let factor = stats.disk_bytes as f64 / stats.live_bytes.max(1) as f64;
    let words = format!(
        "{:.0} MiB of files, {:.0} MiB live, after {updates} updates in {:.0} s",
        mib(stats.disk_bytes),
        mib(stats.live_bytes),
        settings.seconds
    );
    let title = format!("{} files against live bytes, {size} leaves", kv.name());
    let row = Row::bound(GROUP, title, "x", &[median(&[factor])], Some(TARGET_DISK));
    report.push(row.note(words));
    Ok(())
}
