//! `PUT`, `PATCH`, `DELETE` and `POST /db/<path>`, and `POST /v1/commit`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header};
use serde::Deserialize;
use trellis_engine_traits::Error;
use trellis_tree::{
    Check, Commit, CommitError, Committed, Condition, Expiry, Input, Operation, Path,
};

use crate::answer::{
    push_error_fields, push_number, push_origin, push_resolved, push_result_list, push_string,
    rev_of,
};
use crate::body::{self, Collected};
use crate::error::WireError;
use crate::location::path_after;
use crate::operation::{Updates, WireCondition, WireOperation, expiry, updates_of};
use crate::rest::{header_text, json, refusal, refusal_with, set_etag, set_log, set_rev};
use crate::state::State;
use crate::text::Text;
use crate::wire::build_commit;

/// Bodies above this are parsed on the pool, so that the executor is not held up.
const PARSE_INLINE_BYTES_MAX: usize = 64 << 10;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The query parameters of a write.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct WriteQuery {
    ttl: Option<f64>,
    expires_at: Option<u64>,
}

/// The body of `POST /v1/commit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitBody<'a> {
    #[serde(borrow, default, rename = "if")]
    conditions: Vec<WireCondition<'a>>,
    #[serde(borrow)]
    ops: Vec<WireOperation<'a>>,
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
}

/// Answers a write to a path.
pub(crate) async fn write(state: &Arc<State>, request: Request<Body>) -> Response<Body> {
    match try_write(state, request).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    }
}

async fn try_write(
    state: &Arc<State>,
    request: Request<Body>,
) -> Result<Response<Body>, WireError> {
    let (parts, body) = request.into_parts();
    let path = path_after(parts.uri.path(), "/db")?;
    let expiry = expiry_of(&parts.uri)?;
    let condition = condition_of(&parts.headers, &path)?;
    let key = header_text(&parts.headers, &IDEMPOTENCY_KEY)?;
    let is_push = parts.method == Method::POST;
    let text = if parts.method == Method::DELETE {
        Collected::default()
    } else {
        let limit = state.body_bytes_max();
        body::collect(state, &parts.headers, body, limit).await?
    };
    let target = path.clone();
    let method = parts.method;
    let operation = parse(state, text, move |text| operation_of(&method, target, text, expiry));
    let mut commit = Commit::new(vec![operation.await?]);
    commit.key = key;
    commit.conditions.extend(condition);
    match state.tree.submit(commit).await {
        Ok(committed) if is_push => Ok(pushed(&committed)),
        Ok(committed) => Ok(written(&committed)),
        Err(refused) if !refused.failed.is_empty() => Ok(precondition_failed(refused)),
        Err(refused) => Err(WireError::from(refused).at(path.to_string())),
    }
}

/// Answers `POST /v1/commit`.
pub(crate) async fn commit(state: &Arc<State>, request: Request<Body>) -> Response<Body> {
    match try_commit(state, request).await {
        Ok(committed) => {
            let mut out = b"{\"results\":".to_vec();
            push_result_list(&mut out, &committed.results);
            out.extend_from_slice(b",\"rev\":");
            push_number(&mut out, rev_of(&committed));
            finish(out, &committed)
        }
        Err(error) => refusal(&error),
    }
}

async fn try_commit(state: &Arc<State>, request: Request<Body>) -> Result<Committed, WireError> {
    let (parts, body) = request.into_parts();
    let header_key = header_text(&parts.headers, &IDEMPOTENCY_KEY)?;
    let limit = state.body_bytes_max();
    let text = body::collect(state, &parts.headers, body, limit).await?;
    let mut commit = parse(state, text, commit_of).await?;
    match (&commit.key, header_key) {
        (Some(key), Some(header)) if *key != header => {
            return Err(WireError::invalid("the body and the header name different keys"));
        }
        (None, Some(header)) => commit.key = Some(header),
        _ => {}
    }
    Ok(state.tree.submit(commit).await?)
}

/// The commit that a body of `POST /v1/commit` asks for.
pub(crate) fn commit_of(text: &[u8]) -> Result<Commit, WireError> {
    let body: CommitBody<'_> = serde_json::from_slice(text)
        .map_err(|error| WireError::invalid(format!("the body is no commit: {error}")))?;
    build_commit(body.conditions, body.ops, body.key)
}

