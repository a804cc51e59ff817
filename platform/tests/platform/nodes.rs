//! Databases that are nodes by their configuration, in one process: what a caller of either handle
//! sees of the five modes, of a restart, and of a mistake.

use std::sync::Arc;

use serde_json::{Value, json};
use trellis::{
    Commit, Config, ErrorKind, Input, LiveEvent, Operation, Path, PathConfig, Pattern, PeerConfig,
    ReplicationConfig, Runtime, Secret, SubscribeRequest, Trellis,
};
use trellis_engine_traits::LinkToken;
use trellis_repl_loopback::{LoopbackHub, LoopbackPass};

use crate::assert_refused;

const TOKEN: &str = "token-of-the-edges";

fn node(net: &LoopbackHub, name: &str, config: Config) -> Trellis {
    let token = LinkToken::new(TOKEN);
    let pass = LoopbackPass { name: None, role: Some("edge".to_owned()), token };
    let links = net.endpoint(name, vec![pass]).expect("an endpoint");
    Trellis::open_with_replicator(config, Runtime::system(), Arc::new(links)).expect("a node")
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn hub(net: &LoopbackHub) -> Trellis {
    let peers = vec![PeerConfig {
        role: Some("edge".to_owned()),
        pull: texts(&["accounts", "config", "feeds"]),
        push: texts(&["config", "files", "telemetry"]),
        ..PeerConfig::default()
    }];
    let replication = ReplicationConfig { peers: Some(peers), ..ReplicationConfig::default() };
    node(net, "hub", Config { replication: Some(replication), ..Config::memory() })
}

fn edge_config(directory: &std::path::Path) -> Config {
    let replication = ReplicationConfig {
        primary_url: Some("loopback:hub".to_owned()),
        token: Some(Secret::new(TOKEN)),
        paths: vec![
            PathConfig::new("files", "primary"),
            PathConfig::new("accounts", "replica"),
            "config".into(),
            PathConfig::new("feeds", "readonly"),
            PathConfig::new("telemetry", "writeonly"),
        ],
        exclude_prefixes: texts(&["files/drafts"]),
        ..ReplicationConfig::default()
    };
    Config { replication: Some(replication), ..Config::in_directory(directory) }
}

/// Waits until a path has a value; a run that never gets there is ended from outside.
fn until(db: &Trellis, path: &str, expected: &Value) {
    let pattern = Pattern::parse(path).expect("a path");
    let events = db.subscribe(SubscribeRequest::value(pattern)).expect("a subscription");
    for event in events {
        let found = match event.expect("an event") {
            LiveEvent::Snapshot { data, .. } | LiveEvent::Reset { data, .. } => data,
            LiveEvent::Changes { mut changes, .. } => {
                changes.pop().and_then(|change| change.value).unwrap_or_default()
            }
        };
        if found == *expected {
            return;
        }
    }
    panic!("the database was closed before {path} was {expected}");
}

#[test]
fn each_of_the_five_modes_does_what_it_says_through_the_handles_of_two_nodes() {
    let net = LoopbackHub::new();
    let hub = hub(&net);
    hub.set("accounts/a", 1).expect("the hub's own");
    hub.set("feeds/f", "news").expect("the hub's own");
    hub.set("config/colour", "red").expect("the hub's own");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let edge = node(&net, "edge", edge_config(directory.path()));
    until(&edge, "accounts/a", &json!(1));
    until(&edge, "feeds/f", &json!("news"));
    until(&edge, "config/colour", &json!("red"));

    edge.set("files/drafts/d", 1).expect("excluded");
    edge.set("files/f", "text").expect("primary");
    edge.set("telemetry/t", 36.6).expect("writeonly");
    edge.set("config/colour", "blue").expect("sync");
    until(&hub, "files/f", &json!("text"));
    until(&hub, "telemetry/t", &json!(36.6));
    until(&hub, "config/colour", &json!("blue"));
    assert!(!hub.exists("files/drafts").expect("a read"), "what is excluded stays");

    hub.set("files/g", 1).expect("pushed there, and written too");
    hub.set("telemetry/u", 1).expect("pushed there, and written too");
    hub.set("config/size", 9).expect("sync");
    until(&edge, "config/size", &json!(9));
    assert!(!edge.exists("files/g").expect("a read"), "the edge is right about its files");
    assert!(!edge.exists("telemetry/u").expect("a read"), "nothing comes back");

    let refused = assert_refused(edge.set("feeds/f", 2), ErrorKind::Denied, &[]);
    assert!(format!("{refused:?}{refused}").contains("read_only_path"), "{refused}");
    assert_eq!(edge.get("feeds/f").expect("a read"), "news");
    edge.close().expect("it closes");
    hub.close().expect("it closes");
}

#[test]
fn a_forwarded_write_is_the_hubs_commit_and_is_read_at_the_edge_at_once() {
    let net = LoopbackHub::new();
    let hub = hub(&net);
    hub.set("accounts/a", 1).expect("the hub's own");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let edge = node(&net, "edge", edge_config(directory.path()));
    until(&edge, "accounts/a", &json!(1));
    let path = Path::parse("accounts/b").expect("a path");
    let value = Input::from_json(json!({"name": "Bob"})).expect("JSON");
    let commit = Commit::new(vec![Operation::Set { path, value, expiry: None }]);
    let committed = edge.commit(commit).expect("the hub takes it");
    let upstream = committed.upstream.expect("it was made elsewhere");
    assert_eq!(upstream.log_id, hub.tree().identity().log_id);
    assert_eq!(hub.get("accounts/b/name").expect("a read"), "Bob");
    if upstream.applied {
        assert_eq!(edge.get("accounts/b/name").expect("a read"), "Bob");
    }
    until(&edge, "accounts/b/name", &json!("Bob"));
    hub.close().expect("it closes");
    let unavailable = edge.set("accounts/c", 1);
    let refused = assert_refused(unavailable, ErrorKind::Unavailable, &[]);
    assert!(format!("{refused:?}{refused}").contains("upstream_unavailable"), "{refused}");
    assert_eq!(edge.get("accounts/b/name").expect("reads go on"), "Bob");
    edge.close().expect("it closes");
}

#[test]
fn a_node_that_is_opened_again_goes_on_where_it_was() {
    let net = LoopbackHub::new();
    let hub = hub(&net);
    hub.set("config/n", 1).expect("sync");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 2..5 {
        let edge = node(&net, "edge", edge_config(directory.path()));
        until(&edge, "config/n", &json!(round - 1));
        edge.set("telemetry/round", round).expect("writeonly");
        until(&hub, "telemetry/round", &json!(round));
        edge.close().expect("it closes");
        assert!(matches!(edge.get("config"), Err(error) if error.kind() == ErrorKind::Closed));
        // Out of service its data can be worked on; that is replicated afterwards.
        let alone = Trellis::open_alone(edge_config(directory.path())).expect("it opens");
        alone.set("telemetry/alone", round).expect("its own");
        alone.close().expect("it closes");
        hub.set("config/n", round).expect("sync");
    }
    let edge = node(&net, "edge", edge_config(directory.path()));
    until(&hub, "telemetry/alone", &json!(4));
    until(&edge, "config/n", &json!(4));
    let status = edge.replication().expect("a node").status().expect("a status");
    assert!(status.zones.iter().any(|zone| zone.mode == "writeonly"));
    assert!(!format!("{status:?}").contains(TOKEN));
    assert!(edge.peer_entrance().is_none(), "who comes in is the replicator's matter");
}

#[test]
fn a_node_that_cannot_start_leaves_its_directory_free() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut config = edge_config(directory.path());
    let replication = config.replication.as_mut().expect("replication");
    replication.primary_url = Some("ws://hub:4400/db".to_owned());
    let links = || Arc::new(LoopbackHub::new().endpoint("edge", Vec::new()).expect("an endpoint"));
    let refused = Trellis::open_with_replicator(config, Runtime::system(), links());
    let words = ["replication.primaryUrl", "loopback:hub"];
    assert_refused(refused, ErrorKind::InvalidInput, &words);
    let plain = Config::in_directory(directory.path());
    let db = Trellis::open_with_replicator(plain, Runtime::system(), links()).expect("it opens");
    assert!(db.replication().is_none(), "no configuration, no node");
}
