//! A server in memory, and a proxy before it that loses connections when told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trellis::Trellis;
use trellis_client::{Client, ClientOptions};
use trellis_server::ServerOptions;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) db: Trellis,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let db = Trellis::memory().expect("a database in memory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let options = ServerOptions::default();
        tokio::spawn(trellis_server::serve(listener, db.clone(), options, std::future::pending()));
        Self { address, db }
    }

    pub(crate) async fn client(&self) -> Client {
        connect(self.address, options()).await
    }
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_secs(60),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..ClientOptions::default()
    }
}

pub(crate) async fn connect(address: SocketAddr, options: ClientOptions) -> Client {
    Client::connect(&format!("ws://{address}/db"), options).await.expect("a connection")
}

/// What a [`Proxy`] does, counted so that a test can wait for it.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Lose what the server says next, and the connection with it.
    pub(crate) lose_next_answer: AtomicBool,
    /// Lose an answer after every so many pieces; 0 never.
    pub(crate) lose_every: AtomicU64,
    /// Refuse new connections.
    pub(crate) is_down: AtomicBool,
    /// Connections lost so far.
    pub(crate) lost: AtomicU64,
    pieces: AtomicU64,
}

impl Faults {
    fn is_due(&self) -> bool {
        let every = self.lose_every.load(Ordering::SeqCst);
        let piece = self.pieces.fetch_add(1, Ordering::SeqCst) + 1;
        self.lose_next_answer.swap(false, Ordering::SeqCst)
            || (every > 0 && piece.is_multiple_of(every))
    }
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
}

impl Proxy {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.is_down.load(Ordering::SeqCst) {
                    tokio::spawn(carry(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { address, faults }
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, faults: Arc<Faults>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0_u8; 64 << 10];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            let piece = &buffer[..length];
            // The handshake and the hello are always let through, so that there is progress.
            let is_hello = piece.starts_with(b"HTTP")
                || piece.windows(12).any(|part| part == b"\"frameBytes\"");
            if length > 0 && !is_hello && faults.is_due() {
                faults.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if length == 0 || to_client.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}
