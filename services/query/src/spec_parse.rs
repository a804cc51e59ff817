//! From JSON to a [`QuerySpec`]: every refusal names the place and what is wanted there.

use serde_json::{Map, Value};
use trellis_engine_traits::{Error, Result};
use trellis_tree::{Input, Leaf};

use crate::encoding::class_of;
use crate::errors::{invalid, too_large};
use crate::field::Field;
use crate::filter::{Comparison, Filter, Test};
use crate::pattern::Pattern;
use crate::spec::{
    AGGREGATE_FIELDS_MAX, Aggregate, CONDITIONS_MAX, GROUP_DEPTH_MAX, IN_VALUES_MAX, LIMIT_DEFAULT,
    LIMIT_MAX, ORDER_MAX, Order, QuerySpec, SELECT_MAX, Totals,
};

const MEMBERS: [&str; 8] =
    ["path", "where", "orderBy", "limit", "cursor", "select", "count", "aggregate"];
const OPERATORS: &str = "= != < <= > >= in between starts-with contains exists absent";

impl QuerySpec {
    /// Reads a query's JSON; docs/queries.md has the shape.
    ///
    /// # Errors
    /// `InvalidInput` with the place and what is wanted there; `TooLarge` beyond a limit.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(json)
            .map_err(|error| invalid(format!("a query is JSON: {error}")))?;
        Self::from_json(&json)
    }

    /// As [`QuerySpec::parse`], from JSON that was read already.
    ///
    /// # Errors
    /// As for [`QuerySpec::parse`].
    pub fn from_json(json: &Value) -> Result<Self> {
        query(json)
    }
}

fn query(json: &Value) -> Result<QuerySpec> {
    let members = json.as_object().ok_or_else(|| invalid("a query is an object"))?;
    known(members, &MEMBERS, "a query")?;
    let path = match members.get("path") {
        Some(Value::String(path)) => Pattern::parse(path)?,
        _ => return Err(invalid("a query has a path, a string: the collection")),
    };
    let mut budget = Budget { conditions: CONDITIONS_MAX, values: IN_VALUES_MAX };
    let filter = Filter::And(match members.get("where") {
        None => Vec::new(),
        Some(Value::Array(parts)) => filters(parts, 1, &mut budget)?,
        Some(_) => return Err(invalid("where is a list, as in [[\"age\", \">=\", 18]]")),
    });
    let spec = QuerySpec {
        path,
        filter,
        order: members.get("orderBy").map_or(Ok(Vec::new()), order)?,
        limit: members.get("limit").map_or(Ok(LIMIT_DEFAULT), limit)?,
        cursor: match members.get("cursor") {
            None => None,
            Some(Value::String(cursor)) => Some(cursor.clone()),
            Some(_) => return Err(invalid("cursor is the nextCursor of an earlier page")),
        },
        select: members.get("select").map(select).transpose()?,
        totals: totals(members)?,
    };
    let page = ["orderBy", "limit", "cursor", "select"];
    if spec.totals.is_some()
        && let Some(name) = page.iter().find(|name| members.contains_key(**name))
    {
        let message = format!("count and aggregate look at every match: they have no {name}");
        return Err(invalid(message));
    }
    Ok(spec)
}

fn known(members: &Map<String, Value>, names: &[&str], what: &str) -> Result<()> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            Err(invalid(format!("{what} has no {shown:?}; it has {}", names.join(", "))))
        }
    }
}

/// What a query may still hold.
struct Budget {
    conditions: usize,
    values: usize,
}

fn filters(parts: &[Value], depth: usize, budget: &mut Budget) -> Result<Vec<Filter>> {
    parts.iter().map(|part| filter(part, depth, budget)).collect()
}

fn filter(json: &Value, depth: usize, budget: &mut Budget) -> Result<Filter> {
    match json {
        Value::Array(parts) => {
            budget.conditions = budget.conditions.checked_sub(1).ok_or_else(|| {
                too_large("the query has too many conditions", "conditions_max", CONDITIONS_MAX)
            })?;
            condition(parts, budget)
        }
        Value::Object(members) => {
            if depth > GROUP_DEPTH_MAX {
                let message = "groups of conditions are nested too deeply";
                return Err(too_large(message, "group_depth_max", GROUP_DEPTH_MAX));
            }
            let mut members_iter = members.iter();
            let (name, parts) = match (members_iter.next(), members_iter.next()) {
                (Some((name, Value::Array(parts))), None) => (name.as_str(), parts),
                _ => return Err(group_shape()),
            };
            if parts.is_empty() {
                return Err(invalid(format!("the group {name:?} has at least one condition")));
            }
            let parts = filters(parts, depth + 1, budget)?;
            match name {
                "or" => Ok(Filter::Or(parts)),
                "and" => Ok(Filter::And(parts)),
                _ => Err(group_shape()),
            }
        }
        _ => Err(invalid("a condition is a list, as [\"age\", \">=\", 18], or a group")),
    }
}

