//! What has to hold of every node when all is at rest: its store is whole, replicas agree to the
//! last version, and what is kept for others has an end.

use trellis_tree::{CheckOptions, Scope};

use crate::tree::tools::shown;

use super::model::Group;
use super::node::Life;
use super::world::World;

impl World {
    /// What is wrong with a world at rest.
    pub(super) fn defect_at_rest(&self) -> Option<String> {
        let mut lives =
            self.nodes.iter().filter_map(|node| Some((&node.name, node.life.as_ref()?)));
        lives
            .find_map(|(name, life)| Some(format!("{name}: {}", defect_of(life)?)))
            .or_else(|| self.repaired())
            .or_else(|| self.shape.groups.iter().find_map(|group| self.differing_versions(group)))
            .or_else(|| self.slots_too_many())
    }

    /// A feed that had to be repaired hides a defect. Where something is kept below what is
    /// followed, and where an owner was restored over whom the later write wins, it may differ.
    fn repaired(&self) -> Option<String> {
        if self.restored > 0 || self.shape.groups.iter().any(|group| !group.except.is_empty()) {
            return None;
        }
        self.nodes.iter().find_map(|node| {
            let pulls = node.life.as_ref()?.seats.values();
            let pulls = pulls.filter_map(|seat| seat.session.status().pull);
            let pull = pulls.into_iter().find(|pull| pull.diverged > 0)?;
            let (name, leaves, feed) = (&node.name, pull.diverged, pull.feed);
            Some(format!("{name}: {leaves} leaves of {feed} differed from its source"))
        })
    }

    /// The first group whose replicas under one name hold the same in different versions.
    fn differing_versions(&self, group: &Group) -> Option<String> {
        let prefix = &group.members.first()?.prefix;
        // Under another name versions are nobody's business, and a leaf above what is kept here
        // gives way to it.
        let elsewhere = group.members.iter().any(|member| member.prefix != *prefix);
        if elsewhere || !group.except.is_empty() {
            return None;
        }
        let scope = Scope { within: vec![prefix.clone().into()], except: Vec::new() };
        let all = group.members.iter().filter_map(|member| {
            let node = &self.nodes[member.node];
            Some((&node.name, shown(&node.life.as_ref()?.tree, &scope).ok()?))
        });
        let all: Vec<_> = all.collect();
        let (first, held) = all.first()?;
        let (other, _) = all.iter().find(|(_, other)| other != held)?;
        Some(format!("{}: the versions at {first} and {other} differ", group.name))
    }

    /// A slot is kept for each follower, and for what followers were before they were restored.
    fn slots_too_many(&self) -> Option<String> {
        let (links, restored) = (2 * self.nodes.len(), self.restored);
        self.nodes.iter().find_map(|node| {
            let slots = node.life.as_ref()?.store.slots(node.now(&self.time)).ok()?.len();
            let name = &node.name;
            (slots > links + restored).then(|| format!("{name} keeps {slots} slots"))
        })
    }
}

/// What is wrong with a node.
fn defect_of(life: &Life) -> Option<String> {
    life.apply();
    match life.tree.check(&CheckOptions::default()) {
        Ok(report) if report.is_clean() => {}
        Ok(report) => return Some(format!("its check finds {:?}", report.findings)),
        Err(error) => return Some(format!("it cannot be checked: {error}")),
    }
    None
}
