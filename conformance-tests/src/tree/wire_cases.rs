//! The tree behind a server, through the WebSocket and through REST: the same promises.
//!
//! Without the feature `wire` the cases are listed and not run.

use super::TreeWorld;
use crate::{Case, Need};

const NEEDS: &[Need] = &[Need::Wire];

/// The body of a case: over the wire if that is compiled in.
macro_rules! over_wire {
    ($name:ident) => {{
        fn body(world: &TreeWorld) {
            #[cfg(feature = "wire")]
            bodies::$name(world);
            #[cfg(not(feature = "wire"))]
            unreachable!("not compiled in: {world:?}");
        }
        body
    }};
}

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.wire.values", &["tree.value.exact", "tree.value.null"], over_wire!(values))
        .needs(NEEDS),
    Case::new("tree.wire.update", &["tree.update.whole"], over_wire!(update)).needs(NEEDS),
    Case::new("tree.wire.push", &["tree.push.increasing"], over_wire!(push)).needs(NEEDS),
    Case::new("tree.wire.children", &["tree.value.order"], over_wire!(children)).needs(NEEDS),
    Case::new("tree.wire.conflict", &["tree.commit.conditions"], over_wire!(conflict)).needs(NEEDS),
    Case::new("tree.wire.batch", &["tree.commit.atomic"], over_wire!(batch)).needs(NEEDS),
    Case::new("tree.wire.keys", &["tree.commit.key", "tree.commit.durable"], over_wire!(keys))
        .needs(NEEDS),
    Case::new("tree.wire.limits", &["tree.limits.exact"], over_wire!(limits)).needs(NEEDS),
    Case::new("tree.wire.order", &["tree.commit.order", "tree.read.own_writes"], over_wire!(order))
        .needs(NEEDS),
];

#[cfg(feature = "wire")]
mod bodies {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use trellis_client::{Check, ClientError, Condition, Operation, WriteOptions};

    use super::super::TreeWorld;
    use super::super::wire::with_server;
    use super::Need;

