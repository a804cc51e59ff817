//! From the operations and conditions of a request to a tree commit; shared by WebSocket and REST.
//!
//! Invariant: what is not understood is refused, never ignored: a misspelled condition would
//! otherwise be an unconditional write.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use trellis_tree::{Check, Condition, Expiry, Input, Operation, PATH_BYTES_MAX, Path};

use crate::error::WireError;
use crate::text::Text;

/// Longest text that is told as the path at fault: a little more than a path may have.
const TOLD_BYTES_MAX: usize = PATH_BYTES_MAX + 64;

/// How the results of a write are laid out in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultShape {
    /// `null`, or the pushed id.
    Single,
    /// An array.
    Batch,
    /// `{"results":[...]}`.
    Commit,
}

/// `{path: value}` in the order given, duplicates kept for the tree to refuse.
#[derive(Debug)]
pub(crate) struct Updates<'a>(pub(crate) Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Updates<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UpdatesVisitor;

        impl<'de> Visitor<'de> for UpdatesVisitor {
            type Value = Updates<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of path: value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut updates = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    updates.push(entry);
                }
                Ok(Updates(updates))
            }
        }

        deserializer.deserialize_map(UpdatesVisitor)
    }
}

/// A value that may be `null`: `Option` alone would take `"value":null` for an absent field.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// One operation of a `batch` or `commit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WireOperation<'a> {
    #[serde(borrow)]
    pub(crate) op: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) updates: Option<Updates<'a>>,
    #[serde(default)]
    pub(crate) ttl: Option<f64>,
    #[serde(default)]
    pub(crate) expires_at: Option<u64>,
}

impl WireOperation<'_> {
    /// The tree operation, or why there is none.
    pub(crate) fn build(self) -> Result<Operation, WireError> {
        let op = &*self.op;
        let unexpected = |field: &str| {
            Err(WireError::invalid(format!("the operation {op:?} has no field {field:?}")))
        };
        if op != "update" && self.updates.is_some() {
            return unexpected("updates");
        }
        if matches!(op, "update" | "delete") && self.value.is_some() {
            return unexpected("value");
        }
        let expiry = expiry(self.ttl, self.expires_at)?;
        match op {
            "set" => {
                let path = path_of(self.path)?;
                let value = input_of(self.value, &path)?;
                Ok(Operation::Set { path, value, expiry })
            }
            "push" => {
                let path = path_of(self.path)?;
                let value = input_of(self.value, &path)?;
                Ok(Operation::Push { path, value, expiry })
            }
            "delete" if expiry.is_some() => unexpected("ttl"),
            "delete" => Ok(Operation::Delete { path: path_of(self.path)? }),
            "update" if self.path.is_some() => unexpected("path"),
            "update" => {
                let Some(updates) = self.updates else {
                    return Err(missing("updates"));
                };
                Ok(Operation::Update { updates: updates_of(updates, None)?, expiry })
            }
            other => Err(WireError::invalid(format!(
                "{other:?} is no operation of a commit; it takes set, update, delete and push"
            ))),
        }
    }
}

/// One condition of a `commit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireCondition<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(default)]
    exists: Option<bool>,
    #[serde(default)]
    absent: Option<bool>,
    #[serde(borrow, default)]
    hash: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    rev: Option<u64>,
}

impl WireCondition<'_> {
    /// The tree condition, or why there is none.
    pub(crate) fn build(self) -> Result<Condition, WireError> {
        let path = parse_path(&self.path)?;
        let mut checks = Vec::with_capacity(1);
        if let Some(exists) = self.exists {
            checks.push(if exists { Check::Exists } else { Check::Absent });
        }
        if let Some(absent) = self.absent {
            checks.push(if absent { Check::Absent } else { Check::Exists });
        }
        if let Some(hash) = self.hash {
            checks.push(Check::Hash(hash.into_owned()));
        }
        if let Some(value) = self.value {
            checks.push(Check::Value(parse_input(value, &path)?));
        }
        if let Some(rev) = self.rev {
            checks.push(Check::Rev(rev));
        }
        match (checks.pop(), checks.is_empty()) {
            (Some(check), true) => Ok(Condition { path, check }),
            _ => Err(WireError::invalid(
                "a condition takes exactly one of exists, absent, hash, value and rev",
            )
            .at(path.to_string())),
        }
    }
}

