//! What is done to the subscriptions of a connection, on a thread that may block.
//!
//! Invariants: a job ends once its answers are long enough, so a connection holds that much and one
//! largest answer; a subscription whose acknowledgement does not fit a frame is ended again.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_subscribe::{
    Acknowledgement, AcknowledgementKind, EventKind, Inbox, Mode, Pattern, SubscribeRequest,
};

use crate::answer::{begin, end, push_error_fields, push_number, push_refusal, push_string};
use crate::error::WireError;
use crate::frames::{self, utf8};
use crate::live_request::{self as wire, Listed, Subscription};
use crate::state::State;
use crate::wire::LiveCommand;

/// A job takes no further request once its answers are this long.
const JOB_ANSWER_BYTES: usize = 256 << 10;

/// Subscriptions that are resumed together; each may have a new snapshot instead.
const TOGETHER_MAX: usize = 32;

/// What waits for its job.
#[derive(Debug)]
pub(crate) enum LiveWork {
    /// A request of the client.
    Request { id: String, operation: usize, command: LiveCommand, frame_bytes: usize },
    /// A subscription that lost events gets a new snapshot.
    Refresh(Arc<str>),
}

/// What a job did.
pub(crate) struct LiveDone {
    /// To be written, in this order.
    pub(crate) frames: Vec<Utf8Bytes>,
    /// To be let out once the frames are on their way.
    pub(crate) acknowledged: Vec<String>,
    /// Requests that were answered, and the bytes of their frames.
    pub(crate) requests: usize,
    pub(crate) frame_bytes: usize,
    /// What was not done yet.
    pub(crate) rest: VecDeque<LiveWork>,
}

/// Does what waits, as far as its answers are not too long.
pub(crate) async fn run(
    state: Arc<State>,
    inbox: Result<Arc<Inbox>>,
    waiting: VecDeque<LiveWork>,
) -> LiveDone {
    let refused: Vec<Refused> = waiting.iter().map(Refused::of).collect();
    let inbox = match inbox {
        Ok(inbox) => inbox,
        Err(error) => return refuse_all(refused, &WireError::from(error), &|_| ()),
    };
    let (job_state, job_inbox) = (Arc::clone(&state), Arc::clone(&inbox));
    let job = move || Ok(Job::new(&job_state, &job_inbox).work(waiting));
    state.runtime.run(job).await.unwrap_or_else(|error| {
        refuse_all(refused, &WireError::from(error), &|name| {
            let _was_open = inbox.unsubscribe(name);
        })
    })
}

/// A job could not be done: the pool is full, or it panicked.
fn refuse_all(refused: Vec<Refused>, error: &WireError, end: &dyn Fn(&str)) -> LiveDone {
    let mut done = LiveDone::new();
    for refused in refused {
        match refused {
            Refused::Request { id, frame_bytes } => {
                let mut out = Vec::with_capacity(128);
                push_refusal(&mut out, Some(&id), error);
                done.frames.push(utf8(out));
                done.requests += 1;
                done.frame_bytes += frame_bytes;
            }
            Refused::Refresh(name) => {
                end(&name);
                done.frames.push(frames::cancelled(&name, error));
            }
        }
    }
    done
}

/// What is answered when a job cannot be done.
enum Refused {
    Request { id: String, frame_bytes: usize },
    Refresh(Arc<str>),
}

impl Refused {
    fn of(work: &LiveWork) -> Self {
        match work {
            LiveWork::Request { id, frame_bytes, .. } => {
                Self::Request { id: id.clone(), frame_bytes: *frame_bytes }
            }
            LiveWork::Refresh(name) => Self::Refresh(Arc::clone(name)),
        }
    }
}

impl LiveDone {
    fn new() -> Self {
        Self {
            frames: Vec::new(),
            acknowledged: Vec::new(),
            requests: 0,
            frame_bytes: 0,
            rest: VecDeque::new(),
        }
    }
}

/// One job on a thread that may block.
struct Job<'a> {
    state: &'a State,
    inbox: &'a Inbox,
    done: LiveDone,
    answer_bytes: usize,
}

impl<'a> Job<'a> {
    fn new(state: &'a State, inbox: &'a Inbox) -> Self {
        Self { state, inbox, done: LiveDone::new(), answer_bytes: 0 }
    }

