//! Trellis: a realtime JSON data platform grafted onto the storage one chooses.
//!
//! Purpose: to open a database in one line, and to say in one file what it stands on. This crate
//! holds the configuration, the registry of engines and the handle; the tree does the work.
//!
//! ```
//! use trellis::Trellis;
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let db = Trellis::open(directory)?;
//! db.set("greeting", "hello")?;
//! assert_eq!(db.get("greeting")?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Features choose which engines are compiled in: `kv-redb` and `log-segment` (both by default),
//! `kv-sqlite`, `kv-sled`, `log-kv`; those in memory are always there. [`Config`] chooses among
//! them at run time, by URL or by [`Profile`]. `repl-ws` and `repl-loopback` are links between
//! nodes.
//!
//! Invariants:
//! 1. No async runtime: [`AsyncTrellis`] works under any executor.
//! 2. Only `registry` names a backend.
//! 3. What cannot be opened leaves nothing behind that would keep it from being opened correctly.

mod archive_files;
mod asynchronous;
mod backup;
mod compare;
mod config;
mod data_directory;
mod description;
mod durability;
mod duration;
mod encode;
mod engine_url;
mod finite;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod indexes;
mod known_keys;
mod migrate;
mod node;
mod open;
mod options;
mod peer_entrance;
mod place;
mod presence;
mod profile;
mod queries;
mod rebuild;
mod registry;
mod replication;
mod replication_config;
mod replication_description;
mod replication_plan;
mod replicators;
mod restore;
mod secret;
mod sources;
mod subscription;
mod target;
mod transaction;
mod upkeep;

pub use asynchronous::AsyncTrellis;
pub use backup::{
    ArchiveSource, BackupCheck, BackupKind, BackupReport, ContentDigest, Progress,
    backup_to_directory, backup_to_file, verify_backup,
};
pub use compare::{Comparison, verify};
pub use config::{Config, IndexConfig, LimitsConfig, ServerConfig, TreeConfig};
pub use description::{Description, EngineDescription};
pub use durability::{Acknowledge, DurabilityConfig};
pub use encode::IntoPath;
pub use handle::Trellis;
pub use migrate::{MigrateReport, migrate, migrate_from};
pub use peer_entrance::{PeerEntrance, PeerPass};
pub use profile::Profile;
pub use queries::Queried;
pub use rebuild::{RebuildReport, rebuild};
pub use replication_config::{PathConfig, PeerConfig, ReplicationConfig, SourceConfig};
pub use replication_description::ReplicationDescription;
pub use replicators::{Links, open_links};
pub use restore::{RestoreReport, restore, restore_from};
pub use secret::Secret;
pub use sources::ConfigBuilder;
pub use subscription::{AsyncSubscription, LiveChange, LiveChangeKind, LiveEvent, Subscription};
pub use upkeep::{CompactReport, RepairReport, check, compact, repair};

pub use trellis_archive::{
    ArchiveKind, Backup, Header as ArchiveHeader, Summary as ArchiveSummary, Until,
};
pub use trellis_engine_traits::{Error, ErrorKind, Result, Retry};
pub use trellis_presence::{
    Ended, Hold, LeaseInfo, LeaseWrite, Pending as PendingLease, Presence, PresenceStats, Stored,
};
pub use trellis_query::{Answer, INDEXES_MAX, IndexDefinition, Item, Page, QuerySpec};
#[cfg(feature = "repl-loopback")]
pub use trellis_repl_loopback::{LoopbackHub, LoopbackPass, LoopbackReplicator};
pub use trellis_runtime::Runtime;
pub use trellis_subscribe::{EventKind, Live, LiveStats, Mode, Pattern, SubscribeRequest};
pub use trellis_topology::{
    FeedState, LinkState, LinkStatus, Node, NodeStatus, NotReady, PullStatus, PushStatus,
    SlotStatus, ZoneStatus,
};
pub use trellis_tree::{
    ChangeCause, Check, CheckOptions, CheckReport, Child, Children, Commit, CommitError, Committed,
    Compaction, Condition, Difference, DifferenceKind, Expiry, FailedCondition, Finding,
    FindingKind, IndexStatus, Input, Operation, OperationResult, Path, PendingCommit, Remedy,
    Repair, Tree, TreeStats, UpstreamCommit, View,
};
