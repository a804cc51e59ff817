//! Peers that say what they should not: refused by its reason, told so, nothing changed, and nobody
//! else disturbed.

use bytes::Bytes;
use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_topology::forward_wire::{
    WireAnswer, WireCheck, WireCommit, WireCondition, WireOperation,
};
use trellis_topology::fuzzing::frame;
use trellis_topology::message::{
    Ack, Batch, ForwardMessage, Hello, Message, OpenMode, Page, PageRequest, WireRecord,
};
use trellis_topology::{
    Event, FeedPosition, FeedState, Mode, OfferedMode, PeerSpec, RefusalReason, TopologySpec,
    ZoneOffer,
};
use trellis_tree::{Author, StampedChange, StampedOp, Version};

use super::fleet::Fleet;
use super::stranger::{STRANGER, Stranger, hello, open, opened};
use super::tools::{edge, grant, hub, leaves, path};
use crate::Case;
use crate::tree::TreeWorld;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.hostile.follower", &["topology.hostile.refused"], follower),
    Case::new("replication.hostile.upstream", &["topology.hostile.refused"], upstream),
    Case::new("replication.hostile.clipped", &["topology.hostile.refused"], clipped),
    Case::new("replication.hostile.future", &["topology.hostile.refused"], future),
    Case::new("replication.hostile.halfway", &["topology.hostile.refused"], halfway),
    Case::new("replication.hostile.forward_into_kept", &["topology.grant.only"], into_kept),
    Case::new("replication.hostile.all_slots", &["topology.hostile.apart"], all_slots),
];

const PROTOCOL: RefusalReason = RefusalReason::Protocol;

