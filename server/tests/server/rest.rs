//! The tree over REST.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trellis_server::ServerOptions;

use crate::harness::TestServer;

#[tokio::test]
async fn values_are_put_read_patched_pushed_and_deleted() {
    let server = TestServer::start().await;
    let put = server.put("/db/users/u1", r#"{"name":"Alice"}"#).await;
    assert_eq!((put.status, put.text()), (200, r#"{"rev":1}"#));
    assert_eq!(put.header("trellis-rev"), Some("1"));
    let patch = server.http("PATCH", "/db/users", &[], br#"{"u1/age":41,"u2/name":"Bob"}"#).await;
    assert_eq!((patch.status, patch.text()), (200, r#"{"rev":2}"#));
    let got = server.get("/db/users").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.text(), r#"{"u1":{"age":41,"name":"Alice"},"u2":{"name":"Bob"}}"#);
    assert_eq!(got.header("trellis-rev"), Some("2"));
    let push = server.http("POST", "/db/list", &[], b"\"x\"").await;
    let name = push.json()["name"].as_str().expect("a name").to_owned();
    assert_eq!(push.json(), json!({"name": name}));
    assert_eq!(server.get(&format!("/db/list/{name}")).await.text(), "\"x\"");
    let deleted = server.http("DELETE", "/db/users/u1", &[], b"").await;
    assert_eq!((deleted.status, deleted.text()), (200, r#"{"rev":4}"#));
    assert_eq!(server.get("/db/users/u1").await.text(), "null");
    let counted = server.put("/db/n", r#"{".sv":{"increment":3}}"#).await;
    assert_eq!(counted.text(), r#"{"rev":5,"resolved":{"n":3}}"#);
    server.stop().await;
}

#[tokio::test]
async fn entity_tags_save_transfers_and_guard_writes() {
    let server = TestServer::start().await;
    server.put("/db/a", "1").await;
    let first = server.get("/db/a").await;
    let tag = first.header("etag").expect("an ETag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'));
    let known = server.http("GET", "/db/a", &[&format!("If-None-Match: {tag}")], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), Some(tag.as_str()));
    assert_eq!(server.get("/db/absent").await.header("etag"), None);

    let guard = format!("If-Match: {tag}");
    assert_eq!(server.http("PUT", "/db/a", &[&guard], b"2").await.status, 200);
    let lost = server.http("PUT", "/db/a", &[&guard], b"3").await;
    assert_eq!(lost.status, 412);
    assert_eq!(lost.json()["error"], "precondition");
    assert_eq!(lost.json()["value"], 2);
    let current = server.get("/db/a").await;
    assert_eq!(lost.header("etag"), current.header("etag"));
    let exists = server.http("PUT", "/db/a", &["If-None-Match: *"], b"9").await;
    assert_eq!((exists.status, exists.json()["value"].clone()), (412, json!(2)));
    assert_eq!(server.http("PUT", "/db/b", &["If-None-Match: *"], b"9").await.status, 200);
    assert_eq!(server.http("DELETE", "/db/none", &["If-Match: *"], b"").await.status, 412);
    let weak = server.http("PUT", "/db/a", &["If-Match: W/\"x\""], b"9").await;
    assert_eq!(weak.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_with_its_key_has_no_second_effect() {
    let server = TestServer::start().await;
    let headers = ["Idempotency-Key: once"];
    let body = br#"{".sv":{"increment":1}}"#;
    let first = server.http("PUT", "/db/n", &headers, body).await;
    let second = server.http("PUT", "/db/n", &headers, body).await;
    assert_eq!((first.status, first.text()), (second.status, second.text()));
    assert_eq!(server.get("/db/n").await.text(), "1");
    let pushed = server.http("POST", "/db/l", &["Idempotency-Key: p"], b"1").await;
    let again = server.http("POST", "/db/l", &["Idempotency-Key: p"], b"1").await;
    assert_eq!(pushed.json()["name"], again.json()["name"]);
    server.stop().await;
}

#[tokio::test]
async fn keys_and_pages_of_children_are_read_without_their_values() {
    let server = TestServer::start().await;
    server.put("/db/t", r#"{"a":{"x":1},"b":2,"c":[3]}"#).await;
    assert_eq!(server.get("/db/t?shallow=1").await.text(), r#"{"a":true,"b":true,"c":true}"#);
    assert_eq!(server.get("/db/t/b?shallow=1").await.text(), "2");
    assert_eq!(
        server.get("/db/t?children=1&limit=2").await.text(),
        r#"{"items":[{"key":"a"},{"key":"b"}],"nextCursor":"b"}"#
    );
    assert_eq!(
        server.get("/db/t?children=1&after=b&values=1").await.text(),
        r#"{"items":[{"key":"c","value":[3]}]}"#
    );
    for query in ["limit=0", "limit=1001", "where=x", "after=a", "shallow=2", "ttl=1"] {
        let prefix = if query.starts_with("limit") { "children=1&" } else { "" };
        assert_eq!(server.get(&format!("/db/t?{prefix}{query}")).await.status, 400, "{query}");
    }
    server.stop().await;
}

#[tokio::test]
async fn large_subtrees_are_streamed_whole_from_one_view() {
    let server = TestServer::start().await;
    let mut expected = serde_json::Map::new();
    for part in 0..40_u32 {
        let children: serde_json::Map<String, Value> = (0..500)
            .map(|child| {
                (format!("k{child:04}"), json!(format!("{part} {child} {}", "v".repeat(80))))
            })
            .collect();
        server.db.set(format!("big/p{part:02}"), &children).expect("written");
        expected.insert(format!("p{part:02}"), Value::Object(children));
    }
    let got = server.get("/db/big").await;
    assert!(got.body.len() > 1 << 20);
    assert_eq!(got.header("content-length"), None);
    assert_eq!(got.json(), Value::Object(expected));
    assert!(got.header("etag").is_some());

    let lines = server.http("GET", "/db/big", &["Accept: application/x-ndjson"], b"").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 40 * 500);
    assert_eq!(lines[0]["path"], "p00/k0000");
    assert!(lines[0]["value"].as_str().expect("a string").starts_with("0 0 v"));
    server.stop().await;
}

/// More than sockets and channels hold, so that the scan has to wait for the reader.
async fn fill(server: &TestServer) -> usize {
    let long = "v".repeat(2_000_000);
    for index in 0..8 {
        server.db.set(format!("huge/k{index:03}"), &long).expect("written");
    }
    "{}".len() + 8 * (r#""k000":"","#.len() + long.len()) - 1
}

#[tokio::test]
async fn an_answer_larger_than_all_buffers_is_whole() {
    let server = TestServer::start().await;
    let length = fill(&server).await;
    assert_eq!(server.get("/db/huge").await.body.len(), length);
    let lines = server.http("GET", "/db/huge", &["Accept: application/x-ndjson"], b"").await;
    assert_eq!(lines.text().lines().count(), 8);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_gives_its_place_back_and_gets_no_whole_answer() {
    let options = ServerOptions {
        streams_max: 1,
        body_idle_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options).await;
    let length = fill(&server).await;
    let mut lazy = server.tcp().await;
    let request = format!("GET /db/huge HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    lazy.write_all(request.as_bytes()).await.expect("sent");
    // The first byte: the lazy reader has the only place.
    assert_eq!(lazy.read_u8().await.expect("an answer"), b'H');
    assert_eq!(server.get("/db/huge").await.body.len(), length);
    let mut rest = Vec::new();
    // Ends with an error or without the last chunk.
    let _is_clean = lazy.read_to_end(&mut rest).await.is_ok();
    assert!(rest.len() < length && !rest.ends_with(b"0\r\n\r\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_commit_names_each_failed_condition() {
    let server = TestServer::start().await;
    let body = br#"{"ops":[{"op":"set","path":"a","value":1},{"op":"push","path":"l","value":2}]}"#;
    let done = server.http("POST", "/v1/commit", &[], body).await;
    assert_eq!(done.status, 200);
    assert_eq!(done.json()["results"][0], Value::Null);
    assert_eq!(done.json()["rev"], 1);
    let body = br#"{"if":[{"path":"a","value":2}],"ops":[{"op":"set","path":"a","value":3}]}"#;
    let lost = server.http("POST", "/v1/commit", &[], body).await;
    assert_eq!(lost.status, 409);
    assert_eq!(lost.json()["error"], "conflict");
    assert_eq!(lost.json()["failed"][0]["path"], "a");
    assert_eq!(lost.json()["failed"][0]["value"], 1);
    let misspelled = br#"{"iff":[{"path":"a","value":2}],"ops":[{"op":"delete","path":"a"}]}"#;
    assert_eq!(server.http("POST", "/v1/commit", &[], misspelled).await.status, 400);
    let keys = br#"{"ops":[{"op":"delete","path":"a"}],"key":"x"}"#;
    let keys = server.http("POST", "/v1/commit", &["Idempotency-Key: y"], keys).await;
    assert_eq!(keys.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn an_expiry_is_taken_from_the_query() {
    let server = TestServer::start().await;
    assert_eq!(server.put("/db/gone?expiresAt=1", "1").await.status, 200);
    assert_eq!(server.get("/db/gone").await.text(), "null");
    assert_eq!(server.put("/db/here?ttl=3600", "1").await.status, 200);
    assert_eq!(server.get("/db/here").await.text(), "1");
    assert_eq!(server.put("/db/both?ttl=1&expiresAt=1", "1").await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn the_service_routes_answer_and_everything_else_is_a_json_error() {
    let server = TestServer::start().await;
    server.put("/db/a", "1").await;
    let health = server.get("/health").await;
    assert_eq!(health.json(), json!({"status":"ok","version":trellis_server::VERSION,"rev":1}));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("trellis_rev 1"), "{}", metrics.text());
    assert!(metrics.text().contains(r#"trellis_http_requests_total{method="PUT",status="200"} 1"#));
    assert_eq!(server.get("/openapi.json").await.json()["openapi"], "3.1.0");
    for target in ["/", "/nothing", "/v1/streams/a", "/db%2Fa", "/admin"] {
        let reply = server.get(target).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{target}");
    }
    for (method, target) in [("POST", "/health"), ("GET", "/v1/commit"), ("OPTIONS", "/db/a")] {
        let reply = server.http(method, target, &[], b"").await;
        assert_eq!((reply.status, reply.code().as_str()), (405, "invalid"), "{method} {target}");
    }
    let head = server.http("HEAD", "/db/a", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    server.stop().await;
}

#[tokio::test]
async fn requests_that_a_foreign_web_page_may_have_caused_are_denied() {
    let server = TestServer::start().await;
    let foreign = server.http("PUT", "/db/a", &["Origin: https://evil.example"], b"1").await;
    assert_eq!((foreign.status, foreign.code().as_str()), (403, "denied"));
    let local = server.http("PUT", "/db/a", &["Origin: http://localhost:5173"], b"1").await;
    assert_eq!(local.status, 200);
    server.stop().await;
}
