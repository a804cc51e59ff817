//! Subscriptions of a real server, over a connection that fails again and again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use trellis_client::{ChangeKind, SubscribeKind, SubscribeOptions, SubscriptionEvent};

use crate::harness::{Proxy, TestServer, connect, options};

#[tokio::test]
async fn each_commit_is_told_once_and_in_order_over_a_failing_connection() {
    const WRITES: u64 = 300;
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    let mut value = client.subscribe("n", SubscribeOptions::default()).await.expect("subscribed");
    let children = SubscribeOptions { kind: SubscribeKind::Child, ..SubscribeOptions::default() };
    let mut children = client.subscribe("l", children).await.expect("subscribed");
    let (db, faults) = (server.db.clone(), Arc::clone(&proxy.faults));
    let writer = tokio::task::spawn_blocking(move || {
        for index in 1..=WRITES {
            // Every tenth frame is lost, and the connection with it.
            let is_lost = index.is_multiple_of(10);
            faults.lose_next_answer.fetch_or(is_lost, Ordering::SeqCst);
            let both = [("n".to_owned(), index), (format!("l/k{index:03}"), index)];
            db.update(both).expect("written");
            while is_lost && faults.lost.load(Ordering::SeqCst) < index / 10 {
                std::thread::yield_now();
            }
        }
    });
    let mut seen = 0;
    while seen < WRITES {
        match value.next().await.expect("an event").expect("no error") {
            // Nothing was written before, or some of it: never a gap in between.
            SubscriptionEvent::Snapshot { data, .. } => seen = data.as_u64().unwrap_or(0),
            SubscriptionEvent::Changes(changes) => {
                assert_eq!(changes.rev, seen + 1, "missed, twice or out of order");
                assert_eq!(changes.changes[0].value, Some(json!(changes.rev)));
                seen = changes.rev;
            }
            SubscriptionEvent::Reset { .. } => panic!("the journal still has everything"),
        }
    }
    let mut keys = Vec::new();
    while keys.len() < usize::try_from(WRITES).expect("small") {
        match children.next().await.expect("an event").expect("no error") {
            SubscriptionEvent::Snapshot { data, .. } => {
                keys.extend(data.as_object().into_iter().flat_map(|object| object.keys().cloned()));
            }
            SubscriptionEvent::Changes(changes) => {
                assert_eq!(changes.changes.len(), 1);
                assert_eq!(changes.changes[0].kind, ChangeKind::Added);
                keys.extend(changes.changes[0].key.clone());
            }
            SubscriptionEvent::Reset { .. } => panic!("the journal still has everything"),
        }
    }
    let expected: Vec<String> = (1..=WRITES).map(|index| format!("k{index:03}")).collect();
    assert_eq!(keys, expected);
    writer.await.expect("written");
    assert_eq!(proxy.faults.lost.load(Ordering::SeqCst), WRITES / 10);
    drop((value, children));
    client.close().await;
    while server.db.live_stats().subscriptions > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn own_writes_are_told_with_their_key_and_refusals_with_their_code() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let mut own = client.subscribe("a", SubscribeOptions::default()).await.expect("subscribed");
    let mut others = other.subscribe("a", SubscribeOptions::default()).await.expect("subscribed");
    client.set("a", &1).await.expect("written");
    for (subscription, has_key) in [(&mut own, true), (&mut others, false)] {
        let snapshot = subscription.next().await.expect("an event").expect("no error");
        assert_eq!(snapshot, SubscriptionEvent::Snapshot { data: Value::Null, rev: 0 });
        match subscription.next().await.expect("an event").expect("no error") {
            SubscriptionEvent::Changes(changes) => {
                assert_eq!((changes.rev, changes.key.is_some()), (1, has_key));
            }
            other => panic!("no changes: {other:?}"),
        }
    }
    let refused = client.subscribe("a//b", SubscribeOptions::default()).await;
    assert_eq!(refused.expect_err("no path").code(), "invalid");
}

#[tokio::test]
async fn queries_are_typed() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let users = json!({"u1": {"age": 33}, "u2": {"age": 12}, "u3": {"age": 45}});
    client.set("users", &users).await.expect("written");
    let adults = trellis_client::Query {
        filter: Some(json!([["age", ">=", 18]])),
        order_by: Some(json!([["age", "desc"]])),
        limit: Some(1),
        ..trellis_client::Query::new("users")
    };
    let page = client.query(&adults).await.expect("answered");
    assert_eq!((page.items[0].key.as_str(), &page.items[0].value), ("u3", &json!({"age": 45})));
    let next = trellis_client::Query { cursor: page.next_cursor, ..adults.clone() };
    let page = client.query(&next).await.expect("answered");
    assert_eq!((page.items[0].path.as_str(), page.next_cursor, page.rev), ("users/u1", None, 1));
    let count =
        trellis_client::Query { count: true, limit: None, order_by: None, ..adults.clone() };
    assert_eq!(client.query(&count).await.expect("answered").count, Some(2));
    assert_eq!(client.explain(&adults).await.expect("explained")["plan"], "collection");
    let nonsense = trellis_client::Query { filter: Some(json!([["age", "like"]])), ..adults };
    assert_eq!(client.query(&nonsense).await.expect_err("refused").code(), "invalid");
}
