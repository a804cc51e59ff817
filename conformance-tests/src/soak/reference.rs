//! What every subscriber must have been told, from the journal alone: a map of leaves to which
//! each commit's plain changes are applied, and what differs before and after.
//!
//! It shares no code with the subscriptions: no trie, no states, no patches.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use trellis_tree::{Change, ChangeEffect, Leaf};

use super::topics::{About, Mode, Topic};

/// A tree as its leaves: segments joined by 0x00.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeMap<Vec<u8>, Value>);

/// One place of a topic that a commit changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// The path that fits the topic.
    pub(super) path: String,
    /// The child, where children are watched.
    pub(super) child: Option<String>,
    /// Both are null where only the fact of a change is told and nobody asks for children.
    pub(super) before: Value,
    pub(super) after: Value,
}

/// What a commit changed for the topics that it concerns.
pub(super) type Differences = Vec<(usize, Vec<Difference>)>;

/// A place that may have changed: topic, key, whether it is known to have.
type Place = (usize, Vec<u8>, bool);

impl Leaves {
    /// Applies a commit; what it changed, by topic.
    pub(super) fn step(&mut self, change: &Change, topics: &[Topic]) -> Differences {
        let changed = self.changed(change);
        let mut places: BTreeSet<Place> = BTreeSet::new();
        for key in changed.keys().filter(|key| key.first() != Some(&b'_')) {
            let segments: Vec<&[u8]> = key.split(|byte| *byte == 0).collect();
            for (number, topic) in topics.iter().enumerate() {
                places.extend(place(topic, &segments).map(|(key, sure)| (number, key, sure)));
            }
        }
        let wanted = |(topic, _, sure): &Place| {
            let topic = &topics[*topic];
            !sure || topic.mode != Mode::Notify || topic.about == About::Child
        };
        let read = |leaves: &Self| -> BTreeMap<Vec<u8>, Value> {
            let keys: BTreeSet<_> =
                places.iter().filter(|one| wanted(one)).map(|(_, key, _)| key.clone()).collect();
            keys.into_iter().map(|key| (key.clone(), leaves.value(&key))).collect()
        };
        let before = read(self);
        for (key, new) in changed {
            match new {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
        let after = read(self);
        let mut differences: Differences = Vec::new();
        for (number, key, sure) in &places {
            let of = |state: &BTreeMap<_, Value>| state.get(key).cloned().unwrap_or_default();
            let (before, after) = (of(&before), of(&after));
            if before == after && !sure {
                continue;
            }
            let difference = difference(&topics[*number], key, before, after);
            match differences.last_mut() {
                Some((last, own)) if last == number => own.push(difference),
                _ => differences.push((*number, vec![difference])),
            }
        }
        differences
    }

    /// The leaves that are not what they were, and what they become.
    fn changed(&self, change: &Change) -> BTreeMap<Vec<u8>, Option<Value>> {
        let mut changed = BTreeMap::new();
        for effect in change.effects() {
            if let ChangeEffect::Cleared(key) = effect {
                changed.extend(self.below(key).map(|(key, _)| (key.clone(), None)));
                if self.0.contains_key(key) {
                    changed.insert(key.to_vec(), None);
                }
            }
        }
        for effect in change.effects() {
            match effect {
                ChangeEffect::Put(key, stored) => {
                    let mut json = Vec::new();
                    Leaf::append_json(stored, &mut json).expect("a leaf of the journal");
                    let value = serde_json::from_slice(&json).expect("JSON");
                    changed.insert(key.to_vec(), Some(value));
                }
                ChangeEffect::Deleted(key) => {
                    changed.insert(key.to_vec(), None);
                }
                ChangeEffect::Cleared(_) => {}
            }
        }
        changed.retain(|key, new| self.0.get(key) != new.as_ref());
        changed
    }

    fn below(&self, key: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Value)> {
        let (mut first, mut end) = (key.to_vec(), key.to_vec());
        first.push(0);
        end.push(1);
        self.0.range(first..end)
    }

    /// The value at a path.
    fn value(&self, key: &[u8]) -> Value {
        if let Some(leaf) = self.0.get(key) {
            return leaf.clone();
        }
        for (at, _) in key.iter().enumerate().filter(|(_, byte)| **byte == 0) {
            if let Some(above) = self.0.get(&key[..at]) {
                let rest = text(&key[at + 1..]);
                return above.pointer(&format!("/{rest}")).cloned().unwrap_or_default();
            }
        }
        let mut whole = Value::Null;
        for (leaf, value) in self.below(key) {
            let names: Vec<String> = leaf[key.len() + 1..].split(|b| *b == 0).map(text).collect();
            put(&mut whole, &names, value.clone());
        }
        whole
    }

    /// What a snapshot of the topic must say.
    pub(super) fn snapshot(&self, topic: &Topic) -> Value {
        if topic.mode == Mode::Notify {
            return Value::Null;
        }
        let pattern: Vec<&str> = topic.segments().collect();
        let mut matches = BTreeSet::new();
        for key in self.0.keys().filter(|key| key.first() != Some(&b'_')) {
            let segments: Vec<&[u8]> = key.split(|byte| *byte == 0).collect();
            let deep = usize::from(topic.about == About::Child);
            if segments.len() >= pattern.len() + deep && fits(&pattern, &segments) {
                matches.insert(segments[..pattern.len()].join(&0));
            }
        }
        if topic.is_wild() {
            let members = matches.iter().map(|key| (text(key), self.value(key)));
            return Value::Object(members.collect());
        }
        match (topic.about, matches.first()) {
            (About::Child, None) => Value::Object(Map::new()),
            _ => self.value(&topic.path.replace('/', "\0").into_bytes()),
        }
    }
}

/// The place of a topic that a changed leaf concerns, and whether it surely changed.
fn place(topic: &Topic, leaf: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
    let pattern: Vec<&str> = topic.segments().collect();
    let depth = pattern.len();
    let common = depth.min(leaf.len());
    if !fits(&pattern[..common], &leaf[..common]) {
        return None;
    }
    match topic.about {
        About::Value if leaf.len() >= depth => Some((leaf[..depth].join(&0), true)),
        // A leaf above may be an array with the place in it.
        About::Value if !topic.is_wild() => {
            Some((topic.path.replace('/', "\0").into_bytes(), false))
        }
        About::Child if leaf.len() > depth => Some((leaf[..=depth].join(&0), true)),
        _ => None,
    }
}

fn fits(pattern: &[&str], segments: &[&[u8]]) -> bool {
    pattern.iter().zip(segments).all(|(own, name)| *own == "*" || own.as_bytes() == *name)
}

fn difference(topic: &Topic, key: &[u8], before: Value, after: Value) -> Difference {
    let (path, child) = match topic.about {
        About::Value => (text(key), None),
        About::Child => {
            let at = key.iter().rposition(|byte| *byte == 0).expect("a child has a parent");
            (text(&key[..at]), Some(text(&key[at + 1..])))
        }
    };
    Difference { path, child, before, after }
}

/// Segments as text.
fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).expect("paths are UTF-8").replace('\0', "/")
}

