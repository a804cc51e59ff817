//! Queries: from the words of the wire to an answer.

use trellis_engine_traits::ErrorKind;
use trellis_query::QuerySpec;
use trellis_tree::View;

use crate::error::WireError;
use crate::state::State;

/// The answer's JSON text, of at most so many bytes.
pub(crate) fn answer(
    _state: &State,
    _view: &View,
    _query: &QuerySpec,
    _bytes_max: usize,
) -> Result<Vec<u8>, WireError> {
    Err(WireError::new(ErrorKind::Unsupported, "queries are not offered yet"))
}

/// How the query would be answered, as JSON text.
pub(crate) fn explain(
    _state: &State,
    _view: &View,
    _query: &QuerySpec,
) -> Result<Vec<u8>, WireError> {
    Err(WireError::new(ErrorKind::Unsupported, "queries are not offered yet"))
}
