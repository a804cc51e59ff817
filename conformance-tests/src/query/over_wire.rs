//! Queries through a server: the same answers.
//!
//! Without the feature `wire` the case is listed and not run.

use crate::tree::TreeWorld;
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("query.wire.random", &["query.answer.exact", "query.cursor.stable"], random)
        .needs(&[Need::Wire])];

#[cfg(not(feature = "wire"))]
fn random(world: &TreeWorld) {
    unreachable!("not compiled in: {world:?}");
}

#[cfg(feature = "wire")]
fn random(world: &TreeWorld) {
    use serde_json::{Value, json};

    let draw = super::answers::draw(world, "wire");
    crate::tree::with_server(world, async |wire| {
        for round in 0..40 {
            for _ in 0..draw.below(5) {
                // A path that leads into an array is refused, and nothing changes.
                drop(wire.client.set(&format!("c/{}", draw.key()), &draw.item()).await);
            }
            let root = wire.client.get("").await.expect("it is read");
            let mut query = draw.query(&["c", "*"]);
            query["limit"] = (1 + draw.below(4)).into();
            let expected = super::reference::matches(&root, &query);
            let mut found: Vec<(String, Value)> = Vec::new();
            loop {
                let body = query.to_string();
                let answer = wire.http("POST", "/v1/query", &[], &body).await;
                let answer = answer.json();
                let items = answer["items"].as_array().unwrap_or_else(|| panic!("{answer}"));
                let path = |item: &Value| item["path"].as_str().expect("a path").to_owned();
                found.extend(items.iter().map(|item| (path(item), item["value"].clone())));
                match answer.get("nextCursor") {
                    Some(cursor) => query["cursor"] = cursor.clone(),
                    None => break,
                }
            }
            assert_eq!(found, expected, "round {round}: {query}");
            let count = json!({"path": query["path"], "count": true, "where": query.get("where")});
            let mut count = count.as_object().expect("an object").clone();
            count.retain(|_, value| !value.is_null());
            let body = Value::Object(count).to_string();
            let answer = wire.http("POST", "/v1/query", &[], &body).await.json();
            assert_eq!(answer, json!({"count": expected.len()}));
        }
    });
}
