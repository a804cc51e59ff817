//! What has to hold: at every start, while things break, and when everything has come to rest.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use trellis_topology::FeedPosition;
use trellis_tree::{Path, View};

use super::model::{Group, Key, Leaves, Place, covers, difference, readable};
use super::workload::PAIR;
use super::world::World;

/// Differences that are named.
const NAMED: usize = 4;

/// What a node holds of a place, each key seen from the place.
pub(super) fn held(view: &View, place: &Place, group: &Group) -> Leaves {
    let mut leaves = Leaves::new();
    let path = Path::from_key(&place.prefix).expect("a key of plain names");
    let visited = view.for_each_leaf(&path, &mut |path, json| {
        let rest = &path.key()[place.prefix.len()..];
        let key: Key = rest.strip_prefix(&[0]).unwrap_or(rest).into();
        if group.holds(&key) && !group.may_give_way(&key) && !path.is_system() {
            leaves.insert(key, String::from_utf8_lossy(json).into_owned());
        }
        ControlFlow::Continue(())
    });
    visited.expect("a machine that runs");
    leaves
}

impl World {
    /// What a node that has started must have again.
    pub(super) fn check_recovered(&mut self, node: usize, log: &str, head: u64) {
        let is_own = |deed: &super::model::Deed| deed.node == node && deed.log == log;
        let newest = self.model.deeds.iter().filter(|deed| is_own(deed)).map(|deed| deed.rev).max();
        let Some(newest) = newest.filter(|newest| *newest > head) else { return };
        if self.tuning.is_buffered() {
            self.model.deeds.retain(|deed| !is_own(deed) || deed.rev <= head);
            return;
        }
        let name = &self.nodes[node].name;
        self.fail(format!("{name} was acknowledged rev {newest}, and comes back at {head}"));
    }

    /// Positions never go back within a history, and never lead beyond it.
    pub(super) fn watch_positions(&mut self, node: usize) {
        let Some(life) = &self.nodes[node].life else { return };
        let Ok(view) = life.tree.view() else { return };
        let Ok(feeds) = view.get(&Path::from_segments(["_repl", "feeds"]).unwrap()) else { return };
        let Some(feeds) = feeds.as_object() else { return };
        let mut whole = true;
        let mut told = Vec::new();
        for (feed, position) in feeds {
            let position = FeedPosition::from_json(position).expect("a position");
            let FeedPosition { at, fill, complete_at, .. } = position;
            let log = format!("{:032x}", at.log_id);
            whole &= fill.is_none() && at.rev >= complete_at && self.is_first_hand(&log);
            told.push((feed.clone(), log, at.rev, fill.is_none()));
        }
        if whole {
            self.check_pairs(node, &view);
        }
        drop(view);
        for (feed, log, rev, tail) in told {
            self.watch_position(node, feed, log, rev, tail);
        }
    }

    /// Whether a log is that of a node that follows nobody: what a relay is filled with reaches its
    /// followers page by page.
    fn is_first_hand(&self, log: &str) -> bool {
        let mut lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let source = lives.find(|life| life.tree.identity().log_id == log);
        let view = source.and_then(|life| life.tree.view().ok());
        let feeds = Path::from_segments(["_repl", "feeds"]).unwrap();
        view.is_some_and(|view| view.get(&feeds).is_ok_and(|feeds| feeds.is_null()))
    }

    fn watch_position(&mut self, node: usize, feed: String, log: String, rev: u64, tail: bool) {
        let name = self.nodes[node].name.clone();
        let source = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let source = source.into_iter().find(|life| life.tree.identity().log_id == log);
        if let Some(head) = source.map(super::node::Life::head)
            && rev > head
            && !self.tuning.is_buffered()
        {
            self.fail(format!("{name} has {feed} up to {rev}, and the source ends at {head}"));
        }
        let before = self.positions.insert((node, feed.clone()), (log.clone(), rev, tail));
        let Some((log_before, rev_before, tail_before)) = before else { return };
        let same = log == log_before && tail && tail_before;
        if same && rev < rev_before && !self.tuning.is_buffered() {
            self.fail(format!("{name} had {feed} up to {rev_before}, and now up to {rev}"));
        }
    }

    /// A commit that comes by the tail is never seen in part.
    fn check_pairs(&mut self, node: usize, view: &View) {
        let mut sides: BTreeMap<Key, Vec<String>> = BTreeMap::new();
        let visited = view.for_each_leaf(&Path::from_key(b"").unwrap(), &mut |path, json| {
            let names: Vec<&str> = path.segments().collect();
            if let [.., above, "left" | "right"] = names[..]
                && above.starts_with(PAIR)
                && !path.is_system()
            {
                let above = path.parent().expect("two names at least").key().to_vec();
                sides.entry(above).or_default().push(String::from_utf8_lossy(json).into_owned());
            }
            ControlFlow::Continue(())
        });
        visited.expect("a machine that runs");
        let torn = |sides: &Vec<String>| sides.len() != 2 || sides[0] != sides[1];
        if let Some((above, sides)) = sides.into_iter().find(|(_, sides)| torn(sides)) {
            let (name, above) = (&self.nodes[node].name, readable(&above));
            self.fail(format!("{name} shows {above} half written: {sides:?}"));
        }
    }

