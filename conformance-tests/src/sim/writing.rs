//! Callers: what they ask for, where it goes, and what it means to the model.

use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind};
use trellis_topology::{Event, ForwardId, ForwardRequest, TaskId, TaskOutcome};
use trellis_tree::{Commit, CommitError, Committed, Operation, Path, Version};

use super::model::{Change, Deed, Key, covers};
use super::network::LinkId;
use super::node::Waiter;
use super::wiring::Routed;
use super::workload;
use super::world::{Happening, World, note};

impl World {
    pub(super) fn write(&mut self) {
        if self.left_to_wish == 0 {
            return;
        }
        self.left_to_wish -= 1;
        let gap = 2 * self.tuning.work_ms / self.tuning.wishes;
        // Sometimes many at once, and nothing for a while.
        let delay = if self.rng.one_in(3) { 0 } else { self.chance_up_to(gap + gap / 2) };
        self.plan(delay, Happening::Write);
        let node = self.rng.below(self.nodes.len());
        let places = self.shape.nodes[node].writes.clone();
        if places.0.is_empty() || self.nodes[node].life.is_none() {
            return;
        }
        let endings = self.tuning.endings;
        let mut wish = workload::wish(&mut self.rng, &places, &mut self.serial, endings);
        let key = format!("w{}", self.wishes.len());
        wish.commit.key = Some(key.clone());
        let commit = wish.commit.clone();
        note!(self, "{} {key}: {}", self.nodes[node].name, wish.text);
        self.wishes.insert(key.clone(), wish);
        self.ask(node, key, commit);
    }

    fn ask(&mut self, node: usize, key: String, commit: Commit) {
        match self.wirings[node].route(&commit) {
            Routed::Here => {
                let outcome = self.commit_at(node, &key, commit);
                if self.nodes[node].life.is_none() {
                    return;
                }
                self.answered(node, &key, &outcome);
                self.tell_head(node);
            }
            Routed::Up(peer) => {
                let request = ForwardRequest { commit, wait: Duration::from_secs(10), hops: 0 };
                self.forward(node, peer, request, Waiter::Caller(key));
            }
            Routed::Refused(error) => self.answered(node, &key, &Err(error)),
        }
    }

    /// A peer's write goes where this node's own would go.
    pub(super) fn route(&mut self, node: usize, link: LinkId, id: TaskId, request: ForwardRequest) {
        let key = request.commit.key.clone().unwrap_or_default();
        match self.wirings[node].route(&request.commit) {
            Routed::Here => {
                let outcome = self.commit_at(node, &key, request.commit);
                if self.nodes[node].life.is_none() {
                    return;
                }
                self.step(node, link, Event::Done(id, TaskOutcome::Routed(outcome)));
                self.tell_head(node);
            }
            Routed::Up(peer) => {
                let onwards = ForwardRequest { hops: request.hops + 1, ..request };
                self.forward(node, peer, onwards, Waiter::Seat(link, id));
            }
            Routed::Refused(error) => {
                self.step(node, link, Event::Done(id, TaskOutcome::Routed(Err(error))));
            }
        }
    }

    pub(super) fn forward(
        &mut self,
        node: usize,
        peer: usize,
        request: ForwardRequest,
        waiter: Waiter,
    ) {
        let Some(life) = &mut self.nodes[node].life else { return };
        life.forwards += 1;
        let id = ForwardId(life.forwards);
        let link = life.dialing[peer].link;
        match link {
            Some(link) => {
                life.waiting.insert(id, waiter);
                self.step(node, link, Event::Forward(id, request));
            }
            None => {
                let error = Error::new(ErrorKind::Unavailable, "no link up");
                let outcome: Result<Committed, CommitError> = Err(error.into());
                match waiter {
                    Waiter::Caller(key) => self.answered(node, &key, &outcome),
                    Waiter::Seat(link, id) => {
                        self.step(node, link, Event::Done(id, TaskOutcome::Routed(outcome)));
                    }
                }
            }
        }
    }

    /// Commits at a node, and takes down what it means.
    pub(super) fn commit_at(
        &mut self,
        node: usize,
        key: &str,
        commit: Commit,
    ) -> Result<Committed, CommitError> {
        let Some(life) = self.awake(node) else {
            return Err(Error::new(ErrorKind::Closed, "the node is down").into());
        };
        let before = life.head();
        let idle = self.removals_of_nothing(node, key);
        let Some(life) = &self.nodes[node].life else { unreachable!("it is awake") };
        let outcome = life.tree.commit(Commit { system: false, ..commit });
        let dead = life.machine.is_dead();
        match &outcome {
            Ok(committed) if committed.rev > before || committed.replayed => {
                self.record(node, key, committed, &idle);
            }
            Ok(_) => drop(self.idle.insert(key.to_owned())),
            Err(_) if dead => self.nodes[node].in_doubt = Some(key.to_owned()),
            _ => {}
        }
        if dead {
            self.ended_by_itself(node);
        }
        outcome
    }

