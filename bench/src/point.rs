//! Gets of random keys through the library against the engine's own, each in a view of its own
//! and 256 in one view; with an empty overlay and with a tenth of the keys in it.

use std::time::Duration;

use trellis_tree::{Path, Tree, TreeOptions};

use crate::engine::{loaded_tree, update};
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::measure::rate;
use crate::raw_engine::RawEngine;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::{Result, raw};

const GROUP: &str = "point-reads";
const TARGET: f64 = 0.7;
const GETS_PER_VIEW: usize = 256;
/// The share of the keys that the full overlay holds.
const OVERLAY_SHARE: usize = 10;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for kv in settings.engines() {
        let tree = loaded_tree(settings, kv, reading_options())?;
        let engine = raw::loaded(settings, kv)?;
        let bench = Bench { settings, kv, tree, engine };
        bench.tree.flush()?;
        bench.warm_up()?;
        bench.compare("empty overlay", report)?;
        let mut random = Random::new(3);
        let tenth: std::collections::BTreeSet<usize> =
            (0..settings.keys / OVERLAY_SHARE).map(|_| random.below(settings.keys)).collect();
        update(&bench.tree, tenth.iter().map(|number| keys::path_text(*number)), &mut random)?;
        let mib = bench.tree.stats()?.overlay_bytes as f64 / f64::from(1 << 20);
        bench.compare(&format!("overlay of {} keys, {mib:.0} MiB", tenth.len()), report)?;
        bench.tree.close()?;
    }
    Ok(())
}

/// An overlay that stays: nothing is applied while gets are timed.
pub(crate) fn reading_options() -> TreeOptions {
    TreeOptions {
        overlay_bytes_max: 512 << 20,
        apply_after: Duration::from_secs(3_600),
        ..TreeOptions::default()
    }
}

struct Bench<'a> {
    settings: &'a Settings,
    kv: Kv,
    tree: Tree,
    engine: Box<dyn RawEngine>,
}

impl Bench<'_> {
    /// Both caches have seen every page.
    fn warm_up(&self) -> Result<()> {
        self.engine.scan(b"", b"\xff")?;
        let keys: Vec<Vec<u8>> = (0..self.settings.keys).step_by(7).map(keys::raw_key).collect();
        let mut out = Vec::new();
        self.engine.get_all(&keys, &mut out)?;
        let view = self.tree.view()?;
        for number in (0..self.settings.keys).step_by(7) {
            out.clear();
            view.append_json(&Path::parse(&keys::path_text(number))?, usize::MAX, &mut out)?;
        }
        Ok(())
    }

    fn compare(&self, overlay: &str, report: &mut Report) -> Result<()> {
        let gets = if self.settings.quick { 2_560 } else { 51_200 };
        let mut rates = [const { Vec::new() }; 4];
        for round in 0..self.settings.rounds {
            let mut random = Random::new(100 + round as u64);
            let numbers: Vec<usize> = (0..gets).map(|_| random.below(self.settings.keys)).collect();
            let raw: Vec<Vec<u8>> = numbers.iter().map(|it| keys::raw_key(*it)).collect();
            let paths = numbers.iter().map(|it| Path::parse(&keys::path_text(*it)));
            let paths = paths.collect::<std::result::Result<Vec<_>, _>>()?;
            let [raw_own, tree_own, raw_shared, tree_shared] = &mut rates;
            raw_own.push(rate(|| self.raw_own(&raw))?);
            tree_own.push(rate(|| self.tree_own(&paths))?);
            raw_shared.push(rate(|| self.raw_shared(&raw))?);
            tree_shared.push(rate(|| self.tree_shared(&paths))?);
        }
        let [raw_own, tree_own, raw_shared, tree_shared] = &rates;
        let kv = self.kv.name();
        let name = format!("{kv}, a view per get, {overlay}");
        report.push(Row::ratio(GROUP, name, "gets/s", (tree_own, raw_own), Some(TARGET)));
        let name = format!("{kv}, {GETS_PER_VIEW} gets per view, {overlay}");
        report.push(Row::ratio(GROUP, name, "gets/s", (tree_shared, raw_shared), Some(TARGET)));
        Ok(())
    }

    fn raw_own(&self, keys: &[Vec<u8>]) -> Result<usize> {
        self.engine.get_each(keys, &mut Vec::new())?;
        Ok(keys.len())
    }

    fn raw_shared(&self, keys: &[Vec<u8>]) -> Result<usize> {
        let mut out = Vec::new();
        for some in keys.chunks(GETS_PER_VIEW) {
            self.engine.get_all(some, &mut out)?;
        }
        Ok(keys.len())
    }

    fn tree_own(&self, paths: &[Path]) -> Result<usize> {
        for path in paths {
            let json = self.tree.view()?.get_json(path, usize::MAX)?;
            check(&json)?;
        }
        Ok(paths.len())
    }

    fn tree_shared(&self, paths: &[Path]) -> Result<usize> {
        for some in paths.chunks(GETS_PER_VIEW) {
            let view = self.tree.view()?;
            for path in some {
                check(&view.get_json(path, usize::MAX)?)?;
            }
        }
        Ok(paths.len())
    }
}

fn check(json: &[u8]) -> Result<()> {
    if std::hint::black_box(json).len() == keys::VALUE_BYTES + 2 {
        Ok(())
    } else {
        Err("a get found something else".into())
    }
}
