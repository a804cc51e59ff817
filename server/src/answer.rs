//! Answers as JSON text: `id` and `ok` first, no white space.
//!
//! Written by hand into one buffer, because the data of most answers is JSON text already.

use trellis_tree::{Committed, OperationResult};

use crate::error::WireError;
use crate::operation::ResultShape;

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a `Vec` cannot fail, and a `&str` is always representable.
    let _infallible = serde_json::to_writer(out, text);
}

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Appends `{"id":...,"ok":true,"data":`; the caller appends the data, then calls [`end`].
pub(crate) fn begin(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(b"{\"id\":");
    push_string(out, id);
    out.extend_from_slice(b",\"ok\":true,\"data\":");
}

/// Closes an answer that [`begin`] opened.
pub(crate) fn end(out: &mut Vec<u8>, rev: Option<u64>) {
    if let Some(rev) = rev {
        out.extend_from_slice(b",\"rev\":");
        push_number(out, rev);
    }
    out.push(b'}');
}

/// Appends a whole refusal; `id` is `null` when the request had none that could be read.
pub(crate) fn push_refusal(out: &mut Vec<u8>, id: Option<&str>, error: &WireError) {
    out.extend_from_slice(b"{\"id\":");
    match id {
        Some(id) => push_string(out, id),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"ok\":false,");
    push_error_fields(out, error);
    out.push(b'}');
}

/// Appends `"error":...,"message":...` and what else the error carries, without braces.
pub(crate) fn push_error_fields(out: &mut Vec<u8>, error: &WireError) {
    out.extend_from_slice(b"\"error\":");
    push_string(out, error.code);
    out.extend_from_slice(b",\"message\":");
    push_string(out, &error.message);
    if let Some(path) = &error.path {
        out.extend_from_slice(b",\"path\":");
        push_string(out, path);
    }
    if let Some(index) = &error.index {
        out.extend_from_slice(b",\"index\":");
        out.extend_from_slice(index.as_bytes());
    }
    if error.failed.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"failed\":[");
    for (index, failed) in error.failed.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"path\":");
        push_string(out, &failed.path.to_string());
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(failed.value.get().as_bytes());
        out.extend_from_slice(b",\"hash\":");
        match &failed.hash {
            Some(hash) => push_string(out, hash),
            None => out.extend_from_slice(b"null"),
        }
        if failed.too_large {
            out.extend_from_slice(b",\"tooLarge\":true");
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// The whole answer to a write.
pub(crate) fn write_answer(id: &str, shape: ResultShape, committed: &Committed) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + id.len());
    begin(&mut out, id);
    push_results(&mut out, shape, &committed.results);
    if committed.results.iter().any(|result| !result.resolved.is_empty()) {
        out.extend_from_slice(b",\"resolved\":");
        push_resolved(&mut out, &committed.results);
    }
    push_origin(&mut out, committed);
    end(&mut out, Some(rev_of(committed)));
    out
}

/// The number of the commit at the node that made it.
pub(crate) fn rev_of(committed: &Committed) -> u64 {
    committed.upstream.as_ref().map_or(committed.rev, |upstream| upstream.rev)
}

/// Appends `,"log":...,"applied":...` where another node made the commit.
pub(crate) fn push_origin(out: &mut Vec<u8>, committed: &Committed) {
    if let Some(upstream) = &committed.upstream {
        out.extend_from_slice(b",\"log\":");
        push_string(out, &upstream.log_id);
        out.extend_from_slice(if upstream.applied {
            b",\"applied\":true".as_slice()
        } else {
            b",\"applied\":false".as_slice()
        });
    }
}

/// Appends the `data` of a write's answer.
pub(crate) fn push_results(out: &mut Vec<u8>, shape: ResultShape, results: &[OperationResult]) {
    match shape {
        ResultShape::Single => push_result(out, results.first()),
        ResultShape::Batch => push_result_list(out, results),
        ResultShape::Commit => {
            out.extend_from_slice(b"{\"results\":");
            push_result_list(out, results);
            out.push(b'}');
        }
    }
}

/// Appends the results as an array, in the order of the operations.
pub(crate) fn push_result_list(out: &mut Vec<u8>, results: &[OperationResult]) {
    out.push(b'[');
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_result(out, Some(result));
    }
    out.push(b']');
}

/// Appends `{"path":value}` for every transform that was resolved.
pub(crate) fn push_resolved(out: &mut Vec<u8>, results: &[OperationResult]) {
    out.push(b'{');
    let mut first = true;
    for (path, value) in results.iter().flat_map(|result| &result.resolved) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        push_string(out, &path.to_string());
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
}

fn push_result(out: &mut Vec<u8>, result: Option<&OperationResult>) {
    match result.and_then(|result| result.pushed.as_deref()) {
        Some(name) => push_string(out, name),
        None => out.extend_from_slice(b"null"),
    }
}
