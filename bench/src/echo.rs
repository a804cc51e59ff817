//! The rival of the sockets: the same HTTP and WebSocket stack, the same typed parse and the same
//! answer, and no database.

use std::convert::Infallible;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::keys::{self, Random};
use crate::process;

/// A request as far as an answer needs it.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    id: &'a str,
    op: &'a str,
    path: &'a str,
}

/// The shape of Trellis' answer to a get.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: &'a str,
    ok: bool,
    data: &'a str,
}

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<()> {
    process::run_server(async |listener| {
        let listener = listener.tap_io(|stream| {
            // Without it an answer would only come later.
            let _set = stream.set_nodelay(true);
        });
        let router: Router = Router::new().route("/db", any(upgrade));
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4 << 10).on_upgrade(|socket| async {
        // A peer that is gone is the ordinary end.
        let _ended = talk(socket).await;
    })
}

async fn talk(mut socket: WebSocket) -> std::result::Result<Infallible, axum::Error> {
    let data = keys::value_text(&mut Random::new(1));
    let gone = || axum::Error::new("the peer is gone");
    loop {
        // Whatever is there is answered before one flush, as the measured server does it.
        let mut next = Some(socket.next().await);
        while let Some(message) = next {
            let message = message.ok_or_else(gone)??;
            if let Message::Text(text) = message {
                socket.feed(Message::Text(answer(&text, &data)?.into())).await?;
            }
            next = socket.next().now_or_never();
        }
        socket.flush().await?;
    }
}

fn answer(text: &str, data: &str) -> std::result::Result<String, axum::Error> {
    let request: Request<'_> = serde_json::from_str(text).map_err(axum::Error::new)?;
    let ok = request.op == "get" && !request.path.is_empty();
    serde_json::to_string(&Answer { id: request.id, ok, data }).map_err(axum::Error::new)
}
