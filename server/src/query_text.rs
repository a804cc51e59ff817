//! Queries as people type them: in a URL, or on the command line.
//!
//! `age>=18`, `name starts-with A`, `country in DE,FR`, `email exists`; JSON wherever that does not
//! do. An operand is JSON where it is JSON (`18`, `true`, `"18"`), and a string otherwise.

use serde_json::{Map, Value, json};

use crate::error::WireError;

/// Operators of two words and one symbol, longest first where one begins with the other.
const SYMBOLS: [&str; 6] = [">=", "<=", "!=", "=", "<", ">"];
/// Operators with an operand of one value.
const WORDS: [&str; 2] = ["starts-with", "contains"];
/// Operators with an operand of several.
const LISTS: [&str; 2] = ["in", "between"];
/// Operators without an operand.
const ALONE: [&str; 2] = ["exists", "absent"];

/// A query as it was typed.
#[derive(Debug, Default, Clone)]
pub(crate) struct TypedQuery {
    /// Conditions, all of which hold.
    pub(crate) conditions: Vec<String>,
    pub(crate) order_by: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) cursor: Option<String>,
    pub(crate) select: Option<String>,
    pub(crate) count: bool,
    pub(crate) aggregate: Option<String>,
}

impl TypedQuery {
    /// Whether anything was typed.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { conditions, order_by, limit, cursor, select, count, aggregate } = self;
        conditions.is_empty()
            && order_by.is_none()
            && limit.is_none()
            && cursor.is_none()
            && select.is_none()
            && !count
            && aggregate.is_none()
    }

    /// The query on `path`, as the protocol writes it.
    pub(crate) fn to_json(&self, path: &str) -> Result<Map<String, Value>, WireError> {
        let mut query = Map::new();
        query.insert("path".to_owned(), path.into());
        let mut conditions = Vec::new();
        for text in &self.conditions {
            conditions.extend(conditions_of(text)?);
        }
        if !conditions.is_empty() {
            query.insert("where".to_owned(), Value::Array(conditions));
        }
        if let Some(order) = &self.order_by {
            query.insert("orderBy".to_owned(), order_of(order)?);
        }
        if let Some(limit) = self.limit {
            query.insert("limit".to_owned(), limit.into());
        }
        if let Some(cursor) = &self.cursor {
            query.insert("cursor".to_owned(), cursor.as_str().into());
        }
        if let Some(select) = &self.select {
            query.insert("select".to_owned(), select_of(select)?);
        }
        if self.count {
            query.insert("count".to_owned(), true.into());
        }
        if let Some(aggregate) = &self.aggregate {
            query.insert("aggregate".to_owned(), json_of("aggregate", aggregate)?);
        }
        Ok(query)
    }
}

/// The conditions of one text: JSON, or `field operator operand`.
fn conditions_of(text: &str) -> Result<Vec<Value>, WireError> {
    let text = text.trim();
    if text.starts_with(['[', '{']) {
        return match json_of("where", text)? {
            // One condition, or a list of them.
            Value::Array(list) if list.first().is_some_and(Value::is_string) => {
                Ok(vec![Value::Array(list)])
            }
            Value::Array(list) => Ok(list),
            group => Ok(vec![group]),
        };
    }
    condition_of(text).map(|condition| vec![condition]).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        WireError::invalid(format!(
            "{shown:?} is no condition: write age>=18, name starts-with A, country in DE,FR, \
             email exists, or JSON such as [[\"age\",\">=\",18]]; several are given one by one"
        ))
    })
}

fn condition_of(text: &str) -> Option<Value> {
    if let Some((field, rest)) = text.split_once(char::is_whitespace) {
        let rest = rest.trim_start();
        let (operator, operand) = match rest.split_once(char::is_whitespace) {
            Some((operator, operand)) => (operator, Some(operand.trim())),
            None => (rest, None),
        };
        match operand {
            None if ALONE.contains(&operator) => return Some(json!([field, operator])),
            Some(operand) if WORDS.contains(&operator) => {
                return Some(json!([field, operator, operand_of(operand)]));
            }
            Some(operand) if LISTS.contains(&operator) => {
                return Some(json!([field, operator, operands_of(operand)]));
            }
            _ => {}
        }
    }
    let (at, operator) = SYMBOLS
        .iter()
        .filter_map(|symbol| text.find(symbol).map(|at| (at, *symbol)))
        // The first, and of two at one place the longer, which stands before the other.
        .min_by_key(|(at, _)| *at)?;
    let (field, rest) = text.split_at_checked(at)?;
    let field = field.trim();
    if field.is_empty() {
        return None;
    }
    let operand = rest.strip_prefix(operator)?.trim();
    (!is_more(operand)).then(|| json!([field, operator, operand_of(operand)]))
}

