//! Where a caller's commit goes: it is this node's, the upstream's, or nobody's here.
//!
//! A commit is never split: where its parts go different ways, it is refused and the paths are
//! named. What it only removes on its way, at the destination of a source or in a path that a peer
//! owns, stays there and is no part of it.

use std::fmt::Write as _;
use std::sync::Arc;

use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::{Commit, CommitError, Input, Operation, Path};

use crate::spec::Mode;
use crate::topology::{Topology, UPSTREAM};
use crate::zones::{Entry, Kind, covers, written};

/// Where a commit goes.
#[derive(Debug)]
pub enum Route {
    /// Into this node's tree.
    Here,
    /// To the node at the other end of this link ([`Dial::id`](crate::Dial)).
    Forward {
        /// The link.
        upstream: Arc<str>,
    },
    /// Nowhere: `reason` among the error's facts is `mixed_routing`, `read_only_path`,
    /// `source_owned` or `write_rejected`.
    Refused(CommitError),
}

/// Where what is written in a zone goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Here,
    Upstream,
    Rejected,
    ReadOnly,
    Foreign,
}

/// The zones that a commit touches, by their ways.
#[derive(Default)]
struct Touched<'a> {
    /// The first zone of each way.
    ways: Vec<(Way, &'a Entry)>,
}

impl<'a> Touched<'a> {
    fn add(&mut self, way: Way, entry: &'a Entry) {
        if !self.ways.iter().any(|(known, _)| *known == way) {
            self.ways.push((way, entry));
        }
    }
}

impl Topology {
    /// Where a caller's commit goes. Operations and conditions all lie on one way, or it is
    /// refused: a condition is tested where the commit happens.
    ///
    /// ```
    /// use trellis_topology::{Mode, PathSpec, Route, Topology, TopologySpec};
    /// use trellis_tree::{Commit, Path};
    ///
    /// let topology = Topology::compile(&TopologySpec {
    ///     primary_url: Some("ws://central:4400/db".into()),
    ///     paths: vec![PathSpec::new("users", Mode::Replica)],
    ///     ..TopologySpec::default()
    /// })
    /// .unwrap();
    /// let delete = |path| Commit::delete(Path::parse(path).unwrap());
    /// assert!(matches!(topology.route(&delete("users/u1")), Route::Forward { .. }));
    /// assert!(matches!(topology.route(&delete("orders/o1")), Route::Here));
    /// ```
    #[must_use]
    pub fn route(&self, commit: &Commit) -> Route {
        if commit.operations.is_empty() {
            return Route::Here;
        }
        let mut touched = Touched::default();
        for operation in &commit.operations {
            match operation {
                Operation::Set { path, value, .. } => self.touch(path, Some(value), &mut touched),
                Operation::Delete { path } => self.touch(path, None, &mut touched),
                // The child is new: nothing is at or below it yet.
                Operation::Push { path, .. } => self.touch_one(path, &mut touched),
                Operation::Update { updates, .. } => {
                    for (path, value) in updates {
                        self.touch(path, Some(value), &mut touched);
                    }
                }
            }
        }
        for condition in &commit.conditions {
            self.touch(&condition.path, None, &mut touched);
        }
        match touched.ways.as_slice() {
            [] | [(Way::Here, _)] => Route::Here,
            [(Way::Upstream, _)] => Route::Forward { upstream: UPSTREAM.into() },
            [(way, entry)] => Route::Refused(refused(*way, entry)),
            several => Route::Refused(mixed(several)),
        }
    }

    /// Refuses what another node writes: for a commit that can only be made here.
    ///
    /// # Errors
    /// `Denied` with the reasons of [`Route::Refused`]; what would be forwarded is
    /// `write_rejected`.
    pub fn check_here(&self, commit: &Commit) -> Result<(), CommitError> {
        match self.route(commit) {
            Route::Here => Ok(()),
            Route::Refused(error) => Err(error),
            Route::Forward { .. } => {
                let message = "the path is a replica, and what is stored for later cannot be \
                               forwarded: store it at its upstream";
                let error = Error::new(ErrorKind::Denied, message).operation("route");
                Err(error.context("reason", "write_rejected").into())
            }
        }
    }

    fn way(&self, kind: Kind) -> Way {
        match kind {
            Kind::Rule(Mode::Replica) | Kind::Role(Mode::Replica) if self.proxy => Way::Upstream,
            Kind::Rule(Mode::Replica) | Kind::Role(Mode::Replica) => Way::Rejected,
            Kind::Rule(Mode::Readonly) | Kind::Role(Mode::Readonly) => Way::ReadOnly,
            Kind::Source(_) | Kind::Owned(_) => Way::Foreign,
            _ => Way::Here,
        }
    }

    fn touch_one<'a>(&'a self, path: &Path, touched: &mut Touched<'a>) {
        if let Some(entry) = self.zones.of(path.key()) {
            touched.add(self.way(entry.kind), entry);
        }
    }

    /// Everything at and below a path, which is removed or holds a new value.
    fn touch<'a>(&'a self, path: &Path, value: Option<&Input>, touched: &mut Touched<'a>) {
        self.touch_one(path, touched);
        for entry in self.zones.below(path.key()) {
            let way = self.way(entry.kind);
            let holds = || value.is_some_and(|value| value.reaches(&below(path, entry)));
            // The system's own is no part of what is above it.
            let passed = entry.kind == Kind::System || way == Way::Foreign;
            if !passed || holds() {
                touched.add(way, entry);
            }
        }
    }
}

/// The segments of a zone's prefix below a path.
fn below<'a>(path: &Path, entry: &'a Entry) -> Vec<&'a str> {
    debug_assert!(covers(path.key(), &entry.prefix));
    let start = if path.is_root() { 0 } else { path.key().len() + 1 };
    let rest = entry.prefix.get(start..).unwrap_or_default();
    std::str::from_utf8(rest).unwrap_or_default().split('\0').collect()
}

fn refused(way: Way, entry: &Entry) -> CommitError {
    let (reason, message) = match way {
        Way::Rejected => (
            "write_rejected",
            "the path is a replica, and this node forwards no writes: write at its upstream",
        ),
        Way::ReadOnly => ("read_only_path", "the path is only read here: write at its upstream"),
        _ => ("source_owned", "the path belongs to another node: write there"),
    };
    let error = Error::new(ErrorKind::Denied, message).operation("route");
    CommitError {
        error: error.context("reason", reason),
        path: Some(written(&entry.prefix)),
        failed: Vec::new(),
    }
}

fn mixed(ways: &[(Way, &Entry)]) -> CommitError {
    let mut zones = String::new();
    for (way, entry) in ways {
        let goes = match way {
            Way::Here => "here",
            Way::Upstream => "to the upstream",
            Way::Rejected | Way::ReadOnly | Way::Foreign => "nowhere",
        };
        let comma = if zones.is_empty() { "" } else { ", " };
        let _infallible = write!(zones, "{comma}{} {goes}", written(&entry.prefix));
    }
    let message =
        "the commit touches paths whose writes go different ways: make one commit for each";
    let error = Error::new(ErrorKind::InvalidInput, message).operation("route");
    CommitError {
        error: error.context("reason", "mixed_routing").context("zones", zones),
        path: ways.get(1).map(|(_, entry)| written(&entry.prefix)),
        failed: Vec::new(),
    }
}
