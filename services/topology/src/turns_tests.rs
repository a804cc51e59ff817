//! Sessions over trees that are stood in for: whose turn it is to be filled, and opening again.

use std::time::Duration;

use trellis_engine_traits::ErrorKind;

use crate::forward_wire::{WireAnswer, WireCommitted, WireResult};
use crate::message::Message;
use crate::pair::Pair;
use crate::session_tests::{FIVE, REPLACE, forwarding, request, source};
use crate::*;

#[test]
fn a_follower_waits_for_its_turn_to_be_filled_for_as_long_as_it_takes() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.ends[1].host.queue = (0..200).rev().collect();
    pair.run();
    assert_eq!((pair.pulled().state, pair.pulled().queued_behind), (FeedState::Queued, Some(199)));
    while !pair.ends[1].host.queue.is_empty() {
        pair.pass(Duration::from_millis(250));
        assert_eq!(pair.pulled().state, FeedState::Queued);
    }
    assert!(pair.ends.iter().all(|end| end.closed.is_none()), "nobody takes it for stalled");
    assert_eq!(pair.pulled().queued_behind, Some(0));
    pair.pass(Duration::from_millis(250));
    assert_eq!((pair.pulled().state, pair.pulled().queued_behind), (FeedState::Tail, None));
    assert_eq!(pair.ends[0].host.leaves.len(), 4);
}

#[test]
fn who_is_filled_or_takes_nothing_for_long_makes_room_for_others() {
    let places = |pair: &Pair| {
        let filled = |task: &&Task| matches!(task, Task::Filled { .. });
        pair.ends[1].host.done.iter().filter(filled).count()
    };
    let mut quick = Pair::follower(REPLACE, source(FIVE));
    quick.run();
    assert_eq!(places(&quick), 1);
    let mut stuck = Pair::follower(REPLACE, source(FIVE));
    stuck.ends[0].lazy = true;
    stuck.run();
    while !matches!(stuck.ends[0].waiting[..], [(_, Task::Apply { .. })]) {
        let (id, task) = stuck.ends[0].waiting.remove(0);
        let outcome = stuck.ends[0].host.execute(task);
        stuck.event(0, Event::Done(id, outcome));
        stuck.run();
    }
    assert_eq!(places(&stuck), 0);
    for _ in 0..6 {
        stuck.pass(Duration::from_secs(5));
    }
    assert_eq!(places(&stuck), 1, "for 30 s it took nothing");
    // It goes on all the same.
    stuck.ends[0].lazy = false;
    let (applied, task) = stuck.ends[0].waiting.remove(0);
    let outcome = stuck.ends[0].host.execute(task);
    stuck.event(0, Event::Done(applied, outcome));
    stuck.run();
    assert_eq!((stuck.pulled().state, places(&stuck)), (FeedState::Tail, 1));
}

#[test]
fn a_feed_that_is_opened_again_goes_on_from_what_is_durable() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    for round in 0..3 {
        // Not in the scope: it moves the position, which is written later.
        pair.ends[1].host.write("b", "skipped");
        pair.run();
        assert_eq!(pair.pulled().position, 6 + round);
        pair.say(1, &Message::Reopen);
        let durable = pair.ends[1].host.slots.values().next().unwrap();
        assert_eq!(durable.rev, 5, "the slot is not moved by what may be lost");
    }
    assert!(pair.ends.iter().all(|end| end.closed.is_none()), "{:?}", pair.ends[1].closed);
}

/// Promise: whenever a follower is asked to begin anew it does, and once.
#[test]
fn what_is_asked_for_while_a_feed_is_being_opened_is_not_forgotten() {
    let mut opening = 0;
    for turns in 0..12 {
        let mut pair = Pair::follower(REPLACE, source(FIVE));
        pair.run();
        let mut pair = pair.again();
        pair.ends[0].host.done.clear();
        let _under_way = pair.turns(turns);
        let Some(pull) = pair.ends[0].session.status().pull else { continue };
        opening += usize::from(pull.state == FeedState::Connecting);
        pair.event(0, Event::Resync);
        pair.run();
        let begun = |task: &&Task| matches!(task, Task::BeginAnew { .. });
        let begun = pair.ends[0].host.done.iter().filter(begun).count();
        assert_eq!((begun, pair.pulled().opened), (1, Some(OpenMode::Snapshot)), "{turns}");
    }
    assert!(opening > 0, "some of it was asked for while the feed was being opened");
}

/// Promise: a write that is here by the time it is answered is answered with where it is here.
#[test]
fn an_answer_that_comes_behind_what_it_is_about_says_where_it_is_here() {
    let mut pair = forwarding();
    pair.cut = true;
    pair.event(0, Event::Forward(ForwardId(1), request("a/x")));
    pair.cut = false;
    let log_id = format!("{:032x}", 2);
    let answer = WireCommitted { log_id, rev: 5, reached: 5, replayed: false, results: Vec::new() };
    pair.say(1, &Message::Forwarded { number: 1, answer: WireAnswer::Committed(answer) });
    let committed = pair.ends[0].answers.pop().unwrap().1.unwrap();
    assert!(committed.upstream.unwrap().applied);
    assert_eq!(committed.rev, pair.ends[0].host.head());
}

/// Promise: an answer that this node does not understand is no failure: what it is about happened.
#[test]
fn an_answer_that_cannot_be_read_leaves_the_outcome_unknown_and_the_link_up() {
    let answer = |log_id: &str, resolved: (&str, &str)| WireCommitted {
        log_id: log_id.into(),
        rev: 7,
        reached: 0,
        replayed: false,
        results: vec![WireResult {
            pushed: None,
            resolved: vec![(resolved.0.to_owned(), resolved.1.to_owned())],
        }],
    };
    let unreadable = [("a//b", "1"), ("a/b", "{"), ("a/b", "")];
    for (number, resolved) in (1..).zip(unreadable) {
        let mut pair = forwarding();
        pair.cut = true;
        pair.event(0, Event::Forward(ForwardId(number), request("a/x")));
        pair.cut = false;
        let answer = WireAnswer::Committed(answer("00", resolved));
        pair.say(1, &Message::Forwarded { number: 1, answer });
        let (id, outcome) = pair.ends[0].answers.pop().unwrap();
        assert_eq!(
            (id, outcome.unwrap_err().error.kind()),
            (ForwardId(number), ErrorKind::OutcomeUnknown)
        );
        assert!(pair.ends[0].closed.is_none(), "{resolved:?}");
    }
}
