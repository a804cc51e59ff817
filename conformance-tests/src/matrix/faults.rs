//! Every store with every log, once more, for the family of faults: opened so that calls can be
//! made to fail, down to the files of the segment log.

use std::path::Path;
use std::sync::Arc;

use trellis_engine_traits::{KvBackend, Result, StreamLog};

use super::combinations::{self, Combination};
use super::trees::{log_in, open_beside};
use crate::faults::{FaultGround, Injector};
use crate::{Factory, Need};

type Store = Combination<dyn KvBackend>;
type Log = Combination<dyn StreamLog>;
type Open = dyn Fn(&Path, &Arc<Injector>) -> Result<crate::tree::Engines> + Send + Sync;

/// Every store with every log.
pub(super) fn combinations() -> Vec<Combination<FaultGround>> {
    let logs = combinations::log();
    let memory = logs.iter().find(|log| log.factory.name() == "log-memory").expect("a known log");
    let stores = combinations::kv();
    let three = |store| [beside(store, memory), on_segments(store), inside(store)];
    stores.iter().flat_map(three).collect()
}

fn ground(
    name: String,
    store: &Store,
    open: Arc<Open>,
    forget: impl Fn(&Path) + Clone + Send + Sync + 'static,
) -> Factory<FaultGround> {
    let make = move |dir: &Path| {
        let forget = Arc::new(forget.clone());
        Ok(Arc::new(FaultGround::new(dir, Arc::clone(&open), forget)))
    };
    Factory::new(name, make).engine_threads(store.factory.threads_allowed())
}

fn beside(store: &Store, log: &Log) -> Combination<FaultGround> {
    let name = format!("{}+{}", store.factory.name(), log.factory.name());
    let (kv, journal) = (store.factory.clone(), log.factory.clone());
    let open =
        move |dir: &Path, _: &Arc<Injector>| open_beside(|| kv.open(dir), || journal.open(dir));
    let (kv, journal) = (store.factory.clone(), log.factory.clone());
    let forget = move |dir: &Path| {
        kv.dir_is_gone(dir);
        journal.dir_is_gone(dir);
    };
    let factory = ground(name, store, Arc::new(open), forget);
    Combination { factory, compiled: store.compiled && log.compiled }
}

fn on_segments(store: &Store) -> Combination<FaultGround> {
    let name = format!("{}+log-segment", store.factory.name());
    let (kv, forgotten) = (store.factory.clone(), store.factory.clone());
    let open = move |dir: &Path, injector: &Arc<Injector>| {
        open_beside(|| kv.open(dir), || segments(dir, injector))
    };
    let forget = move |dir: &Path| forgotten.dir_is_gone(dir);
    let factory = ground(name, store, Arc::new(open), forget).offers(&[Need::FileFaults]);
    Combination { factory, compiled: store.compiled && cfg!(feature = "log-segment") }
}

/// Small segments, so that new ones and trims are met.
#[cfg(feature = "log-segment")]
fn segments(dir: &Path, injector: &Arc<Injector>) -> Result<Arc<dyn StreamLog>> {
    use trellis_log_segment::{SegmentLog, SegmentOptions};
    let options = SegmentOptions::default().segment_bytes(12 << 10);
    let files = crate::faults::faulty_files(injector);
    Ok(Arc::new(SegmentLog::open_with(files, &dir.join("streams"), options)?))
}

#[cfg(not(feature = "log-segment"))]
fn segments(_: &Path, _: &Arc<Injector>) -> Result<Arc<dyn StreamLog>> {
    unreachable!("not compiled in")
}

fn inside(store: &Store) -> Combination<FaultGround> {
    let name = format!("{}+log-kv", store.factory.name());
    let (kv, forgotten) = (store.factory.clone(), store.factory.clone());
    let open = move |dir: &Path, _: &Arc<Injector>| {
        let store = kv.open(dir)?;
        let log = log_in(&store)?;
        Ok((store, log))
    };
    let factory = ground(name, store, Arc::new(open), move |dir: &Path| forgotten.dir_is_gone(dir));
    Combination { factory, compiled: store.compiled && cfg!(feature = "log-kv") }
}
