//! `/admin/indexes`: which indexes there are, how far they are built, and new ones.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as FromPath, Request, State as FromState};
use axum::http::Response;
use serde::Serialize;
use trellis::{IndexDefinition, IndexStatus};
use trellis_engine_traits::{Error, ErrorKind};

use crate::admin::answer;
use crate::body;
use crate::error::WireError;
use crate::rest::refusal;
use crate::state::State;

/// Bytes of a definition: four fields and a path, each at its bound.
const DEFINITION_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Serialize)]
struct Listed {
    indexes: Vec<IndexStatus>,
}

#[derive(Debug, Serialize)]
struct Dropped {
    dropped: String,
}

/// `GET /admin/indexes`: every index, and how far it is built.
pub(crate) async fn list(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer(&state, |db| Ok(Listed { indexes: db.indexes() })).await
}

/// `POST /admin/indexes`: defines an index; one that is there stays as it is. It is built in the
/// background.
pub(crate) async fn create(
    FromState(state): FromState<Arc<State>>,
    request: Request,
) -> Response<Body> {
    match definition(&state, request).await {
        Ok(definition) => answer(&state, move |db| db.create_index(&definition)).await,
        Err(error) => refusal(&error),
    }
}

/// `DELETE /admin/indexes/<id>`: drops an index.
pub(crate) async fn remove(
    FromState(state): FromState<Arc<State>>,
    id: Result<FromPath<String>, PathRejection>,
) -> Response<Body> {
    let FromPath(id) = match id {
        Ok(id) => id,
        Err(rejection) => return refusal(&WireError::invalid(rejection.body_text())),
    };
    answer(&state, move |db| match db.drop_index(&id)? {
        true => Ok(Dropped { dropped: id }),
        false => {
            Err(Error::new(ErrorKind::NotFound, "there is no index with this id")
                .context("index", id))
        }
    })
    .await
}

async fn definition(state: &State, request: Request) -> Result<IndexDefinition, WireError> {
    let (parts, body) = request.into_parts();
    let body = body::collect(state, &parts.headers, body, DEFINITION_BYTES_MAX).await?;
    let json = serde_json::from_slice(&body)
        .map_err(|error| WireError::invalid(format!("the body is no JSON: {error}")))?;
    Ok(IndexDefinition::from_json(&json)?)
}
