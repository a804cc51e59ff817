//! A lost connection loses no write and repeats none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use trellis_client::{ClientErrorKind, ClientOptions};

use crate::harness::{Proxy, TestServer, connect, options};

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_retried_and_counts_once() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    for round in 1..=20 {
        proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
        let increment = json!({".sv": {"increment": 1}});
        let written = client.set("n", &increment).await.expect("written");
        assert_eq!(written.resolved["n"], round);
        assert_eq!(proxy.faults.lost.load(Ordering::SeqCst), round);
    }
    assert_eq!(server.db.get("n").expect("read"), 20);
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_makes_one_child() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
    let id = client.push("list", &1).await.expect("pushed");
    let children = server.db.children("list", None, 10).expect("read");
    assert_eq!(children.items.len(), 1);
    assert_eq!(children.items[0].key, id);
}

#[tokio::test]
async fn concurrent_writes_over_a_failing_connection_each_count_once() {
    let seed: u64 = std::env::var("TRELLIS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(getrandom::u32().expect("randomness")));
    println!("TRELLIS_SEED={seed}");
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    proxy.faults.lose_every.store(2 + seed % 7, Ordering::SeqCst);
    let client = connect(proxy.address, options()).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let client = client.clone();
        calls.spawn(async move { client.set("n", &json!({".sv": {"increment": 1}})).await });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("no panic").expect("written");
    }
    assert_eq!(server.db.get("n").expect("read"), 400);
}

#[tokio::test]
async fn writes_stay_in_order_over_lost_connections() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    proxy.faults.lose_every.store(4, Ordering::SeqCst);
    let client = connect(proxy.address, options()).await;
    let sets = (0..200_u32).map(|value| {
        let client = client.clone();
        async move { client.set("x", &value).await.expect("written").rev }
    });
    // Polled in order, so called in order.
    let revs = futures_util::future::join_all(sets).await;
    assert!(revs.is_sorted_by(|before, after| before < after), "{revs:?}");
    assert_eq!(server.db.get("x").expect("read"), 199);
}

#[tokio::test]
async fn calls_wait_for_a_server_that_is_away_up_to_their_deadline() {
    let server = TestServer::start().await;
    let proxy = Proxy::before(server.address).await;
    let short = ClientOptions { deadline: Duration::from_millis(200), ..options() };
    let client = connect(proxy.address, short).await;
    let patient = connect(proxy.address, options()).await;
    proxy.faults.is_down.store(true, Ordering::SeqCst);
    proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
    let late = client.set("a", &1).await.expect_err("nobody answers");
    assert_eq!(late.kind(), ClientErrorKind::Deadline);
    assert!(late.is_retryable());
    proxy.faults.lose_next_answer.store(true, Ordering::SeqCst);
    let waiting = tokio::spawn(async move { patient.set("b", &2).await });
    while proxy.faults.lost.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    proxy.faults.is_down.store(false, Ordering::SeqCst);
    waiting.await.expect("no panic").expect("written once the server is back");
    assert_eq!(server.db.get("b").expect("read"), 2);
}
