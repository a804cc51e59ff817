//! URL scheme -> engine: the one place of the product that names the backends.
//!
//! Invariants:
//! 1. One line of the table and one `cfg` arm for each backend; nothing registers itself.
//! 2. A URL is checked whole before anything is created: unknown schemes, engines that the build
//!    does not contain and missing paths fail with the remedy, and leave no file behind.

use std::path::Path;
use std::sync::Arc;

use trellis_engine_traits::{Error, ErrorKind, KvBackend, Result, StreamLog};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;

use crate::engine_url::EngineUrl;

/// What the registry knows of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Engine {
    scheme: &'static str,
    feature: &'static str,
    compiled_in: bool,
    /// What its URL needs after the colon.
    argument: Argument,
    /// Why one should think twice.
    pub(crate) caution: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    Nothing,
    File,
    Directory,
    /// Nothing, or the URL of a store.
    Store,
}

impl Engine {
    const fn always(scheme: &'static str, argument: Argument) -> Self {
        Self { scheme, feature: "", compiled_in: true, argument, caution: None }
    }

    const fn with(
        scheme: &'static str,
        feature: &'static str,
        compiled_in: bool,
        argument: Argument,
    ) -> Self {
        Self { scheme, feature, compiled_in, argument, caution: None }
    }

    const fn cautioned(mut self, caution: &'static str) -> Self {
        self.caution = Some(caution);
        self
    }
}

const STORES: [Engine; 4] = [
    Engine::always("memory", Argument::Nothing),
    Engine::with("redb", "kv-redb", cfg!(feature = "kv-redb"), Argument::File),
    Engine::with("sqlite", "kv-sqlite", cfg!(feature = "kv-sqlite"), Argument::File),
    Engine::with("sled", "kv-sled", cfg!(feature = "kv-sled"), Argument::Directory)
        .cautioned("sled 0.34 is no longer maintained: an experimental store"),
];

const LOGS: [Engine; 3] = [
    Engine::always("memory", Argument::Nothing),
    Engine::with("segment", "log-segment", cfg!(feature = "log-segment"), Argument::Directory),
    Engine::with("kv", "log-kv", cfg!(feature = "log-kv"), Argument::Store),
];

/// A checked choice of store and journal; nothing is opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) kv: EngineUrl,
    pub(crate) log: EngineUrl,
    /// The store of a `kv:STORE-URL` journal.
    log_store: Option<EngineUrl>,
    pub(crate) cautions: Vec<&'static str>,
}

/// The engines of a database, open.
#[derive(Debug)]
pub(crate) struct Engines {
    pub(crate) kv: Arc<dyn KvBackend>,
    pub(crate) log: Arc<dyn StreamLog>,
}

impl Engines {
    /// Closes the journal, then the store that may hold it; answers the first failure.
    pub(crate) fn close(&self) -> Result<()> {
        let log = self.log.close();
        let kv = self.kv.close();
        log.and(kv)
    }
}

/// A store and a journal, each open or not; no journal where it is in a store that is not.
pub(crate) type OpenedApart = (Result<Arc<dyn KvBackend>>, Option<Result<Arc<dyn StreamLog>>>);

impl Choice {
    /// Checks the URLs of a configuration.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed URL or an unknown scheme; `Unsupported` for an engine that
    /// this build does not contain, naming the feature, and for any `vfs` but `memory:`.
    pub(crate) fn new(kv: &str, log: &str, vfs: &str) -> Result<Self> {
        let kv = EngineUrl::parse("kv", kv)?;
        let log = EngineUrl::parse("log", log)?;
        let mut cautions = Vec::from_iter(find("kv", "store", &STORES, &kv)?.caution);
        cautions.extend(find("log", "journal", &LOGS, &log)?.caution);
        let log_store = match (log.scheme(), log.rest()) {
            ("kv", "") | ("memory" | "segment", _) => None,
            (_, store) => {
                let store = EngineUrl::parse("log", store)?;
                cautions.extend(find("log", "store", &STORES, &store)?.caution);
                if store == kv {
                    let message = "the journal names the tree's own store; write log = \"kv:\"";
                    return Err(Error::new(ErrorKind::InvalidInput, message).operation("open"));
                }
                Some(store)
            }
        };
        let vfs = EngineUrl::parse("vfs", vfs)?;
        if (vfs.scheme(), vfs.rest()) != ("memory", "") {
            let message = format!("vfs = \"{vfs}\": files are not offered yet; leave `vfs` out");
            return Err(Error::new(ErrorKind::Unsupported, message).operation("open"));
        }
        cautions.dedup();
        Ok(Self { kv, log, log_store, cautions })
    }

    /// Whether neither store nor journal has files.
    pub(crate) fn is_in_memory(&self) -> bool {
        let memory = |url: &EngineUrl| url.scheme() == "memory";
        match &self.log_store {
            Some(store) => memory(&self.kv) && memory(store),
            None => memory(&self.kv) && matches!(self.log.scheme(), "memory" | "kv"),
        }
    }