    #[track_caller]
    fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>, code: &str) -> ClientError {
        let error = outcome.expect_err("it is refused");
        assert_eq!(error.code(), code, "{error:?}");
        error
    }

    fn keyed(key: &str) -> WriteOptions {
        WriteOptions { key: Some(key.to_owned()), ..WriteOptions::default() }
    }

    /// Whether the journal or the store is on disk.
    fn outlives_a_server(world: &TreeWorld) -> bool {
        let offered = world.factory().offered();
        offered.contains(&Need::SegmentLog) || offered.contains(&Need::AllOnDisk)
    }

    pub(super) fn values(world: &TreeWorld) {
        let value = json!({
            "i": i64::MIN, "f": 0.300_000_000_000_000_04, "s": "\u{1F600}\n\u{0}\"", "e": {},
            "a": [1, null, {"x": []}], "..sv": 1, "b": {".bytes": "AAEC"}, "é b": true,
        });
        with_server(world, async |wire| {
            wire.client.set("v", &value).await.unwrap();
            assert_eq!(wire.client.get("v").await.unwrap(), value);
            assert_eq!(wire.get("/db/v").await, value);
            assert_eq!(wire.get("/db/v/%C3%A9%20b").await, json!(true));
            let put = wire.http("PUT", "/db/r", &[], &value.to_string()).await;
            assert_eq!((put.status, put.body.as_str()), (200, r#"{"rev":2}"#));
            assert_eq!(wire.client.get("r").await.unwrap(), value);
            wire.client.delete("r/i").await.unwrap();
            let deleted = wire.http("DELETE", "/db/r/f", &[], "").await;
            assert_eq!(deleted.status, 200);
            assert!(!wire.client.exists("r/i").await.unwrap());
            assert_eq!(wire.get("/db/r/f").await, Value::Null);
        });
        if !outlives_a_server(world) {
            return;
        }
        // The same data for the next server.
        with_server(world, async |wire| {
            assert_eq!(wire.client.get("v").await.unwrap(), value);
            wire.client.set("v", &Value::Null).await.unwrap();
            assert_eq!(wire.get("/db/v").await, Value::Null);
        });
    }

    pub(super) fn update(world: &TreeWorld) {
        with_server(world, async |wire| {
            let updates = json!({"a/x": 1, "b": {"y": 2}, "c": [3]});
            let written = wire.client.update(&updates).await.unwrap();
            assert_eq!(written.rev, 1, "one commit");
            let whole = json!({"a": {"x": 1}, "b": {"y": 2}, "c": [3]});
            assert_eq!(wire.get("/db").await, whole);
            refused(wire.client.update(&json!({"a": 1, "a/x": 2})).await, "invalid");
            refused(wire.client.update(&json!({"a/x": 9, "c/0": 9})).await, "invalid");
            let patch = wire.http("PATCH", "/db/a", &[], r#"{"x/y":1,"x":2}"#).await;
            assert_eq!((patch.status, &patch.json()["error"]), (400, &json!("invalid")));
            assert_eq!(wire.get("/db").await, whole, "all or nothing");
            let patch = wire.http("PATCH", "/db/a", &[], r#"{"x":null,"n/m":5}"#).await;
            assert_eq!(patch.status, 200);
            assert_eq!(wire.client.get("a").await.unwrap(), json!({"n": {"m": 5}}));
        });
    }

    pub(super) fn push(world: &TreeWorld) {
        with_server(world, async |wire| {
            let mut ids = Vec::new();
            for n in 0..20 {
                ids.push(wire.client.push("list", &json!(n)).await.unwrap());
                let post = wire.http("POST", "/db/list", &[], &n.to_string()).await;
                ids.push(post.json()["name"].as_str().unwrap().to_owned());
            }
            assert!(ids.is_sorted_by(|a, b| a < b), "ids strictly increase: {ids:?}");
            let list = wire.get("/db/list").await;
            assert_eq!(
                list.as_object().unwrap().keys().collect::<Vec<_>>(),
                ids.iter().collect::<Vec<_>>()
            );
        });
    }

    pub(super) fn children(world: &TreeWorld) {
        let names = ["a", "a ", "a!", "a%", "a.b", "a_b", "aa", "é"];
        with_server(world, async |wire| {
            for (n, name) in names.iter().enumerate() {
                wire.client.set(&format!("d/{name}/b"), &json!(n)).await.unwrap();
            }
            let (mut seen, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = wire.client.children("d", after.as_deref(), 3, true).await.unwrap();
                seen.extend(page.items);
                match page.next_cursor {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            let keys: Vec<_> = seen.iter().map(|child| child.key.as_str()).collect();
            assert_eq!(keys, names, "in the order of their bytes");
            assert_eq!(seen[3].value, Some(json!({"b": 3})));
            let page = wire.get("/db/d?children=1&limit=2&after=a%20").await;
            assert_eq!(page, json!({"items": [{"key": "a!"}, {"key": "a%"}], "nextCursor": "a%"}));
            wire.client.delete("d/a").await.unwrap();
            let shallow = wire.get("/db/d?shallow=1").await;
            assert_eq!(shallow.as_object().unwrap().len(), names.len() - 1, "decoys survive");
        });
    }

    pub(super) fn conflict(world: &TreeWorld) {
        with_server(world, async |wire| {
            let when = |path: &str, check| Condition { path: path.to_owned(), check };
            let set = |value: i64| [Operation::set("a", json!(value))];
            let absent = [when("a", Check::Exists(false))];
            wire.client.commit(&absent, &set(1), None).await.unwrap();
            let conditions = [
                when("a", Check::Exists(false)),
                when("a", Check::Value(json!(1))),
                when("b", Check::Exists(true)),
                when("a", Check::Hash("0".repeat(32))),
                when("a", Check::Rev(0)),
            ];
            let refusal = refused(wire.client.commit(&conditions, &set(2), None).await, "conflict");
            let failed: Vec<_> =
                refusal.failed().iter().map(|one| (one.path.as_str(), &one.value)).collect();
            let (one, none) = (json!(1), Value::Null);
            assert_eq!(failed, [("a", &one), ("b", &none), ("a", &one), ("a", &one)]);
            let hash = refusal.failed()[0].hash.clone().expect("it is there");
            assert_eq!(wire.client.get("a").await.unwrap(), json!(1));
            wire.client.commit(&[when("a", Check::Hash(hash))], &set(3), None).await.unwrap();
            let body =
                r#"{"if":[{"path":"a","value":1}],"ops":[{"op":"set","path":"a","value":4}]}"#;
            let over_http = wire.http("POST", "/v1/commit", &[], body).await;
            assert_eq!(over_http.status, 409);
            assert_eq!(over_http.json()["failed"][0]["value"], json!(3));
            let guarded = wire.http("PUT", "/db/a", &["If-None-Match: *"], "5").await;
            assert_eq!((guarded.status, &guarded.json()["value"]), (412, &json!(3)));
            let tag = guarded.header("etag").expect("its tag").to_owned();
            let matched = wire.http("PUT", "/db/a", &[&format!("If-Match: {tag}")], "5").await;
            assert_eq!(matched.status, 200);
            assert_eq!(wire.client.get("a").await.unwrap(), json!(5));
        });
    }

    pub(super) fn batch(world: &TreeWorld) {
        with_server(world, async |wire| {
            let operations = [
                Operation::set("a", json!({"x": 1, "y": 2})),
                Operation::delete("a/x"),
                Operation::push("list", json!("p")),
                Operation::update(BTreeMap::from([("b".to_owned(), json!(1))])),
                Operation::set("b", json!({".sv": {"increment": 4}})),
            ];
            let written = wire.client.batch(&operations).await.unwrap();
            assert_eq!((written.rev, written.results.len()), (1, 5), "one commit");
            assert_eq!(written.resolved.get("b"), Some(&json!(5)));
            let id = written.results[2].as_str().unwrap();
            let whole = json!({"a": {"y": 2}, "list": {id: "p"}, "b": 5});
            assert_eq!(wire.get("/db").await, whole);
            let bad = [Operation::set("n", json!(1)), Operation::set("_auth/x", json!(1))];
            refused(wire.client.batch(&bad).await, "denied");
            let body = r#"{"ops":[{"op":"delete","path":"a"},{"op":"set","path":"","value":1}]}"#;
            let over_http = wire.http("POST", "/v1/commit", &[], body).await;
            assert_eq!(over_http.status, 400);
            assert_eq!(wire.get("/db").await, whole, "all or nothing");
        });
    }

    pub(super) fn keys(world: &TreeWorld) {
        let add = json!({".sv": {"increment": 1}});
        let text = add.to_string();
        with_server(world, async |wire| {
            let first = wire.client.set_with("n", &add, keyed("ws")).await.unwrap();
            let again = wire.client.set_with("n", &add, keyed("ws")).await.unwrap();
            assert_eq!((first.rev, &first.resolved), (again.rev, &again.resolved));
            let header = ["Idempotency-Key: http"];
            let first = wire.http("PUT", "/db/n", &header, &text).await;
            let again = wire.http("PUT", "/db/n", &header, &text).await;
            assert_eq!((first.status, &first.body), (200, &again.body));
            assert_eq!(wire.client.get("n").await.unwrap(), json!(2));
            refused(wire.client.set_with("n", &json!(9), keyed("ws")).await, "invalid");
        });
        if !outlives_a_server(world) {
            return;
        }
        with_server(world, async |wire| {
            wire.client.set_with("n", &add, keyed("ws")).await.unwrap();
            wire.client.set_with("n", &add, keyed("http")).await.unwrap();
            assert_eq!(wire.client.get("n").await.unwrap(), json!(2), "keys outlive a restart");
            wire.client.set_with("n", &add, keyed("new")).await.unwrap();
            assert_eq!(wire.client.get("n").await.unwrap(), json!(3));
        });
    }

    pub(super) fn limits(world: &TreeWorld) {
        with_server(world, async |wire| {
            let limits = wire.client.server().limits;
            let (segment, deep) = ("s".repeat(768), vec!["d"; 64].join("/"));
            let full = format!("{segment}/{}", "t".repeat(255));
            for at in [&segment, &deep, &full] {
                wire.client.set(at, &json!(1)).await.unwrap();
                assert_eq!(wire.get(&format!("/db/{at}")).await, json!(1));
                let over = if at == &deep { format!("{at}/d") } else { format!("{at}x") };
                refused(wire.client.set(&over, &json!(1)).await, "too_large");
                let put = wire.http("PUT", &format!("/db/{over}"), &[], "1").await;
                assert_eq!((put.status, &put.json()["error"]), (413, &json!("too_large")));
            }
            let leaf = |len: usize| format!("\"{}\"", "x".repeat(len));
            let put = wire.http("PUT", "/db/leaf", &[], &leaf(limits.leaf_bytes)).await;
            assert_eq!(put.status, 200, "{put:?}");
            let put = wire.http("PUT", "/db/leaf", &[], &leaf(limits.leaf_bytes + 1)).await;
            assert_eq!((put.status, &put.json()["error"]), (413, &json!("too_large")));
            refused(wire.client.get("leaf").await, "too_large");
            let back = wire.http("GET", "/db/leaf", &[], "").await;
            assert_eq!(back.body.len(), limits.leaf_bytes + 2, "what is too large for a frame");
            let frame = json!("x".repeat(limits.frame_bytes));
            assert!(wire.client.set("frame", &frame).await.is_err(), "beyond a frame");
            assert!(!wire.client.exists("frame").await.unwrap(), "the client works on");
        });
    }

    pub(super) fn order(world: &TreeWorld) {
        with_server(world, async |wire| {
            let writes: Vec<_> = (0..200_i64)
                .map(|n| {
                    let client = wire.client.clone();
                    tokio::spawn(async move { client.set("x", &json!(n)).await.unwrap().rev })
                })
                .collect();
            let mut revs = Vec::new();
            for write in writes {
                revs.push(write.await.unwrap());
            }
            assert_eq!(revs, (1..=200).collect::<Vec<u64>>(), "committed in the order sent");
            assert_eq!(wire.client.get("x").await.unwrap(), json!(199));
            for n in 0..50 {
                wire.client.set("own", &json!(n)).await.unwrap();
                assert_eq!(wire.client.get("own").await.unwrap(), json!(n));
                assert_eq!(wire.get("/db/own").await, json!(n), "on any connection");
            }
        });
    }
}
