//! The JSON path tree and its commit pipeline.
//!
//! Every write becomes one commit: *resolved* against the current state into plain puts and
//! deletes, *appended* to the journal together with whatever else waits and made durable by one
//! flush, made *visible* in the overlay and acknowledged, and *applied* to the store in large
//! sorted batches in the background. Nothing can be read or acknowledged before it is durable.
//!
//! Invariants:
//! 1. The journal is the truth: the state is the store at its `applied_rev` plus the records after.
//! 2. A leaf has nothing below it; an object exists while something is below it or it is `{}`.
//! 3. Memory is bounded: the overlay by [`TreeOptions::overlay_bytes_max`], the queue by
//!    [`Limits::queue_bytes_max`]; writers wait or are refused, and reads stream.
//!
//! Deliberately absent: subscriptions, queries and rules. They follow the journal or decide inside
//! *resolve*, in crates of their own.
//!
//! # Contract
//! - `tree.commit.durable`: an acknowledged commit survives a crash, whole.
//! - `tree.commit.atomic`: a commit is seen whole or not at all, by every reader, at every time.
//! - `tree.commit.order`: revs are dense; submissions of one caller are committed in their order.
//! - `tree.commit.conditions`: conditions are tested against exactly the state that the commit
//!   changes; if one fails, nothing changes and each failed one is answered with what is there.
//! - `tree.commit.key`: a commit repeated with its idempotency key within 24 h has no second effect
//!   and gets the first answer; the same key with another request is refused.
//! - `tree.read.snapshot`: a view shows one rev, however long it is read.
//! - `tree.read.own_writes`: a view opened after an acknowledgement holds that commit.
//! - `tree.value.exact`: what was written reads back: `{}`, `[]`, numbers, bytes, any key.
//! - `tree.value.null`: null means absent at every depth; the last child gone, the object is gone.
//! - `tree.value.order`: children are listed by the bytes of their keys; siblings never interleave.
//! - `tree.update.whole`: an update of many paths is one commit; overlapping paths are refused.
//! - `tree.push.increasing`: push ids strictly increase within a process.
//! - `tree.transform.resolved`: a transform is resolved once, inside the commit.
//! - `tree.ttl.hidden`: what is due is invisible at once, removed by a commit at most 1 s later.
//! - `tree.ttl.restart`: an expiry survives a restart.
//! - `tree.limits.exact`: each limit accepts its own value and refuses one more with `too_large`.
//! - `tree.open.exclusive`: the data of a tree cannot be opened twice.
//! - `tree.check.clean`: a check finds nothing in what a tree wrote, also beside writers.
//! - `tree.check.names`: a check names what is damaged, missing, left over or contradicts the
//!   journal, with its place and what can be done.
//! - `tree.check.repair`: a repair writes again what the journal or the data still says, removes
//!   nothing that it did not hand over first, lists all it did, and leaves nothing to repair.
//! - `tree.poison.reads`: after a failed flush writes are refused, and reads go on.
//! - `tree.copy.exact`: entries read page by page, and the records from the rev at which the
//!   reading began, give exactly the state at any rev from the last page's on.
//! - `tree.copy.hold`: journal that is held stays; holding what was trimmed is refused.
//! - `tree.copy.pause`: while writes are paused they are refused, rev and content stand still, and
//!   reads go on.
//! - `tree.copy.digest`: the digest is the same for the same content, on every store and whatever
//!   the history; where contents differ, the paths are named.
//! - `tree.follow.complete`: a follower is handed every commit that becomes visible after it began,
//!   once, in order, and nothing else.
//! - `tree.follow.states`: the states before and after a commit are exact while it is held,
//!   whatever is written meanwhile; nothing in them is hidden by the clock.
//! - `tree.follow.lag`: writers do not wait for a follower; beyond its bound it is told, and goes
//!   on from its position.
//! - `tree.follow.end`: a bell ends a follower's wait; after a close it is handed what came before.
//! - `tree.follow.settled`: what is due is removed by a commit when it is settled.
//! - `tree.history.exact`: a history tells what a follower saw, across reopens; what it does not
//!   know of the states around its commits is what was beyond a bound, and it says so.
//! - `tree.history.reach`: journal that is gone, a rev that is not there yet and more than may be
//!   read are told apart.
//! - `tree.history.known`: a rev is known only in the history that made it: not after it was lost,
//!   not in a copy.
//! - `tree.seed.whole`: what is not seeded to the end is opened by nobody, and can be gone on with.
//! - `tree.seed.history`: a seeded tree has a history of its own, which goes on from the source's
//!   rev, and keeps endings and idempotency keys.
//! - `tree.remote.merge`: the same commits of other nodes, in any order and however often, leave
//!   the same leaves, endings and versions on every node; applied again they change nothing.
//! - `tree.remote.whole`: a commit of another node is seen and kept whole, its notes with it.
//! - `tree.remote.chained`: of commits of a chain none is applied behind one that was not.
//! - `tree.remote.refused`: what no node writes is refused before anything changes.
//! - `tree.remote.gate`: once there is a gate, every commit of a caller passes it, and no other.
//! - `tree.index.exact`: an index that a view names holds exactly one entry of each item, as of the
//!   view's rev, and is read the same in both directions.
//! - `tree.index.build`: an index is built while writes go on, goes on after a restart or a kill,
//!   and is named by no view before it is whole; it travels with copies as its definition.
//! - `tree.index.check`: a check names entries that are missing, left over or damaged, and a repair
//!   has the indexes made anew.

