//! What a hostile or broken peer says is refused by its reason, ends the link and changes nothing.

use std::time::Duration;

use bytes::Bytes;
use trellis_tree::{Author, StampedChange, StampedOp, Version};

use crate::fake::{Fake, WALL_MS};
use crate::forward_wire::{WireAnswer, WireCommit, WireFailure};
use crate::message::{
    Ack, Batch, ForwardMessage, Heartbeat, Message, Open, OpenAt, Opened, Page, PageRequest,
    WireRecord,
};
use crate::pair::{Pair, key, options, pull, push};
use crate::*;

const FOLLOWER: usize = 0;
const SOURCE: usize = 1;

fn source() -> Fake {
    let mut fake = Fake { node: 2, ..Fake::default() };
    for key in ["a\0one", "a\0two", "a\0three"] {
        fake.write(key, key);
    }
    fake
}

/// A follower of `a` and its source, both at rest.
fn pair() -> Pair {
    let mut pair = Pair::follower(&[("a", FillRule::Replace)], source());
    pair.run();
    pair
}

/// Says something to one end; why that ended the link. What it holds must be what it held.
fn refused(mut pair: Pair, to: usize, message: &Message) -> Refusal {
    let before = (pair.ends[to].host.leaves.clone(), pair.ends[to].host.positions.clone());
    let slots = pair.ends[to].host.slots.clone();
    pair.say(1 - to, message);
    let refusal = pair.ends[to].closed.clone();
    let refusal = refusal.unwrap_or_else(|| panic!("taken without a word: {message:?}"));
    assert_eq!((pair.ends[to].host.leaves.clone(), pair.ends[to].host.positions.clone()), before);
    assert_eq!(pair.ends[to].host.slots, slots);
    let told = pair
        .said
        .iter()
        .any(|(end, said)| *end == to && matches!(said, Message::Refuse(told) if *told == refusal));
    assert!(told, "the peer is told why");
    // Nothing is taken after that.
    pair.say(1 - to, &Message::Tail { after: 3 });
    assert!(pair.ends[to].inbox.is_empty());
    refusal
}

fn reason(to: usize, message: &Message) -> RefusalReason {
    refused(pair(), to, message).reason
}

fn hello(node: u128) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        node,
        name: "x".into(),
        epoch: 1,
        life: 1,
        attempt: 1,
        head: 0,
        wall_ms: WALL_MS,
        schema: 0,
        features: Vec::new(),
        pull: Vec::new(),
        push: Vec::new(),
    }
}

fn open(prefix: &str) -> Open {
    let prefixes = vec![key(prefix)];
    Open { feed: "down".into(), prefixes, except: Vec::new(), at: None }
}

fn record(rev: u64, author: Author) -> WireRecord {
    let change = StampedChange::Put(key("forged"));
    let op = StampedOp { key: key("a\0one"), version: author.version, change };
    WireRecord { rev, hash: [1; 16], at_ms: 0, cause: 0, author, ops: vec![op] }
}

fn author(via: Vec<u64>) -> Author {
    Author { version: Version { hlc: (WALL_MS << 16) + 99, origin: 7 }, via }
}

fn batch(after: u64, through: u64, commits: Vec<WireRecord>) -> Message {
    Message::Batch(Batch { after, through, hash: [1; 16], head: 9, commits })
}

#[test]
fn the_first_word_is_said_once_and_by_the_right_end() {
    for (to, message) in [
        (SOURCE, Message::Hello(hello(3))),
        (FOLLOWER, Message::Welcome(hello(3))),
        (SOURCE, Message::Welcome(hello(3))),
    ] {
        assert_eq!(reason(to, &message), RefusalReason::Protocol);
    }
}

/// What an acceptor, to which nothing was said yet, makes of a first word.
fn greeted(message: &Message) -> Option<Refusal> {
    let policy = std::sync::Arc::new(crate::pair::Grants(LinkPlan::default()));
    let config = SessionConfig {
        node: 2,
        name: String::new(),
        epoch: 1,
        life: 1,
        attempt: 1,
        head: 0,
        schema: 0,
        peer: PeerIdentity::default(),
        options: options(),
    };
    let mut session = Session::new(Role::Acceptor(policy), config);
    let now = Now { mono: Duration::ZERO, wall_ms: WALL_MS };
    session.step(now, Event::Connected);
    let mut actions = Vec::new();
    for frame in crate::parts::encode(message, 1 << 18, 1 << 25).unwrap() {
        actions.extend(session.step(now, Event::Received(frame)));
    }
    actions.into_iter().find_map(|action| match action {
        Action::Close(refusal) => Some(refusal),
        _ => None,
    })
}

