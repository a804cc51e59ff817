//! Values as bytes that sort as the values do: positions, cursors and index entries are made of
//! them, so that all three agree.
//!
//! | class | bytes |
//! |---|---|
//! | absent | 0x10 |
//! | false, true | 0x20, 0x21 |
//! | number | 0x30, the nearest f64 (8, order-preserving), what an integer is off it (2) |
//! | string | 0x40, its first 256 bytes, 0x00 |
//! | bytes | 0x50, the first 256, 0x00 |
//! | array | 0x60, the first 256 bytes of its JSON text, 0x00 |
//! | object | 0x70 |
//!
//! 0x00 inside is written 0x01 0x01, and 0x01 as 0x01 0x02. No encoding is a prefix of another, so
//! that several can follow each other. Descending, every byte is inverted.
//!
//! Invariant: text is ordered by its first [`ORDER_BYTES_MAX`] bytes; what is equal there counts as
//! equal, and is ordered by what comes next. That bounds positions, cursors and index keys.

use bytes::Bytes;
use trellis_engine_traits::KeyRange;
use trellis_tree::Leaf;

/// Bytes of a string, of bytes or of an array's text that its order looks at.
pub const ORDER_BYTES_MAX: usize = 256;

pub(crate) const ABSENT: u8 = 0x10;
const FALSE: u8 = 0x20;
const TRUE: u8 = 0x21;
const NUMBER: u8 = 0x30;
const STRING: u8 = 0x40;
const BYTES: u8 = 0x50;
const ARRAY: u8 = 0x60;
const OBJECT: u8 = 0x70;

/// What a field of an item holds.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Nothing.
    Absent,
    /// A value without members.
    Leaf(Leaf),
    /// Members.
    Object,
}

impl FieldValue {
    /// Whether there is anything.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// Appends the encoding of a field's value; `descending` inverts it.
///
/// ```
/// use trellis_query::{FieldValue, encode_value};
/// use trellis_tree::Leaf;
///
/// let encoded = |leaf: Leaf| {
///     let mut bytes = Vec::new();
///     encode_value(&FieldValue::Leaf(leaf), false, &mut bytes);
///     bytes
/// };
/// assert!(encoded(Leaf::Int(2)) < encoded(Leaf::Float(2.5)));
/// assert!(encoded(Leaf::Int(9)) < encoded(Leaf::String("1".into())));
/// ```
pub fn encode_value(value: &FieldValue, descending: bool, out: &mut Vec<u8>) {
    let start = out.len();
    match value {
        FieldValue::Absent => out.push(ABSENT),
        FieldValue::Object => out.push(OBJECT),
        FieldValue::Leaf(leaf) => encode_leaf(leaf, out),
    }
    if descending {
        invert_from(out, start);
    }
}

/// Appends the encoding of an item's key, whole.
pub fn encode_key(key: &[u8], descending: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(STRING);
    push_text(key, out);
    if descending {
        invert_from(out, start);
    }
}

/// Inverts the bytes from `start` on.
pub(crate) fn invert_from(out: &mut [u8], start: usize) {
    for byte in out.iter_mut().skip(start) {
        *byte = !*byte;
    }
}

fn encode_leaf(leaf: &Leaf, out: &mut Vec<u8>) {
    match leaf {
        Leaf::Bool(false) => out.push(FALSE),
        Leaf::Bool(true) => out.push(TRUE),
        Leaf::Int(number) => push_int(*number, out),
        Leaf::Float(number) => push_number(*number, 0, out),
        Leaf::String(text) => {
            out.push(STRING);
            push_text(first(text.as_bytes()), out);
        }
        Leaf::Bytes(bytes) => {
            out.push(BYTES);
            push_text(first(bytes), out);
        }
        Leaf::Array(json) => {
            out.push(ARRAY);
            push_text(first(json.as_bytes()), out);
        }
        Leaf::EmptyObject => out.push(OBJECT),
    }
}

fn first(bytes: &[u8]) -> &[u8] {
    bytes.get(..ORDER_BYTES_MAX).unwrap_or(bytes)
}

fn push_text(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            0 => out.extend_from_slice(&[1, 1]),
            1 => out.extend_from_slice(&[1, 2]),
            other => out.push(*other),
        }
    }
    out.push(0);
}

/// Neighbours of an i64 as f64 are at most 1,024 apart, so an integer is at most 512 off.
fn push_int(number: i64, out: &mut Vec<u8>) {
    #[allow(clippy::cast_precision_loss, reason = "what is lost is written after it")]
    let nearest = number as f64;
    #[allow(clippy::cast_possible_truncation, reason = "at most 2^63, which an i128 holds")]
    let off = i128::from(number) - nearest as i128;
    push_number(nearest, i16::try_from(off).unwrap_or(0), out);
}

fn push_number(number: f64, off: i16, out: &mut Vec<u8>) {
    out.push(NUMBER);
    // Both zeros are the same number.
    let bits = (number + 0.0).to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    out.extend_from_slice(&ordered.to_be_bytes());
    let off = i32::from(off) + 0x8000;
    out.extend_from_slice(&u16::try_from(off).unwrap_or(0x8000).to_be_bytes());
}

