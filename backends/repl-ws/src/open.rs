//! [`WsReplicator`]: its runtime, its links, and [`Replicator`].

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{oneshot, watch};
use trellis_engine_traits::{
    Error, ErrorKind, LinkLimits, PeerAddress, PeerLink, ReplProfile, Replicator, Result,
};

use crate::dial::{Target, dial};
use crate::limits::{BUFFERED_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use crate::link::WsLink;
use crate::lobby::Lobby;
use crate::pump::Pump;
use crate::state::{SharedState, closed};

const PROFILE: ReplProfile = ReplProfile {
    name: "ws",
    limits: LinkLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        buffered_bytes_max: BUFFERED_BYTES_MAX,
        reason_bytes_max: REASON_BYTES_MAX,
    },
};

/// How a [`WsReplicator`] is made.
#[derive(Debug, Clone)]
pub struct WsOptions {
    /// The tokio runtime for dialed links; `None` for one of the replicator's own, with one
    /// thread, started by [`WsReplicator::open`].
    pub runtime: Option<Handle>,
    /// How long a `connect` may take.
    pub connect_timeout: Duration,
}

impl Default for WsOptions {
    fn default() -> Self {
        Self { runtime: None, connect_timeout: Duration::from_secs(10) }
    }
}

/// Links over WebSockets. Dials by itself; what others dial comes in by the
/// [`PeerDoor`](trellis_engine_traits::PeerDoor) that it is too.
///
/// ```
/// use trellis_engine_traits::{PeerDoor, Replicator};
/// use trellis_repl_ws::{WsOptions, WsReplicator};
///
/// let replicator = WsReplicator::open(WsOptions::default())?;
/// assert_eq!(replicator.profile().name, "ws");
/// assert!(replicator.frame_bytes_max() > replicator.profile().limits.message_bytes_max);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
pub struct WsReplicator {
    handle: Handle,
    /// Its own, where it was given none; shut down with it.
    runtime: Mutex<Option<Runtime>>,
    connect_timeout: Duration,
    lobby: Lobby,
    links: Mutex<Vec<Kept>>,
    closing: watch::Sender<bool>,
}

struct Kept {
    link: Weak<SharedState>,
    is_accepted: bool,
}

impl WsReplicator {
    /// A replicator without links.
    ///
    /// # Errors
    /// `Unavailable` when no thread can be started.
    pub fn open(options: WsOptions) -> Result<Self> {
        let runtime = match &options.runtime {
            Some(_) => None,
            None => {
                let built = Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("trellis-links")
                    .enable_all()
                    .build();
                Some(built.map_err(|cause| {
                    let message = "the thread for links cannot be started";
                    Error::new(ErrorKind::Unavailable, message).backend("ws").source(cause)
                })?)
            }
        };
        let own = runtime.as_ref().map(|runtime| runtime.handle().clone());
        let handle = options.runtime.or(own).ok_or_else(closed)?;
        Ok(Self {
            handle,
            runtime: Mutex::new(runtime),
            connect_timeout: options.connect_timeout,
            lobby: Lobby::default(),
            links: Mutex::default(),
            closing: watch::Sender::new(false),
        })
    }

    pub(crate) fn lobby(&self) -> &Lobby {
        &self.lobby
    }

    /// Remembers a link, so that closing ends it.
    pub(crate) fn keep(&self, state: &Arc<SharedState>, is_accepted: bool) {
        let mut links = self.links.lock();
        links.retain(|kept| kept.link.strong_count() > 0);
        links.push(Kept { link: Arc::downgrade(state), is_accepted });
    }

    /// The links that came in by the door.
    pub(crate) fn accepted(&self) -> Vec<Arc<SharedState>> {
        let links = self.links.lock();
        let accepted = links.iter().filter(|kept| kept.is_accepted);
        accepted.filter_map(|kept| kept.link.upgrade()).collect()
    }

    /// Takes no more links and ends those there are; answers them.
    fn begin_close(&self) -> Vec<Arc<SharedState>> {
        self.closing.send_replace(true);
        drop(self.lobby.close());
        let links: Vec<_> =
            self.links.lock().drain(..).filter_map(|kept| kept.link.upgrade()).collect();
        for link in &links {
            link.close("the replicator was closed");
        }
        links
    }

    fn end_runtime(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Replicator for WsReplicator {
    fn profile(&self) -> &ReplProfile {
        &PROFILE
    }

    async fn connect(&self, address: &PeerAddress) -> Result<Box<dyn PeerLink>> {
        if self.lobby.is_closed() {
            return Err(closed());
        }
        // What is wrong with the URL needs no runtime to be said.
        Target::parse(&address.url)?;
        let (answer, answered) = oneshot::channel();
        let (address, within) = (address.clone(), self.connect_timeout);
        let mut closing = self.closing.subscribe();
        let handle = self.handle.clone();
        let dialing = self.handle.spawn(async move {
            let outcome = tokio::select! {
                outcome = dial(&address, within) => outcome,
                _ = closing.wait_for(|closing| *closing) => Err(closed()),
            };
            let (outcome, pump) = match outcome {
                Ok((socket, peer)) => {
                    let state = SharedState::new();
                    let pump = Pump::new(Arc::clone(&state), Box::new(socket), handle.clone());
                    (Ok((WsLink::new(Arc::clone(&state), peer), state)), Some(pump))
                }
                Err(error) => (Err(error), None),
            };
            // Whoever asked may be gone; the link then ends by being dropped.
            drop(answer.send(outcome));
            if let Some(pump) = pump {
                handle.spawn(pump);
            }
        });
        let abort = AbortOnDrop(dialing);
        let outcome = answered.await;
        drop(abort);
        let (link, state) = outcome.unwrap_or_else(|_| Err(closed()))?;
        self.keep(&state, false);
        // A close in the meantime has not seen the new link.
        if self.lobby.is_closed() { Err(closed()) } else { Ok(Box::new(link)) }
    }

    async fn accept(&self) -> Result<Box<dyn PeerLink>> {
        Ok(Box::new(poll_fn(|context| self.lobby.poll_accept(context)).await?))
    }

    async fn close(&self) -> Result<()> {
        for link in self.begin_close() {
            poll_fn(|context| link.poll_done(context)).await;
        }
        self.end_runtime();
        Ok(())
    }
}

impl Drop for WsReplicator {
    fn drop(&mut self) {
        drop(self.begin_close());
        self.end_runtime();
    }
}

impl fmt::Debug for WsReplicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsReplicator")
            .field("links", &self.links.lock().len())
            .field("is_closed", &self.lobby.is_closed())
            .finish_non_exhaustive()
    }
}

/// Ends a task whose outcome nobody waits for.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
