//! Short names for what the cases of replication do all the time.

use serde_json::Value;
use trellis_engine_traits::ErrorKind;
use trellis_topology::{Mode, PathSpec, PeerSpec, RefusalReason, TopologySpec};
use trellis_tree::{Commit, CommitError, Committed, Scope};

pub(super) use crate::tree::tools::{
    delete_op, get, input, leaves, path, rev, set_op, setting, shown, update_op, when,
};

use super::fleet::Fleet;
use crate::tree::TreeWorld;

/// A hub: primary, with what a peer of the role `edge` may do.
pub(super) fn hub(pull: &[&str], push: &[&str]) -> TopologySpec {
    TopologySpec { peers: Some(vec![grant(pull, push)]), ..TopologySpec::default() }
}

pub(super) fn grant(pull: &[&str], push: &[&str]) -> PeerSpec {
    let texts = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    PeerSpec {
        role: Some("edge".to_owned()),
        pull: texts(pull),
        push: texts(push),
        ..PeerSpec::default()
    }
}

pub(super) fn rules(paths: &[(&str, Mode)]) -> Vec<PathSpec> {
    paths.iter().map(|(path, mode)| PathSpec::new(*path, *mode)).collect()
}

/// A node whose upstream is `hub`.
pub(super) fn edge(paths: &[(&str, Mode)]) -> TopologySpec {
    below("hub", paths)
}

/// A node with an upstream.
pub(super) fn below(upstream: &str, paths: &[(&str, Mode)]) -> TopologySpec {
    TopologySpec {
        primary_url: Some(upstream.to_owned()),
        paths: rules(paths),
        ..TopologySpec::default()
    }
}

/// `hub` and `edge`, not connected yet; the hub grants what the edge's modes need.
pub(super) fn pair(world: &TreeWorld, paths: &[(&str, Mode)]) -> Fleet {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", matching_hub(paths));
    fleet.add("edge", edge(paths));
    fleet
}

/// A hub that grants all that these modes need.
pub(super) fn matching_hub(paths: &[(&str, Mode)]) -> TopologySpec {
    let with = |modes: &[Mode]| {
        let wanted = paths.iter().filter(|(_, mode)| modes.contains(mode));
        wanted.map(|(path, _)| *path).collect::<Vec<_>>()
    };
    hub(
        &with(&[Mode::Replica, Mode::Readonly, Mode::Sync]),
        &with(&[Mode::Primary, Mode::Sync, Mode::Writeonly]),
    )
}

impl Fleet {
    /// Sets a value at a node, as a caller of it.
    #[track_caller]
    pub(super) fn set(&mut self, node: &str, at: &str, value: Value) -> Committed {
        let committed = self.commit(node, setting(at, value));
        committed.unwrap_or_else(|error| panic!("{at} is not set at {node}: {error}"))
    }

    #[track_caller]
    pub(super) fn delete(&mut self, node: &str, at: &str) -> Committed {
        let committed = self.commit(node, Commit::new(vec![delete_op(at)]));
        committed.unwrap_or_else(|error| panic!("{at} is not deleted at {node}: {error}"))
    }

    /// Writes as a service of the node does, which no gate asks.
    #[track_caller]
    pub(super) fn set_system(&mut self, node: &str, at: &str, value: Value) {
        let commit = Commit { system: true, ..setting(at, value) };
        self.tree(node).commit(commit).expect("a service writes");
        self.settle();
    }

    #[track_caller]
    pub(super) fn delete_system(&mut self, node: &str, at: &str) {
        let commit = Commit { system: true, ..Commit::new(vec![delete_op(at)]) };
        self.tree(node).commit(commit).expect("a service deletes");
        self.settle();
    }

    pub(super) fn get(&self, node: &str, at: &str) -> Value {
        get(&self.tree(node), at)
    }

    pub(super) fn rev(&self, node: &str) -> u64 {
        rev(&self.tree(node))
    }

    /// Commits of a node after a rev that change something that is replicated.
    pub(super) fn logged(&self, node: &str, after: u64) -> usize {
        let commits = self.tree(node).read_commits(after, usize::MAX).expect("they are there");
        commits.iter().filter(|commit| !commit.ops.is_empty()).count()
    }

    /// The commit is refused for a reason, and nothing is done.
    #[track_caller]
    pub(super) fn refused(
        &mut self,
        node: &str,
        commit: Commit,
        kind: ErrorKind,
        reason: &str,
    ) -> CommitError {
        let before = self.rev(node);
        let error = match self.commit(node, commit) {
            Ok(_) => panic!("the commit at {node} is refused for {reason}, but it succeeded"),
            Err(error) => error,
        };
        assert_eq!((error.kind(), error.error.fact("reason")), (kind, Some(reason)), "{error}");
        assert_eq!(self.rev(node), before, "a refused commit does nothing");
        error
    }

    /// The nodes hold the same at and below a path: the same leaves, by the same authors.
    #[track_caller]
    pub(super) fn agree(&self, nodes: &[&str], at: &str) {
        let scope = Scope { within: vec![path(at).key().clone()], except: Vec::new() };
        let state = |node: &str| {
            let tree = self.tree(node);
            (leaves(&tree, at), shown(&tree, &scope).expect("it is read"))
        };
        let first = state(nodes[0]);
        for node in &nodes[1..] {
            assert_eq!(state(node), first, "{node} and {} at {at}", nodes[0]);
        }
    }

    /// A source's path and where it is kept hold the same.
    #[track_caller]
    pub(super) fn agree_remapped(&self, source: &str, at: &str, node: &str, local: &str) {
        let held = |node: &str, at: &str, skipped: &str| {
            let scope = Scope { within: vec![path(at).key().clone()], except: Vec::new() };
            let skipped = path(skipped).key().len();
            // With what separates it.
            let skipped = if skipped == 0 { 0 } else { skipped + 1 };
            let mut shown = shown(&self.tree(node), &scope).expect("it is read");
            shown.iter_mut().for_each(|op| op.key = op.key.slice(skipped..));
            shown
        };
        let prefix = local.strip_suffix(at).expect("it ends with the path").trim_end_matches('/');
        assert_eq!(self.get(source, at), self.get(node, local));
        assert_eq!(held(source, at, ""), held(node, local, prefix), "endings too");
    }

    /// The link between two nodes was refused.
    #[track_caller]
    pub(super) fn assert_refused(&self, from: &str, to: &str, reason: RefusalReason) {
        let ended = self.ended(from, to).unwrap_or_else(|| panic!("{to} refused nothing"));
        assert_eq!(ended.reason, reason, "{}", ended.message);
    }
}
