//! What all connections share, and [`Server`], the handle to it.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use trellis::{PeerEntrance, ReplicationConfig, Trellis};
use trellis_engine_traits::Result;
use trellis_runtime::Runtime;
use trellis_topology::GREETING_LINKS;
use trellis_tree::{Tree, TreeStats};

use crate::answer::{push_number, push_string};
use crate::frames::Frames;
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::replication;

/// The version that `hello`, `/health` and the start-up lines name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Room for the framing of a request around a commit of the largest size.
const BODY_OVERHEAD_BYTES: usize = 1 << 20;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) db: Trellis,
    pub(crate) tree: Tree,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) options: ServerOptions,
    pub(crate) metrics: Metrics,
    /// One permit for every WebSocket connection.
    pub(crate) connections: Arc<Semaphore>,
    /// Where other nodes come in; empty while none may.
    pub(crate) entrance: OnceLock<Arc<PeerEntrance>>,
    /// One permit for every link of another node, `peers_max` of them.
    pub(crate) peer_places: Arc<Semaphore>,
    pub(crate) peers_max: usize,
    /// One permit for every body that is being streamed.
    pub(crate) streams: Arc<Semaphore>,
    /// Room for the bodies of requests, all together.
    pub(crate) bodies: Arc<Semaphore>,
    /// Bytes of the unanswered requests of all WebSocket connections.
    pub(crate) in_flight_bytes: Arc<AtomicUsize>,
    /// Frames that several sockets get.
    pub(crate) frames: Frames,
    stopping: watch::Sender<bool>,
    /// The `data` of `hello` but for the time.
    hello: Vec<u8>,
}

impl State {
    /// What [`stopped`] waits on.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Appends the `data` of `hello`.
    pub(crate) fn push_hello(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":");
        push_number(out, self.runtime.clock().now_ms());
        out.extend_from_slice(&self.hello);
    }

    /// Largest HTTP request body, in bytes.
    pub(crate) fn body_bytes_max(&self) -> usize {
        body_bytes_max(&self.tree)
    }
}

/// A database on its way to the network: the shared state behind every router made from it.
///
/// Cheap to clone. A host application mounts [`Server::router`] and calls [`Server::drain`] before
/// it exits; [`crate::serve`] does both.
///
/// ```
/// use trellis_server::{Server, ServerOptions};
///
/// fn mount(db: trellis::Trellis) -> axum::Router {
///     let server = Server::new(db, ServerOptions::default());
///     axum::Router::new().nest("/trellis", server.router())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    pub(crate) state: Arc<State>,
}

impl Server {
    /// Puts `db` behind a server with these options; nothing listens yet.
    #[must_use]
    pub fn new(db: Trellis, options: ServerOptions) -> Self {
        let tree = db.tree().clone();
        let runtime = Arc::clone(db.runtime());
        if let Err(error) = db.presence() {
            // Asked for again by the first request about a lease.
            tracing::error!(%error, "stored leases are not looked after");
        }
        let hello = hello_data(&db, &options);
        let peers_max = options.peers_max.unwrap_or_else(|| links_of(&db));
        let state = State {
            connections: Arc::new(Semaphore::new(options.connections_max)),
            entrance: OnceLock::new(),
            peer_places: Arc::new(Semaphore::new(peers_max)),
            peers_max,
            streams: Arc::new(Semaphore::new(options.streams_max)),
            bodies: room_for_all(body_bytes_max(&tree)),
            in_flight_bytes: Arc::default(),
            metrics: Metrics::new(),
            frames: Frames::new(),
            stopping: watch::Sender::new(false),
            db,
            tree,
            runtime,
            options,
            hello,
        };
        Self { state: Arc::new(state) }
    }

    /// Serves other nodes too, who come in by this entrance: `/db` with the subprotocol
    /// `trellis-repl`. The first entrance stays.
    #[must_use]
    pub fn with_peers(self, entrance: Arc<PeerEntrance>) -> Self {
        self.state.entrance.get_or_init(|| entrance);
        self
    }

    /// Asks every WebSocket to finish its requests and close (code 1001), ends the links of other
    /// nodes, and waits for that, at most `within`. New ones are refused. Answers whether all had
    /// closed in time.
    pub async fn drain(&self, within: Duration) -> bool {
        let state = &self.state;
        state.stopping.send_replace(true);
        if let Some(entrance) = state.entrance.get() {
            entrance.dismiss("the server stops");
        }
        let all = |places: usize| u32::try_from(places).unwrap_or(u32::MAX);
        let drained = async {
            let clients = state.connections.acquire_many(all(state.options.connections_max));
            let peers = state.peer_places.acquire_many(all(state.peers_max));
            tokio::join!(clients, peers)
        };
        tokio::time::timeout(within, drained).await.is_ok()
    }

    /// Closes the database: what was acknowledged is durable already, what is under way ends.
    ///
    /// # Errors
    /// What the engines answer to their last flush; the database is closed nevertheless.
    pub async fn close(&self) -> Result<()> {
        let state = Arc::clone(&self.state);
        self.state.runtime.run(move || state.db.close()).await
    }

