//! Peers that follow a node by the whole protocol and keep nothing: what is left is what the node
//! spends on its followers.
//!
//! All of them are driven by one thread: a session of the product each, whose tasks come to what a
//! store would say at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trellis_engine_traits::{Error, ErrorKind, LinkMessage, PeerAddress, PeerLink, Replicator};
use trellis_repl_loopback::LoopbackHub;
use trellis_topology::{
    Action, Event, Now, PeerIdentity, Role, Session, SessionConfig, SessionOptions, Task,
    TaskOutcome,
};
use trellis_tree::{RemoteApplied, Tree};

use crate::Result;
use crate::replication_setting::{topology, wait};

/// How often a peer looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread that drives them.
pub(crate) const THREAD: &str = "bench-peers";

/// The peers; dropping it ends them.
pub(crate) struct Peers {
    ends: Arc<AtomicBool>,
    positions: Vec<Arc<AtomicU64>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Peers {
    pub(crate) fn start(hub: &LoopbackHub, count: usize) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let positions: Vec<_> = (0..count).map(|_| Arc::default()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (told, all, hub) = (Arc::clone(&ends), positions.clone(), hub.clone());
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || {
            let follow = |(number, position)| {
                let peer = Peer::new(number as u128 + 1, Arc::clone(&told), position);
                peer.and_then(|peer| Ok((peer, hub.endpoint(&format!("peer-{number}"), vec![])?)))
            };
            let peers = all.into_iter().enumerate().map(follow).collect::<Result<Vec<_>>>()?;
            let peers = peers.into_iter().map(|(peer, endpoint)| peer.run(endpoint));
            runtime.block_on(futures_util::future::try_join_all(peers)).map(drop)
        })?;
        Ok(Self { ends, positions, thread: Some(thread) })
    }

    /// Waits until all of them were sent everything of a hub.
    pub(crate) fn await_level(&self, hub: &Tree) -> Result<()> {
        let goal = hub.position().rev;
        wait("the peers to be level", || {
            Ok(self.positions.iter().all(|position| position.load(Ordering::Acquire) >= goal))
        })
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("a peer ended: {error}");
        }
    }
}

/// One of them.
struct Peer {
    session: Session,
    began: Instant,
    ends: Arc<AtomicBool>,
    position: Arc<AtomicU64>,
}

impl Peer {
    fn new(node: u128, ends: Arc<AtomicBool>, position: Arc<AtomicU64>) -> Result<Self> {
        let topology = topology(Some("hub"))?;
        let dial = topology.dials().first().ok_or("a replica that dials nobody")?;
        let config = SessionConfig {
            node,
            name: format!("peer-{node}"),
            epoch: 1,
            life: 1,
            attempt: 1,
            head: 0,
            schema: 0,
            peer: PeerIdentity { name: "hub".into(), roles: Vec::new(), loopback: true },
            options: SessionOptions { verify_every: Duration::ZERO, ..SessionOptions::default() },
        };
        let session = Session::new(Role::Dialer(Box::new(dial.plan.clone())), config);
        Ok(Self { session, began: Instant::now(), ends, position })
    }

    async fn run(mut self, endpoint: impl Replicator) -> Result<()> {
        let address = PeerAddress { url: "loopback:hub".into(), token: None };
        let link = endpoint.connect(&address).await?;
        self.step(link.as_ref(), Event::Connected).await?;
        while !self.ends.load(Ordering::Acquire) {
            let mut next = pin!(link.next());
            let frame = loop {
                let received = tokio::time::timeout(LOOK_EVERY, next.as_mut()).await;
                if let Ok(received) = received {
                    break received?;
                }
                if self.ends.load(Ordering::Acquire) {
                    return Ok(link.close("done").await?);
                }
                self.step(link.as_ref(), Event::Tick).await?;
            };
            let Some(frame) = frame else { return Err("the hub ended the link".into()) };
            self.step(link.as_ref(), Event::Received(frame)).await?;
        }
        Ok(link.close("done").await?)
    }

    /// An event, and what follows from it until there is nothing more to do.
    async fn step(&mut self, link: &dyn PeerLink, event: Event) -> Result<()> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            let now = Now { mono: self.began.elapsed(), wall_ms: wall.as_millis() as u64 };
            for action in self.session.step(now, event) {
                match action {
                    Action::Send { bytes: body, compress } => {
                        link.send(LinkMessage { body, compress }).await?;
                    }
                    Action::Do(id, task) => events.push(Event::Done(id, outcome(task))),
                    Action::Close(refusal) => return Err(refusal.message.into()),
                    Action::Route(..) | Action::Forwarded(..) => {}
                }
            }
        }
        let pull = self.session.status().pull;
        let position = pull.filter(|pull| pull.complete).map_or(0, |pull| pull.position);
        self.position.store(position, Ordering::Release);
        Ok(())
    }
}

/// What a store would say that keeps nothing.
fn outcome(task: Task) -> TaskOutcome {
    match task {
        Task::LoadPosition { .. } => TaskOutcome::Position(None),
        Task::SavePosition { position, .. } => TaskOutcome::Position(Some(position)),
        Task::Apply { commits } => {
            TaskOutcome::Applied(vec![RemoteApplied::default(); commits.len()])
        }
        Task::SetAside { .. } => TaskOutcome::SetAside(0),
        Task::BeginAnew { .. } => TaskOutcome::Done,
        Task::HashAt { .. } => TaskOutcome::Hash { head: 0, hash: None },
        Task::AckSlot { .. } | Task::CloseSlot { .. } => TaskOutcome::Done,
        _ => TaskOutcome::Failed(Error::new(ErrorKind::Unsupported, "this peer keeps nothing")),
    }
}
