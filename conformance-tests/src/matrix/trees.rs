//! Every store under the tree with every log, and the journal inside the store itself.

use std::path::Path;
use std::sync::Arc;

use trellis_engine_traits::{KvBackend, Result, StreamLog};

use super::combinations::{self, Combination};
use crate::tree::{Engines, Ground};
use crate::{Engine, Factory, Flag, Need};

/// The logs of their own that a tree is put on.
const LOGS: [&str; 2] = ["log-memory", "log-segment"];

type Store = Combination<dyn KvBackend>;
type Log = Combination<dyn StreamLog>;

/// Every store with every log.
pub(super) fn combinations() -> Vec<Combination<Ground>> {
    let logs = combinations::log();
    let mut all = Vec::new();
    for store in combinations::kv() {
        all.extend(LOGS.iter().map(|name| {
            let log = logs.iter().find(|log| log.factory.name() == *name);
            beside(&store, log.expect("a known log"))
        }));
        all.push(inside(&store));
    }
    all
}

fn on_disk<B: Engine + ?Sized>(factory: &Factory<B>) -> bool {
    factory.offered().contains(&Need::Disk)
}

/// Every store on disk with every log on disk, for children that are killed: `role` is what a
/// child is started as. The segments are small, so that trimming removes files all the time.
pub(super) fn for_children(role: &'static str) -> Vec<Combination<Ground>> {
    let mut logs = combinations::log();
    let small = logs.iter().position(|log| log.factory.name() == "log-segment-small");
    let mut small = logs.swap_remove(small.expect("a known log"));
    small.factory = small.factory.named("log-segment");
    let stores = combinations::kv().into_iter().filter(|store| on_disk(&store.factory));
    let all = stores.flat_map(|store| [beside(&store, &small), inside(&store)]);
    let with_child = |mut one: Combination<Ground>| {
        let name = one.factory.name().to_owned();
        one.factory = one.factory.child(move |dir| combinations::child_command(role, &name, dir));
        one
    };
    all.map(with_child).collect()
}

/// A store and a log of its own.
fn beside(store: &Store, log: &Log) -> Combination<Ground> {
    let name = format!("{}+{}", store.factory.name(), log.factory.name());
    let (kv, journal) = (store.factory.clone(), log.factory.clone());
    let factory = Factory::new(name.clone(), move |dir: &Path| {
        let (kv, journal, dir) = (kv.clone(), journal.clone(), dir.to_owned());
        let open = move || open_beside(|| kv.open(&dir), || journal.open(&dir));
        Ok(Arc::new(Ground::new(Arc::new(open))))
    });
    let disks = (on_disk(&store.factory), on_disk(&log.factory));
    let threads = store.factory.threads_allowed() + log.factory.threads_allowed();
    let mut factory = kind(factory, &name, disks.0 && disks.1).engine_threads(threads);
    if !disks.1 {
        let log = log.factory.clone();
        factory = faulty(factory, move |flag, dir| log.throw(flag, dir));
    }
    if !disks.0 && !disks.1 {
        let (kv, journal) = (store.factory.clone(), log.factory.clone());
        factory = factory.switch(Flag::LosePower, move |dir| {
            kv.throw(Flag::LosePower, dir);
            journal.throw(Flag::LosePower, dir);
        });
    }
    let (kv, journal) = (store.factory.clone(), log.factory.clone());
    let factory = factory.forget(move |dir| {
        kv.dir_is_gone(dir);
        journal.dir_is_gone(dir);
    });
    Combination { factory, compiled: store.compiled && log.compiled }
}

pub(super) fn open_beside(
    kv: impl Fn() -> Result<Arc<dyn KvBackend>>,
    log: impl Fn() -> Result<Arc<dyn StreamLog>>,
) -> Result<Engines> {
    let kv = kv()?;
    match log() {
        Ok(log) => Ok((kv, log)),
        Err(error) => {
            drop(kv.close());
            Err(error)
        }
    }
}

/// The journal in the store; the store's faults are the journal's.
fn inside(store: &Store) -> Combination<Ground> {
    let name = format!("{}+log-kv", store.factory.name());
    let kv = store.factory.clone();
    let factory = Factory::new(name.clone(), move |dir: &Path| {
        let (kv, dir) = (kv.clone(), dir.to_owned());
        let open = move || {
            let store = kv.open(&dir)?;
            let log = log_in(&store)?;
            Ok((store, log))
        };
        Ok(Arc::new(Ground::new(Arc::new(open))))
    });
    let disk = on_disk(&store.factory);
    let threads = store.factory.threads_allowed();
    let mut factory = kind(factory, &name, disk).engine_threads(threads);
    if !disk {
        let kv = store.factory.clone();
        factory = faulty(factory, move |flag, dir| kv.throw(flag, dir));
        let kv = store.factory.clone();
        factory = factory.switch(Flag::LosePower, move |dir| kv.throw(Flag::LosePower, dir));
    }
    let kv = store.factory.clone();
    let factory = factory.forget(move |dir| kv.dir_is_gone(dir));
    Combination { factory, compiled: store.compiled && cfg!(feature = "log-kv") }
}

#[cfg(feature = "log-kv")]
pub(super) fn log_in(store: &Arc<dyn KvBackend>) -> Result<Arc<dyn StreamLog>> {
    Ok(Arc::new(trellis_log_kv::KvLog::new(Arc::clone(store), false)?))
}

#[cfg(not(feature = "log-kv"))]
pub(super) fn log_in(_: &Arc<dyn KvBackend>) -> Result<Arc<dyn StreamLog>> {
    unreachable!("not compiled in")
}

/// The log under the server, where the stores differ and not the logs; the one with a reserve.
const SEGMENT_LOG: &str = "+log-segment";

fn kind(factory: Factory<Ground>, name: &str, all_on_disk: bool) -> Factory<Ground> {
    let segments = name.ends_with(SEGMENT_LOG);
    let factory = factory.offers(&[Need::Wire]);
    let factory = factory.offers(if segments { &[Need::SegmentLog] } else { &[] });
    // sled does not go on once it has met the end of the disk itself.
    let reserve = segments && !name.starts_with("kv-sled");
    let factory = factory.offers(if reserve { &[Need::Reserve] } else { &[] });
    if !all_on_disk {
        return factory.offers(&[Need::Volatile]);
    }
    factory.offers(&[Need::AllOnDisk])
}

fn faulty(
    factory: Factory<Ground>,
    throw: impl Fn(Flag, &Path) + Clone + Send + Sync + 'static,
) -> Factory<Ground> {
    let flush = throw.clone();
    factory
        .switch(Flag::FailFlush, move |dir| flush(Flag::FailFlush, dir))
        .switch(Flag::FailWrite, move |dir| throw(Flag::FailWrite, dir))
}
