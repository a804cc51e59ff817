//! Nodes with real threads and trees on engines in memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_engine_traits::{ErrorKind, Replicator};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_repl_loopback::LoopbackHub;
use trellis_runtime::Runtime;
use trellis_topology::{
    FeedState, LinkState, LinkStatus, Mode, Node, NodeOptions, PathSpec, PeerSpec, SessionOptions,
    SlotOptions, Topology, TopologySpec,
};
use trellis_tree::{Commit, CommitError, Committed, Input, Path, Tree, TreeOptions};

/// What outlives a node.
pub(crate) type Disks = (trellis_kv_memory::MemoryDisk, trellis_log_memory::MemoryDisk);

/// A node, with its disks.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) spec: TopologySpec,
    pub(crate) disks: Disks,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) tree: Tree,
    pub(crate) node: Node,
}

pub(crate) fn options(name: &str) -> NodeOptions {
    NodeOptions {
        name: name.to_owned(),
        tokens: std::collections::BTreeMap::new(),
        session: SessionOptions::default(),
        slots: SlotOptions::default(),
        links_max: 64,
        forward_wait: Duration::from_secs(20),
    }
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

impl Site {
    pub(crate) fn new(hub: &LoopbackHub, name: &str, spec: TopologySpec) -> Self {
        Self::on(hub, options(name), spec, Disks::default())
    }

    /// A node on disks that are there.
    pub(crate) fn on(
        hub: &LoopbackHub,
        options: NodeOptions,
        spec: TopologySpec,
        disks: Disks,
    ) -> Self {
        let links = Arc::new(hub.endpoint(&options.name, Vec::new()).unwrap());
        Self::over(links, options, spec, disks)
    }

    pub(crate) fn over(
        links: Arc<dyn Replicator>,
        options: NodeOptions,
        spec: TopologySpec,
        disks: Disks,
    ) -> Self {
        Self::in_time(links, options, spec, disks, Runtime::system())
    }

    pub(crate) fn in_time(
        links: Arc<dyn Replicator>,
        options: NodeOptions,
        spec: TopologySpec,
        disks: Disks,
        runtime: Arc<Runtime>,
    ) -> Self {
        let name = options.name.clone();
        let topology = Arc::new(Topology::compile(&spec).unwrap());
        let tree_options =
            TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
        let kv = Arc::new(MemoryKv::on(&disks.0).unwrap());
        let log = Arc::new(MemoryLog::on(&disks.1).unwrap());
        let tree = Tree::open(kv, log, Arc::clone(&runtime), tree_options).unwrap();
        let node = Node::start(&tree, topology, links, &runtime, options).unwrap();
        Self { name, spec, disks, runtime, tree, node }
    }

    /// Closes it, and opens it again.
    pub(crate) fn again(self, hub: &LoopbackHub) -> Self {
        self.node.close();
        self.tree.close().unwrap();
        let Self { name, spec, disks, .. } = self;
        Self::on(hub, options(&name), spec, disks)
    }

    pub(crate) fn set(&self, at: &str, value: Value) -> Result<Committed, CommitError> {
        self.tree.commit(Commit::set(path(at), Input::from_json(value).unwrap()))
    }

    pub(crate) fn get(&self, at: &str) -> Value {
        self.tree.view().unwrap().get(&path(at)).unwrap()
    }

    /// Looks again whenever something is committed here, and every now and then.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut follower = self.tree.follow(1 << 20).unwrap();
        let clock = self.runtime.clock();
        let deadline = clock.monotonic() + Duration::from_secs(60);
        while !is_so() {
            let status = self.node.status().unwrap();
            assert!(clock.monotonic() < deadline, "{}: {what}: {status:#?}", self.name);
            let _changes = follower.next(Duration::from_millis(10)).unwrap();
        }
    }

    pub(crate) fn until_holds(&self, at: &str, value: &Value) {
        self.until(&format!("{at} is {value}"), || self.get(at) == *value);
    }

    pub(crate) fn link(&self, id: &str) -> LinkStatus {
        let links = self.node.status().unwrap().links;
        links.into_iter().find(|link| link.id == id).unwrap()
    }

    pub(crate) fn until_up(&self) {
        self.until("the upstream's feed is in its tail", || {
            let session = self.link("upstream").session;
            let pulled = session.pull.is_none_or(|pull| pull.state == FeedState::Tail);
            session.link == LinkState::Up && pulled
        });
    }

    pub(crate) fn key_of_failure(&self, at: &str) -> (ErrorKind, Option<String>) {
        let error = self.set(at, json!(0)).unwrap_err().error;
        let reason = error.facts().iter().find(|(name, _)| *name == "reason");
        (error.kind(), reason.map(|(_, value)| value.clone()))
    }
}

/// Takes everything from whoever comes.
pub(crate) fn central() -> TopologySpec {
    let peer =
        PeerSpec { pull: vec![String::new()], push: vec![String::new()], ..PeerSpec::default() };
    TopologySpec { peers: Some(vec![peer]), ..TopologySpec::default() }
}

pub(crate) fn edge(paths: &[(&str, Mode)]) -> TopologySpec {
    TopologySpec {
        primary_url: Some("loopback:central".into()),
        paths: paths.iter().map(|(path, mode)| PathSpec::new(*path, *mode)).collect(),
        ..TopologySpec::default()
    }
}
