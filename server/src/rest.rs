//! What all REST answers share: headers, errors, entity tags.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use trellis_tree::Committed;

use crate::answer::push_error_fields;
use crate::error::WireError;

/// The commit that an answer is as of, or that it made.
pub(crate) const REV_HEADER: HeaderName = HeaderName::from_static("trellis-rev");

/// The node that made the commit, where it is another one.
pub(crate) const LOG_HEADER: HeaderName = HeaderName::from_static("trellis-log");

/// An answer of JSON text.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds the header that says which commit the answer is as of.
pub(crate) fn set_rev(response: &mut Response<Body>, rev: u64) {
    response.headers_mut().insert(REV_HEADER, HeaderValue::from(rev));
}

/// Adds the header that says whose commit it is, where another node made it.
pub(crate) fn set_log(response: &mut Response<Body>, committed: &Committed) {
    if let Some(upstream) = &committed.upstream
        && let Ok(log) = HeaderValue::from_str(&upstream.log_id)
    {
        response.headers_mut().insert(LOG_HEADER, log);
    }
}

/// Adds the entity tag of a value; an absent value has none.
pub(crate) fn set_etag(response: &mut Response<Body>, hash: Option<&str>) {
    let Some(hash) = hash else {
        return;
    };
    if let Ok(value) = HeaderValue::from_str(&format!("\"{hash}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

/// An error as `{"error","message","path"?}` with its status.
pub(crate) fn refusal(error: &WireError) -> Response<Body> {
    let mut body = vec![b'{'];
    push_error_fields(&mut body, error);
    body.push(b'}');
    refusal_with(error, body)
}

/// An error whose body has been written already.
pub(crate) fn refusal_with(error: &WireError, body: Vec<u8>) -> Response<Body> {
    let mut response = json(error.status, body);
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The text of a header that may be given once.
pub(crate) fn header_text(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<String>, WireError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim().to_owned())),
        _ => Err(WireError::invalid(format!("the header {name} is given twice or is no text"))),
    }
}

/// Whether `If-None-Match` names the value as the client has it.
pub(crate) fn is_known(headers: &HeaderMap, hash: Option<&str>) -> bool {
    let Some(hash) = hash else {
        return false;
    };
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(
        |list| {
            list.split(',').map(str::trim).any(|tag| {
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == hash
            })
        },
    )
}
