//! A receiver as a model: what it holds after its snapshot and each event, and what the tree says
//! it must hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use trellis_subscribe::{
    Acknowledgement, AcknowledgementKind, Event, EventKind, Mode, Pattern, SubscribeRequest,
};

/// The tree as JSON by rev: what was really there.
pub(super) type History = BTreeMap<u64, Value>;

/// One subscription as its receiver knows it.
pub(super) struct Watch {
    pub(super) request: SubscribeRequest,
    /// What the receiver holds: the value, the object of children, or by path with wildcards.
    held: Value,
    /// The last rev that it heard of.
    pub(super) rev: u64,
    pub(super) epoch: String,
    /// What it held after each rev; the first is that of a snapshot.
    log: Vec<(u64, Told, Value)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Snapshot,
    Event,
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("what is told is JSON")
}

impl Watch {
    pub(super) fn new(request: SubscribeRequest) -> Self {
        let (held, log) = (Value::Null, Vec::new());
        Self { request, held, rev: 0, epoch: String::new(), log }
    }

    /// Takes an answer; whatever was held before, after a resume it goes on.
    pub(super) fn acknowledged(&mut self, answer: &Acknowledgement) {
        if answer.kind == AcknowledgementKind::Resumed {
            assert_eq!(answer.data, "null");
            assert_eq!(answer.rev, self.rev, "it goes on where it was left");
        } else {
            self.held = parse(&answer.data);
            self.rev = answer.rev;
            self.log.push((answer.rev, Told::Snapshot, self.held.clone()));
        }
        self.epoch.clone_from(&answer.epoch);
    }

    /// The request that goes on from here.
    pub(super) fn resuming(&self) -> SubscribeRequest {
        self.request.clone().resume(self.rev, self.epoch.clone())
    }

    pub(super) fn told(&mut self, event: &Event) {
        assert!(event.rev > self.rev, "rev {} after {}", event.rev, self.rev);
        let Value::Array(events) = parse(&event.body) else { panic!("events are an array") };
        assert!(!events.is_empty());
        let order = ["removed", "added", "moved", "changed", "value"];
        let place = |event: &Value| order.iter().position(|kind| event["type"] == *kind).unwrap();
        assert!(events.is_sorted_by_key(place), "{events:?}");
        for one in &events {
            self.apply(one);
        }
        self.rev = event.rev;
        self.log.push((event.rev, Told::Event, self.held.clone()));
    }

    fn apply(&mut self, event: &Value) {
        if self.request.mode == Mode::Notify {
            assert!(event.get("value").is_none() && event.get("patch").is_none());
            return;
        }
        let held = if self.request.pattern.is_wild() {
            let at = event["path"].as_str().expect("a path").to_owned();
            assert_captures(&self.request.pattern, &at, &event["captures"]);
            member(&mut self.held, at)
        } else {
            &mut self.held
        };
        let held = match event["type"].as_str().expect("a type") {
            "value" => held,
            kind => {
                let key = event["key"].as_str().expect("a key").to_owned();
                let was = held.get(&key).is_some();
                assert_eq!(was, kind != "added", "{event} of {held}");
                member(held, key)
            }
        };
        if event["type"] == "removed" {
            *held = Value::Null;
        } else if let Some(patch) = event.get("patch") {
            for (at, value) in patch.as_object().expect("a patch is an object") {
                patched(held, at, value);
            }
        } else {
            *held = event["value"].clone();
        }
        prune(&mut self.held);
        let of_many = self.request.pattern.is_wild() || self.request.event == EventKind::Child;
        if of_many && self.held.is_null() {
            self.held = Value::Object(Map::new());
        }
    }

    /// Compares what is held with the tree as it is.
    pub(super) fn check_last(&self, tree: &Value) {
        if self.request.mode != Mode::Notify {
            assert_eq!(self.held, expected(&self.request, tree), "{:?}", self.request);
        }
    }

