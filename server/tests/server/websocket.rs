//! The tree family over WebSocket, to the letter.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use trellis_server::ServerOptions;

use crate::harness::TestServer;

#[tokio::test]
async fn answers_are_as_the_protocol_writes_them() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let mut ask = async |request: &str| socket.ask(request).await;
    assert_eq!(
        ask(r#"{"id":"1","op":"set","path":"users/u1","value":{"name":"Alice"}}"#).await,
        r#"{"id":"1","ok":true,"data":null,"rev":1}"#
    );
    assert_eq!(
        ask(r#"{"id":"2","op":"get","path":"users/u1/name"}"#).await,
        r#"{"id":"2","ok":true,"data":"Alice","rev":1}"#
    );
    assert_eq!(
        ask(r#"{"id":"3","op":"get","path":"nobody"}"#).await,
        r#"{"id":"3","ok":true,"data":null,"rev":1}"#
    );
    assert_eq!(
        ask(r#"{"id":"\"4\"","op":"exists","path":"users/u1"}"#).await,
        r#"{"id":"\"4\"","ok":true,"data":true,"rev":1}"#
    );
    assert_eq!(
        ask(r#"{"id":"5","op":"update","updates":{"users/u2/name":"Bob","users/u3":7}}"#).await,
        r#"{"id":"5","ok":true,"data":null,"rev":2}"#
    );
    assert_eq!(
        ask(r#"{"id":"6","op":"children","path":"users","limit":2,"values":true}"#).await,
        concat!(
            r#"{"id":"6","ok":true,"data":{"items":[{"key":"u1","value":{"name":"Alice"}},"#,
            r#"{"key":"u2","value":{"name":"Bob"}}],"nextCursor":"u2"},"rev":2}"#
        )
    );
    assert_eq!(
        ask(r#"{"id":"7","op":"children","path":"users","after":"u2"}"#).await,
        r#"{"id":"7","ok":true,"data":{"items":[{"key":"u3"}]},"rev":2}"#
    );
    assert_eq!(
        ask(r#"{"id":"8","op":"delete","path":"users/u3"}"#).await,
        r#"{"id":"8","ok":true,"data":null,"rev":3}"#
    );
    assert_eq!(
        ask(r#"{"id":"9","op":"set","path":"n","value":{".sv":{"increment":2}}}"#).await,
        r#"{"id":"9","ok":true,"data":null,"resolved":{"n":2},"rev":4}"#
    );
    assert_eq!(ask(r#"{"id":"10","op":"ping"}"#).await, r#"{"id":"10","ok":true,"data":null}"#);
    server.stop().await;
}

#[tokio::test]
async fn several_operations_are_one_commit_with_results_in_order() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let answer = socket
        .ask(
            r#"{"id":"1","op":"batch","operations":[{"op":"set","path":"a","value":1},
                {"op":"push","path":"list","value":"x"},{"op":"delete","path":"b"}]}"#,
        )
        .await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["rev"], 1);
    assert_eq!(answer["data"][0], Value::Null);
    assert_eq!(answer["data"][1].as_str().expect("an id").len(), 20);
    assert_eq!(answer["data"][2], Value::Null);

    let answer = socket
        .ask(
            r#"{"id":"2","op":"commit","if":[{"path":"a","value":1},{"path":"b","absent":true}],
                "ops":[{"op":"set","path":"a","value":2}]}"#,
        )
        .await;
    assert_eq!(answer, r#"{"id":"2","ok":true,"data":{"results":[null]},"rev":2}"#);

    let answer = socket
        .ask(
            r#"{"id":"3","op":"commit","if":[{"path":"a","value":1},{"path":"zz","exists":true}],
                "ops":[{"op":"set","path":"a","value":3}]}"#,
        )
        .await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["error"], "conflict");
    assert_eq!(answer["failed"][0]["path"], "a");
    assert_eq!(answer["failed"][0]["value"], 2);
    assert_eq!(answer["failed"][0]["hash"].as_str().expect("a hash").len(), 32);
    assert_eq!(answer["failed"][1], json!({"path": "zz", "value": null, "hash": null}));
    server.stop().await;
}

#[tokio::test]
async fn a_connections_writes_are_committed_in_the_order_sent() {
    const WRITES: usize = 2_000;
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for index in 0..WRITES {
        socket.feed(&format!(r#"{{"id":"{index}","op":"set","path":"x","value":{index}}}"#)).await;
    }
    socket.flush().await;
    let mut revs = vec![0; WRITES];
    for _ in 0..WRITES {
        let answer = socket.answer().await;
        let id: usize = answer["id"].as_str().expect("an id").parse().expect("a number");
        revs[id] = answer["rev"].as_u64().expect("a rev");
    }
    assert!(revs.is_sorted_by(|before, after| before < after));
    assert_eq!(server.db.get("x").expect("a value"), WRITES as u64 - 1);
    server.stop().await;
}

#[tokio::test]
async fn a_read_sees_every_write_answered_before_it() {
    let server = TestServer::start().await;
    let (mut writer, mut reader) = (server.socket().await, server.socket().await);
    for index in 0..200 {
        let set = format!(r#"{{"id":"w","op":"set","path":"x","value":{index}}}"#);
        writer.ask(&set).await;
        reader.send(r#"{"id":"r","op":"get","path":"x"}"#).await;
        assert_eq!(reader.answer().await["data"], index);
    }
    server.stop().await;
}

#[tokio::test]
async fn pipelined_reads_are_all_answered_once_whatever_they_ask() {
    const READS: usize = 5_000;
    let server = TestServer::start().await;
    let long = "x".repeat(100_000);
    server.db.set("long", &long).expect("written");
    server.db.set("short", 1).expect("written");
    let mut socket = server.socket().await;
    let mut seen = vec![false; READS];
    // Read beside writing: the server stops taking requests while its answers are not taken.
    let (mut sink, stream) = futures_util::StreamExt::split(socket.socket);
    let sender = tokio::spawn(async move {
        for index in 0..READS {
            let path = if index.is_multiple_of(50) { "long" } else { "short" };
            let get = format!(r#"{{"id":"{index}","op":"get","path":"{path}"}}"#);
            futures_util::SinkExt::feed(&mut sink, Message::text(get)).await.expect("queued");
        }
        futures_util::SinkExt::flush(&mut sink).await.expect("flushed");
        sink
    });
    let mut stream = stream;
    for _ in 0..READS {
        let message = futures_util::StreamExt::next(&mut stream).await.expect("open").expect("ok");
        let answer: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
        let id: usize = answer["id"].as_str().expect("an id").parse().expect("a number");
        assert!(!std::mem::replace(&mut seen[id], true), "answered twice: {id}");
        let expected =
            if id.is_multiple_of(50) { Value::from(long.as_str()) } else { Value::from(1) };
        assert_eq!(answer["data"], expected);
    }
    socket = crate::harness::Socket {
        socket: stream.reunite(sender.await.expect("sent")).expect("one socket"),
    };
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_retried_write_counts_once() {
    let server = TestServer::start().await;
    let request =
        r#"{"id":"1","op":"set","path":"n","value":{".sv":{"increment":1}},"key":"once"}"#;
    let first = server.socket().await.ask(request).await;
    let second = server.socket().await.ask(request).await;
    assert_eq!(first, second);
    assert_eq!(server.db.get("n").expect("a value"), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_server_introduces_itself_with_its_limits() {
    let options = ServerOptions { frame_bytes_max: 100_000, ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut socket = server.socket().await;
    let hello = socket.ask(r#"{"id":"1","op":"hello"}"#).await;
    let hello: Value = serde_json::from_str(&hello).expect("JSON");
    assert_eq!(hello["data"]["version"], trellis_server::VERSION);
    assert_eq!(hello["data"]["limits"]["frameBytes"], 100_000);
    assert_eq!(hello["data"]["limits"]["connections"], 10_000);
    assert!(hello["data"]["node"].is_string() && hello["data"]["epoch"].is_string());
    let stats = socket.ask(r#"{"id":"2","op":"stats"}"#).await;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!(stats["data"]["server"]["connections"], 1);
    assert_eq!(stats["data"]["tree"]["rev"], 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    for op in ["search", "stream-append", "mq-push", "vfs-stat", "auth"] {
        let request = format!(r#"{{"id":"1","op":"{op}","path":"a"}}"#);
        assert_eq!(socket.refusal(&request).await, (json!("1"), "unsupported".to_owned()), "{op}");
    }
    socket.socket = {
        use futures_util::SinkExt;
        let mut socket = socket.socket;
        socket.send(Message::binary(vec![0, 1, 2])).await.expect("sent");
        socket
    };
    assert_eq!(socket.answer().await["error"], "unsupported");
    server.stop().await;
}

#[tokio::test]
async fn a_clients_close_frame_is_answered_by_one() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    socket.ask(r#"{"id":"1","op":"ping"}"#).await;
    let frame = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    socket.socket.close(Some(frame.clone())).await.expect("sent");
    assert_eq!(socket.close_code().await, 1000);
    // Also while answers become ready that cannot be written any more.
    for _ in 0..50 {
        let mut socket = server.socket().await;
        for _ in 0..20 {
            socket.feed(r#"{"id":"1","op":"set","path":"a","value":1}"#).await;
        }
        socket.socket.close(Some(frame.clone())).await.expect("sent");
        while !matches!(socket.next().await, Message::Close(Some(told)) if told == frame) {}
    }
    server.stop().await;
}
