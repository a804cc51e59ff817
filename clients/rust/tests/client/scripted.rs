//! A server that says exactly what a test tells it to.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Accepts connections one after the other.
pub(crate) struct Script {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// One connection, introduced already.
pub(crate) struct Peer(WebSocketStream<TcpStream>);

impl Script {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    /// The next connection, which has said hello.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        let mut peer = Peer(tokio_tungstenite::accept_async(stream).await.expect("a WebSocket"));
        let hello = peer.request().await;
        assert_eq!(hello["op"], "hello");
        peer.say(
            r#"{"id":"hello","ok":true,"data":{"version":"0","node":"n","epoch":"e.1","limits":
               {"frameBytes":1048576,"leafBytes":1048576,"commitBytes":1048576}}}"#,
        )
        .await;
        peer
    }
}

impl Peer {
    pub(crate) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("sent");
    }

    /// The next request of the client.
    pub(crate) async fn request(&mut self) -> Value {
        loop {
            match self.0.next().await.expect("an open connection").expect("a frame") {
                Message::Text(text) => {
                    return serde_json::from_str(text.as_str()).expect("a request of JSON");
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no request: {other:?}"),
            }
        }
    }

    /// The next request, which is for a subscription; its id.
    pub(crate) async fn sub(&mut self) -> (String, Value) {
        let request = self.request().await;
        assert_eq!(request["op"], "sub", "{request}");
        (request["id"].as_str().expect("an id").to_owned(), request)
    }

    /// Acknowledges with a snapshot.
    pub(crate) async fn acknowledge(&mut self, id: &str, data: &str, rev: u64) {
        let text = format!(r#"{{"id":"{id}","ok":true,"data":{data},"rev":{rev},"epoch":"e.1"}}"#);
        self.say(&text).await;
    }

    /// Tells of one commit that set the value.
    pub(crate) async fn tell(&mut self, id: &str, rev: u64, value: &str) {
        let events = format!(r#"[{{"type":"value","value":{value}}}]"#);
        self.say(&format!(r#"{{"sub":"{id}","rev":{rev},"events":{events}}}"#)).await;
    }
}
