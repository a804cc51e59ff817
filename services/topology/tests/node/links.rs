//! Links with defects, and peers that are no nodes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use trellis_engine_traits::{
    LinkEnd, LinkMessage, Peer, PeerAddress, PeerLink, ReplProfile, Replicator, Result,
};
use trellis_repl_loopback::LoopbackReplicator;
use trellis_topology::{
    Action, Event, LinkState, Mode, Now, PeerIdentity, RefusalReason, Role, Session, SessionConfig,
    SessionOptions, Topology,
};

use crate::site::edge;

/// A replicator whose first links have a defect.
#[derive(Debug)]
pub(crate) struct Defective {
    pub(crate) inner: LoopbackReplicator,
    pub(crate) defects: Arc<AtomicU32>,
}

#[derive(Debug)]
struct DefectiveLink {
    inner: Box<dyn PeerLink>,
    is_defective: bool,
}

#[async_trait]
impl Replicator for Defective {
    fn profile(&self) -> &ReplProfile {
        self.inner.profile()
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        let inner = self.inner.connect(address).await?;
        let lower = |left: u32| left.checked_sub(1);
        let found = self.defects.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower);
        Ok(Box::new(DefectiveLink { inner, is_defective: found.is_ok() }))
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        self.inner.accept().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl PeerLink for DefectiveLink {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    async fn send(&self, message: LinkMessage) -> Result<()> {
        self.inner.send(message).await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        let frame = self.inner.next().await;
        assert!(!self.is_defective, "a planted defect");
        frame
    }

    async fn close(&self, reason: &str) -> Result<()> {
        self.inner.close(reason).await
    }

    fn end(&self) -> Option<LinkEnd> {
        self.inner.end()
    }
}

/// Whether what arrives is handed on.
#[derive(Debug, Default)]
pub(crate) struct Hearing(Mutex<(bool, Vec<Waker>)>);

impl Hearing {
    /// Holds back what arrives, or hands it on.
    pub(crate) fn hold(&self, held: bool) {
        let mut state = self.0.lock().unwrap();
        state.0 = held;
        state.1.drain(..).for_each(Waker::wake);
    }

    async fn free(&self) {
        let poll = |context: &mut Context<'_>| {
            let mut state = self.0.lock().unwrap();
            if !state.0 {
                return Poll::Ready(());
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        };
        std::future::poll_fn(poll).await;
    }
}

/// A replicator whose links can be made to hand on nothing that arrives.
#[derive(Debug)]
pub(crate) struct Muffled {
    pub(crate) inner: LoopbackReplicator,
    pub(crate) hearing: Arc<Hearing>,
}

#[derive(Debug)]
struct MuffledLink {
    inner: Box<dyn PeerLink>,
    hearing: Arc<Hearing>,
}

#[async_trait]
impl Replicator for Muffled {
    fn profile(&self) -> &ReplProfile {
        self.inner.profile()
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        let (inner, hearing) = (self.inner.connect(address).await?, Arc::clone(&self.hearing));
        Ok(Box::new(MuffledLink { inner, hearing }))
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        self.inner.accept().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl PeerLink for MuffledLink {
    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    async fn send(&self, message: LinkMessage) -> Result<()> {
        self.inner.send(message).await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        let frame = self.inner.next().await;
        self.hearing.free().await;
        frame
    }

    async fn close(&self, reason: &str) -> Result<()> {
        self.inner.close(reason).await
    }

    fn end(&self) -> Option<LinkEnd> {
        self.inner.end()
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Dials the center as a node that follows `shared`: a link, and why it was refused.
pub(crate) fn greet(
    from: &LoopbackReplicator,
    node: u128,
    (life, attempt): (u64, u64),
) -> (Box<dyn PeerLink>, Option<RefusalReason>) {
    let address = PeerAddress { url: "loopback:central".into(), token: None };
    let link = block_on(from.connect(&address)).unwrap();
    let topology = Topology::compile(&edge(&[("shared", Mode::Sync)])).unwrap();
    let config = SessionConfig {
        node,
        name: "copy".into(),
        epoch: 1,
        life,
        attempt,
        head: 0,
        schema: 0,
        peer: PeerIdentity::default(),
        options: SessionOptions::default(),
    };
    let role = Role::Dialer(Box::new(topology.dials()[0].plan.clone()));
    let mut session = Session::new(role, config);
    let mut actions = session.step(Now::default(), Event::Connected);
    while session.status().link == LinkState::Connecting {
        for action in std::mem::take(&mut actions) {
            let Action::Send { bytes, compress } = action else { continue };
            block_on(link.send(LinkMessage { body: bytes, compress })).unwrap();
        }
        let frame = block_on(link.next()).unwrap().unwrap();
        actions = session.step(Now::default(), Event::Received(frame));
    }
    let ended = session.status().ended.map(|(reason, _)| reason);
    (link, ended)
}

/// Dials as [`greet`] and ends the link; why it was refused.
pub(crate) fn say_hello(from: &LoopbackReplicator, node: u128) -> Option<RefusalReason> {
    greet(from, node, (1, 1)).1
}

/// Takes what comes until the link ends.
pub(crate) fn until_ended(link: &dyn PeerLink) {
    while let Ok(Some(_)) = block_on(link.next()) {}
}
