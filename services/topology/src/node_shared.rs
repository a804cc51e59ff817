//! What the threads of a node share: its tree, its links, and whether it is closing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::{Peer, Replicator};
use trellis_runtime::{Alarm, Runtime, Worker};
use trellis_tree::{PendingCommit, ReplicationStats};

use crate::forward::ForwardRequest;
use crate::message::{Hello, Refusal, RefusalReason};
use crate::node::NodeOptions;
use crate::node_gate::{Mailbox, NodeGate};
use crate::plan::{LinkPlan, LinkPolicy, OfferedMode, PeerIdentity, ZoneOffer};
use crate::route::Route;
use crate::{Admission, LinkStatus, Now, SessionConfig, SessionStatus, Store, Topology};

/// What outside knows of a link.
#[derive(Debug)]
pub(crate) struct LinkEntry {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) dialed: bool,
    pub(crate) mail: Arc<Mailbox>,
    pub(crate) state: Mutex<LinkInfo>,
}

#[derive(Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) attempts: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) next_attempt_at: Option<Duration>,
    pub(crate) session: SessionStatus,
}

/// A link that a peer made, and its thread.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) entry: Arc<LinkEntry>,
    pub(crate) worker: Option<Worker>,
}

/// A node that came in over a link.
#[derive(Debug)]
struct Guest {
    node: u128,
    epoch: u64,
    offers: [Vec<ZoneOffer>; 2],
}

/// What the threads of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) topology: Arc<Topology>,
    pub(crate) replicator: Arc<dyn Replicator>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) options: NodeOptions,
    pub(crate) admission: Admission,
    pub(crate) gate: Arc<NodeGate>,
    pub(crate) dials: Vec<Arc<LinkEntry>>,
    /// The number of the next link that a peer makes.
    pub(crate) next_link: AtomicU64,
    /// By number.
    pub(crate) accepted: Mutex<BTreeMap<u64, Accepted>>,
    /// Nodes that came in, by the number of the link.
    guests: Mutex<BTreeMap<u64, Guest>>,
    /// When what is kept for followers is to be counted again, and what it was.
    pub(crate) counted: Mutex<(Duration, ReplicationStats)>,
    pub(crate) counting: Mutex<()>,
    alarms: Mutex<Vec<Weak<Alarm>>>,
    closing: AtomicBool,
}

impl LinkEntry {
    pub(crate) fn new(id: String, url: &str, dialed: bool, mail: Arc<Mailbox>) -> Arc<Self> {
        let address = without_secrets(url);
        Arc::new(Self { id, address, dialed, mail, state: Mutex::default() })
    }

    pub(crate) fn status(&self, now: Duration) -> LinkStatus {
        let state = self.state.lock();
        LinkStatus {
            id: self.id.clone(),
            address: self.address.clone(),
            dialed: self.dialed,
            attempts: state.attempts,
            last_error: state.last_error.clone(),
            next_attempt_in: state.next_attempt_at.map(|at| at.saturating_sub(now)),
            session: state.session.clone(),
        }
    }

