//! [`Config`]: every setting of a database and of a server around it, as plain data.
//!
//! Invariants:
//! 1. Every key has a default, so that `Config::default()` opens a durable database.
//! 2. Sizes are bytes and say so in their name; times are durations (`"1s"`, `"20ms"`, `"24h"`).
//! 3. An unknown key is an error that names the nearest known one.
//!
//! Deliberately absent: reading files and the environment (see
//! [`ConfigBuilder`](crate::ConfigBuilder)), and meaning: the tree checks its own limits when it
//! opens.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trellis_tree::{Limits, TreeOptions};

use crate::durability::DurabilityConfig;
use crate::profile::Profile;
use crate::replication_config::ReplicationConfig;

/// The settings of a database, and of a server when there is one.
///
/// The same keys in TOML, in JSON and, in capitals after `TRELLIS_`, in the environment, where `__`
/// goes one level down: `TRELLIS_LIMITS__LEAF_BYTES_MAX=1048576`.
///
/// ```
/// use trellis::{Config, Profile};
///
/// let config = Config { profile: Profile::Memory, ..Config::default() };
/// assert_eq!(config.kv_url(), "memory:");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the data; relative engine paths begin here. Default `trellis-data`.
    /// Created when missing; not touched when store and log are both in memory.
    pub data: PathBuf,
    /// The named set of defaults: `memory`, `embedded` (the default), `single-file`, `edge`,
    /// `server`.
    pub profile: Profile,
    /// The store: `memory:`, `redb:PATH`, `sqlite:PATH` or `sled:PATH`. Default: the profile's.
    pub kv: Option<String>,
    /// The journal: `memory:`, `segment:PATH`, `kv:` (in the store) or `kv:STORE-URL` (in a store
    /// of its own). Default: the profile's.
    pub log: Option<String>,
    /// The files: only `memory:` so far, and not offered yet.
    pub vfs: String,
    /// When a commit is acknowledged: `always` durable (the default), or `interval:1s`; per prefix
    /// in a table.
    pub durability: DurabilityConfig,
    /// What is logged: `error`, `warn`, `info` (the default), `debug`, `trace`, or a filter such as
    /// `info,trellis_tree=debug`. Only the `trellis` binary acts on it: a host has its own.
    pub log_level: String,
    /// Bytes of the store's page cache. Default: the profile's, else the engine's.
    pub cache_bytes: Option<usize>,
    /// The largest inputs.
    pub limits: LimitsConfig,
    /// The commit pipeline.
    pub tree: TreeConfig,
    /// Indexes that the database has from its next open on: `[[indexes]]` with `path` and `fields`.
    /// One that is no longer named here stays until it is dropped.
    pub indexes: Vec<IndexConfig>,
    /// What other nodes this one follows and serves; without it, none. The keys below it are
    /// written `primaryUrl`, as docs/replication.md has them.
    pub replication: Option<ReplicationConfig>,
    /// The server; ignored when the database is embedded without one.
    pub server: ServerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("trellis-data"),
            profile: Profile::default(),
            kv: None,
            log: None,
            vfs: "memory:".to_owned(),
            durability: DurabilityConfig::default(),
            log_level: "info".to_owned(),
            cache_bytes: None,
            limits: LimitsConfig::default(),
            tree: TreeConfig::default(),
            indexes: Vec::new(),
            replication: None,
            server: ServerConfig::default(),
        }
    }
}

impl Config {
    /// The default settings with the data in this directory.
    #[must_use]
    pub fn in_directory(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// The settings of a database that forgets everything when it is closed.
    #[must_use]
    pub fn memory() -> Self {
        Self { profile: Profile::Memory, ..Self::default() }
    }

    /// The store's URL: the configured one, else the profile's.
    #[must_use]
    pub fn kv_url(&self) -> &str {
        self.kv.as_deref().unwrap_or(self.profile.kv_url())
    }

    /// The journal's URL: the configured one, else the profile's.
    #[must_use]
    pub fn log_url(&self) -> &str {
        self.log.as_deref().unwrap_or(self.profile.log_url())
    }

    /// The store's cache in bytes: the configured one, else the profile's; `None`: the engine's.
    #[must_use]
    pub fn cache_bytes(&self) -> Option<usize> {
        self.cache_bytes.or(self.profile.cache_bytes())
    }
}

/// The largest inputs; what exceeds one is refused with `too_large` and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes of one leaf. Default 10 MiB, at most 16 MiB.
    pub leaf_bytes_max: usize,
    /// Bytes of all keys and values of one commit. Default, and at most, 16 MiB.
    pub commit_bytes_max: usize,
    /// Leaves, operations and conditions of one commit. Default 200,000.
    pub commit_operations_max: usize,
    /// Bytes of an idempotency key. Default 128.
    pub key_bytes_max: usize,
    /// Bytes of commits that wait to be made durable; beyond it writers get `busy`. Default
    /// 64 MiB.
    pub queue_bytes_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            leaf_bytes_max: limits.leaf_bytes_max,
            commit_bytes_max: limits.commit_bytes_max,
            commit_operations_max: limits.commit_operations_max,
            key_bytes_max: limits.key_bytes_max,
            queue_bytes_max: limits.queue_bytes_max,
        }
    }
}

