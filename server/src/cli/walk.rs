//! JSON of any size, leaf by leaf.
//!
//! The parser walks objects and holds one leaf at a time: an array is one leaf, `{".bytes":...}`
//! and `{".sv":...}` are one, everything else that is no object is one. A reader that counts bounds
//! what one leaf can take, so memory is flat whatever the file holds.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::cli::failure::Failure;
use crate::cli::target::Entry;

/// Most bytes of text that one leaf may have; the tree's limit on its value is lower.
const LEAF_TEXT_BYTES_MAX: usize = 64 << 20;

/// Takes a leaf; an error ends the walk.
pub(super) type Emit<'a> = dyn FnMut(Entry) -> Result<(), String> + 'a;

/// Walks one JSON text, with `base` before every path.
pub(super) fn json(reader: impl Read, base: &str, emit: &mut Emit<'_>) -> Result<(), Failure> {
    let allowance = Rc::new(Cell::new(LEAF_TEXT_BYTES_MAX));
    let reader = Rationed { reader, allowance: Rc::clone(&allowance) };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let mut walk = Walk { path: base.to_owned(), allowance, emit };
    Node(&mut walk)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| Failure::failed(format!("the import ended: {error}")))
}

/// Walks lines of `{"path":...,"value":...}`, with `base` before every path.
pub(super) fn lines(
    mut reader: impl BufRead,
    base: &str,
    emit: &mut Emit<'_>,
) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        path: String,
        value: Box<RawValue>,
    }
    let mut text = Vec::new();
    for number in 1_u64.. {
        let failed = |why: &dyn fmt::Display| {
            Failure::failed(format!("the import ended in line {number}: {why}"))
        };
        text.clear();
        let mut limited = Read::take(&mut reader, LEAF_TEXT_BYTES_MAX as u64 + 1);
        if limited.read_until(b'\n', &mut text).map_err(|error| failed(&error))? == 0 {
            break;
        }
        if text.len() > LEAF_TEXT_BYTES_MAX {
            return Err(failed(&too_long()));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        let path = match (base.is_empty(), line.path.is_empty()) {
            (true, _) => line.path,
            (false, true) => base.to_owned(),
            (false, false) => format!("{base}/{}", line.path),
        };
        emit(Entry { path, value: line.value }).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn too_long() -> String {
    format!("a single value has more than {LEAF_TEXT_BYTES_MAX} bytes")
}

/// A reader that fails when a leaf takes more than its ration.
struct Rationed<R> {
    reader: R,
    allowance: Rc<Cell<usize>>,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.allowance.get().checked_sub(read);
        self.allowance.set(left.ok_or_else(|| io::Error::other(too_long()))?);
        Ok(read)
    }
}

struct Walk<'a, 'b> {
    path: String,
    allowance: Rc<Cell<usize>>,
    emit: &'a mut Emit<'b>,
}

impl Walk<'_, '_> {
    fn leaf<E: serde::de::Error>(&mut self, text: String) -> Result<(), E> {
        self.allowance.set(LEAF_TEXT_BYTES_MAX);
        let value = RawValue::from_string(text).map_err(E::custom)?;
        (self.emit)(Entry { path: self.path.clone(), value }).map_err(E::custom)
    }

    fn scalar<E: serde::de::Error>(&mut self, value: &impl serde::Serialize) -> Result<(), E> {
        let text = serde_json::to_string(value).map_err(E::custom)?;
        self.leaf(text)
    }
}

/// The value at the walk's path.
struct Node<'w, 'a, 'b>(&'w mut Walk<'a, 'b>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.leaf("null".to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.scalar(&value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.scalar(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.scalar(&value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.scalar(&value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.0.scalar(&value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut text = String::from("[");
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(item.get());
        }
        text.push(']');
        self.0.leaf(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0_usize;
        while let Some(key) = members.next_key::<String>()? {
            if key == ".bytes" || key == ".sv" {
                let value = members.next_value::<Box<RawValue>>()?;
                let is_alone = count == 0 && members.next_key::<String>()?.is_none();
                if !is_alone {
                    let message = format!(
                        "at {:?}: {key:?} is not a key beside others; write .{key} for a key of \
                         that name",
                        self.0.path
                    );
                    return Err(A::Error::custom(message));
                }
                return self.0.leaf(format!("{{\"{key}\":{}}}", value.get()));
            }
            count += 1;
            let name = unescaped(&key);
            if name.is_empty() || name.contains('/') {
                let message = format!("at {:?}: {name:?} is no key", self.0.path);
                return Err(A::Error::custom(message));
            }
            let length = self.0.path.len();
            if length > 0 {
                self.0.path.push('/');
            }
            self.0.path.push_str(name);
            self.0.allowance.set(LEAF_TEXT_BYTES_MAX);
            members.next_value_seed(Node(self.0))?;
            self.0.path.truncate(length);
        }
        if count == 0 { self.0.leaf("{}".to_owned()) } else { Ok(()) }
    }
}

/// The key that `..bytes`, `...sv` and the like stand for.
fn unescaped(key: &str) -> &str {
    match (key.trim_start_matches('.'), key.strip_prefix('.')) {
        ("bytes" | "sv", Some(inner)) => inner,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(text: &str) -> Result<Vec<(String, String)>, Failure> {
        let mut leaves = Vec::new();
        json(text.as_bytes(), "base", &mut |entry| {
            leaves.push((entry.path, entry.value.get().to_owned()));
            Ok(())
        })?;
        Ok(leaves)
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(path, value)| ((*path).into(), (*value).into())).collect()
    }

    #[test]
    fn every_leaf_is_given_once_with_its_path() {
        let text = r#" {"a":{"b":1,"c":{}},"list":[1, {"x":null},[]],"s":"\u0041","n":null,
            "raw":{".bytes":"AAE="},"..bytes":true,"...sv":-1.5e3} "#;
        assert_eq!(
            walk(text).expect("walks"),
            pairs(&[
                ("base/a/b", "1"),
                ("base/a/c", "{}"),
                ("base/list", r#"[1,{"x":null},[]]"#),
                ("base/s", r#""A""#),
                ("base/n", "null"),
                ("base/raw", r#"{".bytes":"AAE="}"#),
                ("base/.bytes", "true"),
                ("base/..sv", "-1500.0"),
            ])
        );
        assert_eq!(walk("17").expect("walks"), pairs(&[("base", "17")]));
    }

    #[test]
    fn what_the_tree_would_refuse_or_misread_ends_the_walk() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        for text in [
            r#"{"a/b":1}"#,
            r#"{"":1}"#,
            r#"{"a":1,".bytes":"AA=="}"#,
            r#"{".bytes":"AA==","a":1}"#,
            r#"{"a":1"#,
            r#"{"a":1} 2"#,
            r#"{"a":1e400}"#,
            &deep,
        ] {
            assert!(walk(text).is_err(), "{}", text.get(..40).unwrap_or(text));
        }
    }

    #[test]
    fn a_leaf_larger_than_its_ration_ends_the_walk_without_being_held() {
        let endless = io::Read::chain(&b"{\"a\":\""[..], io::repeat(b'x'));
        let outcome = json(endless, "", &mut |_| Ok(()));
        assert!(outcome.is_err_and(|failure| failure.to_string().contains("single value")));
    }

    #[test]
    fn lines_are_leaves_below_the_base() {
        let text = "{\"path\":\"a/b\",\"value\":[1, 2]}\n\n{\"path\":\"\",\"value\":3}";
        let mut leaves = Vec::new();
        lines(text.as_bytes(), "base", &mut |entry| {
            leaves.push((entry.path, entry.value.get().to_owned()));
            Ok(())
        })
        .expect("walks");
        assert_eq!(leaves, pairs(&[("base/a/b", "[1, 2]"), ("base", "3")]));
        assert!(lines(&b"{\"path\":1}"[..], "", &mut |_| Ok(())).is_err());
    }
}