    /// Compares what was held at every rev with what was there.
    pub(super) fn check(&self, history: &History, what: &str) {
        let mut log = self.log.iter().peekable();
        let mut now: Option<&(u64, Told, Value)> = None;
        let mut before: Option<Value> = None;
        let mut tree_before = &Value::Null;
        for (rev, tree) in history {
            let mut moved = None;
            while let Some(step) = log.next_if(|step| step.0 <= *rev) {
                // A snapshot may be of a rev at which nothing changed, an event may not.
                assert!(step.1 == Told::Snapshot || step.0 == *rev, "{what}: {step:?} at {rev}");
                (now, moved) = (Some(step), Some(step.1));
            }
            let Some((_, _, held)) = now else { continue };
            let expected = expected(&self.request, tree);
            if self.request.mode != Mode::Notify {
                let request = &self.request;
                assert_eq!(
                    *held, expected,
                    "{what}: rev {rev} of {request:?}, told: {moved:?}: {tree_before} -> {tree}"
                );
            }
            if let Some(before) = before
                && moved != Some(Told::Snapshot)
            {
                let changed = before != expected;
                assert_eq!(
                    moved == Some(Told::Event),
                    changed,
                    "{what}: rev {rev} of {:?}: {before} -> {expected}",
                    self.request
                );
            }
            (before, tree_before) = (Some(expected), tree);
        }
        assert!(log.next().is_none(), "{what}: told of revs that were not");
    }
}

/// The member of an object, which it becomes.
fn member(object: &mut Value, name: String) -> &mut Value {
    if !is_object(object) {
        *object = Value::Object(Map::new());
    }
    object.as_object_mut().expect("made one").entry(name).or_insert(Value::Null)
}

/// An object with members, not the JSON of bytes.
fn is_object(value: &Value) -> bool {
    value.as_object().is_some_and(|members| !members.contains_key(".bytes"))
}

/// Applies one path of a patch.
pub(super) fn patched(base: &mut Value, at: &str, value: &Value) {
    let mut held = base;
    for name in at.split('/').filter(|name| !name.is_empty()) {
        if value.is_null() && held.get(name).is_none() {
            return;
        }
        held = member(held, name.to_owned());
    }
    *held = value.clone();
}

/// Removes nulls, and objects that lost their last member with them.
pub(super) fn prune(value: &mut Value) {
    let Value::Object(members) = value else { return };
    let had = !members.is_empty();
    for member in members.values_mut() {
        prune(member);
    }
    members.retain(|_, member| !member.is_null());
    if had && members.is_empty() {
        *value = Value::Null;
    }
}

fn assert_captures(pattern: &Pattern, at: &str, captures: &Value) {
    let text = pattern.to_string();
    let pairs = text.split('/').zip(at.split('/'));
    let expected: Vec<&str> = pairs.filter(|(own, _)| *own == "*").map(|(_, at)| at).collect();
    assert_eq!(*captures, Value::from(expected));
}

/// What a receiver must hold of a tree.
pub(super) fn expected(request: &SubscribeRequest, tree: &Value) -> Value {
    let pattern = request.pattern.to_string();
    let segments: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty()).collect();
    let mut places = Vec::new();
    find(tree, &segments, (String::new(), false), &mut places);
    let shown = |(_, value, in_array): &(String, Value, bool)| match request.event {
        EventKind::Value => value.clone(),
        EventKind::Child if is_object(value) && !in_array => value.clone(),
        EventKind::Child => Value::Object(Map::new()),
        EventKind::Query(_) => panic!("queries have a model of their own"),
    };
    if !request.pattern.is_wild() {
        let absent = (String::new(), Value::Null, false);
        return shown(places.first().unwrap_or(&absent));
    }
    let shown = places.into_iter().map(|place| (place.0.clone(), shown(&place)));
    let empty = Value::Object(Map::new());
    let of_value = request.event == EventKind::Value;
    Value::Object(shown.filter(|(_, value)| of_value || *value != empty).collect())
}

/// What is at the places that segments lead to, and whether inside an array: what an array holds
/// can be read, and is no object of the tree.
fn find(
    value: &Value,
    rest: &[&str],
    (at, in_array): (String, bool),
    places: &mut Vec<(String, Value, bool)>,
) {
    let Some((name, rest)) = rest.split_first() else {
        if !value.is_null() {
            places.push((at, value.clone(), in_array));
        }
        return;
    };
    let joined = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
    match value {
        Value::Object(members) if is_object(value) && *name == "*" && !in_array => {
            for (name, member) in members {
                find(member, rest, (joined(name), false), places);
            }
        }
        Value::Object(members) if is_object(value) => {
            if let Some(member) = members.get(*name) {
                find(member, rest, (joined(name), in_array), places);
            }
        }
        Value::Array(items) => {
            let item = name.parse::<usize>().ok().and_then(|place| items.get(place));
            if let Some(item) = item {
                find(item, rest, (joined(name), true), places);
            }
        }
        _ => {}
    }
}
