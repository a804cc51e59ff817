//! What the dashboard shows: the countries and the largest of them, put together from events alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use trellis_client::{Change, ChangeKind, Changes, SubscriptionEvent};

/// The children of a path, as a child subscription tells of them.
#[derive(Debug, Default)]
pub(crate) struct Countries {
    pub(crate) all: BTreeMap<String, Value>,
    /// The commits told of, in order.
    pub(crate) revs: Vec<u64>,
    /// How often everything had to be told anew: each one is a gap.
    pub(crate) resets: u64,
}

impl Countries {
    pub(crate) fn apply(&mut self, event: SubscriptionEvent) {
        match event {
            SubscriptionEvent::Snapshot { data, .. } => self.all = object(data),
            SubscriptionEvent::Reset { data, .. } => {
                self.resets += 1;
                self.all = object(data);
            }
            SubscriptionEvent::Changes(Changes { rev, changes, .. }) => {
                self.revs.push(rev);
                for change in changes {
                    let (Some(key), value) = (change.key, change.value) else { continue };
                    match (change.kind, value) {
                        (ChangeKind::Removed, _) => drop(self.all.remove(&key)),
                        (_, Some(value)) => drop(self.all.insert(key, value)),
                        (_, None) => {}
                    }
                }
            }
        }
    }
}

/// The window of a query, in its order.
#[derive(Debug, Default)]
pub(crate) struct Largest {
    pub(crate) window: Vec<(String, Value)>,
    /// The newest commit told of.
    pub(crate) rev: u64,
}

impl Largest {
    pub(crate) fn apply(&mut self, event: SubscriptionEvent) {
        match event {
            SubscriptionEvent::Snapshot { data, rev } | SubscriptionEvent::Reset { data, rev } => {
                self.rev = rev;
                self.window = items(&data);
            }
            SubscriptionEvent::Changes(Changes { rev, changes, .. }) => {
                self.rev = rev;
                for change in changes {
                    self.change(change);
                }
            }
        }
    }

    /// Removed, then added and moved with the key before it, then changed: in the order told.
    fn change(&mut self, change: Change) {
        let Some(key) = change.key else { return };
        let known = self.window.iter().position(|(own, _)| *own == key);
        let old = match (change.kind, known) {
            (ChangeKind::Changed, Some(at)) => {
                if let (Some(slot), Some(value)) = (self.window.get_mut(at), change.value) {
                    slot.1 = value;
                }
                return;
            }
            (_, Some(at)) => Some(self.window.remove(at)),
            (_, None) => None,
        };
        let value = match (change.kind, change.value, old) {
            (ChangeKind::Added | ChangeKind::Moved, Some(value), _)
            | (ChangeKind::Moved, None, Some((_, value))) => value,
            _ => return,
        };
        let after = change.after.and_then(|after| {
            self.window.iter().position(|(own, _)| *own == after).map(|at| at + 1)
        });
        self.window.insert(after.unwrap_or(0), (key, value));
    }
}

/// The dashboard as text.
pub(crate) fn render(countries: &Countries, largest: &Largest, server: &str) -> String {
    let mut inhabitants = BTreeMap::<&str, u64>::new();
    for country in countries.all.values() {
        let region = country.get("region").and_then(Value::as_str).unwrap_or("elsewhere");
        let thousands = country.get("thousands").and_then(Value::as_u64).unwrap_or(0);
        *inhabitants.entry(region).or_default() += thousands;
    }
    let commits = countries.revs.len();
    let mut text = format!("{} countries, {commits} commits seen; {server}\n", countries.all.len());
    for (region, thousands) in inhabitants {
        let bar = usize::try_from(thousands / 100_000).unwrap_or(0).min(60);
        let _infallible = writeln!(text, "  {region:<10} {thousands:>10} {}", "#".repeat(bar));
    }
    for (place, (code, country)) in largest.window.iter().enumerate() {
        let name = country.get("name").and_then(Value::as_str).unwrap_or("?");
        let thousands = country.get("thousands").and_then(Value::as_u64).unwrap_or(0);
        let _infallible = writeln!(text, "  {}. {code} {name:<20} {thousands:>10}", place + 1);
    }
    text
}

fn object(data: Value) -> BTreeMap<String, Value> {
    match data {
        Value::Object(object) => object.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

fn items(data: &Value) -> Vec<(String, Value)> {
    let items = data.get("items").and_then(Value::as_array).into_iter().flatten();
    let pairs = items.filter_map(|item| {
        Some((item.get("key")?.as_str()?.to_owned(), item.get("value")?.clone()))
    });
    pairs.collect()
}
