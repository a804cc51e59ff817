//! The task behind a client: connects, writes, reads, and connects again.
//!
//! Reading and writing go on side by side, so that a server which waits for its answers to be
//! taken and a client which waits for its requests to be taken cannot block one another.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::answer::{self, Answer, Hello, Parsed};
use crate::error::{ClientError, ClientErrorKind};
use crate::feed::Feed;
use crate::options::ClientOptions;
use crate::pending::Shared;
use crate::presence;
use crate::target::Target;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Frames that are written before a flush, in bytes.
const COALESCED_BYTES: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 32 << 10;
/// Longest pause before a subscription that a busy server refused is asked for again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects and learns who the server is.
pub(crate) async fn connect(
    target: &Target,
    options: &ClientOptions,
) -> Result<(Socket, Hello), ClientError> {
    let unreachable = |why: String| {
        let message =
            format!("no connection to {}: {why}; is a server running there?", target.websocket);
        ClientError::new(ClientErrorKind::Unreachable, message)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let connected = async {
        let request = target.websocket.as_str();
        let (mut socket, _response) =
            tokio_tungstenite::connect_async_with_config(request, Some(config), true)
                .await
                .map_err(|error| unreachable(error.to_string()))?;
        let hello = introduce(&mut socket).await?;
        Ok((socket, hello))
    };
    match timeout(options.connect_timeout, connected).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(unreachable("it took too long".to_owned())),
    }
}

