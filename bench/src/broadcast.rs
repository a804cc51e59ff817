//! The rival of the fan-out: the same HTTP and WebSocket stack, the same frames, a broadcast
//! channel, and neither a database nor a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::Result;
use crate::process;

/// Frames that a socket may be behind.
const BEHIND_MAX: usize = 4_096;

/// A request as far as an answer needs it.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    id: &'a str,
    op: &'a str,
    path: &'a str,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Debug)]
struct Shared {
    rev: AtomicU64,
    frames: broadcast::Sender<Utf8Bytes>,
}

/// Serves until standard input ends.
pub(crate) fn serve() -> Result<()> {
    process::run_server(async |listener| {
        let listener = listener.tap_io(|stream| {
            // Without it a frame would only come later.
            let _set = stream.set_nodelay(true);
        });
        let frames = broadcast::Sender::new(BEHIND_MAX);
        let shared = Arc::new(Shared { rev: AtomicU64::new(0), frames });
        let router: Router = Router::new().route("/db", any(upgrade)).with_state(shared);
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn upgrade(upgrade: WebSocketUpgrade, State(shared): State<Arc<Shared>>) -> Response {
    upgrade.read_buffer_size(4 << 10).on_upgrade(|socket| async move {
        // A peer that is gone is the ordinary end.
        let _ended = talk(socket, shared).await;
    })
}

async fn talk(mut socket: WebSocket, shared: Arc<Shared>) -> std::result::Result<(), axum::Error> {
    let mut frames: Option<broadcast::Receiver<Utf8Bytes>> = None;
    loop {
        tokio::select! {
            biased;
            frame = next(&mut frames) => {
                let Ok(frame) = frame else { return Ok(()) };
                socket.feed(Message::Text(frame)).await?;
                // Whatever waits goes out before one flush.
                while let Some(receiver) = &mut frames {
                    match receiver.try_recv() {
                        Ok(frame) => socket.feed(Message::Text(frame)).await?,
                        Err(TryRecvError::Empty) => break,
                        Err(_) => return Ok(()),
                    }
                }
                socket.flush().await?;
            }
            message = socket.next() => {
                let mut next = Some(message);
                while let Some(message) = next {
                    let Some(message) = message else { return Ok(()) };
                    if let Message::Text(text) = message? {
                        let answer = answer(&text, &shared, &mut frames)?;
                        socket.feed(Message::Text(answer.into())).await?;
                    }
                    next = socket.next().now_or_never();
                }
                socket.flush().await?;
            }
        }
    }
}

/// The next frame; never, where nothing was subscribed to.
async fn next(
    frames: &mut Option<broadcast::Receiver<Utf8Bytes>>,
) -> std::result::Result<Utf8Bytes, RecvError> {
    match frames {
        Some(frames) => frames.recv().await,
        None => std::future::pending().await,
    }
}

fn answer(
    text: &str,
    shared: &Shared,
    frames: &mut Option<broadcast::Receiver<Utf8Bytes>>,
) -> std::result::Result<String, axum::Error> {
    let request: Request<'_> = serde_json::from_str(text).map_err(axum::Error::new)?;
    let Request { id, op, path, value } = request;
    if op == "sub" && !path.is_empty() {
        *frames = Some(shared.frames.subscribe());
    }
    let rev = match value {
        None => shared.rev.load(Ordering::Acquire),
        Some(value) => {
            let rev = shared.rev.fetch_add(1, Ordering::AcqRel) + 1;
            let frame = format!(
                r#"{{"sub":"1","rev":{rev},"events":[{{"type":"value","value":{}}}]}}"#,
                value.get()
            );
            // Without a subscriber there is nobody to send it to.
            let _receivers = shared.frames.send(frame.into());
            rev
        }
    };
    Ok(format!(r#"{{"id":"{id}","ok":true,"data":null,"rev":{rev}}}"#))
}
