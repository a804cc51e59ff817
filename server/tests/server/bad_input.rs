//! Whatever comes in, the server answers or closes with a reason, and serves on.

use futures_util::SinkExt;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use trellis_server::ServerOptions;

use crate::harness::{PATIENCE, Reply, TestServer};

/// Values that are none, as JSON text.
fn bad_values() -> Vec<(&'static str, String)> {
    vec![
        ("nested too deep", format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("objects too deep", format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000))),
        ("duplicate keys", r#"{"a":1,"a":2}"#.to_owned()),
        ("beyond f64", "1e400".to_owned()),
        ("a lone surrogate", r#""\ud800""#.to_owned()),
        ("a lone surrogate as a key", r#"{"\udc00":1}"#.to_owned()),
        ("NUL in a key", r#"{"a\u0000b":1}"#.to_owned()),
        ("an empty key", r#"{"":1}"#.to_owned()),
        ("a slash in a key", r#"{"a/b":1}"#.to_owned()),
        ("not a number", "NaN".to_owned()),
        ("bytes that are no base64", r#"{".bytes":"%"}"#.to_owned()),
        ("an unknown transform", r#"{".sv":"frobnicate"}"#.to_owned()),
    ]
}

#[tokio::test]
async fn bad_values_are_refused_and_change_nothing_over_websocket() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for (what, value) in bad_values() {
        let request = format!(r#"{{"id":"1","op":"set","path":"a","value":{value}}}"#);
        let (_, code) = socket.refusal(&request).await;
        assert!(matches!(code.as_str(), "invalid" | "too_large"), "{what}: {code}");
    }
    assert_eq!(server.db.tree().view().expect("a view").rev(), 0);
    server.stop().await;
}

#[tokio::test]
async fn bad_values_are_refused_and_change_nothing_over_rest() {
    let server = TestServer::start().await;
    for (what, value) in bad_values() {
        let reply = server.put("/db/a", &value).await;
        assert!(matches!(reply.status, 400 | 413), "{what}: {}", reply.status);
        assert!(matches!(reply.code().as_str(), "invalid" | "too_large"), "{what}");
    }
    let broken = server.http("PUT", "/db/a", &[], b"\"\xFF\"").await;
    assert_eq!((broken.status, broken.code().as_str()), (400, "invalid"));
    assert_eq!(server.put("/db/a", "").await.status, 400);
    let root = server.put("/db", "{}").await;
    assert_eq!((root.status, root.code().as_str()), (400, "invalid"));
    let system = server.put("/db/_auth/x", "1").await;
    assert_eq!((system.status, system.code().as_str()), (403, "denied"));
    assert_eq!(server.db.tree().view().expect("a view").rev(), 0);
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_answered_with_their_id_and_the_connection_lives() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let requests = [
        (r#"{"op":"get","path":"a"}"#, json!(null), "invalid"),
        (r#"{"id":1,"op":"get","path":"a"}"#, json!(null), "invalid"),
        (r#"{"id":"1"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"frobnicate"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"get"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"get","path":"a//b"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"get","path":"/a"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"get","path":"a\u0000"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"get","path":"\ud800"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"set","path":"a"}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"set","path":"","value":1}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"set","path":"_auth","value":1}"#, json!("1"), "denied"),
        (r#"{"id":"1","op":"set","path":"a","value":1,"ttl":-1}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"set","path":"a","value":1,"ttl":1e400}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"update","updates":{"a":1,"a/b":2}}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"update","updates":{"a":1,"a":2}}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"batch","operations":[]}"#, json!("1"), "invalid"),
        (r#"{"id":"1","op":"children","path":"","limit":1001}"#, json!("1"), "invalid"),
        (r#"{"id":"1","id":"2","op":"ping"}"#, json!(null), "invalid"),
        ("null", json!(null), "invalid"),
        ("[]", json!(null), "invalid"),
        ("", json!(null), "invalid"),
    ];
    for (request, id, code) in requests {
        let (answered, refused) = socket.refusal(request).await;
        assert_eq!(refused, code, "{request}");
        assert_eq!(answered, id, "{request}");
    }
    assert_eq!(server.db.tree().view().expect("a view").rev(), 0);
    assert_eq!(
        socket.ask(r#"{"id":"1","op":"ping"}"#).await,
        r#"{"id":"1","ok":true,"data":null}"#
    );
    server.stop().await;
}

#[tokio::test]
async fn dots_are_ordinary_names_and_broken_urls_are_refused() {
    let server = TestServer::start().await;
    assert_eq!(server.put("/db/%2e%2e/..", "1").await.status, 200);
    assert_eq!(server.get("/db/..//../").await.text(), "1");
    assert_eq!(server.db.get("../..").expect("a value"), 1);
    let mut socket = server.socket().await;
    socket.send(r#"{"id":"1","op":"get","path":"../.."}"#).await;
    assert_eq!(socket.answer().await["data"], 1);
    for target in ["/db/%FF", "/db/a%00", "/db/a%2Fb", "/db/%", "/db/%zz", "/db/%C3"] {
        let reply = server.get(target).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid"), "{target}");
    }
    let long = format!("/db/{}", "x".repeat(769));
    assert!(matches!(server.get(&long).await.status, 400 | 413));
    server.stop().await;
}

#[tokio::test]
async fn a_million_keys_in_one_value_are_refused_without_harm() {
    let server = TestServer::start().await;
    let mut value = String::from("{");
    for key in 0..1_000_000 {
        value.push_str(&format!("\"k{key}\":1,"));
    }
    value.pop();
    value.push('}');
    let reply = server.put("/db/a", &value).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "too_large"));
    assert_eq!(server.get("/db/a").await.text(), "null");
    server.stop().await;
}

#[tokio::test]
async fn text_that_is_no_utf8_and_frames_that_are_none_close_with_a_reason() {
    let server = TestServer::start().await;
    // A masked text frame of one byte, 0xFF under the mask 0.
    let mut raw = server.tcp().await;
    handshake(&mut raw, &server).await;
    raw.write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xFF]).await.expect("sent");
    assert_eq!(close_code(&mut raw).await, 1007);
    // An unmasked frame, which a client must not send.
    let mut raw = server.tcp().await;
    handshake(&mut raw, &server).await;
    raw.write_all(&[0x81, 0x01, b'x']).await.expect("sent");
    assert_eq!(close_code(&mut raw).await, 1002);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_announced_and_not_sent_holds_a_connection_no_longer_than_silence() {
    let options = ServerOptions {
        silence_max: Duration::from_millis(300),
        ping_interval: Duration::from_millis(100),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options).await;
    let mut raw = server.tcp().await;
    handshake(&mut raw, &server).await;
    // A frame of 1 MiB begins, and nothing follows.
    let mut header = vec![0x81, 0xFF];
    header.extend_from_slice(&(1_u64 << 20).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    raw.write_all(&header).await.expect("sent");
    let mut rest = Vec::new();
    timeout(PATIENCE, raw.read_to_end(&mut rest)).await.expect("dropped in time").ok();
    server.stop().await;
}

#[tokio::test]
async fn a_frame_announced_beyond_the_limit_is_refused_before_it_is_sent() {
    let server = TestServer::start().await;
    let mut raw = server.tcp().await;
    handshake(&mut raw, &server).await;
    let mut header = vec![0x81, 0xFF];
    header.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    raw.write_all(&header).await.expect("sent");
    assert_eq!(close_code(&mut raw).await, 1009);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_header_is_cut_off() {
    let options =
        ServerOptions { header_timeout: Duration::from_millis(200), ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut raw = server.tcp().await;
    raw.write_all(b"GET /db/a HTTP/1.1\r\nHost: 127").await.expect("sent");
    let mut rest = Vec::new();
    timeout(PATIENCE, raw.read_to_end(&mut rest)).await.expect("cut off in time").ok();
    server.stop().await;
}

#[tokio::test]
async fn a_header_has_at_most_32_kib() {
    let server = TestServer::start().await;
    for (bytes, status) in [(32_000, 200), (32 << 10, 431), (40 << 10, 431)] {
        let header = format!("X-A: {}", "x".repeat(bytes));
        let reply = server.http("GET", "/db/a", &[&header], b"").await;
        assert_eq!(reply.status, status, "{bytes}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_refused() {
    let options =
        ServerOptions { body_idle_timeout: Duration::from_millis(200), ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut raw = server.tcp().await;
    let head =
        format!("PUT /db/a HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\n12", server.address);
    raw.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, raw.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(Reply::parse(&answer).status, 408);
    assert_eq!(server.get("/db/a").await.text(), "null");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_takes_room_and_comes_by_drops_is_refused() {
    const SOON: Duration = Duration::from_millis(100);
    let options =
        ServerOptions { body_idle_timeout: Duration::from_millis(500), ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut raw = server.tcp().await;
    let head = format!(
        "PUT /db/a HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n",
        server.address
    );
    raw.write_all(&[head.as_bytes(), &[b' '; 32 << 10]].concat()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, async {
        // No pause is as long as the longest that is borne.
        while timeout(SOON, raw.read_buf(&mut answer)).await.is_err() {
            raw.write_all(b" ").await.expect("sent");
        }
        raw.read_to_end(&mut answer).await.ok();
    })
    .await
    .expect("an answer in time");
    assert_eq!(Reply::parse(&answer).status, 408);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_closed_its_side_after_asking_still_gets_the_answer() {
    let server = TestServer::start().await;
    server.put("/db/a", "1").await;
    let mut raw = server.tcp().await;
    let head = format!("GET /db/a HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    raw.write_all(head.as_bytes()).await.expect("sent");
    raw.shutdown().await.expect("half closed");
    let mut answer = Vec::new();
    timeout(PATIENCE, raw.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(Reply::parse(&answer).text(), "1");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_vanishes_gives_its_place_back() {
    let options = ServerOptions { connections_max: 1, ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut socket = server.socket().await;
    socket.socket.send(Message::text(r#"{"id":"1","op":"ping"}"#)).await.expect("sent");
    drop(socket);
    timeout(PATIENCE, async {
        let url = format!("ws://{}/db", server.address);
        while tokio_tungstenite::connect_async(&url).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the place is given back");
    server.stop().await;
}

async fn handshake(raw: &mut tokio::net::TcpStream, server: &TestServer) {
    let head = format!(
        "GET /db HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    raw.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(raw.read_u8().await.expect("the handshake's answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
}

/// Reads frames of the server up to its close frame.
async fn close_code(raw: &mut tokio::net::TcpStream) -> u16 {
    let read = async {
        loop {
            let opcode = raw.read_u8().await.expect("a frame") & 0x0F;
            let length = usize::from(raw.read_u8().await.expect("a length"));
            assert!(length < 126, "a short frame");
            let mut payload = vec![0; length];
            raw.read_exact(&mut payload).await.expect("a payload");
            if opcode == 8 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    };
    timeout(PATIENCE, read).await.expect("a close frame in time")
}
