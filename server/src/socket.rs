//! One WebSocket connection: reads frames, hands them out, writes answers.
//!
//! One task per connection, no other: it drains every frame that is there, submits the writes in
//! their order, gives the reads to the pool as one job, and writes all answers that are ready
//! before it flushes once.
//!
//! Invariants: no frame is read while the requests in flight are at their bound; a read job is one
//! at a time, so answers wait in bounded memory; a peer that is silent, or takes nothing, for
//! `silence_max` is dropped; an orderly end answers all that was accepted first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Committed, PendingCommit};

use crate::answer::{begin, end, push_origin, push_refusal, rev_of, write_answer};
use crate::error::WireError;
use crate::frames::utf8;
use crate::in_flight::InFlight;
use crate::lease::Lease;
use crate::live::Live;
use crate::live_job::{LiveDone, LiveWork};
use crate::operation::ResultShape;
use crate::read_job::{self, ReadRequest};
use crate::state::{State, stopped};
use crate::wire::{Command, Refused, Request};

/// How long a refused peer may take to read why.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// A write that was submitted, or a read job.
type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a piece of work ends with.
enum Done {
    Write { answer: Utf8Bytes, frame_bytes: usize },
    Reads { answers: Vec<Utf8Bytes>, frame_bytes: usize, rest: ReadBatch },
    Live(LiveDone),
}

/// Reads that go to the pool together; those before `from` are answered.
struct ReadBatch {
    requests: Arc<Vec<ReadRequest>>,
    from: usize,
}

/// Why no further frame is read.
enum Ending {
    /// Answer what was accepted, then close with this frame.
    Close(CloseFrame),
    /// The peer closed: its close frame is answered, nothing else can be written.
    Closed,
    /// The peer is gone: nothing more can be written.
    Gone,
}

struct Connection {
    state: Arc<State>,
    socket: WebSocket,
    work: FuturesUnordered<Work>,
    reads: Vec<ReadRequest>,
    /// What a job left unanswered; it goes first.
    reads_rest: Option<ReadBatch>,
    is_reading: bool,
    live: Live,
    lease: Lease,
    in_flight: InFlight,
    /// Answers to be written.
    ready: Vec<Message>,
    last_heard: Instant,
    ending: Option<Ending>,
}

/// Serves a connection until it ends; the permit is its place among the connections.
pub(crate) async fn run(socket: WebSocket, state: Arc<State>, permit: OwnedSemaphorePermit) {
    state.metrics.connections.inc();
    let stopping = state.stopping();
    let mut connection = Connection {
        state: Arc::clone(&state),
        socket,
        work: FuturesUnordered::new(),
        reads: Vec::new(),
        reads_rest: None,
        is_reading: false,
        live: Live::default(),
        lease: Lease::default(),
        in_flight: InFlight::new(&state.in_flight_bytes),
        ready: Vec::new(),
        last_heard: Instant::now(),
        ending: None,
    };
    connection.serve(stopping).await;
    // Its subscriptions and its lease go before its place does: a stop waits for the places.
    drop(connection);
    state.metrics.connections.dec();
    drop(permit);
}

impl Connection {
    async fn serve(&mut self, mut stopping: watch::Receiver<bool>) {
        let ping_interval = self.state.options.ping_interval;
        let mut next_ping = Instant::now() + ping_interval;
        let mut is_stopping = false;
        let alarm = sleep_until(next_ping);
        tokio::pin!(alarm);
        loop {
            while let Some(Some(done)) = self.work.next().now_or_never() {
                self.finish(done);
            }
            if matches!(self.ending, Some(Ending::Closed)) {
                // An answer that has become ready since could not be written any more.
                return self.answer_close().await;
            }
            if !self.write_ready().await {
                return;
            }
            self.start_reads();
            if let Some(job) = self.live.start(&self.state) {
                self.work.push(Box::pin(async { Done::Live(job.await) }));
            }
            match &self.ending {
                Some(Ending::Gone) => return,
                Some(Ending::Close(_)) if self.work.is_empty() => break,
                _ => {}
            }
            let soon = Instant::now() + self.lease.ping_interval(ping_interval);
            if soon < next_ping {
                // A lease of a short time wants its holder heard of more often.
                next_ping = soon;
                alarm.as_mut().reset(next_ping);
            }
            let may_read = self.may_read();
            tokio::select! {
                biased;
                () = stopped(&mut stopping), if !is_stopping => {
                    is_stopping = true;
                    self.close(close_code::AWAY, "the server stops");
                }
                () = &mut alarm => {
                    let now = Instant::now();
                    if !may_read {
                        // Nothing was read, so silence says nothing about the peer.
                        self.last_heard = now;
                        self.lease.heard();
                    }
                    let silence_max = self.lease.silence_max(self.state.options.silence_max);
                    let silence_end = self.last_heard + silence_max;
                    if silence_end <= now {
                        tracing::debug!("a silent WebSocket peer is dropped");
                        return;
                    }
                    if next_ping <= now {
                        self.ready.push(Message::Ping(Bytes::new()));
                        next_ping = now + self.lease.ping_interval(ping_interval);
                    }
                    alarm.as_mut().reset(next_ping.min(silence_end));
                }
                Some(done) = self.work.next(), if !self.work.is_empty() => self.finish(done),
                deliveries = self.live.next(), if self.live.is_open() && self.ending.is_none() => {
                    self.live.deliver(&self.state, deliveries, &mut self.ready);
                    // However many events there are, requests are taken beside them.
                    self.accept_ready();
                }
                message = self.socket.next(), if may_read => {
                    self.accept(message);
                    self.accept_ready();
                }
            }
        }
        if let Some(Ending::Close(frame)) = self.ending.take() {
            self.say_goodbye(frame).await;
        }
    }

