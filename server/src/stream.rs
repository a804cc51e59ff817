//! Answers too large for memory: a thread scans, a bounded channel carries chunks, the socket sets
//! the pace.
//!
//! Invariants: a streamed body holds a few chunks, whatever its size; the thread is its own, so
//! slow readers never take the pool's; a reader that takes nothing for the idle time-out ends the
//! stream, and with it the snapshot. A body ends orderly only when the scan says that it is done:
//! whatever else ends the thread breaks the body off, so that no client takes a part for the whole.

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Path, View};

use crate::answer::push_string;
use crate::error::WireError;
use crate::state::State;

/// Chunks that wait for the socket.
const CHUNKS_WAITING: usize = 4;
/// Lines are gathered until they fill a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a stream waits for its place among `streams_max`.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a streamed body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The value as one JSON text.
    Json,
    /// One `{"path":...,"value":...}` line for every leaf, paths relative to the path read.
    Ndjson,
}

/// Streams the subtree at `path` from this view.
pub(crate) async fn body(
    state: &Arc<State>,
    view: View,
    path: Path,
    format: Format,
) -> Result<Body, WireError> {
    produced(state, "stream", move |sink| match format {
        Format::Json => {
            view.stream_json(&path, &mut |chunk| sink.send(Bytes::copy_from_slice(chunk)))
        }
        Format::Ndjson => {
            for_each_chunk(&view, &path, &mut |chunk| sink.send(Bytes::copy_from_slice(chunk)))
        }
    })
    .await
}

/// A place among the long pieces of work, of which there are `streams_max`.
pub(crate) async fn place(state: &Arc<State>) -> Result<OwnedSemaphorePermit, WireError> {
    let place = timeout(PLACE_TIMEOUT, Arc::clone(&state.streams).acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(WireError::new(
            ErrorKind::Busy,
            "too many large answers are being made; try again shortly",
        ));
    };
    Ok(place)
}

/// Streams what `produce` sends, from a thread of its own; an error of it breaks the body off.
pub(crate) async fn produced(
    state: &Arc<State>,
    thread: &str,
    produce: impl FnOnce(&Sink) -> Result<()> + Send + 'static,
) -> Result<Body, WireError> {
    let place = place(state).await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let sink = Sink {
        sender,
        executor: Handle::current(),
        stall_max: state.options.body_idle_timeout,
        is_broken: Cell::new(false),
    };
    state.runtime.spawn_worker(thread, move || {
        // What is read from goes as soon as everything is sent; the channel drains on its own.
        let outcome = produce(&sink);
        drop(place);
        match outcome {
            Ok(()) => sink.finish(),
            Err(error) => tracing::warn!(error = %error, "a streamed answer broke off"),
        }
    })?;
    Ok(Body::from_stream(stream::unfold(Some(receiver), next_chunk)))
}

/// What the scanning thread sends.
enum Piece {
    Chunk(Bytes),
    /// Everything was sent.
    End,
}

/// The next chunk; an error when the thread is gone without having said that it is done.
async fn next_chunk(
    receiver: Option<Receiver<Piece>>,
) -> Option<(io::Result<Bytes>, Option<Receiver<Piece>>)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Some(Piece::Chunk(chunk)) => Some((Ok(chunk), Some(receiver))),
        Some(Piece::End) => None,
        None => Some((Err(io::Error::other("the answer broke off")), None)),
    }
}

/// The scanning thread's end of the channel.
pub(crate) struct Sink {
    sender: Sender<Piece>,
    executor: Handle,
    stall_max: Duration,
    is_broken: Cell<bool>,
}

impl Sink {
    /// Waits for room; breaks when the reader is gone or stalls.
    pub(crate) fn send(&self, chunk: Bytes) -> ControlFlow<()> {
        if self.send_piece(Piece::Chunk(chunk)) {
            return ControlFlow::Continue(());
        }
        self.is_broken.set(true);
        ControlFlow::Break(())
    }

    /// Says that everything was sent, unless something was not.
    fn finish(&self) {
        if !self.is_broken.get() {
            self.is_broken.set(!self.send_piece(Piece::End));
        }
    }

    fn send_piece(&self, piece: Piece) -> bool {
        let piece = match self.sender.try_send(piece) {
            Ok(()) => return true,
            Err(TrySendError::Full(piece)) => piece,
            Err(TrySendError::Closed(_)) => return false,
        };
        let sent = async { timeout(self.stall_max, self.sender.send(piece)).await };
        matches!(self.executor.block_on(sent), Ok(Ok(())))
    }
}

/// Gives a line for every leaf below `base`, gathered into chunks.
pub(crate) fn for_each_chunk(
    view: &View,
    base: &Path,
    take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + (4 << 10));
    let mut is_wanted = true;
    view.for_each_leaf(base, &mut |path, value| {
        append_line(&mut chunk, base, path, value);
        if chunk.len() < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        let taken = take(&chunk);
        chunk.clear();
        is_wanted = taken.is_continue();
        taken
    })?;
    if is_wanted && !chunk.is_empty() {
        // The last chunk: there is nothing to go on with either way.
        let _is_taken = take(&chunk).is_continue();
    }
    Ok(())
}

fn append_line(chunk: &mut Vec<u8>, base: &Path, path: &Path, value: &[u8]) {
    let relative: Vec<&str> = path.segments().skip(base.depth()).collect();
    chunk.extend_from_slice(b"{\"path\":");
    push_string(chunk, &relative.join("/"));
    chunk.extend_from_slice(b",\"value\":");
    chunk.extend_from_slice(value);
    chunk.extend_from_slice(b"}\n");
}
