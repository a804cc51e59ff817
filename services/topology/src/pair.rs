//! Two sessions wired by queues: no threads, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_tree::{Commit, Committed, Scope};

use crate::fake::{Fake, WALL_MS};
use crate::message::Message;
use crate::*;

/// What a session works on.
pub(crate) trait Host {
    fn node(&self) -> u128;
    fn head(&self) -> u64;
    fn run(&mut self, now: Now, task: Task) -> TaskOutcome;
    fn route(&mut self, commit: &Commit) -> RoutedOutcome;
}

impl Host for Fake {
    fn node(&self) -> u128 {
        self.node
    }

    fn head(&self) -> u64 {
        Self::head(self)
    }

    fn run(&mut self, _: Now, task: Task) -> TaskOutcome {
        self.execute(task)
    }

    fn route(&mut self, commit: &Commit) -> RoutedOutcome {
        assert!(!commit.system);
        let rev = self.write("a\0forwarded", "1");
        Ok(Committed { rev, ..Committed::default() })
    }
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End<H = Fake> {
    pub(crate) session: Session,
    pub(crate) host: H,
    pub(crate) inbox: VecDeque<Bytes>,
    pub(crate) answers: Vec<(ForwardId, ForwardOutcome)>,
    pub(crate) routed: Vec<ForwardRequest>,
    pub(crate) closed: Option<Refusal>,
    /// Tasks are kept instead of done.
    pub(crate) lazy: bool,
    pub(crate) waiting: Vec<(TaskId, Task)>,
    seen_head: u64,
}

/// Grants everything.
#[derive(Debug)]
pub(crate) struct Grants(pub(crate) LinkPlan);

impl LinkPolicy for Grants {
    fn admit(&self, _: &PeerIdentity, _: &Hello) -> Result<LinkPlan, Refusal> {
        Ok(self.0.clone())
    }
}

pub(crate) fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn pull(prefixes: &[(&str, FillRule)]) -> PullPlan {
    let part = |(prefix, fill): &(&str, FillRule)| PullPart { prefix: key(prefix), fill: *fill };
    PullPlan {
        feed: "down".into(),
        parts: prefixes.iter().map(part).collect(),
        except: Vec::new(),
        local_prefix: Bytes::new(),
        fingerprint: 1,
    }
}

pub(crate) fn push(prefixes: &[&str]) -> PushPlan {
    let within = prefixes.iter().map(|prefix| key(prefix)).collect();
    PushPlan { scope: Scope { within, except: Vec::new() } }
}

impl<H: Host> End<H> {
    fn new(role: Role, host: H, options: SessionOptions) -> Self {
        let peer = PeerIdentity { name: "peer".into(), roles: Vec::new(), loopback: true };
        let config = SessionConfig {
            node: host.node(),
            name: "node".into(),
            epoch: 1,
            life: 1,
            attempt: 1,
            head: host.head(),
            schema: 0,
            peer,
            options,
        };
        Self {
            session: Session::new(role, config),
            seen_head: host.head(),
            host,
            inbox: VecDeque::new(),
            answers: Vec::new(),
            routed: Vec::new(),
            closed: None,
            lazy: false,
            waiting: Vec::new(),
        }
    }
}

/// Two ends.
#[derive(Debug)]
pub(crate) struct Pair<H = Fake> {
    /// The one that dialed, and the one that accepted.
    pub(crate) ends: [End<H>; 2],
    pub(crate) now: Now,
    /// Messages that went over the link, and from whom.
    pub(crate) said: Vec<(usize, Message)>,
    parts: [crate::parts::Parts; 2],
    pub(crate) cut: bool,
}

pub(crate) fn options() -> SessionOptions {
    SessionOptions { page_items: 2, rest_max: Duration::ZERO, ..SessionOptions::default() }
}

impl Pair {
    /// A follower of `prefixes`, and its source.
    pub(crate) fn follower(prefixes: &[(&str, FillRule)], source: Fake) -> Self {
        let names: Vec<&str> = prefixes.iter().map(|(prefix, _)| *prefix).collect();
        let plans = [
            LinkPlan { pull: Some(pull(prefixes)), ..LinkPlan::default() },
            LinkPlan { push: Some(push(&names)), ..LinkPlan::default() },
        ];
        Self::new(plans, [Fake { node: 1, ..Fake::default() }, source], options())
    }
}

impl<H: Host> Pair<H> {
    /// Two ends with plans that fit.
    pub(crate) fn new(plans: [LinkPlan; 2], hosts: [H; 2], options: SessionOptions) -> Self {
        let [dialer, acceptor] = plans;
        let dial = DialPlan { link: dialer, pull: Vec::new(), push: Vec::new() };
        let roles = [Role::Dialer(Box::new(dial)), Role::Acceptor(Arc::new(Grants(acceptor)))];
        let now = Now { mono: Duration::from_secs(100), wall_ms: WALL_MS };
        Self::of(roles, hosts, options, now)
    }

