//! `GET /db/<path>` with `Accept: text/event-stream`: a subscription over plain HTTP.
//!
//! Invariants: a stream is one place among the connections, holds one inbox, and gives both back
//! however it ends; a client that takes nothing for `silence_max` is dropped (there is a heartbeat
//! in between, so there is always something to take); a stop of the server ends it orderly, and
//! an EventSource comes back by itself with the id of the last event.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use trellis_engine_traits::ErrorKind;
use trellis_subscribe::{Acknowledgement, AcknowledgementKind, Delivery, Inbox};

use crate::error::WireError;
use crate::frames::cause_name;
use crate::live_job::{refusal, request_of};
use crate::live_request::{Resume, Subscription};
use crate::rest::{header_text, set_rev};
use crate::sse;
use crate::state::{State, stopped};

/// The only subscription of the inbox of a stream.
const NAME: &str = "stream";
/// What an EventSource sends when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies that know it not to gather the answer.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Where an EventSource goes on. An id of elsewhere leads to a `reset`, not to a refusal: an
/// EventSource would never try again after one.
pub(crate) fn resume_of(headers: &HeaderMap) -> Result<Option<Resume>, WireError> {
    let Some(id) = header_text(headers, &LAST_EVENT_ID)? else {
        return Ok(None);
    };
    let (since, epoch) = sse::parse_id(&id).unwrap_or((0, String::new()));
    Ok(Some(Resume { since, epoch }))
}

/// Opens the stream of a subscription.
pub(crate) async fn open(
    state: &Arc<State>,
    wanted: Subscription,
) -> Result<Response<Body>, WireError> {
    let Ok(place) = Arc::clone(&state.connections).try_acquire_owned() else {
        state.metrics.connections_refused.inc();
        return Err(WireError::new(ErrorKind::Busy, "all connections are taken; try again later"));
    };
    let inbox = Arc::new(state.db.live()?.inbox());
    let request = request_of(&wanted)?;
    let job_inbox = Arc::clone(&inbox);
    let acknowledged = state
        .runtime
        .run(move || job_inbox.subscribe(NAME, request))
        .await
        .map_err(|error| refusal(error, &wanted.path))?;
    let rev = acknowledged.rev;
    let (sender, receiver) = mpsc::channel(1);
    state.metrics.event_streams.inc();
    let events = EventStream {
        state: Arc::clone(state),
        inbox,
        path: wanted.path,
        epoch: acknowledged.epoch.clone(),
        sender,
        _place: place,
    };
    tokio::spawn(events.run(acknowledged));
    let next = |mut receiver: mpsc::Receiver<Bytes>| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(chunk), receiver))
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(receiver, next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    set_rev(&mut response, rev);
    Ok(response)
}

/// The task behind a stream.
struct EventStream {
    state: Arc<State>,
    inbox: Arc<Inbox>,
    path: String,
    /// Of the last acknowledgement.
    epoch: String,
    sender: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.state.metrics.event_streams.dec();
    }
}

impl EventStream {
    async fn run(mut self, acknowledged: Acknowledgement) {
        let is_reset = acknowledged.kind == AcknowledgementKind::Reset;
        let first = match acknowledged.kind {
            AcknowledgementKind::Resumed => sse::RESUMED.to_vec(),
            _ => sse::snapshot(is_reset, &self.epoch, acknowledged.rev, &acknowledged.data),
        };
        drop(acknowledged);
        if !self.send(first).await {
            return;
        }
        let _is_there = self.inbox.activate(NAME);
        let pause = self.state.options.ping_interval;
        let mut heartbeat = interval_at(Instant::now() + pause, pause);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = self.state.stopping();
        loop {
            let is_wanted = tokio::select! {
                biased;
                () = stopped(&mut stopping) => return,
                () = self.sender.closed() => return,
                deliveries = self.inbox.next() => self.deliver(deliveries).await,
                _ = heartbeat.tick() => self.send(sse::HEARTBEAT.to_vec()).await,
            };
            if !is_wanted {
                return;
            }
        }
    }

    /// Tells what happened; whether the stream goes on.
    async fn deliver(&mut self, deliveries: Vec<Delivery>) -> bool {
        if deliveries.is_empty() {
            // The database was closed.
            return false;
        }
        let mut out = Vec::new();
        for delivery in deliveries {
            match delivery {
                Delivery::Event { event, .. } => {
                    self.state.metrics.event_frames.inc();
                    let cause = cause_name(event.cause);
                    out.extend(sse::changes(&self.epoch, event.rev, cause, &event.body));
                }
                Delivery::Stale { .. } => match self.refresh().await {
                    Ok(reset) => out.extend(reset),
                    Err(error) => {
                        out.extend(sse::cancel(&error));
                        self.send(out).await;
                        return false;
                    }
                },
                Delivery::Cancelled { error, .. } => {
                    out.extend(sse::cancel(&refusal(error, &self.path)));
                    self.send(out).await;
                    return false;
                }
            }
        }
        self.send(out).await
    }

    /// A new snapshot in place of the events that were dropped.
    async fn refresh(&mut self) -> Result<Vec<u8>, WireError> {
        let inbox = Arc::clone(&self.inbox);
        let refreshed = self.state.runtime.run(move || inbox.refresh(NAME)).await;
        let refreshed = refreshed.map_err(|error| refusal(error, &self.path))?;
        self.state.metrics.resets.inc();
        self.epoch.clone_from(&refreshed.epoch);
        let reset = sse::snapshot(true, &self.epoch, refreshed.rev, &refreshed.data);
        // What follows is handed out by the next look at the inbox, behind this.
        let _is_there = self.inbox.activate(NAME);
        Ok(reset)
    }

    /// Whether the client took it in time.
    async fn send(&self, chunk: Vec<u8>) -> bool {
        let sent = self.sender.send(Bytes::from(chunk));
        matches!(timeout(self.state.options.silence_max, sent).await, Ok(Ok(())))
    }
}
