//! Subscriptions over WebSocket: what is acknowledged, what follows, and what is left when all go.

use serde_json::{Value, json};
use trellis::{Config, ServerConfig, Trellis};
use trellis_server::ServerOptions;

use crate::harness::{Socket, TestServer};

/// A server whose connections have at most so many subscriptions.
async fn server_with(change: impl FnOnce(&mut ServerConfig)) -> TestServer {
    let mut config = Config::memory();
    change(&mut config.server);
    let options = ServerOptions::from(&config.server);
    let db = Trellis::open_config(config).expect("a database in memory");
    TestServer::serving(db, options).await
}

async fn epoch(socket: &mut Socket) -> String {
    let hello = socket.ask(r#"{"id":"hello","op":"hello"}"#).await;
    let hello: Value = serde_json::from_str(&hello).expect("JSON");
    hello["data"]["epoch"].as_str().expect("an epoch").to_owned()
}

#[tokio::test]
async fn an_acknowledgement_is_the_snapshot_and_a_frame_each_commit_follows() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let mut writer = server.socket().await;
    let epoch = epoch(&mut socket).await;
    writer.ask(r#"{"id":"1","op":"set","path":"users/u1","value":{"name":"Alice"}}"#).await;
    assert_eq!(
        socket.ask(r#"{"id":"4","op":"sub","path":"users","event":"child"}"#).await,
        format!(
            r#"{{"id":"4","ok":true,"data":{{"u1":{{"name":"Alice"}}}},"rev":1,"epoch":"{epoch}"}}"#
        )
    );
    writer.ask(r#"{"id":"2","op":"update","updates":{"users/u2":2,"users/u1/age":3}}"#).await;
    assert_eq!(
        socket.text().await,
        concat!(
            r#"{"sub":"4","rev":2,"events":[{"type":"added","key":"u2","value":2},"#,
            r#"{"type":"changed","key":"u1","value":{"age":3,"name":"Alice"}}]}"#
        )
    );
    assert_eq!(
        socket.ask(r#"{"id":"5","op":"sub","path":"users/u2"}"#).await,
        format!(r#"{{"id":"5","ok":true,"data":2,"rev":2,"epoch":"{epoch}"}}"#)
    );
    writer.ask(r#"{"id":"3","op":"delete","path":"users/u2"}"#).await;
    let mut frames = [socket.text().await, socket.text().await];
    frames.sort();
    assert_eq!(
        frames,
        [
            r#"{"sub":"4","rev":3,"events":[{"type":"removed","key":"u2"}]}"#,
            r#"{"sub":"5","rev":3,"events":[{"type":"value","value":null}]}"#,
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn the_key_of_a_write_is_told_to_its_writer_only() {
    let server = TestServer::start().await;
    let (mut writer, mut other) = (server.socket().await, server.socket().await);
    for socket in [&mut writer, &mut other] {
        socket.ask(r#"{"id":"1","op":"sub","path":"a"}"#).await;
    }
    writer.send(r#"{"id":"2","op":"set","path":"a","value":1,"key":"mine"}"#).await;
    let (first, second) = (writer.answer().await, writer.answer().await);
    let frame = if first.get("sub").is_some() { first } else { second };
    assert_eq!(frame["key"], "mine");
    assert_eq!(other.answer().await.get("key"), None);
    server.stop().await;
}

#[tokio::test]
async fn nothing_written_right_after_the_acknowledgement_is_missed() {
    const ROUNDS: u64 = 300;
    let server = TestServer::start().await;
    let (mut socket, mut writer) = (server.socket().await, server.socket().await);
    for round in 0..ROUNDS {
        // Pipelined with a write that is under way, so that it lands before, at or after it.
        writer.send(&format!(r#"{{"id":"w","op":"set","path":"n","value":{round}}}"#)).await;
        let answer = socket.ask(&format!(r#"{{"id":"s{round}","op":"sub","path":"n"}}"#)).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        writer.answer().await;
        let mut value = answer["data"].clone();
        if value != round {
            let frame = socket.answer().await;
            assert_eq!(frame["sub"], format!("s{round}"), "{answer}");
            assert!(frame["rev"].as_u64() > answer["rev"].as_u64());
            value = frame["events"][0]["value"].clone();
        }
        assert_eq!(value, round);
        let unsub = format!(r#"{{"id":"u","op":"unsub","sub":"s{round}"}}"#);
        assert_eq!(socket.ask(&unsub).await, r#"{"id":"u","ok":true,"data":null}"#);
    }
    server.stop().await;
}

#[tokio::test]
async fn many_subscriptions_begin_at_one_rev() {
    let server = TestServer::start().await;
    server.db.set("a", 1).expect("written");
    server.db.set("b", 2).expect("written");
    let mut socket = server.socket().await;
    let answer = socket
        .ask(
            r#"{"id":"1","op":"batch-sub","subscriptions":[{"id":"x","path":"a"},
                {"id":"y","path":"b","mode":"notify"},{"id":"z","path":"b","event":"what"},
                {"id":"x","path":"b"},{"id":"w","path":"a//b"}]}"#,
        )
        .await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let data = answer["data"].as_array().expect("answers");
    assert_eq!(
        (&data[0]["data"], &data[0]["rev"], &data[0]["sub"]),
        (&json!(1), &json!(2), &json!("x"))
    );
    assert_eq!((&data[1]["data"], &data[1]["rev"]), (&Value::Null, &json!(2)));
    for (place, name) in [(2, "z"), (3, "x"), (4, "w")] {
        assert_eq!((&data[place]["ok"], &data[place]["sub"]), (&json!(false), &json!(name)));
        assert_eq!(data[place]["error"], "invalid");
    }
    server.db.update([("a", 5), ("b", 6)]).expect("written");
    let mut frames = [socket.text().await, socket.text().await];
    frames.sort();
    assert_eq!(frames[0], r#"{"sub":"x","rev":3,"events":[{"type":"value","value":5}]}"#);
    assert_eq!(frames[1], r#"{"sub":"y","rev":3,"events":[{"type":"value"}]}"#);
    server.stop().await;
}

#[tokio::test]
async fn it_goes_on_where_it_was_left_or_says_that_it_cannot() {
    let server = TestServer::start().await;
    let mut socket = server.socket().await;
    let epoch = epoch(&mut socket).await;
    for value in 1..=4 {
        server.db.set("a", value).expect("written");
    }
    let resume = format!(r#"{{"id":"1","op":"sub","path":"a","since":2,"epoch":"{epoch}"}}"#);
    let answer: Value = serde_json::from_str(&socket.ask(&resume).await).expect("JSON");
    assert_eq!((&answer["data"], &answer["resumed"]), (&Value::Null, &json!(true)));
    for rev in [3, 4] {
        let frame = socket.answer().await;
        assert_eq!((&frame["rev"], &frame["events"][0]["value"]), (&json!(rev), &json!(rev)));
    }
    for (id, since, epoch) in [
        ("future", 100, epoch.as_str()),
        ("elsewhere", 2, "0123456789abcdef.1"),
        ("nonsense", 2, "\\u0000"),
    ] {
        let resume =
            format!(r#"{{"id":"{id}","op":"sub","path":"a","since":{since},"epoch":"{epoch}"}}"#);
        let answer: Value = serde_json::from_str(&socket.ask(&resume).await).expect("JSON");
        let found = (&answer["data"], &answer["reset"], &answer["rev"]);
        assert_eq!(found, (&json!(4), &json!(true), &json!(4)), "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn bad_input_is_a_typed_refusal_that_leaves_nothing_behind() {
    let server = server_with(|server| server.subscriptions_max = 500).await;
    let mut socket = server.socket().await;
    let mut refusal = async |request: &str| socket.refusal(request).await.1;
    assert_eq!(refusal(r#"{"id":"1","op":"unsub","sub":"nobody"}"#).await, "invalid");
    assert_eq!(refusal(r#"{"id":"1","op":"sub","path":"a/\u0000"}"#).await, "invalid");
    assert_eq!(refusal(r#"{"id":"1","op":"sub","path":"a","event":"x"}"#).await, "invalid");
    assert_eq!(refusal(r#"{"id":"1","op":"sub","path":"a","since":1}"#).await, "invalid");
    assert_eq!(refusal(r#"{"id":"1","op":"sub","path":"a","where":[]}"#).await, "invalid");
    let everywhere = vec!["*"; 64].join("/");
    let wild = format!(r#"{{"id":"1","op":"sub","path":"{everywhere}"}}"#);
    assert_eq!(refusal(&wild).await, "too_large");
    assert_eq!(server.db.live_stats().subscriptions, 0);
    for index in 0..500 {
        let sub = format!(r#"{{"id":"{index}","op":"sub","path":"k{index}"}}"#);
        assert!(socket.ask(&sub).await.contains("\"ok\":true"));
    }
    let again = socket.refusal(r#"{"id":"7","op":"sub","path":"a"}"#).await;
    assert_eq!(again, (json!("7"), "invalid".to_owned()));
    socket.send(r#"{"id":"500","op":"sub","path":"a"}"#).await;
    let refused = socket.answer().await;
    assert_eq!(refused["error"], "too_large");
    assert!(refused["message"].as_str().expect("a message").contains("500"), "{refused}");
    assert_eq!(server.db.live_stats().subscriptions, 500);
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_a_frame_is_refused_with_advice() {
    let server = server_with(|server| server.frame_bytes_max = 10_000).await;
    for index in 0..200 {
        server.db.set(format!("big/k{index}"), "x".repeat(100)).expect("written");
    }
    let mut socket = server.socket().await;
    socket.send(r#"{"id":"1","op":"sub","path":""}"#).await;
    let refused = socket.answer().await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("too_large"), &json!("1")));
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("notify"), "{message}");
    assert_eq!(server.db.live_stats().subscriptions, 0);
    let told = socket.ask(r#"{"id":"1","op":"sub","path":"","mode":"notify"}"#).await;
    assert!(told.contains("\"ok\":true,\"data\":null"), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn everything_counted_returns_to_zero_when_the_sockets_go() {
    let server = TestServer::start().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = server.socket().await;
        for index in 0..10 {
            let sub = format!(r#"{{"id":"{index}","op":"sub","path":"a/{index}"}}"#);
            socket.ask(&sub).await;
        }
        sockets.push(socket);
    }
    let stats = server.db.live_stats();
    assert_eq!((stats.subscriptions, stats.groups, stats.inboxes), (200, 10, 20));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("trellis_subscriptions 200"), "{}", metrics.text());
    // Half of them say goodbye, half are simply gone.
    for (index, mut socket) in sockets.into_iter().enumerate() {
        if index % 2 == 0 {
            socket.socket.close(None).await.expect("closed");
        }
    }
    loop {
        let stats = server.db.live_stats();
        if (stats.subscriptions, stats.groups, stats.inboxes) == (0, 0, 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_costs_bounded_memory_and_others_nothing() {
    let server = server_with(|server| server.inbox_bytes_max = 100_000).await;
    let (mut idle, mut reader) = (server.socket().await, server.socket().await);
    idle.ask(r#"{"id":"1","op":"sub","path":"log","event":"child"}"#).await;
    reader.ask(r#"{"id":"1","op":"sub","path":"n"}"#).await;
    let text = "x".repeat(20_000);
    let mut last = 0;
    // Far more than fits the inbox and the socket's buffers.
    for index in 0..1_000 {
        let child = (format!("log/k{}", index % 5), json!(format!("{index}{text}")));
        let both = [child, ("n".to_owned(), json!(index))];
        last = server.db.update(both).expect("written");
        assert!(server.db.live_stats().waiting_bytes <= 200_000);
    }
    loop {
        let frame = reader.answer().await;
        if frame["rev"] == last {
            assert_eq!(frame["events"][0]["value"], 999);
            break;
        }
    }
    // Once it reads, it is told that it missed something.
    let mut seen = 0;
    loop {
        let frame = idle.answer().await;
        let rev = frame["rev"].as_u64().expect("a rev");
        assert!(rev > seen, "out of order");
        seen = rev;
        if frame["reset"] == true || frame.get("cancel").is_some() || rev == last {
            assert!(frame["reset"] == true, "no reset: the test's bound is too large");
            break;
        }
    }
    server.stop().await;
}
