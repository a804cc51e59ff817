//! Dialing: from a URL and a token to an upgraded socket, or an error that says what to do.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use trellis_engine_traits::{Error, ErrorKind, LinkToken, Peer, PeerAddress, Result};

use crate::limits::{FRAME_BYTES_MAX, SUBPROTOCOL};
use crate::socket::DialedSocket;

/// Bytes that the codec gathers before it writes.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that are read from the socket at once.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Characters of a refusal that are repeated in the error.
const SAID_CHARS_MAX: usize = 300;
/// What a URL without a port means.
const PORT: u16 = 80;
/// What a URL without a path means.
const PATH: &str = "/db";

/// A URL that can be dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Checks a URL.
    ///
    /// # Errors
    /// `InvalidInput` for what is no URL, and for one with a user or password; `Unsupported` for
    /// another scheme than `ws:`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let refused = |kind, message: &str| Err(error(kind, message));
        let Some((scheme, rest)) = url.split_once("://") else {
            return refused(ErrorKind::InvalidInput, "this is no URL: `ws://host:4400/db` is one");
        };
        if scheme.eq_ignore_ascii_case("wss") {
            let message = "this build has no TLS, so `wss:` cannot be dialed; dial `ws:` to a \
                           proxy or tunnel on this machine that speaks TLS to the peer";
            return refused(ErrorKind::Unsupported, message);
        }
        if !scheme.eq_ignore_ascii_case("ws") {
            return refused(ErrorKind::Unsupported, "another scheme than `ws:`");
        }
        if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
            let message = "the URL holds a user or a password; give the secret as the token";
            return refused(ErrorKind::InvalidInput, message);
        }
        let uri: Uri = url
            .parse()
            .map_err(|cause| error(ErrorKind::InvalidInput, "this is no URL").source(cause))?;
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            return refused(ErrorKind::InvalidInput, "the URL names no host");
        };
        let path = uri.path_and_query().map_or(PATH, |path| path.as_str());
        let path = if path == "/" { PATH } else { path };
        let port = uri.port_u16().unwrap_or(PORT);
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }

    /// For people: without what follows a `?`, which may be a secret.
    fn address(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("ws://{}:{}{path}", self.host, self.port)
    }

    fn request(&self, address: &PeerAddress) -> Result<Request> {
        let invalid = |cause: tungstenite::Error| {
            error(ErrorKind::InvalidInput, "this URL cannot be asked for").source(cause)
        };
        let url = format!("ws://{}:{}{}", self.host, self.port, self.path);
        let mut request = url.into_client_request().map_err(invalid)?;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        if let Some(token) = &address.token {
            // The cause would quote the token.
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| {
                    error(
                        ErrorKind::InvalidInput,
                        "the token holds characters that no \
                     header can; use letters and digits",
                    )
                })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Connects and upgrades within `within`.
pub(crate) async fn dial(address: &PeerAddress, within: Duration) -> Result<(DialedSocket, Peer)> {
    let target = Target::parse(&address.url)?;
    let request = target.request(address)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let dialed = async {
        let host = target.host.trim_matches(|bracket| matches!(bracket, '[' | ']'));
        let stream = TcpStream::connect((host, target.port)).await.map_err(|cause| {
            error(ErrorKind::Unavailable, "the peer cannot be reached; is it running there?")
                .source(cause)
        })?;
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(%cause, "no TCP_NODELAY");
        }
        let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let (socket, _response) = client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|cause| refusal(cause, address))?;
        Ok((DialedSocket(socket), is_local))
    };
    let late = |_elapsed| error(ErrorKind::Unavailable, "the peer did not answer in time");
    let outcome = timeout(within, dialed).await.map_err(late).flatten();
    let (socket, is_local) = outcome.map_err(|cause| cause.context("url", target.address()))?;
    Ok((socket, Peer { name: None, role: None, is_local, address: target.address() }))
}

/// What a failed upgrade means.
fn refusal(cause: tungstenite::Error, address: &PeerAddress) -> Error {
    match cause {
        tungstenite::Error::Http(response) => refused_with(&response, address),
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            let message = "the peer speaks WebSocket but takes no links; is it a Trellis server \
                           with replication?";
            error(ErrorKind::Unsupported, message)
        }
        tungstenite::Error::Protocol(_) | tungstenite::Error::HttpFormat(_) => {
            error(ErrorKind::Unsupported, "what answers there speaks no WebSocket").source(cause)
        }
        cause => error(ErrorKind::Unavailable, "the peer went away").source(cause),
    }
}

fn refused_with(response: &Response, address: &PeerAddress) -> Error {
    let status = response.status();
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error(
            ErrorKind::Denied,
            "the peer refuses this node: the token, or where it comes from",
        ),
        StatusCode::TOO_MANY_REQUESTS => {
            error(ErrorKind::Busy, "the peer takes no more links at the moment")
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => {
            error(ErrorKind::Unavailable, "the peer, or a proxy before it, is not available")
        }
        _ => error(ErrorKind::Unsupported, "what answers there takes no links"),
    };
    let error = error.context("status", status.as_u16());
    match response.body().as_deref().and_then(|body| said(body, address)) {
        Some(said) => error.context("peer_says", said),
        None => error,
    }
}

/// The beginning of a refusal's body, for people; nothing where it repeats the token.
fn said(body: &[u8], address: &PeerAddress) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let repeats = |token: &LinkToken| text.contains(token.reveal());
    if text.is_empty() || address.token.as_ref().is_some_and(repeats) {
        return None;
    }
    Some(text.chars().filter(|char| !char.is_control()).take(SAID_CHARS_MAX).collect())
}

fn error(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message).backend("ws").operation("connect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_repeated_but_for_control_characters_and_the_token() {
        let token = Some(LinkToken::new("0123456789abcdef"));
        let address = PeerAddress { url: "ws://central".to_owned(), token };
        assert_eq!(said(b"no\x1b[2J places\n", &address).as_deref(), Some("no[2J places"));
        assert_eq!(said(b"what is 0123456789abcdef?", &address), None);
        assert_eq!(said(&[b'x'; 1_000], &address).map(|said| said.len()), Some(SAID_CHARS_MAX));
        assert_eq!(said(b"", &address), None);
    }

    #[test]
    fn urls_are_checked_whole_and_show_no_secret() {
        let parsed = Target::parse("ws://central").expect("a URL");
        assert_eq!(parsed.address(), "ws://central:80/db");
        let parsed = Target::parse("WS://[::1]:4400/app/db?key=hush").expect("a URL");
        assert_eq!(parsed.address(), "ws://[::1]:4400/app/db");
        for (url, kind) in [
            ("central", ErrorKind::InvalidInput),
            ("ws://", ErrorKind::InvalidInput),
            ("ws://user:hush@central/db", ErrorKind::InvalidInput),
            ("ws://a b/db", ErrorKind::InvalidInput),
            ("wss://central/db", ErrorKind::Unsupported),
            ("http://central/db", ErrorKind::Unsupported),
        ] {
            let error = Target::parse(url).expect_err(url);
            assert_eq!(error.kind(), kind, "{url}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }
}
