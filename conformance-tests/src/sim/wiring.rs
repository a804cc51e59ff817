//! A node's topology, made from its part of the shape as an operator would write it.

use std::sync::Arc;

use trellis_topology::{
    DialPlan, LinkPolicy, PathSpec, PeerSpec, Route, SourceSpec, Topology, TopologySpec,
};
use trellis_tree::{Commit, CommitError, Zoning};

use super::shapes::{Shape, Spec};

/// Where a commit goes.
pub(super) enum Routed {
    Here,
    Up(usize),
    Refused(CommitError),
}

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) target: usize,
    pub(super) plan: DialPlan,
}

#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) dials: Vec<Dial>,
    topology: Arc<Topology>,
    /// Whether something is kept under another name than at its source.
    pub(super) renames: bool,
}

impl Wiring {
    pub(super) fn new(spec: &Spec, shape: &Shape) -> Self {
        let url = |node: usize| format!("ws://{}:4400/db", shape.nodes[node].name);
        let paths = spec
            .paths
            .iter()
            .map(|(path, mode)| PathSpec { path: path.clone(), mode: (*mode).to_owned() });
        let sources = spec.sources.iter().map(|source| SourceSpec {
            id: source.id.clone(),
            url: url(source.node),
            paths: vec![source.path.clone()],
            local_prefix: source.local_prefix.clone(),
            exclude_prefixes: source.exclude.clone(),
        });
        let peers = spec.grants.iter().map(|grant| PeerSpec {
            node: Some(grant.peer.clone()),
            pull: grant.pull.clone(),
            push: grant.push.clone(),
            ..PeerSpec::default()
        });
        let topology = Topology::compile(&TopologySpec {
            primary_url: spec.upstream.map(url),
            paths: paths.collect(),
            sources: sources.collect(),
            exclude_prefixes: spec.exclude.clone(),
            peers: Some(peers.collect()),
            ..TopologySpec::default()
        });
        let topology = topology.unwrap_or_else(|error| panic!("{}: {error}", shape.name));
        let target = |wanted: &str| {
            let found = (0..shape.nodes.len()).find(|node| url(*node) == wanted);
            found.expect("a node of the shape")
        };
        let dials = topology.dials().iter();
        let dials =
            dials.map(|dial| Dial { target: target(&dial.url), plan: dial.plan.clone() }).collect();
        let renames = !spec.sources.is_empty();
        Self { dials, topology: Arc::new(topology), renames }
    }

    pub(super) fn zoning(&self) -> Arc<dyn Zoning> {
        self.topology.zoning()
    }

    pub(super) fn policy(&self) -> Arc<dyn LinkPolicy> {
        Arc::clone(&self.topology) as Arc<dyn LinkPolicy>
    }

    pub(super) fn route(&self, commit: &Commit) -> Routed {
        match self.topology.route(commit) {
            Route::Here => Routed::Here,
            Route::Forward { upstream } => {
                let is_it = |dial: &trellis_topology::Dial| dial.id == upstream;
                Routed::Up(self.topology.dials().iter().position(is_it).expect("one of its dials"))
            }
            Route::Refused(error) => Routed::Refused(error),
        }
    }
}