    /// Opens store and journal each by itself, so that damage to one leaves the other.
    pub(crate) fn open_apart(&self, data: &Path, cache_bytes: Option<usize>) -> OpenedApart {
        let kv = open_kv(&self.kv, data, cache_bytes);
        let log = match &kv {
            Ok(kv) => Some(self.open_log(kv, data)),
            // A journal in a store that does not open.
            Err(_) if self.journal_is_in_store() => None,
            Err(_) => {
                let nothing: Arc<dyn KvBackend> = Arc::new(MemoryKv::new());
                Some(self.open_log(&nothing, data))
            }
        };
        (kv, log)
    }

    /// Whether the journal is in the tree's own store.
    pub(crate) fn journal_is_in_store(&self) -> bool {
        self.log.scheme() == "kv" && self.log_store.is_none()
    }

    /// Opens store and journal; relative paths begin in `data`.
    pub(crate) fn open(&self, data: &Path, cache_bytes: Option<usize>) -> Result<Engines> {
        let kv = open_kv(&self.kv, data, cache_bytes)?;
        match self.open_log(&kv, data) {
            Ok(log) => Ok(Engines { kv, log }),
            Err(error) => {
                // The journal's error is the one to report; the store holds nothing new.
                if let Err(closing) = kv.close() {
                    tracing::warn!(%closing, "closing the store after the journal failed to open");
                }
                Err(error)
            }
        }
    }

    #[allow(unused_variables, reason = "which are used depends on the features")]
    fn open_log(&self, kv: &Arc<dyn KvBackend>, data: &Path) -> Result<Arc<dyn StreamLog>> {
        match self.log.scheme() {
            "memory" => Ok(Arc::new(MemoryLog::new())),
            #[cfg(feature = "log-segment")]
            "segment" => Ok(Arc::new(trellis_log_segment::SegmentLog::open(
                self.log.path_in(data),
                trellis_log_segment::SegmentOptions::default(),
            )?)),
            #[cfg(feature = "log-kv")]
            "kv" => Ok(Arc::new(match &self.log_store {
                None => trellis_log_kv::KvLog::new(Arc::clone(kv), false)?,
                Some(url) => trellis_log_kv::KvLog::new(open_kv(url, data, None)?, true)?,
            })),
            _ => Err(unknown("log", "journal", &LOGS, &self.log)),
        }
    }
}

#[allow(unused_variables, reason = "which are used depends on the features")]
fn open_kv(url: &EngineUrl, data: &Path, cache_bytes: Option<usize>) -> Result<Arc<dyn KvBackend>> {
    let path = url.path_in(data);
    match url.scheme() {
        "memory" => Ok(Arc::new(MemoryKv::new())),
        #[cfg(feature = "kv-redb")]
        "redb" => {
            let mut options = trellis_kv_redb::RedbOptions::default();
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            Ok(Arc::new(trellis_kv_redb::RedbKv::open(&path, options)?))
        }
        #[cfg(feature = "kv-sqlite")]
        "sqlite" => {
            let mut options = trellis_kv_sqlite::SqliteOptions::default();
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            Ok(Arc::new(trellis_kv_sqlite::SqliteKv::open(&path, options)?))
        }
        #[cfg(feature = "kv-sled")]
        "sled" => {
            let mut options = trellis_kv_sled::SledOptions::default();
            options.cache_bytes = cache_bytes.map_or(options.cache_bytes, |bytes| bytes as u64);
            Ok(Arc::new(trellis_kv_sled::SledKv::open(&path, options)?))
        }
        _ => Err(unknown("kv", "store", &STORES, url)),
    }
}

/// The engine of a URL, if this build can open it.
fn find<'a>(key: &str, what: &str, known: &'a [Engine], url: &EngineUrl) -> Result<&'a Engine> {
    let engine = known
        .iter()
        .find(|engine| engine.scheme == url.scheme())
        .ok_or_else(|| unknown(key, what, known, url))?;
    if !engine.compiled_in {
        let message = format!(
            "{key} = \"{url}\": this build does not contain {}; enable the feature `{}`",
            engine.scheme, engine.feature
        );
        return Err(Error::new(ErrorKind::Unsupported, message).operation("open"));
    }
    let remedy = match (engine.argument, url.rest().is_empty()) {
        (Argument::Nothing, false) => "nothing follows the colon",
        (Argument::File, true) => "name a file after the colon",
        (Argument::Directory, true) => "name a directory after the colon",
        _ => return Ok(engine),
    };
    let message = format!("{key} = \"{url}\": {remedy}");
    Err(Error::new(ErrorKind::InvalidInput, message).operation("open"))
}

fn unknown(key: &str, what: &str, known: &[Engine], url: &EngineUrl) -> Error {
    let schemes: Vec<String> = known.iter().map(|engine| format!("{}:", engine.scheme)).collect();
    let nearest = known
        .iter()
        .map(|engine| (strsim::osa_distance(engine.scheme, url.scheme()), engine.scheme))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, scheme)| format!("did you mean `{scheme}:`? "))
        .unwrap_or_default();
    let message = format!(
        "{key} = \"{url}\": no {what} has the scheme `{}:`; {nearest}known: {}",
        url.scheme(),
        schemes.join(", ")
    );
    Error::new(ErrorKind::InvalidInput, message).operation("open")
}
