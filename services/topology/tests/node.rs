//! Nodes over real threads and links within the process: what a driver adds to sessions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

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
type Disks = (trellis_kv_memory::MemoryDisk, trellis_log_memory::MemoryDisk);

/// A node, with its disks.
struct Site {
    name: String,
    spec: TopologySpec,
    disks: Disks,
    runtime: Arc<Runtime>,
    tree: Tree,
    node: Node,
}

fn options(name: &str) -> NodeOptions {
    NodeOptions {
        name: name.to_owned(),
        tokens: std::collections::BTreeMap::new(),
        session: SessionOptions::default(),
        slots: SlotOptions::default(),
        links_max: 64,
        forward_wait: Duration::from_secs(20),
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

impl Site {
    fn new(hub: &LoopbackHub, name: &str, spec: TopologySpec) -> Self {
        Self::on(hub, options(name), spec, Disks::default())
    }

    /// A node on disks that are there.
    fn on(hub: &LoopbackHub, options: NodeOptions, spec: TopologySpec, disks: Disks) -> Self {
        let name = options.name.clone();
        let topology = Arc::new(Topology::compile(&spec).unwrap());
        let tree_options =
            TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
        let runtime = Runtime::system();
        let kv = Arc::new(MemoryKv::on(&disks.0).unwrap());
        let log = Arc::new(MemoryLog::on(&disks.1).unwrap());
        let tree = Tree::open(kv, log, Arc::clone(&runtime), tree_options).unwrap();
        let links: Arc<dyn Replicator> = Arc::new(hub.endpoint(&name, Vec::new()).unwrap());
        let node = Node::start(&tree, topology, links, &runtime, options).unwrap();
        Self { name, spec, disks, runtime, tree, node }
    }

    /// Closes it, and opens it again.
    fn again(self, hub: &LoopbackHub) -> Self {
        self.node.close();
        self.tree.close().unwrap();
        let Self { name, spec, disks, .. } = self;
        Self::on(hub, options(&name), spec, disks)
    }

    fn set(&self, at: &str, value: Value) -> Result<Committed, CommitError> {
        self.tree.commit(Commit::set(path(at), Input::from_json(value).unwrap()))
    }

    fn get(&self, at: &str) -> Value {
        self.tree.view().unwrap().get(&path(at)).unwrap()
    }

    /// Looks again whenever something is committed here, and every now and then.
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut follower = self.tree.follow(1 << 20).unwrap();
        let clock = self.runtime.clock();
        let deadline = clock.monotonic() + Duration::from_secs(60);
        while !is_so() {
            let status = self.node.status().unwrap();
            assert!(clock.monotonic() < deadline, "{}: {what}: {status:#?}", self.name);
            let _changes = follower.next(Duration::from_millis(10)).unwrap();
        }
    }

    fn until_holds(&self, at: &str, value: &Value) {
        self.until(&format!("{at} is {value}"), || self.get(at) == *value);
    }

    fn link(&self, id: &str) -> LinkStatus {
        let links = self.node.status().unwrap().links;
        links.into_iter().find(|link| link.id == id).unwrap()
    }

    fn until_up(&self) {
        self.until("the upstream's feed is in its tail", || {
            let session = self.link("upstream").session;
            let pulled = session.pull.is_none_or(|pull| pull.state == FeedState::Tail);
            session.link == LinkState::Up && pulled
        });
    }

    fn key_of_failure(&self, at: &str) -> (ErrorKind, Option<String>) {
        let error = self.set(at, json!(0)).unwrap_err().error;
        let reason = error.facts().iter().find(|(name, _)| *name == "reason");
        (error.kind(), reason.map(|(_, value)| value.clone()))
    }
}

/// Takes everything from whoever comes.
fn central() -> TopologySpec {
    let peer =
        PeerSpec { pull: vec![String::new()], push: vec![String::new()], ..PeerSpec::default() };
    TopologySpec { peers: Some(vec![peer]), ..TopologySpec::default() }
}

fn edge(paths: &[(&str, Mode)]) -> TopologySpec {
    TopologySpec {
        primary_url: Some("loopback:central".into()),
        paths: paths.iter().map(|(path, mode)| PathSpec::new(*path, *mode)).collect(),
        ..TopologySpec::default()
    }
}

#[test]
fn two_nodes_replicate_each_path_in_its_mode() {
    let hub = LoopbackHub::new();
    let central = Site::new(&hub, "central", central());
    central.set("users/u1", json!("before")).unwrap();
    central.set("config/c1", json!(1)).unwrap();
    let modes = [
        ("own", Mode::Primary),
        ("users", Mode::Replica),
        ("shared", Mode::Sync),
        ("config", Mode::Readonly),
        ("logs", Mode::Writeonly),
    ];
    let edge = Site::new(&hub, "edge", edge(&modes));
    edge.set("own/o1", json!("mine")).unwrap();
    edge.set("shared/e", json!("from the edge")).unwrap();
    edge.set("logs/l1", json!("line")).unwrap();
    central.set("shared/c", json!("from the center")).unwrap();

    edge.until_holds("users/u1", &json!("before"));
    edge.until_holds("config/c1", &json!(1));
    edge.until_holds("shared/c", &json!("from the center"));
    central.until_holds("own/o1", &json!("mine"));
    central.until_holds("shared/e", &json!("from the edge"));
    central.until_holds("logs/l1", &json!("line"));

    edge.until_up();
    central.set("users/u1", json!("after")).unwrap();
    edge.until_holds("users/u1", &json!("after"));
    central.set("logs/l1", json!("changed there")).unwrap();
    central.set("shared/c", json!("again")).unwrap();
    edge.until_holds("shared/c", &json!("again"));
    assert_eq!(edge.get("logs/l1"), json!("line"), "nothing comes back");
    let refused = edge.key_of_failure("config/c1");
    assert_eq!(refused, (ErrorKind::Denied, Some("read_only_path".into())));
    assert!(edge.node.not_ready(&Path::root()).is_empty());
}

#[test]
fn a_feed_goes_on_where_it_was_after_a_restart_of_either_end() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("shared", Mode::Sync)]));
    center.set("shared/a", json!(1)).unwrap();
    edge.until_holds("shared/a", &json!(1));
    let edge = edge.again(&hub);
    center.set("shared/b", json!(2)).unwrap();
    edge.until_holds("shared/b", &json!(2));
    let pages = edge.link("upstream").session.pull.unwrap().pages;
    assert_eq!(pages, 0, "the position was kept");
    let center = center.again(&hub);
    center.set("shared/c", json!(3)).unwrap();
    edge.until_holds("shared/c", &json!(3));
    edge.set("shared/d", json!(4)).unwrap();
    center.until_holds("shared/d", &json!(4));
}
