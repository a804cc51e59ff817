//! [`Groups`]: figures over the matches, by group.
//!
//! Invariant: what the groups hold is bounded, in number and in bytes, whatever is stored.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trellis_engine_traits::Result;
use trellis_tree::Leaf;

use crate::encoding::FieldValue;
use crate::errors::too_large;
use crate::field::Field;
use crate::filter::leaf_json;
use crate::spec::Aggregate;

/// Groups of an aggregate.
pub const GROUPS_MAX: usize = 1000;
/// Bytes of the values that all groups keep.
pub const GROUPS_BYTES_MAX: usize = 1 << 20;

/// The values that make a group, compared whole.
#[derive(Debug, Clone, PartialEq)]
struct GroupKey(Vec<FieldValue>);

impl Eq for GroupKey {}

impl PartialOrd for GroupKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for GroupKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(a, b)| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

fn compare(a: &FieldValue, b: &FieldValue) -> Ordering {
    let rank = |value: &FieldValue| match value {
        FieldValue::Absent => 0,
        FieldValue::Leaf(Leaf::EmptyObject) | FieldValue::Object => 2,
        FieldValue::Leaf(_) => 1,
    };
    match (a, b) {
        (FieldValue::Leaf(x), FieldValue::Leaf(y)) => x.compare(y),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Figures that grow item by item.
#[derive(Debug)]
pub(crate) struct Groups {
    aggregate: Aggregate,
    groups: BTreeMap<GroupKey, Figures>,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Figures {
    count: u64,
    sums: Vec<Sum>,
    means: Vec<Sum>,
    lowest: Vec<Option<Leaf>>,
    highest: Vec<Option<Leaf>>,
}

/// A sum: whole numbers exactly, all others as f64 with what rounding took kept aside.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    whole: i128,
    fraction: f64,
    rounding: f64,
    any_fraction: bool,
    count: u64,
}

impl Sum {
    fn add(&mut self, leaf: &Leaf) {
        match leaf {
            Leaf::Int(number) => self.whole += i128::from(*number),
            Leaf::Float(number) => {
                self.any_fraction = true;
                let sum = self.fraction + number;
                let (large, small) = if self.fraction.abs() >= number.abs() {
                    (self.fraction, *number)
                } else {
                    (*number, self.fraction)
                };
                self.rounding += (large - sum) + small;
                self.fraction = sum;
            }
            _ => return,
        }
        self.count += 1;
    }

    #[allow(clippy::cast_precision_loss, reason = "beyond i64 a number is an f64 by contract")]
    fn total(&self) -> f64 {
        self.whole as f64 + (self.fraction + self.rounding)
    }

    /// Null where the sum is beyond every number.
    fn sum_json(&self) -> Value {
        match i64::try_from(self.whole) {
            Ok(whole) if !self.any_fraction => Value::from(whole),
            _ => Value::from(self.total()),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a count of items is far below 2^53")]
    fn mean_json(&self) -> Value {
        if self.count == 0 { Value::Null } else { Value::from(self.total() / self.count as f64) }
    }
}

fn size(value: &FieldValue) -> usize {
    match value {
        FieldValue::Leaf(leaf) => leaf_size(leaf),
        FieldValue::Absent | FieldValue::Object => 8,
    }
}

fn leaf_size(leaf: &Leaf) -> usize {
    match leaf {
        Leaf::String(text) | Leaf::Array(text) => text.len(),
        Leaf::Bytes(bytes) => bytes.len(),
        Leaf::Bool(_) | Leaf::Int(_) | Leaf::Float(_) | Leaf::EmptyObject => 8,
    }
}

impl Groups {
    pub(crate) fn new(aggregate: &Aggregate) -> Self {
        let mut groups = Self { aggregate: aggregate.clone(), groups: BTreeMap::new(), bytes: 0 };
        if aggregate.group_by.is_empty() {
            groups.groups.insert(GroupKey(Vec::new()), Figures::new(aggregate));
        }
        groups
    }

    /// Takes an item.
    ///
    /// # Errors
    /// `TooLarge` when there are too many groups or they hold too much.
    pub(crate) fn take<'a>(&mut self, value: impl Fn(&Field) -> &'a FieldValue) -> Result<()> {
        let key =
            GroupKey(self.aggregate.group_by.iter().map(|field| value(field).clone()).collect());
        if !self.groups.contains_key(&key) {
            if self.groups.len() >= GROUPS_MAX {
                let message = "the aggregate has too many groups; narrow the query";
                return Err(too_large(message, "groups_max", GROUPS_MAX));
            }
            self.bytes += key.0.iter().map(size).sum::<usize>();
        }
        let figures = self.groups.entry(key).or_insert_with(|| Figures::new(&self.aggregate));
        figures.count += 1;
        let sums =
            [(&self.aggregate.sum, &mut figures.sums), (&self.aggregate.avg, &mut figures.means)];
        for (fields, sums) in sums {
            for (field, sum) in fields.iter().zip(sums) {
                if let FieldValue::Leaf(leaf) = value(field) {
                    sum.add(leaf);
                }
            }
        }
        let ends = [
            (&self.aggregate.min, &mut figures.lowest, Ordering::Less),
            (&self.aggregate.max, &mut figures.highest, Ordering::Greater),
        ];
        for (fields, kept, better) in ends {
            for (field, kept) in fields.iter().zip(kept) {
                let FieldValue::Leaf(leaf) = value(field) else { continue };
                let old = kept.as_ref();
                if old.is_none_or(|old| leaf.compare(old) == better) {
                    self.bytes = (self.bytes + leaf_size(leaf))
                        .saturating_sub(kept.as_ref().map_or(0, leaf_size));
                    *kept = Some(leaf.clone());
                }
            }
        }
        if self.bytes > GROUPS_BYTES_MAX {
            let message = "the aggregate's values are too large; narrow the query";
            return Err(too_large(message, "groups_bytes_max", GROUPS_BYTES_MAX));
        }
        Ok(())
    }

    pub(crate) fn to_json(&self) -> Value {
        let groups = self.groups.iter().map(|(key, figures)| {
            let key: Vec<Value> = key.0.iter().map(value_json).collect();
            figures.to_json(&self.aggregate, key)
        });
        json!({ "groups": groups.collect::<Vec<Value>>() })
    }
}

impl Figures {
    fn new(aggregate: &Aggregate) -> Self {
        Self {
            count: 0,
            sums: vec![Sum::default(); aggregate.sum.len()],
            means: vec![Sum::default(); aggregate.avg.len()],
            lowest: vec![None; aggregate.min.len()],
            highest: vec![None; aggregate.max.len()],
        }
    }

    fn to_json(&self, aggregate: &Aggregate, key: Vec<Value>) -> Value {
        let mut json = Map::new();
        json.insert("key".into(), key.into());
        if aggregate.count {
            json.insert("count".into(), self.count.into());
        }
        let mut add = |name: &str, fields: &[Field], values: Vec<Value>| {
            if !fields.is_empty() {
                let members = fields.iter().map(Field::to_string).zip(values);
                json.insert(name.into(), members.collect::<Map<_, _>>().into());
            }
        };
        let end = |leaf: &Option<Leaf>| leaf.as_ref().map_or(Value::Null, leaf_json);
        add("sum", &aggregate.sum, self.sums.iter().map(Sum::sum_json).collect());
        add("min", &aggregate.min, self.lowest.iter().map(end).collect());
        add("max", &aggregate.max, self.highest.iter().map(end).collect());
        add("avg", &aggregate.avg, self.means.iter().map(Sum::mean_json).collect());
        Value::Object(json)
    }
}

fn value_json(value: &FieldValue) -> Value {
    match value {
        FieldValue::Absent => Value::Null,
        FieldValue::Leaf(leaf) => leaf_json(leaf),
        FieldValue::Object => Value::Object(Map::new()),
    }
}
