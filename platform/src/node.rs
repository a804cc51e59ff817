//! An open database as a node: opened with links or without, and what it is in its topology.

use std::sync::Arc;

use trellis_engine_traits::{Replicator, Result};
use trellis_runtime::Runtime;
use trellis_topology::{Node, Topology};

use crate::config::Config;
use crate::handle::Trellis;
use crate::peer_entrance::PeerEntrance;
use crate::replication::Linking;

impl Trellis {
    /// Opens a database whose links are carried by a replicator of one's own, where its
    /// configuration has `replication`: within one process, or over another network. The database
    /// closes the replicator. Who comes in is the replicator's matter: there is no
    /// [`Trellis::peer_entrance`].
    ///
    /// # Errors
    /// As for [`Trellis::open_config`]; also `InvalidInput` for an address in the configuration
    /// that is not of the replicator's scheme.
    pub fn open_with_replicator(
        config: Config,
        runtime: Arc<Runtime>,
        replicator: Arc<dyn Replicator>,
    ) -> Result<Self> {
        Self::open_as(config, runtime, false, &Linking::Given(replicator))
    }

    /// Opens a database without linking it to other nodes, whatever its configuration says: for
    /// work on its data while it is out of service. What is written is replicated once it is opened
    /// as a node again; what another node would have to write is refused as
    /// `upstream_unavailable`.
    ///
    /// # Errors
    /// As for [`Trellis::open_config`].
    pub fn open_alone(config: Config) -> Result<Self> {
        Self::open_as(config, Runtime::system(), false, &Linking::Alone)
    }

    /// This database's part in a topology: where it stands, and what an operator does about it.
    /// `None` where the configuration has no `replication`.
    #[must_use]
    pub fn replication(&self) -> Option<&Node> {
        self.replication_part().map(|replication| &replication.node)
    }

    /// What this database owns and follows as a node, with links or without. `None` where the
    /// configuration has no `replication`.
    #[must_use]
    pub fn topology(&self) -> Option<&Topology> {
        self.compiled_topology()
    }

    /// Where a server lets other nodes in. `None` where the configuration has no `replication`, and
    /// with a replicator of one's own.
    #[must_use]
    pub fn peer_entrance(&self) -> Option<Arc<PeerEntrance>> {
        self.replication_part().and_then(|replication| replication.entrance.clone())
    }
}
