//! Links between nodes: whole messages in order, each after a while; held up, cut, half open.
//!
//! A link that is held up in one direction delivers later, as a transport that repeats does; what
//! is lost is lost with its link. Across links nothing has an order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::Rng;

/// Names a link for good; ascending.
pub(super) type LinkId = u64;

/// One end: that of the node that dialed is 0.
pub(super) type Side = usize;

#[derive(Debug)]
pub(super) struct Link {
    /// The nodes at its ends.
    pub(super) nodes: [usize; 2],
    /// Whether each end believes in it.
    pub(super) open: [bool; 2],
    /// What is on its way to each end, with the time at which it arrives.
    flights: [VecDeque<(u64, Bytes)>; 2],
    /// No message takes longer.
    delay_max: u64,
    /// Nothing gets through any more, whatever its ends believe.
    broken: bool,
}

#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) links: BTreeMap<LinkId, Link>,
    next: LinkId,
    /// From whom to whom nothing gets through at the moment.
    blocked: BTreeSet<(usize, usize)>,
    pub(super) delivered: u64,
    pub(super) bytes_max: usize,
}

impl Network {
    pub(super) fn open(&mut self, nodes: [usize; 2], delay_max: u64) -> LinkId {
        self.next += 1;
        let link =
            Link { nodes, open: [true; 2], flights: Default::default(), delay_max, broken: false };
        self.links.insert(self.next, link);
        self.next
    }

    /// Puts a message on its way from one end; when it arrives, unless it is held up.
    pub(super) fn send(
        &mut self,
        id: LinkId,
        from: Side,
        message: Bytes,
        now: u64,
        rng: &mut Rng,
    ) -> Option<u64> {
        self.bytes_max = self.bytes_max.max(message.len());
        let link = self.links.get_mut(&id).filter(|link| !link.broken)?;
        let flight = &mut link.flights[1 - from];
        let after = flight.back().map_or(now, |(at, _)| (*at).max(now));
        let at = after.max(now + rng.below(link.delay_max as usize + 1) as u64);
        flight.push_back((at, message));
        Some(at)
    }

    /// Takes what has arrived at an end by now.
    pub(super) fn arrived(&mut self, id: LinkId, to: Side, now: u64) -> Option<Bytes> {
        let link = self.links.get_mut(&id)?;
        if self.blocked.contains(&(link.nodes[1 - to], link.nodes[to])) {
            return None;
        }
        let flight = &mut link.flights[to];
        if flight.front().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        self.delivered += 1;
        flight.pop_front().map(|(_, message)| message)
    }

    /// When the first message arrives at each end, for those that have one.
    pub(super) fn waiting(&self, id: LinkId) -> Vec<(Side, u64)> {
        let flights = self.links.get(&id).map(|link| &link.flights);
        let first = |flights: &[VecDeque<(u64, Bytes)>; 2]| {
            (0..2).filter_map(|to| Some((to, flights[to].front()?.0))).collect()
        };
        flights.map(first).unwrap_or_default()
    }

    /// From now on no message takes longer.
    pub(super) fn hurry(&mut self, delay_max: u64) {
        self.links.values_mut().for_each(|link| link.delay_max = delay_max);
    }

    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    pub(super) fn unblock(&mut self, from: usize, to: usize) -> bool {
        self.blocked.remove(&(from, to))
    }

    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// One end is gone: nothing more arrives there, and what it sends goes nowhere.
    pub(super) fn shut(&mut self, id: LinkId, side: Side) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.open[side] = false;
        link.flights[side].clear();
        if link.open == [false; 2] {
            self.links.remove(&id);
        }
    }

    /// Breaks a link: what is on its way is lost, and whatever is sent over it.
    pub(super) fn lose(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.flights = Default::default();
            link.broken = true;
        }
    }
}
