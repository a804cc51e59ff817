//! A server on a combination's store and log, its client, and a plain HTTP connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trellis::{Config, Trellis};
use trellis_client::{Client, ClientOptions};

use super::TreeWorld;

/// What a case over the wire talks to.
pub(crate) struct Wire {
    address: SocketAddr,
    /// The client of the WebSocket.
    pub(crate) client: Client,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// The configuration that puts the world's store and log into a directory of its.
pub(crate) fn config_in(world: &TreeWorld, directory: &str) -> Config {
    let (store, log) = world.factory().name().split_once('+').expect("store+log");
    let kv = match store.trim_start_matches("kv-") {
        "memory" => "memory:".to_owned(),
        name => format!("{name}:store.{name}"),
    };
    let log = match log {
        "log-segment" => "segment:streams",
        "log-kv" => "kv:",
        _ => "memory:",
    };
    let mut config = Config::in_directory(world.dir().join(directory));
    config.kv = Some(kv);
    config.log = Some(log.to_owned());
    config
}

/// Runs `body` against a server in the world's directory; once more and it finds the same data.
pub(crate) fn with_server(world: &TreeWorld, body: impl AsyncFnOnce(&Wire)) {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let db = Trellis::open_config(config_in(world, "served")).expect("the database opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            trellis_server::serve(listener, db, Default::default(), stopped).await
        });
        let url = format!("ws://{address}/db");
        let client = Client::connect(&url, ClientOptions::default()).await.expect("it connects");
        let wire = Wire { address, client };
        body(&wire).await;
        wire.client.close().await;
        stop.send(()).expect("the server waits for it");
        server.await.expect("the server did not panic").expect("it stops and closes");
    });
}

impl Wire {
    /// Another client.
    pub(crate) async fn connect(&self) -> Client {
        let url = format!("ws://{}/db", self.address);
        Client::connect(&url, ClientOptions::default()).await.expect("it connects")
    }

    /// One request over HTTP; HTTP/1.0, so that the answer ends with the connection.
    pub(crate) async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.address);
        for header in headers {
            head += &format!("{header}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).expect("a status").parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.http("GET", path, &[], "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}
