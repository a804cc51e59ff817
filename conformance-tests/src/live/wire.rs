//! Subscriptions and presence through a server and its client: the same promises.
//!
//! Without the feature `wire` the cases are listed and not run.

use crate::tree::TreeWorld;
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("live.wire.told_once", &["live.sub.once", "live.sub.exact"], told_once)
        .needs(&[Need::Wire])];

pub(super) const PRESENCE: &[Case<TreeWorld>] =
    &[Case::new("presence.wire.clean_close", &["presence.end.close"], clean_close)
        .needs(&[Need::Wire])];

#[cfg(not(feature = "wire"))]
use self::none::{clean_close, told_once};
#[cfg(feature = "wire")]
use self::real::{clean_close, told_once};

#[cfg(not(feature = "wire"))]
mod none {
    use super::TreeWorld;

    pub(super) fn told_once(world: &TreeWorld) {
        unreachable!("not compiled in: {world:?}");
    }

    pub(super) fn clean_close(world: &TreeWorld) {
        unreachable!("not compiled in: {world:?}");
    }
}

#[cfg(feature = "wire")]
mod real {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use trellis_client::{
        Change, ChangeKind, Query, SubscribeKind, SubscribeOptions, Subscription, SubscriptionEvent,
    };

    use crate::tree::{TreeWorld, with_server};

    /// Writes that are watched.
    const WRITES: u64 = 60;

    fn of(kind: SubscribeKind) -> SubscribeOptions {
        SubscribeOptions { kind, ..SubscribeOptions::default() }
    }

    /// Takes changes up to a commit, each later than the one before.
    async fn up_to(told: &mut Subscription, last: u64, mut take: impl FnMut(Change)) {
        let mut seen = None;
        while seen != Some(last) {
            match told.next().await.expect("an event").expect("no error") {
                SubscriptionEvent::Snapshot { rev, .. } if seen.is_none() => seen = Some(rev),
                SubscriptionEvent::Changes(changes) => {
                    assert!(Some(changes.rev) > seen, "a commit is told again, or late");
                    seen = Some(changes.rev);
                    changes.changes.into_iter().for_each(&mut take);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn told_once(world: &TreeWorld) {
        let mut rng = world.rng("wire");
        with_server(world, async |wire| {
            let query = Query { order_by: Some(json!("n")), limit: Some(3), ..Query::default() };
            let watch =
                async |kind| wire.client.subscribe("c", of(kind)).await.expect("subscribed");
            let mut value = watch(SubscribeKind::Value).await;
            let mut children = watch(SubscribeKind::Child).await;
            let mut window = watch(SubscribeKind::Query(query)).await;
            let writer = wire.connect().await;
            for _ in 0..WRITES {
                let (key, drawn) = (rng.below(8), rng.below(100));
                let item = if drawn < 25 { Value::Null } else { json!({"n": drawn}) };
                writer.set(&format!("c/k{key}"), &item).await.expect("written");
            }
            // Before all others, so that everybody is told of it.
            let last = writer.set("c/z", &json!({"n": -1})).await.expect("written").rev;
            let whole = writer.get("c").await.expect("read");
            let mut newest = Value::Null;
            up_to(&mut value, last, |change| newest = change.value.expect("a value")).await;
            assert_eq!(newest, whole);
            let mut held = BTreeMap::new();
            up_to(&mut children, last, |change| {
                let key = change.key.expect("its key");
                match change.kind {
                    ChangeKind::Removed => held.remove(&key),
                    _ => held.insert(key, change.value.expect("its value")),
                };
            })
            .await;
            assert_eq!(json!(held), whole);
            let mut shown: Vec<String> = Vec::new();
            up_to(&mut window, last, |change| {
                let key = change.key.expect("its key");
                if change.kind != ChangeKind::Changed {
                    shown.retain(|one| *one != key);
                }
                if matches!(change.kind, ChangeKind::Added | ChangeKind::Moved) {
                    let before = |after: &String| shown.iter().position(|one| one == after);
                    let at = change
                        .after
                        .as_ref()
                        .map_or(0, |after| before(after).expect("the item before it is shown") + 1);
                    shown.insert(at, key);
                }
            })
            .await;
            let body = json!({"path": "c", "orderBy": "n", "limit": 3}).to_string();
            let answer = wire.http("POST", "/v1/query", &[], &body).await.json();
            let keys: Vec<&str> = answer["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["key"].as_str().expect("a key"))
                .collect();
            assert_eq!(shown, keys);
            writer.close().await;
        });
    }

    pub(super) fn clean_close(world: &TreeWorld) {
        with_server(world, async |wire| {
            let mut told = wire.client.subscribe("s", of(SubscribeKind::Value)).await.unwrap();
            let client = wire.connect().await;
            client.set("tabs/1", &true).await.expect("written");
            let gone = client.on_disconnect();
            gone.set("s", &json!({"online": false})).await.expect("stored");
            gone.update(&json!({"n": {".sv": {"increment": 1}}})).await.expect("stored");
            gone.delete("tabs").await.expect("stored");
            gone.set("never", &1).await.expect("stored");
            gone.cancel("never").await.expect("cancelled");
            assert_eq!(wire.client.get("").await.unwrap(), json!({"tabs": {"1": true}}));
            client.close().await;
            loop {
                if let SubscriptionEvent::Changes(_) = told.next().await.unwrap().unwrap() {
                    break;
                }
            }
            let whole = json!({"s": {"online": false}, "n": 1});
            assert_eq!(wire.client.get("").await.unwrap(), whole, "all of it in one commit, once");
        });
    }
}
