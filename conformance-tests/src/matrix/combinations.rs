//! The engines of this repository as factories, compiled in or not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use trellis_engine_traits::{KvBackend, Result, StreamId, StreamLog};

use crate::{Engine, Factory, Flag, Need, kv, log};

/// An engine, or several on each other.
pub(crate) struct Combination<B: Engine + ?Sized> {
    pub(crate) factory: Factory<B>,
    /// Whether this build contains it; the ledger lists it all the same.
    pub(crate) compiled: bool,
}

/// How an engine is opened in a directory, if it is compiled in.
type Open<B> = Option<fn(&Path) -> Result<Arc<B>>>;

const ROLE: &str = "TRELLIS_CHILD_ROLE";
const CHILD: &str = "TRELLIS_CHILD_ENGINE";
const CHILD_DIR: &str = "TRELLIS_CHILD_DIR";
/// The child of the crash cases of single engines.
const ENGINE_ROLE: &str = "engine";

/// An engine on disk.
fn on_disk<B: Engine + ?Sized>(
    name: &'static str,
    optional: &[Need],
    open: Open<B>,
) -> Combination<B> {
    let factory = Factory::new(name, move |dir| open.expect("it is compiled in")(dir))
        .offers(&[Need::Disk])
        .offers(optional)
        .child(move |dir| child_command(ENGINE_ROLE, name, dir));
    Combination { factory, compiled: open.is_some() }
}

/// This program once more, as the child of a crash case; found through `/proc`, so that a build
/// that replaces the file during the run does no harm.
pub(super) fn child_command(role: &str, name: &str, dir: &Path) -> Command {
    let mut command = Command::new(format!("/proc/{}/exe", std::process::id()));
    command.env(ROLE, role).env(CHILD, name).env(CHILD_DIR, dir);
    command
}

/// What this process is the child of, if it is one: role, engine, directory.
pub(super) fn child_role() -> Option<(String, String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    let name = std::env::var(CHILD).expect("the parent names the engine");
    let dir = std::env::var_os(CHILD_DIR).expect("the parent names the directory");
    Some((role, name, PathBuf::from(dir)))
}

/// Plays the child of a crash case of a store or a log.
///
/// # Panics
/// When the engine breaks its contract.
pub(super) fn engine_child(name: &str, dir: &Path) {
    let stores = self::kv();
    if let Some(store) = stores.iter().find(|one| one.factory.name() == name) {
        return match store.factory.open(dir) {
            Ok(store) => kv::crash_child(&*store),
            Err(error) => crate::child::say(&format!("open-failed {}", error.kind())),
        };
    }
    let logs = self::log();
    let log = logs.iter().find(|one| one.factory.name() == name).expect("a known combination");
    match log.factory.open(dir) {
        Ok(log) => log::crash_child(&*log),
        Err(error) => crate::child::say(&format!("open-failed {}", error.kind())),
    }
}

/// One disk in memory for each directory.
#[derive(Clone)]
pub(super) struct Disks<D>(Arc<Mutex<HashMap<PathBuf, D>>>);

impl<D: Clone + Default> Disks<D> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn of(&self, dir: &Path) -> D {
        let mut disks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        disks.entry(dir.to_owned()).or_default().clone()
    }

    fn forget(&self, dir: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
    }
}

/// A store in memory, opened by `open` on a disk that can lose power and fail.
pub(super) fn kv_in_memory<F>(name: &str, open: F) -> kv::Factory
where
    F: Fn(&trellis_kv_memory::MemoryDisk) -> Result<Arc<dyn KvBackend>> + Send + Sync + 'static,
{
    use trellis_kv_memory::{Fault, MemoryDisk};
    let disks = Disks::<MemoryDisk>::new();
    let [opened, powered, flushed, written, forgotten] = std::array::from_fn(|_| disks.clone());
    Factory::new(name, move |dir| open(&opened.of(dir)))
        .offers(&[Need::Volatile])
        .switch(Flag::LosePower, move |dir| powered.of(dir).lose_power())
        .switch(Flag::FailFlush, move |dir| flushed.of(dir).fail_once(Fault::Flush))
        .switch(Flag::FailWrite, move |dir| written.of(dir).fail_once(Fault::Commit))
        .forget(move |dir| forgotten.forget(dir))
}

/// A log in memory, opened by `open` on a disk that can lose power, fail and be damaged.
pub(super) fn log_in_memory<F>(name: &str, open: F) -> log::Factory
where
    F: Fn(&trellis_log_memory::MemoryDisk) -> Result<Arc<dyn StreamLog>> + Send + Sync + 'static,
{
    use trellis_log_memory::{Fault, MemoryDisk};
    let disks = Disks::<MemoryDisk>::new();
    let [opened, powered, flushed, written, damaged, forgotten] =
        std::array::from_fn(|_| disks.clone());
    Factory::new(name, move |dir| open(&opened.of(dir)))
        .offers(&[Need::Volatile])
        .switch(Flag::LosePower, move |dir| powered.of(dir).lose_power())
        .switch(Flag::FailFlush, move |dir| flushed.of(dir).fail_once(Fault::Flush))
        .switch(Flag::FailWrite, move |dir| written.of(dir).fail_once(Fault::Append))
        .damage(move |dir, stream, offset| {
            StreamId::new(stream).is_ok_and(|stream| damaged.of(dir).damage(&stream, offset))
        })
        .forget(move |dir| forgotten.forget(dir))
}

/// The store in memory, with every switch.
#[must_use]
pub fn memory_kv() -> kv::Factory {
    kv_in_memory("kv-memory", |disk| Ok(Arc::new(trellis_kv_memory::MemoryKv::on(disk)?)))
}

