//! [`FrameSocket`] of a dialed WebSocket. That of an accepted one is the server's own, because its
//! framework hides the codec; what both do beyond translating is in `pump`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink as _, Stream as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use trellis_engine_traits::{FrameSocket, SocketEvent, SocketFault, SocketPoll};

#[derive(Debug)]
pub(crate) struct DialedSocket(pub(crate) WebSocketStream<TcpStream>);

impl FrameSocket for DialedSocket {
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
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Err(fault(&error)),
                None => Err(SocketFault::Gone),
            });
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> SocketPoll<()> {
        Pin::new(&mut self.0).poll_ready(context).map_err(|error| fault(&error))
    }

    fn start_send(&mut self, event: SocketEvent) -> Result<(), SocketFault> {
        let message = match event {
            SocketEvent::Frame(frame) => Message::Binary(frame),
            SocketEvent::Closed(reason) => {
                let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
                Message::Close(Some(frame))
            }
        };
        Pin::new(&mut self.0).start_send(message).map_err(|error| fault(&error))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> SocketPoll<()> {
        Pin::new(&mut self.0).poll_flush(context).map_err(|error| fault(&error))
    }
}

fn fault(error: &tungstenite::Error) -> SocketFault {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;

    match error {
        Error::Capacity(_) => SocketFault::TooLarge,
        // What a codec calls these is a connection that ended without a goodbye.
        Error::Protocol(ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_) => SocketFault::Gone,
        _ => SocketFault::Malformed,
    }
}
