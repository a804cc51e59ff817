//! The reference: a query evaluated on plain JSON, as naively as it is told.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};
use trellis_query::Pattern;
use trellis_tree::{Input, Leaf};

/// A wire form that is one value, not an object.
fn is_object(value: &Value) -> bool {
    value.as_object().is_some_and(|members| !members.contains_key(".bytes"))
}

/// The members of an object with members.
pub(crate) fn children(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let members = value.as_object().filter(|_| is_object(value));
    members.into_iter().flatten()
}

/// The places that fit a pattern, with what is there.
pub(crate) fn collections(root: &Value, pattern: &Pattern) -> Vec<(Vec<String>, Value)> {
    let mut found = vec![(Vec::new(), root.clone())];
    let pattern = pattern.to_string();
    for segment in pattern.split('/').filter(|segment| !segment.is_empty()) {
        let mut next = Vec::new();
        for (at, value) in found {
            for (key, child) in children(&value) {
                if segment == "*" || segment == key {
                    let at: Vec<String> = at.iter().cloned().chain([key.clone()]).collect();
                    next.push((at, child.clone()));
                }
            }
        }
        found = next;
    }
    found
}

/// What a field of an item holds.
pub(crate) fn field(key: &str, item: &Value, field: &str) -> Option<Value> {
    match field {
        "$key" => Some(json!(key)),
        "$value" => Some(item.clone()),
        _ => field.split('/').try_fold(item.clone(), |value, segment| {
            children(&value).find(|(name, _)| *name == segment).map(|(_, value)| value.clone())
        }),
    }
}

fn leaf(value: &Value) -> Option<Leaf> {
    if is_object(value) && !value.as_object().unwrap().is_empty() {
        return None;
    }
    Input::from_json(value.clone()).unwrap().as_leaf().cloned()
}

fn class(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Object(_) if !is_object(value) => 5,
        Value::Array(_) => 6,
        Value::Object(_) => 7,
    }
}

/// The first 256 bytes of what has a text.
fn cut(leaf: &Leaf) -> Vec<u8> {
    let bytes: &[u8] = match leaf {
        Leaf::String(text) | Leaf::Array(text) => text.as_bytes(),
        Leaf::Bytes(bytes) => bytes,
        _ => &[],
    };
    bytes[..bytes.len().min(256)].to_vec()
}

fn order(a: &Option<Value>, b: &Option<Value>) -> Ordering {
    let (a, b) = (a.as_ref().unwrap_or(&Value::Null), b.as_ref().unwrap_or(&Value::Null));
    class(a).cmp(&class(b)).then_with(|| match (leaf(a), leaf(b)) {
        (Some(a), Some(b)) if class_of_number(&a) => a.compare(&b),
        (Some(a), Some(b)) => cut(&a).cmp(&cut(&b)),
        _ => Ordering::Equal,
    })
}

fn class_of_number(leaf: &Leaf) -> bool {
    matches!(leaf, Leaf::Int(_) | Leaf::Float(_))
}

fn kind(value: &Value) -> u8 {
    if class(value) == 2 { 1 } else { class(value) }
}

/// Compares whole values of one kind.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    (kind(a) == kind(b)).then(|| leaf(a).unwrap().compare(&leaf(b).unwrap()))
}

fn test(value: Option<&Value>, operator: &str, operand: Option<&Value>) -> bool {
    let null = operand.is_some_and(Value::is_null);
    match (operator, value) {
        ("absent", value) => return value.is_none(),
        ("exists", value) => return value.is_some(),
        ("=", value) if null => return value.is_none(),
        ("!=", value) if null => return value.is_some(),
        ("in", None) => return operand.unwrap().as_array().unwrap().contains(&Value::Null),
        (_, None) => return false,
        _ => {}
    }
    let (value, operand) = (value.unwrap(), operand.unwrap());
    let plain = class(value) != 7;
    let is = |wanted: fn(Ordering) -> bool, other: &Value| {
        plain && !other.is_null() && compare(value, other).is_some_and(wanted)
    };
    match operator {
        "=" => is(Ordering::is_eq, operand),
        "!=" => !is(Ordering::is_eq, operand),
        "<" => is(Ordering::is_lt, operand),
        "<=" => is(Ordering::is_le, operand),
        ">" => is(Ordering::is_gt, operand),
        ">=" => is(Ordering::is_ge, operand),
        "in" => operand.as_array().unwrap().iter().any(|one| is(Ordering::is_eq, one)),
        "between" => is(Ordering::is_ge, &operand[0]) && is(Ordering::is_le, &operand[1]),
        "starts-with" => {
            value.as_str().is_some_and(|text| text.starts_with(operand.as_str().unwrap()))
        }
        "contains" => match value {
            Value::String(text) => operand.as_str().is_some_and(|part| text.contains(part)),
            Value::Array(items) => items.iter().any(|item| {
                item == operand || compare_numbers(item, operand) == Some(Ordering::Equal)
            }),
            _ => false,
        },
        other => panic!("{other}"),
    }
}

fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    (a.is_number() && b.is_number()).then(|| leaf(a).unwrap().compare(&leaf(b).unwrap()))
}

