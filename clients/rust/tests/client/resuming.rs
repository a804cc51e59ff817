//! A subscription goes on behind what it has seen, whatever becomes of the connection.

use serde_json::{Value, json};
use trellis_client::{
    Client, ClientErrorKind, Position, SubscribeKind, SubscribeMode, SubscribeOptions,
    Subscription, SubscriptionEvent,
};

use crate::harness::{connect, options};
use crate::scripted::{Peer, Script};

/// A client that is connected to the script, and the script's end.
async fn connected(script: &Script) -> (Client, Peer) {
    tokio::join!(connect(script.address, options()), script.accept())
}

/// A subscription to `x` with a snapshot as of rev 5.
async fn subscribed(client: &Client, peer: &mut Peer) -> (Subscription, String) {
    let subscribe = client.subscribe("x", SubscribeOptions::default());
    let answer = async {
        let (id, request) = peer.sub().await;
        assert_eq!((&request["path"], &request["event"]), (&json!("x"), &json!("value")));
        assert_eq!((request.get("since"), request.get("epoch")), (None, None));
        peer.acknowledge(&id, "1", 5).await;
        id
    };
    let (mut subscription, id) = {
        let (subscription, id) = tokio::join!(subscribe, answer);
        (subscription.expect("a subscription"), id)
    };
    let snapshot = SubscriptionEvent::Snapshot { data: json!(1), rev: 5 };
    assert_eq!(next(&mut subscription).await, snapshot);
    (subscription, id)
}

async fn next(subscription: &mut Subscription) -> SubscriptionEvent {
    subscription.next().await.expect("an event").expect("no error")
}

/// The rev and the new value of the next event.
async fn next_value(subscription: &mut Subscription) -> (u64, Value) {
    match next(subscription).await {
        SubscriptionEvent::Changes(changes) => {
            (changes.rev, changes.changes[0].value.clone().expect("a value"))
        }
        other => panic!("no changes: {other:?}"),
    }
}

