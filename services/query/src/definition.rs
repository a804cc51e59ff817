//! [`IndexDefinition`]: which children are in an index, and what they are sorted by.

use serde_json::{Value, json};
use trellis_engine_traits::Result;

use crate::errors::{invalid, too_large};
use crate::field::Field;
use crate::pattern::Pattern;
use crate::spec::Order;
use crate::spec_parse;

/// Fields of an index.
pub const INDEX_FIELDS_MAX: usize = 4;

/// An index over the children of a collection, or of every collection that fits a pattern: each
/// child has exactly one entry, sorted by these fields, then by its key.
///
/// ```
/// use trellis_query::IndexDefinition;
///
/// let json = serde_json::json!({"path": "users/*/posts", "fields": ["author", "createdAt"]});
/// let definition = IndexDefinition::from_json(&json)?;
/// assert_eq!(definition.to_json(), json);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexDefinition {
    /// The collections.
    pub path: Pattern,
    /// 1 to 4 fields, none twice.
    pub fields: Vec<Order>,
}

impl IndexDefinition {
    /// Reads `{"path": "users/*/posts", "fields": ["author", ["createdAt", "desc"]]}`.
    ///
    /// # Errors
    /// `InvalidInput` for another shape, no field or one that stands twice; `TooLarge` beyond four.
    pub fn from_json(json: &Value) -> Result<Self> {
        let members = json.as_object().ok_or_else(|| invalid("an index is an object"))?;
        if let Some(name) = members.keys().find(|name| !["path", "fields"].contains(&&***name)) {
            return Err(invalid(format!("an index has path and fields only, not {name:?}")));
        }
        let path = members.get("path").and_then(Value::as_str);
        let path = Pattern::parse(path.ok_or_else(|| invalid("an index has a path, a string"))?)?;
        let fields = members.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| invalid("an index has a list of fields"))?;
        if fields.len() > INDEX_FIELDS_MAX {
            let message = "an index has too many fields";
            return Err(too_large(message, "index_fields_max", INDEX_FIELDS_MAX));
        }
        let fields: Vec<Order> =
            fields.iter().map(spec_parse::order_key).collect::<Result<Vec<_>>>()?;
        Self::new(path, fields)
    }

    /// An index of these fields.
    ///
    /// # Errors
    /// As for [`IndexDefinition::from_json`].
    pub fn new(path: Pattern, fields: Vec<Order>) -> Result<Self> {
        if fields.is_empty() {
            return Err(invalid("an index has at least one field"));
        }
        if fields.len() > INDEX_FIELDS_MAX {
            let message = "an index has too many fields";
            return Err(too_large(message, "index_fields_max", INDEX_FIELDS_MAX));
        }
        for (index, order) in fields.iter().enumerate() {
            if fields.iter().take(index).any(|other| other.field == order.field) {
                return Err(invalid(format!("the index names {} twice", order.field)));
            }
        }
        Ok(Self { path, fields })
    }

    /// The definition as [`IndexDefinition::from_json`] reads it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let fields: Vec<Value> = self.fields.iter().map(Order::to_json_short).collect();
        json!({ "path": self.path.to_string(), "fields": fields })
    }

    /// The fields without their directions.
    pub fn field_names(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().map(|order| &order.field)
    }
}
