//! One socket with many subscriptions: writes down what comes, and after each disconnection goes
//! on from what it had.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::peer::{Broken, Frame, Peer};
use super::record::{Item, Recorded, Why};
use super::stage::{Stage, lock};

/// Subscriptions asked for at once.
const AT_ONCE: usize = 25;
/// The same when they are resumed: most answers hold no snapshot then.
const RESUMED_AT_ONCE: usize = 125;

/// What others see of a subscription.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    /// The newest rev that came; 0 before the acknowledgement.
    pub(super) fn rev(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One subscription.
#[derive(Debug)]
struct Subscription<'a> {
    recorded: Recorded,
    mark: &'a Mark,
    epoch: String,
    /// Whether this connection has its acknowledgement.
    is_open: bool,
}

/// One socket.
pub(super) struct Socket<'a> {
    stage: &'a Stage,
    number: usize,
    subscriptions: Vec<Subscription<'a>>,
    /// For requests that are not subscriptions themselves.
    requests: usize,
}

impl<'a> Socket<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        number: usize,
        topics: Vec<usize>,
        marks: &'a [Mark],
    ) -> Self {
        let subscription = |(index, (topic, mark)): (usize, (usize, &'a Mark))| Subscription {
            recorded: Recorded {
                name: format!("socket {number}, subscription {index}"),
                topic,
                items: Vec::new(),
            },
            mark,
            epoch: String::new(),
            is_open: false,
        };
        let subscriptions = topics.into_iter().zip(marks).enumerate().map(subscription).collect();
        Self { stage, number, subscriptions, requests: 0 }
    }

    /// Listens, whatever happens to the connection, until the run ends; what came.
    pub(super) fn run(mut self) -> Vec<Recorded> {
        while let Some(port) = self.stage.server.port() {
            let Broken = match self.session(port) {
                Ok(never) => match never {},
                Err(broken) => broken,
            };
            self.stage.sockets[self.number].newest.store(u64::MAX, Ordering::Release);
        }
        self.subscriptions.into_iter().map(|one| one.recorded).collect()
    }

    fn session(&mut self, port: u16) -> Result<std::convert::Infallible, Broken> {
        let (mut peer, scissors) = Peer::connect(port)?;
        *lock(&self.stage.sockets[self.number].scissors) = Some(scissors);
        for one in &mut self.subscriptions {
            one.is_open = false;
        }
        let again = self.subscriptions.iter().all(|one| one.mark.rev() > 0);
        if again {
            // Who resumes keeps the writers waiting, as who is behind does.
            let newest = self.subscriptions.iter().map(|one| one.mark.rev()).max();
            let seen = &self.stage.sockets[self.number].newest;
            seen.store(newest.unwrap_or_default(), Ordering::Release);
        }
        let at_once = if again { RESUMED_AT_ONCE } else { AT_ONCE };
        let mut from = 0;
        while from < self.subscriptions.len() {
            let until = (from + at_once).min(self.subscriptions.len());
            self.ask(&mut peer, from..until)?;
            while self.subscriptions[from..until].iter().any(|one| !one.is_open) {
                self.take(&mut peer)?;
            }
            from = until;
        }
        let newest = self.subscriptions.iter().map(|one| one.mark.rev()).max();
        let seen = &self.stage.sockets[self.number].newest;
        seen.store(newest.unwrap_or_default(), Ordering::Release);
        loop {
            let rev = self.take(&mut peer)?;
            seen.fetch_max(rev, Ordering::AcqRel);
        }
    }

    /// Asks for some subscriptions: one by one, or on every other socket together.
    fn ask(&mut self, peer: &mut Peer, range: std::ops::Range<usize>) -> Result<(), Broken> {
        let mut requests = Vec::new();
        for index in range {
            let one = &self.subscriptions[index];
            let mut request =
                format!(r#""id":"{index}",{}"#, self.stage.topics[one.recorded.topic].request());
            if let Some(last) = one.recorded.items.last() {
                request += &format!(r#","since":{},"epoch":"{}""#, last.rev(), one.epoch);
            }
            requests.push(request);
        }
        if self.number.is_multiple_of(2) {
            for request in requests {
                peer.send(format!(r#"{{"op":"sub",{request}}}"#))?;
            }
            return Ok(());
        }
        self.requests += 1;
        let together: Vec<String> =
            requests.into_iter().map(|request| format!("{{{request}}}")).collect();
        let id = self.requests;
        let together = together.join(",");
        peer.send(format!(r#"{{"id":"b{id}","op":"batch-sub","subscriptions":[{together}]}}"#))
    }

    /// Takes one frame; its rev.
    fn take(&mut self, peer: &mut Peer) -> Result<u64, Broken> {
        let text = peer.receive()?;
        let frame = Frame::parse(&text);
        let rev = frame.rev.unwrap_or_default();
        match (&frame.id, &frame.sub) {
            (Some(id), None) if id.starts_with('b') && frame.ok == Some(true) => {
                let answers: Vec<Frame<'_>> =
                    serde_json::from_str(frame.data()).expect("a list of answers");
                for answer in answers {
                    self.acknowledged(answer.sub.as_deref().unwrap_or_default(), &answer);
                }
            }
            (Some(id), None) => self.acknowledged(id, &frame),
            (None, Some(name)) => self.told(name, &frame, &text),
            _ => self.stage.complain(format!("socket {}: {text}", self.number)),
        }
        Ok(rev)
    }

    fn acknowledged(&mut self, name: &str, frame: &Frame<'_>) {
        let Some(one) = find(&mut self.subscriptions, name) else {
            return self.stage.complain(format!("an answer to nobody: {frame:?}"));
        };
        let who = &one.recorded.name;
        let (Some(true), Some(rev), Some(epoch)) = (frame.ok, frame.rev, &frame.epoch) else {
            // It is asked for again: nothing may end this run but its end.
            self.stage.complain(format!("{who} is refused: {frame:?}"));
            one.is_open = true;
            return;
        };
        let first = one.recorded.items.is_empty();
        if one.is_open || (first && (frame.resumed || frame.reset)) {
            self.stage.complain(format!("{who}: an odd answer: {frame:?}"));
        }
        one.is_open = true;
        epoch.as_ref().clone_into(&mut one.epoch);
        let item = if frame.resumed {
            Item::Resumed { rev }
        } else {
            let why = if first { Why::Asked } else { Why::NotResumed };
            if !first && !frame.reset {
                self.stage.complain(format!("{who}: a snapshot that is no reset: {frame:?}"));
            }
            let data = self.stage.texts.keep(one.recorded.topic, rev, frame.data(), None);
            Item::Snapshot { rev, data, why }
        };
        one.recorded.items.push(item);
        one.mark.0.store(rev, Ordering::Release);
    }

    fn told(&mut self, name: &str, frame: &Frame<'_>, text: &str) {
        let Some(one) = find(&mut self.subscriptions, name).filter(|one| one.is_open) else {
            return self.stage.complain(format!("before its answer: {text}"));
        };
        let (topic, texts) = (one.recorded.topic, &self.stage.texts);
        let item = match (frame.rev, frame.events, frame.cancel) {
            (Some(rev), Some(events), None) if frame.key.is_none() => {
                let frame = texts.keep(topic, rev, events.get(), frame.cause.as_deref());
                Item::Told { rev, frame }
            }
            (Some(rev), None, None) if frame.reset => {
                let data = texts.keep(topic, rev, frame.data(), None);
                Item::Snapshot { rev, data, why: Why::Slow }
            }
            _ => return self.stage.complain(format!("{}: {text}", one.recorded.name)),
        };
        one.mark.0.store(item.rev(), Ordering::Release);
        one.recorded.items.push(item);
    }
}

fn find<'s, 'a>(all: &'s mut [Subscription<'a>], name: &str) -> Option<&'s mut Subscription<'a>> {
    all.get_mut(name.parse::<usize>().ok()?)
}

/// What the conductor knows of a socket.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) scissors: Mutex<Option<super::peer::Scissors>>,
    /// The newest rev that came; the largest number while there is no connection.
    pub(super) newest: AtomicU64,
}

impl Default for Line {
    fn default() -> Self {
        Self { scissors: Mutex::default(), newest: AtomicU64::new(u64::MAX) }
    }
}