    fn may_read(&self) -> bool {
        self.ending.is_none() && self.in_flight.has_room(&self.state.options)
    }

    /// Takes every frame that has arrived already.
    fn accept_ready(&mut self) {
        while self.may_read() {
            match self.socket.next().now_or_never() {
                Some(message) => self.accept(message),
                None => return,
            }
        }
    }

    fn accept(&mut self, message: Option<Result<Message, axum::Error>>) {
        self.last_heard = Instant::now();
        if matches!(message, Some(Ok(_))) {
            self.lease.heard();
        }
        match message {
            Some(Ok(Message::Text(text))) => self.accept_text(&text),
            Some(Ok(Message::Binary(_))) => {
                let error = WireError::new(
                    ErrorKind::Unsupported,
                    "binary frames are not offered; requests are text frames",
                );
                self.refuse(&Refused { id: None, error: Box::new(error) });
            }
            // The codec answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) => {
                self.lease.say_goodbye();
                self.ready.clear();
                self.ending = Some(Ending::Closed);
            }
            None => self.ending = Some(Ending::Gone),
            Some(Err(error)) => self.accept_failure(error),
        }
    }

    fn accept_text(&mut self, text: &Utf8Bytes) {
        let Request { id, operation, command } = match Request::parse(text.as_str()) {
            Ok(request) => request,
            Err(refused) => return self.refuse(&refused),
        };
        let frame_bytes = text.len();
        match command {
            Command::Hello | Command::Ping => {
                let mut out = Vec::with_capacity(64);
                begin(&mut out, &id);
                match command {
                    Command::Hello => self.state.push_hello(&mut out),
                    _ => out.extend_from_slice(b"null"),
                }
                end(&mut out, None);
                self.state.metrics.count_operation(operation, true);
                self.ready.push(Message::Text(utf8(out)));
            }
            Command::Read(command) => {
                self.in_flight.take(frame_bytes);
                self.reads.push(ReadRequest { id, operation, command, frame_bytes });
            }
            Command::Live(command) => {
                self.in_flight.take(frame_bytes);
                self.live.push(LiveWork::Request { id, operation, command, frame_bytes });
            }
            Command::Lease(command) => {
                self.in_flight.take(frame_bytes);
                let answer = self.lease.carry_out(&self.state, id, command);
                let state = Arc::clone(&self.state);
                self.work.push(Box::pin(async move {
                    let (answer, is_ok) = answer.await;
                    state.metrics.count_operation(operation, is_ok);
                    Done::Write { answer, frame_bytes }
                }));
            }
            Command::Write(commit, shape) => {
                self.in_flight.take(frame_bytes);
                self.live.remember(commit.key.as_deref());
                // Submitted here and now: the order of arrival is the order of the commits.
                let pending = self.state.tree.submit(*commit);
                let write = Write { id, operation, shape, frame_bytes };
                self.work.push(Box::pin(write.complete(Arc::clone(&self.state), pending)));
            }
        }
    }

    fn accept_failure(&mut self, error: axum::Error) {
        let error = error.into_inner();
        match error.downcast_ref::<tungstenite::Error>() {
            Some(tungstenite::Error::Capacity(_)) => {
                let limit = self.state.options.frame_bytes_max;
                self.close(
                    close_code::SIZE,
                    &format!("a message has at most {limit} bytes; PUT /db/<path> takes more"),
                );
            }
            Some(tungstenite::Error::Utf8(_)) => {
                self.close(close_code::INVALID, "a text frame is UTF-8");
            }
            Some(tungstenite::Error::Protocol(_)) => {
                self.close(close_code::PROTOCOL, "not a WebSocket frame of a client");
            }
            _ => self.ending = Some(Ending::Gone),
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        self.state.metrics.refused_frames.inc();
        let mut out = Vec::with_capacity(128);
        push_refusal(&mut out, refused.id.as_deref(), &refused.error);
        self.ready.push(Message::Text(utf8(out)));
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.ending.is_none() {
            self.ending = Some(Ending::Close(CloseFrame { code, reason: reason.into() }));
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Write { answer, frame_bytes } => {
                self.in_flight.give_back(1, frame_bytes);
                self.ready.push(Message::Text(answer));
            }
            Done::Reads { answers, frame_bytes, rest } => {
                self.is_reading = false;
                self.in_flight.give_back(answers.len(), frame_bytes);
                self.ready.extend(answers.into_iter().map(Message::Text));
                self.reads_rest = (rest.from < rest.requests.len()).then_some(rest);
            }
            Done::Live(done) => {
                self.in_flight.give_back(done.requests, done.frame_bytes);
                self.live.finish(done, &mut self.ready);
            }
        }
    }

    /// Gives all waiting reads to the pool, unless a job is under way.
    fn start_reads(&mut self) {
        if self.is_reading || (self.reads.is_empty() && self.reads_rest.is_none()) {
            return;
        }
        self.is_reading = true;
        let batch = self.reads_rest.take().unwrap_or_else(|| ReadBatch {
            requests: Arc::new(std::mem::take(&mut self.reads)),
            from: 0,
        });
        self.work.push(Box::pin(read(Arc::clone(&self.state), batch)));
    }

    /// Writes and flushes all answers that are ready; false when the peer is gone.
    async fn write_ready(&mut self) -> bool {
        if self.ready.is_empty() {
            return true;
        }
        let socket = &mut self.socket;
        let ready = &mut self.ready;
        let written = timeout(self.state.options.silence_max, async move {
            for message in ready.drain(..) {
                socket.feed(message).await?;
            }
            socket.flush().await
        });
        matches!(written.await, Ok(Ok(())))
    }

    /// Sends the codec's answer to the peer's close frame, so that both know of a clean end.
    async fn answer_close(&mut self) {
        // A peer that does not read it has lost nothing else.
        let _is_in_time = timeout(LINGER, self.socket.flush()).await.is_ok();
    }

    /// Closes, and leaves the peer a moment to read why before the socket goes.
    async fn say_goodbye(&mut self, frame: CloseFrame) {
        // After a failed read the stream ends by itself, which would cut the close frame off.
        let is_failure = frame.code != close_code::AWAY;
        let farewell = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.socket.next().await {}
            if is_failure {
                tokio::time::sleep(LINGER).await;
            }
        };
        // Out of time is as good as done: the socket is dropped either way.
        let _is_in_time = timeout(LINGER, farewell).await.is_ok();
    }
}

