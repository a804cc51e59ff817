//! Leases over REST, for those who have no connection: `/v1/lease`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as FromPath, Request, State as FromState};
use axum::http::{Response, StatusCode};
use axum::routing::{MethodRouter, post, put};
use serde::Deserialize;
use serde_json::value::RawValue;
use trellis::LeaseWrite;

use crate::answer::push_number;
use crate::body;
use crate::error::WireError;
use crate::lease::{LeaseFields, path_of_write, push_lease, ttl_of};
use crate::operation::{Updates, present};
use crate::rest::{json, refusal, set_rev};
use crate::state::State;
use crate::text::Text;

/// A body is at most what a lease may store, and room for its wording.
const BODY_BYTES_MAX: usize = 256 << 10;

type IdInPath = Result<FromPath<String>, PathRejection>;

/// `POST /v1/lease`.
pub(crate) fn leases() -> MethodRouter<Arc<State>> {
    post(create)
}

/// `PUT` and `DELETE /v1/lease/<id>`.
pub(crate) fn lease() -> MethodRouter<Arc<State>> {
    put(renew).delete(end)
}

/// `POST /v1/lease/<id>/on-disconnect`.
pub(crate) fn on_disconnect() -> MethodRouter<Arc<State>> {
    post(store)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    ttl: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteBody<'a> {
    #[serde(borrow, default, rename = "do")]
    verb: Option<Text<'a>>,
    #[serde(borrow, default)]
    path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    updates: Option<Updates<'a>>,
}

fn answered(outcome: Result<Response<Body>, WireError>) -> Response<Body> {
    outcome.unwrap_or_else(|error| refusal(&error))
}

async fn create(FromState(state): FromState<Arc<State>>, request: Request) -> Response<Body> {
    answered(try_create(&state, request).await)
}

async fn try_create(state: &State, request: Request) -> Result<Response<Body>, WireError> {
    let text = collect(state, request).await?;
    let wanted: Wanted = match text.is_empty() {
        true => Wanted::default(),
        false => serde_json::from_slice(&text)
            .map_err(|error| WireError::invalid(format!("the body is no {{ttl}}: {error}")))?,
    };
    let lease = state.db.presence()?.create(ttl_of(wanted.ttl)?).await?;
    let mut out = Vec::with_capacity(96);
    push_lease(&mut out, &lease);
    Ok(json(StatusCode::CREATED, out))
}

async fn renew(FromState(state): FromState<Arc<State>>, id: IdInPath) -> Response<Body> {
    let renewed = async {
        let lease = state.db.presence()?.renew(&id_of(id)?).await?;
        let mut out = Vec::with_capacity(96);
        push_lease(&mut out, &lease);
        Ok(json(StatusCode::OK, out))
    };
    answered(renewed.await)
}

async fn end(FromState(state): FromState<Arc<State>>, id: IdInPath) -> Response<Body> {
    let ended = async {
        let ended = state.db.presence()?.end(&id_of(id)?).await?;
        Ok(figures(&[("writes", ended.writes_run as u64)], ended.rev))
    };
    answered(ended.await)
}

async fn store(
    FromState(state): FromState<Arc<State>>,
    id: IdInPath,
    request: Request,
) -> Response<Body> {
    let stored = async { try_store(&state, &id_of(id)?, request).await };
    answered(stored.await)
}

async fn try_store(state: &State, id: &str, request: Request) -> Result<Response<Body>, WireError> {
    let write = write_of(&collect(state, request).await?)?;
    let path = path_of_write(&write);
    let stored = state.db.presence()?.store(id, write).await.map_err(|error| {
        let error = WireError::from(error);
        match path {
            Some(path) => error.at(path),
            None => error,
        }
    })?;
    let counted = [("writes", stored.writes as u64), ("bytes", stored.bytes as u64)];
    Ok(figures(&counted, stored.rev))
}

fn write_of(text: &[u8]) -> Result<LeaseWrite, WireError> {
    let WriteBody { verb, path, value, updates } = serde_json::from_slice(text)
        .map_err(|error| WireError::invalid(format!("the body is no on-disconnect: {error}")))?;
    LeaseFields { verb, path, value, updates }.build()
}

async fn collect(state: &State, request: Request) -> Result<body::Collected, WireError> {
    let (parts, body) = request.into_parts();
    body::collect(state, &parts.headers, body, BODY_BYTES_MAX).await
}

/// The id in the address; what cannot be read is none.
fn id_of(id: IdInPath) -> Result<String, WireError> {
    let FromPath(id) = id.map_err(|rejection| WireError::invalid(rejection.body_text()))?;
    Ok(id)
}

/// `{name: figure, ..., "rev"}`.
fn figures(named: &[(&str, u64)], rev: u64) -> Response<Body> {
    let mut out = vec![b'{'];
    for (name, figure) in named {
        out.extend_from_slice(format!("\"{name}\":{figure},").as_bytes());
    }
    out.extend_from_slice(b"\"rev\":");
    push_number(&mut out, rev);
    out.push(b'}');
    let mut response = json(StatusCode::OK, out);
    set_rev(&mut response, rev);
    response
}
