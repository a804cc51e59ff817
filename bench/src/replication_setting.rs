//! Nodes on redb in one process, over links in memory, and what is written to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trellis_repl_loopback::LoopbackHub;
use trellis_runtime::Runtime;
use trellis_topology::{Node, NodeOptions, SessionOptions, SlotOptions, Topology, TopologySpec};
use trellis_tree::{Commit, Input, Operation, Path, Tree, TreeOptions};

use crate::Result;
use crate::engine::open_tree;
use crate::keys::Random;
use crate::kv::Kv;
use crate::load::settle_disk;
use crate::settings::Settings;

pub(crate) const GROUP: &str = "replication";
pub(crate) const DOCUMENTS: usize = 50_000;
pub(crate) const FIELDS: usize = 10;
/// Documents of one commit while loading.
const LOAD_DOCUMENTS: usize = 500;
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(1);

/// A node on a tree of its own.
pub(crate) struct Member {
    pub(crate) tree: Tree,
    pub(crate) node: Node,
}

/// Where members are, and how they reach each other.
pub(crate) struct Setting<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) hub: LoopbackHub,
}

pub(crate) fn topology(upstream: Option<&str>) -> Result<Topology> {
    let spec = TopologySpec {
        role: if upstream.is_some() { "replica" } else { "primary" }.to_owned(),
        primary_url: upstream.map(|name| format!("loopback:{name}")),
        ..TopologySpec::default()
    };
    Ok(Topology::compile(&spec)?)
}

impl Setting<'_> {
    /// Opens what is in the member's directory.
    pub(crate) fn member(&self, name: &str, upstream: Option<&str>) -> Result<Member> {
        let topology = Arc::new(topology(upstream)?);
        let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
        let tree = open_tree(self.settings, Kv::Redb, &self.dir(name), options)?;
        let endpoint = Arc::new(self.hub.endpoint(name, Vec::new())?);
        let mut session = SessionOptions::default();
        session.page_items = self.settings.page_items.unwrap_or(session.page_items);
        let options = NodeOptions {
            name: name.to_owned(),
            tokens: std::collections::BTreeMap::new(),
            session,
            slots: SlotOptions::default(),
            links_max: 256,
            forward_wait: Duration::from_secs(10),
        };
        let node = Node::start(&tree, topology, endpoint, &Runtime::system(), options)?;
        Ok(Member { tree, node })
    }

    /// A member with nothing in it.
    pub(crate) fn new_member(&self, name: &str, upstream: Option<&str>) -> Result<Member> {
        self.clear(name)?;
        self.member(name, upstream)
    }

    pub(crate) fn dir(&self, name: &str) -> std::path::PathBuf {
        self.settings.dir.join("replication").join(name)
    }

    pub(crate) fn clear(&self, name: &str) -> Result<()> {
        let dir = self.dir(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        settle_disk(&self.settings.dir)
    }

    /// New replicas that have everything of the hub.
    pub(crate) fn replicas(&self, count: usize, hub: &Tree) -> Result<Vec<Member>> {
        let replica = |number| self.new_member(&format!("replica-{number}"), Some("hub"));
        let replicas = (0..count).map(replica).collect::<Result<Vec<_>>>()?;
        replicas.iter().try_for_each(|replica| replica.await_level(hub))?;
        Ok(replicas)
    }
}

impl Member {
    pub(crate) fn close(self) -> Result<()> {
        self.node.close();
        drop(self.node);
        Ok(self.tree.close()?)
    }

    /// Waits until everything of a hub is here, durably.
    pub(crate) fn await_level(&self, hub: &Tree) -> Result<()> {
        let goal = hub.position().rev;
        wait("the replica to be level", || {
            let links = self.node.links();
            let pull = links.first().and_then(|link| link.session.pull.as_ref());
            Ok(pull.is_some_and(|pull| pull.complete && pull.position >= goal))
        })
    }
}

pub(crate) fn wait(what: &str, mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_done()? {
        if begin.elapsed() > PATIENCE {
            return Err(format!("gave up waiting for {what}").into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Writes documents below a path.
pub(crate) fn load_documents(tree: &Tree, at: &str, documents: usize) -> Result<()> {
    let mut random = Random::new(1);
    for from in (0..documents).step_by(LOAD_DOCUMENTS) {
        let updates = (from..documents.min(from + LOAD_DOCUMENTS)).map(|number| {
            let path = Path::parse(&format!("{at}/{number:08}"))?;
            Ok((path, Input::parse(document(&mut random).as_bytes())?))
        });
        let updates = updates.collect::<Result<Vec<_>>>()?;
        tree.commit(Commit::new(vec![Operation::Update { updates, expiry: None }]))?;
    }
    Ok(())
}

pub(crate) fn document(random: &mut Random) -> String {
    let fields = (0..FIELDS).map(|field| format!("\"field{field}\":\"{:016x}\"", random.next()));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}