/// Whether this is more than one operand: `= 5` of `age == 5`, `5 and b = 2`. As a text it would
/// only find nothing; who means such a text writes it in quotes.
fn is_more(operand: &str) -> bool {
    let signs = ['=', '<', '>'];
    let joins = |word: &str| ["and", "or", "&&", "||"].contains(&word.to_lowercase().as_str());
    let is_joined = operand.contains(signs) && operand.split_whitespace().any(joins);
    (operand.starts_with(signs) || is_joined) && serde_json::from_str::<Value>(operand).is_err()
}

fn operand_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn operands_of(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Array(list)) => Value::Array(list),
        _ => text.split(',').map(|operand| operand_of(operand.trim())).collect(),
    }
}

/// `age desc, name`, or JSON.
fn order_of(text: &str) -> Result<Value, WireError> {
    if text.trim_start().starts_with(['[', '"']) {
        return json_of("orderBy", text);
    }
    let orders = text.split(',').map(|order| {
        let mut words = order.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(field), None, None) => Ok(json!([field, "asc"])),
            (Some(field), Some(direction @ ("asc" | "desc")), None) => {
                Ok(json!([field, direction]))
            }
            _ => Err(WireError::invalid(
                "an order is a list of fields such as age desc,name or JSON such as \
                 [[\"age\",\"desc\"],\"name\"]",
            )),
        }
    });
    orders.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// `name,profile/age`, or JSON.
fn select_of(text: &str) -> Result<Value, WireError> {
    if text.trim_start().starts_with('[') {
        return json_of("select", text);
    }
    Ok(text.split(',').map(str::trim).filter(|field| !field.is_empty()).collect())
}

fn json_of(what: &str, text: &str) -> Result<Value, WireError> {
    serde_json::from_str(text)
        .map_err(|error| WireError::invalid(format!("{what} is no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(text: &str) -> Value {
        Value::Array(conditions_of(text).unwrap_or_else(|error| panic!("{text}: {error:?}")))
    }

    #[test]
    fn conditions_are_typed_or_json() {
        for (text, expected) in [
            ("age>=18", json!([["age", ">=", 18]])),
            ("age >= 18", json!([["age", ">=", 18]])),
            ("age<18", json!([["age", "<", 18]])),
            ("name=Alice", json!([["name", "=", "Alice"]])),
            ("name = \"18\"", json!([["name", "=", "18"]])),
            ("name = Simon and Garfunkel", json!([["name", "=", "Simon and Garfunkel"]])),
            ("name = \"a and b = c\"", json!([["name", "=", "a and b = c"]])),
            ("a!=b=c", json!([["a", "!=", "b=c"]])),
            ("gone=null", json!([["gone", "=", null]])),
            ("profile/name starts-with Al", json!([["profile/name", "starts-with", "Al"]])),
            ("name contains a=b", json!([["name", "contains", "a=b"]])),
            ("country in DE,FR", json!([["country", "in", ["DE", "FR"]]])),
            ("age between 1, 5", json!([["age", "between", [1, 5]]])),
            ("age in [1,\"x\"]", json!([["age", "in", [1, "x"]]])),
            ("email exists", json!([["email", "exists"]])),
            ("$key absent", json!([["$key", "absent"]])),
            (r#"["age",">",1]"#, json!([["age", ">", 1]])),
            (r#"[["age",">",1],["b","=",2]]"#, json!([["age", ">", 1], ["b", "=", 2]])),
            (r#"{"or":[["a","=",1]]}"#, json!([{"or": [["a", "=", 1]]}])),
        ] {
            assert_eq!(conditions(text), expected, "{text}");
        }
        let no_single = ["age > 5 and c = DE", "a=1 || b=2", "age == 5", "age => 5", "age <> 5"];
        let no_condition = ["", "age", "=5", ">=", "age exists not", "[", "age starts-with"];
        for text in no_single.into_iter().chain(no_condition) {
            let error = conditions_of(text).expect_err(text);
            assert_eq!(error.code, "invalid", "{text}");
        }
    }

    #[test]
    fn what_was_typed_is_the_query_that_the_protocol_writes() {
        let typed = TypedQuery {
            conditions: vec!["age>=18".to_owned(), "name exists".to_owned()],
            order_by: Some("age desc, name".to_owned()),
            limit: Some(5),
            select: Some("name, age".to_owned()),
            ..TypedQuery::default()
        };
        assert_eq!(
            Value::Object(typed.to_json("users").expect("a query")),
            json!({
                "path": "users",
                "where": [["age", ">=", 18], ["name", "exists"]],
                "orderBy": [["age", "desc"], ["name", "asc"]],
                "limit": 5,
                "select": ["name", "age"],
            })
        );
        assert!(TypedQuery::default().is_empty() && !typed.is_empty());
    }
}
