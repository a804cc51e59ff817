//! Queries: what to ask for, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;

/// A query on the children of a path.
///
/// ```
/// use serde_json::json;
/// use trellis_client::Query;
///
/// let query = Query {
///     filter: Some(json!([["age", ">=", 18]])),
///     order_by: Some(json!([["age", "desc"]])),
///     limit: Some(10),
///     ..Query::new("users")
/// };
/// assert_eq!(
///     serde_json::to_string(&query).unwrap(),
///     r#"{"path":"users","where":[["age",">=",18]],"orderBy":[["age","desc"]],"limit":10}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Query {
    /// The collection, whose children are the items; `*` stands for any segment.
    pub path: String,
    /// Which items: a list of `[field, operator, operand]`, all of which hold, and of groups
    /// `{"or": [...]}` and `{"and": [...]}`.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
    /// A field, or a list of fields and `[field, "asc" | "desc"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<Value>,
    /// At most so many items, 1 to 1,000; the server's default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only these fields of each item.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<String>,
    /// How many items there are, instead of the items.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub count: bool,
    /// Figures over the items instead of the items, such as
    /// `{"groupBy": ["country"], "sum": ["population"]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Value>,
}

impl Query {
    /// All children of a path.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// The answer to a query.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAnswer {
    /// The items, in the order asked for.
    pub items: Vec<QueryItem>,
    /// `cursor` of the next page; `None` on the last.
    pub next_cursor: Option<String>,
    /// How many items there are, when `count` was asked for.
    pub count: Option<u64>,
    /// The groups of `aggregate`.
    pub groups: Vec<Value>,
    /// The commit that the answer is as of.
    #[serde(skip)]
    pub rev: u64,
}

/// One item of a query's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryItem {
    /// Where it is.
    pub path: String,
    /// Its key, the last segment of the path.
    pub key: String,
    /// Its value, or the fields selected; `null` when no field is.
    #[serde(default)]
    pub value: Value,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    op: &'a str,
    #[serde(flatten)]
    query: &'a Query,
}

impl Client {
    /// Asks for children of a path: which, in which order, how many.
    ///
    /// # Errors
    /// `index_required` when too many children would have to be looked at; its message has the
    /// index to add. `invalid` for a query that makes no sense, and for another query's cursor.
    pub async fn query(&self, query: &Query) -> Result<QueryAnswer, ClientError> {
        let answer = self.call(&Body { op: "query", query }).await?;
        let found: QueryAnswer = answer.read()?;
        Ok(QueryAnswer { rev: answer.rev, ..found })
    }

    /// How the server would carry a query out: plan, index, what it would look at.
    ///
    /// # Errors
    /// As [`Client::query`], except `index_required`.
    pub async fn explain(&self, query: &Query) -> Result<Value, ClientError> {
        self.call(&Body { op: "explain", query }).await?.read()
    }
}
