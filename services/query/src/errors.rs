//! The refusals of a query, each saying what to do.

use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind};

/// The query contradicts itself or the contract.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).operation("query")
}

/// A limit of the query was passed.
pub(crate) fn too_large(message: impl Into<String>, name: &'static str, max: usize) -> Error {
    Error::new(ErrorKind::TooLarge, message).operation("query").context(name, max)
}

/// The bytes of a cursor are not what this tree handed out for this query.
pub(crate) fn bad_cursor(message: &'static str) -> Error {
    invalid(message).context("reason", "cursor")
}

/// The query would look at too many children; with `suggestion` it would not.
pub(crate) fn index_required(looked_max: usize, suggestion: &Value) -> Error {
    let definition = suggestion.to_string();
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the query would look at more than {looked_max} children; add the index {definition}"
        ),
    )
    .operation("query")
    .context("reason", "index_required")
    .context("index", definition)
}

/// The query would look at too many children, and no index would spare that.
pub(crate) fn too_broad(looked_max: usize) -> Error {
    too_large(
        "the query would look at too many children, and no further index can serve it: narrow it \
         with =, in, a range or starts-with on a field",
        "children_looked_at_max",
        looked_max,
    )
}
