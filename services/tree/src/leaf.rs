//! Leaf values and their stored bytes.
//!
//! One tag byte, then the value; nothing else, so that the bytes of a value are the same on every
//! store and every node:
//!
//! | tag | value | bytes after the tag |
//! |---|---|---|
//! | 0x01 | false | none |
//! | 0x02 | true | none |
//! | 0x03 | integer | 8, i64, little endian |
//! | 0x04 | number | 8, f64 bits, little endian |
//! | 0x05 | string | UTF-8 |
//! | 0x06 | bytes | as they are |
//! | 0x07 | array | its JSON text, without white space |
//! | 0x08 | empty object | none |
//!
//! The tags stand in the order of the values: absent < false < true < numbers < strings < bytes <
//! arrays < objects.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

/// A value without members of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Leaf {
    /// A boolean.
    Bool(bool),
    /// A whole number, kept exactly.
    Int(i64),
    /// Any other number; finite.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes; on the wire `{".bytes": "<base64>"}`.
    Bytes(Bytes),
    /// An array as its JSON text; one leaf whatever it holds.
    Array(String),
    /// An object without members.
    EmptyObject,
}

impl Leaf {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (tag, body): (u8, &[u8]) = match self {
            Self::Bool(false) => (1, &[]),
            Self::Bool(true) => (2, &[]),
            Self::Int(number) => return tagged(3, &number.to_le_bytes()),
            Self::Float(number) => return tagged(4, &number.to_bits().to_le_bytes()),
            Self::String(text) => (5, text.as_bytes()),
            Self::Bytes(bytes) => (6, bytes),
            Self::Array(json) => (7, json.as_bytes()),
            Self::EmptyObject => (8, &[]),
        };
        tagged(tag, body)
    }

    /// Bytes that the value takes while it waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::String(text) | Self::Array(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::EmptyObject => 8,
        }
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// `Corrupt` when they are not what [`Leaf::encode`] writes.
    pub fn decode(stored: &[u8]) -> Result<Self> {
        let (tag, body) = stored.split_first().ok_or_else(damaged)?;
        Ok(match tag {
            1 if body.is_empty() => Self::Bool(false),
            2 if body.is_empty() => Self::Bool(true),
            3 => Self::Int(i64::from_le_bytes(eight(body)?)),
            4 => Self::Float(finite(f64::from_bits(u64::from_le_bytes(eight(body)?)))?),
            5 => Self::String(text(body)?.to_owned()),
            6 => Self::Bytes(Bytes::copy_from_slice(body)),
            7 => Self::Array(text(body)?.to_owned()),
            8 if body.is_empty() => Self::EmptyObject,
            _ => return Err(damaged()),
        })
    }

    /// Appends the JSON text of stored bytes; bytes are `{".bytes": "<base64>"}`.
    ///
    /// # Errors
    /// `Corrupt` when they are not what [`Leaf::encode`] writes; `out` is as before then.
    ///
    /// # Cost
    /// None but the text: no value in between.
    pub fn append_json(stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        write_json(stored, out)
    }

    /// Compares two values in the tree's order; numbers by value, exactly.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            // Both zeros are the same number, as an integer zero is the same as either.
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Int(a), Self::Float(b)) => compare_exactly(*a, *b),
            (Self::Float(a), Self::Int(b)) => compare_exactly(*b, *a).reverse(),
            (Self::String(a), Self::String(b)) | (Self::Array(a), Self::Array(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Bool(false) => 1,
            Self::Bool(true) => 2,
            Self::Int(_) | Self::Float(_) => 3,
            Self::String(_) => 5,
            Self::Bytes(_) => 6,
            Self::Array(_) => 7,
            Self::EmptyObject => 8,
        }
    }
}

/// Compares an integer with a finite float without rounding either.
fn compare_exactly(int: i64, float: f64) -> Ordering {
    // 2^63 is exact as a float; everything from there on is beyond any i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float < -BEYOND {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    #[allow(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let as_int = whole as i64;
    int.cmp(&as_int).then_with(|| 0.0_f64.total_cmp(&(float - whole + 0.0)))
}

fn tagged(tag: u8, body: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(1 + body.len());
    stored.push(tag);
    stored.extend_from_slice(body);
    stored.into()
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "a stored leaf cannot be read")
}

fn eight(body: &[u8]) -> Result<[u8; 8]> {
    body.try_into().map_err(|_| damaged())
}

/// Only finite numbers are ever stored: JSON has no others.
fn finite(number: f64) -> Result<f64> {
    if number.is_finite() { Ok(number) } else { Err(damaged()) }
}

fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|_| damaged())
}

/// Appends the JSON of stored bytes, without decoding into an owned value.
///
/// # Errors
/// `Corrupt` when they are not a leaf; `out` is as before then.
pub(crate) fn write_json(stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let (tag, body) = stored.split_first().ok_or_else(damaged)?;
    match tag {
        1 => out.extend_from_slice(b"false"),
        2 => out.extend_from_slice(b"true"),
        3 => write_int(i64::from_le_bytes(eight(body)?), out),
        4 => write_float(finite(f64::from_bits(u64::from_le_bytes(eight(body)?)))?, out),
        5 => write_text(body, out)?,
        6 => {
            out.extend_from_slice(b"{\".bytes\":\"");
            out.extend_from_slice(BASE64.encode(body).as_bytes());
            out.extend_from_slice(b"\"}");
        }
        7 => out.extend_from_slice(body),
        8 => out.extend_from_slice(b"{}"),
        _ => return Err(damaged()),
    }
    Ok(())
}

fn write_int(number: i64, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(number).as_bytes());
}

pub(crate) fn write_float(number: f64, out: &mut Vec<u8>) {
    // serde_json writes the shortest text that reads back as the same number.
    if serde_json::to_writer(&mut *out, &number).is_err() {
        out.extend_from_slice(b"null");
    }
}

/// Appends stored text as a JSON string.
///
/// # Errors
/// `Corrupt` when it is not UTF-8.
pub(crate) fn write_text(stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
    // Without an early end the compiler checks many bytes at a time; most text is plain ASCII and
    // needs neither an escape nor a check of its encoding.
    let odd = |byte: u8| !(0x20..0x80).contains(&byte) || byte == b'"' || byte == b'\\';
    if stored.iter().fold(false, |any, byte| any | odd(*byte)) {
        write_string(text(stored)?, out);
    } else {
        out.reserve(stored.len() + 2);
        out.push(b'"');
        out.extend_from_slice(stored);
        out.push(b'"');
    }
    Ok(())
}

/// Appends a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing to memory does not fail; an empty string keeps the JSON valid if it ever did.
        out.extend_from_slice(b"\"\"");
    }
}