    /// The database behind the server.
    #[must_use]
    pub fn db(&self) -> &Trellis {
        &self.state.db
    }
}

/// Links that the node of this database takes, with those that it is still greeting.
fn links_of(db: &Trellis) -> usize {
    let default = ReplicationConfig::default;
    let links_max = db.config().replication.as_ref().unwrap_or(&default()).links_max;
    links_max.saturating_add(GREETING_LINKS)
}

/// Resolves once the server is to stop.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone altogether, which is a stop as well.
    let _is_told = stopping.wait_for(|stop| *stop).await.is_ok();
}

fn hello_data(db: &Trellis, options: &ServerOptions) -> Vec<u8> {
    let (tree, bounds) = (db.tree(), &db.config().server);
    let identity = tree.identity();
    let limits = &tree.options().limits;
    let mut out = Vec::with_capacity(384);
    out.extend_from_slice(b",\"version\":");
    push_string(&mut out, VERSION);
    out.extend_from_slice(b",\"node\":");
    push_string(&mut out, &identity.log_id);
    out.extend_from_slice(b",\"epoch\":");
    push_string(&mut out, &tree.epoch_token());
    let node = db.replication().and_then(|node| node.status().ok());
    if let Some(status) = node {
        out.extend_from_slice(b",\"replication\":{\"name\":");
        push_string(&mut out, &status.name);
        out.extend_from_slice(b",\"role\":");
        push_string(&mut out, replication::role(&status.zones));
        out.push(b'}');
    }
    let figures = [
        ("frameBytes", options.frame_bytes_max),
        ("connections", options.connections_max),
        ("inFlightRequests", options.in_flight_requests_max),
        ("inFlightBytes", options.in_flight_bytes_max),
        ("subscriptions", bounds.subscriptions_max),
        ("inboxBytes", bounds.inbox_bytes_max),
        ("leases", bounds.leases_max),
        ("leafBytes", limits.leaf_bytes_max),
        ("commitBytes", limits.commit_bytes_max),
        ("commitOperations", limits.commit_operations_max),
        ("keyBytes", limits.key_bytes_max),
        ("idBytes", crate::operation::ID_BYTES_MAX),
        ("childrenDefault", crate::operation::CHILDREN_DEFAULT),
        ("children", crate::operation::CHILDREN_MAX),
    ];
    out.extend_from_slice(b",\"limits\":{");
    for (index, (name, figure)) in figures.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(&mut out, name);
        out.push(b':');
        push_number(&mut out, figure as u64);
    }
    out.extend_from_slice(b"}}");
    out
}

/// The `data` of `stats`.
pub(crate) fn stats_data(state: &State, stats: &TreeStats) -> Result<Vec<u8>> {
    let mut out = b"{\"tree\":".to_vec();
    // Figures and names only: always representable.
    let _infallible = serde_json::to_writer(&mut out, stats);
    out.extend_from_slice(b",\"server\":{\"version\":");
    push_string(&mut out, VERSION);
    out.extend_from_slice(b",\"connections\":");
    out.extend_from_slice(state.metrics.connections.get().to_string().as_bytes());
    let live = state.db.live_stats();
    for (name, figure) in [("subscriptions", live.subscriptions), ("inboxes", live.inboxes)] {
        out.push(b',');
        push_string(&mut out, name);
        out.push(b':');
        push_number(&mut out, figure as u64);
    }
    out.extend_from_slice(b"},\"presence\":");
    let _infallible = serde_json::to_writer(&mut out, &state.db.presence_stats());
    if let Some(summary) = replication::summary(&state.db)? {
        out.extend_from_slice(b",\"replication\":");
        out.extend_from_slice(summary.to_string().as_bytes());
    }
    out.push(b'}');
    Ok(out)
}

/// Bytes of all bodies that are held at once, beyond the first few of each.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;

/// The room that all bodies share; the largest one finds room in it, if it is alone.
pub(crate) fn room_for_all(body_bytes_max: usize) -> Arc<Semaphore> {
    let steps = BODIES_BYTES_MAX.max(body_bytes_max).div_ceil(BODY_STEP_BYTES);
    Arc::new(Semaphore::new(steps.min(Semaphore::MAX_PERMITS)))
}

fn body_bytes_max(tree: &Tree) -> usize {
    tree.options().limits.commit_bytes_max.saturating_add(BODY_OVERHEAD_BYTES)
}

/// Room is taken in steps.
pub(crate) const BODY_STEP_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use trellis::Config;

    use super::*;

    #[test]
    fn there_are_places_for_all_links_that_the_configuration_allows_and_those_being_greeted() {
        let replication = ReplicationConfig { links_max: 300, ..ReplicationConfig::default() };
        let config = Config { replication: Some(replication), ..Config::memory() };
        let places = |peers_max| {
            let db = Trellis::open_alone(config.clone()).unwrap();
            let server = Server::new(db, ServerOptions { peers_max, ..ServerOptions::default() });
            server.state.peer_places.available_permits()
        };
        assert_eq!(places(None), 300 + GREETING_LINKS);
        assert_eq!(places(Some(2)), 2);
    }
}