/// Encodings with a leading tag from `lowest` on and below the next class.
pub(crate) fn class_of(leaf: &Leaf) -> (u8, u8) {
    match leaf {
        Leaf::Bool(_) => (FALSE, TRUE + 1),
        Leaf::Int(_) | Leaf::Float(_) => (NUMBER, NUMBER + 1),
        Leaf::String(_) => (STRING, STRING + 1),
        Leaf::Bytes(_) => (BYTES, BYTES + 1),
        Leaf::Array(_) => (ARRAY, ARRAY + 1),
        Leaf::EmptyObject => (OBJECT, OBJECT + 1),
    }
}

/// Whether the encoding leaves something of the value out.
pub(crate) fn is_cut(leaf: &Leaf) -> bool {
    match leaf {
        Leaf::String(text) | Leaf::Array(text) => text.len() >= ORDER_BYTES_MAX,
        Leaf::Bytes(bytes) => bytes.len() >= ORDER_BYTES_MAX,
        Leaf::Bool(_) | Leaf::Int(_) | Leaf::Float(_) | Leaf::EmptyObject => false,
    }
}

/// The first bytes after all that begin with `prefix`; `None` when there are none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    KeyRange::prefix(prefix).end
}

/// The length of the encoding at the front of `bytes`; `None` when there is none.
pub(crate) fn encoded_len(bytes: &[u8], descending: bool) -> Option<usize> {
    let at = |index: usize| bytes.get(index).map(|byte| if descending { !*byte } else { *byte });
    match at(0)? {
        ABSENT | FALSE | TRUE | OBJECT => Some(1),
        NUMBER => (bytes.len() >= 11).then_some(11),
        STRING | BYTES | ARRAY => {
            let end = (1..bytes.len()).find(|index| at(*index) == Some(0))?;
            Some(end + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn encoded(value: &FieldValue, descending: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode_value(value, descending, &mut out);
        out
    }

    fn samples() -> Vec<FieldValue> {
        let ints = [
            i64::MIN,
            i64::MIN + 1,
            -(1 << 53) - 1,
            -2,
            -1,
            0,
            1,
            2,
            (1 << 53) - 1,
            1 << 53,
            (1 << 53) + 1,
            i64::MAX - 513,
            i64::MAX - 512,
            i64::MAX - 511,
            i64::MAX - 1,
            i64::MAX,
        ];
        let floats = [
            -1e308,
            -9_223_372_036_854_775_808.0,
            -1.5,
            -0.0,
            0.0,
            5e-324,
            0.5,
            1.0,
            1.5,
            9_007_199_254_740_992.0,
            9_223_372_036_854_774_784.0,
            9_223_372_036_854_775_808.0,
            1e308,
        ];
        let texts = ["", "\0", "\u{1}", "\0\0", "a", "a\0", "a\u{1}", "aa", "b", "ä", "z"];
        let mut all: Vec<Leaf> = vec![Leaf::Bool(false), Leaf::Bool(true), Leaf::EmptyObject];
        all.extend(ints.map(Leaf::Int));
        all.extend(floats.map(Leaf::Float));
        all.extend(texts.map(|text| Leaf::String(text.into())));
        all.extend(texts.map(|text| Leaf::Bytes(Bytes::from(text))));
        all.extend(["[]", "[1]", "[\"a\"]"].map(|text| Leaf::Array(text.into())));
        let mut values: Vec<FieldValue> = all.into_iter().map(FieldValue::Leaf).collect();
        values.push(FieldValue::Absent);
        values
    }

    fn compare(a: &FieldValue, b: &FieldValue) -> Ordering {
        match (a, b) {
            (FieldValue::Leaf(a), FieldValue::Leaf(b)) => a.compare(b),
            (FieldValue::Absent, FieldValue::Absent) => Ordering::Equal,
            (FieldValue::Absent, _) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }

    #[test]
    fn encodings_sort_as_the_values_do_both_ways_and_none_is_a_prefix_of_another() {
        for a in &samples() {
            for b in &samples() {
                let (x, y) = (encoded(a, false), encoded(b, false));
                assert_eq!(x.cmp(&y), compare(a, b), "{a:?} {b:?}");
                assert!(x == y || !y.starts_with(&x), "{a:?} is a prefix of {b:?}");
                let (x, y) = (encoded(a, true), encoded(b, true));
                assert_eq!(x.cmp(&y), compare(b, a), "descending: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_length_of_an_encoding_is_found_whatever_follows() {
        for value in &samples() {
            for descending in [false, true] {
                let mut bytes = encoded(value, descending);
                let len = bytes.len();
                bytes.extend_from_slice(b"\0\x01rest\xff");
                assert_eq!(encoded_len(&bytes, descending), Some(len), "{value:?}");
            }
        }
    }

    #[test]
    fn text_counts_up_to_its_bound() {
        let text = |len: usize, last: &str| {
            encoded(&FieldValue::Leaf(Leaf::String("x".repeat(len) + last)), false)
        };
        assert!(text(ORDER_BYTES_MAX - 1, "a") < text(ORDER_BYTES_MAX - 1, "b"));
        assert_eq!(text(ORDER_BYTES_MAX, "a"), text(ORDER_BYTES_MAX, "b"));
    }
}
