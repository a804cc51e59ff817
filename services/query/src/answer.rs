//! [`Answer`]: items with their values, and their JSON.

use std::collections::BTreeMap;

use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Path, View, write_key};

use crate::errors::too_large;
use crate::field::Field;
use crate::position::Position;

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A page of items.
    Page(Page),
    /// `{"count": n}` or `{"groups": [...]}`.
    Totals(Value),
}

/// A page of items in the query's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The items.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// An item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path.
    pub path: Path,
    /// Its value as JSON text; `None` when nothing is selected.
    pub value: Option<String>,
}

impl Item {
    /// Its key: the last segment of its path.
    #[must_use]
    pub fn key(&self) -> &str {
        self.path.last().unwrap_or_default()
    }
}

impl Answer {
    /// Appends the answer as JSON, in the shape of the wire.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Page(page) => page.write_json(out),
            Self::Totals(totals) => out.extend_from_slice(totals.to_string().as_bytes()),
        }
    }

    /// The answer as JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_json(&mut out);
        out
    }
}

impl Page {
    /// Appends `{"items":[{"path","key","value"}],"nextCursor"?}`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"items\":[");
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.write_json(out);
        }
        out.push(b']');
        if let Some(cursor) = &self.next_cursor {
            out.extend_from_slice(b",\"nextCursor\":\"");
            // The alphabet of a cursor needs no escape.
            out.extend_from_slice(cursor.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}

impl Item {
    /// Appends `{"path","key","value"?}`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"path\":");
        write_text(&self.path.to_string(), out);
        out.extend_from_slice(b",\"key\":");
        write_text(self.key(), out);
        if let Some(value) = &self.value {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
    }
}

/// Appends a JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
}

/// What an item takes in an answer besides its value.
const ITEM_BYTES: usize = 64;

/// Reads the values of items in order, up to a size. The first that does not fit ends the page.
///
/// # Errors
/// `TooLarge` when not even the first fits; as for every read.
pub(crate) fn read_items(
    view: &View,
    select: Option<&[Field]>,
    positions: &[Position],
    bytes_max: usize,
) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(positions.len());
    let mut left = bytes_max;
    for position in positions {
        let path = Path::from_key(&position.path)?;
        let around = ITEM_BYTES + 2 * position.path.len();
        let value = match left.checked_sub(around) {
            Some(room) => read_value(view, select, &path, room),
            None => Err(Error::new(ErrorKind::TooLarge, "")),
        };
        match value {
            Ok(value) => {
                left -= around + value.as_ref().map_or(0, String::len);
                items.push(Item { path, value });
            }
            Err(error) if error.kind() != ErrorKind::TooLarge => return Err(error),
            Err(_) if items.is_empty() => {
                let message = "an item alone is larger than an answer: select fewer of its fields";
                return Err(too_large(message, "answer_bytes_max", bytes_max));
            }
            Err(_) => break,
        }
    }
    Ok(items)
}

/// The value of an item as it is selected: JSON text, or `None` when nothing is.
///
/// # Errors
/// `TooLarge` beyond `bytes_max`; as for every read.
pub(crate) fn read_value(
    view: &View,
    select: Option<&[Field]>,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<String>> {
    let json = match select {
        None => {
            let mut json = Vec::new();
            view.append_object_json(path, bytes_max, &mut json)?;
            json
        }
        Some([]) => return Ok(None),
        Some(fields) => selected(view, fields, path, bytes_max)?,
    };
    let text = String::from_utf8(json);
    text.map(Some).map_err(|_| Error::new(ErrorKind::Corrupt, "a stored value is not JSON"))
}

/// Members on the way to what is selected.
#[derive(Default)]
struct Members<'a>(BTreeMap<&'a str, Member<'a>>);

enum Member<'a> {
    Json(Vec<u8>),
    Members(Members<'a>),
}

fn selected(view: &View, fields: &[Field], path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let mut all = Members::default();
    let mut left = bytes_max;
    for field in fields {
        let Field::Path(below) = field else { continue };
        let Ok(at) = path.join(below) else { continue };
        // What lies inside an array is no field.
        if !has_leaves(view, &at)? {
            continue;
        }
        let json = view.get_json(&at, left)?;
        left = left.saturating_sub(json.len());
        let segments: Vec<&str> = below.segments().collect();
        all.insert(&segments, json);
    }
    let mut out = Vec::new();
    all.write(&mut out)?;
    if out.len() > bytes_max {
        let message = "the selected fields are too large";
        return Err(too_large(message, "answer_bytes_max", bytes_max));
    }
    Ok(out)
}

fn has_leaves(view: &View, path: &Path) -> Result<bool> {
    let mut any = false;
    view.leaves(path, None, &mut |_, _| {
        any = true;
        std::ops::ControlFlow::Break(())
    })?;
    Ok(any)
}

impl<'a> Members<'a> {
    fn insert(&mut self, segments: &[&'a str], json: Vec<u8>) {
        match segments {
            [] => {}
            [last] => {
                self.0.insert(last, Member::Json(json));
            }
            [first, rest @ ..] => {
                let inner = self.0.entry(first);
                // No selected field lies below another.
                if let Member::Members(inner) =
                    inner.or_insert_with(|| Member::Members(Members::default()))
                {
                    inner.insert(rest, json);
                }
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        for (index, (name, member)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_key(name.as_bytes(), out)?;
            out.push(b':');
            match member {
                Member::Json(json) => out.extend_from_slice(json),
                Member::Members(inner) => inner.write(out)?,
            }
        }
        out.push(b'}');
        Ok(())
    }
}