#[test]
fn a_first_word_is_refused_by_its_reason() {
    let greeted = |message: Message| greeted(&message).map(|refusal| refusal.reason);
    assert_eq!(greeted(Message::Hello(hello(3))), None);
    let duplicate = Some(RefusalReason::DuplicateNode);
    assert_eq!(greeted(Message::Hello(hello(2))), duplicate, "a copied data directory");
    assert_eq!(greeted(Message::Hello(hello(2 + (1 << 64)))), duplicate, "the same origin");
    let unsupported = Some(RefusalReason::Unsupported);
    let newer = Hello { protocol_min: 2, protocol_max: 3, ..hello(3) };
    assert_eq!(greeted(Message::Hello(newer)), unsupported);
    let critical = Hello { features: vec!["!teleport".into()], ..hello(3) };
    assert_eq!(greeted(Message::Hello(critical)), unsupported);
    let optional = Hello { features: vec!["teleport".into()], ..hello(3) };
    assert_eq!(greeted(Message::Hello(optional)), None);
    let protocol = Some(RefusalReason::Protocol);
    assert_eq!(greeted(Message::Open(open("a"))), protocol);
    let vain = Hello { name: "x".repeat(10_000), ..hello(3) };
    assert_eq!(greeted(Message::Hello(vain)), protocol);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_refused() {
    let ack = |rev, durable_rev, hash| {
        reason(SOURCE, &Message::Ack(Ack { rev, durable_rev, durable_hash: hash }))
    };
    assert_eq!(ack(99, 3, [0; 16]), RefusalReason::Protocol, "beyond what was sent");
    assert_eq!(ack(3, 4, [0; 16]), RefusalReason::Protocol, "durable before it was applied");
    assert_eq!(ack(3, 2, [0; 16]), RefusalReason::Protocol, "going back");
    let mut pair = pair();
    pair.ends[FOLLOWER].lazy = true;
    pair.ends[SOURCE].host.write("a\0four", "4");
    pair.run();
    let forged = Message::Ack(Ack { rev: 4, durable_rev: 4, durable_hash: [7; 16] });
    assert_eq!(refused(pair, SOURCE, &forged).reason, RefusalReason::Protocol, "another history");
}

#[test]
fn a_batch_that_does_not_follow_the_last_one_is_refused() {
    let fine = record(4, author(Vec::new()));
    for message in [
        batch(2, 4, vec![fine.clone()]),
        batch(4, 5, Vec::new()),
        batch(3, 3, Vec::new()),
        batch(3, 2, Vec::new()),
        batch(3, 10, Vec::new()),
        batch(3, 5, vec![fine.clone(), fine.clone()]),
        batch(3, 4, vec![record(3, author(Vec::new()))]),
        batch(3, 4, vec![record(5, author(Vec::new()))]),
    ] {
        assert_eq!(reason(FOLLOWER, &message), RefusalReason::Protocol, "{message:?}");
    }
}

#[test]
fn forged_relays_are_refused_and_an_echo_is_dropped() {
    let sender = batch(3, 4, vec![record(4, author(vec![2]))]);
    assert_eq!(reason(FOLLOWER, &sender), RefusalReason::Protocol);
    let many = batch(3, 4, vec![record(4, author((10..18).collect()))]);
    assert_eq!(reason(FOLLOWER, &many), RefusalReason::Protocol);
    let mut pair = pair();
    pair.say(SOURCE, &batch(3, 4, vec![record(4, author(vec![1]))]));
    assert_eq!(pair.pulled().echoes, 1, "it passed here before");
    assert_eq!(pair.ends[FOLLOWER].host.get("a\0one").as_deref(), Some("a\0one"));
}

#[test]
fn a_cause_that_nobody_knows_ends_the_link() {
    let mut unknown = record(4, author(Vec::new()));
    unknown.cause = 77;
    assert_eq!(reason(FOLLOWER, &batch(3, 4, vec![unknown])), RefusalReason::Unsupported);
}

#[test]
fn what_nobody_granted_is_denied() {
    assert_eq!(reason(SOURCE, &Message::Open(open("b"))), RefusalReason::Denied);
    assert_eq!(reason(SOURCE, &Message::Open(open(""))), RefusalReason::Denied);
    assert_eq!(reason(SOURCE, &Message::Open(open("ab"))), RefusalReason::Denied);
    assert_eq!(reason(FOLLOWER, &Message::Open(open("a"))), RefusalReason::Denied);
    assert_eq!(reason(SOURCE, &batch(0, 1, Vec::new())), RefusalReason::PushNotAccepted);
}

#[test]
fn an_open_that_is_none_is_refused() {
    let with = |change: &dyn Fn(&mut Open)| {
        let mut open = open("a");
        change(&mut open);
        reason(SOURCE, &Message::Open(open))
    };
    let protocol = RefusalReason::Protocol;
    assert_eq!(with(&|open| open.feed = "../x".into()), protocol);
    assert_eq!(with(&|open| open.feed = String::new()), protocol);
    assert_eq!(with(&|open| open.feed = "other".into()), protocol, "one feed on one link");
    assert_eq!(with(&|open| open.prefixes.clear()), protocol);
    assert_eq!(with(&|open| open.prefixes = vec![key("a\0c"), key("a\0b")]), protocol);
    assert_eq!(with(&|open| open.prefixes = vec![key("a"); 2000]), protocol);
}

#[test]
fn snapshots_without_end_are_refused() {
    let mut pair = pair();
    pair.cut = true;
    for _ in 0..options().fills_max {
        assert!(pair.ends[SOURCE].closed.is_none());
        pair.say(FOLLOWER, &Message::Open(open("a")));
    }
    assert_eq!(pair.ends[SOURCE].closed.clone().unwrap().reason, RefusalReason::Busy);
}

#[test]
fn a_place_that_cannot_be_is_refused() {
    let opened = |mode, log_id, rev| {
        let mut pair = Pair::follower(&[("a", FillRule::Replace)], source());
        pair.ends[SOURCE].lazy = true;
        pair.run();
        let pin = LogPosition { log_id, rev, hash: [0; 16] };
        let known = LogPosition::default();
        let opened = Opened { mode, pin, head: 3, except: Vec::new(), known };
        refused(pair, FOLLOWER, &Message::Opened(opened)).reason
    };
    let protocol = RefusalReason::Protocol;
    assert_eq!(opened(OpenMode::Snapshot, 99, 3), protocol, "the log of another node");
    assert_eq!(opened(OpenMode::Snapshot, 2, 4), protocol, "behind its own head");
    assert_eq!(opened(OpenMode::Tail, 2, 3), protocol, "there is no position");
    assert_eq!(opened(OpenMode::ResumeSnapshot, 2, 3), protocol);
    assert_eq!(opened(OpenMode::Delta, 2, 3), protocol);
    let known = LogPosition::default();
    let twice = Opened {
        mode: OpenMode::Snapshot,
        pin: LogPosition { log_id: 2, rev: 3, hash: [0; 16] },
        head: 3,
        except: Vec::new(),
        known,
    };
    assert_eq!(reason(FOLLOWER, &Message::Opened(twice)), protocol, "nobody asked");
}

#[test]
fn pages_that_were_not_asked_for_are_refused() {
    let request = PageRequest { number: 1, part: 0, start: None, bytes_max: 1, items_max: 1 };
    let protocol = RefusalReason::Protocol;
    assert_eq!(reason(SOURCE, &Message::PageRequest(request)), protocol, "in the tail");
    assert_eq!(reason(SOURCE, &Message::PageAck { number: 9, pages: 1 }), protocol);
    assert_eq!(reason(SOURCE, &Message::Tail { after: 3 }), protocol);
    let page = |number, part, start: Option<&str>, next: Option<&str>, keys: &[&str]| {
        let mut pair = Pair::follower(&[("a", FillRule::Replace)], source());
        pair.ends[SOURCE].lazy = true;
        pair.run();
        let (id, task) = pair.ends[SOURCE].waiting.remove(0);
        let outcome = pair.ends[SOURCE].host.execute(task);
        pair.event(SOURCE, Event::Done(id, outcome));
        pair.run();
        let op = |text: &&str| StampedOp {
            key: key(text),
            version: author(Vec::new()).version,
            change: StampedChange::Put(key("x")),
        };
        let page = Page {
            number,
            part,
            start: start.map(key),
            ops: keys.iter().map(op).collect(),
            next: next.map(key),
            head: 3,
        };
        refused(pair, FOLLOWER, &Message::Page(page)).reason
    };
    assert_eq!(page(2, 0, None, None, &[]), protocol, "another number");
    assert_eq!(page(1, 1, None, None, &[]), protocol, "another part");
    assert_eq!(page(1, 0, Some("a\0b"), None, &[]), protocol, "another place");
    assert_eq!(page(1, 0, None, Some(""), &[]), protocol, "it gets nowhere");
    assert_eq!(page(1, 0, None, Some("a\0b"), &["a\0c"]), protocol, "behind its end");
    assert_eq!(page(1, 0, None, None, &["a\0c", "a\0b"]), protocol, "out of order");
    assert_eq!(page(1, 0, None, None, &["a\0b", "a\0b"]), protocol, "twice");
}

#[test]
fn damaged_and_oversized_frames_are_refused() {
    let refused = |frame: Bytes| {
        let mut pair = pair();
        pair.ends[FOLLOWER].inbox.push_back(frame);
        pair.run();
        pair.ends[FOLLOWER].closed.clone().unwrap().reason
    };
    let beat = Message::Heartbeat(Heartbeat { head: 3, wall_ms: 0, digest: None });
    let mut frame = crate::parts::encode(&beat, 1 << 18, 1 << 20).unwrap().remove(0).to_vec();
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(refused(frame.into()), RefusalReason::Protocol, "a wrong checksum");
    assert_eq!(refused(vec![1; 8 << 20].into()), RefusalReason::Protocol, "8 MiB in one frame");
    assert_eq!(refused(Bytes::from_static(&[2, 0, 0])), RefusalReason::Unsupported);
    assert_eq!(refused(Bytes::new()), RefusalReason::Protocol);
}

/// What is asked for is read one after the other: whoever asks for more than comes is refused.
#[test]
fn leaves_asked_for_without_end_are_refused() {
    let leaves = |number| Message::Leaves { number, buckets: vec![1, 7], start: None };
    let mut pair = pair();
    pair.say(FOLLOWER, &leaves(1));
    pair.say(FOLLOWER, &leaves(2));
    assert_eq!(pair.ends[SOURCE].closed, None, "they came");
    pair.ends[SOURCE].lazy = true;
    pair.say(FOLLOWER, &leaves(3));
    pair.say(FOLLOWER, &Message::Verify);
    assert_eq!(pair.ends[SOURCE].waiting.len(), 2);
    for _ in 0..100 {
        pair.say(FOLLOWER, &Message::Verify);
    }
    assert_eq!(pair.ends[SOURCE].waiting.len(), 2, "nor is one digest read twice at a time");
    assert_eq!(refused(pair, SOURCE, &leaves(4)).reason, RefusalReason::Protocol);
}

#[test]
fn what_a_peer_says_at_the_end_is_kept_short_and_on_one_line() {
    let mut pair = pair();
    let message = format!("over\n{}", "ä".repeat(10_000));
    pair.say(SOURCE, &Message::Refuse(Refusal::new(RefusalReason::Busy, message)));
    let (reason, said) = pair.ends[FOLLOWER].session.status().ended.unwrap();
    assert_eq!(reason, RefusalReason::Busy);
    assert!(said.len() <= 1024 && said.starts_with("over ä"), "{} bytes", said.len());
}

#[test]
fn commits_beyond_the_credit_are_refused() {
    let mut pair = pair();
    pair.ends[FOLLOWER].lazy = true;
    for rev in 4.. {
        let mut large = record(rev, author(Vec::new()));
        large.ops[0].change = StampedChange::Put(vec![0; 1 << 20].into());
        let batch =
            Batch { after: rev - 1, through: rev, hash: [1; 16], head: 99, commits: vec![large] };
        pair.say(SOURCE, &Message::Batch(batch));
        if let Some(refusal) = &pair.ends[FOLLOWER].closed {
            assert_eq!(refusal.reason, RefusalReason::Protocol);
            return;
        }
        assert!(rev < 30, "memory is bounded by the credit");
    }
}

#[test]
fn a_peer_writes_only_where_it_may() {
    let forward = |number| {
        Message::Forward(ForwardMessage {
            number,
            commit: WireCommit { conditions: Vec::new(), operations: Vec::new(), key: None },
            wait_ms: 0,
            hops: 0,
        })
    };
    let mut pair = pair();
    pair.say(FOLLOWER, &forward(1));
    assert!(pair.ends[SOURCE].routed.is_empty(), "nobody waits for it any more");
    assert_eq!(pair.ends[SOURCE].session.status().forwards.dropped, 1);
    let answer = WireAnswer::Failed(WireFailure {
        kind: "conflict".into(),
        message: String::new(),
        facts: Vec::new(),
        path: None,
        failed: Vec::new(),
    });
    let unasked = Message::Forwarded { number: 9, answer };
    assert_eq!(refused(pair, FOLLOWER, &unasked).reason, RefusalReason::Protocol);
}

#[test]
fn two_nodes_may_follow_each_other_and_a_third_opens_nothing_twice() {
    let plan = || LinkPlan {
        pull: Some(pull(&[("a", FillRule::Merge)])),
        push: Some(push(&["a"])),
        ..LinkPlan::default()
    };
    let fakes = [Fake { node: 1, ..Fake::default() }, source()];
    let mut pair = Pair::new([plan(), plan()], fakes, options());
    pair.ends[SOURCE].lazy = true;
    pair.run();
    let open = Open { at: Some(OpenAt::Tail(LogPosition::default())), ..open("a") };
    pair.say(FOLLOWER, &Message::Open(open.clone()));
    assert_eq!(pair.ends[SOURCE].closed.clone().unwrap().reason, RefusalReason::Protocol);
}