fn group_shape() -> Error {
    invalid("a group is {\"or\": [conditions]} or {\"and\": [conditions]}")
}

fn condition(parts: &[Value], budget: &mut Budget) -> Result<Filter> {
    let (Some(Value::String(field)), Some(Value::String(operator))) = (parts.first(), parts.get(1))
    else {
        return Err(invalid("a condition is [field, operator, value], the first two strings"));
    };
    let field = Field::parse(field)?;
    let test = match (operator.as_str(), parts.get(2..).unwrap_or_default()) {
        ("exists", []) => Test::Exists,
        ("absent", []) => Test::Absent,
        ("exists" | "absent", _) => {
            return Err(invalid(format!("{operator} takes no value: [field, \"{operator}\"]")));
        }
        (_, [operand]) => test(operator, operand, budget)?,
        _ => {
            return Err(invalid(format!(
                "a condition is [field, operator, value]; the operators \
                                         are {OPERATORS}"
            )));
        }
    };
    if field == Field::Key {
        key_takes(&test)?;
    }
    Ok(Filter::Field(field, test))
}

fn test(operator: &str, operand: &Value, budget: &mut Budget) -> Result<Test> {
    let ranged = |comparison: Comparison| match operand {
        Value::Null => Err(invalid(format!(
            "null has no place in an order: {} takes a value, absent asks for nothing",
            comparison.name()
        ))),
        _ => Ok(Test::Compare(comparison, leaf(operand)?)),
    };
    Ok(match (operator, operand) {
        ("=", Value::Null) => Test::Absent,
        ("!=", Value::Null) => Test::Exists,
        ("=", _) => Test::Equal(leaf(operand)?),
        ("!=", _) => Test::NotEqual(leaf(operand)?),
        ("<", _) => ranged(Comparison::Less)?,
        ("<=", _) => ranged(Comparison::AtMost)?,
        (">", _) => ranged(Comparison::Greater)?,
        (">=", _) => ranged(Comparison::AtLeast)?,
        ("in", Value::Array(items)) => {
            budget.values = budget.values.checked_sub(items.len()).ok_or_else(|| {
                too_large("the query's in lists are too long", "in_values_max", IN_VALUES_MAX)
            })?;
            let present = items.iter().filter(|item| !item.is_null());
            let values = present.map(leaf).collect::<Result<Vec<_>>>()?;
            Test::In { or_absent: values.len() < items.len(), values }
        }
        ("in", _) => return Err(invalid("in takes a list of values")),
        ("between", Value::Array(ends)) => match ends.as_slice() {
            [from, to] if !from.is_null() && !to.is_null() => {
                let (from, to) = (leaf(from)?, leaf(to)?);
                if class_of(&from) != class_of(&to) {
                    return Err(invalid("the two ends of between are values of one kind"));
                }
                Test::Between(from, to)
            }
            _ => return Err(invalid("between takes a list of two values, the lower one first")),
        },
        ("between", _) => return Err(invalid("between takes a list of two values")),
        ("starts-with", Value::String(prefix)) => Test::StartsWith(prefix.clone()),
        ("starts-with", _) => return Err(invalid("starts-with takes a string")),
        ("contains", Value::Null) => return Err(invalid("contains takes a value, not null")),
        ("contains", _) => Test::Contains(leaf(operand)?),
        _ => {
            let shown: String = operator.chars().take(40).collect();
            return Err(invalid(format!("unknown operator {shown:?}; known are {OPERATORS}")));
        }
    })
}

/// Keys are text: whatever else is asked of them is a mistake.
fn key_takes(test: &Test) -> Result<()> {
    let text = |leaf: &Leaf| matches!(leaf, Leaf::String(_));
    let fine = match test {
        Test::Equal(value) | Test::NotEqual(value) | Test::Contains(value) => text(value),
        Test::Compare(_, value) => text(value),
        Test::Between(from, to) => text(from) && text(to),
        Test::In { values, .. } => values.iter().all(text),
        Test::StartsWith(_) | Test::Exists | Test::Absent => true,
    };
    if fine { Ok(()) } else { Err(invalid("a key is text: $key is compared with strings")) }
}

/// A value to compare with.
fn leaf(json: &Value) -> Result<Leaf> {
    let input = Input::from_json(json.clone())?;
    match input.as_leaf() {
        Some(Leaf::EmptyObject) | None => Err(invalid(
            "a value to compare with is a boolean, a number, a string, bytes or an array",
        )),
        Some(leaf) => Ok(leaf.clone()),
    }
}

