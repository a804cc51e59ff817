//! Which request goes where.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State as FromState};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::routing::{any, delete, get, post};
use trellis::Trellis;
use trellis_engine_traits::ErrorKind;

use crate::error::WireError;
use crate::guard::check_request;
use crate::options::ServerOptions;
use crate::rest::{json, refusal};
use crate::state::{Server, State, VERSION};
use crate::{
    admin, admin_indexes, admin_repl, lease_rest, openapi, peers, rest_read, rest_write, socket,
};

/// Bytes that are read from a socket at once: an idle connection holds this buffer.
const SOCKET_READ_BYTES: usize = 4 << 10;
/// Bytes of answers that are gathered before they are written without waiting for the flush.
const SOCKET_WRITE_BYTES: usize = 16 << 10;

/// The routes of the protocol on `db`, to be mounted in a host application's router.
///
/// Sugar for [`Server::new`] and [`Server::router`]; keep the [`Server`] instead where the host
/// wants to drain connections before it exits.
///
/// ```
/// use trellis_server::{ServerOptions, router};
///
/// fn app(db: trellis::Trellis) -> axum::Router {
///     axum::Router::new().nest("/trellis", router(db, ServerOptions::default()))
/// }
/// ```
pub fn router(db: Trellis, options: ServerOptions) -> Router {
    Server::new(db, options).router()
}

impl Server {
    /// The routes of the protocol, to be mounted at the root or under a prefix (`nest`).
    ///
    /// Everything else is left to the host application.
    pub fn router(&self) -> Router {
        build(&self.state)
    }
}

fn build(state: &Arc<State>) -> Router {
    Router::new()
        .route("/db", any(root))
        .route("/db/", any(value))
        .route("/db/{*path}", any(value))
        .route("/v1/commit", post(commit))
        .route("/v1/query", post(query))
        .route("/v1/lease", lease_rest::leases())
        .route("/v1/lease/{id}", lease_rest::lease())
        .route("/v1/lease/{id}/on-disconnect", lease_rest::on_disconnect())
        .route("/health", get(health))
        .route("/ready", get(admin_repl::ready))
        .route("/metrics", get(metrics))
        .route("/admin/archive", get(admin::archive))
        .route("/admin/check", get(admin::check))
        .route("/admin/compact", post(admin::compact))
        .route("/admin/digest", get(admin::digest))
        .route("/admin/indexes", get(admin_indexes::list).post(admin_indexes::create))
        .route("/admin/indexes/{id}", delete(admin_indexes::remove))
        .route("/admin/pause", post(admin::pause))
        .route("/admin/repl", get(admin_repl::status))
        .route("/admin/repl/repair", post(admin_repl::repair))
        .route("/admin/repl/resync", post(admin_repl::resync))
        .route("/admin/repl/set-asides", get(admin_repl::set_asides))
        .route("/admin/repl/set-asides/{feed}/{id}", delete(admin_repl::drop_set_aside))
        .route("/admin/repl/slots/{consumer}", delete(admin_repl::drop_slot))
        .route("/admin/repl/verify", post(admin_repl::verify))
        .route("/admin/resume", post(admin::resume))
        .route("/openapi.json", get(openapi::get))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(state), check_request))
        .with_state(Arc::clone(state))
}

/// `/db` is the WebSocket of clients and of other nodes, and the root of the tree.
async fn root(
    FromState(state): FromState<Arc<State>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response<Body> {
    if !request.headers().contains_key(header::UPGRADE) {
        return answer_value(&state, request).await;
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return refusal(
                &WireError::invalid(rejection.body_text()).with_status(rejection.status()),
            );
        }
    };
    if peers::is_peer(request.headers()) {
        return peers::upgrade(state, upgrade, request.headers(), request.extensions());
    }
    let Ok(permit) = Arc::clone(&state.connections).try_acquire_owned() else {
        state.metrics.connections_refused.inc();
        return refusal(&WireError::new(
            ErrorKind::Busy,
            "all connections are taken; try again later",
        ));
    };
    let frame_bytes_max = state.options.frame_bytes_max;
    upgrade
        .read_buffer_size(SOCKET_READ_BYTES)
        .write_buffer_size(SOCKET_WRITE_BYTES)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(frame_bytes_max)
        .max_frame_size(frame_bytes_max)
        .on_upgrade(move |socket| socket::run(socket, state, permit))
}

async fn value(FromState(state): FromState<Arc<State>>, request: Request) -> Response<Body> {
    answer_value(&state, request).await
}

async fn answer_value(state: &Arc<State>, request: Request) -> Response<Body> {
    match *request.method() {
        Method::GET | Method::HEAD => {
            let (parts, _body) = request.into_parts();
            rest_read::get(state, &parts.uri, &parts.headers).await
        }
        Method::PUT | Method::PATCH | Method::POST | Method::DELETE => {
            rest_write::write(state, request).await
        }
        _ => {
            let mut response = method_not_allowed().await;
            let allowed = HeaderValue::from_static("GET, HEAD, PUT, PATCH, POST, DELETE");
            response.headers_mut().insert(header::ALLOW, allowed);
            response
        }
    }
}

async fn commit(FromState(state): FromState<Arc<State>>, request: Request) -> Response<Body> {
    rest_write::commit(&state, request).await
}

async fn query(FromState(state): FromState<Arc<State>>, request: Request) -> Response<Body> {
    rest_read::query(&state, request).await
}

async fn health(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    let stats_state = Arc::clone(&state);
    let stats = state.runtime.run(move || stats_state.tree.stats()).await;
    match stats {
        Ok(stats) if stats.poisoned.is_none() => {
            let body =
                format!("{{\"status\":\"ok\",\"version\":\"{}\",\"rev\":{}}}", VERSION, stats.rev);
            json(StatusCode::OK, body)
        }
        Ok(_) => refusal(&WireError::new(
            ErrorKind::Poisoned,
            "a flush failed: writes are refused until a restart, reads go on",
        )),
        Err(error) => refusal(&WireError::from(error)),
    }
}

async fn metrics(FromState(state): FromState<Arc<State>>) -> Response<Body> {
    let stats_state = Arc::clone(&state);
    let figures = state.runtime.run(move || {
        let node = stats_state.db.replication();
        let node = node.map(|node| node.count().and_then(|()| node.status())).transpose()?;
        Ok::<_, trellis::Error>((stats_state.tree.stats()?, node))
    });
    let rendered = match figures.await {
        Ok((stats, node)) => {
            let presence = state.db.presence_stats();
            state.metrics.render(&stats, &state.db.live_stats(), &presence, node.as_ref())
        }
        Err(error) => return refusal(&WireError::from(error)),
    };
    let Ok(text) = rendered else {
        return refusal(&WireError::new(ErrorKind::Unavailable, "the metrics cannot be written"));
    };
    let mut response = json(StatusCode::OK, text);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    response
}

async fn method_not_allowed() -> Response<Body> {
    refusal(
        &WireError::invalid("this address does not take this method; see /openapi.json")
            .with_status(StatusCode::METHOD_NOT_ALLOWED),
    )
}

/// Whatever has no route; only a whole server answers this, a host application has its own.
pub(crate) async fn not_found() -> Response<Body> {
    refusal(&WireError::new(
        ErrorKind::NotFound,
        "there is nothing at this address; see /openapi.json",
    ))
}
