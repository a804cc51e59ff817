//! [`Plan`]: the way a query is answered, chosen from what it asks and which indexes are there.
//!
//! An index serves the fields that are held to one value, then either a range of the next field or
//! the order by what follows, or both. The collection itself serves ranges and order of the keys.

use std::sync::Arc;

use bytes::Bytes;

use crate::bounds::{Interval, Intervals, bounds, is_settled_by};
use crate::definition::{INDEX_FIELDS_MAX, IndexDefinition};
use crate::encoding::invert_from;
use crate::field::Field;
use crate::spec::{Order, QuerySpec, Totals};

/// How a query is answered.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) source: Source,
    /// Where the items' keys may lie.
    pub(crate) keys: Intervals,
    /// Items of one collection come in the query's order.
    pub(crate) in_order: bool,
    /// The source is read from its end.
    pub(crate) reverse: bool,
    /// A plan in the query's order, where this one narrows more and is in none: it may find a page
    /// of items where this one has too many to look at.
    pub(crate) otherwise: Option<Box<Plan>>,
}

/// What is read.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Nothing: the conditions contradict each other.
    Nothing,
    /// The collections themselves.
    Collection,
    /// An index.
    Index(IndexRange),
}

/// The part of an index that is read, in each collection.
#[derive(Debug, Clone)]
pub(crate) struct IndexRange {
    pub(crate) index: Arc<IndexDefinition>,
    /// The encodings of the fields that are held to one value.
    pub(crate) prefix: Vec<u8>,
    /// How many fields that are.
    pub(crate) prefix_fields: usize,
    /// Where the next field's may lie behind the prefix, in the index's direction, ascending.
    pub(crate) intervals: Vec<Interval>,
    /// Every entry in the range fits the query: no item has to be read to know.
    pub(crate) settled: bool,
}

/// The query's order without the fields that are held to one value, up to `$key`.
fn open_order(spec: &QuerySpec) -> Vec<Order> {
    let open = spec.order.iter().filter(|order| {
        order.field == Field::Key || bounds(&spec.filter, &order.field).point().is_none()
    });
    let mut orders = Vec::new();
    for order in open {
        orders.push(order.clone());
        if order.field == Field::Key {
            break;
        }
    }
    if orders.last().is_none_or(|order| order.field != Field::Key) {
        orders.push(Order { field: Field::Key, descending: spec.ties_descend() });
    }
    orders
}

pub(crate) fn plan(spec: &QuerySpec, ready: &[Arc<IndexDefinition>]) -> Plan {
    let keys = bounds(&spec.filter, &Field::Key);
    let mut empty = keys.is_empty();
    spec.filter.fields(&mut |field| empty |= bounds(&spec.filter, field).is_empty());
    let orders = open_order(spec);
    if empty {
        let source = Source::Nothing;
        return Plan { source, keys, in_order: true, reverse: false, otherwise: None };
    }
    let first = orders.first().filter(|order| order.field == Field::Key);
    let counts = spec.totals == Some(Totals::Count);
    let own = Candidate {
        score: key_score(&keys),
        plan: Plan {
            source: Source::Collection,
            // A count has no order, so that an index whose entries can be counted goes before.
            in_order: first.is_some() && !spec.path.has_wildcard() && !counts,
            reverse: first.is_some_and(|order| order.descending),
            keys: keys.clone(),
            otherwise: None,
        },
    };
    let fitting = ready.iter().filter(|index| index.path.covers(&spec.path));
    let indexed = fitting.filter_map(|index| candidate(spec, &orders, &keys, index));
    let all: Vec<Candidate> = std::iter::once(own.clone()).chain(indexed).collect();
    let in_order = all.iter().filter(|candidate| candidate.plan.in_order).cloned();
    let in_order = in_order.reduce(Candidate::better);
    let mut best = all.into_iter().fold(own, Candidate::better).plan;
    if !best.in_order && spec.totals.is_none() {
        best.otherwise = in_order.map(|candidate| Box::new(candidate.plan));
    }
    best
}

/// A plan and how much it narrows what is read.
#[derive(Clone)]
struct Candidate {
    score: usize,
    plan: Plan,
}

impl Candidate {
    fn rank(&self) -> (usize, bool) {
        (self.score, self.plan.in_order)
    }

    /// Of equal ones the first: the collection itself costs least.
    fn better(self, next: Self) -> Self {
        if next.rank() > self.rank() { next } else { self }
    }
}

fn key_score(keys: &Intervals) -> usize {
    match (keys.is_all(), keys.point()) {
        (_, Some(_)) => 2 * INDEX_FIELDS_MAX,
        (true, _) => 0,
        (false, None) => 2,
    }
}

