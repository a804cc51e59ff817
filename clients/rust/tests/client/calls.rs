//! Every operation, once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trellis_client::{
    Check, ClientErrorKind, ClientOptions, Condition, Expiry, ExportFormat, Hello, Operation,
    WriteOptions,
};

use crate::harness::{TestServer, connect};

#[tokio::test]
async fn every_operation_does_what_it_says() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let written = client.set("users/u1", &json!({"name": "Alice"})).await.expect("written");
    assert_eq!((written.rev, written.results), (1, vec![Value::Null]));
    assert_eq!(client.get("users/u1/name").await.expect("read"), "Alice");
    assert_eq!(client.get_raw("users").await.expect("read").get(), r#"{"u1":{"name":"Alice"}}"#);
    assert!(client.exists("users/u1").await.expect("read"));
    assert_eq!(client.get("nobody").await.expect("read"), Value::Null);
    client.update(&BTreeMap::from([("a/b", 1), ("c", 2)])).await.expect("written");
    let page = client.children("", None, 2, true).await.expect("read");
    assert_eq!(page.items[0].key, "a");
    assert_eq!(page.items[0].value, Some(json!({"b": 1})));
    assert_eq!(page.next_cursor.as_deref(), Some("c"));
    let id = client.push("list", &7).await.expect("pushed");
    assert_eq!(client.get(&format!("list/{id}")).await.expect("read"), 7);
    client.delete("list").await.expect("deleted");
    assert!(!client.exists("list").await.expect("read"));
    let counted = client.set("n", &json!({".sv": {"increment": 2}})).await.expect("written");
    assert_eq!(counted.resolved["n"], 2);
    let expired = WriteOptions { expiry: Some(Expiry::AtMs(1)), key: None };
    client.set_with("gone", &1, expired).await.expect("written");
    assert!(!client.exists("gone").await.expect("read"));
    let operations = [Operation::push("l", json!(1)), Operation::delete("a")];
    let batch = client.batch(&operations).await.expect("written");
    assert!(batch.results[0].is_string() && batch.results[1].is_null());
    client.ping().await.expect("an answer");
    let hello = client.hello().await.expect("an answer");
    assert_eq!(Hello { time: client.server().time, ..hello }, client.server());
    assert!(client.stats().await.expect("an answer")["tree"]["rev"].is_u64());
    client.close().await;
    let closed = client.ping().await.expect_err("closed");
    assert_eq!(closed.kind(), ClientErrorKind::Closed);
}

#[tokio::test]
async fn a_lost_race_names_what_is_there() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let free = [Condition { path: "seat".to_owned(), check: Check::Exists(false) }];
    let taken = |who: &str| [Operation::set("seat", who.into())];
    client.commit(&free, &taken("Alice"), None).await.expect("free");
    let lost = client.commit(&free, &taken("Bob"), None).await.expect_err("taken");
    assert_eq!((lost.kind(), lost.code()), (ClientErrorKind::Refused, "conflict"));
    assert_eq!(lost.failed()[0].path, "seat");
    assert_eq!(lost.failed()[0].value, "Alice");
    let denied = client.set("_auth/x", &1).await.expect_err("denied");
    assert_eq!((denied.code(), denied.is_retryable()), ("denied", false));
}

#[tokio::test]
async fn what_is_larger_than_a_frame_goes_over_http() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let large = "x".repeat(2 << 20);
    let refused = client.set("large", &large).await.expect_err("too large");
    assert_eq!(refused.kind(), ClientErrorKind::Invalid);
    client.update_over_http(&BTreeMap::from([("large", &large)])).await.expect("written");
    let refused = client.get("large").await.expect_err("too large");
    assert_eq!(refused.code(), "too_large");
    let mut export = client.export("large", ExportFormat::Json).await.expect("an export");
    assert_eq!(export.rev(), 1);
    let mut text = Vec::new();
    while let Some(chunk) = export.next_chunk().await.expect("a chunk") {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(text.len(), large.len() + 2);
    let mut lines = client.export("", ExportFormat::Ndjson).await.expect("an export");
    let first = lines.next_chunk().await.expect("a chunk").expect("not the end");
    assert!(first.starts_with(b"{\"path\":\"large\",\"value\":\"xxx"));
    let refused = client.export("a//\u{0}", ExportFormat::Json).await.expect_err("no path");
    assert_eq!(refused.code(), "invalid");
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_and_all_are_answered() {
    let server = TestServer::start().await;
    let options = ClientOptions {
        in_flight_requests_max: 2,
        in_flight_bytes_max: 100,
        ..crate::harness::options()
    };
    let client = connect(server.address, options).await;
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..300 {
        let client = client.clone();
        calls.spawn(async move { client.set(&format!("k{index}"), &index).await });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("no panic").expect("written");
    }
    assert_eq!(server.db.children("", None, 1_000).expect("read").items.len(), 300);
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("ws://{address}/db");
    let refused = trellis_client::Client::connect(&url, ClientOptions::default()).await;
    let refused = refused.expect_err("nobody there");
    assert_eq!(refused.kind(), ClientErrorKind::Unreachable);
    assert!(refused.message().contains("is a server running"));
}