/// What is remembered of a write until its answer.
struct Write {
    id: String,
    operation: usize,
    shape: ResultShape,
    frame_bytes: usize,
}

impl Write {
    async fn complete(self, state: Arc<State>, pending: PendingCommit) -> Done {
        let outcome = pending.await;
        state.metrics.count_operation(self.operation, outcome.is_ok());
        let limit = state.options.frame_bytes_max;
        let mut answer = match outcome {
            Ok(committed) => {
                let answer = write_answer(&self.id, self.shape, &committed);
                if answer.len() <= limit {
                    answer
                } else {
                    // The commit stands; only its results do not fit.
                    without_results(&self.id, &committed)
                }
            }
            Err(refused) => {
                let mut out = Vec::with_capacity(128);
                push_refusal(&mut out, Some(&self.id), &WireError::from(refused));
                out
            }
        };
        if answer.len() > limit {
            answer.clear();
            let error = WireError::new(
                ErrorKind::Conflict,
                "a condition did not hold; the current values are larger than a frame",
            );
            push_refusal(&mut answer, Some(&self.id), &error);
        }
        Done::Write { answer: utf8(answer), frame_bytes: self.frame_bytes }
    }
}

/// The answer to a commit whose results would be larger than a frame.
fn without_results(id: &str, committed: &Committed) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    begin(&mut out, id);
    out.extend_from_slice(b"null,\"truncated\":true");
    push_origin(&mut out, committed);
    end(&mut out, Some(rev_of(committed)));
    out
}

async fn read(state: Arc<State>, mut batch: ReadBatch) -> Done {
    let job_state = Arc::clone(&state);
    let requests = Arc::clone(&batch.requests);
    let from = batch.from;
    let outcome = state
        .runtime
        .run(move || read_job::execute(&job_state, requests.get(from..).unwrap_or_default()))
        .await;
    let unanswered = batch.requests.get(from..).unwrap_or_default();
    let answers = outcome.unwrap_or_else(|error| {
        let error = WireError::from(error);
        unanswered
            .iter()
            .map(|request| {
                state.metrics.count_operation(request.operation, false);
                let mut out = Vec::with_capacity(128);
                push_refusal(&mut out, Some(&request.id), &error);
                utf8(out)
            })
            .collect()
    });
    let frame_bytes = unanswered.iter().take(answers.len()).map(|read| read.frame_bytes).sum();
    batch.from = from + answers.len();
    Done::Reads { answers, frame_bytes, rest: batch }
}
