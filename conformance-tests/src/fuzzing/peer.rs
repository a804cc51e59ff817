//! What a peer says: frames and messages for a session in any state, and what comes of another
//! node's ops in a tree.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::ErrorKind;
use trellis_topology::fuzzing::{Frames, frame, frames};
use trellis_topology::message::{Hello, LogPosition, Message, Open, OpenMode, Opened, Page};
use trellis_topology::{
    Action, Event, Now, PeerIdentity, RefusalReason, Role, Session, SessionConfig, SessionOptions,
    SlotOpened, SlotOptions, Store, TailRead, Task, TaskOutcome, Topology, TopologySpec,
};
use trellis_topology::{Mode, PageRead, PathSpec, PeerSpec};
use trellis_tree::{
    Author, ChangeCause, Committed, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp,
    TreeOptions, Version,
};

use crate::tree::Ground;

const WALL_MS: u64 = 1_700_000_000_000;
const PEER: u128 = 9;
const NODE: u128 = 5;

/// Bytes are refused by a reason, or are a message that is the same when it is said again; and no
/// session breaks down over it, whatever it was doing. The first byte says what that was.
pub(super) fn words(input: &[u8]) {
    let Some((state, body)) = input.split_first() else { return };
    let known = |reason| matches!(reason, RefusalReason::Protocol | RefusalReason::Unsupported);
    if let Err(refusal) = Frames::default().take(&Bytes::copy_from_slice(body)) {
        assert!(known(refusal.reason), "{refusal:?}");
    }
    let framed = frame(body);
    match Frames::default().take(&framed) {
        Ok(Some(message)) => {
            let mut again = Frames::default();
            let said = frames(&message).expect("it came in one piece");
            let mut heard = said.iter().filter_map(|frame| again.take(frame).expect("our own"));
            assert_eq!(heard.next(), Some(message), "another message when said again");
        }
        Ok(None) => panic!("one frame is one message"),
        Err(refusal) => assert!(known(refusal.reason), "{refusal:?}"),
    }
    let mut seat = Seat::new(*state);
    for _ in 0..2 {
        seat.event(Event::Received(framed.clone()));
    }
    seat.now.mono += Duration::from_secs(5);
    seat.event(Event::Tick);
    seat.event(Event::Closed);
}

/// A session whose tasks all come to something.
struct Seat {
    session: Session,
    now: Now,
    acts: usize,
}

impl Seat {
    /// One in its greeting, idle, in its pages or in its tail; at either end.
    fn new(state: u8) -> Self {
        let dials = state & 1 == 1;
        let role = if dials {
            let spec = TopologySpec {
                primary_url: Some("ws://hub/db".into()),
                paths: vec![PathSpec::new("a", Mode::Sync), PathSpec::new("b", Mode::Replica)],
                ..TopologySpec::default()
            };
            let topology = Topology::compile(&spec).expect("it is right");
            Role::Dialer(Box::new(topology.dials()[0].plan.clone()))
        } else {
            let all = vec!["a".to_owned(), "b".to_owned()];
            let peers =
                Some(vec![PeerSpec { pull: all.clone(), push: all, ..PeerSpec::default() }]);
            let spec = TopologySpec { peers, ..TopologySpec::default() };
            Role::Acceptor(Arc::new(Topology::compile(&spec).expect("it is right")))
        };
        let config = SessionConfig {
            node: NODE,
            name: "node".into(),
            epoch: 1,
            life: 1,
            attempt: 1,
            head: 5,
            schema: 0,
            peer: PeerIdentity::default(),
            options: SessionOptions::default(),
        };
        let now = Now { mono: Duration::from_secs(100), wall_ms: WALL_MS };
        let mut seat = Self { session: Session::new(role, config), now, acts: 0 };
        seat.event(Event::Connected);
        let stage = (state >> 1) % 4;
        if stage > 0 {
            seat.greet(dials);
        }
        if stage > 1 {
            seat.fill(stage > 2);
        }
        seat
    }

