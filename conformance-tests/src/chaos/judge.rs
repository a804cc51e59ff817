//! The verdict: do all nodes agree, and is everything there that was acknowledged?

use std::collections::BTreeMap;

use serde_json::Value;

use super::node::{HUB, NODES};
use super::writer::{Known, Told};

/// What is compared between nodes.
pub(super) const COMMON: [&str; 2] = ["shared", "central"];

/// What a node holds, by the first segment of the path.
pub(super) type Content = BTreeMap<&'static str, Value>;

/// What is wrong; nothing if all is well.
pub(super) fn complaints(contents: &[Content], told: &[Told]) -> Vec<String> {
    let mut wrong = disagreements(contents);
    // What is common is compared already, so it is enough to look at one node.
    let holder = |path: &str, node| if path.starts_with("local/") { node } else { HUB };
    wrong.extend(missing(contents, told, holder));
    wrong
}

/// Where nodes differ from the hub in what they have in common.
pub(super) fn disagreements(contents: &[Content]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, content) in NODES.iter().zip(contents).skip(1) {
        for common in COMMON {
            let (here, hub) = (content.get(common), contents[HUB].get(common));
            if here != hub {
                let place =
                    difference(common, here.unwrap_or(&Value::Null), hub.unwrap_or(&Value::Null));
                wrong.push(format!("{} and the hub differ at {place}", node.name));
            }
        }
    }
    wrong
}

/// What was acknowledged and is not there, of each key at the node that `holder` names, given the
/// path and who wrote it.
pub(super) fn missing(
    contents: &[Content],
    told: &[Told],
    holder: impl Fn(&str, usize) -> usize,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, told) in told.iter().enumerate() {
        for (path, known) in &told.keys {
            let Known::Is(expected) = known else { continue };
            let holder = holder(path, index);
            let found = find(&contents[holder], path);
            let number = found.and_then(|value| value.get("n")).and_then(Value::as_u64);
            let is_there = found.is_some_and(|value| !value.is_null());
            if number != *expected || is_there != expected.is_some() {
                let writer = NODES[index].name;
                wrong.push(format!(
                    "{writer} was told that {path} is {expected:?}; {} holds {}",
                    NODES[holder].name,
                    found.map_or_else(|| "nothing".to_owned(), short)
                ));
            }
        }
    }
    wrong
}

fn find<'a>(content: &'a Content, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('/')?;
    let mut value = content.get(first)?;
    for segment in rest.split('/') {
        value = value.get(segment)?;
    }
    Some(value)
}

/// The first place at which two values differ, and what is there.
fn difference(path: &str, here: &Value, there: &Value) -> String {
    if let (Value::Object(one), Value::Object(other)) = (here, there) {
        let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
        keys.sort_unstable();
        for key in keys {
            let (one, other) = (one.get(key), other.get(key));
            if one != other {
                let null = &Value::Null;
                let deeper = format!("{path}/{key}");
                return difference(&deeper, one.unwrap_or(null), other.unwrap_or(null));
            }
        }
    }
    format!("{path}: {} here, {} there", short(here), short(there))
}

/// The beginning of a value's text.
fn short(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(shared: &Value) -> Content {
        let central = json!({ "hub": { "1": { "n": 4 } } });
        BTreeMap::from([("shared", shared.clone()), ("central", central), ("local", json!(null))])
    }

    /// Five nodes that agree, and what their writers were told.
    fn fine() -> (Vec<Content>, Vec<Told>) {
        let shared = json!({ "own": { "relay": { "7": { "n": 9, "more": { "n": 9 } } } } });
        let mut told: Vec<Told> = NODES.iter().map(|_| Told::default()).collect();
        let mut knows = |node: usize, path: &str, known| {
            told[node].keys.insert(path.to_owned(), known);
        };
        knows(1, "shared/own/relay/7", Known::Is(Some(9)));
        knows(1, "shared/own/relay/8", Known::Is(None));
        knows(1, "shared/own/relay/9", Known::Tainted);
        knows(0, "central/hub/1", Known::Is(Some(4)));
        knows(4, "local/3", Known::Is(Some(2)));
        let mut contents = vec![content(&shared); NODES.len()];
        contents[4].insert("local", json!({ "3": { "n": 2 } }));
        (contents, told)
    }

    #[test]
    fn nodes_that_agree_on_what_was_acknowledged_are_well() {
        let (contents, told) = fine();
        assert_eq!(complaints(&contents, &told), Vec::<String>::new());
    }

    /// A loss, and where it shows.
    type Planted = (&'static str, fn(&mut Content));

    #[test]
    fn every_kind_of_loss_is_noticed() {
        let planted: [Planted; 4] = [
            ("/own/relay/7/n", |all| {
                all.get_mut("shared").unwrap()["own"]["relay"]["7"]["n"] = json!(8);
            }),
            ("/own/relay/7/more", |all| {
                let key = all.get_mut("shared").unwrap()["own"]["relay"]["7"].as_object_mut();
                key.unwrap().remove("more");
            }),
            ("/own/relay/8", |all| {
                all.get_mut("shared").unwrap()["own"]["relay"]["8"] = json!({ "n": 5 });
            }),
            ("central", |all| drop(all.insert("central", json!(null)))),
        ];
        for (place, plant) in planted {
            // On one node: it differs from the hub.
            let (mut contents, told) = fine();
            plant(&mut contents[3]);
            let found = complaints(&contents, &told);
            assert!(found.len() == 1 && found[0].contains(place), "{place}: {found:?}");
            assert!(found[0].starts_with("edge-sled and the hub differ"), "{found:?}");
        }
        // On all of them alike: they agree on a loss.
        for (path, plant) in
            [("relay/7", planted[0].1), ("relay/8", planted[2].1), ("central/hub/1", planted[3].1)]
        {
            let (mut contents, told) = fine();
            contents.iter_mut().for_each(plant);
            let found = complaints(&contents, &told);
            assert!(found.len() == 1 && found[0].contains(path), "{path}: {found:?}");
        }
        let (mut contents, told) = fine();
        contents[4].insert("local", json!(null));
        assert!(complaints(&contents, &told)[0].contains("local/3"));
    }
}
