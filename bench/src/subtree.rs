//! A subtree of 10,000 leaves as JSON against the engine's scan of the same keys.

use trellis_tree::{Path, Tree};

use crate::engine::{loaded_tree, update};
use crate::keys::{self, Random, SUBTREE, SUBTREE_LEAVES};
use crate::kv::Kv;
use crate::measure::rate;
use crate::point::reading_options;
use crate::raw_engine::RawEngine;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::{Result, raw};

const GROUP: &str = "subtree";
const TARGET: f64 = 0.5;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for kv in settings.engines() {
        let tree = loaded_tree(settings, kv, reading_options())?;
        let engine = raw::loaded(settings, kv)?;
        tree.flush()?;
        compare(settings, kv, (&tree, engine.as_ref()), "empty overlay", report)?;
        let mut random = Random::new(4);
        let every_tenth = (0..SUBTREE_LEAVES).step_by(10).map(keys::subtree_path_text);
        update(&tree, every_tenth, &mut random)?;
        compare(settings, kv, (&tree, engine.as_ref()), "a tenth in the overlay", report)?;
        tree.close()?;
    }
    Ok(())
}

fn compare(
    settings: &Settings,
    kv: Kv,
    (tree, engine): (&Tree, &dyn RawEngine),
    overlay: &str,
    report: &mut Report,
) -> Result<()> {
    let times = if settings.quick { 3 } else { 100 };
    let path = Path::parse(SUBTREE)?;
    let start = keys::stored(&format!("{SUBTREE}/"));
    let mut end = start.clone();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    let (mut ours, mut rival) = (Vec::new(), Vec::new());
    // The first round of each warms up.
    for round in 0..=settings.rounds {
        let of_raw = rate(|| {
            for _ in 0..times {
                let (pairs, _bytes) = engine.scan(&start, &end)?;
                if pairs != SUBTREE_LEAVES {
                    return Err("the scan missed something".into());
                }
            }
            Ok(times * SUBTREE_LEAVES)
        })?;
        let of_tree = rate(|| {
            for _ in 0..times {
                let json = tree.view()?.get_json(&path, usize::MAX)?;
                if std::hint::black_box(&json).len() < SUBTREE_LEAVES * keys::VALUE_BYTES {
                    return Err("the read missed something".into());
                }
            }
            Ok(times * SUBTREE_LEAVES)
        })?;
        if round > 0 {
            rival.push(of_raw);
            ours.push(of_tree);
        }
    }
    let name = format!("{}, {SUBTREE_LEAVES} leaves, {overlay}", kv.name());
    report.push(Row::ratio(GROUP, name, "leaves/s", (&ours, &rival), Some(TARGET)));
    Ok(())
}