    fn work(mut self, mut waiting: VecDeque<LiveWork>) -> LiveDone {
        while self.answer_bytes < JOB_ANSWER_BYTES {
            self.resume_together(&mut waiting);
            let Some(work) = waiting.pop_front() else { break };
            match work {
                LiveWork::Refresh(name) => self.refresh(&name),
                LiveWork::Request { id, operation, command, frame_bytes } => {
                    self.done.requests += 1;
                    self.done.frame_bytes += frame_bytes;
                    let outcome = self.request(&id, command);
                    self.answer(&id, operation, outcome);
                }
            }
        }
        self.done.rest = waiting;
        self.done
    }

    /// Begins those at the front that go on where they were left: what they missed is read once
    /// for all of them.
    fn resume_together(&mut self, waiting: &mut VecDeque<LiveWork>) {
        let mut asked = Vec::new();
        let mut begun = Vec::new();
        while let Some(work) =
            waiting.pop_front_if(|work| begun.len() < TOGETHER_MAX && resumes(work))
        {
            let LiveWork::Request { id, operation, command, frame_bytes } = work else { continue };
            let LiveCommand::Subscribe(wanted) = command else { continue };
            self.done.requests += 1;
            self.done.frame_bytes += frame_bytes;
            match request_of(&wanted) {
                Ok(request) => {
                    asked.push((wanted.name.clone(), request));
                    begun.push((id, operation, wanted));
                }
                Err(error) => self.answer(&id, operation, Err(error)),
            }
        }
        if begun.is_empty() {
            return;
        }
        let answers = self.inbox.subscribe_all(asked);
        for ((id, operation, wanted), answer) in begun.into_iter().zip(answers) {
            let outcome = self.acknowledge(&id, &wanted, answer);
            self.answer(&id, operation, outcome);
        }
    }

    fn answer(&mut self, id: &str, operation: usize, outcome: Result<Vec<u8>, WireError>) {
        self.state.metrics.count_operation(operation, outcome.is_ok());
        let frame = outcome.unwrap_or_else(|error| {
            let mut out = Vec::with_capacity(128);
            push_refusal(&mut out, Some(id), &error);
            out
        });
        self.push(frame);
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.answer_bytes += frame.len();
        self.done.frames.push(utf8(frame));
    }

    fn subscribe(&mut self, id: &str, wanted: &Subscription) -> Result<Vec<u8>, WireError> {
        let outcome = self.inbox.subscribe(&wanted.name, request_of(wanted)?);
        self.acknowledge(id, wanted, outcome)
    }

    fn acknowledge(
        &mut self,
        id: &str,
        wanted: &Subscription,
        outcome: Result<Acknowledgement>,
    ) -> Result<Vec<u8>, WireError> {
        let acknowledged = outcome.map_err(|error| refusal(error, &wanted.path))?;
        let mut out = Vec::with_capacity(acknowledged.data.len() + 96);
        begin(&mut out, id);
        push_acknowledgement(&mut out, &acknowledged);
        out.push(b'}');
        self.check_length(out.len(), std::slice::from_ref(&wanted.name), &wanted.path)?;
        self.done.acknowledged.push(wanted.name.clone());
        Ok(out)
    }