/// The expiry that `ttl` or `expiresAt` asks for.
pub(crate) fn expiry(
    ttl: Option<f64>,
    expires_at: Option<u64>,
) -> Result<Option<Expiry>, WireError> {
    match (ttl, expires_at) {
        (None, None) => Ok(None),
        (Some(seconds), None) => Ok(Some(Expiry::TtlSeconds(seconds))),
        (None, Some(at_ms)) => Ok(Some(Expiry::AtMs(at_ms))),
        (Some(_), Some(_)) => Err(WireError::invalid("give ttl or expiresAt, not both")),
    }
}

/// The updates with their paths parsed, below `base` where there is one.
pub(crate) fn updates_of(
    updates: Updates<'_>,
    base: Option<&Path>,
) -> Result<Vec<(Path, Input)>, WireError> {
    let mut parsed = Vec::with_capacity(updates.0.len());
    for (text, value) in updates.0 {
        let mut path = parse_path(&text)?;
        if let Some(base) = base {
            path = base.join(&path).map_err(|error| WireError::from(error).at(&*text))?;
        }
        let value = parse_input(value, &path)?;
        parsed.push((path, value));
    }
    Ok(parsed)
}

/// The path that `text` names; one that is none is told, unless it is longer than any path.
pub(crate) fn parse_path(text: &str) -> Result<Path, WireError> {
    Path::parse(text).map_err(|error| {
        let error = WireError::from(error);
        if text.len() <= TOLD_BYTES_MAX { error.at(text) } else { error }
    })
}

/// A field that the operation cannot do without.
pub(crate) fn missing(field: &str) -> WireError {
    WireError::invalid(format!("the field {field:?} is missing"))
}

pub(crate) fn path_of(path: Option<Text<'_>>) -> Result<Path, WireError> {
    parse_path(&path.ok_or_else(|| missing("path"))?)
}

fn input_of(value: Option<&RawValue>, path: &Path) -> Result<Input, WireError> {
    parse_input(value.ok_or_else(|| missing("value"))?, path)
}

fn parse_input(value: &RawValue, path: &Path) -> Result<Input, WireError> {
    Input::parse(value.get().as_bytes())
        .map_err(|error| WireError::from(error).at(path.to_string()))
}

/// Longest request id, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 256;

/// Items of one page of `children` when the request names no limit.
pub(crate) const CHILDREN_DEFAULT: usize = 100;

/// Most items of one page of `children`.
pub(crate) const CHILDREN_MAX: usize = 1_000;

/// The size of a page of children.
pub(crate) fn children_limit(limit: Option<u64>) -> Result<usize, WireError> {
    let Some(limit) = limit else {
        return Ok(CHILDREN_DEFAULT);
    };
    match usize::try_from(limit) {
        Ok(limit) if (1..=CHILDREN_MAX).contains(&limit) => Ok(limit),
        _ => Err(WireError::invalid(format!(
            "limit is 1 to {CHILDREN_MAX}; page on with after = nextCursor"
        ))),
    }
}

/// The operations that this server has; the index of each names its counters.
pub(crate) const OPERATIONS: [&str; 19] = [
    "hello",
    "ping",
    "stats",
    "get",
    "exists",
    "children",
    "set",
    "update",
    "delete",
    "push",
    "batch",
    "commit",
    "sub",
    "batch-sub",
    "unsub",
    "query",
    "explain",
    "lease",
    "on-disconnect",
];
