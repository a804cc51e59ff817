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
//! - `node.lose_nothing`: a node that is killed and started again has what it acknowledged, whatever
//!   its links did, and what it had promised to other nodes reaches them.
//! - `node.converge`: nodes that were killed, cut off and slowed down agree once that is over.

mod admit;
mod backoff;
mod compile;
mod dispatch;
mod fill;
mod flow;
mod follower;
mod forward;
pub mod forward_wire;
mod forwards;
mod handshake;
mod incoming;
pub mod message;
mod parts;
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
mod set_aside;
mod slot_open;
mod slot_upkeep;
mod slots;
mod source;
mod source_check;
mod spec;
mod status;
mod store;
mod tail;
mod task;
mod topology;
mod translate;
mod turn;
mod verify;
mod zones;
#[cfg(test)]
mod zones_tests;

pub use backoff::{Backoff, Ended};
pub use forward::{ForwardId, ForwardOutcome, ForwardRequest, HOPS_MAX, RoutedOutcome};
pub use message::{Hello, LogPosition, OpenMode, Refusal, RefusalReason};
pub use plan::{
    DialPlan, FillRule, LinkPlan, LinkPolicy, OfferedMode, PeerIdentity, PullPart, PullPlan,
    PushPlan, ZoneOffer,
};
pub use position::{FeedPosition, FillPosition};
pub use project::{is_echo, project, relays};
pub use remap::remapped;
pub use route::Route;
pub use session::{Action, Event, Now, Role, Session, SessionConfig, SessionOptions};
pub use slot_upkeep::SlotUpkeep;
pub use slots::{SlotEnd, SlotOptions, SlotStatus};
pub use spec::{Mode, PathSpec, PeerSpec, SourceSpec, TopologyError, TopologySpec};
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
mod store_tests;
