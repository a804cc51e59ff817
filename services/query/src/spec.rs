//! [`QuerySpec`]: a query, checked, and the bytes that stand for it.

use serde_json::{Map, Value, json};

use crate::field::Field;
use crate::filter::{Comparison, Filter, Test, leaf_json};
use crate::pattern::Pattern;

/// Items of a page when the query names no limit.
pub const LIMIT_DEFAULT: usize = 100;
/// Items of a page.
pub const LIMIT_MAX: usize = 1000;
/// Fields of an order.
pub const ORDER_MAX: usize = 4;
/// Conditions of a query, in all groups together.
pub const CONDITIONS_MAX: usize = 100;
/// Levels of groups in groups.
pub const GROUP_DEPTH_MAX: usize = 8;
/// Values of all `in` lists of a query together.
pub const IN_VALUES_MAX: usize = 1000;
/// Fields that are selected.
pub const SELECT_MAX: usize = 100;
/// Fields of each list of an aggregate.
pub const AGGREGATE_FIELDS_MAX: usize = 8;

/// A query: which children of a collection, in which order, and what of them.
///
/// ```
/// use trellis_query::QuerySpec;
///
/// let spec = QuerySpec::parse(
///     br#"{"path":"users","where":[["age",">=",18]],"orderBy":[["age","desc"]],"limit":20}"#,
/// )?;
/// assert_eq!(spec.limit, 20);
/// assert!(QuerySpec::parse(br#"{"path":"users","wher":[]}"#).is_err());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySpec {
    /// The collection: its children are the items. With `*`, several collections.
    pub path: Pattern,
    /// What an item must fit.
    pub filter: Filter,
    /// What items are sorted by, then by key and path in the direction of the last; by key alone
    /// when empty.
    pub order: Vec<Order>,
    /// 1 to 1,000 items.
    pub limit: usize,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Which fields an item's value has; everything when `None`, and no value when empty.
    pub select: Option<Vec<Field>>,
    /// What is asked about all matches instead of a page of them.
    pub totals: Option<Totals>,
}

/// A field and a direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    /// What is compared.
    pub field: Field,
    /// From the last to the first.
    pub descending: bool,
}

/// Figures over all matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Totals {
    /// How many there are.
    Count,
    /// Figures by group.
    Groups(Aggregate),
}

/// Figures by group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aggregate {
    /// What makes a group; one group of all when empty.
    pub group_by: Vec<Field>,
    /// Whether each group says how many it has.
    pub count: bool,
    /// Sums of the numbers.
    pub sum: Vec<Field>,
    /// The lowest values.
    pub min: Vec<Field>,
    /// The highest values.
    pub max: Vec<Field>,
    /// Means of the numbers.
    pub avg: Vec<Field>,
}

impl QuerySpec {
    /// All children of a collection, by key.
    #[must_use]
    pub const fn all(path: Pattern) -> Self {
        Self {
            path,
            filter: Filter::And(Vec::new()),
            order: Vec::new(),
            limit: LIMIT_DEFAULT,
            cursor: None,
            select: None,
            totals: None,
        }
    }