fn put(at: &mut Value, names: &[String], value: Value) {
    let Some((first, rest)) = names.split_first() else {
        *at = value;
        return;
    };
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    let Value::Object(members) = at else { unreachable!("just made") };
    put(members.entry(first.clone()).or_insert(Value::Null), rest, value);
}

/// What a value becomes by a patch of `{"relative/path": value | null}`.
pub(super) fn patched(before: &Value, patch: &Map<String, Value>) -> Value {
    let mut leaves = BTreeMap::new();
    flatten("", before, &mut leaves);
    for (path, new) in patch {
        let inside = |own: &str, of: &str| {
            of.is_empty() || own == of || own.strip_prefix(of).is_some_and(|it| it.starts_with('/'))
        };
        leaves.retain(|own, _| !inside(own, path) && !inside(path, own));
        flatten(path, new, &mut leaves);
    }
    let mut whole = Value::Null;
    for (path, value) in leaves {
        let names: Vec<String> = match path.as_str() {
            "" => Vec::new(),
            path => path.split('/').map(str::to_owned).collect(),
        };
        put(&mut whole, &names, value);
    }
    whole
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                flatten(&below, value, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_owned(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_sets_removes_and_replaces() {
        let before = json!({"a": {"b": 1, "c": 2}, "d": 3});
        let of = |patch: Value| patched(&before, patch.as_object().unwrap());
        assert_eq!(of(json!({"a/b": 5, "d": null})), json!({"a": {"b": 5, "c": 2}}));
        assert_eq!(of(json!({"a/b": null, "a/c": null})), json!({"d": 3}));
        assert_eq!(of(json!({"d/e": 4})), json!({"a": {"b": 1, "c": 2}, "d": {"e": 4}}));
        assert_eq!(of(json!({"a": 7})), json!({"a": 7, "d": 3}));
        assert_eq!(of(json!({"": [1]})), json!([1]));
        assert_eq!(of(json!({"": null})), Value::Null);
    }
}
