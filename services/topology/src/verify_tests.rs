//! What a comparison says is what was compared, and whoever asks for one is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trellis_runtime::{Runtime, RuntimeOptions, SimulatedClock};
use trellis_tree::{Commit, Expiry, Input, Operation, Path};

use crate::pair::Pair;
use crate::session_tests::{FIVE, REPLACE, source};
use crate::store_tests::{Node, edge, hub, linked, node, with};
use crate::*;

const LEAF_BYTES: usize = 512 << 10;

/// Promise: who asks while this node reads its own side for another comparison is answered too.
#[test]
fn who_asks_while_a_comparison_is_under_way_is_answered() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[0].lazy = true;
    let is_digest = |(_, task): &(TaskId, Task)| matches!(task, Task::Digest { .. });
    let mut passed = 0;
    while !pair.ends[0].waiting.iter().any(is_digest) {
        pair.pass(Duration::from_secs(5));
        passed += 1;
        assert!(passed < 40, "a comparison begins");
    }
    pair.event(0, Event::Verify { repair: false });
    pair.ends[0].lazy = false;
    for (id, task) in std::mem::take(&mut pair.ends[0].waiting) {
        let outcome = pair.ends[0].host.execute(task);
        pair.event(0, Event::Done(id, outcome));
    }
    pair.run();
    let status = pair.pulled();
    assert_eq!((status.answered, status.verified, status.differing), (1, 1, 0), "{status:?}");
}

/// Names of leaves that are compared together, and more of them than is compared at a time.
fn together() -> Vec<String> {
    let bucket = |name: &String| {
        let key = Bytes::from(name.replace('/', "\0"));
        xxhash_rust::xxh3::xxh3_64(&key).to_le_bytes()[0]
    };
    let names = (0..10_000).map(|number| format!("users/n{number:04}"));
    names.filter(|name| bucket(name) == 7).take(12).collect()
}

fn text(letter: &str) -> String {
    format!("\"{}\"", letter.repeat(LEAF_BYTES))
}

/// A follower of what is compared in two pieces. By itself it compares nothing.
fn in_pieces(names: &[String]) -> Pair<Node> {
    let source = node(&hub());
    for name in names {
        source.set(name, &text("s"));
    }
    let mut pair = linked(node(&edge(&[("users", Mode::Replica)])), source, 200);
    pair.ends[1].session.config.options.verify_every = Duration::ZERO;
    pair.run();
    pair
}

fn asked(pair: &mut Pair<Node>, repair: bool) {
    pair.event(0, Event::Verify { repair });
    pair.run();
}

fn until_answered(pair: &mut Pair<Node>, answered: u64) -> PullStatus {
    for _ in 0..40 {
        if pair.pulled().answered >= answered {
            return pair.pulled();
        }
        pair.pass(Duration::from_secs(5));
    }
    panic!("nobody is answered: {:?}", pair.pulled())
}

/// Promise: what differs is found and repaired, however much that is alike lies before it.
#[test]
fn what_differs_behind_much_that_is_alike_is_repaired() {
    let names = together();
    let mut pair = in_pieces(&names);
    pair.ends[0].host.set(&names[11], &text("e"));
    pair.run();
    asked(&mut pair, true);
    let status = until_answered(&mut pair, 1);
    assert_eq!((status.differing, status.repaired), (0, 1), "{status:?}");
    assert_eq!(pair.ends[0].host.get(&names[11]), text("s"));
}

/// Promise: nothing is called alike for a part of it was.
#[test]
fn what_was_compared_before_something_changed_is_compared_again() {
    let names = together();
    let mut pair = in_pieces(&names);
    // The first piece is alike, and then all of it is before the second is compared.
    pair.ends[0].host.set(&names[11], &text("e"));
    pair.run();
    asked(&mut pair, false);
    pair.ends[1].host.set(&names[11], &text("t"));
    pair.run();
    assert_eq!(until_answered(&mut pair, 1).differing, 0);
    pair.ends[0].host.set(&names[0], &text("e"));
    pair.run();
    asked(&mut pair, false);
    assert_eq!(until_answered(&mut pair, 2).differing, 1, "what lies before it differs");

    // The same while somebody waits for the answer: what differed goes, and something else comes.
    pair.ends[1].host.set(&names[0], &text("u"));
    pair.ends[0].host.set(&names[11], &text("e"));
    pair.run();
    asked(&mut pair, false);
    pair.ends[1].host.set(&names[11], &text("v"));
    pair.run();
    pair.ends[0].host.set(&names[1], &text("e"));
    pair.run();
    assert_eq!(until_answered(&mut pair, 3).differing, 1, "it lies before what was left");
}

/// Promise: what has ended by one clock and not yet by another is no difference.
#[test]
fn what_ends_at_its_own_time_on_each_clock_does_not_differ() {
    let wall_ms = Runtime::system().clock().now_ms();
    let at = |wall_ms| {
        let clock = Arc::new(SimulatedClock::at(wall_ms));
        Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() })
    };
    let owner = with(&edge(&[("files", Mode::Primary)]), at(wall_ms));
    owner.set("files/kept", "1");
    let expiry = Some(Expiry::TtlSeconds(30.0));
    let (path, value) = (Path::parse("files/ends").unwrap(), Input::parse(br#"{"a":1,"b":2}"#));
    let operation = Operation::Set { path, value: value.unwrap(), expiry };
    owner.store.tree().commit(Commit::new(vec![operation])).unwrap();
    let mut pair = linked(owner, with(&hub(), at(wall_ms + 60_000)), 200);
    pair.run();
    assert_eq!(pair.ends[1].host.get("files"), r#"{"kept":1}"#, "the rest has ended here");
    let answer = |pair: &mut Pair<Node>, answered| {
        pair.event(1, Event::Verify { repair: false });
        for _ in 0..40 {
            pair.pass(Duration::from_secs(5));
        }
        let status = pair.ends[1].session.status().pull.unwrap();
        assert_eq!(status.answered, answered, "{status:?}");
        (status.differing, status.repaired)
    };
    assert_eq!(answer(&mut pair, 1), (0, 0));
    pair.ends[1].host.set("files/kept", "2");
    pair.run();
    assert_eq!(answer(&mut pair, 2), (1, 0), "that hides nothing else");
}
