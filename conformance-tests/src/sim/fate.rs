//! What befalls nodes and links: starts, ends, cuts, partitions, wrong clocks, old backups.

use std::sync::Arc;

use trellis_topology::FeedState;

use super::engines::Ending;
use super::network::LinkId;
use super::world::{Happening, World, note};

/// No outage is longer.
const OUTAGE_MS: u64 = 40_000;

impl World {
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        let time = self.time.clone();
        let wiring = Arc::clone(&self.wirings[node]);
        // A machine that is to be healthy is: after the faults no start ends in its midst.
        let mut tuning = self.tuning.clone();
        if self.calm {
            tuning.spare_starts();
        }
        let seed = self.seed.wrapping_mul(31).wrapping_add(node as u64 * 1000);
        if let Err(why) = self.nodes[node].start(&time, &tuning, wiring, seed) {
            return self.fail(why);
        }
        let Some(life) = self.awake(node) else {
            let delay = 100 + self.chance_up_to(3000);
            return self.plan(delay, Happening::Start(node));
        };
        let (head, identity) = (life.head(), life.tree.identity());
        let name = self.nodes[node].name.clone();
        let log_id = &identity.log_id[..8];
        note!(self, "{name} starts: log {log_id} epoch {} at {head}", identity.epoch);
        self.check_recovered(node, &identity.log_id, head);
        self.settle_doubt(node);
        for peer in 0..self.wirings[node].dials.len() {
            let delay = self.chance_up_to(500);
            self.plan(delay, Happening::Dial(node, peer));
        }
        let delay = self.chance_up_to(self.tuning.upkeep_ms.min(1000));
        self.plan(delay, Happening::Upkeep(node));
    }

    /// What was under way when the machine ended is asked for again, under the same key.
    fn settle_doubt(&mut self, node: usize) {
        let Some(key) = self.nodes[node].in_doubt.take() else { return };
        let Some(wish) = self.wishes.get(&key) else { return };
        let commit = wish.commit.clone();
        let outcome = self.commit_at(node, &key, commit);
        let told = outcome.map(|done| (done.rev, done.replayed)).map_err(|error| error.to_string());
        note!(self, "{} asks again for {key}: {told:?}", self.nodes[node].name);
    }

    pub(super) fn crash(&mut self, node: usize, ending: Ending) {
        let Some(life) = self.nodes[node].end(ending) else { return };
        let links: Vec<LinkId> = life.seats.keys().copied().collect();
        let sides: Vec<usize> = life.seats.values().map(|seat| seat.side).collect();
        drop(life);
        note!(self, "{} ends by {ending:?}", self.nodes[node].name);
        for (link, side) in links.into_iter().zip(sides) {
            // Some peers hear nothing of it, as when a machine loses its power.
            if ending == Ending::Kill || self.rng.one_in(2) {
                self.plan_gone_at_other_end(link, side);
            } else {
                self.network.lose(link);
            }
            self.network.shut(link, side);
        }
        let delay = if self.rng.one_in(3) { self.chance_up_to(OUTAGE_MS) } else { 200 };
        self.plan(delay, Happening::Start(node));
    }

    pub(super) fn upkeep(&mut self, node: usize) {
        let time = self.time.clone();
        let now = self.nodes[node].now(&time);
        let collects = self.rng.one_in(2) && self.all_have_met();
        let Some(life) = self.awake(node) else { return };
        life.apply();
        if collects {
            life.upkeep(now);
        }
        if life.machine.is_dead() {
            return self.ended_by_itself(node);
        }
        self.tell_head(node);
        self.watch_positions(node);
        // With a buffered journal this is also what makes commits durable, every second.
        let most = if self.tuning.is_buffered() { 500 } else { self.tuning.upkeep_ms };
        let delay = 1 + self.chance_up_to(2 * most);
        self.plan(delay, Happening::Upkeep(node));
    }

    /// Whether each feed was opened once. Before its first link a node is nobody's follower: what
    /// is removed meanwhile is not kept for it, and what it wrote before is news, however old.
    fn all_have_met(&mut self) -> bool {
        for (node, at) in self.nodes.iter().zip(0..) {
            let seats = node.life.iter().flat_map(|life| life.seats.values());
            for seat in seats.filter(|seat| seat.side == 0) {
                let plan = &self.wirings[at].dials[seat.peer].plan.link;
                let status = seat.session.status();
                let pulls = status.pull.is_some_and(|pull| pull.state == FeedState::Tail);
                let pushes = status.push.is_some();
                if (pulls || plan.pull.is_none()) && (pushes || plan.push.is_none()) {
                    self.met.insert((at, seat.peer));
                }
            }
        }
        self.met.len() >= self.wirings.iter().map(|wiring| wiring.dials.len()).sum()
    }

    pub(super) fn break_something(&mut self) {
        if self.calm {
            return;
        }
        let gap = self.tuning.fault_ms.unwrap_or(10_000);
        let delay = 1 + self.chance_up_to(2 * gap);
        self.plan(delay, Happening::Break);
        let node = self.rng.below(self.nodes.len());
        match self.rng.below(12) {
            0 => self.crash(node, Ending::Kill),
            1 => self.crash(node, Ending::PowerLoss),
            2 | 3 => {
                let (calls, happens) = (self.rng.below(12) as u32, self.rng.one_in(2));
                if let Some(life) = &self.nodes[node].life {
                    life.machine.burn(calls, happens);
                }
            }
            4 | 5 => self.cut(false),
            6 => self.cut(true),
            7 | 8 => self.part(),
            9 => self.isolate(node),
            10 => self.bend_clock(node),
            _ => self.rewind(node),
        }
    }

    /// Cuts a link off; when it is left half open, one end does not notice.
    fn cut(&mut self, half_open: bool) {
        let links: Vec<LinkId> = self.network.links.keys().copied().collect();
        if links.is_empty() {
            return;
        }
        let link = links[self.rng.below(links.len())];
        let nodes = self.network.links[&link].nodes;
        note!(self, "link {link} is cut{}", if half_open { ", half open" } else { "" });
        self.network.lose(link);
        let blind = if half_open { self.rng.below(2) } else { 2 };
        for side in (0..2).filter(|side| *side != blind) {
            let delay = self.chance_up_to(self.tuning.delay_ms);
            self.plan(delay, Happening::Gone(nodes[side], link));
        }
    }

    /// A direction between two nodes, or both, let nothing through for a while.
    fn part(&mut self) {
        let (one, other) = (self.rng.below(self.nodes.len()), self.rng.below(self.nodes.len()));
        if one == other {
            return;
        }
        let both = self.rng.one_in(2);
        self.block(one, other);
        if both {
            self.block(other, one);
        }
    }

    fn isolate(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.block(node, other);
            self.block(other, node);
        }
    }

    fn block(&mut self, from: usize, to: usize) {
        self.network.block(from, to);
        let names = (self.nodes[from].name.clone(), self.nodes[to].name.clone());
        note!(self, "nothing gets from {} to {}", names.0, names.1);
        let delay = self.chance_up_to(OUTAGE_MS);
        self.plan(delay, Happening::Unblock(from, to));
    }

    pub(super) fn unblock(&mut self, from: usize, to: usize) {
        if !self.network.unblock(from, to) {
            return;
        }
        let held: Vec<LinkId> = self.network.links.keys().copied().collect();
        for link in held {
            for side in 0..2 {
                let delay = self.chance_up_to(self.tuning.delay_ms);
                self.plan(delay, Happening::Arrive(link, side));
            }
        }
    }

    fn bend_clock(&mut self, node: usize) {
        let most = self.tuning.skew_ms;
        let skew = self.chance_up_to(2 * most) as i64 - most as i64;
        self.nodes[node].set_skew(skew);
        note!(self, "the clock of {} is {skew} ms off", self.nodes[node].name);
    }

    /// The end of all faults: everything works from now on.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        self.left_to_wish = 0;
        // A byte of credit over links of seconds would take hours to come to rest.
        self.tuning.calm_down();
        self.network.hurry(self.tuning.delay_ms);
        note!(self, "everything is well again");
        for from in 0..self.nodes.len() {
            self.nodes[from].set_skew(0);
            if let Some(life) = &self.nodes[from].life {
                life.machine.spare();
            }
            for to in 0..self.nodes.len() {
                self.unblock(from, to);
            }
            self.plan(0, Happening::Start(from));
        }
    }
}
