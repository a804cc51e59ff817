//! The records that the load writes, so that whoever verifies can tell each one from its number.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Every commit of the load increments it: it equals the number of records, or a commit was torn.
pub(crate) const COUNT_PATH: &str = "tour/count";

/// How many records of each connection were acknowledged; they are numbered from 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) connections: Vec<u64>,
}

/// Where a record is kept.
pub(crate) fn record_path(connection: usize, number: u64) -> String {
    format!("tour/connections/{connection:03}/{number:06}")
}

/// The record itself: three leaves.
pub(crate) fn record(connection: usize, number: u64) -> Value {
    let text = format!("record {number} of connection {connection}");
    json!({"connection": connection, "number": number, "text": text})
}
