//! The same fleets over real links: what a session sends goes through a transport and back.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{LinkMessage, PeerLink, Replicator};

use super::fleet::Fleet;
use super::{follows, modes, paths, trails};
use crate::repl::{Host, Net, link, poll_for, wait};
use crate::tree::TreeWorld;
use crate::{Case, Cost, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.links.in_one_process", &["topology.links.same"], in_one_process)
        .needs(&[Need::Wire, Need::SegmentLog]),
    Case::new("replication.links.over_sockets", &["topology.links.same"], over_sockets)
        .needs(&[Need::Wire, Need::SegmentLog]),
];

thread_local! {
    static CARRIER: RefCell<Option<Arc<Carrier>>> = const { RefCell::new(None) };
}

/// A transport, and who accepts and dials on it.
pub(super) struct Carrier {
    host: Host,
    guest: Arc<dyn Replicator>,
    links: AtomicU64,
}

/// What fleets of this thread are carried by.
pub(super) fn carrier() -> Option<Arc<Carrier>> {
    CARRIER.with_borrow(Clone::clone)
}

/// The two ends of a link, and how many messages each has sent and received.
pub(super) struct Wire {
    ends: [Arc<dyn PeerLink>; 2],
    sent: [u64; 2],
    received: [u64; 2],
}

impl Carrier {
    pub(super) fn link(&self) -> Wire {
        self.links.fetch_add(1, Ordering::Relaxed);
        let (dialed, accepted) = link(&*self.guest, &self.host);
        Wire { ends: [dialed, accepted], sent: [0; 2], received: [0; 2] }
    }
}

impl Wire {
    pub(super) fn close(&self) {
        for end in &self.ends {
            drop(wait(end.close("the case ends it")));
        }
    }
}

impl Fleet {
    /// Sends a message from one end of a link; the other takes what is on its way meanwhile.
    pub(super) fn carry(&mut self, link: usize, side: usize, body: Bytes, compress: bool) {
        let Some(wire) = &mut self.links[link].wire else {
            return self.links[link].seats[1 - side].inbox.push_back(body);
        };
        wire.sent[side] += 1;
        let end = Arc::clone(&wire.ends[side]);
        let mut sending = pin!(end.send(LinkMessage { body, compress }));
        let mut patience = Duration::ZERO;
        loop {
            if let Some(result) = poll_for(sending.as_mut(), patience) {
                return result.expect("the link takes it");
            }
            let took = self.take(link, 1 - side, Duration::ZERO);
            patience = if took { Duration::ZERO } else { Duration::from_millis(1) };
        }
    }

    /// Takes a message from a link, if one comes.
    fn take(&mut self, link: usize, side: usize, patience: Duration) -> bool {
        let Some(wire) = &mut self.links[link].wire else { return false };
        let end = Arc::clone(&wire.ends[side]);
        let Some(next) = poll_for(pin!(end.next()), patience) else { return false };
        let body = next.expect("the link stands").expect("a message is on its way");
        wire.received[side] += 1;
        self.links[link].seats[side].inbox.push_back(body);
        true
    }

    /// Takes everything that is on its way to one end of a link; answers whether there was any.
    pub(super) fn take_all(&mut self, link: usize, side: usize) -> bool {
        let mut took = false;
        while let Some(wire) = &self.links[link].wire
            && wire.sent[1 - side] > wire.received[side]
        {
            assert!(self.take(link, side, Duration::from_secs(30)), "a message is lost");
            took = true;
        }
        took
    }
}

/// Every case about what is owned and followed.
const CARRIED: [&[Case<TreeWorld>]; 4] =
    [modes::CASES, follows::CASES, paths::CASES, trails::CASES];

/// Runs every so manieth case; a full run takes all.
fn carried(world: &TreeWorld, net: &Arc<dyn Net>, stride: usize) {
    let stride = if Cost::from_env() == Cost::Full { 1 } else { stride };
    let host = net.host("host", &[]).expect("a host");
    let guest = net.guest("guest").expect("a guest");
    CARRIER.set(Some(Arc::new(Carrier { host, guest, links: AtomicU64::new(0) })));
    for case in CARRIED.concat().iter().step_by(stride) {
        eprintln!("{}", case.id);
        (case.body)(world);
    }
    let carrier = CARRIER.take().expect("it was set");
    assert!(carrier.links.load(Ordering::Relaxed) > 20, "little went over links");
    wait(carrier.guest.close()).expect("the guest closes");
    wait(carrier.host.replicator.close()).expect("the host closes");
    net.close().expect("the transport closes");
}

fn in_one_process(world: &TreeWorld) {
    let factory = crate::matrix::loopback_repl();
    carried(world, &factory.open(world.dir()).expect("a transport"), 5);
}

fn over_sockets(world: &TreeWorld) {
    let factory = crate::matrix::ws_repl();
    carried(world, &factory.open(world.dir()).expect("a transport"), 2);
}
