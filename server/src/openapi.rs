//! `/openapi.json`: the REST interface for people and generators, kept by hand.

use axum::body::Body;
use axum::http::{Response, StatusCode};

use crate::rest::json;

/// The document, exactly as in the repository.
pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) async fn get() -> Response<Body> {
    json(StatusCode::OK, DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json_and_names_every_route() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        for route in [
            "/db/{path}",
            "/db",
            "/v1/commit",
            "/v1/query",
            "/v1/lease",
            "/v1/lease/{id}",
            "/v1/lease/{id}/on-disconnect",
            "/health",
            "/ready",
            "/metrics",
            "/openapi.json",
            "/admin/archive",
            "/admin/check",
            "/admin/compact",
            "/admin/digest",
            "/admin/indexes",
            "/admin/indexes/{id}",
            "/admin/pause",
            "/admin/repl",
            "/admin/repl/repair",
            "/admin/repl/resync",
            "/admin/repl/set-asides",
            "/admin/repl/set-asides/{feed}/{id}",
            "/admin/repl/slots/{consumer}",
            "/admin/repl/verify",
            "/admin/resume",
        ] {
            assert!(paths.contains_key(route), "{route}");
        }
    }
}