    /// Two ends, which say hello.
    pub(crate) fn of(roles: [Role; 2], hosts: [H; 2], options: SessionOptions, now: Now) -> Self {
        let ([dialer, acceptor], [one, other]) = (roles, hosts);
        let mut pair = Self {
            ends: [End::new(dialer, one, options.clone()), End::new(acceptor, other, options)],
            now,
            said: Vec::new(),
            parts: [crate::parts::Parts::new(1 << 25), crate::parts::Parts::new(1 << 25)],
            cut: false,
        };
        pair.event(1, Event::Connected);
        pair.event(0, Event::Connected);
        pair
    }

    pub(crate) fn event(&mut self, end: usize, event: Event) {
        let actions = self.ends[end].session.step(self.now, event);
        for action in actions {
            match action {
                Action::Send { bytes, .. } => {
                    assert!(bytes.len() <= crate::parts::FRAME_BYTES_MAX);
                    if let Some((message, _)) = self.parts[end].take(&bytes).unwrap() {
                        self.said.push((end, message));
                    }
                    if !self.cut {
                        self.ends[1 - end].inbox.push_back(bytes);
                    }
                }
                Action::Do(id, task) if self.ends[end].lazy => {
                    self.ends[end].waiting.push((id, task));
                }
                Action::Do(id, task) => {
                    let outcome = self.ends[end].host.run(self.now, task);
                    self.event(end, Event::Done(id, outcome));
                }
                Action::Route(id, request) => {
                    self.ends[end].routed.push(request.clone());
                    let outcome = self.ends[end].host.route(&request.commit);
                    self.event(end, Event::Done(id, TaskOutcome::Routed(outcome)));
                }
                Action::Forwarded(id, outcome) => self.ends[end].answers.push((id, outcome)),
                Action::Close(refusal) => self.ends[end].closed = Some(refusal),
            }
        }
    }

    /// Until nothing is under way.
    pub(crate) fn run(&mut self) {
        assert!(self.turns(100_000), "it does not come to rest");
    }

    /// At most so many turns; whether nothing is under way.
    pub(crate) fn turns(&mut self, turns: usize) -> bool {
        for _ in 0..turns {
            let mut idle = true;
            for end in [0, 1] {
                let head = self.ends[end].host.head();
                if head > self.ends[end].seen_head {
                    self.ends[end].seen_head = head;
                    self.event(end, Event::Committed(head));
                    idle = false;
                }
                if let Some(frame) = self.ends[end].inbox.pop_front() {
                    self.event(end, Event::Received(frame));
                    idle = false;
                }
            }
            if idle {
                return true;
            }
        }
        false
    }

    /// Says something that no session would.
    pub(crate) fn say(&mut self, from: usize, message: &Message) {
        for frame in crate::parts::encode(message, 1 << 18, 1 << 25).unwrap() {
            self.ends[1 - from].inbox.push_back(frame);
        }
        self.run();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall_ms += u64::try_from(time.as_millis()).unwrap();
        for end in [0, 1] {
            let due = self.ends[end].session.deadline().is_some_and(|at| at <= self.now.mono);
            if due {
                self.event(end, Event::Tick);
            }
        }
        self.run();
    }

    /// Cuts the link and makes a new one between the same trees, with the same plans.
    pub(crate) fn again(mut self) -> Self {
        for end in [0, 1] {
            self.event(end, Event::Closed);
        }
        let roles = [self.ends[0].session.role.clone(), self.ends[1].session.role.clone()];
        let options = self.ends[0].session.config.options.clone();
        let [one, other] = self.ends;
        Self::of(roles, [one.host, other.host], options, self.now)
    }

    pub(crate) fn pulled(&self) -> PullStatus {
        self.ends[0].session.status().pull.unwrap()
    }
}
