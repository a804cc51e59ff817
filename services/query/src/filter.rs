//! [`Filter`]: what a query's `where` says, as a tree, and whether an item fits it.
//!
//! Invariant: a comparison holds only for present values of the operand's own class (booleans,
//! numbers, text, bytes, arrays); `!=` for every present value that is another. So a query never
//! fails because of what is stored.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use trellis_tree::Leaf;

use crate::encoding::FieldValue;
use crate::field::Field;

/// A condition, or several.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them; none is always true.
    And(Vec<Filter>),
    /// At least one of them.
    Or(Vec<Filter>),
    /// One.
    Field(Field, Test),
}

/// What is asked of one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `=`: the same value.
    Equal(Leaf),
    /// `!=`: present, and another value.
    NotEqual(Leaf),
    /// `<`, `<=`, `>`, `>=`.
    Compare(Comparison, Leaf),
    /// `in`: one of these; `absent` when null is among them.
    In {
        /// The values.
        values: Vec<Leaf>,
        /// Whether nothing at all fits too.
        or_absent: bool,
    },
    /// `between`: both ends belong to it.
    Between(Leaf, Leaf),
    /// `starts-with`, on text.
    StartsWith(String),
    /// `contains`: a part of a text, or a member of an array.
    Contains(Leaf),
    /// `exists`.
    Exists,
    /// `absent`.
    Absent,
}

/// The side on which a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Filter {
    /// Whether an item fits; `value` says what its fields hold.
    pub(crate) fn holds<'a>(&self, value: &impl Fn(&Field) -> &'a FieldValue) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(value)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(value)),
            Self::Field(field, test) => test.holds(value(field)),
        }
    }

    /// Calls `visit` for every field.
    pub(crate) fn fields(&self, visit: &mut impl FnMut(&Field)) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.fields(visit);
                }
            }
            Self::Field(field, _) => visit(field),
        }
    }
}

fn same_class(a: &Leaf, b: &Leaf) -> bool {
    crate::encoding::class_of(a) == crate::encoding::class_of(b)
}

impl Test {
    fn holds(&self, value: &FieldValue) -> bool {
        let leaf = match (value, self) {
            (FieldValue::Absent, Self::Absent) => return true,
            (FieldValue::Absent, Self::In { or_absent, .. }) => return *or_absent,
            (FieldValue::Object, Self::Exists | Self::NotEqual(_)) => return true,
            (FieldValue::Absent | FieldValue::Object, _) => return false,
            (FieldValue::Leaf(leaf), _) => leaf,
        };
        let within = |from: &Leaf, to: &Leaf| {
            same_class(leaf, from) && leaf.compare(from).is_ge() && leaf.compare(to).is_le()
        };
        match self {
            Self::Exists => true,
            Self::Absent => false,
            Self::Equal(operand) => equal(leaf, operand),
            Self::NotEqual(operand) => !equal(leaf, operand),
            Self::In { values, .. } => values.iter().any(|operand| equal(leaf, operand)),
            Self::Between(from, to) => within(from, to),
            Self::Compare(comparison, operand) => {
                same_class(leaf, operand) && comparison.holds(leaf.compare(operand))
            }
            Self::StartsWith(prefix) => {
                matches!(leaf, Leaf::String(text) if text.starts_with(prefix.as_str()))
            }
            Self::Contains(operand) => match (leaf, operand) {
                (Leaf::String(text), Leaf::String(part)) => text.contains(part.as_str()),
                (Leaf::Array(json), member) => has_member(json, member),
                _ => false,
            },
        }
    }
}

impl Comparison {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

fn equal(a: &Leaf, b: &Leaf) -> bool {
    same_class(a, b) && a.compare(b).is_eq()
}

/// Whether an array has this member. Numbers are compared by value, all else by its JSON text,
/// which the tree writes one way only.
fn has_member(json: &str, member: &Leaf) -> bool {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) else { return false };
    let wanted = member_text(member);
    items.into_iter().any(|item| match member {
        Leaf::Int(_) | Leaf::Float(_) => {
            number(item.get()).is_some_and(|found| found.compare(member).is_eq())
        }
        _ => item.get() == wanted,
    })
}

fn number(text: &str) -> Option<Leaf> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::Number(number) => number_leaf(&number),
        _ => None,
    }
}

/// A JSON number as a leaf: an i64 exactly, any other as f64.
pub(crate) fn number_leaf(number: &serde_json::Number) -> Option<Leaf> {
    number.as_i64().map(Leaf::Int).or_else(|| number.as_f64().map(Leaf::Float))
}

/// The JSON text of a leaf as a member of an array.
fn member_text(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Array(json) => json.clone(),
        other => leaf_json(other).to_string(),
    }
}

/// A leaf as JSON.
pub(crate) fn leaf_json(leaf: &Leaf) -> Value {
    match leaf {
        Leaf::Bool(value) => Value::Bool(*value),
        Leaf::Int(value) => Value::from(*value),
        Leaf::Float(value) => Value::from(*value),
        Leaf::String(text) => Value::String(text.clone()),
        Leaf::Bytes(bytes) => bytes_json(bytes),
        Leaf::Array(json) => serde_json::from_str(json).unwrap_or_default(),
        Leaf::EmptyObject => Value::Object(serde_json::Map::new()),
    }
}

fn bytes_json(bytes: &Bytes) -> Value {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    serde_json::json!({ ".bytes": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_contains_its_members_by_value() {
        let contains = |json: &str, member: Leaf| has_member(json, &member);
        assert!(contains("[1,2.5,\"a\"]", Leaf::Float(1.0)));
        assert!(contains("[1,2.0]", Leaf::Int(2)));
        assert!(contains("[\"a\\\"b\"]", Leaf::String("a\"b".into())));
        assert!(contains("[[1,2]]", Leaf::Array("[1,2]".into())));
        assert!(contains("[null,true]", Leaf::Bool(true)));
        assert!(!contains("[\"1\"]", Leaf::Int(1)));
        assert!(!contains("[[1]]", Leaf::Int(1)));
        assert!(!contains("[]", Leaf::Bool(false)));
    }

    #[test]
    fn comparisons_hold_within_their_class_only() {
        let less = Test::Compare(Comparison::Less, Leaf::Int(5));
        assert!(less.holds(&FieldValue::Leaf(Leaf::Float(4.5))));
        for other in [Leaf::Bool(false), Leaf::String("1".into()), Leaf::Array("[1]".into())] {
            assert!(!less.holds(&FieldValue::Leaf(other.clone())), "{other:?}");
            assert!(Test::NotEqual(Leaf::Int(5)).holds(&FieldValue::Leaf(other)));
        }
        assert!(!less.holds(&FieldValue::Absent));
        assert!(!Test::NotEqual(Leaf::Int(5)).holds(&FieldValue::Absent));
        assert!(Test::NotEqual(Leaf::Int(5)).holds(&FieldValue::Object));
    }
}