/// What is refused, why, and what is said.
type Said = (&'static str, RefusalReason, Vec<Bytes>);

fn said(what: &'static str, reason: RefusalReason, message: &Message) -> Said {
    (what, reason, trellis_topology::fuzzing::frames(message).expect("it is small enough"))
}

/// Bytes that are no message, for whoever gets them.
fn no_messages() -> Vec<Said> {
    let mut damaged = frame(&[19]).to_vec();
    damaged[3] ^= 1;
    vec![
        ("an unknown operation", RefusalReason::Unsupported, vec![frame(&[200, 1])]),
        ("a wrong checksum", PROTOCOL, vec![damaged.into()]),
        ("8 MiB in one frame", PROTOCOL, vec![vec![1; 8 << 20].into()]),
        ("a newer format", RefusalReason::Unsupported, vec![Bytes::from_static(&[9, 0, 0])]),
        ("nothing", PROTOCOL, vec![Bytes::new()]),
    ]
}

fn offer(prefix: &str, mode: OfferedMode) -> ZoneOffer {
    ZoneOffer { prefix: path(prefix).key().clone(), mode }
}

/// A stranger that follows `prefix` of the hub as a replica, up to its tail.
fn following(fleet: &mut Fleet, prefix: &str, node: u128) -> Stranger {
    let mut stranger = fleet.dialed_by_stranger("hub");
    let pull = vec![offer(prefix, OfferedMode::Replica)];
    let hello = Hello { node, pull, ..hello(fleet.wall_ms()) };
    fleet.say(&mut stranger, &Message::Hello(hello));
    fleet.say(&mut stranger, &Message::Open(open(prefix, "upstream")));
    let (bytes_max, items_max) = (1 << 18, 5000);
    let pages = PageRequest { number: 1, part: 0, start: None, bytes_max, items_max };
    fleet.say(&mut stranger, &Message::PageRequest(pages));
    let after = pin(&stranger);
    fleet.say(&mut stranger, &Message::PageAck { number: 1, pages: 1 });
    fleet.say(&mut stranger, &Message::Tail { after });
    assert_eq!(stranger.closed, None, "so far all is well");
    stranger
}

/// Where the hub said that the tail begins.
fn pin(stranger: &Stranger) -> u64 {
    let found = stranger.heard.iter().find_map(|said| match said {
        Message::Opened(opened) => Some(opened.pin.rev),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("it is opened: {:?}", stranger.heard))
}

fn follower(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add("hub", hub(&["data", "config"], &["config"]));
    fleet.set("hub", "data", json!({"a": 1, "b": 2}));
    fleet.add("edge", edge(&[("data", Mode::Readonly), ("config", Mode::Sync)]));
    fleet.settle();
    let probe = following(&mut fleet, "data", STRANGER);
    let at = pin(&probe);
    let ack = |rev, durable_rev| Message::Ack(Ack { rev, durable_rev, durable_hash: [7; 16] });
    let pages = PageRequest { number: 9, part: 0, start: None, bytes_max: 1, items_max: 1 };
    let batch = Batch { after: 0, through: 1, hash: [1; 16], head: 9, commits: Vec::new() };
    let words = hello(fleet.wall_ms());
    let mut table = vec![
        said("HELLO twice", PROTOCOL, &Message::Hello(words.clone())),
        said("the other end's first word", PROTOCOL, &Message::Welcome(words)),
        said("an acknowledgement beyond what was sent", PROTOCOL, &ack(at + 1_000_000, at)),
        said("an acknowledgement of the last number", PROTOCOL, &ack(u64::MAX, u64::MAX)),
        said("an acknowledgement that goes back", PROTOCOL, &ack(at, 0)),
        said("durable before it is applied", PROTOCOL, &ack(at, at + 1)),
        said("another path", RefusalReason::Denied, &Message::Open(open("other", "upstream"))),
        said("another feed", PROTOCOL, &Message::Open(open("data", "other"))),
        said("no feed", PROTOCOL, &Message::Open(open("data", "../slots"))),
        said("pages in the tail", PROTOCOL, &Message::PageRequest(pages)),
        said("pages that were never sent", PROTOCOL, &Message::PageAck { number: 99, pages: 1 }),
        said("the tail twice", PROTOCOL, &Message::Tail { after: at }),
        said(
            "no buckets",
            PROTOCOL,
            &Message::Leaves { number: 1, buckets: vec![3, 3], start: None },
        ),
        said("commits", RefusalReason::PushNotAccepted, &Message::Batch(batch)),
        said("what nobody asked", RefusalReason::PushNotAccepted, &opened(OpenMode::Tail, 1)),
    ];
    let opens = (0..9).flat_map(|_| said("", PROTOCOL, &Message::Open(open("data", "upstream"))).2);
    table.push(("snapshots without end", RefusalReason::Busy, opens.collect()));
    table.extend(no_messages());
    for (number, (what, reason, frames)) in table.into_iter().enumerate() {
        let mut stranger = following(&mut fleet, "data", STRANGER + (number as u128 + 1));
        fleet.settle();
        let before = (fleet.get("hub", "data"), fleet.get("hub", "_repl/feeds"));
        for frame in frames {
            fleet.say_bytes(&mut stranger, frame);
        }
        stranger.assert_refused(reason, what);
        assert_eq!((fleet.get("hub", "data"), fleet.get("hub", "_repl/feeds")), before, "{what}");
        fleet.set("hub", "data/a", json!(what));
        assert_eq!(fleet.get("edge", "data/a"), json!(what), "who else follows goes on");
    }
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.pages, 2, "and was never filled anew: {pull:?}");
    fleet.agree(&["hub", "edge"], "data");
}

fn put(at: &str, version: Version) -> StampedOp {
    let key = path(at).key().clone();
    StampedOp { key, version, change: StampedChange::Put(Bytes::from_static(b"\x05theirs")) }
}

fn version(wall_ms: u64) -> Version {
    Version { hlc: (wall_ms << 16) + 9, origin: 7 }
}

fn record(rev: u64, version: Version, ops: Vec<StampedOp>) -> WireRecord {
    let author = Author { version, via: Vec::new() };
    WireRecord { rev, hash: [1; 16], at_ms: 0, cause: 0, author, ops }
}

fn batch(after: u64, through: u64, commits: Vec<WireRecord>) -> Message {
    Message::Batch(Batch { after, through, hash: [1; 16], head: through.max(after), commits })
}

/// An edge of `config` in sync and `feeds`, filled by a stranger and in its tail behind 5.
fn filled(fleet: &mut Fleet) -> Stranger {
    let mut stranger = filling(fleet);
    let version = version(fleet.wall_ms());
    for (part, ops) in [(0, Vec::new()), (1, vec![put("feeds/a", version)])] {
        let page = Page { number: 1, part, start: None, ops, next: None, head: 5 };
        fleet.say(&mut stranger, &Message::Page(page));
    }
    assert!(
        matches!(stranger.heard.last(), Some(Message::Tail { after: 5 })),
        "{:?}",
        stranger.heard
    );
    stranger
}

/// The same before the first page.
fn filling(fleet: &mut Fleet) -> Stranger {
    let mut stranger = fleet.dials_stranger("edge");
    let welcome = Message::Welcome(hello(fleet.wall_ms()));
    fleet.say(&mut stranger, &welcome);
    fleet.say(&mut stranger, &opened(OpenMode::Snapshot, 5));
    stranger
}

fn lonely_edge(world: &TreeWorld) -> Fleet {
    let mut fleet = Fleet::new(world);
    fleet.add("edge", super::tools::below("hub", EDGE));
    fleet.add("hub", TopologySpec::default());
    fleet.cut("edge");
    fleet.set("edge", "config/mine", json!(1));
    fleet.set("edge", "apart/mine", json!(2));
    fleet
}

const EDGE: &[(&str, Mode)] = &[("config", Mode::Sync), ("feeds", Mode::Readonly)];

/// What no source may say in its tail.
fn wrong_words(wall_ms: u64) -> Vec<Said> {
    let version = version(wall_ms);
    let fine = || record(6, version, vec![put("feeds/a", version)]);
    let relayed = |via: Vec<u64>| {
        let author = Author { version, via };
        batch(5, 6, vec![WireRecord { author, ..fine() }])
    };
    let odd = |key: &'static [u8]| {
        let op = StampedOp { key: Bytes::from_static(key), ..put("feeds/b", version) };
        batch(5, 7, vec![fine(), record(7, version, vec![op])])
    };
    let stored = |bytes: &'static [u8]| {
        let change = StampedChange::Put(Bytes::from_static(bytes));
        batch(5, 6, vec![record(6, version, vec![StampedOp { change, ..put("feeds/b", version) }])])
    };
    let answer = WireAnswer::Failed(trellis_topology::forward_wire::WireFailure {
        kind: "conflict".into(),
        message: String::new(),
        facts: Vec::new(),
        path: None,
        failed: Vec::new(),
    });
    let page = Page { number: 1, part: 2, start: None, ops: Vec::new(), next: None, head: 5 };
    let unknown = WireRecord { cause: 77, ..fine() };
    let mut table = vec![
        said("its first word twice", PROTOCOL, &Message::Welcome(hello(wall_ms))),
        said("a sequence that goes back", PROTOCOL, &batch(4, 6, vec![fine()])),
        said("a gap", PROTOCOL, &batch(6, 7, Vec::new())),
        said("no progress", PROTOCOL, &batch(5, 5, Vec::new())),
        said("one commit twice", PROTOCOL, &batch(5, 8, vec![fine(), fine()])),
        said("a commit behind the end", PROTOCOL, &batch(5, 6, vec![record(9, version, vec![])])),
        said("its own name among the relays", PROTOCOL, &relayed(vec![STRANGER as u64])),
        said("too many relays", PROTOCOL, &relayed((20..28).collect())),
        said("an unknown cause", RefusalReason::Unsupported, &batch(5, 6, vec![unknown])),
        said("a place that nobody asked for", PROTOCOL, &opened(OpenMode::Snapshot, 5)),
        said(
            "an answer that nobody waits for",
            PROTOCOL,
            &Message::Forwarded { number: 3, answer },
        ),
        said(
            "buckets of another number",
            PROTOCOL,
            &Message::Buckets { rev: 5, buckets: vec![0; 9] },
        ),
        said("what is not its business", RefusalReason::Denied, &Message::Open(open("apart", "x"))),
        said("what it does not write", RefusalReason::Denied, &Message::Open(open("feeds", "x"))),
        said("a key without a name", PROTOCOL, &odd(b"feeds\0\0x")),
        said("a key that is no text", PROTOCOL, &odd(b"feeds\0\xff")),
        said("a value that is none", PROTOCOL, &stored(b"\x09")),
        said("an array that is none", PROTOCOL, &stored(b"\x07[1,")),
    ];
    table.push(said(
        "a page that nobody asked for",
        PROTOCOL,
        &Message::Page(Page { number: 99, ..page }),
    ));
    table
}

