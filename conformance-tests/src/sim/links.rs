//! Links and the sessions at their ends: dialed, answered, given up.

use std::collections::VecDeque;
use std::sync::Arc;

use trellis_topology::{Ended, Event, PeerIdentity, Role, Session, SessionConfig};

use super::network::{LinkId, Side};
use super::node::{Seat, millis};
use super::world::{Happening, World, note};

impl World {
    /// The session at an end is over; its node dials again when it is its turn.
    pub(super) fn leave(&mut self, node: usize, link: LinkId, ended: Ended) {
        let now = self.now();
        let random = self.rng.next_u64();
        let Some(life) = &mut self.nodes[node].life else { return };
        let Some(seat) = life.seats.remove(&link) else { return };
        if seat.side == 0
            && let Some(dialing) = life.dialing.get_mut(seat.peer)
            && dialing.link == Some(link)
        {
            dialing.link = None;
            let up = std::time::Duration::from_millis(now - seat.since);
            let wait = millis(dialing.backoff.wait(ended, up, random));
            // After the faults nobody waits for minutes: that is not what is to be shown.
            self.plan(wait.min(30_000), Happening::Dial(node, seat.peer));
        }
        self.network.shut(link, seat.side);
    }

    /// The other end of a link learns of its end after what was sent before.
    pub(super) fn plan_gone_at_other_end(&mut self, link: LinkId, side: Side) {
        let Some(found) = self.network.links.get(&link) else { return };
        let other = found.nodes[1 - side];
        let last = self.network.waiting(link).into_iter().find(|(to, _)| *to == 1 - side);
        let delay = last.map_or(0, |(_, at)| at.saturating_sub(self.now()));
        let delay = delay + self.tuning.delay_ms;
        self.plan(delay, Happening::Gone(other, link));
    }

    pub(super) fn gone(&mut self, node: usize, link: LinkId) {
        self.step(node, link, Event::Closed);
        self.leave(node, link, Ended::Away);
    }

    pub(super) fn dial(&mut self, node: usize, peer: usize) {
        let now = self.now();
        let wiring = Arc::clone(&self.wirings[node]);
        let target = wiring.dials[peer].target;
        let Some(life) = self.nodes[node].life.as_ref() else { return };
        if life.dialing[peer].link.is_some() {
            return;
        }
        let reaches = self.network.reaches(node, target) && self.network.reaches(target, node);
        if !reaches || self.nodes[target].life.is_none() {
            let again = 500 + self.chance_up_to(3000);
            return self.plan(again, Happening::Dial(node, peer));
        }
        if self.tuning.one_link {
            self.supersede(node, peer, target);
        }
        let link = self.network.open([node, target], self.tuning.delay_ms);
        note!(self, "{} dials {}: link {link}", self.nodes[node].name, self.nodes[target].name);
        let plan = wiring.dials[peer].plan.clone();
        self.sit(node, link, 0, peer, Role::Dialer(Box::new(plan)), target, now);
        if let Some(life) = &mut self.nodes[node].life {
            life.dialing[peer].link = Some(link);
        }
        let policy = self.wirings[target].policy();
        self.sit(target, link, 1, peer, Role::Acceptor(policy), node, now);
        self.step(target, link, Event::Connected);
        self.step(node, link, Event::Connected);
    }

    /// A newer link takes the place of the one before it, which may still look alive at the node
    /// that is dialed, as at a real one: two at a time would both move one position.
    fn supersede(&mut self, node: usize, peer: usize, target: usize) {
        let Some(life) = &self.nodes[target].life else { return };
        let is_older = |(link, seat): &(&LinkId, &Seat)| {
            let nodes = self.network.links.get(link).map(|link| link.nodes);
            seat.side == 1 && seat.peer == peer && nodes == Some([node, target])
        };
        if let Some(link) = life.seats.iter().find(is_older).map(|(link, _)| *link) {
            self.gone(target, link);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "an end of a link has so many parts")]
    fn sit(
        &mut self,
        node: usize,
        link: LinkId,
        side: Side,
        peer: usize,
        role: Role,
        other: usize,
        now: u64,
    ) {
        let other = self.nodes[other].name.clone();
        let peer_identity =
            PeerIdentity { roles: vec![other.clone()], name: other, loopback: true };
        let name = self.nodes[node].name.clone();
        let options = self.tuning.session.clone();
        let Some(life) = &mut self.nodes[node].life else { return };
        let identity = life.tree.identity();
        let config = SessionConfig {
            node: u128::from_str_radix(&identity.log_id, 16).unwrap(),
            name,
            epoch: identity.epoch,
            life: identity.epoch,
            attempt: now,
            head: life.head(),
            schema: 0,
            peer: peer_identity,
            options,
        };
        let head = config.head;
        let session = Session::new(role, config);
        let tasks = VecDeque::new();
        let seat =
            Seat { session, side, peer, tasks, head, tick_at: None, since: now, ticks: (0, 0) };
        life.seats.insert(link, seat);
    }
}
