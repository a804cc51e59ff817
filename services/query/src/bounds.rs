//! [`Intervals`]: where the encodings of a field can lie if an item fits a filter.
//!
//! Invariant: always a superset. What lies outside cannot fit; what lies inside is looked at,
//! unless the filter is [`is_settled_by`] the intervals.

use bytes::Bytes;
use trellis_tree::Leaf;

use crate::encoding::{ABSENT, FieldValue, class_of, encode_key, encode_value, is_cut, prefix_end};
use crate::field::Field;
use crate::filter::{Comparison, Filter, Test};

/// Encodings from `start` on and before `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    pub(crate) start: Bytes,
    /// `None`: to the end.
    pub(crate) end: Option<Bytes>,
}

/// Disjoint intervals, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<Interval>);

impl Interval {
    fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// Everything that begins with these bytes.
    pub(crate) fn prefix(bytes: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(bytes), end: prefix_end(bytes) }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    fn and(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        Self { start, end: earlier(&self.end, &other.end) }
    }

    /// The same for inverted encodings.
    pub(crate) fn inverted(&self) -> Self {
        let invert = |bytes: &[u8]| bytes.iter().map(|byte| !byte).collect::<Vec<u8>>();
        let start = self.end.as_ref().and_then(|end| prefix_end(&invert(end)));
        Self {
            start: start.unwrap_or_default(),
            end: if self.start.is_empty() { None } else { prefix_end(&invert(&self.start)) },
        }
    }
}

/// The earlier of two ends.
pub(crate) fn earlier(a: &Option<Bytes>, b: &Option<Bytes>) -> Option<Bytes> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (Some(end), None) | (None, Some(end)) => Some(end.clone()),
        (None, None) => None,
    }
}

impl Intervals {
    pub(crate) fn all() -> Self {
        Self(vec![Interval::all()])
    }

    fn none() -> Self {
        Self(Vec::new())
    }

    fn of(interval: Interval) -> Self {
        if interval.is_empty() { Self::none() } else { Self(vec![interval]) }
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::all()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Interval> {
        self.0.iter()
    }

    /// The one encoding that is left, if it is one.
    pub(crate) fn point(&self) -> Option<&Bytes> {
        match self.0.as_slice() {
            [only] if only.start.len() > 1 || is_single_tag(&only.start) => {
                let point = crate::encoding::encoded_len(&only.start, false)
                    == Some(only.start.len())
                    && only.end == prefix_end(&only.start);
                point.then_some(&only.start)
            }
            _ => None,
        }
    }

    /// The first interval that ends after `bytes`: where they lie, or what comes next.
    pub(crate) fn at_or_after(&self, bytes: &[u8]) -> Option<&Interval> {
        let ends_before =
            |interval: &Interval| interval.end.as_ref().is_some_and(|end| end.as_ref() <= bytes);
        self.0.get(self.0.partition_point(ends_before))
    }

    /// The last interval that starts at or before `bytes`.
    pub(crate) fn at_or_before(&self, bytes: &[u8]) -> Option<&Interval> {
        let after = self.0.partition_point(|interval| interval.start.as_ref() <= bytes);
        self.0.get(after.checked_sub(1)?)
    }

    fn and(&self, other: &Self) -> Self {
        // Both are short: at most as long as an `in` list.
        let mut both = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let common = a.and(b);
            if !common.is_empty() {
                both.push(common);
            }
            let a_first = match (&a.end, &b.end) {
                (Some(a), Some(b)) => a <= b,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if a_first {
                left.next();
            } else {
                right.next();
            }
        }
        Self(both)
    }

    fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.0.sort();
        let mut merged: Vec<Interval> = Vec::with_capacity(self.0.len());
        for next in self.0 {
            match merged.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| *end >= next.start) => {
                    let longer = match (&last.end, next.end) {
                        (Some(a), Some(b)) => Some(a.clone().max(b)),
                        _ => None,
                    };
                    last.end = longer;
                }
                _ => merged.push(next),
            }
        }
        Self(merged)
    }
}

/// Whether these bytes are the encoding of absent, a boolean or an object.
fn is_single_tag(bytes: &[u8]) -> bool {
    crate::encoding::encoded_len(bytes, false) == Some(1) && bytes.len() == 1
}

