//! Replication through the server's doors: two nodes, what is forwarded, asked and told.

use std::time::Duration;

use serde_json::Value;
use trellis::{Config, PathConfig, ReplicationConfig, Trellis};
use trellis_server::{Server, ServerOptions};

use crate::harness::{PATIENCE, TestServer};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

async fn node(replication: ReplicationConfig) -> TestServer {
    let config = Config { replication: Some(replication), ..Config::memory() };
    let db = tokio::task::spawn_blocking(|| Trellis::open_config(config));
    let db = db.await.expect("no panic").expect("a node in memory");
    let entrance = db.peer_entrance().expect("an entrance");
    let server = Server::new(db, ServerOptions::default()).with_peers(entrance);
    TestServer::serving_on(server).await
}

/// A hub, and an edge that follows `shared` and forwards what is written there.
async fn pair() -> (TestServer, TestServer) {
    let hub = node(ReplicationConfig { name: Some("hub".to_owned()), ..Default::default() }).await;
    let edge = edge_of(&format!("ws://{}/db", hub.address)).await;
    (hub, edge)
}

async fn edge_of(url: &str) -> TestServer {
    let closed = PathConfig::new("closed", "readonly");
    node(ReplicationConfig {
        name: Some("edge".to_owned()),
        primary_url: Some(url.to_owned()),
        paths: vec![PathConfig::new("shared", "replica"), closed],
        ..Default::default()
    })
    .await
}

/// Asks until the answer is as wanted.
async fn until(server: &TestServer, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let found = server.get(target).await.json();
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{target} in time"))
}

async fn post(server: &TestServer, target: &str) -> (u16, Value) {
    let reply = server.http("POST", target, &[], b"").await;
    (reply.status, reply.json())
}

#[tokio::test]
async fn without_replication_a_server_is_ready_and_says_that_it_has_none() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/ready").await.text(), r#"{"ready":true}"#);
    assert_eq!(server.get("/ready?prefix=a/b").await.status, 200);
    assert_eq!(server.get("/ready?path=a").await.status, 400);
    assert_eq!(server.get("/admin/repl").await.status, 501);
    assert_eq!(post(&server, "/admin/repl/verify").await.0, 501);
    assert_eq!(post(&server, "/admin/repl/resync").await.0, 400);
    assert_eq!(server.http("DELETE", "/admin/repl/slots/x", &[], b"").await.status, 501);
    let foreign = ["Origin: https://evil.example"];
    assert_eq!(server.http("POST", "/admin/repl/verify", &foreign, b"").await.status, 403);
    assert!(!server.get("/metrics").await.text().contains("trellis_repl_"));
    server.stop().await;
}