    /// The query as JSON, the same for the same query however it was written.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = self.identity_json();
        json.insert("limit".into(), self.limit.into());
        if let Some(cursor) = &self.cursor {
            json.insert("cursor".into(), cursor.clone().into());
        }
        if let Some(select) = &self.select {
            json.insert("select".into(), names(select));
        }
        match &self.totals {
            None => {}
            Some(Totals::Count) => {
                json.insert("count".into(), true.into());
            }
            Some(Totals::Groups(aggregate)) => {
                json.insert("aggregate".into(), aggregate.to_json());
            }
        }
        if self.totals.is_some() {
            json.remove("limit");
            json.remove("orderBy");
        }
        Value::Object(json)
    }

    /// What two pages of one query have in common: path, conditions and order.
    fn identity_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("path".into(), self.path.to_string().into());
        if let Filter::And(parts) = &self.filter
            && !parts.is_empty()
        {
            json.insert("where".into(), parts.iter().map(Filter::to_json).collect());
        }
        if !self.order.is_empty() {
            json.insert("orderBy".into(), self.order.iter().map(Order::to_json).collect());
        }
        json
    }

    /// 16 bytes that are the same for the same query, everything included: equal ones may share an
    /// evaluation.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        short_hash(self.to_json().to_string().as_bytes())
    }

    /// 16 bytes that are the same for all pages of a query.
    pub(crate) fn page_fingerprint(&self) -> [u8; 16] {
        short_hash(Value::Object(self.identity_json()).to_string().as_bytes())
    }

    /// Whether equal positions are ordered from the last key to the first.
    pub(crate) fn ties_descend(&self) -> bool {
        self.order.last().is_some_and(|order| order.descending)
    }

    /// The fields that have to be read to know whether and where an item belongs.
    pub(crate) fn needed(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.filter.fields(&mut |field| fields.push(field.clone()));
        fields.extend(self.order.iter().map(|order| order.field.clone()));
        if let Some(Totals::Groups(aggregate)) = &self.totals {
            let lists = [&aggregate.group_by, &aggregate.sum, &aggregate.min];
            let lists = lists.into_iter().chain([&aggregate.max, &aggregate.avg]);
            fields.extend(lists.flatten().cloned());
        }
        fields.sort();
        fields.dedup();
        fields
    }
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(blake3::hash(bytes).as_bytes()) {
        *to = *from;
    }
    short
}

fn names(fields: &[Field]) -> Value {
    fields.iter().map(Field::to_string).collect()
}

impl Order {
    /// From the lowest to the highest.
    #[must_use]
    pub const fn ascending(field: Field) -> Self {
        Self { field, descending: false }
    }

    fn to_json(&self) -> Value {
        json!([self.field.to_string(), if self.descending { "desc" } else { "asc" }])
    }

    /// The field alone where it ascends.
    pub(crate) fn to_json_short(&self) -> Value {
        if self.descending { self.to_json() } else { self.field.to_string().into() }
    }
}

impl Aggregate {
    fn to_json(&self) -> Value {
        let mut json = Map::new();
        let lists = [
            ("groupBy", &self.group_by),
            ("sum", &self.sum),
            ("min", &self.min),
            ("max", &self.max),
            ("avg", &self.avg),
        ];
        for (name, fields) in lists {
            if !fields.is_empty() {
                json.insert(name.into(), names(fields));
            }
        }
        if self.count {
            json.insert("count".into(), true.into());
        }
        Value::Object(json)
    }
}

impl Filter {
    fn to_json(&self) -> Value {
        match self {
            Self::And(parts) => {
                json!({ "and": parts.iter().map(Self::to_json).collect::<Value>() })
            }
            Self::Or(parts) => json!({ "or": parts.iter().map(Self::to_json).collect::<Value>() }),
            Self::Field(field, test) => test.to_json(&field.to_string()),
        }
    }
}

impl Test {
    fn to_json(&self, field: &str) -> Value {
        match self {
            Self::Equal(value) => json!([field, "=", leaf_json(value)]),
            Self::NotEqual(value) => json!([field, "!=", leaf_json(value)]),
            Self::Compare(comparison, value) => {
                json!([field, comparison.name(), leaf_json(value)])
            }
            Self::In { values, or_absent } => {
                let mut list: Vec<Value> = values.iter().map(leaf_json).collect();
                if *or_absent {
                    list.push(Value::Null);
                }
                json!([field, "in", list])
            }
            Self::Between(from, to) => json!([field, "between", [leaf_json(from), leaf_json(to)]]),
            Self::StartsWith(prefix) => json!([field, "starts-with", prefix]),
            Self::Contains(value) => json!([field, "contains", leaf_json(value)]),
            Self::Exists => json!([field, "exists"]),
            Self::Absent => json!([field, "absent"]),
        }
    }
}

impl Comparison {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}