/// Parses a body: at once when it is small, on the pool when it is large.
async fn parse<T: Send + 'static>(
    state: &Arc<State>,
    text: Collected,
    parse: impl FnOnce(&[u8]) -> Result<T, WireError> + Send + 'static,
) -> Result<T, WireError> {
    if text.len() <= PARSE_INLINE_BYTES_MAX {
        return parse(&text);
    }
    state.runtime.run(move || Ok::<_, Error>(parse(&text))).await?
}

/// The operation that a method and a body ask for.
pub(crate) fn operation_of(
    method: &Method,
    path: Path,
    text: &[u8],
    expiry: Option<Expiry>,
) -> Result<Operation, WireError> {
    let at = path.to_string();
    let input =
        |text: &[u8]| Input::parse(text).map_err(|error| WireError::from(error).at(at.clone()));
    match *method {
        Method::PUT => Ok(Operation::Set { value: input(text)?, path, expiry }),
        Method::POST => Ok(Operation::Push { value: input(text)?, path, expiry }),
        Method::PATCH => {
            let updates: Updates<'_> = serde_json::from_slice(text).map_err(|error| {
                WireError::invalid(format!("the body is no object of path: value: {error}"))
                    .at(at.clone())
            })?;
            Ok(Operation::Update { updates: updates_of(updates, Some(&path))?, expiry })
        }
        _ if expiry.is_some() => Err(WireError::invalid("a delete has no ttl")),
        _ => Ok(Operation::Delete { path }),
    }
}

/// The expiry that the query parameters of a write ask for.
pub(crate) fn expiry_of(uri: &Uri) -> Result<Option<Expiry>, WireError> {
    let Query(query) = Query::<WriteQuery>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    expiry(query.ttl, query.expires_at)
}

/// The condition that `If-Match` or `If-None-Match` sets.
fn condition_of(headers: &HeaderMap, path: &Path) -> Result<Option<Condition>, WireError> {
    let wanted = header_text(headers, &header::IF_MATCH)?;
    let unwanted = header_text(headers, &header::IF_NONE_MATCH)?;
    let check = match (wanted.as_deref(), unwanted.as_deref()) {
        (None, None) => return Ok(None),
        (Some("*"), None) => Check::Exists,
        (None, Some("*")) => Check::Absent,
        (Some(tag), None) => match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
            Some(hash) if !hash.contains('"') => Check::Hash(hash.to_owned()),
            _ => {
                return Err(WireError::invalid("If-Match takes one strong entity tag, or *"));
            }
        },
        (None, Some(_)) => {
            return Err(WireError::invalid("If-None-Match of a write takes * only"));
        }
        (Some(_), Some(_)) => {
            return Err(WireError::invalid("give If-Match or If-None-Match, not both"));
        }
    };
    Ok(Some(Condition { path: path.clone(), check }))
}

fn pushed(committed: &Committed) -> Response<Body> {
    let name = committed.results.first().and_then(|result| result.pushed.as_deref());
    let mut out = b"{\"name\":".to_vec();
    push_string(&mut out, name.unwrap_or_default());
    finish(out, committed)
}

fn written(committed: &Committed) -> Response<Body> {
    let mut out = b"{\"rev\":".to_vec();
    push_number(&mut out, rev_of(committed));
    finish(out, committed)
}

/// Adds what the transforms came to, and closes the answer.
fn finish(mut out: Vec<u8>, committed: &Committed) -> Response<Body> {
    if committed.results.iter().any(|result| !result.resolved.is_empty()) {
        out.extend_from_slice(b",\"resolved\":");
        push_resolved(&mut out, &committed.results);
    }
    push_origin(&mut out, committed);
    out.push(b'}');
    let mut response = json(StatusCode::OK, out);
    set_rev(&mut response, rev_of(committed));
    set_log(&mut response, committed);
    response
}

/// 412 with the current value, so that the client can merge and try again without another read.
fn precondition_failed(refused: CommitError) -> Response<Body> {
    let mut error = WireError::from(refused).with_status(StatusCode::PRECONDITION_FAILED);
    error.code = "precondition";
    let failed = std::mem::take(&mut error.failed);
    let Some(current) = failed.first() else {
        return refusal(&error);
    };
    let error = error.at(current.path.to_string());
    let mut body = vec![b'{'];
    push_error_fields(&mut body, &error);
    body.extend_from_slice(b",\"value\":");
    body.extend_from_slice(current.value.get().as_bytes());
    if current.too_large {
        body.extend_from_slice(b",\"tooLarge\":true");
    }
    body.push(b'}');
    let mut response = refusal_with(&error, body);
    set_etag(&mut response, current.hash.as_deref());
    response
}
