//! Queries: from the words of the wire to an answer.

use trellis_query::QuerySpec;

use crate::error::WireError;
use crate::state::State;

/// The answer's JSON text, of about so many bytes at most, and the rev it is as of.
pub(crate) fn answer(
    state: &State,
    query: &str,
    bytes_max: usize,
) -> Result<(Vec<u8>, u64), WireError> {
    let query = QuerySpec::parse(query.as_bytes())?;
    let queried = state.db.query(&query, bytes_max)?;
    Ok((queried.answer.to_json(), queried.rev))
}

/// How the query would be answered, as JSON text, and the rev that this is as of.
pub(crate) fn explain(state: &State, query: &str) -> Result<(Vec<u8>, u64), WireError> {
    let query = QuerySpec::parse(query.as_bytes())?;
    let (plan, rev) = state.db.explain(&query)?;
    Ok((plan.to_string().into_bytes(), rev))
}
