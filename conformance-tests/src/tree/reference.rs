//! What a tree means, as plainly as possible: a sorted map of leaves.

use std::collections::BTreeMap;

use serde_json::Value;

/// Leaves by their segments; an array is a leaf, and so is `{}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reference(BTreeMap<Vec<String>, Value>);

fn split(at: &str) -> Vec<String> {
    at.split('/').map(str::to_owned).collect()
}

/// The leaves of a value; nulls vanish.
fn flatten(at: Vec<String>, value: &Value, out: &mut Vec<(Vec<String>, Value)>) {
    match value {
        Value::Null => {}
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let mut below = at.clone();
                below.push(name.clone());
                flatten(below, member, out);
            }
        }
        leaf => out.push((at, leaf.clone())),
    }
}

impl Reference {
    /// Replaces what is at a path; `false`, in an undefined state, when it leads into an array.
    #[must_use]
    pub(super) fn set(&mut self, at: &str, value: &Value) -> bool {
        let at = split(at);
        let mut new = Vec::new();
        flatten(at.clone(), value, &mut new);
        self.0.retain(|key, _| !key.starts_with(&at));
        if new.is_empty() {
            return true;
        }
        for depth in 1..at.len() {
            if let Some(Value::Array(_)) = self.0.get(&at[..depth]) {
                return false;
            }
            self.0.remove(&at[..depth]);
        }
        self.0.extend(new);
        true
    }

    /// The leaf at a path.
    pub(super) fn leaf(&self, at: &str) -> Option<&Value> {
        self.0.get(&split(at))
    }

    /// Whether there is a value, elements of arrays aside.
    pub(super) fn exists(&self, at: &str) -> bool {
        let at = split(at);
        self.0.range(at.clone()..).next().is_some_and(|(key, _)| key.starts_with(&at))
    }

    /// Every leaf in order, as path and JSON.
    pub(super) fn leaves(&self) -> Vec<(String, Value)> {
        self.0.iter().map(|(key, value)| (key.join("/"), value.clone())).collect()
    }
}