fn candidate(
    spec: &QuerySpec,
    orders: &[Order],
    keys: &Intervals,
    index: &Arc<IndexDefinition>,
) -> Option<Candidate> {
    let mut prefix = Vec::new();
    let mut kept: Vec<&Field> = Vec::new();
    let mut fields = index.fields.iter().peekable();
    while let Some(order) = fields.next_if(|order| order.field != Field::Key) {
        let intervals = bounds(&spec.filter, &order.field);
        let Some(point) = intervals.point() else {
            let rest: Vec<Order> = std::iter::once(order).chain(fields).cloned().collect();
            kept.push(&order.field);
            return Some(build(spec, orders, keys, index, prefix, kept, &rest, &intervals));
        };
        let start = prefix.len();
        prefix.extend_from_slice(point);
        if order.descending {
            invert_from(&mut prefix, start);
        }
        kept.push(&order.field);
    }
    let rest: Vec<Order> = fields.cloned().collect();
    Some(build(spec, orders, keys, index, prefix, kept, &rest, &Intervals::all()))
}

#[allow(clippy::too_many_arguments, reason = "the parts of one decision")]
fn build(
    spec: &QuerySpec,
    orders: &[Order],
    keys: &Intervals,
    index: &Arc<IndexDefinition>,
    prefix: Vec<u8>,
    kept: Vec<&Field>,
    rest: &[Order],
    intervals: &Intervals,
) -> Candidate {
    let prefix_fields = index.fields.len() - rest.len();
    let narrowed = usize::from(!intervals.is_all());
    let descending = rest.first().is_some_and(|order| order.descending);
    let mut parts: Vec<Interval> = intervals.iter().cloned().collect();
    if descending {
        parts = parts.iter().rev().map(Interval::inverted).collect();
    }
    let reverse = reads_in_order(orders, rest);
    let settled = is_settled_by(&spec.filter, &kept);
    let source = Source::Index(IndexRange {
        index: Arc::clone(index),
        prefix,
        prefix_fields,
        intervals: parts,
        settled,
    });
    // A count that needs nothing but entries is served by any index, as an order is.
    let counts = spec.totals == Some(Totals::Count);
    let plan = Plan {
        source,
        keys: keys.clone(),
        in_order: if counts { settled } else { reverse.is_some() },
        reverse: reverse.unwrap_or(false),
        otherwise: None,
    };
    Candidate { score: 2 * (prefix_fields + narrowed), plan }
}

/// Whether the fields of an index behind its prefix, then the child's key, stand in the order that
/// is asked for: `Some(true)` when it is so backwards.
fn reads_in_order(orders: &[Order], rest: &[Order]) -> Option<bool> {
    let key = Order::ascending(Field::Key);
    let own = rest.iter().chain(std::iter::once(&key));
    let mut backwards = None;
    let mut left = orders.iter();
    for have in own {
        let want = left.next()?;
        if want.field != have.field {
            return None;
        }
        let turned = want.descending != have.descending;
        if *backwards.get_or_insert(turned) != turned {
            return None;
        }
        if want.field == Field::Key {
            break;
        }
    }
    if left.next().is_none() { backwards } else { None }
}

/// The index that would serve the query, if any can.
pub(crate) fn suggestion(spec: &QuerySpec) -> Option<IndexDefinition> {
    let mut fields: Vec<Order> = Vec::new();
    let mut add = |order: Order| {
        if fields.len() < INDEX_FIELDS_MAX && fields.iter().all(|own| own.field != order.field) {
            fields.push(order);
        }
    };
    let mut ranges = Vec::new();
    spec.filter.fields(&mut |field| {
        let intervals = bounds(&spec.filter, field);
        match (field, intervals.point()) {
            (Field::Key, _) => {}
            (_, Some(_)) => add(Order::ascending(field.clone())),
            (_, None) if !intervals.is_all() => ranges.push(field.clone()),
            _ => {}
        }
    });
    let mut orders = open_order(spec);
    orders.retain(|order| order.field != Field::Key);
    // Where all descend, the index is read backwards; where they differ, it has to say so.
    let mixed = orders.iter().any(|order| order.descending != spec.ties_descend());
    if orders.is_empty() {
        ranges.into_iter().take(1).for_each(|field| add(Order::ascending(field)));
    }
    for order in orders {
        let descending = mixed && order.descending != spec.ties_descend();
        add(Order { descending, ..order });
    }
    let whole = is_settled_by(&spec.filter, &[]);
    // Groups read each item, whatever leads there.
    let serves = match &spec.totals {
        Some(Totals::Count) => true,
        Some(Totals::Groups(_)) => false,
        None => spec.path.has_wildcard(),
    };
    if fields.is_empty() && whole && serves {
        fields.push(Order::ascending(Field::Key));
    }
    IndexDefinition::new(spec.path.clone(), fields).ok()
}

impl IndexRange {
    /// The encoding of one of the query's fields in an entry, ascending.
    pub(crate) fn value(&self, entry: &[u8], field: &Field) -> Option<Bytes> {
        let mut rest = entry;
        for order in &self.index.fields {
            let len = crate::encoding::encoded_len(rest, order.descending)?;
            if order.field == *field {
                let mut own = rest.get(..len)?.to_vec();
                if order.descending {
                    invert_from(&mut own, 0);
                }
                return Some(own.into());
            }
            rest = rest.get(len..)?;
        }
        None
    }
}
