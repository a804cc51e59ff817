//! `GET /db/<path>`.
//!
//! Small values are read whole and sent with a length, large ones are streamed; both from one view.
//! The entity tag costs a scan of the subtree before the first byte is sent; an NDJSON export has
//! none and starts at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Path, View};

use crate::error::WireError;
use crate::live_request::{Event, Mode, Subscription};
use crate::location::path_after;
use crate::operation::children_limit;
use crate::query_text::TypedQuery;
use crate::read_job::push_children;
use crate::rest::{is_known, json, refusal, set_etag, set_rev};
use crate::state::State;
use crate::stream::{self, Format};
use crate::{body, live_stream, queries};

/// Values up to this size are sent in one piece, with their length.
const WHOLE_BYTES_MAX: usize = 256 << 10;
/// Longest list of keys, and longest page of children, in bytes.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// The query parameters of a read.
#[derive(Debug, Default)]
pub(crate) struct ReadQuery {
    shallow: bool,
    children: bool,
    values: bool,
    after: Option<String>,
    /// Of a page of children, or of a query.
    limit: Option<u64>,
    /// Of a query; without the limit.
    typed: TypedQuery,
    event: Option<String>,
    mode: Option<String>,
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
        return live(state, &path, query, headers).await;
    }
    if query.event.is_some() || query.mode.is_some() {
        return Err(WireError::invalid(
            "event and mode go with live reads: send Accept: text/event-stream",
        ));
    }
    if query.is_query() {
        return answer_query(state, &query.asked(&path)?, false).await;
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
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    let mut query = ReadQuery::default();
    for (index, (name, text)) in pairs.iter().enumerate() {
        // Conditions add up, everything else is said once.
        if name != "where" && pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(WireError::invalid(format!("the parameter {name:?} is given twice")));
        }
        query.set(name, text)?;
    }
    if query.shallow && query.children {
        return Err(WireError::invalid("shallow and children exclude one another"));
    }
    if !query.children && (query.after.is_some() || query.values) {
        return Err(WireError::invalid("after and values go with children=1"));
    }
    if (query.shallow || query.children) && !query.typed.is_empty() {
        return Err(WireError::invalid("shallow and children do not go with a query"));
    }
    if query.shallow && query.limit.is_some() {
        return Err(WireError::invalid("limit goes with children=1, or with a query"));
    }
    Ok(query)
}

impl ReadQuery {
    fn set(&mut self, name: &str, text: &str) -> Result<(), WireError> {
        let some = || Some(text.to_owned());
        match name {
            "shallow" => self.shallow = flag(text)?,
            "children" => self.children = flag(text)?,
            "values" => self.values = flag(text)?,
            "after" => self.after = some(),
            "limit" => {
                let limit = text.parse().map_err(|_| WireError::invalid("limit is a number"))?;
                self.limit = Some(limit);
            }
            "where" => self.typed.conditions.push(text.to_owned()),
            "orderBy" => self.typed.order_by = some(),
            "cursor" => self.typed.cursor = some(),
            "select" => self.typed.select = some(),
            "count" => self.typed.count = flag(text)?,
            "aggregate" => self.typed.aggregate = some(),
            "event" => self.event = some(),
            "mode" => self.mode = some(),
            _ => {
                let shown: String = name.chars().take(40).collect();
                return Err(WireError::invalid(format!("there is no parameter {shown:?}")));
            }
        }
        Ok(())
    }

    /// Whether it asks for items rather than for the value.
    fn is_query(&self) -> bool {
        !self.children && (self.limit.is_some() || !self.typed.is_empty())
    }

    /// The query on `path` as JSON text.
    pub(crate) fn asked(&self, path: &Path) -> Result<String, WireError> {
        let query = self.typed().to_json(&path.to_string())?;
        Ok(serde_json::Value::Object(query).to_string())
    }

    fn typed(&self) -> TypedQuery {
        TypedQuery { limit: self.limit, ..self.typed.clone() }
    }
}

/// `1` and `true`, `0` and `false`.
fn flag(text: &str) -> Result<bool, WireError> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(WireError::invalid("a flag is 1 or 0")),
    }
}

/// A live read: of the value, what changed in it; with query parameters, the window of the query.
async fn live(
    state: &Arc<State>,
    path: &Path,
    query: ReadQuery,
    headers: &HeaderMap,
) -> Result<Response<Body>, WireError> {
    if query.shallow || query.children {
        return Err(WireError::invalid(
            "a live read has no pages: event=child tells of the children that come and go",
        ));
    }
    let typed = query.typed();
    if typed.cursor.is_some() || typed.count || typed.aggregate.is_some() {
        return Err(WireError::invalid("a live query has no cursor, count and aggregate"));
    }
    let event = match (query.event.as_deref(), query.is_query()) {
        (None | Some("query"), true) | (Some("query"), false) => Event::Query(query.asked(path)?),
        (None | Some("value"), false) => Event::Value,
        (Some("child"), false) => Event::Child,
        (Some(_), true) => {
            return Err(WireError::invalid("query parameters go with event=query only"));
        }
        (Some(_), false) => {
            return Err(WireError::invalid("an event is one of value, child and query"));
        }
    };
    let mode = match query.mode.as_deref() {
        None if event == Event::Value => Mode::Patch,
        None | Some("full") => Mode::Full,
        Some("patch") => Mode::Patch,
        Some("notify") => Mode::Notify,
        Some(_) => return Err(WireError::invalid("a mode is one of full, patch and notify")),
    };
    let resume = live_stream::resume_of(headers)?;
    let path = path.to_string();
    let wanted = Subscription { name: String::new(), path, event, mode, resume };
    live_stream::open(state, wanted).await
}

/// Answers `POST /v1/query`.
pub(crate) async fn query(state: &Arc<State>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answered = async {
        let explain = match parts.uri.query() {
            None | Some("") => false,
            Some("explain=1") => true,
            Some(_) => return Err(WireError::invalid("the only parameter is explain=1")),
        };
        let bytes_max = state.options.frame_bytes_max;
        let text = body::collect(state, &parts.headers, body, bytes_max).await?;
        let text = std::str::from_utf8(&text)
            .map_err(|_| WireError::invalid("the request body is not UTF-8"))?;
        answer_query(state, text, explain).await
    };
    answered.await.unwrap_or_else(|error| refusal(&error))
}

/// Answers a query, given as JSON text; or says how it would be answered.
pub(crate) async fn answer_query(
    state: &Arc<State>,
    query: &str,
    explain: bool,
) -> Result<Response<Body>, WireError> {
    let (job_state, query) = (Arc::clone(state), query.to_owned());
    let found = state.runtime.run(move || {
        Ok(match explain {
            true => queries::explain(&job_state, &query),
            false => queries::answer(&job_state, &query, PAGE_BYTES_MAX),
        })
    });
    let (found, rev) = found.await??;
    let mut response = json(StatusCode::OK, found);
    set_rev(&mut response, rev);
    Ok(response)
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
