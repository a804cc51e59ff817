//! Values: JSON on its way into the store and back, stored leaves, and the order of values.

use std::cmp::Ordering;

use serde_json::Value;
use trellis_tree::Leaf;
use trellis_tree::fuzzing::round_trip;

pub(super) const WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "{\"a\":",
    "[[[[[[[[",
    "]]]]",
    "\"\"",
    "-0",
    "-0.0",
    "0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "9007199254740993",
    "18446744073709551616",
    "1e308",
    "1e400",
    "5e-324",
    "0.1",
    "{\".bytes\":\"AAE=\"}",
    "{\".sv\":\"timestamp\"}",
    "..bytes",
    ".sv",
    "\\ud800",
    "\\udc00",
    "\\u0000",
    "\\/",
    "\n",
    "$serde_json::private::RawValue",
    "$serde_json::private::Number",
    "\u{7f}",
    "\u{10ffff}",
];

/// JSON is refused, or reads back as the same value; and what is read back is a fixed point.
pub(super) fn json(input: &[u8]) {
    if let Ok(leaf) = Leaf::decode(input) {
        assert_eq!(leaf.encode(), input, "a leaf that is stored otherwise");
        assert_eq!(leaf.compare(&leaf), Ordering::Equal, "a leaf that is not itself");
    }
    let Ok(Some(first)) = round_trip(input) else { return };
    let again = round_trip(&first).expect("what is read can be written");
    let shown = String::from_utf8_lossy(&first);
    assert_eq!(again.as_deref(), Some(&*first), "another value when written again: {shown}");
    let given: Value = serde_json::from_slice(input).expect("what was accepted is JSON");
    let read: Value = serde_json::from_slice(&first).expect("what is read is JSON");
    assert_eq!(Some(settled(read)), kept(given), "another value than was written");
}

/// What is to be kept of a value: null is absence, and so is an object of nothing but nulls.
fn kept(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(members) if !members.is_empty() => {
            let kept = members.into_iter().filter_map(|(key, value)| Some((key, kept(value)?)));
            let kept: serde_json::Map<_, _> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        other => Some(settled(other)),
    }
}

/// Numbers as the tree has them: beyond an i64 they are floating.
fn settled(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(settled).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, settled(value))).collect()
        }
        other => other,
    }
}

/// Lines of values stand in the order of the specification, whichever two or three one takes.
pub(super) fn order(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').take(6);
    let leaves: Vec<Leaf> = lines.filter_map(leaf).collect();
    for leaf in &leaves {
        let again = Leaf::decode(&leaf.encode()).expect("what was stored can be read");
        assert_eq!(again, *leaf, "another leaf when read again");
    }
    for a in &leaves {
        for b in &leaves {
            assert_eq!(a.compare(b), specified(a, b), "{a:?} and {b:?}");
            for c in &leaves {
                let sorted = a.compare(b).is_le() && b.compare(c).is_le();
                assert!(!sorted || a.compare(c).is_le(), "{a:?} <= {b:?} <= {c:?}, not <=");
            }
        }
    }
}

fn leaf(line: &[u8]) -> Option<Leaf> {
    if let Ok(leaf) = Leaf::decode(line) {
        return Some(leaf);
    }
    Some(match serde_json::from_slice(line).ok()? {
        Value::Bool(value) => Leaf::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Leaf::Int(number),
            None => Leaf::Float(number.as_f64()?),
        },
        Value::String(text) => Leaf::String(text),
        array @ Value::Array(_) => Leaf::Array(array.to_string()),
        Value::Object(members) if members.is_empty() => Leaf::EmptyObject,
        Value::Null | Value::Object(_) => return None,
    })
}

/// The order as the specification has it: false < true < numbers < strings < bytes < arrays <
/// objects; numbers by value.
fn specified(a: &Leaf, b: &Leaf) -> Ordering {
    match (a, b) {
        (Leaf::String(a), Leaf::String(b)) | (Leaf::Array(a), Leaf::Array(b)) => {
            a.as_bytes().cmp(b.as_bytes())
        }
        (Leaf::Bytes(a), Leaf::Bytes(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)).then_with(|| number(a, b)),
    }
}

fn rank(leaf: &Leaf) -> usize {
    match leaf {
        Leaf::Bool(false) => 0,
        Leaf::Bool(true) => 1,
        Leaf::Int(_) | Leaf::Float(_) => 2,
        Leaf::String(_) => 3,
        Leaf::Bytes(_) => 4,
        Leaf::Array(_) => 5,
        Leaf::EmptyObject => 6,
    }
}

/// Compares two numbers by what they mean: whole parts as integers, then what is left.
fn number(a: &Leaf, b: &Leaf) -> Ordering {
    let parts = |leaf: &Leaf| match leaf {
        Leaf::Int(int) => Some((f64::NAN, i128::from(*int), 0.0)),
        // 2^120 is far beyond every i64, and below the edge of an i128.
        Leaf::Float(float) if float.abs() < 2_f64.powi(120) => {
            Some((f64::NAN, float.trunc() as i128, float - float.trunc() + 0.0))
        }
        Leaf::Float(float) => Some((*float, 0, 0.0)),
        _ => None,
    };
    let (Some((huge_a, a, rest_a)), Some((huge_b, b, rest_b))) = (parts(a), parts(b)) else {
        return Ordering::Equal;
    };
    match (huge_a.is_nan(), huge_b.is_nan()) {
        (true, true) => a.cmp(&b).then(rest_a.total_cmp(&rest_b)),
        (true, false) => 0.0_f64.total_cmp(&huge_b),
        (false, true) => huge_a.total_cmp(&0.0),
        (false, false) => huge_a.total_cmp(&huge_b),
    }
}