/// Where the encodings of `field` can lie in items that fit `filter`.
pub(crate) fn bounds(filter: &Filter, field: &Field) -> Intervals {
    match filter {
        Filter::And(parts) => {
            parts.iter().fold(Intervals::all(), |all, part| all.and(&bounds(part, field)))
        }
        Filter::Or(parts) => {
            let mut any = Intervals::none();
            for part in parts {
                let part = bounds(part, field);
                if part.is_all() {
                    return part;
                }
                any = any.or(part);
            }
            any
        }
        Filter::Field(own, test) if own == field => test_bounds(test, field),
        Filter::Field(..) => Intervals::all(),
    }
}

/// Whether fitting the intervals is all that `filter` asks: then nothing has to be read to know.
/// `fields` are those whose intervals are kept.
pub(crate) fn is_settled_by(filter: &Filter, fields: &[&Field]) -> bool {
    match filter {
        Filter::And(parts) => parts.iter().all(|part| is_settled_by(part, fields)),
        Filter::Field(field, test) => fields.contains(&field) && is_exact(test, field),
        Filter::Or(parts) => {
            // The union of intervals of one field says what the group says; of several it does not.
            let mut own: Option<&Field> = None;
            parts.iter().all(|part| match part {
                Filter::Field(field, test) => {
                    let same = *own.get_or_insert(field) == field;
                    same && fields.contains(&field) && is_exact(test, field)
                }
                _ => false,
            })
        }
    }
}

/// Whether the intervals of a test hold exactly what fits it.
fn is_exact(test: &Test, field: &Field) -> bool {
    let whole = |leaf: &Leaf| *field == Field::Key || !is_cut(leaf);
    match test {
        Test::Equal(value) | Test::Compare(_, value) => whole(value),
        Test::In { values, .. } => values.iter().all(whole),
        Test::Between(from, to) => whole(from) && whole(to),
        Test::StartsWith(prefix) => whole(&Leaf::String(prefix.clone())),
        Test::Exists | Test::Absent => true,
        Test::NotEqual(_) | Test::Contains(_) => false,
    }
}

fn test_bounds(test: &Test, field: &Field) -> Intervals {
    match test {
        Test::Equal(value) => Intervals::of(point(value, field)),
        Test::In { values, or_absent } => {
            let mut all: Vec<Interval> = values.iter().map(|value| point(value, field)).collect();
            if *or_absent && *field != Field::Key {
                all.push(Interval::prefix(&[ABSENT]));
            }
            Intervals::none().or(Intervals(all))
        }
        Test::Between(from, to) => {
            let from = compared(Comparison::AtLeast, from, field);
            Intervals::of(from.and(&compared(Comparison::AtMost, to, field)))
        }
        Test::Compare(comparison, value) => Intervals::of(compared(*comparison, value, field)),
        Test::StartsWith(prefix) => Intervals::of(starting_with(prefix, field)),
        // These leave nearly everything: no reason to choose an index.
        Test::Contains(_) | Test::NotEqual(_) => Intervals::all(),
        // Every item has a key.
        Test::Exists if *field == Field::Key => Intervals::all(),
        Test::Absent if *field == Field::Key => Intervals::none(),
        Test::Exists => Intervals::of(after_absent()),
        Test::Absent => Intervals::of(Interval::prefix(&[ABSENT])),
    }
}

/// The one key.
pub(crate) fn key_point(key: &[u8]) -> Intervals {
    let mut bytes = Vec::new();
    encode_key(key, false, &mut bytes);
    Intervals::of(Interval::prefix(&bytes))
}

fn after_absent() -> Interval {
    Interval { start: Bytes::from_static(&[ABSENT + 1]), end: None }
}

fn encoded(value: &Leaf, field: &Field) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (field, value) {
        (Field::Key, Leaf::String(text)) => encode_key(text.as_bytes(), false, &mut bytes),
        _ => encode_value(&FieldValue::Leaf(value.clone()), false, &mut bytes),
    }
    bytes
}

fn point(value: &Leaf, field: &Field) -> Interval {
    Interval::prefix(&encoded(value, field))
}

