//! Command line, and what the figures read of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tempfile::TempDir;
use trellis_tree::TreeOptions;

use crate::Result;
use crate::kv::Kv;

/// Measures Trellis against the engines that it is built on.
#[derive(Debug, Parser)]
#[command(name = "trellis-bench")]
pub(crate) struct Arguments {
    /// Which figures; all of them when none is named.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Only these stores.
    #[arg(long, value_enum, value_delimiter = ',')]
    kv: Vec<Kv>,
    /// Small sizes: shows that everything runs, its figures mean little.
    #[arg(long)]
    quick: bool,
    /// Where data goes; loaded stores stay there for the next run. Default: a temporary directory
    /// below /var/tmp, removed at the end. Never a file system in memory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Writes all figures to this file as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Seconds of one round of concurrent writers; a quarter of it warms up.
    #[arg(long)]
    seconds: Option<f64>,
    /// Rounds of each figure, Trellis and rival in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keys in the loaded stores.
    #[arg(long)]
    keys: Option<usize>,
    /// Page cache of each store, in MiB, the same for Trellis and its rival: 256 by default. Of
    /// nodes: the product's by default.
    #[arg(long)]
    pub(crate) cache_mib: Option<usize>,
    /// Overlay of concurrent writers, in MiB; default: the product's.
    #[arg(long)]
    pub(crate) overlay_mib: Option<usize>,
    /// Longest wait of a concurrent write for the store, in milliseconds; default: the product's.
    #[arg(long)]
    apply_after_ms: Option<u64>,
    /// Only these parts of `replication`.
    #[arg(long = "part", value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Leaves of a page that fills a replica; default: the product's.
    #[arg(long)]
    page_items: Option<u32>,
    /// A directory in which `npm install pouchdb express@4 express-pouchdb` was run, to compare
    /// replication with.
    #[arg(long)]
    pouchdb: Option<PathBuf>,
    /// Concurrent writers without their rivals, for a profiler; no ratio comes of it.
    #[arg(long)]
    alone: bool,
    /// The release binary `trellis`; default: beside this one.
    #[arg(long)]
    trellis: Option<PathBuf>,
    /// Becomes one of the servers of the socket figures.
    #[arg(long, value_enum, hide = true)]
    pub(crate) serve: Option<Serve>,
    /// What that server follows.
    #[arg(long, hide = true)]
    pub(crate) upstream: Option<String>,
    /// Becomes the writer that is killed.
    #[arg(long, value_enum, hide = true)]
    pub(crate) write_tail: Option<Kv>,
}

/// What runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Durable commits of one writer against bare write and fdatasync.
    SingleWriter,
    /// 64 writers on a large store against the engine's own group commit, and Redis.
    ConcurrentWriters,
    /// Gets through the library against the engine's own.
    PointReads,
    /// A subtree of 10,000 leaves as JSON against the engine's scan.
    Subtree,
    /// Gets through WebSocket against an echo server on the same stack.
    Sockets,
    /// Memory and start of a server.
    Footprint,
    /// A file of leaves into a new database.
    Import,
    /// Opening after the process was killed with much journal that the store does not have.
    Reopen,
    /// Commits, reads and files at growing sizes; --seconds is the time of random updates.
    Growth,
    /// Moves between stores, and backups beside writers.
    Copy,
    /// 50 of the children by an index against 50 entries and 50 gets of the engine.
    Query,
    /// One writer and 1,000 subscribers of its path against a bare broadcast; latencies.
    FanOut,
    /// Commits beside 100,000 subscriptions elsewhere in the tree, and beside none.
    Subscriptions,
    /// Filling and following replicas, beside a full sync of Redis.
    Replication,
}

/// What of `replication` runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// A new replica of 500,000 leaves, beside a full sync of Redis.
    Bootstrap,
    /// The same beside PouchDB; needs --pouchdb.
    Pouchdb,
    /// Memory of both ends, in processes of their own, while 1,000,000 leaves are filled.
    Memory,
    /// A subtree of 100,000 leaves is removed.
    Removal,
    /// What ten followers cost the writers of their primary.
    Ten,
    /// 3,000 writes a second: how late they arrive at the replicas.
    Arrival,
    /// A replica that was away.
    CatchUp,
    /// 1,000,000 writes to 400 paths: what they leave behind, a new replica, and starting again.
    Bloat,
}

