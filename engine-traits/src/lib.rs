//! The four traits that Trellis stands on, their plain types and the one [`Error`].
//!
//! Purpose: everything a storage or transport engine has to promise, and nothing about what it is
//! used for. Engines see bytes, never JSON, paths or rules.
//!
//! Invariants:
//! 1. No I/O, no async runtime and no JSON in this crate.
//! 2. Traits are used as trait objects: no generic methods, no associated types, no lifetimes on
//!    returned handles, and no default methods, so that a wrapper cannot forget one.
//! 3. Every promise of a `# Contract` list carries an id (`kv.commit.atomic`); a conformance case
//!    names it, and a test fails when a promise has no case.
//!
//! Deliberately absent: interactive transactions (a batch is plain data with guards), directories
//! and renames of blobs, consumer groups, conflict rules. They live in the services.

mod blob;
mod error;
mod kv;
mod log;
mod peer_door;
mod profile;
mod replicator;
mod upkeep;

pub use blob::{
    BlobInfo, BlobKey, BlobRead, BlobUpload, ByteRange, Deleted, ListPage, ListRequest, PutMode,
    VfsBackend, VfsLimits, VfsProfile,
};
pub use error::{Error, ErrorKind, Result, Retry};
pub use kv::{
    At, CommitSeq, Direction, Durability, Guard, KeyRange, KvBackend, KvLimits, KvProfile,
    KvSnapshot, KvSnapshotExt, Op, Scan, ScanEnd, SpaceId, Visitor, WriteBatch,
};
pub use log::{
    Appended, Bounds, Expect, LogLimits, LogProfile, Offset, ReadBudget, ReadEnd, ReadStop,
    RecordVisitor, StreamId, StreamLog,
};
pub use peer_door::{FrameSocket, PeerDoor, Serving, SocketEvent, SocketFault, SocketPoll};
pub use profile::{Ability, Persistence, Semantic};
pub use replicator::{
    EndedBy, LinkEnd, LinkLimits, LinkMessage, LinkToken, Peer, PeerAddress, PeerLink, ReplProfile,
    Replicator,
};
pub use upkeep::{EngineCheck, MaintenanceBudget, MaintenanceReport, SpaceUsage};