    pub(super) fn answered(
        &mut self,
        node: usize,
        key: &str,
        outcome: &Result<Committed, CommitError>,
    ) {
        match outcome {
            Ok(committed) => {
                note!(self, "{key} is rev {}", committed.rev);
                self.acknowledged(node, key, committed);
            }
            Err(error) => {
                let defect = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Closed);
                note!(self, "{key} is not: {error}");
                if defect
                    || (error.kind() == ErrorKind::Poisoned && self.nodes[node].life.is_some())
                {
                    self.fail(format!("{key} at {}: {error}", self.nodes[node].name));
                }
            }
        }
    }

    /// What a caller was told is there has to be there.
    fn acknowledged(&mut self, node: usize, key: &str, committed: &Committed) {
        let known = self.model.deeds.iter().any(|deed| deed.key == key);
        if let Some(upstream) = &committed.upstream
            && !known
            && !self.changes_nothing(key)
        {
            let (rev, log) = (upstream.rev, &upstream.log_id[..8]);
            let name = &self.nodes[node].name;
            self.fail(format!("{name} says that {key} is rev {rev} of {log}, where it never was"));
        }
        if let Some(upstream) = &committed.upstream
            && upstream.applied
        {
            self.check_own_write(node, key);
        }
    }

    /// A commit that the authority found to change nothing has no deed.
    fn changes_nothing(&self, key: &str) -> bool {
        self.idle.contains(key)
    }

    /// What a wish removes below a leaf: nothing is there, and the leaf stays.
    fn removals_of_nothing(&self, node: usize, key: &str) -> Vec<Key> {
        let wish = self.wishes.get(key);
        let view = self.nodes[node].life.as_ref().and_then(|life| life.tree.view().ok());
        let (Some(wish), Some(view)) = (wish, view) else { return Vec::new() };
        let removed = wish.changes.iter().filter(|change| change.leaf.is_none());
        let below_leaf = |key: &Key| {
            let mut above = (1..key.len()).filter(|at| key[*at] == 0).map(|at| &key[..at]);
            above.any(|above| {
                let path = Path::from_key(above).expect("a key of plain names");
                // Unless another operation of the commit makes an object of it.
                let opens = |other: &Change| other.leaf.is_some() && covers(above, &other.key);
                let opened = match &wish.commit.operations[..] {
                    [Operation::Set { path, .. }, _] => covers(above, path.key()),
                    _ => wish.changes.iter().any(opens),
                };
                view.leaf(&path).is_ok_and(|leaf| leaf.is_some()) && !opened
            })
        };
        let alone = |key: &Key| {
            let written = |change: &&Change| change.leaf.is_some() && covers(key, &change.key);
            !wish.changes.iter().any(|change| written(&change))
        };
        let keys = removed.map(|change| change.key.clone());
        keys.filter(|key| alone(key) && below_leaf(key)).collect()
    }

    /// Takes down what a commit at a node means.
    fn record(&mut self, node: usize, key: &str, committed: &Committed, idle: &[Key]) {
        if self.model.deeds.iter().any(|deed| deed.key == key && deed.node == node) {
            return;
        }
        let Some(wish) = self.wishes.get(key) else { return };
        let mut changes = wish.changes.clone();
        changes.retain(|change| change.leaf.is_some() || !idle.contains(&change.key));
        let ends = wish.ends;
        let pushed = committed.results.iter().find_map(|result| result.pushed.clone());
        if let Some(id) = pushed {
            for change in &mut changes {
                let text = String::from_utf8_lossy(&change.key).replace('?', &id);
                change.key = text.into_bytes();
            }
        }
        let Some(life) = &self.nodes[node].life else { return };
        let log = life.tree.identity().log_id;
        let read = life.tree.read_commits(committed.rev - 1, 1);
        let found = read.ok().and_then(|all| all.into_iter().next());
        let (maybe, version) = match found {
            // What nobody replicates has no version; there revs tell what is newer.
            Some(logged) if logged.author.version == Version::ZERO => {
                (false, Version { hlc: committed.rev, origin: 0 })
            }
            Some(logged) => (false, logged.author.version),
            None => (true, Version::ZERO),
        };
        let ms = version.ms().saturating_sub(super::clock::BEGINNING_MS);
        note!(self, "{key} is of {ms} ms, {:x}/{:x}", version.hlc & 0xffff, version.origin >> 48);
        self.commits += 1;
        self.model.deeds.push(Deed {
            key: key.to_owned(),
            node,
            log,
            rev: committed.rev,
            at: self.time.now(),
            version,
            changes,
            ends,
            maybe,
            unversioned: false,
        });
    }
}
