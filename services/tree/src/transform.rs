//! Transforms: values that depend on what is there, resolved inside the commit.
//!
//! Only results reach the journal, replicas and subscribers. Numbers stay whole while they fit an
//! i64. A value of the wrong type counts as absent, as it does at Firebase.

use std::collections::HashSet;

use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::leaf::Leaf;

/// What to make of the present value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transform {
    Timestamp,
    PushId,
    Toggle,
    Increment(Leaf),
    Min(Leaf),
    Max(Leaf),
    Multiply(Leaf),
    /// The items as JSON texts.
    Append(Vec<String>),
    Union(Vec<String>),
    Remove(Vec<String>),
    SetIfAbsent(Leaf),
}

/// What a transform may need besides the present value.
pub(crate) struct Ambient<'a> {
    pub(crate) now_ms: u64,
    pub(crate) push_id: &'a mut dyn FnMut() -> Result<String>,
}

impl Transform {
    /// Bytes that the transform takes while it waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Timestamp | Self::PushId | Self::Toggle => 8,
            Self::Append(items) | Self::Union(items) | Self::Remove(items) => {
                items.iter().map(|item| item.len() + size_of::<String>()).sum()
            }
            Self::Increment(leaf)
            | Self::Min(leaf)
            | Self::Max(leaf)
            | Self::Multiply(leaf)
            | Self::SetIfAbsent(leaf) => leaf.size(),
        }
    }

    /// The value to store.
    pub(crate) fn resolve(
        &self,
        present: Option<&Leaf>,
        ambient: &mut Ambient<'_>,
    ) -> Result<Leaf> {
        let number = present.filter(|leaf| matches!(leaf, Leaf::Int(_) | Leaf::Float(_)));
        Ok(match self {
            Self::Timestamp => Leaf::Int(i64::try_from(ambient.now_ms).unwrap_or(i64::MAX)),
            Self::PushId => Leaf::String((ambient.push_id)()?),
            Self::Toggle => Leaf::Bool(!matches!(present, Some(Leaf::Bool(true)))),
            Self::SetIfAbsent(value) => present.unwrap_or(value).clone(),
            Self::Increment(by) => match number {
                Some(now) => arithmetic(now, by, i64::checked_add, |a, b| a + b)?,
                None => by.clone(),
            },
            Self::Multiply(by) => match number {
                Some(now) => arithmetic(now, by, i64::checked_mul, |a, b| a * b)?,
                None => Leaf::Int(0),
            },
            Self::Min(bound) => match number {
                Some(now) if now.compare(bound).is_le() => now.clone(),
                _ => bound.clone(),
            },
            Self::Max(bound) => match number {
                Some(now) if now.compare(bound).is_ge() => now.clone(),
                _ => bound.clone(),
            },
            Self::Append(items) => array(present, |now| now.extend(items.iter().cloned())),
            Self::Union(items) => array(present, |now| {
                let mut known: HashSet<String> = now.iter().cloned().collect();
                now.extend(items.iter().filter(|item| known.insert((*item).clone())).cloned());
            }),
            Self::Remove(items) => {
                let gone: HashSet<&String> = items.iter().collect();
                array(present, |now| now.retain(|item| !gone.contains(item)))
            }
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "beyond i64 a number is an f64 by contract")]
fn as_float(leaf: &Leaf) -> f64 {
    match leaf {
        Leaf::Int(value) => *value as f64,
        Leaf::Float(value) => *value,
        _ => 0.0,
    }
}

fn arithmetic(
    now: &Leaf,
    by: &Leaf,
    whole: fn(i64, i64) -> Option<i64>,
    real: fn(f64, f64) -> f64,
) -> Result<Leaf> {
    if let (Leaf::Int(now), Leaf::Int(by)) = (now, by)
        && let Some(result) = whole(*now, *by)
    {
        return Ok(Leaf::Int(result));
    }
    let result = real(as_float(now), as_float(by));
    if result.is_finite() {
        Ok(Leaf::Float(result))
    } else {
        Err(Error::new(ErrorKind::InvalidInput, "the transform's result is not a finite number"))
    }
}

/// Changes an array of JSON texts; what is no array counts as an empty one.
fn array(present: Option<&Leaf>, change: impl FnOnce(&mut Vec<String>)) -> Leaf {
    let mut items: Vec<String> = match present {
        Some(Leaf::Array(json)) => {
            serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(json)
                .map(|items| items.iter().map(|item| item.get().to_owned()).collect())
                .unwrap_or_default()
        }
        _ => Vec::new(),
    };
    change(&mut items);
    Leaf::Array(format!("[{}]", items.join(",")))
}
