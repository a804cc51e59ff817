//! Who may reach a server that has no rules.
//!
//! Without rules everything is readable and writable, so such a server is for its own machine: it
//! listens on loopback, and it refuses requests that a web page elsewhere could cause a browser on
//! this machine to send (a foreign `Origin`; a foreign `Host`, which is what DNS rebinding gives).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::error::WireError;
use crate::options::ServerOptions;
use crate::rest::refusal;
use crate::state::State;

/// Largest header of a request, in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 32 << 10;
/// Headers that a page may send besides those that need no leave.
const HEADERS_OF_PAGES: &str = "authorization, content-type, idempotency-key, if-match, \
                                if-none-match, last-event-id";

/// Refuses to listen on an address that others reach, unless the options allow it.
///
/// # Errors
/// `Denied`, with what to do.
///
/// ```
/// use trellis_server::{ServerOptions, check_listen_address};
///
/// let options = ServerOptions::default();
/// assert!(check_listen_address("127.0.0.1:4400".parse().unwrap(), &options).is_ok());
/// assert!(check_listen_address("0.0.0.0:4400".parse().unwrap(), &options).is_err());
/// ```
pub fn check_listen_address(address: SocketAddr, options: &ServerOptions) -> Result<()> {
    if address.ip().is_loopback() || options.allow_unprotected_network {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        format!(
            "this server has no rules: whoever reaches {address} could read and write everything. \
             Listen on 127.0.0.1, or pass --allow-unprotected-network if that is what you want"
        ),
    ))
}

/// Refuses requests from elsewhere and counts every answer.
pub(crate) async fn check_request(
    FromState(state): FromState<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let response = match check_headers(request.headers(), request.uri(), &state.options) {
        Ok(()) if is_preflight(&request) => shared_with(origin, preflight()),
        Ok(()) => shared_with(origin, next.run(request).await),
        Err(error) => refusal(&error),
    };
    state.metrics.count_http(&method, response.status().as_u16());
    response
}

/// A browser asks so before it lets a page write, or send a header of its own.
fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    *request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the page of an allowed origin may send: all that this server understands.
fn preflight() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, PUT, PATCH, POST, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS_OF_PAGES),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets the page of an allowed origin read the answer, as it may read everything over a WebSocket.
fn shared_with(origin: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        let exposed = HeaderValue::from_static("etag, trellis-rev, trellis-log, retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

fn check_headers(headers: &HeaderMap, uri: &Uri, options: &ServerOptions) -> Result<(), WireError> {
    let denied = |message: &str| Err(WireError::new(ErrorKind::Denied, message));
    if header_bytes(headers, uri) > HEADER_BYTES_MAX {
        let message = format!("the header of a request has at most {HEADER_BYTES_MAX} bytes");
        let error = WireError::too_large(message);
        return Err(error.with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let host = match headers.get(header::HOST) {
        Some(value) => match value.to_str() {
            Ok(host) => Some(host.to_owned()),
            Err(_) => return Err(WireError::invalid("the Host header is not text")),
        },
        None => uri.authority().map(ToString::to_string),
    };
    let is_local = host.as_deref().is_none_or(|host| is_loopback_name(host_name(host)));
    if !is_local && !options.allow_unprotected_network {
        return denied(
            "this server has no rules and answers requests to this machine's own name only \
             (localhost, 127.0.0.1); --allow-unprotected-network lifts that",
        );
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("null");
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let is_allowed = is_loopback_name(host_name(authority))
        || host.as_deref() == Some(authority)
        || options.origins.iter().any(|allowed| allowed == origin);
    if is_allowed { Ok(()) } else { denied("web pages of this origin may not use this server") }
}

/// What a header takes on the wire, but for its method and version. The codec bounds only what it
/// reads at once, which is more.
fn header_bytes(headers: &HeaderMap, uri: &Uri) -> usize {
    const SEPARATORS: usize = ": \r\n".len();
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS);
    uri.path_and_query().map_or(0, |target| target.as_str().len()) + lines.sum::<usize>()
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>, options: &ServerOptions) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("an origin"));
        }
        check_headers(&headers, &Uri::from_static("/db"), options).is_ok()
    }

    #[test]
    fn web_pages_elsewhere_cannot_use_a_server_without_rules() {
        let closed = ServerOptions::default();
        assert!(check("127.0.0.1:4400", None, &closed));
        assert!(check("localhost", Some("http://localhost:5173"), &closed));
        assert!(check("[::1]:4400", Some("http://[::1]:8080"), &closed));
        assert!(!check("127.0.0.1:4400", Some("https://evil.example"), &closed));
        assert!(!check("127.0.0.1:4400", Some("null"), &closed));
        assert!(!check("evil.example:4400", None, &closed));
        assert!(!check("localhost.evil.example", None, &closed));
    }

    #[test]
    fn an_allowed_network_still_asks_web_pages_for_their_origin() {
        let open = ServerOptions {
            allow_unprotected_network: true,
            origins: vec!["https://app.example".to_owned()],
            ..ServerOptions::default()
        };
        assert!(check("db.example:4400", None, &open));
        assert!(check("db.example:4400", Some("http://db.example:4400"), &open));
        assert!(check("db.example:4400", Some("https://app.example"), &open));
        assert!(!check("db.example:4400", Some("https://evil.example"), &open));
    }
}