#[tokio::test]
async fn after_a_lost_connection_it_asks_for_what_follows_the_newest_event() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let (mut subscription, id) = subscribed(&client, &mut peer).await;
    peer.tell(&id, 6, "2").await;
    assert_eq!(next_value(&mut subscription).await, (6, json!(2)));
    // Queued, not read yet: it is not asked for again.
    peer.tell(&id, 8, "3").await;
    drop(peer);
    let mut peer = script.accept().await;
    let (again, request) = peer.sub().await;
    assert_eq!((&request["since"], &request["epoch"]), (&json!(8), &json!("e.1")));
    assert_ne!(again, id, "frames of the lost connection's subscription could be mistaken");
    let resumed = r#""ok":true,"data":null,"rev":12,"epoch":"e.2","resumed":true}"#;
    peer.say(&format!(r#"{{"id":"{again}",{resumed}"#)).await;
    peer.tell(&again, 11, "4").await;
    assert_eq!(next_value(&mut subscription).await, (8, json!(3)));
    assert_eq!(next_value(&mut subscription).await, (11, json!(4)));
    // As of what was told, not of the acknowledgement: what is between may still be on its way.
    let position = Position { rev: 11, epoch: "e.2".to_owned() };
    assert_eq!(subscription.position(), Some(position));
    drop(peer);
    let mut peer = script.accept().await;
    let (_, request) = peer.sub().await;
    assert_eq!((&request["since"], &request["epoch"]), (&json!(11), &json!("e.2")));
}

#[tokio::test]
async fn a_gap_is_told_as_a_reset() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let (mut subscription, _) = subscribed(&client, &mut peer).await;
    drop(peer);
    let mut peer = script.accept().await;
    let (id, _) = peer.sub().await;
    let reset = r#""ok":true,"data":9,"rev":70,"epoch":"f.1","reset":true}"#;
    peer.say(&format!(r#"{{"id":"{id}",{reset}"#)).await;
    let reset = SubscriptionEvent::Reset { data: json!(9), rev: 70 };
    assert_eq!(next(&mut subscription).await, reset);
    // Told to a slow reader in the midst of it.
    let frame = format!(r#"{{"sub":"{id}","reset":true,"rev":75,"epoch":"f.1","data":{{"a":1}}}}"#);
    peer.say(&frame).await;
    let reset = SubscriptionEvent::Reset { data: json!({"a": 1}), rev: 75 };
    assert_eq!(next(&mut subscription).await, reset);
    let position = Position { rev: 75, epoch: "f.1".to_owned() };
    assert_eq!(subscription.position(), Some(position));
}

#[tokio::test]
async fn a_subscription_lost_before_its_acknowledgement_is_asked_for_again() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let subscribe = client.subscribe("x", SubscribeOptions::default());
    let answer = async {
        peer.sub().await;
        drop(peer);
        let mut peer = script.accept().await;
        let (id, request) = peer.sub().await;
        assert_eq!(request.get("since"), None);
        peer.acknowledge(&id, "1", 5).await;
        peer
    };
    let (subscription, _peer) = tokio::join!(subscribe, answer);
    let snapshot = SubscriptionEvent::Snapshot { data: json!(1), rev: 5 };
    assert_eq!(next(&mut subscription.expect("a subscription")).await, snapshot);
}

#[tokio::test]
async fn a_refusal_is_the_error_of_the_call_and_an_end_the_last_item() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let subscribe = client.subscribe("", SubscribeOptions::default());
    let answer = async {
        let (id, _) = peer.sub().await;
        let refused = r#""ok":false,"error":"too_large","message":"narrow the path"}"#;
        peer.say(&format!(r#"{{"id":"{id}",{refused}"#)).await;
    };
    let (refused, ()) = tokio::join!(subscribe, answer);
    assert_eq!(refused.expect_err("refused").code(), "too_large");

    let (mut subscription, id) = subscribed(&client, &mut peer).await;
    peer.tell(&id, 6, "2").await;
    let cancel = r#""cancel":{"error":"denied","message":"no longer yours"}}"#;
    peer.say(&format!(r#"{{"sub":"{id}",{cancel}"#)).await;
    assert_eq!(next_value(&mut subscription).await, (6, json!(2)));
    let ended = subscription.next().await.expect("an item").expect_err("an error");
    assert_eq!((ended.kind(), ended.code()), (ClientErrorKind::Refused, "denied"));
    assert!(subscription.next().await.is_none());
    drop(peer);
    let mut peer = script.accept().await;
    let ping = tokio::spawn({
        let client = client.clone();
        async move { client.ping().await }
    });
    // Neither the refused nor the ended one is asked for again.
    assert_eq!(peer.request().await["op"], "ping");
    ping.abort();
}

#[tokio::test]
async fn dropping_it_unsubscribes() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let (subscription, id) = subscribed(&client, &mut peer).await;
    drop(subscription);
    let request = peer.request().await;
    assert_eq!((&request["op"], &request["sub"]), (&json!("unsub"), &json!(id)));
    // A frame that was on its way is nobody's.
    peer.tell(&id, 6, "2").await;
    drop(client);
}

#[tokio::test]
async fn a_reader_that_falls_behind_holds_bounded_memory_and_misses_nothing() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let narrow = SubscribeOptions { queue_bytes_max: 300, ..SubscribeOptions::default() };
    let answer = async {
        let (id, _) = peer.sub().await;
        peer.acknowledge(&id, "0", 5).await;
        id
    };
    let (subscription, id) = tokio::join!(client.subscribe("x", narrow), answer);
    let mut subscription = subscription.expect("a subscription");
    let mut sent = 5;
    // Tells until the client ends the subscription, because the queue is full.
    let ended = loop {
        sent += 1;
        peer.tell(&id, sent, &sent.to_string()).await;
        tokio::select! {
            biased;
            request = peer.request() => break request,
            () = tokio::task::yield_now() => {}
        }
        assert!(sent < 100_000, "the queue is not bounded");
    };
    assert_eq!((&ended["op"], &ended["sub"]), (&json!("unsub"), &json!(id)));
    let snapshot = SubscriptionEvent::Snapshot { data: json!(0), rev: 5 };
    assert_eq!(next(&mut subscription).await, snapshot);
    let mut read = 5;
    // What is queued is read first; then it is asked for what follows.
    let again = loop {
        tokio::select! {
            biased;
            (rev, value) = next_value(&mut subscription) => {
                read += 1;
                assert_eq!((rev, value), (read, json!(read)));
            }
            (again, request) = peer.sub() => {
                assert_eq!(request["since"], read);
                break again;
            }
        }
    };
    let resumed = r#""ok":true,"data":null,"rev":9,"epoch":"e.1","resumed":true}"#;
    peer.say(&format!(r#"{{"id":"{again}",{resumed}"#)).await;
    peer.tell(&again, read + 1, "7").await;
    assert_eq!(next_value(&mut subscription).await, (read + 1, json!(7)));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_once_it_was_subscribed() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let (mut subscription, _) = subscribed(&client, &mut peer).await;
    drop(peer);
    let mut peer = script.accept().await;
    let (id, _) = peer.sub().await;
    let busy = r#""ok":false,"error":"busy","message":"try later"}"#;
    peer.say(&format!(r#"{{"id":"{id}",{busy}"#)).await;
    let (id, request) = peer.sub().await;
    assert_eq!(request["since"], 5);
    let resumed = r#""ok":true,"data":null,"rev":9,"epoch":"e.1","resumed":true}"#;
    peer.say(&format!(r#"{{"id":"{id}",{resumed}"#)).await;
    // Given up in the midst of it, for want of a thread.
    let busy = r#""cancel":{"error":"busy","message":"try later"}}"#;
    peer.say(&format!(r#"{{"sub":"{id}",{busy}"#)).await;
    let (id, request) = peer.sub().await;
    assert_eq!(request["since"], 5);
    let resumed = r#""ok":true,"data":null,"rev":9,"epoch":"e.1","resumed":true}"#;
    peer.say(&format!(r#"{{"id":"{id}",{resumed}"#)).await;
    peer.tell(&id, 9, "4").await;
    assert_eq!(next_value(&mut subscription).await, (9, json!(4)));
}

#[tokio::test]
async fn it_goes_on_from_a_position_of_another_process() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let position = Position { rev: 3, epoch: "e.1".to_owned() };
    let options = SubscribeOptions {
        kind: SubscribeKind::Child,
        mode: SubscribeMode::Notify,
        resume: Some(position.clone()),
        ..SubscribeOptions::default()
    };
    let answer = async {
        let (id, request) = peer.sub().await;
        assert_eq!((&request["event"], &request["mode"]), (&json!("child"), &json!("notify")));
        assert_eq!((&request["since"], &request["epoch"]), (&json!(3), &json!("e.1")));
        let resumed = r#""ok":true,"data":null,"rev":9,"epoch":"e.1","resumed":true}"#;
        peer.say(&format!(r#"{{"id":"{id}",{resumed}"#)).await;
    };
    let (subscription, ()) = tokio::join!(client.subscribe("x", options), answer);
    assert_eq!(subscription.expect("a subscription").position(), Some(position));
}

#[tokio::test]
async fn closing_the_client_ends_its_subscriptions() {
    let script = Script::start().await;
    let (client, mut peer) = connected(&script).await;
    let (mut subscription, _) = subscribed(&client, &mut peer).await;
    client.close().await;
    let ended = subscription.next().await.expect("an item").expect_err("an error");
    assert_eq!(ended.kind(), ClientErrorKind::Closed);
    assert!(subscription.next().await.is_none());
}
