//! `/admin/...`: what operators do beside a running database: archives, digests, checks,
//! compaction, and the pause that a migration ends with.
//!
//! Behind the same guard as everything else. Invariants: an archive streams with a few chunks in
//! memory; a long piece of work runs on a thread of its own, never on the pool of the requests.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State as FromState};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use trellis::{CheckOptions, Trellis};
use trellis_engine_traits::ErrorKind;

use crate::error::WireError;
use crate::rest::{json, refusal, set_rev};
use crate::state::State;
use crate::stream;

/// The media type of archives.
const ARCHIVE: HeaderValue = HeaderValue::from_static("application/vnd.trellis.archive");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArchiveQuery {
    since: Option<u64>,
}

/// `GET /admin/archive[?since=REV]`: everything, or what was committed after a rev.
pub(crate) async fn archive(FromState(state): FromState<Arc<State>>, uri: Uri) -> Response<Body> {
    match try_archive(&state, &uri).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    }
}

async fn try_archive(state: &Arc<State>, uri: &Uri) -> Result<Response<Body>, WireError> {
    let Query(query) = Query::<ArchiveQuery>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    let db = state.db.clone();
    let mut backup = state.runtime.run(move || db.backup(query.since)).await?;
    let from_rev = backup.header().from.rev;
    let body = stream::produced(state, "archive", move |sink| {
        while let Some(chunk) = backup.next_chunk()? {
            if sink.send(chunk.into()).is_break() {
                break;
            }
        }
        Ok(())
    });
    let mut response = Response::new(body.await?);
    response.headers_mut().insert(header::CONTENT_TYPE, ARCHIVE);
    set_rev(&mut response, from_rev);
    Ok(response)
}

/// `GET /admin/digest`: the content's digest at the newest rev.
pub(crate) async fn digest(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer_long(&state, Trellis::digest).await
}

/// `GET /admin/check`: the report of a check.
pub(crate) async fn check(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer_long(&state, |db| {
        db.tree().check(&CheckOptions { findings_max: 500, ..CheckOptions::default() })
    })
    .await
}

/// `POST /admin/compact`: what a compaction came to.
pub(crate) async fn compact(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer_long(&state, |db| db.tree().compact()).await
}

/// `POST /admin/pause`: refuses writes; answers the rev that stands still.
pub(crate) async fn pause(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer(&state, |db| {
        db.pause_writes()?;
        Ok(Paused { paused: true, rev: db.tree().position().rev })
    })
    .await
}

/// `POST /admin/resume`: takes writes again.
pub(crate) async fn resume(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer(&state, |db| {
        db.resume_writes();
        Ok(Paused { paused: false, rev: db.tree().position().rev })
    })
    .await
}

#[derive(Debug, Serialize)]
struct Paused {
    paused: bool,
    rev: u64,
}

/// As [`answer`], for work that may read everything: it takes a place among the streamed answers,
/// which it keeps to its end even if whoever asked is gone, so that its threads are bounded.
async fn answer_long<T: Serialize + Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&Trellis) -> trellis::Result<T> + Send + 'static,
) -> Response<Body> {
    let place = match stream::place(state).await {
        Ok(place) => place,
        Err(error) => return refusal(&error),
    };
    let work = move |db: &Trellis| {
        let _place = place;
        work(db)
    };
    answer(state, work).await
}

/// Does a piece of work on a thread of its own and answers what comes of it.
pub(crate) async fn answer<T: Serialize + Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&Trellis) -> trellis::Result<T> + Send + 'static,
) -> Response<Body> {
    let (sender, receiver) = oneshot::channel();
    let db = state.db.clone();
    let started = state.runtime.spawn_worker("admin", move || {
        // Whoever asked may be gone; the work is done all the same.
        let _is_awaited = sender.send(work(&db)).is_ok();
    });
    if let Err(error) = started {
        return refusal(&WireError::from(error));
    }
    match receiver.await {
        Ok(Ok(found)) => match serde_json::to_string(&found) {
            Ok(text) => json(StatusCode::OK, text),
            Err(_) => refusal(&WireError::new(ErrorKind::Unavailable, "no JSON came of it")),
        },
        Ok(Err(error)) => refusal(&WireError::from(error)),
        Err(_gone) => refusal(&WireError::new(ErrorKind::Unavailable, "the work broke off")),
    }
}
