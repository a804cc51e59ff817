//! A whole HTTP server around the router: accepts, bounds, stops in order.
//!
//! hyper is used directly, because the time limit for a request's header and the orderly stop of
//! upgraded connections need it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use trellis::Trellis;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::guard::{HEADER_BYTES_MAX, check_listen_address};
use crate::options::ServerOptions;
use crate::routes::not_found;
use crate::state::{Server, stopped};

/// Sockets beyond the WebSocket connections, for plain HTTP.
const HTTP_SOCKETS: usize = 1_024;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `db` on `listener` until `shutdown` resolves, then stops in order and closes `db`.
///
/// The stop accepts nothing new, lets requests under way end and WebSockets answer what they
/// accepted (they are closed with 1001), for at most `drain_timeout`; then the database is closed.
/// Whatever was acknowledged is durable in any case.
///
/// # Errors
/// `Denied` for an address that others reach, unless the options allow it; what the engines answer
/// to closing.
///
/// ```no_run
/// # async fn example(db: trellis::Trellis) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4400").await?;
/// trellis_server::serve(listener, db, Default::default(), std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve(
    listener: TcpListener,
    db: Trellis,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_on(listener, Server::new(db, options), shutdown).await
}

/// What [`serve`] does, for a server that was made before.
///
/// # Errors
/// Those of [`serve`].
pub async fn serve_on(
    listener: TcpListener,
    server: Server,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let options = &server.state.options;
    let address = listener.local_addr().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the listening socket has no address").source(error)
    })?;
    check_listen_address(address, options)?;
    let sockets = options.connections_max.saturating_add(server.state.peers_max);
    let sockets_max = sockets.saturating_add(HTTP_SOCKETS);
    let header_timeout = options.header_timeout;
    let drain_timeout = options.drain_timeout;
    let acceptor = Acceptor {
        router: server.router().fallback(not_found),
        sockets: Arc::new(Semaphore::new(sockets_max)),
        stopping: watch::Sender::new(false),
        header_timeout,
    };
    tokio::select! {
        () = shutdown => {}
        () = acceptor.accept(&listener) => {}
    }
    drop(listener);
    tracing::info!("stopping: no new connections; requests under way may end");
    acceptor.stopping.send_replace(true);
    let all = u32::try_from(sockets_max).unwrap_or(u32::MAX);
    let drained = tokio::time::timeout(drain_timeout, async {
        tokio::join!(server.drain(drain_timeout), acceptor.sockets.acquire_many(all))
    });
    if drained.await.is_err() {
        tracing::warn!("some connections did not end in time and are cut off");
    }
    server.close().await
}

struct Acceptor {
    router: Router,
    /// One permit for every open socket that is not a WebSocket (yet).
    sockets: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    header_timeout: Duration,
}

impl Acceptor {
    /// Accepts for ever.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.sockets).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => self.start(stream, peer, place),
                Err(error) => {
                    // Out of descriptors, or a peer that left before it was accepted.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "no TCP_NODELAY");
        }
        let router = TowerToHyperService::new(self.router.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
            // Who a peer is depends on whether it is on this machine.
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        });
        let mut stopping = self.stopping.subscribe();
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEADER_BYTES_MAX)
            // A peer that has sent its request and closed its side still gets the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move {
            let _place = place;
            tokio::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = stopped(&mut stopping) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, %peer, "an HTTP connection ended early");
            }
        });
    }
}
