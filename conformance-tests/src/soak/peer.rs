//! One WebSocket as a client sees it, frame by frame: nothing is hidden by a library that resumes.

use std::borrow::Cow;
use std::net::{Shutdown, TcpStream};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) struct Broken;

impl From<tungstenite::Error> for Broken {
    fn from(_: tungstenite::Error) -> Self {
        Self
    }
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Anything that a server sends, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frame<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) ok: Option<bool>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) sub: Option<Cow<'a, str>>,
    pub(super) rev: Option<u64>,
    #[serde(borrow, default)]
    pub(super) epoch: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) resumed: bool,
    #[serde(default)]
    pub(super) reset: bool,
    #[serde(borrow, default)]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) cause: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) events: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) cancel: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resolved: Option<&'a RawValue>,
    #[serde(borrow, default)]
    path: Option<Cow<'a, str>>,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let frame: Self = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("an odd frame ({error}): {text}"));
        let _not_looked_at = (frame.resolved, &frame.path, &frame.error, &frame.message);
        frame
    }

    /// The data as JSON text.
    pub(super) fn data(&self) -> &'a str {
        self.data.map_or("null", RawValue::get)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    socket: WebSocket<TcpStream>,
}

/// Cuts a connection off, from any thread.
#[derive(Debug)]
pub(super) struct Scissors(TcpStream);

impl Scissors {
    pub(super) fn cut(&self) {
        // It may be cut already.
        let _cut = self.0.shutdown(Shutdown::Both);
    }
}

impl Peer {
    pub(super) fn connect(port: u16) -> Result<(Self, Scissors), Broken> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let scissors = Scissors(stream.try_clone()?);
        let url = format!("ws://127.0.0.1:{port}/db");
        let (socket, _) = tungstenite::client(url, stream).map_err(|_| Broken)?;
        Ok((Self { socket }, scissors))
    }

    pub(super) fn send(&mut self, text: String) -> Result<(), Broken> {
        Ok(self.socket.send(Message::text(text))?)
    }

    /// The next text frame.
    pub(super) fn receive(&mut self) -> Result<tungstenite::Utf8Bytes, Broken> {
        loop {
            match self.socket.read()? {
                Message::Text(text) => return Ok(text),
                Message::Close(_) => return Err(Broken),
                _ => {}
            }
        }
    }
}