fn upstream(world: &TreeWorld) {
    let mut fleet = lonely_edge(world);
    let mut table = wrong_words(fleet.wall_ms());
    table.extend(no_messages());
    for (what, reason, frames) in table {
        let mut stranger = filled(&mut fleet);
        let before = state(&fleet);
        for frame in frames {
            fleet.say_bytes(&mut stranger, frame);
        }
        stranger.assert_refused(reason, what);
        let after = state(&fleet);
        assert_eq!(after.0, before.0, "{what}");
        // What came before it is there, with its place.
        let place = if what.starts_with("a key") { 6 } else { 5 };
        assert_eq!(at(&after.1).at.rev, place, "{what}");
    }
    for log_id in [STRANGER, 99] {
        let mut stranger = fleet.dials_stranger("edge");
        let words = Hello { node: 98, ..hello(fleet.wall_ms()) };
        fleet.say(&mut stranger, &Message::Welcome(words));
        let mut place = opened(OpenMode::Snapshot, 5);
        if let Message::Opened(opened) = &mut place {
            opened.pin.log_id = log_id;
        }
        fleet.say(&mut stranger, &place);
        stranger.assert_refused(PROTOCOL, "the log of another node");
    }
    fleet.set("edge", "config/still", json!("here"));
}

/// What the edge shows, and where its feed stands.
fn state(fleet: &Fleet) -> (Vec<(String, String)>, serde_json::Value) {
    let mut shown = leaves(&fleet.tree("edge"), "config");
    shown.extend(leaves(&fleet.tree("edge"), "apart"));
    shown.extend(leaves(&fleet.tree("edge"), "feeds"));
    (shown, fleet.get("edge", "_repl/feeds"))
}

