//! A server on a port of its own, and the plainest clients there are.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use trellis::Trellis;
use trellis_server::{Server, ServerOptions, serve_on};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) db: Trellis,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<trellis::Result<()>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        Self::serving(Trellis::memory().expect("a database in memory"), options).await
    }

    pub(crate) async fn serving(db: Trellis, options: ServerOptions) -> Self {
        Self::serving_on(Server::new(db, options)).await
    }

    pub(crate) async fn serving_on(server: Server) -> Self {
        let db = server.db().clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _is_told = stopped.await.is_ok();
        };
        let task = tokio::spawn(serve_on(listener, server, shutdown));
        Self { address, db, stop: Some(stop), task }
    }

    /// Tells the server to stop, without waiting.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("the server runs");
        }
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(mut self) {
        self.begin_stop();
        let outcome = timeout(PATIENCE, self.task).await.expect("the server stops in time");
        outcome.expect("the server does not panic").expect("the server closes cleanly");
    }

    pub(crate) async fn socket(&self) -> Socket {
        let url = format!("ws://{}/db", self.address);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a connection");
        Socket { socket }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Asks for an upgrade, and reads the refusal.
    pub(crate) async fn upgrade(&self, target: &str, headers: &[&str]) -> Reply {
        self.request("GET", target, "Upgrade, close", headers, b"").await
    }

    /// Sends one request and reads the answer to the end of the connection.
    pub(crate) async fn http(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Reply {
        self.request(method, target, "close", headers, body).await
    }

    async fn request(
        &self,
        method: &str,
        target: &str,
        connection: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!(
            "Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        ));
        let mut stream = self.tcp().await;
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // Written beside reading, because a refusal may come before the body is taken.
        let write = async {
            writer.write_all(head.as_bytes()).await?;
            writer.write_all(body).await
        };
        let read = async {
            let mut buffer = vec![0_u8; 64 << 10];
            loop {
                match reader.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => answer.extend_from_slice(&buffer[..length]),
                }
            }
        };
        timeout(PATIENCE, async { tokio::join!(write, read) }).await.expect("an answer").0.ok();
        Reply::parse(&answer)
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.http("GET", target, &[], b"").await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Reply {
        self.http("PUT", target, &[], body.as_bytes()).await
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end
            .unwrap_or_else(|| panic!("no whole HTTP head: {:?}", String::from_utf8_lossy(answer)));
        let head = String::from_utf8(answer[..end].to_vec()).expect("a head of text");
        let status = head[9..12].parse().expect("a status");
        let rest = &answer[end + 4..];
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunk(rest) } else { rest.to_vec() };
        Self { status, head, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    /// The error code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["error"].as_str().expect("an error code").to_owned()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n").expect("a chunk's length");
        let length = std::str::from_utf8(&rest[..line]).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a length");
        rest = &rest[line + 2..];
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}

pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// Queues a frame; [`Socket::flush`] sends all of them at once.
    pub(crate) async fn feed(&mut self, text: &str) {
        self.socket.feed(Message::text(text)).await.expect("queued");
    }

    pub(crate) async fn flush(&mut self) {
        self.socket.flush().await.expect("flushed");
    }

    /// The next frame that is no ping.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match next.expect("an open connection").expect("a frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("no text frame: {other:?}"),
        }
    }

    pub(crate) async fn answer(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("an answer of JSON")
    }

    /// Sends one request and gives the text of its answer.
    pub(crate) async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.text().await
    }

    /// The error code that a request is refused with.
    pub(crate) async fn refusal(&mut self, text: &str) -> (Value, String) {
        let answer: Value = serde_json::from_str(&self.ask(text).await).expect("JSON");
        assert_eq!(answer["ok"], false, "{answer}");
        (answer["id"].clone(), answer["error"].as_str().expect("a code").to_owned())
    }

    /// The code of the close frame that ends the connection.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => panic!("closed without a code"),
                _ => {}
            }
        }
    }
}