fn compared(comparison: Comparison, value: &Leaf, field: &Field) -> Interval {
    let (lowest, beyond) = class_of(value);
    let own = point(value, field);
    // What is cut off cannot be told from the value itself: its encoding belongs to both sides.
    let cut = *field != Field::Key && is_cut(value);
    let first = Bytes::copy_from_slice(&[lowest]);
    let end = Some(Bytes::copy_from_slice(&[beyond]));
    match comparison {
        Comparison::Less if !cut => Interval { start: first, end: Some(own.start) },
        Comparison::Less | Comparison::AtMost => Interval { start: first, end: own.end },
        Comparison::Greater if !cut => Interval { start: own.end.unwrap_or_default(), end },
        Comparison::Greater | Comparison::AtLeast => Interval { start: own.start, end },
    }
}

/// Text that begins with `prefix`: its encoding without the end mark.
fn starting_with(prefix: &str, field: &Field) -> Interval {
    let leaf = Leaf::String(prefix.to_owned());
    let mut bytes = encoded(&leaf, field);
    if *field == Field::Key || !is_cut(&leaf) {
        bytes.pop();
    }
    Interval::prefix(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::QuerySpec;

    fn of(conditions: &str, field: &str) -> Intervals {
        let json = format!("{{\"path\":\"c\",\"where\":{conditions}}}");
        let spec = QuerySpec::parse(json.as_bytes()).unwrap();
        bounds(&spec.filter, &Field::parse(field).unwrap())
    }

    #[test]
    fn contradictions_leave_nothing_and_equalities_one_point() {
        assert!(of(r#"[["a","=",1],["a","=",2]]"#, "a").is_empty());
        assert!(of(r#"[["a",">",2],["a","<",1]]"#, "a").is_empty());
        assert!(of(r#"[["a","between",[3,1]]]"#, "a").is_empty());
        assert!(of(r#"[["a","exists"],["a","absent"]]"#, "a").is_empty());
        assert!(of(r#"[["a","=",1],["a","=","1"]]"#, "a").is_empty());
        assert!(of(r#"[["a","in",[]]]"#, "a").is_empty());
        assert!(of(r#"[["a","in",[1,2]],["a",">",1]]"#, "a").point().is_some());
        assert!(of(r#"[["a","absent"]]"#, "a").point().is_some());
        assert!(of(r#"[["a",">",1]]"#, "a").point().is_none());
        assert!(of(r#"[["a","starts-with","x"]]"#, "a").point().is_none());
        assert!(of(r#"[["b","=",1]]"#, "a").is_all());
        assert!(of(r#"[{"or":[["a","=",1],["b","=",1]]}]"#, "a").is_all());
        assert_eq!(of(r#"[{"or":[["a","=",1],["a","=",2]]}]"#, "a").iter().count(), 2);
    }

    #[test]
    fn inverted_intervals_hold_the_inverted_encodings() {
        let samples: Vec<Leaf> = [-3, -1, 0, 2, 7]
            .map(Leaf::Int)
            .into_iter()
            .chain(["", "a", "ab", "b"].map(|text| Leaf::String(text.into())))
            .chain([Leaf::Bool(true)])
            .collect();
        let within = |interval: &Interval, bytes: &[u8]| {
            *bytes >= *interval.start && interval.end.as_ref().is_none_or(|end| *bytes < **end)
        };
        for operand in [r#""a""#, "0", "true", "-1"] {
            for operator in ["=", "<", "<=", ">", ">="] {
                let intervals = of(&format!(r#"[["a","{operator}",{operand}]]"#), "a");
                for sample in &samples {
                    let mut bytes = Vec::new();
                    encode_value(&FieldValue::Leaf(sample.clone()), false, &mut bytes);
                    let mut inverted = Vec::new();
                    encode_value(&FieldValue::Leaf(sample.clone()), true, &mut inverted);
                    bytes.extend_from_slice(b"rest");
                    inverted.extend_from_slice(b"rest");
                    let plain = intervals.iter().any(|one| within(one, &bytes));
                    let other = intervals.iter().any(|one| within(&one.inverted(), &inverted));
                    assert_eq!(plain, other, "{operator} {operand} {sample:?}");
                }
            }
        }
    }
}