/// The commit pipeline: how far the store may lag behind the journal, and how long the journal is
/// kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreeConfig {
    /// Bytes of changes that are in memory and in the journal but not in the store yet; beyond it
    /// writers wait. At least 4 KiB.
    pub overlay_bytes_max: usize,
    /// How long a change may wait before it is applied to the store.
    #[serde(with = "crate::duration")]
    pub apply_after: Duration,
    /// Bytes of the journal that are kept, once applied, for clients and followers that resume.
    pub journal_retain_bytes: u64,
    /// How long the journal is kept, once applied, for clients and followers that resume.
    #[serde(with = "crate::duration")]
    pub journal_retain_age: Duration,
    /// How long idempotency keys are remembered. Default 24 h.
    #[serde(with = "crate::duration")]
    pub keys_retain_age: Duration,
}

impl Default for TreeConfig {
    fn default() -> Self {
        let options = TreeOptions::default();
        Self {
            overlay_bytes_max: options.overlay_bytes_max,
            apply_after: options.apply_after,
            journal_retain_bytes: options.journal_retain_bytes,
            journal_retain_age: options.journal_retain_age,
            keys_retain_age: options.keys_retain_age,
        }
    }
}

/// An index: the children of which collections it holds, and in which order.
///
/// ```
/// use trellis::{Config, IndexConfig};
///
/// let index: IndexConfig =
///     serde_json::from_str(r#"{"path": "users/*/posts", "fields": ["author", "createdAt"]}"#)?;
/// let config = Config { indexes: vec![index], ..Config::default() };
/// # let _config = config;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexConfig {
    /// The collections; `*` stands for any one segment.
    pub path: String,
    /// 1 to 4 fields: `"age"`, or `["age", "desc"]`.
    pub fields: Vec<serde_json::Value>,
}

/// The server: where it listens and what it allows its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address to listen on. Default `127.0.0.1`.
    pub host: String,
    /// The port; 0 lets the system choose. Default 4400.
    pub port: u16,
    /// Whether others than this machine may be served although there are no rules, so that whoever
    /// reaches the port reads and writes everything. Default `false`.
    pub allow_unprotected_network: bool,
    /// Web origins (`https://app.example`) that may use the server besides loopback ones and its
    /// own. Default none.
    pub origins: Vec<String>,
    /// WebSocket connections at once. Default 10,000.
    pub connections_max: usize,
    /// Bytes of a WebSocket frame, either way. Default 1 MiB.
    pub frame_bytes_max: usize,
    /// Requests of one connection that may be unanswered; beyond it the server reads no further.
    /// Default 256.
    pub in_flight_requests_max: usize,
    /// Bytes of the unanswered requests of one connection. Default 4 MiB.
    pub in_flight_bytes_max: usize,
    /// Subscriptions of one connection. Default 500.
    pub subscriptions_max: usize,
    /// Bytes of events that wait for one connection; beyond it a subscription keeps its newest
    /// value only, or gets everything anew (`reset`) when it is read again. Default 4 MiB.
    pub inbox_bytes_max: usize,
    /// Leases at once; one more is answered with `busy`. Default 100,000.
    pub leases_max: usize,
    /// Subtrees that may be streamed over HTTP at once. Default 32.
    pub streams_max: usize,
    /// How often a WebSocket is pinged. Default 20 s.
    #[serde(with = "crate::duration")]
    pub ping_interval: Duration,
    /// After how much silence a WebSocket peer is dropped. Default 45 s.
    #[serde(with = "crate::duration")]
    pub silence_max: Duration,
    /// Time for the whole header of an HTTP request. Default 10 s.
    #[serde(with = "crate::duration")]
    pub header_timeout: Duration,
    /// The longest pause within an HTTP body, either way. Default 30 s.
    #[serde(with = "crate::duration")]
    pub body_idle_timeout: Duration,
    /// How long a stop waits for requests under way. Default 10 s.
    #[serde(with = "crate::duration")]
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 4400,
            allow_unprotected_network: false,
            origins: Vec::new(),
            connections_max: 10_000,
            frame_bytes_max: 1 << 20,
            in_flight_requests_max: 256,
            in_flight_bytes_max: 4 << 20,
            subscriptions_max: 500,
            inbox_bytes_max: 4 << 20,
            leases_max: 100_000,
            streams_max: 32,
            ping_interval: Duration::from_secs(20),
            silence_max: Duration::from_secs(45),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
