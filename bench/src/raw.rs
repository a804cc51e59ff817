//! The engines without Trellis: what they do by themselves, as well as they can.

use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::once;
use crate::raw_engine::RawEngine;
use crate::raw_redb::RawRedb;
use crate::raw_sled::RawSled;
use crate::raw_sqlite::RawSqlite;
use crate::settings::Settings;

/// Pairs of one transaction while loading.
const LOAD_PAIRS: usize = 10_000;

/// The engine with all keys in it.
pub(crate) fn loaded(settings: &Settings, kv: Kv) -> Result<Box<dyn RawEngine>> {
    loaded_with(settings, kv, "raw", &mut |engine| load(engine, settings.keys))
}

/// The engine with what `load` writes in it; `what` names the data.
pub(crate) fn loaded_with(
    settings: &Settings,
    kv: Kv,
    what: &str,
    load: &mut dyn FnMut(&mut dyn RawEngine) -> Result<()>,
) -> Result<Box<dyn RawEngine>> {
    let mark = if what == "raw" { "raw".to_owned() } else { format!("raw-{what}") };
    let name = format!("{mark}-{}-{}", kv.name(), settings.keys);
    let dir = settings.dir.join(&name);
    once(&dir, || {
        let begin = Instant::now();
        load(open(settings, kv, &dir)?.as_mut())?;
        eprintln!("{name}: loaded in {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    })?;
    open(settings, kv, &dir)
}

fn open(settings: &Settings, kv: Kv, dir: &Path) -> Result<Box<dyn RawEngine>> {
    let cache_bytes = settings.cache_bytes;
    Ok(match kv {
        Kv::Memory => return Err("the store in memory has no rival".into()),
        Kv::Redb => Box::new(RawRedb::open(&dir.join("raw.redb"), cache_bytes)?),
        Kv::Sqlite => Box::new(RawSqlite::open(&dir.join("raw.sqlite"), cache_bytes)?),
        Kv::Sled => Box::new(RawSled::open(&dir.join("raw.sled"), cache_bytes)?),
    })
}

fn load(engine: &mut dyn RawEngine, keys: usize) -> Result<()> {
    let mut random = Random::new(1);
    let users = (0..keys).map(keys::path_text);
    let subtree = (0..keys::SUBTREE_LEAVES).map(keys::subtree_path_text);
    let mut pairs = Vec::with_capacity(LOAD_PAIRS);
    for path in users.chain(subtree) {
        pairs.push((keys::stored(&path), keys::raw_value(&mut random)));
        if pairs.len() == LOAD_PAIRS {
            engine.commit(&pairs)?;
            pairs.clear();
        }
    }
    if pairs.is_empty() { Ok(()) } else { engine.commit(&pairs) }
}