/// Where the feed from the hub stands.
fn at(feeds: &serde_json::Value) -> FeedPosition {
    FeedPosition::from_json(&feeds["upstream"]).expect("a position")
}

/// What was not granted is left alone, and what is allowed comes all the same; what it wrote itself
/// is not taken from another.
fn clipped(world: &TreeWorld) {
    let mut fleet = lonely_edge(world);
    let mut stranger = filled(&mut fleet);
    let version = version(fleet.wall_ms());
    let places = ["apart/mine", "apart/new", "feedsx", "_auth/server/key", "_repl/feeds/upstream"];
    let mut ops: Vec<StampedOp> = places.iter().map(|at| put(at, version)).collect();
    let clear = |at: &str| StampedOp { change: StampedChange::Clear, ..put(at, version) };
    ops.extend([clear("apart"), clear("_repl"), put("feeds/b", version)]);
    let feeds = fleet.get("edge", "_repl/feeds");
    fleet.say(&mut stranger, &batch(5, 6, vec![record(6, version, ops)]));
    assert_eq!(stranger.closed, None);
    assert_eq!(fleet.get("edge", "apart"), json!({"mine": 2}));
    assert_eq!(fleet.get("edge", "_auth"), json!(null));
    assert_eq!(fleet.get("edge", "feedsx"), json!(null));
    assert_eq!(fleet.get("edge", "feeds"), json!({"a": "theirs", "b": "theirs"}));
    let pull = stranger.session.status().pull.expect("it follows");
    assert_eq!((pull.clipped, pull.position), (7, 6), "{pull:?}");
    let after = fleet.get("edge", "_repl/feeds");
    assert_eq!(at(&after).fingerprint, at(&feeds).fingerprint, "its place is its own");
    let own = Version { origin: fleet.tree("edge").origin(), ..version };
    let echo = record(7, own, vec![put("config/mine", own)]);
    fleet.say(&mut stranger, &batch(6, 7, vec![echo]));
    assert_eq!(fleet.get("edge", "config/mine"), json!(1), "nobody speaks for this node");
}

