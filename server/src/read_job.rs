//! Reads of a WebSocket connection, many in one job of the runtime's pool.
//!
//! Invariants: every request of a job but queries sees one view, taken when the job runs, so a read
//! sees every write that was answered before it was sent; a job stops once its answers fill
//! [`JOB_ANSWER_BYTES`], so a connection holds that much and one largest answer, however many reads
//! it has sent.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Path, View};

use crate::answer::{begin, end, push_refusal, push_string};
use crate::error::WireError;
use crate::queries;
use crate::state::{State, stats_data};
use crate::wire::ReadCommand;

/// A job takes no further request once its answers are this long.
const JOB_ANSWER_BYTES: usize = 256 << 10;
/// Room for `ok`, `data`, `rev` and the like around the data of an answer.
const FRAMING_BYTES: usize = 128;

/// A read that waits for its job.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    pub(crate) id: String,
    pub(crate) operation: usize,
    pub(crate) command: ReadCommand,
    /// Length of the frame, released with the answer.
    pub(crate) frame_bytes: usize,
}

/// Carries out requests from the front of `requests` until the answers are long enough.
///
/// Gives the answers in order, at least one unless `requests` is empty.
pub(crate) fn execute(state: &State, requests: &[ReadRequest]) -> Result<Vec<Utf8Bytes>> {
    let view = state.tree.view()?;
    let mut out = Vec::with_capacity(requests.len().min(64) * 64);
    let mut ends = Vec::with_capacity(requests.len());
    for request in requests {
        let start = out.len();
        let outcome = answer(state, &view, request, &mut out).and_then(|()| {
            if out.len() - start > state.options.frame_bytes_max {
                return Err(frame_limit(state, &request.command));
            }
            Ok(())
        });
        state.metrics.count_operation(request.operation, outcome.is_ok());
        if let Err(error) = outcome {
            out.truncate(start);
            push_refusal(&mut out, Some(&request.id), &error);
        }
        ends.push(out.len());
        if out.len() >= JOB_ANSWER_BYTES {
            break;
        }
    }
    Ok(split(&Bytes::from(out), &ends))
}

/// Cuts the buffer into frames that share it.
fn split(buffer: &Bytes, ends: &[usize]) -> Vec<Utf8Bytes> {
    let mut start = 0;
    ends.iter()
        .map(|&end| {
            let frame = buffer.slice(start..end);
            start = end;
            // The tree gives JSON text, so this holds; if it ever does not, the peer gets an
            // empty frame rather than the server a panic.
            Utf8Bytes::try_from(frame).unwrap_or_default()
        })
        .collect()
}

fn answer(
    state: &State,
    view: &View,
    request: &ReadRequest,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    begin(out, &request.id);
    match &request.command {
        ReadCommand::Stats => {
            out.extend_from_slice(&stats_data(state, &state.tree.stats()?)?);
        }
        ReadCommand::Get(path) => {
            view.append_json(path, data_bytes_max(state, request), out).map_err(
                |error| match error.kind() {
                    ErrorKind::TooLarge => frame_limit(state, &request.command),
                    _ => WireError::from(error).at(path.to_string()),
                },
            )?;
        }
        ReadCommand::Exists(path) => {
            let exists =
                view.exists(path).map_err(|error| WireError::from(error).at(path.to_string()))?;
            out.extend_from_slice(if exists { b"true" } else { b"false" });
        }
        ReadCommand::Children { path, after, limit, values } => {
            let bytes_max = values.then(|| data_bytes_max(state, request));
            push_children(view, path, after.as_deref(), *limit, bytes_max, out)?;
        }
        ReadCommand::Query { path, query } => {
            let bytes_max = data_bytes_max(state, request);
            let found = queries::answer(state, query, bytes_max);
            return extend(out, found.map_err(|error| error.at(path.clone()))?);
        }
        ReadCommand::Explain { path, query } => {
            let found = queries::explain(state, query);
            return extend(out, found.map_err(|error| error.at(path.clone()))?);
        }
    }
    end(out, Some(view.rev()));
    Ok(())
}

/// Closes an answer that is as of a rev of its own.
fn extend(out: &mut Vec<u8>, (data, rev): (Vec<u8>, u64)) -> Result<(), WireError> {
    out.extend(data);
    end(out, Some(rev));
    Ok(())
}

/// Appends `{"items":[{"key":...,"value":...}],"nextCursor":...}`.
pub(crate) fn push_children(
    view: &View,
    path: &Path,
    after: Option<&str>,
    limit: usize,
    values_bytes_max: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let page = view
        .children(path, after, limit, values_bytes_max)
        .map_err(|error| WireError::from(error).at(path.to_string()))?;
    out.extend_from_slice(b"{\"items\":[");
    for (index, item) in page.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"key\":");
        push_string(out, &item.key);
        if let Some(value) = &item.value {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
    }
    out.push(b']');
    if let Some(next) = &page.next {
        out.extend_from_slice(b",\"nextCursor\":");
        push_string(out, next);
    }
    out.push(b'}');
    Ok(())
}

fn data_bytes_max(state: &State, request: &ReadRequest) -> usize {
    // An escaped character of the id takes at most six bytes.
    let id_bytes = request.id.len().saturating_mul(6);
    state.options.frame_bytes_max.saturating_sub(FRAMING_BYTES + id_bytes)
}

fn frame_limit(state: &State, command: &ReadCommand) -> WireError {
    let limit = state.options.frame_bytes_max;
    let (path, advice) = match command {
        ReadCommand::Get(path) => (
            path.to_string(),
            "page with children {path, after, limit, values}, or GET /db/<path>, which streams",
        ),
        ReadCommand::Children { path, .. } => {
            (path.to_string(), "ask for fewer: a smaller limit, or without values")
        }
        ReadCommand::Query { path, .. } => {
            (path.clone(), "ask for fewer items with limit, or for fewer fields with select")
        }
        ReadCommand::Explain { path, .. } => (path.clone(), "use a shorter id"),
        ReadCommand::Exists(path) => (path.to_string(), "use a shorter id"),
        ReadCommand::Stats => (String::new(), "use a shorter id"),
    };
    WireError::too_large(format!(
        "the answer would be larger than a frame, which has at most {limit} bytes; {advice}"
    ))
    .at(path)
}
