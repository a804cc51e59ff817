//! What the threads of a node share: its tree, its links, and whether it is closing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use trellis_engine_traits::{Peer, Replicator};
use trellis_runtime::{Alarm, Runtime, Worker};
use trellis_tree::{PendingCommit, ReplicationStats};

use crate::admission::Admission;
use crate::event::Now;
use crate::forward::ForwardRequest;
use crate::message::{Hello, OfferedMode, Refusal, RefusalReason, ZoneOffer};
use crate::node_gate::{Mailbox, NodeGate};
use crate::node_options::NodeOptions;
use crate::plan::{LinkPlan, LinkPolicy, PeerIdentity};
use crate::route::Route;
use crate::session_options::SessionConfig;
use crate::status::{LinkStatus, SessionStatus};
use crate::store::Store;
use crate::topology::Topology;

/// How long a link waits for the one whose place it takes.
const SUPERSEDE_WAIT: Duration = Duration::from_secs(5);
/// How often it looks meanwhile whether the node closes.
const SUPERSEDE_LOOK: Duration = Duration::from_millis(100);

/// What outside knows of a link.
#[derive(Debug)]
pub(crate) struct LinkEntry {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) dialed: bool,
    pub(crate) mail: Arc<Mailbox>,
    pub(crate) state: Mutex<LinkInfo>,
    /// Its peer made a newer one in its place.
    superseded: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) attempts: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) next_attempt_at: Option<Duration>,
    pub(crate) session: SessionStatus,
    /// What earlier sessions counted, and where the last of them stood.
    earlier: SessionStatus,
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
    life: u64,
    attempt: u64,
    /// Who the transport says it is.
    peer: PeerIdentity,
    offers: [Vec<ZoneOffer>; 2],
    /// Its link.
    entry: Arc<LinkEntry>,
}

/// What becomes of a node that says hello, for the sake of one that is here.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It comes in.
    Free,
    /// It comes in once the link that it made before has ended.
    Supersedes,
    /// It is refused.
    Taken,
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
    /// What links that peers made and that have ended counted, and how many there were.
    pub(crate) ended: Mutex<(u64, SessionStatus)>,
    /// Rings when one of them has left.
    guest_gone: Condvar,
    /// See [`Hello::life`].
    life: u64,
    alarms: Mutex<Vec<Weak<Alarm>>>,
    closing: AtomicBool,
}

impl LinkEntry {
    pub(crate) fn new(id: String, url: &str, dialed: bool, mail: Arc<Mailbox>) -> Arc<Self> {
        let address = without_secrets(url);
        let (state, superseded) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { id, address, dialed, mail, state, superseded })
    }

    /// Has the link end: its peer made another one.
    fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
        self.mail.alarm.ring();
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
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

    /// Shows where the session stands; `ended` with the last status of it.
    pub(crate) fn show(&self, mut session: SessionStatus, ended: bool) {
        let mut state = self.state.lock();
        session.add_earlier(&state.earlier);
        if ended {
            state.earlier.clone_from(&session);
        }
        state.session = session;
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
        let entry = |dial: &crate::topology::Dial| {
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
        let life = runtime.random().next_u64();
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
            ended: Mutex::default(),
            guest_gone: Condvar::new(),
            life,
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

    /// For a link of this attempt; 0 for those that peers make.
    pub(crate) fn session_config(&self, peer: PeerIdentity, attempt: u64) -> SessionConfig {
        let tree = self.store.tree();
        SessionConfig {
            node: self.store.node(),
            name: self.options.name.clone(),
            epoch: tree.identity().epoch,
            life: self.life,
            attempt,
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
        drop(guests);
        self.guest_gone.notify_all();
    }
}

/// Who comes in over one link: what [`Admission`] says, and nobody who is here already.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: u64,
    pub(crate) entry: Arc<LinkEntry>,
}

impl Guest {
    fn standing(
        &self,
        peer: &PeerIdentity,
        hello: &Hello,
        offers: &[Vec<ZoneOffer>; 2],
    ) -> Standing {
        if self.node != hello.node {
            return Standing::Free;
        }
        let same = (self.epoch, self.life) == (hello.epoch, hello.life) && self.peer == *peer;
        let alike = self.offers == *offers;
        // A node may have several links, each for something else: one to its upstream, and others
        // to sources.
        match (same, alike || (is_upstream(&self.offers) && is_upstream(offers))) {
            (true, false) => Standing::Free,
            (true, true) if alike && hello.attempt > self.attempt => Standing::Supersedes,
            _ => Standing::Taken,
        }
    }
}

fn is_upstream(offers: &[Vec<ZoneOffer>; 2]) -> bool {
    let sourced = |offer: &ZoneOffer| matches!(offer.mode, OfferedMode::Source | OfferedMode::Own);
    !offers.iter().flatten().all(sourced)
}

impl LinkPolicy for Entrance {
    fn admit(&self, peer: &PeerIdentity, hello: &Hello) -> Result<LinkPlan, Refusal> {
        let offers = [hello.pull.clone(), hello.push.clone()];
        // Locked until it is in: of two at a time one is first.
        let mut guests = self.shared.guests.lock();
        let standing = |guests: &BTreeMap<u64, Guest>, wanted: Standing| {
            let found =
                guests.values().find(|guest| guest.standing(peer, hello, &offers) == wanted);
            found.map(|guest| Arc::clone(&guest.entry))
        };
        let clock = self.shared.runtime.clock();
        let deadline = clock.monotonic().saturating_add(SUPERSEDE_WAIT);
        while let Some(before) = standing(&guests, Standing::Supersedes) {
            // The node knows which of its links are up: this one is not, whatever it looks like.
            before.supersede();
            if clock.monotonic() >= deadline || self.shared.is_closing() {
                break;
            }
            self.shared.guest_gone.wait_for(&mut guests, SUPERSEDE_LOOK);
        }
        let here = [Standing::Taken, Standing::Supersedes];
        if here.into_iter().any(|wanted| standing(&guests, wanted).is_some()) {
            return Err(Refusal::new(
                RefusalReason::DuplicateNode,
                "a node of this id is connected already: if this one is a copy of its data \
                 directory, make copies by backup and restore; otherwise it gets in once the old \
                 connection is given up",
            ));
        }
        let links_max = self.shared.options.links_max;
        if guests.len() >= links_max {
            tracing::warn!(peer = %peer.name, links_max, "a peer is turned away: too many links");
            return Err(too_many(links_max));
        }
        let plan = self.shared.admission.admit(peer, hello)?;
        let Hello { node, epoch, life, attempt, .. } = *hello;
        let (entry, peer) = (Arc::clone(&self.entry), peer.clone());
        guests.insert(self.number, Guest { node, epoch, life, attempt, peer, offers, entry });
        Ok(plan)
    }
}

/// The refusal of one link more.
pub(crate) fn too_many(links_max: usize) -> Refusal {
    let message = format!("{links_max} links are open: raise the bound, or close some");
    Refusal::new(RefusalReason::Busy, message)
}

/// The peer as sessions know it: by the name that its token gives it, else by its role, whatever
/// address it dials from. Who showed no token goes by its address, which stays the same when it
/// dials again.
pub(crate) fn identity(peer: &Peer, fallback: &str) -> PeerIdentity {
    let address = if peer.address.is_empty() { fallback } else { &peer.address };
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => address,
    };
    let by_role = || peer.role.as_ref().map(|role| format!("role {role}"));
    PeerIdentity {
        name: peer.name.clone().or_else(by_role).unwrap_or_else(|| host.to_owned()),
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
