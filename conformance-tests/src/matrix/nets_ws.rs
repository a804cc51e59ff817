//! Links over WebSockets as the suite sees them: each host is a real server with its `/db`, behind
//! a proxy that can cut its connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use trellis::{Config, PeerEntrance, PeerPass, Trellis};
use trellis_engine_traits::{ErrorKind, PeerDoor, Replicator, Result};
use trellis_repl_ws::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, SUBPROTOCOL, WsOptions, WsReplicator};
use trellis_server::{Server, ServerOptions, serve_on};

use crate::chaos::proxy::Proxy;
use crate::repl::{Host, Net, Pass};

pub(super) fn open() -> Result<Arc<dyn Net>> {
    let mut executor = tokio::runtime::Builder::new_multi_thread();
    let executor = executor.worker_threads(2).enable_all().build().expect("an executor");
    Ok(Arc::new(Ws {
        executor: Mutex::new(Some(executor)),
        proxies: Mutex::default(),
        servers: Mutex::default(),
        stop: watch::Sender::new(false),
    }))
}

#[derive(Debug)]
struct Ws {
    executor: Mutex<Option<Runtime>>,
    proxies: Mutex<Vec<Proxy>>,
    servers: Mutex<Vec<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
}

impl Ws {
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let handle = lock(&self.executor).as_ref().expect("it is open").handle().clone();
        handle.block_on(future)
    }

    /// A server for `entrance`; answers where it is.
    async fn serve(&self, entrance: Option<PeerEntrance>) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let db = Trellis::open_config(Config::memory())?;
        let mut server = Server::new(db, ServerOptions::default());
        if let Some(entrance) = entrance {
            server = server.with_peers(Arc::new(entrance));
        }
        let mut stop = self.stop.subscribe();
        let serving = tokio::spawn(async move {
            let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
            serve_on(listener, server, stopped).await.expect("it serves");
        });
        lock(&self.servers).push(serving);
        Ok(address)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net for Ws {
    fn host(&self, _name: &str, passes: &[Pass]) -> Result<Host> {
        let replicator = Arc::new(WsReplicator::open(WsOptions::default())?);
        let pass = |pass: &Pass| PeerPass {
            name: Some(pass.name.to_owned()),
            role: Some(pass.role.to_owned()),
            token: pass.token.clone(),
        };
        let door = Arc::clone(&replicator) as Arc<dyn PeerDoor>;
        let entrance = PeerEntrance::new(passes.iter().map(pass).collect(), door)?;
        let proxy = self.run(async {
            let server = self.serve(Some(entrance)).await?;
            Ok::<_, trellis_engine_traits::Error>(Proxy::start(Some(server)).await.expect("a port"))
        })?;
        let url = format!("ws://{}/db", proxy.address());
        lock(&self.proxies).push(proxy);
        Ok(Host { replicator, url })
    }

    fn guest(&self, _name: &str) -> Result<Arc<dyn Replicator>> {
        Ok(Arc::new(WsReplicator::open(WsOptions::default())?))
    }

    fn cut(&self) {
        for proxy in lock(&self.proxies).iter() {
            proxy.cut();
        }
    }

    fn strangers(&self) -> Vec<(String, ErrorKind)> {
        let (closed, server, other, noise) = self.run(async {
            let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let closed = closed.local_addr().expect("an address");
            let server = self.serve(None).await.expect("a server");
            (closed, server, answering(true).await, answering(false).await)
        });
        vec![
            (format!("ws://{closed}/db"), ErrorKind::Unavailable),
            (format!("ws://{server}/db"), ErrorKind::Unsupported),
            (format!("ws://{server}/nowhere"), ErrorKind::Unsupported),
            (format!("ws://{other}/db"), ErrorKind::Unsupported),
            (format!("ws://{noise}/db"), ErrorKind::Unsupported),
            (format!("wss://{server}/db"), ErrorKind::Unsupported),
            (format!("http://{server}/db"), ErrorKind::Unsupported),
            ("nonsense".to_owned(), ErrorKind::InvalidInput),
            ("ws://".to_owned(), ErrorKind::InvalidInput),
        ]
    }

    fn forge(&self, url: &str, kind: usize) -> Option<&'static [ErrorKind]> {
        let (forgery, expected) = forgeries().into_iter().nth(kind)?;
        self.run(async {
            let mut request = url.into_client_request().expect("a URL");
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            request.headers_mut().insert("sec-websocket-protocol", protocol);
            let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("let in");
            match forgery {
                Forgery::Frame(message) => socket.send(message).await.expect("it is sent"),
                Forgery::Raw(bytes) => {
                    let stream = socket.get_mut();
                    stream.write_all(&bytes).await.expect("it is sent");
                    stream.flush().await.expect("it is sent");
                }
            }
            tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        });
        Some(expected)
    }

    fn close(&self) -> Result<()> {
        self.stop.send_replace(true);
        let servers: Vec<_> = lock(&self.servers).drain(..).collect();
        lock(&self.proxies).clear();
        if let Some(executor) = lock(&self.executor).take() {
            executor.block_on(async {
                for server in servers {
                    server.await.expect("the server ends well");
                }
            });
        }
        Ok(())
    }
}

/// A port that speaks WebSocket without our subprotocol, or no HTTP at all.
async fn answering(websocket: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if websocket {
                drop(tokio_tungstenite::accept_async(stream).await);
            } else {
                drop(stream.write_all(b"220 mail.example ready\r\n\r\n").await);
            }
        }
    });
    address
}

enum Forgery {
    Frame(Message),
    /// Not even a WebSocket's.
    Raw(Vec<u8>),
}

fn forgeries() -> Vec<(Forgery, &'static [ErrorKind])> {
    const CORRUPT: &[ErrorKind] = &[ErrorKind::Corrupt];
    const TOO_LARGE: &[ErrorKind] = &[ErrorKind::TooLarge];
    let frame = |bytes: Vec<u8>| Forgery::Frame(Message::binary(bytes));
    let packed = |length: u32, body: &[u8]| {
        let bomb = zstd::bulk::compress(body, 3).expect("it compresses");
        frame([&[1], &length.to_le_bytes()[..], &bomb].concat())
    };
    let zeros = vec![0; 64 << 20];
    vec![
        (frame(Vec::new()), CORRUPT),
        (frame(vec![7, 1, 2, 3]), CORRUPT),
        (frame(vec![1, 0, 0]), CORRUPT),
        (frame([&[1, 100, 0, 0, 0][..], b"not compressed"].concat()), CORRUPT),
        (Forgery::Frame(Message::text("hello")), CORRUPT),
        (packed(64 << 20, &zeros), TOO_LARGE),
        (packed(u32::MAX, &zeros), TOO_LARGE),
        (packed(1_000, &zeros), CORRUPT),
        (packed(1_001, &zeros[..1_000]), CORRUPT),
        (frame(vec![0; MESSAGE_BYTES_MAX + 2]), TOO_LARGE),
        (frame(vec![0; FRAME_BYTES_MAX + 1]), TOO_LARGE),
        // A frame without a mask, a reserved opcode, and one that announces 2^62 bytes.
        (Forgery::Raw(vec![0x82, 0x01, 0x00]), CORRUPT),
        (Forgery::Raw(vec![0x8b, 0x80, 0, 0, 0, 0]), CORRUPT),
        (Forgery::Raw(vec![0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]), TOO_LARGE),
    ]
}
