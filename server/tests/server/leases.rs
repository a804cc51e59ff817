//! Leases over WebSocket and REST, on a clock that only a test moves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use trellis::{Config, Trellis};
use trellis_runtime::{Runtime, RuntimeOptions, SimulatedClock};
use trellis_server::ServerOptions;

use crate::harness::{PATIENCE, Socket, TestServer};

const NOW_MS: u64 = 1_700_000_000_000;

struct Stand {
    server: TestServer,
    clock: Arc<SimulatedClock>,
}

impl Stand {
    async fn start() -> Self {
        Self::open(Config::memory(), Arc::new(SimulatedClock::at(NOW_MS))).await
    }

    async fn open(config: Config, clock: Arc<SimulatedClock>) -> Self {
        let own = Arc::clone(&clock) as _;
        let runtime = Runtime::new(RuntimeOptions { clock: own, ..RuntimeOptions::default() });
        let db = Trellis::open_with(config, runtime).expect("a database");
        let server = TestServer::serving(db, ServerOptions::default()).await;
        Self { server, clock }
    }

    fn get(&self, path: &str) -> Value {
        self.server.db.get(path).expect("read")
    }

    /// Lets presence look at everything: it answers at the end of a round.
    async fn settle(&self) {
        for _ in 0..2 {
            let reply = self.server.http("PUT", "/v1/lease/nobody", &[], b"").await;
            assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
        }
    }

    /// Waits for what happens in the background.
    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let waiting = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    async fn is_gone(&self) {
        let gone = || {
            let stats = self.server.db.presence_stats();
            (stats.leases, stats.held, stats.writes, stats.bytes) == (0, 0, 0, 0)
        };
        self.until("no lease is left", gone).await;
        assert_eq!(self.get("_leases"), Value::Null);
    }
}

const COUNT: &str =
    r#"{"id":"1","op":"on-disconnect","do":"set","path":"n","value":{".sv":{"increment":1}}}"#;