    /// Keeps why it ended; whether that is news.
    pub(crate) fn failed(&self, error: &str) -> bool {
        let mut state = self.state.lock();
        let news = state.last_error.as_deref() != Some(error);
        state.last_error = Some(error.to_owned());
        news
    }
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        topology: Arc<Topology>,
        replicator: Arc<dyn Replicator>,
        runtime: Arc<Runtime>,
        options: NodeOptions,
    ) -> Arc<Self> {
        let clock = Arc::clone(runtime.clock());
        let writes_max = options.session.forwards_max;
        let entry = |dial: &crate::Dial| {
            let mail = Mailbox::new(clock.as_ref(), writes_max);
            LinkEntry::new(dial.id.to_string(), &dial.url, true, mail)
        };
        let dials: Vec<_> = topology.dials().iter().map(entry).collect();
        let boxes = topology.dials().iter().zip(&dials);
        let boxes = boxes.map(|(dial, entry)| (Arc::clone(&dial.id), Arc::clone(&entry.mail)));
        let tree = store.tree();
        // Escapes and keys make a request larger than what it stores, never twice as large.
        let bytes_max = tree.options().limits.commit_bytes_max.saturating_mul(2);
        let bytes_max = bytes_max.min(options.session.message_bytes_max / 2);
        let stem = format!("forward-{:032x}-{}", store.node(), tree.identity().epoch);
        let wait = options.forward_wait;
        let topology_of_gate = Arc::clone(&topology);
        let gate = NodeGate::new(topology_of_gate, clock, boxes.collect(), wait, bytes_max, stem);
        let alarms = dials.iter().map(|entry| Arc::downgrade(&entry.mail.alarm)).collect();
        Arc::new(Self {
            store,
            admission: Admission::new(Arc::clone(&topology)),
            topology,
            replicator,
            runtime,
            options,
            gate: Arc::new(gate),
            dials,
            next_link: AtomicU64::new(0),
            accepted: Mutex::default(),
            guests: Mutex::default(),
            counted: Mutex::default(),
            counting: Mutex::default(),
            alarms: Mutex::new(alarms),
            closing: AtomicBool::new(false),
        })
    }

    pub(crate) fn now(&self) -> Now {
        let clock = self.runtime.clock();
        Now { mono: clock.monotonic(), wall_ms: clock.now_ms() }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Has every thread end; whether none was told before.
    pub(crate) fn begin_close(&self) -> bool {
        let first = !self.closing.swap(true, Ordering::AcqRel);
        for alarm in self.alarms.lock().iter().filter_map(Weak::upgrade) {
            alarm.ring();
        }
        first
    }

    /// Rings an alarm when the node closes. Look whether it does before the first wait.
    pub(crate) fn watch(&self, alarm: &Arc<Alarm>) {
        let mut alarms = self.alarms.lock();
        alarms.retain(|alarm| alarm.strong_count() > 0);
        alarms.push(Arc::downgrade(alarm));
    }

    /// Waits so long, or until the node closes.
    pub(crate) fn pause(&self, alarm: &Alarm, wait: Duration) {
        let clock = self.runtime.clock();
        let deadline = clock.monotonic().saturating_add(wait);
        while !self.is_closing() && clock.monotonic() < deadline {
            alarm.wait(clock.as_ref(), Some(deadline));
        }
    }

    /// Carries out a peer's write: here, or at the node that owns the paths.
    pub(crate) fn route(&self, request: ForwardRequest) -> PendingCommit {
        match self.topology.route(&request.commit) {
            Route::Here => self.store.tree().submit(request.commit),
            Route::Forward { upstream } => self.gate.forward(&upstream, request),
            Route::Refused(error) => {
                let (pending, sender) = PendingCommit::channel();
                sender.send(Err(error));
                pending
            }
        }
    }

    pub(crate) fn session_config(&self, peer: PeerIdentity) -> SessionConfig {
        let tree = self.store.tree();
        SessionConfig {
            node: self.store.node(),
            name: self.options.name.clone(),
            epoch: tree.identity().epoch,
            head: tree.position().rev,
            schema: 0,
            peer,
            options: self.options.session.clone(),
        }
    }

    /// The node of a link is gone.
    pub(crate) fn guest_left(&self, number: u64) {
        let mut guests = self.guests.lock();
        let Some(gone) = guests.remove(&number) else { return };
        if !guests.values().any(|guest| guest.node == gone.node) {
            self.admission.left(gone.node);
        }
    }
}

/// Who comes in over one link: what [`Admission`] says, and nobody who is here already.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: u64,
}

impl LinkPolicy for Entrance {
    fn admit(&self, peer: &PeerIdentity, hello: &Hello) -> Result<LinkPlan, Refusal> {
        let offers = [hello.pull.clone(), hello.push.clone()];
        // Locked until it is in: of two at a time one is first.
        let mut guests = self.shared.guests.lock();
        // A node may have several links, each for something else: one to its upstream, and others
        // to sources.
        let is_upstream = |offers: &[Vec<ZoneOffer>; 2]| {
            let sourced =
                |offer: &ZoneOffer| matches!(offer.mode, OfferedMode::Source | OfferedMode::Own);
            !offers.iter().flatten().all(sourced)
        };
        let same = |guest: &Guest| {
            let both = is_upstream(&guest.offers) && is_upstream(&offers);
            guest.epoch != hello.epoch || guest.offers == offers || both
        };
        let taken = guests.values().find(|guest| guest.node == hello.node && same(guest));
        if taken.is_some() {
            return Err(Refusal::new(
                RefusalReason::DuplicateNode,
                "a node of this id is connected already: if this one is a copy of its data \
                 directory, make copies by backup and restore; otherwise it gets in once the old \
                 connection is given up",
            ));
        }
        let plan = self.shared.admission.admit(peer, hello)?;
        guests.insert(self.number, Guest { node: hello.node, epoch: hello.epoch, offers });
        Ok(plan)
    }
}

/// The peer as sessions know it. Who showed no token goes by its address, which stays the same when
/// it dials again.
pub(crate) fn identity(peer: &Peer, fallback: &str) -> PeerIdentity {
    let address = if peer.address.is_empty() { fallback } else { &peer.address };
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => address,
    };
    PeerIdentity {
        name: peer.name.clone().unwrap_or_else(|| host.to_owned()),
        roles: peer.role.iter().cloned().collect(),
        loopback: peer.is_local,
    }
}

/// A URL without what may be a secret.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
