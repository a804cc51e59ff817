//! `GET /db/<path>`.
//!
//! Small values are read whole and sent with a length, large ones are streamed; both from one view.
//! The entity tag costs a scan of the subtree before the first byte is sent; an NDJSON export has
//! none and starts at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde::{Deserialize, Deserializer};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Path, View};

use crate::error::WireError;
use crate::location::path_after;
use crate::read_job::push_children;
use crate::rest::{is_known, json, refusal, set_etag, set_rev};
use crate::state::State;
use crate::stream::{self, Format};
use crate::wire::children_limit;

/// Values up to this size are sent in one piece, with their length.
const WHOLE_BYTES_MAX: usize = 256 << 10;
/// Longest list of keys, and longest page of children, in bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// The query parameters of a read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReadQuery {
    #[serde(deserialize_with = "flag")]
    shallow: bool,
    #[serde(deserialize_with = "flag")]
    children: bool,
    #[serde(deserialize_with = "flag")]
    values: bool,
    after: Option<String>,
    limit: Option<u64>,
}

/// `1` and `true`, `0` and `false`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(serde::de::Error::custom("a flag is 1 or 0")),
    }
}

/// What a read found.
enum Found {
    Known { rev: u64, hash: Option<String> },
    Whole { rev: u64, hash: Option<String>, json: Vec<u8> },
    Large { view: View, hash: Option<String> },
}

/// Answers a read; `HEAD` gets the same without the body.
pub(crate) async fn get(state: &Arc<State>, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    match try_get(state, uri, headers).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    }
}

async fn try_get(
    state: &Arc<State>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Body>, WireError> {
    let path = path_after(uri.path(), "/db")?;
    let query = query_of(uri)?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants = |kind: &str| accept.is_some_and(|accept| accept.contains(kind));
    if wants("text/event-stream") {
        return Err(WireError::new(
            ErrorKind::Unsupported,
            "live reads (text/event-stream) are not offered yet",
        ));
    }
    if query.shallow || query.children {
        return page(state, path, query).await;
    }
    if wants("application/x-ndjson") {
        return ndjson(state, path).await;
    }
    value(state, path, headers).await
}

/// The query parameters of a read, those that go together.
pub(crate) fn query_of(uri: &Uri) -> Result<ReadQuery, WireError> {
    let Query(query) = Query::<ReadQuery>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    if query.shallow && query.children {
        return Err(WireError::invalid("shallow and children exclude one another"));
    }
    if !query.children && (query.after.is_some() || query.limit.is_some() || query.values) {
        return Err(WireError::invalid("after, limit and values go with children=1"));
    }
    Ok(query)
}

async fn value(
    state: &Arc<State>,
    path: Path,
    headers: &HeaderMap,
) -> Result<Response<Body>, WireError> {
    let tree = state.tree.clone();
    let wanted = path.clone();
    let headers = headers.clone();
    let found = state
        .runtime
        .run(move || {
            let view = tree.view()?;
            let rev = view.rev();
            let hash = view.hash(&wanted)?;
            if is_known(&headers, hash.as_deref()) {
                return Ok(Found::Known { rev, hash });
            }
            match view.get_json(&wanted, WHOLE_BYTES_MAX) {
                Ok(json) => Ok(Found::Whole { rev, hash, json }),
                Err(error) if error.kind() == ErrorKind::TooLarge => {
                    Ok(Found::Large { view, hash })
                }
                Err(error) => Err(error),
            }
        })
        .await
        .map_err(|error| WireError::from(error).at(path.to_string()))?;
    let (rev, hash, mut response) = match found {
        Found::Known { rev, hash } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            (rev, hash, response)
        }
        Found::Whole { rev, hash, json: text } => (rev, hash, json(StatusCode::OK, text)),
        Found::Large { view, hash } => {
            let rev = view.rev();
            let body = stream::body(state, view, path, Format::Json).await?;
            (rev, hash, json(StatusCode::OK, body))
        }
    };
    set_rev(&mut response, rev);
    set_etag(&mut response, hash.as_deref());
    Ok(response)
}

async fn ndjson(state: &Arc<State>, path: Path) -> Result<Response<Body>, WireError> {
    let tree = state.tree.clone();
    let view = state.runtime.run(move || tree.view()).await?;
    let rev = view.rev();
    let body = stream::body(state, view, path, Format::Ndjson).await?;
    let mut response = json(StatusCode::OK, body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    set_rev(&mut response, rev);
    Ok(response)
}

async fn page(
    state: &Arc<State>,
    path: Path,
    query: ReadQuery,
) -> Result<Response<Body>, WireError> {
    let limit = children_limit(query.limit)?;
    let tree = state.tree.clone();
    let (rev, outcome) = state
        .runtime
        .run(move || {
            let view = tree.view()?;
            let rev = view.rev();
            if query.shallow {
                return Ok((
                    rev,
                    view.shallow_json(&path, PAGE_BYTES_MAX).map_err(WireError::from),
                ));
            }
            let mut out = Vec::new();
            let values = query.values.then_some(PAGE_BYTES_MAX);
            let outcome =
                push_children(&view, &path, query.after.as_deref(), limit, values, &mut out);
            Ok((rev, outcome.map(|()| out)))
        })
        .await?;
    let mut response = json(StatusCode::OK, outcome?);
    set_rev(&mut response, rev);
    Ok(response)
}
