//! An open database as a node of a topology: its links, its entrance, and the door for writes while
//! it has no links.
//!
//! Invariants: a database whose configuration has no `replication` has none of this; start-up waits
//! for no other node; links end before the tree does.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use trellis_engine_traits::{Error, ErrorKind, PeerDoor, Replicator, Result};
use trellis_runtime::Runtime;
use trellis_topology::{Node, Route, Topology};
use trellis_tree::{Commit, CommitError, Gate, Passage, Tree};

use crate::peer_entrance::PeerEntrance;
use crate::replication_config::ReplicationConfig;
use crate::replication_plan as plan;

/// What links a database gets that its configuration makes a node.
#[derive(Debug, Clone)]
pub(crate) enum Linking {
    /// The transport of this build.
    Transport,
    /// One of the host's.
    Given(Arc<dyn Replicator>),
    /// None: writes that are another node's are refused.
    Alone,
}

/// A database's part in a topology.
#[derive(Debug)]
pub(crate) struct Replication {
    pub(crate) node: Node,
    pub(crate) entrance: Option<Arc<PeerEntrance>>,
}

impl Replication {
    /// Sets the door for writes and, unless the database is alone, begins to link up.
    pub(crate) fn start(
        tree: &Tree,
        runtime: &Arc<Runtime>,
        topology: Arc<Topology>,
        config: &ReplicationConfig,
        linking: &Linking,
    ) -> Result<Option<Self>> {
        let (replicator, door) = match linking {
            Linking::Alone => {
                tree.set_gate(Arc::new(Alone(topology)))?;
                return Ok(None);
            }
            Linking::Given(replicator) => (Arc::clone(replicator), None),
            Linking::Transport => {
                let links = crate::replicators::open_links()?;
                (links.replicator, Some(links.door))
            }
        };
        let started = Self::start_on(tree, runtime, topology, config, (&replicator, door));
        match started {
            Ok((node, entrance)) => Ok(Some(Self { node, entrance })),
            Err(error) => {
                close(&*replicator);
                Err(error)
            }
        }
    }

    fn start_on(
        tree: &Tree,
        runtime: &Arc<Runtime>,
        topology: Arc<Topology>,
        config: &ReplicationConfig,
        (replicator, door): (&Arc<dyn Replicator>, Option<Arc<dyn PeerDoor>>),
    ) -> Result<(Node, Option<Arc<PeerEntrance>>)> {
        plan::check_addresses(config, replicator.profile().name)?;
        let passes = plan::passes(config)?;
        let options = plan::node_options(config, &tree.identity().log_id)?;
        let entrance = door.map(|door| PeerEntrance::new(passes, door)).transpose()?;
        let node = Node::start(tree, topology, Arc::clone(replicator), runtime, options)?;
        Ok((node, entrance.map(Arc::new)))
    }

    /// Ends the links and the replicator. Idempotent.
    pub(crate) fn close(&self) {
        self.node.close();
    }
}

/// The door of a database that is open without links.
#[derive(Debug)]
struct Alone(Arc<Topology>);

impl Gate for Alone {
    fn pass(&self, commit: Commit) -> Passage {
        match self.0.route(&commit) {
            Route::Here => Passage::Here(commit),
            Route::Refused(error) => Passage::Refused(error),
            Route::Forward { .. } => {
                let message = "another node owns the path, and this database is open without links";
                let error = Error::new(ErrorKind::Unavailable, message).operation("route");
                Passage::Refused(CommitError {
                    error: error.context("reason", "upstream_unavailable"),
                    path: None,
                    failed: Vec::new(),
                })
            }
        }
    }

    fn check_here(&self, commit: &Commit) -> std::result::Result<(), CommitError> {
        self.0.check_here(commit)
    }
}

/// Closes the replicator of a node that did not start.
fn close(replicator: &dyn Replicator) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut closing = pin!(replicator.close());
    let outcome = loop {
        match closing.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => std::thread::park(),
        }
    };
    if let Err(error) = outcome {
        tracing::warn!(%error, "closing the links between nodes");
    }
}