/// A commit from the future is neither taken nor passed over: it waits for its time.
fn future(world: &TreeWorld) {
    let mut fleet = lonely_edge(world);
    let mut stranger = filled(&mut fleet);
    let ahead = version(fleet.wall_ms() + 6 * 60 * 1000);
    let late = record(6, ahead, vec![put("feeds/late", ahead)]);
    let before = state(&fleet);
    fleet.say(&mut stranger, &batch(5, 6, vec![late]));
    let next = record(7, version(fleet.wall_ms()), vec![put("feeds/next", version(1))]);
    fleet.say(&mut stranger, &batch(6, 7, vec![next]));
    assert_eq!(state(&fleet), before);
    let pull = stranger.session.status().pull.expect("it follows");
    assert_eq!((pull.state, pull.position), (FeedState::ClockQuarantine, 5));
    fleet.set("edge", "config/mine", json!("meanwhile"));
    let beat = |fleet: &Fleet| {
        let (head, wall_ms) = (7, fleet.wall_ms());
        Message::Heartbeat(trellis_topology::message::Heartbeat { head, wall_ms, digest: None })
    };
    for _ in 0..14 {
        let beat = beat(&fleet);
        fleet.say(&mut stranger, &beat);
        fleet.wait(&mut stranger, 6_000);
    }
    assert_eq!(stranger.closed, None);
    assert_eq!(stranger.session.status().pull.expect("it follows").position, 7);
    assert_eq!(fleet.get("edge", "feeds/late"), json!("theirs"));
}

/// A peer that stops in the middle and keeps the socket, or goes on byte by byte, is given up.
fn halfway(world: &TreeWorld) {
    let mut fleet = lonely_edge(world);
    let part = || Bytes::from_static(&[1, 1, 7]);
    let before = state(&fleet).0;
    for drips in [false, true] {
        let mut stranger = filling(&mut fleet);
        fleet.say_bytes(&mut stranger, part());
        let mut waited = 0;
        while stranger.closed.is_none() && waited < 120_000 {
            if drips {
                fleet.say_bytes(&mut stranger, part());
            }
            fleet.wait(&mut stranger, 5_000);
            waited += 5_000;
        }
        stranger.assert_refused(RefusalReason::Stalled, "half a page");
        assert!(waited <= 40_000, "given up after {waited} ms");
        assert_eq!(state(&fleet).0, before, "and what is here stays");
    }
    let mut silent = fleet.dialed_by_stranger("hub");
    for _ in 0..4 {
        fleet.say_bytes(&mut silent, part());
        fleet.wait(&mut silent, 5_000);
    }
    silent.assert_refused(RefusalReason::Stalled, "half a first word");
}

/// What a write came to that the stranger forwarded.
fn forwarded(fleet: &mut Fleet, stranger: &mut Stranger, commit: WireCommit) -> WireAnswer {
    let number = stranger.heard.len() as u64 + 1;
    let forward = ForwardMessage { number, commit, wait_ms: 1_000, hops: 0 };
    fleet.say(stranger, &Message::Forward(forward));
    match stranger.heard.last() {
        Some(Message::Forwarded { number: to, answer }) if *to == number => answer.clone(),
        other => panic!("it is answered: {other:?}"),
    }
}

fn writing(operation: WireOperation) -> WireCommit {
    WireCommit { conditions: Vec::new(), operations: vec![operation], key: Some("k".into()) }
}

