//! A peer that says what it likes: one session of a node, with its real tree, and at the other end
//! of the link whatever a case makes up.

use std::collections::VecDeque;

use bytes::Bytes;
use trellis_runtime::Clock as _;
use trellis_topology::fuzzing::{Frames, frames};
use trellis_topology::message::{Hello, LogPosition, Message, Open, OpenMode, Opened};
use trellis_topology::{
    Action, Event, PeerIdentity, Refusal, RefusalReason, Role, Route, Session, SessionConfig,
    TaskOutcome,
};

use super::fleet::Fleet;
use super::tools::{path, rev};

/// The id that a stranger says is its own.
pub(super) const STRANGER: u128 = 0xbad << 64 | 0xbad;

/// A session of a node whose peer is the case.
pub(super) struct Stranger {
    node: usize,
    pub(super) session: Session,
    frames: Frames,
    /// What the node said.
    pub(super) heard: Vec<Message>,
    pub(super) closed: Option<Refusal>,
}

pub(super) fn hello(wall_ms: u64) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        node: STRANGER,
        name: "stranger".into(),
        epoch: 1,
        life: 1,
        attempt: 1,
        head: 0,
        wall_ms,
        schema: 0,
        features: Vec::new(),
        pull: Vec::new(),
        push: Vec::new(),
    }
}

pub(super) fn open(prefix: &str, feed: &str) -> Open {
    let prefixes = vec![path(prefix).key().clone()];
    Open { feed: feed.into(), prefixes, except: Vec::new(), at: None }
}

pub(super) fn opened(mode: OpenMode, rev: u64) -> Message {
    let pin = LogPosition { log_id: STRANGER, rev, hash: [1; 16] };
    let known = LogPosition::default();
    Message::Opened(Opened { mode, pin, head: rev, except: Vec::new(), known })
}

impl Fleet {
    /// A peer of the role `edge` that dialed a node, before the first word.
    pub(super) fn dialed_by_stranger(&mut self, name: &str) -> Stranger {
        let life = self.nodes[self.at(name)].life.as_ref().expect("it is open");
        let policy = std::sync::Arc::clone(&life.admission);
        self.stranger(name, Role::Acceptor(policy as _))
    }

    /// Who answers when a node dials its upstream, before the first word.
    pub(super) fn dials_stranger(&mut self, name: &str) -> Stranger {
        let plan = self.topology(name).dials()[0].plan.clone();
        self.stranger(name, Role::Dialer(Box::new(plan)))
    }

    fn stranger(&mut self, name: &str, role: Role) -> Stranger {
        let node = self.at(name);
        let tree = self.tree(name);
        let peer =
            PeerIdentity { name: "stranger".into(), roles: vec!["edge".into()], loopback: true };
        let config = SessionConfig {
            node: tree.node_id(),
            name: name.into(),
            epoch: tree.identity().epoch,
            life: 1,
            attempt: 1,
            head: rev(&tree),
            schema: 0,
            peer,
            options: self.session.clone(),
        };
        let session = Session::new(role, config);
        let (frames, heard) = (Frames::default(), Vec::new());
        let mut stranger = Stranger { node, session, frames, heard, closed: None };
        self.tell(&mut stranger, Event::Connected);
        stranger
    }

    /// Something happens to the session; everything that it wants is done.
    pub(super) fn tell(&mut self, stranger: &mut Stranger, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            let life = self.nodes[stranger.node].life.as_ref().expect("it is open");
            for action in stranger.session.step(now, event) {
                match action {
                    Action::Send { bytes, .. } => {
                        let heard = stranger.frames.take(&bytes).expect("nodes say what is right");
                        stranger.heard.extend(heard);
                    }
                    Action::Do(id, task) => {
                        events.push_back(Event::Done(id, life.store.execute(now, task)));
                    }
                    Action::Route(id, request) => {
                        let outcome = match life.topology.route(&request.commit) {
                            Route::Here => life.tree.commit(request.commit),
                            Route::Refused(error) => Err(error),
                            Route::Forward { .. } => panic!("this node owns its paths"),
                        };
                        events.push_back(Event::Done(id, TaskOutcome::Routed(outcome)));
                    }
                    Action::Forwarded(..) => {}
                    Action::Close(refusal) => stranger.closed = Some(refusal),
                }
            }
        }
    }

    /// The peer says something.
    pub(super) fn say(&mut self, stranger: &mut Stranger, message: &Message) {
        for frame in frames(message).expect("it is small enough") {
            self.say_bytes(stranger, frame);
        }
    }

    pub(super) fn say_bytes(&mut self, stranger: &mut Stranger, frame: Bytes) {
        self.tell(stranger, Event::Received(frame));
    }

    /// Time passes while the peer says nothing.
    pub(super) fn wait(&mut self, stranger: &mut Stranger, ms: u64) {
        self.mono += std::time::Duration::from_millis(ms);
        self.clock.advance_ms(ms);
        if stranger.session.deadline().is_some_and(|due| due <= self.mono) {
            self.tell(stranger, Event::Tick);
        }
    }

    pub(super) fn wall_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

impl Stranger {
    /// The session has ended for a reason, and said so.
    #[track_caller]
    pub(super) fn assert_refused(&self, reason: RefusalReason, what: &str) {
        let closed = self.closed.as_ref().unwrap_or_else(|| panic!("{what} is taken"));
        assert_eq!(closed.reason, reason, "{what}: {}", closed.message);
        let told =
            self.heard.iter().any(|said| matches!(said, Message::Refuse(told) if told == closed));
        assert!(told, "{what}: the peer is told why");
    }
}
