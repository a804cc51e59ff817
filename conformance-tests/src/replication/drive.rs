//! How the sessions of a fleet are driven: one event at a time, and everything that it wants done.

use std::collections::VecDeque;

use trellis_engine_traits::ErrorKind;
use trellis_runtime::Clock as _;
use trellis_topology::{
    Action, Event, ForwardId, ForwardOutcome, ForwardRequest, Now, Refusal, Route, TaskOutcome,
};
use trellis_tree::{CommitError, Committed};

use super::fleet::{Fleet, Link, Waiter};

impl Fleet {
    pub(super) fn tell_heads(&mut self) -> bool {
        let mut told = false;
        for at in 0..self.nodes.len() {
            let Some(life) = &mut self.nodes[at].life else { continue };
            let head = super::tools::rev(&life.tree);
            if std::mem::replace(&mut life.told, head) < head {
                told = true;
                for link in 0..self.links.len() {
                    for side in 0..2 {
                        if self.links[link].seats[side].node == at {
                            self.step(link, side, Event::Committed(head));
                        }
                    }
                }
            }
        }
        told
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: self.mono, wall_ms: self.clock.now_ms() }
    }

    /// One event of a session, and everything that it wants done.
    pub(super) fn step(&mut self, link: usize, side: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if !self.links[link].seats[side].open {
                return;
            }
            let node = self.links[link].seats[side].node;
            let now = self.now();
            let actions = self.links[link].seats[side].session.step(now, event);
            self.learn(link, side);
            for action in actions {
                match action {
                    Action::Send { bytes, compress } => {
                        self.largest = self.largest.max(bytes.len());
                        self.sent += bytes.len();
                        self.carry(link, side, bytes, compress);
                    }
                    Action::Do(id, task) => {
                        let life = self.nodes[node].life.as_ref().expect("it is open");
                        events.push_back(Event::Done(id, life.store.execute(now, task)));
                    }
                    Action::Route(id, request) => {
                        if let Some(outcome) = self.route(node, request, Waiter::Peer(link, id)) {
                            events.push_back(Event::Done(id, TaskOutcome::Routed(outcome)));
                        }
                    }
                    Action::Forwarded(id, outcome) => self.forwarded(node, id, outcome),
                    Action::Close(refusal) => self.close(link, side, refusal),
                }
            }
        }
    }

    /// Takes note of who is at the other end.
    fn learn(&mut self, link: usize, side: usize) {
        let seat = &self.links[link].seats[side];
        if side == 0
            && let Some((peer, _)) = &seat.session.status().peer
            && let Some(life) = &self.nodes[seat.node].life
            && let Err(refusal) = life.admission.learned(&self.links[link].id, *peer)
        {
            self.close(link, side, refusal);
        }
    }

    pub(super) fn close(&mut self, link: usize, side: usize, refusal: Refusal) {
        let [dialer, acceptor] = &self.links[link].seats;
        let (dialer, acceptor) = (dialer.node, acceptor.node);
        eprintln!("{}: {refusal:?}", self.nodes[self.links[link].seats[side].node].name);
        let url = self.nodes[acceptor].name.clone();
        self.nodes[dialer].ended.entry(url).or_insert(refusal);
        self.links[link].seats[side].open = false;
        let other = 1 - side;
        // What was sent before still arrives.
        self.take_all(link, other);
        while let Some(message) = self.links[link].seats[other].inbox.pop_front() {
            self.step(link, other, Event::Received(message));
        }
        self.step(link, other, Event::Closed);
        self.links[link].seats[other].open = false;
        if let Some(wire) = &self.links[link].wire {
            wire.close();
        }
    }

    /// Commits here, refuses, or sends a commit up; the answer, if there is one at once.
    pub(super) fn route(
        &mut self,
        node: usize,
        request: ForwardRequest,
        waiter: Waiter,
    ) -> Option<Result<Committed, CommitError>> {
        let life = self.nodes[node].life.as_ref().expect("it is open");
        let upstream = match life.topology.route(&request.commit) {
            Route::Here => return Some(life.tree.commit(request.commit)),
            Route::Refused(error) => return Some(Err(error)),
            Route::Forward { upstream } => upstream,
        };
        let linked = |link: &Link| link.id == *upstream && link.seats[0].node == node;
        let Some(link) = self.links.iter().position(linked) else {
            let error = trellis_engine_traits::Error::new(ErrorKind::Unavailable, "not connected");
            return Some(Err(error.context("reason", "upstream_unavailable").into()));
        };
        self.nodes[node].forwards += 1;
        let id = ForwardId(self.nodes[node].forwards);
        let life = self.nodes[node].life.as_mut().expect("it is open");
        life.waiting.insert(id, waiter);
        self.step(link, 0, Event::Forward(id, request));
        None
    }

    pub(super) fn forwarded(&mut self, node: usize, id: ForwardId, outcome: ForwardOutcome) {
        let life = self.nodes[node].life.as_mut().expect("it is open");
        match life.waiting.remove(&id).expect("an answer is waited for, and comes once") {
            Waiter::Caller => drop(self.nodes[node].answers.insert(id, outcome)),
            Waiter::Peer(link, task) => {
                self.step(link, 1, Event::Done(task, TaskOutcome::Routed(outcome)));
            }
        }
    }
}