async fn introduce(socket: &mut Socket) -> Result<Hello, ClientError> {
    let asked_at = Instant::now();
    let answer = ask(socket, r#"{"id":"hello","op":"hello"}"#.to_owned()).await?;
    let mut hello: Hello = answer.read()?;
    // Half of the way there and back is the way back.
    let way_back = asked_at.elapsed() / 2;
    let way_back_ms = u64::try_from(way_back.as_millis()).unwrap_or_default();
    hello.time = hello.time.saturating_add(way_back_ms);
    Ok(hello)
}

/// Asks one thing before the connection is used for anything else.
async fn ask(socket: &mut Socket, frame: String) -> Result<Answer, ClientError> {
    let lost = |why: &str| ClientError::new(ClientErrorKind::Unreachable, why);
    socket.send(Message::text(frame)).await.map_err(|error| lost(&error.to_string()))?;
    while let Some(message) = socket.next().await {
        let message = message.map_err(|error| lost(&error.to_string()))?;
        let Message::Text(text) = message else {
            continue;
        };
        if let Parsed::Answer(_id, outcome) = answer::parse(text.as_str())? {
            return outcome;
        }
    }
    Err(lost("the server closed the connection at once"))
}

/// Keeps a connection until the client is closed.
pub(crate) async fn drive(shared: Arc<Shared>, target: Target, first: Socket) {
    let mut closed = shared.closed.subscribe();
    let mut socket = Some(first);
    while !*closed.borrow() {
        let current = match socket.take() {
            Some(socket) => socket,
            None => {
                let connected = tokio::select! {
                    _ = closed.wait_for(|closed| *closed) => None,
                    connected = reconnect(&shared, &target) => Some(connected),
                };
                match connected {
                    Some(socket) => socket,
                    None => break,
                }
            }
        };
        let (sink, stream) = current.split();
        let outcome = tokio::select! {
            outcome = read_all(&shared, stream) => outcome,
            outcome = write_all(&shared, sink) => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the connection is lost");
        }
        shared.presence.disconnected();
        shared.rewind();
    }
    shared.presence.closed();
    shared.fail_all();
}

/// Tries until it succeeds, with a random pause before each try ("full jitter").
async fn reconnect(shared: &Shared, target: &Target) -> Socket {
    let options = &shared.options;
    let pauses = ExponentialBuilder::new()
        .with_min_delay(options.backoff_min)
        .with_max_delay(options.backoff_max)
        .without_max_times();
    for bound in pauses.build() {
        tokio::time::sleep(bound.mul_f64(random_fraction())).await;
        match connect_again(shared, target).await {
            Ok((socket, hello)) => {
                shared.introduce(hello);
                return socket;
            }
            Err(error) => tracing::debug!(%error, "no connection yet"),
        }
    }
    // The pauses never end.
    std::future::pending().await
}

/// Connects, and takes the lease over that the last connection held.
async fn connect_again(shared: &Shared, target: &Target) -> Result<(Socket, Hello), ClientError> {
    let (mut socket, hello) = connect(target, &shared.options).await?;
    if let Some(lease) = shared.presence.lease() {
        let asked = ask(&mut socket, presence::take_over_frame(&lease));
        let outcome = timeout(shared.options.connect_timeout, asked).await;
        let late = |_elapsed| ClientError::new(ClientErrorKind::Unreachable, "it took too long");
        shared.taken_over(&lease, outcome.map_err(late)?.map(|_lease| ()))?;
    }
    Ok((socket, hello))
}

fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

async fn read_all(
    shared: &Arc<Shared>,
    mut stream: SplitStream<Socket>,
) -> Result<(), ClientError> {
    let lost = |why: String| ClientError::new(ClientErrorKind::Unreachable, why);
    loop {
        let message = match timeout(shared.options.silence_max, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Err(lost(error.to_string())),
            Ok(None) => return Err(lost("the server closed the connection".to_owned())),
            Err(_elapsed) => return Err(lost("the server is silent".to_owned())),
        };
        let Message::Text(text) = message else {
            continue;
        };
        match answer::parse(text.as_str())? {
            Parsed::Answer(Some(id), outcome) => {
                if let Some(feed) = shared.resolve(&id, outcome) {
                    ask_later(shared, &feed);
                }
            }
            Parsed::Answer(None, Err(error)) => {
                tracing::warn!(%error, "the server refused a frame");
            }
            Parsed::Answer(None, Ok(_)) => {}
            Parsed::Told(sub, told) => {
                if let Some(feed) = shared.tell(&sub, told, text.as_str()) {
                    ask_later(shared, &feed);
                }
            }
        }
    }
}

/// Asks for a subscription again once the server may have room for it.
fn ask_later(shared: &Arc<Shared>, feed: &Arc<Feed>) {
    let (shared, feed) = (Arc::downgrade(shared), Arc::downgrade(feed));
    tokio::spawn(async move {
        tokio::time::sleep(RETRY_PAUSE.mul_f64(random_fraction())).await;
        if let (Some(shared), Some(feed)) = (shared.upgrade(), feed.upgrade())
            && let Err(error) = shared.ask(&feed)
        {
            feed.end(error);
        }
    });
}

async fn write_all(
    shared: &Shared,
    mut sink: SplitSink<Socket, Message>,
) -> Result<(), ClientError> {
    let lost = |error: tokio_tungstenite::tungstenite::Error| {
        ClientError::new(ClientErrorKind::Unreachable, error.to_string())
    };
    let mut closed = shared.closed.subscribe();
    loop {
        let frames = shared.take_unwritten(COALESCED_BYTES);
        if frames.is_empty() {
            let is_closed = tokio::select! {
                () = shared.wake.notified() => false,
                _ = closed.wait_for(|closed| *closed) => true,
            };
            if is_closed {
                // A server that does not take the close is left to its own time-outs.
                let _is_in_time = timeout(CLOSE_TIMEOUT, sink.close()).await.is_ok();
                return Ok(());
            }
            continue;
        }
        for frame in frames {
            sink.feed(Message::Text(frame)).await.map_err(lost)?;
        }
        sink.flush().await.map_err(lost)?;
    }
}

impl Shared {
    /// Reads what the server says about a lease that a new connection wants to take over.
    pub(crate) fn taken_over(
        &self,
        lease: &str,
        outcome: Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        match outcome {
            Err(error) if error.code() == "not_found" => {
                self.presence.lose(lease);
                Ok(())
            }
            outcome => outcome,
        }
    }
}