    fn subscribe_all(&mut self, id: &str, listed: Vec<Listed>) -> Result<Vec<u8>, WireError> {
        let mut asked = Vec::new();
        // In the order of the request; those that make no sense are not asked for.
        let mut names = Vec::with_capacity(listed.len());
        for (name, wanted) in listed {
            let built = wanted
                .map_err(|error| *error)
                .and_then(|wanted| request_of(&wanted).map(|request| (wanted.path, request)));
            match built {
                Ok((path, request)) => {
                    asked.push((name.clone(), request));
                    names.push((name, Some(path), None));
                }
                Err(error) => names.push((name, None, Some(error))),
            }
        }
        let mut answers = self.inbox.subscribe_all(asked).into_iter();
        let mut out = Vec::with_capacity(256);
        begin(&mut out, id);
        out.push(b'[');
        let mut opened = Vec::new();
        for (index, (name, path, error)) in names.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"sub\":");
            push_string(&mut out, &name);
            let outcome = match (error, path) {
                (Some(error), _) => Err(error),
                (None, path) => match answers.next() {
                    Some(Ok(acknowledged)) => Ok(acknowledged),
                    Some(Err(error)) => Err(refusal(error, path.as_deref().unwrap_or_default())),
                    None => Err(WireError::invalid("this subscription was not answered")),
                },
            };
            match outcome {
                Ok(acknowledged) => {
                    out.extend_from_slice(b",\"ok\":true,\"data\":");
                    push_acknowledgement(&mut out, &acknowledged);
                    opened.push(name);
                }
                Err(error) => {
                    out.extend_from_slice(b",\"ok\":false,");
                    push_error_fields(&mut out, &error);
                }
            }
            out.push(b'}');
        }
        out.push(b']');
        end(&mut out, None);
        self.check_length(out.len(), &opened, "")?;
        self.done.acknowledged.extend(opened);
        Ok(out)
    }

    /// A new snapshot in place of the events that were dropped.
    fn refresh(&mut self, name: &Arc<str>) {
        let refreshed = match self.inbox.refresh(name) {
            Ok(acknowledged) => {
                let frame = frames::reset(name, &acknowledged);
                self.check_length(frame.len(), &[name.to_string()], "").map(|()| frame)
            }
            // It was ended in the meantime: nobody waits for a snapshot.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                let _was_open = self.inbox.unsubscribe(name);
                Err(WireError::from(error))
            }
        };
        match refreshed {
            Ok(frame) => {
                self.state.metrics.resets.inc();
                self.answer_bytes += frame.len();
                self.done.frames.push(frame);
                self.done.acknowledged.push(name.to_string());
            }
            Err(error) => self.done.frames.push(frames::cancelled(name, &error)),
        }
    }

    /// Refuses what does not fit a frame; these subscriptions are ended again.
    fn check_length(&self, bytes: usize, names: &[String], path: &str) -> Result<(), WireError> {
        let limit = self.state.options.frame_bytes_max;
        if bytes <= limit {
            return Ok(());
        }
        for name in names {
            let _was_open = self.inbox.unsubscribe(name);
        }
        Err(too_large(limit, path))
    }

    fn request(&mut self, id: &str, command: LiveCommand) -> Result<Vec<u8>, WireError> {
        match command {
            LiveCommand::Subscribe(subscription) => self.subscribe(id, &subscription),
            LiveCommand::SubscribeAll(listed) => self.subscribe_all(id, listed),
            LiveCommand::Unsubscribe(name) => {
                if !self.inbox.unsubscribe(&name) {
                    return Err(WireError::invalid(
                        "there is no such subscription on this connection; sub names the id of \
                         its sub request",
                    ));
                }
                let mut out = Vec::with_capacity(64);
                begin(&mut out, id);
                out.extend_from_slice(b"null");
                end(&mut out, None);
                Ok(out)
            }
        }
    }
}

/// Whether this is a subscription that goes on where it was left.
fn resumes(work: &LiveWork) -> bool {
    let LiveWork::Request { command: LiveCommand::Subscribe(wanted), .. } = work else {
        return false;
    };
    wanted.resume.is_some()
}

/// The subscription that a request asks for.
pub(crate) fn request_of(wanted: &Subscription) -> Result<SubscribeRequest, WireError> {
    let at = |error: Error| WireError::from(error).at(wanted.path.clone());
    let pattern = Pattern::parse(&wanted.path).map_err(at)?;
    let event = match &wanted.event {
        wire::Event::Value => EventKind::Value,
        wire::Event::Child => EventKind::Child,
        wire::Event::Query(text) => {
            let spec = trellis_query::QuerySpec::parse(text.as_bytes()).map_err(at)?;
            EventKind::Query(spec.into())
        }
    };
    let mode = match wanted.mode {
        wire::Mode::Full => Mode::Full,
        wire::Mode::Patch => Mode::Patch,
        wire::Mode::Notify => Mode::Notify,
    };
    let mut request = SubscribeRequest { pattern, event, mode, resume: None };
    if let Some(resume) = &wanted.resume {
        request = request.resume(resume.since, resume.epoch.clone());
    }
    Ok(request)
}

/// Why a subscription was refused; with advice, where what is there is too large.
pub(crate) fn refusal(error: Error, path: &str) -> WireError {
    WireError::from(error).at(path)
}

fn too_large(limit: usize, path: &str) -> WireError {
    WireError::too_large(format!(
        "what is there now is larger than a frame, which has at most {limit} bytes: subscribe to \
         a narrower path, or in mode notify, which sends no values, and page what is there with \
         children"
    ))
    .at(path)
}

/// Appends the snapshot and what goes with it, up to the closing brace.
fn push_acknowledgement(out: &mut Vec<u8>, acknowledged: &Acknowledgement) {
    out.extend_from_slice(&acknowledged.data);
    out.extend_from_slice(b",\"rev\":");
    push_number(out, acknowledged.rev);
    out.extend_from_slice(b",\"epoch\":");
    push_string(out, &acknowledged.epoch);
    match acknowledged.kind {
        AcknowledgementKind::Fresh => {}
        AcknowledgementKind::Resumed => out.extend_from_slice(b",\"resumed\":true"),
        AcknowledgementKind::Reset => out.extend_from_slice(b",\"reset\":true"),
    }
}