fn order(json: &Value) -> Result<Vec<Order>> {
    let keys: Vec<Order> = match json {
        Value::String(_) => vec![order_key(json)?],
        Value::Array(items) if items.is_empty() => {
            return Err(invalid("orderBy names at least one field"));
        }
        // ["age", "desc"] says one field with its direction.
        Value::Array(items) if is_direction(items.get(1)) && items.len() == 2 => {
            vec![order_key(json)?]
        }
        Value::Array(items) => {
            if items.len() > ORDER_MAX {
                let message = "orderBy names too many fields";
                return Err(too_large(message, "order_fields_max", ORDER_MAX));
            }
            items.iter().map(order_key).collect::<Result<_>>()?
        }
        _ => return Err(order_shape()),
    };
    for (index, key) in keys.iter().enumerate() {
        if keys.iter().take(index).any(|other| other.field == key.field) {
            return Err(invalid(format!("orderBy names {} twice", key.field)));
        }
    }
    Ok(keys)
}

fn is_direction(json: Option<&Value>) -> bool {
    matches!(json.and_then(Value::as_str), Some("asc" | "desc"))
}

fn order_shape() -> Error {
    invalid("orderBy is a field, or a list of [field, \"asc\" or \"desc\"]")
}

/// Reads a field, or a field with its direction.
pub(crate) fn order_key(json: &Value) -> Result<Order> {
    let (field, descending) = match json {
        Value::String(field) => (field, false),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(field)] => (field, false),
            [Value::String(field), Value::String(way)] if way == "asc" => (field, false),
            [Value::String(field), Value::String(way)] if way == "desc" => (field, true),
            _ => return Err(order_shape()),
        },
        _ => return Err(order_shape()),
    };
    Ok(Order { field: Field::parse(field)?, descending })
}

fn limit(json: &Value) -> Result<usize> {
    match json.as_u64().map(usize::try_from) {
        Some(Ok(0)) | None => {
            Err(invalid(format!("limit is a whole number from 1 to {LIMIT_MAX}")))
        }
        Some(Ok(limit)) if limit <= LIMIT_MAX => Ok(limit),
        Some(_) => {
            Err(too_large("limit is too large; page with the cursor", "limit_max", LIMIT_MAX))
        }
    }
}

fn select(json: &Value) -> Result<Vec<Field>> {
    let mut fields = fields(json, "select", SELECT_MAX)?;
    if fields.iter().any(|field| !matches!(field, Field::Path(_))) {
        return Err(invalid("select names paths below the item; its key is always there"));
    }
    // What lies below a selected field is selected with it.
    fields.sort();
    let covers = |a: &Field, b: &Field| match (a, b) {
        (Field::Path(a), Field::Path(b)) => a.covers(b),
        _ => false,
    };
    fields.dedup_by(|later, earlier| covers(earlier, later));
    Ok(fields)
}

fn fields(json: &Value, what: &str, max: usize) -> Result<Vec<Field>> {
    let shape = || invalid(format!("{what} is a list of fields, each a string"));
    let items = json.as_array().ok_or_else(shape)?;
    if items.len() > max {
        return Err(too_large(format!("{what} names too many fields"), "fields_max", max));
    }
    items.iter().map(|item| Field::parse(item.as_str().ok_or_else(shape)?)).collect()
}

fn totals(members: &Map<String, Value>) -> Result<Option<Totals>> {
    let count = match members.get("count") {
        None => false,
        Some(Value::Bool(count)) => *count,
        Some(_) => return Err(invalid("count is true or false")),
    };
    let Some(json) = members.get("aggregate") else {
        return Ok(count.then_some(Totals::Count));
    };
    if count {
        return Err(invalid("count stands inside aggregate when both are wanted"));
    }
    let shape = "aggregate is {groupBy?, count?, sum?, min?, max?, avg?}";
    let parts = json.as_object().ok_or_else(|| invalid(shape))?;
    known(parts, &["groupBy", "count", "sum", "min", "max", "avg"], "aggregate")?;
    let list = |name: &str| -> Result<Vec<Field>> {
        let Some(json) = parts.get(name) else { return Ok(Vec::new()) };
        let mut fields = fields(json, name, AGGREGATE_FIELDS_MAX)?;
        if name != "groupBy" {
            fields.sort();
            fields.dedup();
        }
        Ok(fields)
    };
    let aggregate = Aggregate {
        group_by: list("groupBy")?,
        count: match parts.get("count") {
            None => false,
            Some(Value::Bool(count)) => *count,
            Some(_) => return Err(invalid("count is true or false")),
        },
        sum: list("sum")?,
        min: list("min")?,
        max: list("max")?,
        avg: list("avg")?,
    };
    if aggregate == Aggregate::default() {
        return Err(invalid(shape));
    }
    Ok(Some(Totals::Groups(aggregate)))
}