    /// Whoever is told that its write has arrived here reads it here.
    pub(super) fn check_own_write(&mut self, node: usize, key: &str) {
        let Some(deed) = self.model.deeds.iter().find(|deed| deed.key == key) else { return };
        let Some(life) = &self.nodes[node].life else { return };
        if deed.ends || life.topology.renames {
            return;
        }
        let Ok(view) = life.tree.view() else { return };
        let missing = deed.changes.iter().find(|change| {
            let Some(leaf) = &change.leaf else { return false };
            let others = self.model.deeds.iter().filter(|other| other.key != key);
            let mut touched = others.flat_map(|other| &other.changes);
            if touched
                .any(|other| covers(&other.key, &change.key) || covers(&change.key, &other.key))
            {
                return false;
            }
            let path = Path::from_key(&change.key).expect("a key of plain names");
            view.get_json(&path, 1 << 20).ok().as_deref() != Some(leaf.as_bytes())
        });
        if let Some(missing) = missing {
            let (name, path) = (self.nodes[node].name.clone(), readable(&missing.key));
            self.fail(format!("{name} was told that {key} has arrived, and {path} is not there"));
        }
    }

    /// The first group whose members do not hold what its authors wrote; `None`: all do.
    pub(super) fn disagreement(&self) -> Option<String> {
        self.shape.groups.iter().find_map(|group| self.disagreement_in(group))
    }

    fn disagreement_in(&self, group: &Group) -> Option<String> {
        let mut expected = self.model.expected(group);
        expected.leaves.retain(|key, _| !group.may_give_way(key));
        let mut first: Option<(&str, Leaves)> = None;
        for member in &group.members {
            let node = &self.nodes[member.node];
            let Some(life) = &node.life else { return Some(format!("{} is down", node.name)) };
            let leaves = held(&life.tree.view().ok()?, member, group);
            let known = |leaves: &Leaves| {
                let known = leaves.iter().filter(|(key, _)| expected.knows(key));
                known.map(|(key, leaf)| (key.clone(), leaf.clone())).collect::<Leaves>()
            };
            let wrong = difference(&known(&expected.leaves), &known(&leaves));
            if !wrong.is_empty() {
                let tell = |key: &Key| {
                    let (should, is) = (expected.leaves.get(key), leaves.get(key));
                    format!("{} is {is:?} and should be {should:?}", readable(key))
                };
                let told: Vec<String> = wrong.iter().take(NAMED).map(tell).collect();
                let told = told.join("; ");
                let name = &node.name;
                return Some(format!("{}: at {name} {} differ: {told}", group.name, wrong.len()));
            }
            match &first {
                None => first = Some((&node.name, leaves)),
                Some((other, others)) if *others != leaves => {
                    let wrong = difference(others, &leaves);
                    let told: Vec<String> = wrong
                        .iter()
                        .take(NAMED)
                        .map(|key| {
                            let (one, two) = (others.get(key), leaves.get(key));
                            format!("{}: {one:?}, {two:?}", readable(key))
                        })
                        .collect();
                    let (name, told) = (&node.name, told.join("; "));
                    return Some(format!("{}: {other} and {name} differ: {told}", group.name));
                }
                Some(_) => {}
            }
        }
        None
    }

    /// Where every link stands, for the one who looks for the reason.
    pub(super) fn standing(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let Some(life) = &node.life else {
                text.push_str(&format!("{}: down\n", node.name));
                continue;
            };
            text.push_str(&format!("{}: head {}\n", node.name, life.head()));
            for (link, seat) in &life.seats {
                let status = seat.session.status();
                let pull = status.pull.as_ref().map(|pull| {
                    let (state, at) = (pull.state.name(), pull.position);
                    let paused = pull.paused.clone().unwrap_or_default();
                    format!("pulls {} {state} {at} of {} {paused}", pull.feed, pull.head)
                });
                let push = status.push.as_ref().map(|push| {
                    let (state, sent) = (push.state.name(), push.sent);
                    format!("pushes {state} {sent} acknowledged {}", push.acknowledged)
                });
                text.push_str(&format!(
                    "  link {link} {:?} {pull:?} {push:?} {} tasks\n",
                    status.link,
                    seat.tasks.len()
                ));
            }
        }
        text
    }
}
