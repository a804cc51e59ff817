//! What the cases of power loss and damage are shown on: logs alone, and stores with journals.

use std::path::Path;
use std::sync::Arc;

use trellis_engine_traits::{KvBackend, Result, StreamLog};

use super::combinations::Combination;
use crate::power::{Place, Stand};
use crate::tree::Engines;
use crate::{Factory, Need};

type OpenStore = fn(&Place) -> Result<Arc<dyn KvBackend>>;
type OpenLog = fn(&Place) -> Result<Arc<dyn StreamLog>>;

/// Every stand.
pub(super) fn combinations() -> Vec<Combination<Stand>> {
    const RECORDED: Need = Need::Recorded;
    vec![
        alone("log-segment", cfg!(feature = "log-segment"), segments),
        alone("log-kv+kv-redb", cfg!(all(feature = "log-kv", feature = "kv-redb")), log_in_redb),
        pair("kv-memory+log-segment", &[RECORDED], true, memory),
        pair("kv-redb+log-segment", &[RECORDED, Need::Damage], cfg!(feature = "kv-redb"), redb),
        journal_in_redb(),
        pair("kv-sqlite+log-segment", &[Need::Damage], cfg!(feature = "kv-sqlite"), sqlite),
        pair("kv-sled+log-segment", &[Need::Damage], cfg!(feature = "kv-sled"), sled),
    ]
}

fn alone(name: &str, compiled: bool, open: OpenLog) -> Combination<Stand> {
    let factory = Factory::new(name, move |dir: &Path| Ok(Arc::new(Stand::log(dir, open))));
    let factory = factory.offers(&[Need::Recorded, Need::LogAlone, Need::Damage]);
    Combination { factory, compiled }
}

/// A store with its journal in segments.
fn pair(name: &str, offers: &[Need], compiled: bool, store: OpenStore) -> Combination<Stand> {
    let open = move |place: &Place| {
        let kv = store(place)?;
        match segments(place) {
            Ok(log) => Ok((kv, log)),
            Err(error) => {
                drop(kv.close());
                Err(error)
            }
        }
    };
    let factory = Factory::new(name, move |dir: &Path| Ok(Arc::new(Stand::tree(dir, open))));
    let factory = factory.offers(&[Need::TreeAbove]).offers(offers).engine_threads(128);
    Combination { factory, compiled: compiled && cfg!(feature = "log-segment") }
}

/// redb with the journal in it.
fn journal_in_redb() -> Combination<Stand> {
    let open = |place: &Place| -> Result<Engines> {
        let kv = redb(place)?;
        let log = log_in(&kv)?;
        Ok((kv, log))
    };
    let name = "kv-redb+log-kv";
    let factory = Factory::new(name, move |dir: &Path| Ok(Arc::new(Stand::tree(dir, open))));
    let factory = factory.offers(&[Need::TreeAbove, Need::Recorded, Need::Damage]);
    Combination { factory, compiled: cfg!(all(feature = "log-kv", feature = "kv-redb")) }
}

fn memory(_: &Place) -> Result<Arc<dyn KvBackend>> {
    Ok(Arc::new(trellis_kv_memory::MemoryKv::new()))
}

/// A function that opens an engine, or says that this build lacks it.
macro_rules! opens {
    ($name:ident, $kind:ty, $feature:meta, |$place:ident| $open:expr) => {
        #[cfg($feature)]
        fn $name($place: &Place) -> Result<Arc<$kind>> {
            $open
        }

        #[cfg(not($feature))]
        fn $name(_: &Place) -> Result<Arc<$kind>> {
            unreachable!("not compiled in")
        }
    };
}

opens!(segments, dyn StreamLog, feature = "log-segment", |place| {
    use trellis_log_segment::{SegmentLog, SegmentOptions};
    let options = SegmentOptions::default().segment_bytes(place.segment_bytes);
    let log = SegmentLog::open_with(Arc::new(place.medium.clone()), Path::new("/log"), options)?;
    Ok(Arc::new(log))
});

opens!(redb, dyn KvBackend, feature = "kv-redb", |place| {
    use trellis_kv_redb::{RedbKv, RedbOptions};
    let options = RedbOptions { cache_bytes: 1 << 20, ..RedbOptions::default() };
    // As `RedbKv::open` does: whole before it gets its name, and the name synced at each open.
    let (path, unfinished) = (Path::new("/store.redb"), Path::new("/store.redb.new"));
    let is_new = !place.medium.has(path);
    let storage = place.medium.redb_file(if is_new { unfinished } else { path }, is_new);
    let kv = RedbKv::open_with(storage, options)?;
    if is_new {
        place.medium.rename_file(unfinished, path);
    }
    place.medium.sync_directory(Path::new("/"));
    Ok(Arc::new(kv))
});

opens!(sqlite, dyn KvBackend, feature = "kv-sqlite", |place| {
    let path = place.dir.join("store.sqlite");
    Ok(Arc::new(trellis_kv_sqlite::SqliteKv::open(&path, Default::default())?))
});

opens!(sled, dyn KvBackend, feature = "kv-sled", |place| {
    let path = place.dir.join("store.sled");
    Ok(Arc::new(trellis_kv_sled::SledKv::open(&path, Default::default())?))
});

opens!(log_in_redb, dyn StreamLog, all(feature = "log-kv", feature = "kv-redb"), |place| {
    Ok(Arc::new(trellis_log_kv::KvLog::new(redb(place)?, true)?))
});

#[cfg(feature = "log-kv")]
fn log_in(store: &Arc<dyn KvBackend>) -> Result<Arc<dyn StreamLog>> {
    Ok(Arc::new(trellis_log_kv::KvLog::new(Arc::clone(store), false)?))
}

#[cfg(not(feature = "log-kv"))]
fn log_in(_: &Arc<dyn KvBackend>) -> Result<Arc<dyn StreamLog>> {
    unreachable!("not compiled in")
}
