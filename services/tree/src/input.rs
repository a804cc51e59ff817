//! Values on their way in: JSON checked while it is read.
//!
//! Refused: duplicate keys, keys that are no path segment, numbers beyond f64, nesting beyond the
//! tree's depth, broken UTF-8. Two objects are not data but say something: `{".sv": ...}`, a
//! transform, and `{".bytes": "<base64>"}`, bytes. A key that is one of these names behind further
//! dots (`..sv`) stands for the name with one dot less, so that every key can be stored.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::leaf::{self, Leaf};
use crate::path;
use crate::refusal::over;
use crate::transform::Transform;

/// A value to be written: leaves, members, transforms, or nothing.
///
/// ```
/// use trellis_tree::Input;
///
/// assert!(Input::parse(br#"{"name":"Alice","seen":{".sv":"timestamp"}}"#).is_ok());
/// assert!(Input::parse(br#"{"a":1,"a":2}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Input(pub(crate) Node);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Leaf(Leaf),
    Object(Vec<(String, Node)>),
    Transform(Transform),
}

impl Input {
    /// Reads JSON text.
    ///
    /// # Errors
    /// `InvalidInput` with the place and the reason.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("not a value: {error}")).operation("parse")
        })
    }

    /// The absence of a value.
    #[must_use]
    pub const fn null() -> Self {
        Self(Node::Null)
    }

    /// Whether a path that is set to it is empty.
    pub(crate) fn is_nothing(&self) -> bool {
        fn holds_nothing(node: &Node) -> bool {
            match node {
                Node::Null => true,
                Node::Object(members) => members.iter().all(|(_, member)| holds_nothing(member)),
                Node::Leaf(_) | Node::Transform(_) => false,
            }
        }
        holds_nothing(&self.0)
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<bytes::Bytes>) -> Self {
        Self(Node::Leaf(Leaf::Bytes(bytes.into())))
    }

    /// The value when it is one leaf: neither an object with members, nor a transform, nor null.
    #[must_use]
    pub const fn as_leaf(&self) -> Option<&Leaf> {
        match &self.0 {
            Node::Leaf(leaf) => Some(leaf),
            Node::Null | Node::Object(_) | Node::Transform(_) => None,
        }
    }

    /// Whether there is something at or below a place in the value: members of these names, one in
    /// the other. For those who decide by paths what may be written.
    ///
    /// ```
    /// use trellis_tree::Input;
    ///
    /// let input = Input::parse(br#"{"a":{"b":1}}"#)?;
    /// assert!(input.reaches(&["a"]) && input.reaches(&["a", "b"]));
    /// assert!(!input.reaches(&["b"]) && !input.reaches(&["a", "b", "c"]));
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    #[must_use]
    pub fn reaches(&self, segments: &[&str]) -> bool {
        let mut node = &self.0;
        for segment in segments {
            let Node::Object(members) = node else { return false };
            let Some((_, member)) = members.iter().find(|(name, _)| name == segment) else {
                return false;
            };
            node = member;
        }
        !matches!(node, Node::Null)
    }

    /// Takes a JSON value, with the same checks as text.
    ///
    /// # Errors
    /// As for [`Input::parse`].
    #[allow(clippy::needless_pass_by_value, reason = "callers give their value away")]
    pub fn from_json(value: serde_json::Value) -> Result<Self> {
        Nesting::ROOT
            .deserialize(&value)
            .map_err(|error| error.to_string())
            .and_then(|raw| raw.into_node(0))
            .map(Self)
            .map_err(|message| {
                Error::new(ErrorKind::InvalidInput, format!("not a value: {message}"))
                    .operation("parse")
            })
    }
}

impl TryFrom<serde_json::Value> for Input {
    type Error = Error;

    fn try_from(value: serde_json::Value) -> Result<Self> {
        Self::from_json(value)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nesting::ROOT.deserialize(deserializer)?.into_node(0).map(Self).map_err(D::Error::custom)
    }
}

/// JSON as it was sent, duplicate keys refused, numbers settled.
#[derive(Debug)]
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Array(Vec<Raw>),
    Object(Vec<(String, Raw)>),
}