/// A peer's write reaches nothing that the node keeps for itself, nor learns what is there.
fn into_kept(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.add(
        "hub",
        TopologySpec {
            exclude_prefixes: vec!["data/secret".to_owned()],
            ..TopologySpec::default()
        },
    );
    fleet.set("hub", "data", json!({"a": 1, "secret": {"k": "kept"}}));
    fleet.set_system("hub", "_auth/server", json!("key"));
    for prefix in ["data", ""] {
        let mut stranger = following(&mut fleet, prefix, STRANGER);
        let set = |at: &str| writing(WireOperation::Set(at.into(), "7".into(), None));
        let reading = |at: &str, check: WireCheck| {
            let conditions = vec![WireCondition { path: at.into(), check }];
            WireCommit { conditions, ..set("data/b") }
        };
        let refused = [
            set("data/secret/k"),
            set("data/secret"),
            set("data"),
            writing(WireOperation::Delete("data".into())),
            writing(WireOperation::Delete("data/secret/k".into())),
            writing(WireOperation::Push("data/secret".into(), "7".into(), None)),
            writing(WireOperation::Update(vec![("data/secret/x".into(), "7".into())], None)),
            reading("data/secret/k", WireCheck::Absent),
            reading("data", WireCheck::Absent),
            reading("", WireCheck::Absent),
            reading("_auth/server", WireCheck::Absent),
        ];
        for commit in refused {
            let answer = forwarded(&mut fleet, &mut stranger, commit.clone());
            let WireAnswer::Failed(failure) = answer else { panic!("{commit:?} is made") };
            let code = ErrorKind::Denied.code();
            assert_eq!((failure.kind.as_str(), failure.failed.len()), (code, 0), "{commit:?}");
        }
        let kept = json!({"a": 1, "secret": {"k": "kept"}});
        assert_eq!(fleet.get("hub", "data"), kept);
        let push = writing(WireOperation::Push("data".into(), "7".into(), None));
        for commit in [set("data/b"), push] {
            let answer = forwarded(&mut fleet, &mut stranger, WireCommit { key: None, ..commit });
            assert!(matches!(answer, WireAnswer::Committed(_)), "{answer:?}");
        }
        fleet.tell(&mut stranger, Event::Closed);
        fleet.set("hub", "data", kept);
    }
}

/// One peer that comes under ever new names has no more than its share: who was away finds its own
/// slot, and who is new gets one.
fn all_slots(world: &TreeWorld) {
    let mut fleet = Fleet::new(world);
    fleet.slots.slots_max = 4;
    let mut spec = hub(&["data"], &[]);
    for name in ["edge", "late"] {
        let own = PeerSpec { node: Some(name.to_owned()), role: None, ..grant(&["data"], &[]) };
        spec.peers.as_mut().expect("grants").push(own);
    }
    fleet.add("hub", spec);
    fleet.add("edge", edge(&[("data", Mode::Readonly)]));
    fleet.set_roles("edge", &[]);
    fleet.set("hub", "data/a", json!(1));
    fleet.settle();
    fleet.cut("edge");
    for number in 1..20 {
        let mut stranger = following(&mut fleet, "data", STRANGER + number);
        fleet.tell(&mut stranger, Event::Closed);
    }
    let kept = fleet.get("hub", "_repl/slots");
    assert_eq!(kept.as_object().map(serde_json::Map::len), Some(4), "{kept}");
    fleet.set("hub", "data/b", json!(2));
    fleet.heal("edge");
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.pages, 0, "it goes on where it was: {pull:?}");
    fleet.cut("edge");
    fleet.add("late", edge(&[("data", Mode::Readonly)]));
    fleet.set_roles("late", &[]);
    fleet.settle();
    assert_eq!(fleet.get("late", "data"), json!({"a": 1, "b": 2}));
    fleet.heal("edge");
    let pull = fleet.status("edge", "upstream").pull.expect("it follows");
    assert_eq!(pull.pages, 0, "nor does it lose its slot to another: {pull:?}");
    let slots = fleet.get("hub", "_repl/slots");
    assert_eq!(slots.as_object().map(serde_json::Map::len), Some(4), "{slots}");
}
