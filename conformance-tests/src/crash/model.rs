//! What must be in the tree: every commit of which is known that it happened, in the order of revs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::work::{Change, Demand, Task};

/// The leaves that there must be, as path and JSON text.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    leaves: BTreeMap<String, String>,
    /// When paths end, in milliseconds since 1970.
    ends: BTreeMap<String, u64>,
}

/// Entries at and below a path.
fn below<V>(map: &BTreeMap<String, V>, path: &str) -> Vec<String> {
    // What follows `/` is `0`: everything below `a` lies in `a/ .. a0`.
    let inside = map.range(format!("{path}/")..format!("{path}0"));
    let inside = inside.map(|(key, _)| key.clone());
    map.get_key_value(path).map(|(key, _)| key.clone()).into_iter().chain(inside).collect()
}

impl Model {
    /// Does what a commit did; `said` is what it answered.
    ///
    /// # Errors
    /// When the commit could not have happened here, or answered something else.
    pub(super) fn apply(&mut self, task: &Task, said: Option<&[String]>) -> Result<(), String> {
        for demand in &task.demands {
            if !self.holds(demand) {
                return Err(format!("{demand:?} did not hold where the commit was"));
            }
        }
        let mut said = said.map(|said| said.iter());
        for change in &task.changes {
            let mut next = || said.as_mut().map(|said| said.next().cloned());
            match change {
                Change::Put(at, value) => self.put(at, value),
                Change::Lease(at, value, ends_ms) => {
                    self.put(at, value);
                    self.ends.insert(at.clone(), *ends_ms);
                }
                Change::Many(updates) => updates.iter().for_each(|(at, value)| self.put(at, value)),
                Change::Delete(at) => self.remove(at),
                Change::Add(at, by) => {
                    let before = self.leaves.get(at).map_or(0, |text| text.parse().unwrap());
                    let sum: i64 = before + by;
                    self.put(at, &json!(sum));
                    if let Some(answer) = next()
                        && answer.as_deref() != Some(sum.to_string().as_str())
                    {
                        return Err(format!("{at} became {sum}, answered was {answer:?}"));
                    }
                }
                Change::Push(at, value) => {
                    let id = next().flatten().ok_or("a push without an id")?;
                    self.put(&format!("{at}/{id}"), value);
                }
            }
        }
        Ok(())
    }

    fn holds(&self, demand: &Demand) -> bool {
        match demand {
            Demand::Absent(at) => below(&self.leaves, at).is_empty(),
            Demand::Exists(at) => !below(&self.leaves, at).is_empty(),
            Demand::Is(at, value) => self.leaves.get(at) == Some(&value.to_string()),
        }
    }

    fn remove(&mut self, at: &str) {
        for key in below(&self.leaves, at) {
            self.leaves.remove(&key);
        }
        for key in below(&self.ends, at) {
            self.ends.remove(&key);
        }
    }

    fn put(&mut self, at: &str, value: &Value) {
        self.remove(at);
        self.flatten(at, value);
    }

    fn flatten(&mut self, at: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.flatten(&format!("{at}/{name}"), member);
                }
            }
            leaf => drop(self.leaves.insert(at.to_owned(), leaf.to_string())),
        }
    }

    /// When a leaf ends, by its own path or by one above it.
    fn ends_ms(&self, leaf: &str) -> Option<u64> {
        let above = leaf.match_indices('/').map(|(at, _)| &leaf[..at]);
        above.chain([leaf]).filter_map(|path| self.ends.get(path)).min().copied()
    }

    /// How a tree that was read between two times differs from this; at most a few places.
    pub(super) fn differs(
        &self,
        found: &[(String, String)],
        (before_ms, after_ms): (u64, u64),
    ) -> Vec<String> {
        let found: BTreeMap<_, _> = found.iter().map(|(at, text)| (at, text)).collect();
        let mut places = Vec::new();
        for (at, text) in &self.leaves {
            let there = found.get(at).map(|text| text.as_str());
            let ends_ms = self.ends_ms(at);
            let over = ends_ms.is_some_and(|ends_ms| ends_ms <= before_ms);
            let may_be_over = ends_ms.is_some_and(|ends_ms| ends_ms <= after_ms);
            match there {
                Some(_) if over => places.push(format!("{at} is over and still there")),
                Some(there) if there != text => {
                    places.push(format!("{at} is {there}, must be {text}"));
                }
                None if !may_be_over => places.push(format!("{at} is gone, must be {text}")),
                Some(_) | None => {}
            }
        }
        for (at, text) in found {
            if !self.leaves.contains_key(at) {
                places.push(format!("{at} is {text}, must not be there"));
            }
        }
        places.truncate(12);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(changes: Vec<Change>) -> Task {
        Task { key: None, demands: Vec::new(), changes }
    }

    fn put(at: &str, value: Value) -> Change {
        Change::Put(at.into(), value)
    }

    #[test]
    fn what_was_cleared_must_not_be_there() {
        let mut model = Model::default();
        let first = task(vec![put("a/b", json!({"c": 1, "d": 2})), put("a!", json!(3))]);
        model.apply(&first, None).unwrap();
        let found = [("a!", "3"), ("a/b/c", "1"), ("a/b/d", "2")];
        let found: Vec<_> = found.map(|(at, text)| (at.to_owned(), text.to_owned())).into();
        assert!(model.differs(&found, (0, 0)).is_empty());
        model.apply(&task(vec![Change::Delete("a".into())]), None).unwrap();
        assert_eq!(model.differs(&found, (0, 0)).len(), 2);
        assert!(model.differs(&found[..1], (0, 0)).is_empty());
    }

    #[test]
    fn a_lease_is_there_or_due() {
        let mut model = Model::default();
        let lease = Change::Lease("l".into(), json!({"x": 1}), 100);
        model.apply(&task(vec![lease]), None).unwrap();
        let there = [("l/x".to_owned(), "1".to_owned())];
        assert!(model.differs(&there, (90, 99)).is_empty());
        assert_eq!(model.differs(&[], (90, 99)).len(), 1, "gone too early");
        assert!(model.differs(&[], (99, 100)).is_empty(), "may be due");
        assert!(model.differs(&there, (99, 100)).is_empty());
        assert_eq!(model.differs(&there, (100, 101)).len(), 1, "still there");
        model.apply(&task(vec![put("l", json!(5))]), None).unwrap();
        assert_eq!(model.differs(&[], (100, 101)).len(), 1, "no lease any more");
    }

    #[test]
    fn a_sum_must_be_what_was_answered_and_a_demand_must_have_held() {
        let mut model = Model::default();
        let add = task(vec![Change::Add("sum".into(), 2)]);
        model.apply(&add, Some(&["2".into()])).unwrap();
        assert!(model.clone().apply(&add, Some(&["2".into()])).is_err());
        let demands = vec![Demand::Absent("sum".into())];
        assert!(model.apply(&Task { key: None, demands, changes: Vec::new() }, None).is_err());
    }
}
