//! Replication whose ownership is set per path.
//!
//! What a node owns and follows, and where a write goes, is said by prefixes of the tree. The
//! parts: *zones* (which rule holds where), *sessions* (what two nodes say to each other, free of
//! I/O), the *store* (what a session asks of its tree) and the *node*, which drives sessions over
//! links.
//!
//! Deliberately absent: sockets, which are the links' business, and the merge itself, which the
//! tree does against exactly the state that it changes.
//!
//! # Contract of nodes as processes
//! - `node.lose_nothing`: a node that is killed and started again has what it acknowledged,
//!   whatever its links did, and what it had promised to other nodes reaches them.
//! - `node.converge`: nodes that were killed, cut off and slowed down agree once that is over.
//!
//! # Contract
//! - `topology.zone.precedence`: one rule holds at a path: the system's own, then what is excluded,
//!   then the rule of the longest prefix, by whole segments, then the default exclude, then the
//!   role.
//! - `topology.zone.system`: what is the system's own is never replicated and never touched by
//!   another node, not from above either.
//! - `topology.zone.apart`: what is said of a path leaves zones below it alone that are held
//!   otherwise, and what either node leaves out.
//! - `topology.mode.primary`: what is written here is emitted, also what was there before; nothing
//!   comes back.
//! - `topology.mode.replica`: filled with what the upstream has and nothing else; follows; a write
//!   is forwarded or refused.
//! - `topology.mode.sync`: what is written at either node reaches the other; filled by merging.
//! - `topology.mode.readonly`: as a replica, and a write is refused.
//! - `topology.mode.writeonly`: what is written here is emitted and merged there; nothing comes
//!   back.
//! - `topology.mode.excluded`: neither leaves this node nor is changed by another.
//! - `topology.mode.source`: as the source has it, under its prefix; sources do not touch each
//!   other.
//! - `topology.mode.change`: a prefix whose mode changes is filled anew in the new one; what that
//!   discards is set aside first.
//! - `topology.merge.versions`: the later write of a leaf wins, and a removal only over what is
//!   older, in any order and after any time apart; what was removed stays so.
//! - `topology.merge.endings`: what ends does so alike at every node, and nothing is said of it.
//! - `topology.route.mixed`: a commit whose parts go different ways is refused whole, with the
//!   paths.
//! - `topology.forward.whole`: a forwarded write is committed by the node that owns its paths, with
//!   its conditions and transforms, and answered with that commit once it is applied here.
//! - `topology.forward.once`: repeated with its key it has no second effect.
//! - `topology.forward.unavailable`: what was not sent is refused as that; reads go on.
//! - `topology.feed.whole`: a commit arrives as one, as far as it is followed.
//! - `topology.feed.projected`: what happens above a prefix is seen by who follows the prefix, and
//!   nothing beside it.
//! - `topology.feed.resumed`: a feed goes on where it was, after restarts of either end; from
//!   another node it begins anew.
//! - `topology.feed.watched`: who watches a follower of a follower is told each commit once, whole,
//!   in order and in revs of that node, while the node between is lost and comes back; behind
//!   another node in its place, each leaf once.
//! - `topology.loop.dead`: a commit is logged once at each node, whatever ways lead there.
//! - `topology.loop.relayed`: what a relay follows or is pushed reaches its followers and upstream.
//! - `topology.grant.only`: a peer follows, pushes and forwards what it was granted and nothing
//!   else.
//! - `topology.grant.owner`: what one peer owns is as that peer has it.
//! - `topology.bloat.keys`: what is kept for followers grows with what is there, not with writes; a
//!   new one is sent what is there, not the history.
//! - `topology.bloat.slot`: what is kept for a follower that is away has an end, and it comes back
//!   all the same.
//! - `topology.bloat.start`: a node opens, reads and writes whatever its upstream does.
//! - `topology.links.same`: what nodes do for each other is the same over every transport.
//! - `topology.load.complete`: who follows a busy node has everything in the end, however it came.
//! - `topology.hostile.refused`: whatever a peer says that contradicts the protocol or its grants
//!   is refused by its reason, changes nothing and ends its link alone.
//! - `topology.hostile.apart`: what a peer takes of a node has a bound; nobody else goes without.
//! - `topology.mishap.kept`: a restored upstream, a full disk, limits that differ, a path that has
//!   no place: nothing is lost, nothing passed over, and it is said.
//! - `topology.refuse.typed`: nodes whose modes do not fit are refused, with the reason and a
//!   remedy.

mod admission;
mod admit;
mod backoff;
mod compile;
#[cfg(test)]
mod compile_tests;
mod dispatch;
mod event;
mod fill;
mod flow;
mod follower;
mod follower_stage;
mod forward;
pub mod forward_wire;
mod forwards;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod incoming;
mod kept;
pub mod message;
mod metered;
mod node;
mod node_accept;
mod node_dial;
mod node_gate;
mod node_link;
mod node_options;
mod node_poll;
mod node_shared;
mod node_wire;
mod page_in;
mod parts;
mod places;
mod plan;
#[doc(hidden)]
pub mod planted;
mod position;
mod project;
mod reads;
mod remap;
mod repair;
mod route;
mod session;
mod session_options;
mod set_aside;
mod settled;
mod slot_open;
mod slot_upkeep;
mod slots;
mod source;
mod source_check;
mod source_pages;
mod spec;
mod status;
mod store;
mod tail;
mod tails;
mod task;
mod topology;
mod translate;
mod turn;
mod verify;
mod verify_end;
#[cfg(test)]
mod verify_tests;
mod zones;
#[cfg(test)]
mod zones_tests;

pub use admission::Admission;
pub use backoff::{Backoff, Ended};
pub use event::{Action, Event, Now};
pub use forward::{ForwardId, ForwardOutcome, ForwardRequest, HOPS_MAX, RoutedOutcome};
pub use kept::{Kept, KeptFeed, SetAside};
pub use message::{Hello, LogPosition, OpenMode, Refusal, RefusalReason};
pub use message::{OfferedMode, ZoneOffer};
pub use node::{Node, NodeStatus, NotReady};
pub use node_accept::GREETING_LINKS;
pub use node_options::NodeOptions;
pub use plan::{
    DialPlan, FillRule, LinkPlan, LinkPolicy, PeerIdentity, PullPart, PullPlan, PushPlan,
};
pub use position::{FeedPosition, FillPosition};
pub use project::{is_echo, project, relays};
pub use remap::remapped;
pub use route::Route;
pub use session::{Role, Session};
pub use session_options::{SessionConfig, SessionOptions};
pub use slot_upkeep::SlotUpkeep;
pub use slots::{SlotEnd, SlotOptions, SlotStatus};
pub use spec::{Mode, PathSpec, PeerSpec, SourceSpec, TopologyError, TopologySpec};
pub use status::LinkStatus;
pub use status::{FeedState, ForwardStatus, LinkState, PullStatus, PushStatus, SessionStatus};
pub use store::Store;
pub use task::{OpenSlot, PageRead, SlotOpened, TailRead, Task, TaskId, TaskOutcome};
pub use topology::{Dial, Topology, UPSTREAM};
pub use zones::ZoneStatus;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod slots_tests;
#[cfg(test)]
mod stamped_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod turns_tests;