/// The log in memory, with every switch.
#[must_use]
pub fn memory_log() -> log::Factory {
    log_in_memory("log-memory", |disk| Ok(Arc::new(trellis_log_memory::MemoryLog::on(disk)?)))
}

/// The log on the store in memory; the store's faults are the log's.
fn log_on_memory_store() -> Combination<dyn StreamLog> {
    #[cfg(feature = "log-kv")]
    let (open, compiled) = (
        |disk: &trellis_kv_memory::MemoryDisk| -> Result<Arc<dyn StreamLog>> {
            log_on(Arc::new(trellis_kv_memory::MemoryKv::on(disk)?))
        },
        true,
    );
    #[cfg(not(feature = "log-kv"))]
    let (open, compiled) = (
        |_: &trellis_kv_memory::MemoryDisk| -> Result<Arc<dyn StreamLog>> {
            unreachable!("not compiled in")
        },
        false,
    );
    use trellis_kv_memory::{Fault, MemoryDisk};
    let disks = Disks::<MemoryDisk>::new();
    let [opened, powered, flushed, written, forgotten] = std::array::from_fn(|_| disks.clone());
    let factory = Factory::new("log-kv+kv-memory", move |dir| open(&opened.of(dir)))
        .offers(&[Need::Volatile])
        .switch(Flag::LosePower, move |dir| powered.of(dir).lose_power())
        .switch(Flag::FailFlush, move |dir| flushed.of(dir).fail_once(Fault::Flush))
        .switch(Flag::FailWrite, move |dir| written.of(dir).fail_once(Fault::Commit))
        .forget(move |dir| forgotten.forget(dir));
    Combination { factory, compiled }
}

#[cfg(feature = "log-kv")]
fn log_on(store: Arc<dyn KvBackend>) -> Result<Arc<dyn StreamLog>> {
    Ok(Arc::new(trellis_log_kv::KvLog::new(store, true)?))
}

/// `Some` of a way to open an engine if its feature is on.
macro_rules! opened {
    ($feature:literal, $kind:ty, |$dir:ident| $open:expr) => {{
        #[cfg(feature = $feature)]
        let open: Open<$kind> = Some(|$dir| $open);
        #[cfg(not(feature = $feature))]
        let open: Open<$kind> = None;
        open
    }};
}

#[cfg(feature = "kv-redb")]
fn redb(dir: &Path) -> Result<Arc<dyn KvBackend>> {
    Ok(Arc::new(trellis_kv_redb::RedbKv::open(&dir.join("store.redb"), Default::default())?))
}

#[cfg(feature = "kv-sqlite")]
fn sqlite(dir: &Path) -> Result<Arc<dyn KvBackend>> {
    Ok(Arc::new(trellis_kv_sqlite::SqliteKv::open(&dir.join("store.sqlite"), Default::default())?))
}

#[cfg(feature = "kv-sled")]
fn sled(dir: &Path) -> Result<Arc<dyn KvBackend>> {
    Ok(Arc::new(trellis_kv_sled::SledKv::open(&dir.join("store.sled"), Default::default())?))
}

#[cfg(feature = "log-segment")]
fn segments(dir: &Path, segment_bytes: Option<u64>) -> Result<Arc<dyn StreamLog>> {
    use trellis_log_segment::{SegmentLog, SegmentOptions};
    let options = SegmentOptions::default();
    let options = segment_bytes.map_or(options, |bytes| options.segment_bytes(bytes));
    Ok(Arc::new(SegmentLog::open(dir.join("streams"), options)?))
}

/// Every store.
pub(crate) fn kv() -> Vec<Combination<dyn KvBackend>> {
    let mut sled_store =
        on_disk("kv-sled", &[], opened!("kv-sled", dyn KvBackend, |dir| sled(dir)));
    // sled has one pool of I/O threads for all its stores, with no end but the process's: seven,
    // and under load more, up to 128.
    sled_store.factory = sled_store.factory.engine_threads(128);
    vec![
        Combination { factory: memory_kv(), compiled: true },
        on_disk("kv-redb", &[], opened!("kv-redb", dyn KvBackend, |dir| redb(dir))),
        on_disk(
            "kv-sqlite",
            &[Need::ReclaimDisk],
            opened!("kv-sqlite", dyn KvBackend, |dir| sqlite(dir)),
        ),
        sled_store,
    ]
}

/// Every log; the one on a store with several of them.
pub(crate) fn log() -> Vec<Combination<dyn StreamLog>> {
    #[cfg(all(feature = "log-kv", feature = "kv-redb"))]
    let on_redb: Open<dyn StreamLog> = Some(|dir| log_on(redb(dir)?));
    #[cfg(not(all(feature = "log-kv", feature = "kv-redb")))]
    let on_redb: Open<dyn StreamLog> = None;
    #[cfg(all(feature = "log-kv", feature = "kv-sqlite"))]
    let on_sqlite: Open<dyn StreamLog> = Some(|dir| log_on(sqlite(dir)?));
    #[cfg(not(all(feature = "log-kv", feature = "kv-sqlite")))]
    let on_sqlite: Open<dyn StreamLog> = None;
    let segment = opened!("log-segment", dyn StreamLog, |dir| segments(dir, None));
    let small = opened!("log-segment", dyn StreamLog, |dir| segments(dir, Some(64 << 10)));
    vec![
        Combination { factory: memory_log(), compiled: true },
        on_disk("log-segment", &[], segment),
        on_disk("log-segment-small", &[], small),
        log_on_memory_store(),
        on_disk("log-kv+kv-redb", &[], on_redb),
        on_disk("log-kv+kv-sqlite", &[], on_sqlite),
    ]
}