    fn greet(&mut self, dials: bool) {
        let offer = |prefix: &'static str, mode| trellis_topology::ZoneOffer {
            prefix: Bytes::from_static(prefix.as_bytes()),
            mode,
        };
        let modes = (trellis_topology::OfferedMode::Sync, trellis_topology::OfferedMode::Replica);
        let pull = if dials { Vec::new() } else { vec![offer("a", modes.0), offer("b", modes.1)] };
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            node: PEER,
            name: "peer".into(),
            epoch: 1,
            life: 1,
            attempt: 1,
            head: 5,
            wall_ms: WALL_MS,
            schema: 0,
            features: Vec::new(),
            pull,
            push: Vec::new(),
        };
        self.say(&if dials { Message::Welcome(hello) } else { Message::Hello(hello) });
    }

    /// Both feeds are opened, the peer's and this one's; `whole` up to the tail.
    fn fill(&mut self, whole: bool) {
        let prefixes = vec![Bytes::from_static(b"a")];
        self.say(&Message::Open(Open { feed: "f".into(), prefixes, except: Vec::new(), at: None }));
        let pin = LogPosition { log_id: PEER, rev: 5, hash: [0; 16] };
        let known = LogPosition { log_id: NODE, rev: 3, hash: [0; 16] };
        let mode = OpenMode::Snapshot;
        self.say(&Message::Opened(Opened { mode, pin, head: 5, except: Vec::new(), known }));
        for part in 0..if whole { 2 } else { 0 } {
            let page = Page { number: 1, part, start: None, ops: Vec::new(), next: None, head: 5 };
            self.say(&Message::Page(page));
        }
    }

    fn say(&mut self, message: &Message) {
        for frame in frames(message).expect("it is small") {
            self.event(Event::Received(frame));
        }
    }

    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.acts += 1;
            assert!(self.acts < 10_000, "it goes on for ever");
            for action in self.session.step(self.now, event) {
                match action {
                    Action::Do(id, task) => events.push(Event::Done(id, outcome(task))),
                    Action::Route(id, _) => {
                        let outcome = TaskOutcome::Routed(Ok(Committed::default()));
                        events.push(Event::Done(id, outcome));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What a task comes to in a tree that is empty.
fn outcome(task: Task) -> TaskOutcome {
    let nothing = || PageRead { ops: Vec::new(), next: None, rev: 5 };
    match task {
        Task::LoadPosition { .. } => TaskOutcome::Position(None),
        Task::SavePosition { position, .. } => TaskOutcome::Position(Some(position)),
        Task::OpenSlot(_) => {
            let pin = LogPosition { log_id: NODE, rev: 5, hash: [0; 16] };
            TaskOutcome::Slot(SlotOpened { mode: OpenMode::Snapshot, pin, since: 0, head: 5 })
        }
        Task::ReadPage { .. } | Task::ReadDelta { .. } | Task::ReadBuckets { .. } => {
            TaskOutcome::Page(nothing())
        }
        Task::ReadTail { after, .. } => TaskOutcome::Tail(TailRead {
            commits: Vec::new(),
            through: after,
            hash: [0; 16],
            head: after,
            echoes: 0,
        }),
        Task::AckSlot { .. } | Task::CloseSlot { .. } | Task::Filled { .. } => TaskOutcome::Done,
        Task::Apply { commits } => {
            TaskOutcome::Applied(vec![trellis_tree::RemoteApplied::default(); commits.len()])
        }
        Task::SetAside { .. } => TaskOutcome::SetAside(0),
        Task::BeginAnew { .. } => TaskOutcome::Done,
        Task::HashAt { .. } => TaskOutcome::Hash { head: 5, hash: None },
        Task::Digest { .. } => TaskOutcome::Digest {
            digest: trellis_topology::message::WireDigest { rev: 5, total: 0, leaves: 0 },
            buckets: vec![0; 256],
        },
    }
}

/// Ops are refused by a kind and change nothing, or are taken, and are nothing new when they come
/// again; the tree is whole afterwards. The first byte says by which rule.
pub(super) fn ops(input: &[u8]) {
    let Some((rule, body)) = input.split_first() else { return };
    let Some(ops) = trellis_topology::fuzzing::ops(body) else { return };
    let spec = TopologySpec {
        peers: Some(vec![PeerSpec { pull: vec![String::new()], ..PeerSpec::default() }]),
        exclude_prefixes: vec!["a/kept".into()],
        ..TopologySpec::default()
    };
    let topology = Topology::compile(&spec).expect("it is right");
    let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
    let tree = Ground::in_memory().open(options).expect("a tree");
    let input = trellis_tree::Input::parse(br#"{"x":1,"y":{"z":[2]},"kept":3}"#).expect("JSON");
    let at = trellis_tree::Path::parse("a").expect("a path");
    tree.commit(trellis_tree::Commit::set(at.clone(), input)).expect("it is set");
    let (from, until) = (Bytes::from_static(b"a"), Some(Bytes::from_static(b"a\0y")));
    let rule = match rule % 4 {
        0 => RemoteRule::Merge,
        1 => RemoteRule::Follow,
        2 => RemoteRule::Replace { from, until },
        _ => RemoteRule::Fill { from, until, known_rev: 1 },
    };
    let version = ops.iter().map(|op| op.version).max().unwrap_or(Version::ZERO);
    let commit = RemoteCommit {
        author: Author { version, via: Vec::new() },
        cause: ChangeCause::Request,
        ops,
        scope: Scope { within: vec![Bytes::new()], except: Vec::new() },
        rule,
        notes: Vec::new(),
    };
    // What is due is removed meanwhile, perhaps.
    let is_due =
        |op: &StampedOp| matches!(op.change, StampedChange::Ending(Some(at)) if at <= WALL_MS);
    let ends = commit.ops.iter().any(is_due);
    let before = tree.position().rev;
    match tree.apply_remote(commit.clone()) {
        Ok(_) if ends => {}
        Ok(applied) => {
            let again = tree.apply_remote(commit).expect("it was taken before");
            assert_eq!(again.rev, applied.rev, "it comes again and is news");
        }
        Err(error) => {
            let kind = error.kind();
            let typed =
                matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Corrupt);
            assert!(typed, "{error}");
            assert_eq!(tree.position().rev, before, "what is refused changes nothing");
        }
    }
    let shown = tree.view().expect("a view").get(&at).expect("it reads");
    assert_eq!(shown["kept"], 3, "nobody touches what is kept here");
    let store = Store::open(tree, SlotOptions::default()).expect("a store");
    let scope = Scope { within: vec![Bytes::new()], except: Vec::new() };
    let (start, items_max, bytes_max) = (Bytes::new(), 1000, 1 << 20);
    let read = store.execute(Now::default(), Task::ReadPage { scope, start, items_max, bytes_max });
    assert!(matches!(read, TaskOutcome::Page(_)), "{read:?}");
}