impl Raw {
    fn into_node(self, depth: usize) -> Result<Node, String> {
        if depth > crate::path::DEPTH_MAX {
            return Err(format!("nested deeper than {} levels", crate::path::DEPTH_MAX));
        }
        Ok(match self {
            Self::Null => Node::Null,
            Self::Bool(value) => Node::Leaf(Leaf::Bool(value)),
            Self::Int(value) => Node::Leaf(Leaf::Int(value)),
            Self::Float(value) => Node::Leaf(Leaf::Float(value)),
            Self::String(value) => Node::Leaf(Leaf::String(value)),
            Self::Array(items) => Node::Leaf(Leaf::Array(array_text(&items))),
            Self::Object(members) => return object(members, depth),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Float(value) => leaf::write_float(*value, out),
            Self::String(value) => leaf::write_string(value, out),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    leaf::write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn array_text(items: &[Raw]) -> String {
    let mut out = Vec::new();
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item.write(&mut out);
    }
    out.push(b']');
    String::from_utf8(out).unwrap_or_default()
}

fn object(members: Vec<(String, Raw)>, depth: usize) -> Result<Node, String> {
    if members.is_empty() {
        return Ok(Node::Leaf(Leaf::EmptyObject));
    }
    let sentinel = members.iter().find(|(name, _)| name == ".sv" || name == ".bytes");
    if sentinel.is_some() && members.len() > 1 {
        return Err("an object with .sv or .bytes has no other member; a key of that name is \
                    written with one more dot"
            .to_owned());
    }
    if sentinel.is_some() {
        return match members.into_iter().next() {
            Some((name, Raw::String(text))) if name == ".bytes" => BASE64
                .decode(text)
                .map(|bytes| Node::Leaf(Leaf::Bytes(bytes.into())))
                .map_err(|_| ".bytes wants standard base64 with padding".to_owned()),
            Some((name, argument)) if name == ".sv" => {
                transform(argument, depth).map(Node::Transform)
            }
            _ => Err(".bytes wants a string of base64".to_owned()),
        };
    }
    let members = members.into_iter().map(|(name, value)| {
        let name = match unescape(&name) {
            Some(plain) => plain.to_owned(),
            None => name,
        };
        crate::path::push_segment(&mut Vec::new(), true, &name)
            .map_err(|error| error.message().to_owned())?;
        Ok((name, value.into_node(depth + 1)?))
    });
    members.collect::<Result<Vec<_>, String>>().map(Node::Object)
}

fn transform(argument: Raw, depth: usize) -> Result<Transform, String> {
    let (name, argument) = match argument {
        Raw::String(name) => (name, None),
        Raw::Object(mut members) if members.len() == 1 => match members.pop() {
            Some((name, argument)) => (name, Some(argument)),
            None => return Err("a transform has a name".to_owned()),
        },
        _ => return Err(".sv wants a name, or an object with one member".to_owned()),
    };
    let leaves = |raw: Raw| -> Result<Vec<String>, String> {
        let items = match raw {
            Raw::Array(items) => items,
            single => vec![single],
        };
        let text = |item: &Raw| {
            let mut out = Vec::new();
            item.write(&mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        Ok(items.iter().map(text).collect())
    };
    let number = |raw: Option<Raw>| match raw {
        Some(Raw::Int(value)) => Ok(Leaf::Int(value)),
        Some(Raw::Float(value)) => Ok(Leaf::Float(value)),
        _ => Err(format!("the transform {name} wants a number")),
    };
    Ok(match (name.as_str(), argument) {
        ("timestamp", None) => Transform::Timestamp,
        ("pushId", None | Some(Raw::Bool(true))) => Transform::PushId,
        ("toggle", None | Some(Raw::Bool(true))) => Transform::Toggle,
        ("increment", argument) => Transform::Increment(number(argument)?),
        ("min", argument) => Transform::Min(number(argument)?),
        ("max", argument) => Transform::Max(number(argument)?),
        ("multiply", argument) => Transform::Multiply(number(argument)?),
        ("append", Some(items)) => Transform::Append(leaves(items)?),
        ("union", Some(items)) => Transform::Union(leaves(items)?),
        ("remove", Some(items)) => Transform::Remove(leaves(items)?),
        ("setIfAbsent", Some(value)) => match value.into_node(depth)? {
            Node::Leaf(leaf) => Transform::SetIfAbsent(leaf),
            _ => return Err("setIfAbsent wants a value without members".to_owned()),
        },
        _ => {
            return Err("unknown transform, or its argument is missing; known are timestamp, \
                        increment, min, max, multiply, append, union, remove, setIfAbsent, \
                        toggle, pushId"
                .to_owned());
        }
    })
}

/// The key that an escaped name stands for; `None` when it stands for itself.
fn unescape(name: &str) -> Option<&str> {
    let plain = name.strip_prefix('.')?;
    is_reserved(plain.as_bytes()).then_some(plain)
}

/// Whether a key has to be written with one more dot.
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    let dots = key.iter().take_while(|byte| **byte == b'.').count();
    dots > 0 && matches!(key.get(dots..), Some(b"sv" | b"bytes"))
}

/// Levels of arrays, and of objects in arrays: with the tree's own levels around them they stay
/// below what JSON readers accept (serde_json: 127).
const ARRAY_DEPTH_MAX: usize = 60;
/// Keys that serde_json takes for its own and reads as something else than an object.
const TAKEN: [&str; 2] = ["$serde_json::private::RawValue", "$serde_json::private::Number"];

/// How deep a value stands: bounded while it is read, so that no input can exhaust the stack.
#[derive(Debug, Clone, Copy)]
struct Nesting {
    objects: usize,
    arrays: usize,
}

impl Nesting {
    const ROOT: Self = Self { objects: 0, arrays: 0 };

    fn object<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.arrays > 0 {
            return self.array();
        }
        if self.objects > crate::path::DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {} levels", crate::path::DEPTH_MAX)));
        }
        Ok(Self { objects: self.objects + 1, ..self })
    }

    fn array<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.arrays >= ARRAY_DEPTH_MAX {
            let message = format!("an array is nested deeper than {ARRAY_DEPTH_MAX} levels");
            return Err(E::custom(message));
        }
        Ok(Self { arrays: self.arrays + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Nesting {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nesting {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "beyond i64 a number is an f64 by contract")]
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(i64::try_from(value).map_or(Raw::Float(value as f64), Raw::Int))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        if value.is_finite() {
            Ok(Raw::Float(value))
        } else {
            Err(E::custom("number out of range"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let inner = self.array()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Raw::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Raw, A::Error> {
        /// From here on a set finds duplicates faster than a walk does.
        const WALK_MAX: usize = 16;
        let inner = self.object()?;
        let mut object: Vec<(String, Raw)> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if TAKEN.contains(&name.as_str()) {
                return Err(A::Error::custom("a key of this name cannot be stored"));
            }
            let value = members.next_value_seed(inner)?;
            let known = if object.len() < WALK_MAX {
                object.iter().any(|(other, _)| *other == name)
            } else {
                if names.is_empty() {
                    names.extend(object.iter().map(|(other, _)| other.clone()));
                }
                !names.insert(name.clone())
            };
            if known {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
            object.push((name, value));
        }
        if inner.arrays > 0 {
            // Inside an array the order is of no more use than outside; sorted, equal is equal.
            object.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        Ok(Raw::Object(object))
    }
}

pub(crate) fn input_size(value: &Input) -> usize {
    node_size(&value.0)
}

fn node_size(node: &Node) -> usize {
    match node {
        Node::Null => 0,
        Node::Transform(transform) => transform.size(),
        Node::Leaf(leaf) => leaf.size(),
        Node::Object(members) => {
            members.iter().map(|(name, member)| name.len() + node_size(member)).sum()
        }
    }
}

/// Visits leaves and transforms with their keys; nulls vanish.
pub(crate) fn flatten(
    node: &Node,
    key: Vec<u8>,
    visit: &mut dyn FnMut(Vec<u8>, &Node) -> Result<()>,
) -> Result<()> {
    match node {
        Node::Null => Ok(()),
        Node::Leaf(_) | Node::Transform(_) => visit(key, node),
        Node::Object(members) => {
            let depth = path::depth(&key);
            if depth >= path::DEPTH_MAX {
                return Err(over("the value is nested too deeply", "depth_max", path::DEPTH_MAX));
            }
            members.iter().try_for_each(|(name, member)| {
                let mut child = key.clone();
                path::push_segment(&mut child, key.is_empty(), name)?;
                flatten(member, child, visit)
            })
        }
    }
}