mod answer;
mod apply;
mod author;
mod batch;
mod bell;
mod build;
mod cause;
mod change;
mod changed;
mod check;
mod check_index;
#[cfg(test)]
mod check_index_tests;
mod check_journal;
mod check_pages;
mod check_stamps;
#[cfg(test)]
mod check_stamps_tests;
mod check_store;
#[cfg(test)]
mod check_tests;
mod checking;
mod collect;
mod commit;
mod compact;
mod condition;
#[cfg(test)]
mod condition_tests;
mod core;
mod derivation;
mod derive;
mod derive_stamps;
mod derived;
mod digest;
mod draft;
mod draft_end;
#[cfg(test)]
mod draft_end_tests;
mod effect;
mod endings;
mod entries;
mod epoch;
mod expiry;
mod finding;
mod fingerprint;
mod follow;
mod followers;
#[doc(hidden)]
pub mod fuzzing;
mod here;
mod history;
mod hold;
mod hybrid;
mod image;
mod index;
mod index_read;
mod indexing;
mod input;
mod input_json;
mod journal;
mod journal_read;
mod json;
mod leaf;
mod memtable;
mod merge;
#[cfg(test)]
mod merge_reference;
#[cfg(test)]
mod merge_tests;
mod merged;
mod openings;
mod options;
mod path;
mod pattern;
mod pending;
mod pipeline;
#[doc(hidden)]
pub mod planted;
mod precheck;
mod pushid;
mod reader;
mod record;
mod recover;
mod refusal;
mod remote;
mod remote_check;
mod remote_resolve;
mod removal;
mod repair;
mod replace;
mod resolve;
mod resolver;
mod room;
mod scoped;
mod seal;
mod seed;
mod seed_journal;
mod space;
mod spared;
mod stages;
mod stale;
#[cfg(test)]
mod stale_tests;
mod stamp;
mod stamped;
mod stamped_scan;
#[cfg(test)]
mod stamped_tests;
mod stamping;
mod stamping_store;
#[cfg(test)]
mod stamping_tests;
mod state;
mod state_reverse;
mod stats;
mod step;
mod sweep;
mod tell_again;
mod transform;
mod tree;
mod view;
mod views;
mod wipe;
mod work;
#[cfg(test)]
mod zones_tests;
mod zoning;

pub use answer::{CommitError, Committed, FailedCondition, OperationResult, UpstreamCommit};
pub use bell::CommitBell;
pub use cause::ChangeCause;
pub use change::{Change, ChangeEffect};
pub use check::check;
pub use commit::{Check, Commit, Condition, Expiry, Operation};
pub use compact::Compaction;
pub use derivation::{Derivation, Derived, INDEXES_PATH, Item, SORT_KEY_BYTES_MAX};
pub use digest::{Difference, DifferenceKind, differences};
pub use entries::EntrySpace;
pub use finding::{CheckOptions, CheckReport, Finding, FindingKind, Remedy};
pub use follow::{Followed, Follower, FollowerBell};
pub use history::History;
pub use hold::{JournalHold, WritePause};
pub use hybrid::HybridClock;
pub use index_read::{IndexStatus, ViewIndex};
pub use input::Input;
pub use journal::{JournalRecord, Position};
pub use json::write_key;
pub use leaf::Leaf;
pub use options::{DurabilityMode, DurabilityPolicy, Limits, TreeOptions};
pub use path::{DEPTH_MAX, PATH_BYTES_MAX, Path, SEGMENT_BYTES_MAX};
pub use pattern::Pattern;
pub use pending::{PendingCommit, PendingRemote, PendingSender};
pub use repair::{Removed, Repair, Repaired, repair};
pub use seed::{SeedPoint, Seeded, Seeding, SeedingSource};
pub use stamp::{
    Author, RemoteApplied, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp, VIA_MAX,
    Version,
};
pub use stamped::LoggedCommit;
pub use stamped::{Collected, ReplicationStats, StampedDelta, StampedPage, StampedSince};
pub use stats::TreeStats;
pub use tree::{Identity, Tree};
pub use view::{Child, Children, View};
pub use zoning::{Endings, Gate, Passage, Tracking, Zone, Zoning};
