//! Each limit: its own value is taken, one more is refused.

use serde_json::json;
use tokio_tungstenite::tungstenite;
use trellis_server::ServerOptions;

use crate::harness::TestServer;

fn frames_of(frame_bytes_max: usize) -> ServerOptions {
    ServerOptions { frame_bytes_max, ..ServerOptions::default() }
}

/// A set of exactly so many bytes.
fn set_of(bytes: usize) -> String {
    let frame = r#"{"id":"1","op":"set","path":"a","value":""}"#;
    frame.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(bytes - frame.len())))
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken_and_one_more_byte_closes_with_1009() {
    let server = TestServer::with(frames_of(10_000)).await;
    let mut socket = server.socket().await;
    let answer = socket.ask(&set_of(10_000)).await;
    assert_eq!(answer, r#"{"id":"1","ok":true,"data":null,"rev":1}"#);
    socket.send(&set_of(10_001)).await;
    assert_eq!(socket.close_code().await, 1009);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_beyond_the_frame_limit_is_refused_with_the_way_to_page() {
    let server = TestServer::with(frames_of(10_000)).await;
    server.db.set("at", "x".repeat(9_000)).expect("written");
    server.db.set("past", "x".repeat(10_000)).expect("written");
    let mut socket = server.socket().await;
    socket.send(r#"{"id":"1","op":"get","path":"at"}"#).await;
    assert_eq!(socket.answer().await["ok"], true);
    socket.send(r#"{"id":"2","op":"get","path":"past"}"#).await;
    let refused = socket.answer().await;
    assert_eq!((&refused["error"], &refused["path"]), (&json!("too_large"), &json!("past")));
    assert!(refused["message"].as_str().expect("a message").contains("children"));
    // A page of values ends before the limit; the rest is on the next.
    socket.send(r#"{"id":"3","op":"children","path":"","values":true}"#).await;
    let page = socket.answer().await;
    assert_eq!(page["data"]["items"].as_array().expect("items").len(), 1);
    assert_eq!(page["data"]["nextCursor"], "at");
    server.stop().await;
}

#[tokio::test]
async fn an_id_has_at_most_256_bytes() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let ping = |length: usize| format!(r#"{{"id":"{}","op":"ping"}}"#, "i".repeat(length));
    socket.send(&ping(256)).await;
    assert_eq!(socket.answer().await["ok"], true);
    let (id, code) = socket.refusal(&ping(257)).await;
    assert_eq!((id, code.as_str()), (json!(null), "invalid"));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_refused_with_503() {
    let options = ServerOptions { connections_max: 2, ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let (_first, _second) = (server.socket().await, server.socket().await);
    let url = format!("ws://{}/db", server.address);
    match tokio_tungstenite::connect_async(url).await {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key("retry-after"));
        }
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(server.get("/health").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_and_one_more_byte_is_413() {
    let server = TestServer::start().await;
    let limit = server.db.tree().options().limits.commit_bytes_max + (1 << 20);
    let mut body = vec![b' '; limit];
    body[0] = b'1';
    assert_eq!(server.http("PUT", "/db/a", &[], &body).await.status, 200);
    body.push(b' ');
    let refused = server.http("PUT", "/db/a", &[], &body).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
    server.stop().await;
}

#[tokio::test]
async fn a_leaf_at_its_limit_is_written_and_read_back_over_rest() {
    let server = TestServer::start().await;
    let limit = server.db.tree().options().limits.leaf_bytes_max;
    let at = format!("\"{}\"", "x".repeat(limit - 64));
    assert_eq!(server.put("/db/a", &at).await.status, 200);
    assert_eq!(server.get("/db/a").await.body.len(), at.len());
    let past = format!("\"{}\"", "x".repeat(limit + 1));
    let refused = server.put("/db/a", &past).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
    server.stop().await;
}

#[tokio::test]
async fn requests_in_flight_are_bounded_by_not_reading_and_none_is_lost() {
    let options = ServerOptions {
        in_flight_requests_max: 1,
        in_flight_bytes_max: 1,
        ..ServerOptions::default()
    };
    let server = TestServer::with(options).await;
    let mut socket = server.socket().await;
    for index in 0..200 {
        socket.feed(&format!(r#"{{"id":"{index}","op":"push","path":"l","value":1}}"#)).await;
        socket.feed(&format!(r#"{{"id":"{index}","op":"exists","path":"l"}}"#)).await;
    }
    socket.flush().await;
    for _ in 0..400 {
        assert_eq!(socket.answer().await["ok"], true);
    }
    server.stop().await;
}
