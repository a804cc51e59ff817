//! Server-sent events: what `curl -N` and an EventSource get.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trellis_server::ServerOptions;

use crate::harness::{PATIENCE, TestServer};

/// One event, read as an EventSource reads it.
#[derive(Debug, PartialEq)]
struct SentEvent {
    event: String,
    data: Value,
    id: Option<String>,
}

/// A client that keeps its connection and reads events one by one.
struct EventSource {
    stream: TcpStream,
    head: String,
    /// Of the body, without its chunks' lengths.
    text: String,
    raw: Vec<u8>,
}

impl EventSource {
    async fn open(server: &TestServer, target: &str, last_event_id: Option<&str>) -> Self {
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n",
            server.address
        );
        if let Some(id) = last_event_id {
            request.push_str(&format!("Last-Event-ID: {id}\r\n"));
        }
        request.push_str("\r\n");
        let mut stream = server.tcp().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut raw = Vec::new();
        let head = loop {
            if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = raw.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(&mut raw, rest)).expect("text");
                break head;
            }
            assert!(read(&mut stream, &mut raw).await, "no head");
        };
        Self { stream, head, text: String::new(), raw }
    }

    /// The next block of lines that an empty one ends; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            if let Some(chunk) = take_chunk(&mut self.raw) {
                if chunk.is_empty() {
                    return None;
                }
                self.text.push_str(&chunk);
            } else if !read(&mut self.stream, &mut self.raw).await {
                return None;
            }
        }
    }

    async fn next(&mut self) -> SentEvent {
        loop {
            let block = self.block().await.expect("an event");
            if !block.starts_with(':') {
                return parse(&block);
            }
        }
    }
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let length = timeout(PATIENCE, stream.read_buf(into)).await.expect("in time");
    length.expect("a connection") > 0
}

/// The first whole chunk of a chunked body.
fn take_chunk(raw: &mut Vec<u8>) -> Option<String> {
    let line = raw.windows(2).position(|two| two == b"\r\n")?;
    let length = std::str::from_utf8(&raw[..line]).expect("text");
    let length = usize::from_str_radix(length, 16).expect("a length");
    if raw.len() < line + 2 + length + 2 {
        return None;
    }
    let rest = raw.split_off(line + 2 + length + 2);
    let whole = std::mem::replace(raw, rest);
    Some(String::from_utf8(whole[line + 2..line + 2 + length].to_vec()).expect("text"))
}

fn parse(block: &str) -> SentEvent {
    let (mut event, mut data, mut id) = (String::new(), Value::Null, None);
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ").expect("a field") {
            ("event", text) => event = text.to_owned(),
            ("data", text) => data = serde_json::from_str(text).expect("JSON"),
            ("id", text) => id = Some(text.to_owned()),
            other => panic!("an unknown field: {other:?}"),
        }
    }
    SentEvent { event, data, id }
}

#[tokio::test]
async fn a_stream_begins_with_what_is_there_and_tells_what_changes() {
    let server = TestServer::start().await;
    server.db.set("room", json!({"name": "A", "seats": {"1": true}})).expect("written");
    let mut source = EventSource::open(&server, "/db/room", None).await;
    let head = source.head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("cache-control: no-cache"), "{head}");
    let epoch = server.db.tree().epoch_token();
    let id = |rev: u64| Some(format!("{epoch}-{rev}"));
    let event =
        |event: &str, data: Value, rev| SentEvent { event: event.to_owned(), data, id: id(rev) };
    let all = json!({"path": "/", "data": {"name": "A", "seats": {"1": true}}});
    assert_eq!(source.next().await, event("put", all, 1));
    server.db.set("room/seats/2", false).expect("written");
    let one = json!({"path": "/seats/2", "data": false});
    assert_eq!(source.next().await, event("put", one, 2));
    server.db.set("elsewhere", 1).expect("written");
    server.db.update([("room/name", json!("B")), ("room/seats/1", Value::Null)]).expect("written");
    let several = json!({"path": "/", "data": {"name": "B", "seats/1": null}});
    assert_eq!(source.next().await, event("patch", several, 4));
    server.db.delete("room").expect("written");
    assert_eq!(source.next().await, event("put", json!({"path": "/", "data": null}), 5));
    drop(source);
    server.stop().await;
}

#[tokio::test]
async fn an_event_source_that_comes_back_goes_on_where_it_was() {
    let server = TestServer::start().await;
    server.db.set("n", 1).expect("written");
    let mut source = EventSource::open(&server, "/db/n", None).await;
    let first = source.next().await.id.expect("an id");
    drop(source);
    server.db.set("n", 2).expect("written");
    server.db.set("n", 3).expect("written");
    let mut source = EventSource::open(&server, "/db/n", Some(&first)).await;
    for value in [2, 3] {
        let event = source.next().await;
        assert_eq!((event.event.as_str(), &event.data["data"]), ("put", &json!(value)));
    }
    // What is of elsewhere cannot be gone on from: everything anew, and said so.
    for id in ["0123456789abcdef.1-2", "nonsense", &first.replace("-1", "-99")] {
        let mut source = EventSource::open(&server, "/db/n", Some(id)).await;
        let event = source.next().await;
        assert_eq!((event.event.as_str(), &event.data["data"]), ("reset", &json!(3)), "{id}");
        assert!(event.id.expect("an id").ends_with("-3"));
    }
    server.stop().await;
}