#[tokio::test]
async fn a_forwarded_write_is_answered_with_the_commit_of_its_owner() {
    let (hub, edge) = pair().await;
    until(&edge, "/ready", |ready| ready["ready"] == true).await;
    let log = hub.db.tree().identity().log_id;
    let written = edge.put("/db/shared/a", "1").await;
    assert_eq!((written.status, written.header("trellis-log")), (200, Some(log.as_str())));
    let answer = written.json();
    assert_eq!((&answer["log"], &answer["applied"]), (&log.as_str().into(), &true.into()));
    assert_eq!(answer["rev"], hub.db.tree().position().rev);
    assert_eq!(edge.get("/db/shared/a").await.text(), "1", "one reads one's own write");
    assert_eq!(hub.get("/db/shared/a").await.text(), "1");
    let mut socket = edge.socket().await;
    let text = socket.ask(r#"{"id":"1","op":"set","path":"shared/b","value":2}"#).await;
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&answer["log"], &answer["applied"]), (&log.as_str().into(), &true.into()));
    let refused = socket.refusal(r#"{"id":"2","op":"set","path":"closed/a","value":1}"#).await;
    assert_eq!(refused.1, "read_only_path");
    let refused = edge.put("/db/closed/a", "1").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "read_only_path"));
    let both = br#"{"ops":[{"op":"set","path":"shared/c","value":1},
        {"op":"set","path":"own","value":1}]}"#;
    let refused = edge.http("POST", "/v1/commit", &[], both).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "mixed_routing"));
    // What is stored for when a client is gone is committed here, so it cannot be another node's.
    let lease = edge.http("POST", "/v1/lease", &[], b"{}").await.json();
    let target =
        format!("/v1/lease/{}/on-disconnect", lease["id"].as_str().expect("the lease's id"));
    for (path, status, code) in [
        ("shared/on", 403, "write_rejected"),
        ("closed/on", 403, "read_only_path"),
        ("on", 200, ""),
    ] {
        let body = format!(r#"{{"do":"set","path":"{path}","value":false}}"#);
        let stored = edge.http("POST", &target, &[], body.as_bytes()).await;
        assert_eq!(stored.status, status, "{path}");
        assert!(code.is_empty() || stored.code() == code, "{path}");
    }
    let hello: Value =
        serde_json::from_str(&socket.ask(r#"{"id":"3","op":"hello"}"#).await).expect("JSON");
    assert_eq!(hello["data"]["replication"]["name"], "edge");
    let stats: Value =
        serde_json::from_str(&socket.ask(r#"{"id":"4","op":"stats"}"#).await).expect("JSON");
    assert_eq!(stats["data"]["replication"]["linksUp"], 1, "{stats}");
    drop(socket);
    edge.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_away_is_told_by_code_and_by_readiness() {
    let edge = edge_of("ws://127.0.0.1:9/db").await;
    let refused = edge.put("/db/shared/a", "1").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "upstream_unavailable"));
    assert!(refused.header("retry-after").is_some());
    let ready = edge.get("/ready?prefix=shared").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
    assert_eq!(ready.json()["prefixes"][0]["path"], "shared");
    assert_eq!(edge.get("/ready?prefix=own").await.status, 200, "what is this node's own");
    assert_eq!(edge.put("/db/own", "1").await.status, 200);
    assert_eq!(post(&edge, "/admin/repl/verify?link=upstream").await.0, 503);
    assert_eq!(post(&edge, "/admin/repl/verify?link=elsewhere").await.0, 404);
    edge.stop().await;
}

/// The tables of docs/operations.md name what there is, and all that there is of replication.
fn assert_documented(metrics: &str) {
    let documentation = include_str!("../../../docs/operations.md");
    let (_, section) = documentation.split_once("## What to watch").expect("the section");
    let (of_all, of_nodes) = section.split_once("### A node that replicates").expect("the section");
    let names = |text: &str, prefix: &str| {
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let names = cells.flat_map(|cell| cell.split('`').step_by(2));
        let plain = names.filter_map(|name| name.split('{').next().filter(|name| !name.is_empty()));
        plain.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>()
    };
    let (of_nodes, _) = of_nodes.split_once("\n\nA follower writes").expect("the end of the table");
    let of_nodes = names(of_nodes, "trellis_repl_");
    let there: std::collections::BTreeSet<_> =
        metrics.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let of_all = of_all.split_once("trellis_`").expect("the table").1;
    for name in of_nodes.iter().chain(&names(of_all, "trellis_")) {
        assert!(there.contains(name.as_str()), "{name} is not in {metrics}");
    }
    for name in there.iter().filter(|name| name.starts_with("trellis_repl_")) {
        assert!(of_nodes.iter().any(|known| known == name), "{name} is not documented");
    }
}

#[tokio::test]
async fn an_operator_sees_verifies_fills_anew_and_forgets() {
    let (hub, edge) = pair().await;
    hub.put("/db/shared", r#"{"a":1,"b":2}"#).await;
    let caught_up = |status: &Value| {
        let pull = &status["links"][0]["pull"];
        pull["state"] == "tail" && pull["lagRecords"] == 0 && pull["position"] != 0
    };
    let status = until(&edge, "/admin/repl", caught_up).await;
    let link = &status["links"][0];
    assert_eq!((&link["id"], &link["state"]), (&"upstream".into(), &"up".into()), "{status}");
    let modes: Vec<_> = status["zones"].as_array().expect("zones").iter().collect();
    assert!(modes.iter().any(|zone| zone["path"] == "shared" && zone["mode"] == "replica"));

    for (verb, answered) in [("verify", 1), ("repair", 2)] {
        assert_eq!(post(&edge, &format!("/admin/repl/{verb}?link=upstream")).await.0, 200);
        let done = |status: &Value| status["links"][0]["pull"]["answered"] == answered;
        let compared = until(&edge, "/admin/repl", done).await;
        let pull = &compared["links"][0]["pull"];
        assert_eq!((&pull["differing"], &pull["diverged"]), (&0.into(), &0.into()), "{pull}");
    }

    let metrics = edge.get("/metrics").await;
    for line in [
        "trellis_repl_links_up{link=\"upstream\"} 1",
        "trellis_repl_feeds{link=\"upstream\",state=\"tail\"} 1",
        "trellis_repl_divergence_total{link=\"upstream\"} 0",
        "trellis_repl_forwarded_total{link=\"upstream\",result=\"committed\"} 0",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    assert_eq!(metrics.text().matches("# EOF").count(), 1);

    let hub_status = until(&hub, "/admin/repl", |status| status["slots"][0].is_object()).await;
    let consumer = hub_status["slots"][0]["consumer"].as_str().expect("a slot").to_owned();
    let level = |status: &Value| status["slots"][0]["lagSeconds"] == 0.0;
    until(&hub, "/admin/repl", level).await;
    let lag = format!("trellis_repl_slot_lag_seconds{{slot=\"{consumer}\"}} 0.0");
    let of_hub = hub.get("/metrics").await;
    assert!(of_hub.text().contains(&lag));
    assert_documented(&[of_hub.text(), metrics.text()].concat());
    assert_eq!(post(&edge, "/admin/repl/resync?link=upstream").await.0, 200);
    assert_eq!(post(&edge, "/admin/repl/resync?link=elsewhere").await.0, 404);
    until(&edge, "/admin/repl", caught_up).await;
    let target = format!("/admin/repl/slots/{consumer}");
    assert_eq!(hub.http("DELETE", "/admin/repl/slots/nobody", &[], b"").await.status, 404);
    edge.stop().await;
    assert_eq!(hub.http("DELETE", &target, &[], b"").await.json()["dropped"], consumer);
    assert_eq!(hub.http("DELETE", &target, &[], b"").await.status, 404);
    hub.stop().await;
}
