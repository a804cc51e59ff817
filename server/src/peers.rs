//! Peers at the door: the upgrade of `/db` with the subprotocol `trellis-repl`.
//!
//! Invariants: nobody is upgraded before the token is accepted; a token is in no log line and no
//! answer; peers have places of their own, so that clients and peers cannot crowd one another out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, header};
use futures_util::{Sink as _, Stream as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite;
use trellis::PeerEntrance;
use trellis_engine_traits::{ErrorKind, FrameSocket, Peer, SocketEvent, SocketFault, SocketPoll};

use crate::error::WireError;
use crate::rest::refusal;
use crate::state::State;

/// The WebSocket subprotocol of links between nodes.
const SUBPROTOCOL: &str = "trellis-repl";
/// Bytes that are gathered before they are written.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that are read from a peer's socket at once.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Whether an upgrade is asked for by a peer rather than by a client.
pub(crate) fn is_peer(headers: &HeaderMap) -> bool {
    headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().any(|value| {
        let list = value.to_str().unwrap_or_default();
        list.split(',').any(|name| name.trim() == SUBPROTOCOL)
    })
}

/// Lets a peer in, or says why not: 401 without a token where one is wanted, 403 for another
/// refusal, 429 when all places are taken, 501 where no peers are served.
pub(crate) fn upgrade(
    state: Arc<State>,
    upgrade: WebSocketUpgrade,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Response<Body> {
    let (entrance, peer, place) = match admit(&state, headers, extensions) {
        Ok(admitted) => admitted,
        Err(error) => {
            state.metrics.peers_refused.inc();
            let from = address_of(extensions).map_or_else(String::new, |from| from.to_string());
            tracing::warn!(peer = %from, error = %error.message, "a peer is not let in");
            let mut response = refusal(&error);
            if error.status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            return response;
        }
    };
    let frame_bytes_max = entrance.frame_bytes_max();
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(frame_bytes_max)
        .max_frame_size(frame_bytes_max)
        .on_upgrade(move |socket| async move {
            let address = peer.address.clone();
            tracing::info!(peer = %address, name = ?peer.name, role = ?peer.role, "a peer came");
            state.metrics.peers.inc();
            entrance.enter(peer, Box::new(UpgradedSocket(socket))).await;
            state.metrics.peers.dec();
            drop(place);
            tracing::info!(peer = %address, "a peer is gone");
        })
}

fn admit(
    state: &State,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<(Arc<PeerEntrance>, Peer, OwnedSemaphorePermit), WireError> {
    let Some(entrance) = state.entrance.get().map(Arc::clone) else {
        let message = "this node serves no peers; its configuration has no `replication`";
        return Err(WireError::new(ErrorKind::Unsupported, message));
    };
    if *state.stopping().borrow() {
        return Err(WireError::new(ErrorKind::Unavailable, "the server stops"));
    }
    let token = bearer(headers)?;
    // Without an address, in a host's own server, nobody is taken for local.
    let address = address_of(extensions);
    let is_local = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let named = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    let peer = entrance.admit(token, is_local, named).map_err(|error| {
        let wire = WireError::from(error);
        if token.is_none() { wire.with_status(StatusCode::UNAUTHORIZED) } else { wire }
    })?;
    let place = Arc::clone(&state.peer_places).try_acquire_owned().map_err(|_taken| {
        let message = "all places for peers are taken; try again later";
        WireError::new(ErrorKind::Busy, message).with_status(StatusCode::TOO_MANY_REQUESTS)
    })?;
    Ok((entrance, peer, place))
}

fn address_of(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address)
}

/// The token of `Authorization: Bearer <token>`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, WireError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (token, values.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(WireError::invalid("peers show `Authorization: Bearer <token>`, once")),
    }
}

/// An upgraded connection, as replicators take it.
#[derive(Debug)]
struct UpgradedSocket(WebSocket);

impl FrameSocket for UpgradedSocket {
    fn poll_next(&mut self, context: &mut Context<'_>) -> SocketPoll<SocketEvent> {
        loop {
            let Poll::Ready(message) = Pin::new(&mut self.0).poll_next(context) else {
                return Poll::Pending;
            };
            return Poll::Ready(match message {
                Some(Ok(Message::Binary(frame))) => Ok(SocketEvent::Frame(frame)),
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.as_str().to_owned());
                    Ok(SocketEvent::Closed(reason.unwrap_or_default()))
                }
                Some(Ok(Message::Text(_))) => Err(SocketFault::NotBinary),
                // The codec answers pings itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Err(error)) => Err(fault(error)),
                None => Err(SocketFault::Gone),
            });
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> SocketPoll<()> {
        Pin::new(&mut self.0).poll_ready(context).map_err(fault)
    }

    fn start_send(&mut self, event: SocketEvent) -> Result<(), SocketFault> {
        let message = match event {
            SocketEvent::Frame(frame) => Message::Binary(frame),
            SocketEvent::Closed(reason) => {
                let frame = CloseFrame { code: close_code::NORMAL, reason: reason.into() };
                Message::Close(Some(frame))
            }
        };
        Pin::new(&mut self.0).start_send(message).map_err(fault)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> SocketPoll<()> {
        Pin::new(&mut self.0).poll_flush(context).map_err(fault)
    }
}

/// The codec's error, out of the framework's.
fn fault(error: axum::Error) -> SocketFault {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;

    let cause = error.into_inner().downcast::<Error>();
    match cause.as_deref() {
        Ok(Error::Capacity(_)) => SocketFault::TooLarge,
        // What a codec calls these is a connection that ended without a goodbye.
        Ok(
            Error::Protocol(ResetWithoutClosingHandshake)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_),
        )
        | Err(_) => SocketFault::Gone,
        Ok(_) => SocketFault::Malformed,
    }
}