#[tokio::test]
async fn children_and_modes_are_told_as_on_a_web_socket() {
    let server = TestServer::start().await;
    let mut child = EventSource::open(&server, "/db/users?event=child", None).await;
    let mut wild = EventSource::open(&server, "/db/users/*/name?mode=full", None).await;
    let mut notify = EventSource::open(&server, "/db/users?mode=notify", None).await;
    for source in [&mut child, &mut wild, &mut notify] {
        assert_eq!(source.next().await.event, "put");
    }
    server.db.set("users/u1", json!({"name": "Alice"})).expect("written");
    let added = json!([{"type": "added", "key": "u1", "value": {"name": "Alice"}}]);
    assert_eq!(child.next().await.data["events"], added);
    let named = json!([
        {"type": "value", "path": "users/u1/name", "captures": ["u1"], "value": "Alice"}
    ]);
    assert_eq!(wild.next().await.data["events"], named);
    assert_eq!(notify.next().await.data["events"], json!([{"type": "value"}]));
    server.stop().await;
}

#[tokio::test]
async fn query_parameters_make_a_live_read_a_live_query() {
    let server = TestServer::start().await;
    server.db.set("users", json!({"a": {"age": 20}, "b": {"age": 5}})).expect("written");
    let target = "/db/users?where=age%3E%3D18&orderBy=age&limit=10";
    let mut source = EventSource::open(&server, target, None).await;
    let items = json!([{"path": "users/a", "key": "a", "value": {"age": 20}}]);
    assert_eq!(source.next().await.data, json!({"path": "/", "data": {"items": items}}));
    server.db.set("users/b/age", 30).expect("written");
    let added = json!([{"type": "added", "key": "b", "value": {"age": 30}, "after": "a"}]);
    assert_eq!(source.next().await.data["events"], added);
    drop(source);
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reads_and_another_one_is_denied() {
    let server = TestServer::start().await;
    let own = ["Origin: http://localhost:5173"];
    let allowed = server.http("GET", "/db/a", &own, b"").await;
    let origin = allowed.header("access-control-allow-origin");
    assert_eq!((allowed.status, origin), (200, Some("http://localhost:5173")));
    assert_eq!(allowed.header("vary"), Some("origin"));
    let live = ["Accept: text/event-stream", "Origin: https://elsewhere.example"];
    let denied = server.http("GET", "/db/a", &live, b"").await;
    let origin = denied.header("access-control-allow-origin");
    assert_eq!((denied.status, denied.code().as_str(), origin), (403, "denied", None));
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_whether_it_may_write() {
    let server = TestServer::start().await;
    let asks = "Access-Control-Request-Method: PATCH";
    let own = ["Origin: http://localhost:5173", asks];
    let allowed = server.http("OPTIONS", "/db/a", &own, b"").await;
    let origin = allowed.header("access-control-allow-origin");
    assert_eq!((allowed.status, origin), (204, Some("http://localhost:5173")));
    let methods = allowed.header("access-control-allow-methods").expect("methods");
    assert!(methods.contains("PATCH"), "{methods}");
    let headers = allowed.header("access-control-allow-headers").expect("headers");
    assert!(headers.contains("content-type") && headers.contains("idempotency-key"), "{headers}");
    let foreign = ["Origin: https://elsewhere.example", asks];
    let denied = server.http("OPTIONS", "/db/a", &foreign, b"").await;
    let methods = denied.header("access-control-allow-methods");
    assert_eq!((denied.status, methods), (403, None));
    server.stop().await;
}

#[tokio::test]
async fn a_live_read_that_makes_no_sense_is_a_json_error() {
    let server = TestServer::start().await;
    for target in [
        "/db/a?event=what",
        "/db/a?mode=what",
        "/db/a?shallow=1",
        "/db/a?children=1",
        "/db/a?event=child&limit=3",
        "/db/a?where=x%3D1&cursor=c",
        "/db/a?where=x%3D1&count=1",
        "/db/a?unknown=1",
        "/db/a?event=child&event=child",
    ] {
        let reply = server.http("GET", target, &["Accept: text/event-stream"], b"").await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid"), "{target}");
    }
    let reply = server.get("/db/a?event=child").await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "invalid"));
    assert_eq!(server.db.live_stats().inboxes, 0);
    server.stop().await;
}

#[tokio::test]
async fn streams_are_counted_among_the_connections_and_end_with_their_clients() {
    // What is written to a client that is gone fails, and so tells that it is.
    let options = ServerOptions {
        connections_max: 2,
        ping_interval: std::time::Duration::from_millis(20),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options).await;
    let first = EventSource::open(&server, "/db/a", None).await;
    let second = EventSource::open(&server, "/db/b", None).await;
    let refused = server.http("GET", "/db/c", &["Accept: text/event-stream"], b"").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    assert_eq!(server.db.live_stats().subscriptions, 2);
    drop((first, second));
    // The places are free once the server has seen that the clients are gone.
    while server.db.live_stats().inboxes > 0 {
        tokio::task::yield_now().await;
    }
    loop {
        let reply = server.get("/metrics").await;
        if reply.text().contains("trellis_event_streams 0") {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_a_comment_and_a_stop_ends_the_stream_orderly() {
    let options = ServerOptions {
        ping_interval: std::time::Duration::from_millis(20),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options).await;
    let mut source = EventSource::open(&server, "/db/a", None).await;
    assert_eq!(source.next().await.event, "put");
    let comment = source.block().await.expect("a heartbeat");
    assert!(comment.starts_with(": "), "{comment}");
    server.begin_stop();
    // Ends, as a whole body does.
    while let Some(block) = source.block().await {
        assert!(block.starts_with(": "), "{block}");
    }
    drop(source);
    server.stop().await;
}
