//! [`FrameSocket`] of a dialed WebSocket.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use trellis_engine_traits::{Error, ErrorKind, FrameSocket, Result, SocketEvent};

#[derive(Debug)]
pub(crate) struct DialedSocket {
    socket: WebSocketStream<TcpStream>,
    /// The close frame was given to the codec.
    said_goodbye: bool,
}

impl DialedSocket {
    pub(crate) fn new(socket: WebSocketStream<TcpStream>) -> Self {
        Self { socket, said_goodbye: false }
    }
}

impl FrameSocket for DialedSocket {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<SocketEvent>> {
        loop {
            let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(context) else {
                return Poll::Pending;
            };
            return Poll::Ready(match message {
                Some(Ok(Message::Binary(frame))) => Ok(SocketEvent::Frame(frame)),
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.as_str().to_owned());
                    Ok(SocketEvent::Closed(reason.unwrap_or_default()))
                }
                Some(Ok(Message::Text(_))) => {
                    let message = "the peer sent a text frame; links carry binary ones";
                    Err(Error::new(ErrorKind::InvalidInput, message).backend("ws"))
                }
                // The codec answers pings itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Err(translate(error)),
                None => Err(gone()),
            });
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_ready(context).map_err(translate)
    }

    fn start_send(&mut self, frame: Bytes) -> Result<()> {
        Pin::new(&mut self.socket).start_send(Message::Binary(frame)).map_err(translate)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(translate)
    }

    fn poll_close(&mut self, reason: &str, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.said_goodbye {
            match self.poll_ready(context)? {
                Poll::Ready(()) => self.said_goodbye = true,
                Poll::Pending => return Poll::Pending,
            }
            let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
            Pin::new(&mut self.socket)
                .start_send(Message::Close(Some(frame)))
                .map_err(translate)?;
        }
        self.poll_flush(context)
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection is gone").backend("ws")
}

/// The codec's error as ours.
fn translate(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Capacity(_) => {
            let message = "the peer sent a frame beyond the limit";
            Error::new(ErrorKind::TooLarge, message).backend("ws").source(error)
        }
        // What a codec calls these is a connection that ended without a goodbye.
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Io(_) => gone().source(error),
        error => {
            let message = "the peer sent what is no WebSocket frame";
            Error::new(ErrorKind::Corrupt, message).backend("ws").source(error)
        }
    }
}
