//! What is stored for when the client is gone runs once it is, and not before.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::time::timeout;
use trellis_client::ClientOptions;

use crate::harness::{Proxy, TestServer, connect, options};

/// Longer than anything here takes on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

fn count() -> Value {
    json!({".sv": {"increment": 1}})
}

#[tokio::test]
async fn what_is_stored_runs_when_the_client_is_closed() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let gone = client.on_disconnect();
    gone.set("s/alice", &json!({"online": false})).await.expect("stored");
    gone.update(&json!({"n": count(), "m": 1})).await.expect("stored");
    gone.delete("tabs/1").await.expect("stored");
    gone.set("never", &1).await.expect("stored");
    gone.cancel("never").await.expect("cancelled");
    client.set("tabs/1", &true).await.expect("written");
    let denied = gone.set("_leases/x", &1).await.expect_err("a system path");
    assert_eq!(denied.code(), "denied");
    assert_eq!(server.db.get("n").expect("read"), Value::Null);
    client.close().await;
    until("it runs", || server.db.presence_stats().leases == 0).await;
    let whole = json!({"s": {"alice": {"online": false}}, "n": 1, "m": 1});
    assert_eq!(server.db.get("").expect("read"), whole);
    assert_eq!(server.db.presence_stats().writes, 0);
}

#[tokio::test]
async fn a_new_connection_takes_the_lease_over() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    client.on_disconnect().set("n", &count()).await.expect("stored");
    let lease = client.on_disconnect().lease().await.expect("a lease");
    for round in 1..=10 {
        // Also the answer to a write that is being stored may get lost.
        proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
        client.on_disconnect().set(&format!("more/{round}"), &count()).await.expect("stored");
        assert_eq!(proxy.faults.lost.load(Ordering::SeqCst), round);
        assert_eq!(client.on_disconnect().lease().await.expect("a lease"), lease);
    }
    assert_eq!(client.connection().state().leases_lost, 0);
    assert_eq!(server.db.presence_stats().leases, 1, "one lease over all connections");
    assert_eq!(server.db.presence_stats().writes, 11, "each is stored once");
    assert_eq!(server.db.get("n").expect("read"), Value::Null, "the client was never gone");
    client.close().await;
    until("it runs", || server.db.presence_stats().leases == 0).await;
    assert_eq!(server.db.get("n").expect("read"), 1);
    let more = server.db.get("more").expect("read");
    assert!(more.as_object().expect("ten").values().all(|runs| *runs == 1), "{more}");
}

#[tokio::test]
async fn a_lease_that_ended_meanwhile_is_told() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    let mut connection = client.connection();
    assert!(connection.state().is_connected);
    client.on_disconnect().set("n", &count()).await.expect("stored");
    let lease = client.on_disconnect().lease().await.expect("a lease");
    proxy.faults.is_down.store(true, Ordering::SeqCst);
    proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
    let ping = tokio::spawn({
        let client = client.clone();
        async move { client.ping().await }
    });
    let lost = timeout(PATIENCE, connection.changed()).await.expect("in time").expect("a change");
    assert!(!lost.is_connected && !lost.is_closed);
    // Nobody came back in time; here it is not time that ends it.
    server.db.presence().expect("presence").end(&lease).wait().expect("it runs");
    assert_eq!(server.db.get("n").expect("read"), 1);
    proxy.faults.is_down.store(false, Ordering::SeqCst);
    ping.await.expect("no panic").expect("connected again");
    let state = connection.state();
    assert_eq!((state.is_connected, state.leases_lost), (true, 1));
    client.on_disconnect().set("n", &count()).await.expect("stored with a new lease");
    assert_ne!(client.on_disconnect().lease().await.expect("a lease"), lease);
    client.close().await;
    until("it runs", || server.db.presence_stats().leases == 0).await;
    assert_eq!(server.db.get("n").expect("read"), 2);
    let closed = connection.state();
    assert!(closed.is_closed && !closed.is_connected);
    assert_eq!(connection.changed().await, None);
}

#[tokio::test]
async fn the_time_of_the_server_and_of_a_lease_is_known() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let now_ms = server.db.runtime().clock().now_ms();
    let told_ms = client.connection().state().server_time_ms();
    assert!(told_ms.abs_diff(now_ms) < 60_000, "{told_ms} is not {now_ms}");
    let ttl = |seconds| Some(std::time::Duration::from_secs(seconds));
    let short = ClientOptions { lease_ttl: ttl(1), ..options() };
    let refused = connect(server.address, short).await;
    let refused = refused.on_disconnect().set("n", &1).await.expect_err("one second");
    assert_eq!(refused.code(), "invalid");
    let long = ClientOptions { lease_ttl: ttl(600), ..options() };
    let client = connect(server.address, long).await;
    let id = client.on_disconnect().lease().await.expect("a lease");
    let lease = server.db.presence().expect("presence").renew(&id).wait().expect("it is there");
    assert_eq!(lease.ttl.as_secs(), 600);
}
