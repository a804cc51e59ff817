//! `/admin/repl`, and `/ready`: where replication stands, and what an operator does about it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as FromPath, Query, State as FromState};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trellis::Path;
use trellis_topology::{Node, NotReady};

use crate::admin::answer;
use crate::error::WireError;
use crate::operation::parse_path;
use crate::replication::{
    no_set_aside, no_slot, node_of, not_ready_json, set_asides_json, status_json,
};
use crate::rest::{json as json_answer, refusal};
use crate::state::State;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LinkQuery {
    link: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReadyQuery {
    prefix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Started {
    started: &'static str,
    link: Option<String>,
    /// It begins when the link is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    remembered: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Dropped {
    dropped: String,
}

/// `GET /admin/repl`: everything there is to know.
pub(crate) async fn status(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer(&state, |db| status_json(node_of(db)?)).await
}

/// `DELETE /admin/repl/slots/<consumer>`: forgets a follower.
pub(crate) async fn drop_slot(
    FromState(state): FromState<Arc<State>>,
    consumer: Result<FromPath<String>, PathRejection>,
) -> Response<Body> {
    let FromPath(consumer) = match consumer {
        Ok(consumer) => consumer,
        Err(rejection) => return refusal(&WireError::invalid(rejection.body_text())),
    };
    answer(&state, move |db| match node_of(db)?.drop_slot(&consumer)? {
        true => Ok(Dropped { dropped: consumer }),
        false => Err(no_slot(&consumer)),
    })
    .await
}

/// `GET /admin/repl/set-asides`: what was set aside before it was replaced.
pub(crate) async fn set_asides(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    answer(&state, |db| Ok(set_asides_json(&node_of(db)?.set_asides()?))).await
}

/// `DELETE /admin/repl/set-asides/<feed>/<id>`: removes it.
pub(crate) async fn drop_set_aside(
    FromState(state): FromState<Arc<State>>,
    name: Result<FromPath<(String, String)>, PathRejection>,
) -> Response<Body> {
    let name = match name {
        Ok(FromPath((feed, id))) => format!("{feed}/{id}"),
        Err(rejection) => return refusal(&WireError::invalid(rejection.body_text())),
    };
    answer(&state, move |db| match node_of(db)?.drop_set_aside(&name)? {
        true => Ok(Dropped { dropped: name }),
        false => Err(no_set_aside(&name)),
    })
    .await
}

/// `POST /admin/repl/resync?link=ID`: fills what is followed over a link anew, once that is up.
pub(crate) async fn resync(FromState(state): FromState<Arc<State>>, uri: Uri) -> Response<Body> {
    let link = match link_of(&uri) {
        Ok(Some(link)) => link,
        Ok(None) => {
            let message = "name the link to fill anew: ?link=ID, as /admin/repl lists them";
            return refusal(&WireError::invalid(message));
        }
        Err(error) => return refusal(&error),
    };
    answer(&state, move |db| {
        let remembered = Some(!node_of(db)?.resync(&link)?);
        Ok(Started { started: "resync", link: Some(link), remembered })
    })
    .await
}

/// `POST /admin/repl/verify[?link=ID]`: begins to compare; the outcome is in the status.
pub(crate) async fn verify(FromState(state): FromState<Arc<State>>, uri: Uri) -> Response<Body> {
    compare(&state, &uri, "verify", Node::verify).await
}

/// `POST /admin/repl/repair[?link=ID]`: the same, and makes what differs as it is at the source.
pub(crate) async fn repair(FromState(state): FromState<Arc<State>>, uri: Uri) -> Response<Body> {
    compare(&state, &uri, "repair", Node::repair).await
}

async fn compare(
    state: &Arc<State>,
    uri: &Uri,
    started: &'static str,
    begin: fn(&Node, Option<&str>) -> trellis::Result<()>,
) -> Response<Body> {
    let link = match link_of(uri) {
        Ok(link) => link,
        Err(error) => return refusal(&error),
    };
    answer(state, move |db| {
        begin(node_of(db)?, link.as_deref())?;
        Ok(Started { started, link, remembered: None })
    })
    .await
}

fn link_of(uri: &Uri) -> Result<Option<String>, WireError> {
    let Query(query) = Query::<LinkQuery>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    Ok(query.link)
}

/// `GET /ready[?prefix=PATH]`: whether what is read at or around a path is what its owner has.
pub(crate) async fn ready(FromState(state): FromState<Arc<State>>, uri: Uri) -> Response<Body> {
    let path = match prefix_of(&uri) {
        Ok(path) => path,
        Err(error) => return refusal(&error),
    };
    let asked = Arc::clone(&state);
    let found = state.runtime.run(move || {
        // A closed tree answers here, and is not ready for anything.
        let _stats = asked.tree.stats()?;
        Ok(asked.db.replication().map_or_else(Vec::new, |node| node.not_ready(&path)))
    });
    match found.await {
        Ok(not_ready) => readiness(&not_ready),
        Err(error) => refusal(&WireError::from(error)),
    }
}

fn prefix_of(uri: &Uri) -> Result<Path, WireError> {
    let Query(query) = Query::<ReadyQuery>::try_from_uri(uri)
        .map_err(|error| WireError::invalid(error.body_text()))?;
    query.prefix.as_deref().map_or_else(|| Ok(Path::default()), parse_path)
}

fn readiness(not_ready: &[NotReady]) -> Response<Body> {
    if not_ready.is_empty() {
        return json_answer(StatusCode::OK, "{\"ready\":true}");
    }
    let body = json!({ "ready": false, "prefixes": not_ready_json(not_ready) });
    let mut response = json_answer(StatusCode::SERVICE_UNAVAILABLE, body.to_string());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn what_is_not_ready_is_named_with_the_reason() {
        let path = Path::parse("a/b").expect("a path");
        let response = readiness(&[NotReady { path, reason: "not complete".to_owned() }]);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        let whole = r#"{"prefixes":[{"path":"a/b","reason":"not complete"}],"ready":false}"#;
        assert_eq!(text, whole);
    }
}