fn fits(key: &str, item: &Value, condition: &Value) -> bool {
    if let Some(parts) = condition.get("or") {
        return parts.as_array().unwrap().iter().any(|part| fits(key, item, part));
    }
    if let Some(parts) = condition.get("and") {
        return parts.as_array().unwrap().iter().all(|part| fits(key, item, part));
    }
    let value = field(key, item, condition[0].as_str().unwrap());
    test(value.as_ref(), condition[1].as_str().unwrap(), condition.get(2))
}

/// Everything that fits a query, in its order: paths and values.
pub(crate) fn matches(root: &Value, query: &Value) -> Vec<(String, Value)> {
    let pattern = Pattern::parse(query["path"].as_str().unwrap()).unwrap();
    let mut found: Vec<(Vec<String>, Value)> = Vec::new();
    for (at, collection) in collections(root, &pattern) {
        for (key, item) in children(&collection) {
            let conditions = query.get("where").and_then(Value::as_array);
            if conditions.into_iter().flatten().all(|condition| fits(key, item, condition)) {
                found.push((at.iter().cloned().chain([key.clone()]).collect(), item.clone()));
            }
        }
    }
    let orders: Vec<(String, bool)> = match query.get("orderBy") {
        None => Vec::new(),
        Some(Value::String(field)) => vec![(field.clone(), false)],
        Some(list) => {
            let one = |order: &Value| (order[0].as_str().unwrap().to_owned(), order[1] == "desc");
            list.as_array().unwrap().iter().map(one).collect()
        }
    };
    let backwards = orders.last().is_some_and(|(_, descending)| *descending);
    found.sort_by(|(a_path, a), (b_path, b)| {
        let (a_key, b_key) = (a_path.last().unwrap(), b_path.last().unwrap());
        for (name, descending) in &orders {
            let way = if name == "$key" {
                a_key.as_bytes().cmp(b_key.as_bytes())
            } else {
                order(&field(a_key, a, name), &field(b_key, b, name))
            };
            let way = if *descending { way.reverse() } else { way };
            if way.is_ne() {
                return way;
            }
        }
        let ties = a_key.cmp(b_key).then_with(|| a_path.cmp(b_path));
        if backwards { ties.reverse() } else { ties }
    });
    found.into_iter().map(|(path, item)| (path.join("/"), item)).collect()
}

/// An item cut to what is selected.
pub(crate) fn selected(item: &Value, fields: &[&str]) -> Value {
    let mut out = Value::Object(Map::new());
    for name in fields {
        let Some(value) = field("", item, name) else { continue };
        let mut at = &mut out;
        let segments: Vec<&str> = name.split('/').collect();
        for segment in &segments[..segments.len() - 1] {
            at = at.as_object_mut().unwrap().entry(*segment).or_insert_with(|| json!({}));
        }
        at.as_object_mut().unwrap().insert(segments[segments.len() - 1].to_owned(), value);
    }
    out
}

/// Figures by group: count, sum, min, max and mean of the same fields.
pub(crate) fn groups(items: &[(String, Value)], by: &[&str], of: &[&str]) -> Vec<Value> {
    type Group<'a> = (Vec<Value>, Vec<(&'a str, &'a Value)>);
    let mut groups: Vec<Group<'_>> = Vec::new();
    if by.is_empty() {
        groups.push((Vec::new(), Vec::new()));
    }
    for (path, item) in items {
        let key = path.rsplit('/').next().unwrap();
        let value = |name: &&str| match field(key, item, name) {
            Some(value) if class(&value) == 7 => json!({}),
            value => value.unwrap_or_default(),
        };
        let group: Vec<Value> = by.iter().map(value).collect();
        let same = |own: &Vec<Value>| own.iter().zip(&group).all(|(a, b)| is_same(a, b));
        match groups.iter_mut().find(|(own, _)| same(own)) {
            Some((_, members)) => members.push((key, item)),
            None => groups.push((group, vec![(key, item)])),
        }
    }
    groups.iter().map(|(key, items)| figures(key, items, of)).collect()
}

fn is_same(a: &Value, b: &Value) -> bool {
    a == b || compare_numbers(a, b) == Some(Ordering::Equal)
}

fn figures(key: &[Value], items: &[(&str, &Value)], of: &[&str]) -> Value {
    let mut json = json!({ "key": key, "count": items.len() });
    for name in of {
        let values: Vec<Value> =
            items.iter().filter_map(|(key, item)| field(key, item, name)).collect();
        let whole: i128 = values.iter().filter_map(Value::as_i64).map(i128::from).sum();
        let parts: Vec<f64> =
            values.iter().filter(|value| value.is_f64()).filter_map(Value::as_f64).collect();
        let total = whole as f64 + parts.iter().sum::<f64>();
        let count = values.iter().filter(|value| value.is_number()).count();
        json["sum"][*name] = match i64::try_from(whole) {
            Ok(whole) if parts.is_empty() => json!(whole),
            _ => json!(total),
        };
        json["avg"][*name] = if count == 0 { Value::Null } else { json!(total / count as f64) };
        let mut leaves: Vec<(Leaf, Value)> =
            values.into_iter().filter_map(|value| leaf(&value).map(|own| (own, value))).collect();
        // Of equal ones the first stays.
        leaves.sort_by(|(a, _), (b, _)| a.compare(b));
        let lowest = leaves.first().map(|(_, value)| value.clone());
        let highest = leaves.last().map(|(_, value)| value.clone());
        json["min"][*name] = lowest.unwrap_or_default();
        json["max"][*name] = highest.unwrap_or_default();
    }
    json
}