/// Servers that this program becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Serve {
    /// Answers without a database.
    Echo,
    /// Hands every value on to every subscriber, without a database.
    Broadcast,
    /// A whole Trellis server.
    Trellis,
    /// The same, replicating.
    Node,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SingleWriter => "single-writer",
            Self::ConcurrentWriters => "concurrent-writers",
            Self::PointReads => "point-reads",
            Self::Subtree => "subtree",
            Self::Sockets => "sockets",
            Self::Footprint => "footprint",
            Self::Import => "import",
            Self::Reopen => "reopen",
            Self::Growth => "growth",
            Self::Copy => "copy",
            Self::Query => "query",
            Self::FanOut => "fan-out",
            Self::Subscriptions => "subscriptions",
            Self::Replication => "replication",
        }
    }
}

impl Arguments {
    pub(crate) fn groups(&self) -> Vec<Group> {
        all_or(&self.groups)
    }
}

/// What was named, or everything.
fn all_or<T: ValueEnum>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}

/// What every figure needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) kvs: Vec<Kv>,
    pub(crate) quick: bool,
    pub(crate) alone: bool,
    pub(crate) dir: PathBuf,
    /// What the trees of concurrent writers are opened with.
    pub(crate) writing: TreeOptions,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) keys: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) trellis: PathBuf,
    /// Parts of `replication`.
    pub(crate) parts: Vec<Part>,
    pub(crate) pouchdb: Option<PathBuf>,
    pub(crate) page_items: Option<u32>,
    given_seconds: Option<f64>,
}

impl Settings {
    pub(crate) fn new(arguments: &Arguments) -> Result<(Self, Option<TempDir>)> {
        let temporary = match &arguments.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir)?;
                None
            }
            None => Some(tempfile::Builder::new().prefix("trellis-bench-").tempdir_in("/var/tmp")?),
        };
        let dir = temporary.as_ref().map(|dir| dir.path().to_path_buf());
        let dir = dir.or_else(|| arguments.dir.clone()).unwrap_or_default();
        let quick = arguments.quick;
        let mut writing = TreeOptions::default();
        if let Some(mib) = arguments.overlay_mib {
            writing.overlay_bytes_max = mib << 20;
        }
        if let Some(milliseconds) = arguments.apply_after_ms {
            writing.apply_after = Duration::from_millis(milliseconds);
        }
        let beside = std::env::current_exe()?.with_file_name("trellis");
        let settings = Self {
            kvs: all_or(&arguments.kv),
            quick,
            alone: arguments.alone,
            dir,
            writing,
            seconds: arguments.seconds.unwrap_or(if quick { 1.0 } else { 60.0 }),
            rounds: arguments.rounds.max(1),
            keys: arguments.keys.unwrap_or(if quick { 20_000 } else { 1_000_000 }),
            cache_bytes: arguments.cache_mib.unwrap_or(256) << 20,
            trellis: arguments.trellis.clone().unwrap_or(beside),
            parts: all_or(&arguments.parts),
            pouchdb: arguments.pouchdb.clone(),
            page_items: arguments.page_items,
            given_seconds: arguments.seconds,
        };
        Ok((settings, temporary))
    }

    /// Seconds of a round: as given, else little in a quick run, else so many.
    pub(crate) fn seconds(&self, usual: f64) -> f64 {
        self.given_seconds.unwrap_or(if self.quick { 0.2 } else { usual })
    }

    /// Some figures run the release binary itself.
    pub(crate) fn check_binary(&self) -> Result<()> {
        if self.trellis.is_file() {
            return Ok(());
        }
        let path = self.trellis.display();
        Err(format!("{path} is missing: cargo build --release -p trellis-server").into())
    }

    /// The stores with an engine of their own to be compared with.
    pub(crate) fn engines(&self) -> Vec<Kv> {
        self.kvs.iter().copied().filter(|kv| *kv != Kv::Memory).collect()
    }
}
