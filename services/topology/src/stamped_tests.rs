//! Promises of replication that was switched off for a while: nobody is left with less, or with
//! something else, than the node has.

use std::sync::Arc;

use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Path, Tree, TreeOptions};

use crate::message::OpenMode;
use crate::store_tests::{Node, edge, hub, linked, node};
use crate::*;

/// What outlives a node.
struct Disks {
    kv: MemoryDisk,
    log: trellis_log_memory::MemoryDisk,
}

impl Disks {
    fn new() -> Self {
        Self { kv: MemoryDisk::new(), log: trellis_log_memory::MemoryDisk::new() }
    }

    fn tree(&self, options: TreeOptions) -> Tree {
        let (kv, log) = (MemoryKv::on(&self.kv).unwrap(), MemoryLog::on(&self.log).unwrap());
        Tree::open(Arc::new(kv), Arc::new(log), Runtime::system(), options).unwrap()
    }

    fn node(&self, spec: &TopologySpec) -> Node {
        let topology = Arc::new(Topology::compile(spec).unwrap());
        let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
        let store = Store::open(self.tree(options), SlotOptions::default()).unwrap();
        Node { store, topology }
    }

    /// Changes data while nothing is replicated.
    fn write_alone(&self) {
        let tree = self.tree(TreeOptions::default());
        for (path, json) in [("users/u1/n", "9"), ("users/u4", "4")] {
            let value = trellis_tree::Input::parse(json.as_bytes()).unwrap();
            tree.commit(Commit::set(Path::parse(path).unwrap(), value)).unwrap();
        }
        tree.commit(Commit::delete(Path::parse("users/u2").unwrap())).unwrap();
        tree.close().unwrap();
    }
}

fn closed(node: Node) {
    node.store.tree().close().unwrap();
}

fn users() -> TopologySpec {
    edge(&[("users", Mode::Replica)])
}

fn level(edge: Node, hub: Node) -> Option<OpenMode> {
    let mut pair = linked(edge, hub, 2);
    pair.run();
    let opened = pair.pulled().opened;
    let [edge, hub] = pair.ends.map(|end| end.host);
    assert_eq!(edge.get("users"), hub.get("users"));
    let prefix = Path::parse("users").unwrap().key().clone();
    let scope = trellis_tree::Scope { within: vec![prefix], except: Vec::new() };
    let digest = |node: &Node| {
        let prefix = bytes::Bytes::new();
        crate::reads::digest(node.store.tree(), &scope, &prefix).unwrap().1
    };
    assert_eq!(digest(&edge), digest(&hub));
    closed(edge);
    closed(hub);
    opened
}

const USERS: &str = r#"{"u1":{"n":1},"u2":2,"u3":3}"#;

/// Promise: what a source committed while nothing was stamped reaches its followers.
#[test]
fn a_source_that_was_switched_off_refills_its_followers() {
    let (at_edge, at_hub) = (Disks::new(), Disks::new());
    let source = at_hub.node(&hub());
    source.set("users", USERS);
    assert_eq!(level(at_edge.node(&users()), source), Some(OpenMode::Snapshot));
    at_hub.write_alone();
    assert_eq!(level(at_edge.node(&users()), at_hub.node(&hub())), Some(OpenMode::Snapshot));
    assert_eq!(level(at_edge.node(&users()), at_hub.node(&hub())), Some(OpenMode::Tail));
}

/// Promise: what a follower changed while it followed nobody is what its source has again.
#[test]
fn a_follower_that_was_switched_off_is_refilled() {
    let (at_edge, at_hub) = (Disks::new(), Disks::new());
    let source = at_hub.node(&hub());
    source.set("users", USERS);
    assert_eq!(level(at_edge.node(&users()), source), Some(OpenMode::Snapshot));
    at_edge.write_alone();
    assert_eq!(level(at_edge.node(&users()), at_hub.node(&hub())), Some(OpenMode::Snapshot));
    assert_eq!(level(at_edge.node(&users()), at_hub.node(&hub())), Some(OpenMode::Tail));
}

/// Promise: a database that is replicated for the first time is followed from its data.
#[test]
fn what_was_written_before_there_was_replication_is_followed() {
    let at_hub = Disks::new();
    at_hub.write_alone();
    let opened = level(node(&users()), at_hub.node(&hub()));
    assert_eq!(opened, Some(OpenMode::Snapshot));
}