async fn store(socket: &mut Socket) {
    assert_eq!(socket.ask(COUNT).await, r#"{"id":"1","ok":true,"data":null,"rev":1}"#);
}

async fn lease_id(socket: &mut Socket) -> String {
    socket.send(r#"{"id":"l","op":"lease"}"#).await;
    let answer = socket.answer().await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["data"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_close_frame_runs_what_is_stored_at_once() {
    let stand = Stand::start().await;
    let mut socket = stand.server.socket().await;
    store(&mut socket).await;
    stand.settle().await;
    assert_eq!(stand.get("n"), Value::Null);
    socket.socket.close(None).await.expect("closed");
    stand.is_gone().await;
    assert_eq!(stand.get("n"), 1);
    stand.clock.advance_ms(3_600_000);
    stand.settle().await;
    assert_eq!(stand.get("n"), 1, "once");
    stand.server.stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_silence() {
    let stand = Stand::start().await;
    let mut socket = stand.server.socket().await;
    store(&mut socket).await;
    for _ in 0..5 {
        stand.clock.advance_ms(40_000);
        assert_eq!(
            socket.ask(r#"{"id":"2","op":"ping"}"#).await,
            r#"{"id":"2","ok":true,"data":null}"#
        );
    }
    // No close frame: the connection is just gone.
    drop(socket);
    stand.until("the server sees it", || stand.server.db.presence_stats().held == 0).await;
    stand.clock.advance_ms(44_999);
    stand.settle().await;
    assert_eq!(stand.get("n"), Value::Null, "any frame renews, and the rest is for a reconnect");
    stand.clock.advance_ms(1);
    stand.is_gone().await;
    assert_eq!(stand.get("n"), 1);
    stand.server.stop().await;
}

#[tokio::test]
async fn whoever_comes_back_takes_the_lease_over() {
    let stand = Stand::start().await;
    let mut first = stand.server.socket().await;
    store(&mut first).await;
    let id = lease_id(&mut first).await;
    let mut second = stand.server.socket().await;
    stand.clock.advance_ms(30_000);
    let take = format!(r#"{{"id":"t","op":"lease","lease":"{id}","ttl":60}}"#);
    let until = NOW_MS + 90_000;
    assert_eq!(
        second.ask(&take).await,
        format!(r#"{{"id":"t","ok":true,"data":{{"id":"{id}","ttl":60,"expiresAt":{until}}}}}"#)
    );
    // The first connection holds nothing any more, whatever it does.
    assert_eq!(first.refusal(COUNT).await.1, "not_found");
    first.socket.close(None).await.expect("closed");
    stand.settle().await;
    assert_eq!(stand.get("n"), Value::Null);
    // A write for a lease that is named goes to no other.
    let named =
        format!(r#"{{"id":"3","op":"on-disconnect","lease":"{id}","do":"delete","path":"gone"}}"#);
    assert!(second.ask(&named).await.contains("\"ok\":true"));
    let mut third = stand.server.socket().await;
    assert_eq!(third.refusal(&named).await.1, "not_found");
    let other = r#"{"id":"4","op":"lease","lease":"0123456789abcdef0123456789abcdef"}"#;
    assert_eq!(third.refusal(other).await.1, "not_found");
    assert_eq!(third.refusal(COUNT).await.1, "not_found", "it holds none until it asks for one");
    assert_ne!(lease_id(&mut third).await, id);
    second.socket.close(None).await.expect("closed");
    third.socket.close(None).await.expect("closed");
    stand.is_gone().await;
    assert_eq!(stand.get("n"), 1);
    stand.server.stop().await;
}

#[tokio::test]
async fn a_lease_over_rest_is_renewed_written_to_and_ended() {
    let stand = Stand::start().await;
    let server = &stand.server;
    let made = server.http("POST", "/v1/lease", &[], br#"{"ttl":30}"#).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made, json!({"id": id, "ttl": 30, "expiresAt": NOW_MS + 30_000}));
    let on_disconnect = format!("/v1/lease/{id}/on-disconnect");
    for (body, writes) in [
        (r#"{"do":"set","path":"s","value":{"at":{".sv":"timestamp"}}}"#, 1),
        (r#"{"do":"update","path":"u","updates":{"a/b":1,"c":null}}"#, 3),
        (r#"{"do":"update","updates":{"v":1}}"#, 4),
        (r#"{"do":"delete","path":"d"}"#, 5),
        (r#"{"do":"cancel","path":"v"}"#, 4),
    ] {
        let reply = server.http("POST", &on_disconnect, &[], body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["writes"], writes);
        assert_eq!(
            reply.header("trellis-rev").map(str::to_owned),
            Some(reply.json()["rev"].to_string())
        );
    }
    for _ in 0..4 {
        stand.clock.advance_ms(29_000);
        let renewed = server.http("PUT", &format!("/v1/lease/{id}"), &[], b"").await;
        assert_eq!(renewed.status, 200);
    }
    server.put("/db/d", "1").await;
    let ended = server.http("DELETE", &format!("/v1/lease/{id}"), &[], b"").await;
    assert_eq!((ended.status, &ended.json()["writes"]), (200, &json!(4)));
    let whole = json!({"s": {"at": NOW_MS + 116_000}, "u": {"a": {"b": 1}}});
    assert_eq!(stand.get(""), whole);
    for (method, target) in [
        ("PUT", format!("/v1/lease/{id}")),
        ("DELETE", format!("/v1/lease/{id}")),
        ("PUT", "/v1/lease/%FF".to_owned()),
    ] {
        let status = server.http(method, &target, &[], b"").await.status;
        assert!(matches!(status, 404 | 400), "{method} {target}: {status}");
    }
    stand.is_gone().await;
    stand.server.stop().await;
}

#[tokio::test]
async fn a_stop_of_the_server_is_not_the_end_of_a_lease() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(SimulatedClock::at(NOW_MS));
    let open = || Stand::open(Config::in_directory(directory.path()), Arc::clone(&clock));
    let mut stand = open().await;
    let mut socket = stand.server.socket().await;
    store(&mut socket).await;
    stand.server.begin_stop();
    assert_eq!(socket.close_code().await, 1001);
    // The client answers with a close frame of its own.
    while socket.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    drop(socket);
    stand.server.stop().await;
    clock.advance_ms(5_000);
    let stand = open().await;
    stand.settle().await;
    assert_eq!(stand.get("n"), Value::Null);
    clock.advance_ms(39_999);
    stand.settle().await;
    assert_eq!(stand.get("n"), Value::Null, "40 s of the 45 were left");
    clock.advance_ms(1);
    stand.is_gone().await;
    assert_eq!(stand.get("n"), 1);
    stand.server.stop().await;
}

#[tokio::test]
async fn a_connection_without_stored_writes_costs_no_commit() {
    let stand = Stand::start().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = stand.server.socket().await;
        lease_id(&mut socket).await;
        sockets.push(socket);
    }
    let stats = sockets[0].ask(r#"{"id":"s","op":"stats"}"#).await;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!(stats["data"]["presence"]["held"], 20);
    let metrics = stand.server.get("/metrics").await;
    assert!(metrics.text().contains("trellis_leases_held 20"));
    for (number, mut socket) in sockets.into_iter().enumerate() {
        match number % 2 {
            0 => drop(socket),
            _ => socket.socket.close(None).await.expect("closed"),
        }
    }
    stand.is_gone().await;
    assert_eq!(stand.server.db.stats().expect("stats").rev, 0);
    stand.server.stop().await;
}

#[tokio::test]
async fn what_can_never_be_stored_is_refused() {
    let stand = Stand::start().await;
    let mut socket = stand.server.socket().await;
    let large = "x".repeat(70_000);
    for (fields, code) in [
        (r#""op":"lease","ttl":9"#.to_owned(), "invalid"),
        (r#""op":"lease","ttl":601"#.to_owned(), "invalid"),
        (r#""op":"lease","ttl":-1"#.to_owned(), "invalid"),
        (r#""op":"lease","ttl":1e300"#.to_owned(), "invalid"),
        (r#""op":"lease","path":"a""#.to_owned(), "invalid"),
        (r#""op":"lease","lease":"""#.to_owned(), "not_found"),
        (r#""op":"on-disconnect","path":"a","value":1"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"push","path":"a","value":1"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"set","path":"a""#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"set","value":1"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"set","path":"","value":1"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"set","path":"a","value":1,"ttl":9"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"delete","path":"a","value":1"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"update","updates":{}"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"update","updates":{"a":1,"a/b":2}"#.to_owned(), "invalid"),
        (r#""op":"on-disconnect","do":"set","path":"_leases/a","value":1"#.to_owned(), "denied"),
        (r#""op":"on-disconnect","do":"delete","path":"_auth""#.to_owned(), "denied"),
        (format!(r#""op":"on-disconnect","do":"set","path":"a","value":"{large}""#), "too_large"),
    ] {
        let (id, found) = socket.refusal(&format!(r#"{{"id":"7",{fields}}}"#)).await;
        let shown: String = fields.chars().take(80).collect();
        assert_eq!((id, found.as_str()), (json!("7"), code), "{shown}");
    }
    for body in ["{", "[]", r#"{"ttl":"1"}"#, r#"{"ttl":5}"#, r#"{"other":1}"#] {
        let reply = stand.server.http("POST", "/v1/lease", &[], body.as_bytes()).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid"), "{body}");
    }
    let reply = stand.server.http("GET", "/v1/lease", &[], b"").await;
    assert_eq!(reply.status, 405);
    drop(socket);
    stand.is_gone().await;
    assert_eq!(stand.server.db.stats().expect("stats").rev, 0);
    stand.server.stop().await;
}

#[tokio::test]
async fn the_holder_of_a_short_lease_is_pinged_in_time() {
    let hour = Duration::from_secs(3_600);
    let options =
        ServerOptions { ping_interval: hour, silence_max: hour, ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let mut socket = server.socket().await;
    socket.ask(r#"{"id":"1","op":"lease","ttl":10}"#).await;
    // Without a lease of ten seconds there would be no ping for an hour.
    let ping = timeout(PATIENCE, socket.socket.next()).await.expect("a ping in time");
    assert!(matches!(ping, Some(Ok(Message::Ping(_)))), "{ping:?}");
    socket.socket.flush().await.expect("its answer");
    server.stop().await;
}
