//! What two sessions promise each other, over trees that are stood in for.

use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Commit, Input, Path, Scope};

use crate::fake::Fake;
use crate::message::{Message, OpenMode};
use crate::pair::{Pair, key, options, pull, push};
use crate::*;

pub(crate) const REPLACE: &[(&str, FillRule)] = &[("a", FillRule::Replace)];
const MERGE: &[(&str, FillRule)] = &[("a", FillRule::Merge)];

pub(crate) fn source(keys: &[&'static str]) -> Fake {
    let mut fake = Fake { node: 2, ..Fake::default() };
    for key in keys {
        fake.write(key, key);
    }
    fake
}

pub(crate) const FIVE: &[&str] = &["a\0one", "a\0two", "b", "a\0three", "a\0four"];

#[test]
fn a_new_follower_is_filled_by_pages_and_then_follows_the_tail() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    let status = pair.pulled();
    assert_eq!((status.opened, status.pages), (Some(OpenMode::Snapshot), 2));
    assert!(status.complete);
    assert_eq!(pair.ends[0].host.leaves.len(), 4, "b is not in its scope");
    pair.ends[1].host.write("a\0five", "5");
    pair.run();
    pair.ends[1].host.write("b", "skipped");
    pair.run();
    assert_eq!(pair.ends[0].host.get("a\0five").as_deref(), Some("5"));
    assert_eq!(pair.pulled().position, 7, "what is not in the scope moves the position too");
    assert_eq!(pair.pulled().state, FeedState::Tail);
    let slot = pair.ends[1].host.slots.values().next().unwrap();
    assert_eq!(slot.rev, 6, "only what is durable moves the slot");
    assert_eq!(pair.ends[0].host.positions["down"].at.rev, 6);
}

#[test]
fn a_follower_that_comes_back_goes_on_with_the_tail() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[1].host.write("a\0five", "5");
    let mut pair = pair.again();
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Tail));
    assert_eq!(pair.ends[0].host.get("a\0five").as_deref(), Some("5"));
    assert_eq!(pair.pulled().pages, 0);
}

#[test]
fn what_changed_since_comes_by_pages_when_the_tail_is_gone() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    let mut pair = pair.again();
    pair.ends[1].host.write("a\0five", "5");
    pair.ends[1].host.write("b", "x");
    pair.ends[1].host.trimmed = 7;
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Delta));
    assert_eq!(pair.ends[0].host.get("a\0five").as_deref(), Some("5"));
    assert_eq!((pair.pulled().position, pair.pulled().complete), (7, true));
    assert!(pair.ends[0].host.set_aside.is_empty());
}

#[test]
fn below_the_floor_everything_comes_again_and_what_is_gone_goes() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    let mut pair = pair.again();
    pair.ends[1].host.leaves.remove(&key("a\0two"));
    pair.ends[1].host.write("b", "x");
    (pair.ends[1].host.trimmed, pair.ends[1].host.floor) = (6, 6);
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Snapshot));
    assert_eq!(pair.ends[0].host.get("a\0two"), None);
    assert!(pair.ends[0].host.set_aside.is_empty(), "all of it came from there");
}

#[test]
fn a_tail_that_is_trimmed_while_it_is_followed_is_opened_again() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[1].host.write("a\0five", "5");
    pair.ends[1].host.trimmed = 6;
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Delta));
    assert_eq!(pair.ends[0].host.get("a\0five").as_deref(), Some("5"));
}

#[test]
fn another_history_replaces_this_one_after_what_is_own_was_set_aside() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[0].host.write("a\0mine", "kept");
    let mut pair = pair.again();
    pair.ends[1].host.salt = 9;
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Diverged));
    assert_eq!(pair.ends[0].host.set_aside, [key("a\0mine")]);
    assert_eq!(pair.ends[0].host.get("a\0mine"), None);
    assert_eq!(pair.pulled().set_aside, 1);
}

#[test]
fn another_plan_refills_and_what_was_own_before_is_set_aside() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.ends[0].host.write("a\0mine", "kept");
    let at = pair.ends[1].host.at(5);
    let position = FeedPosition { node: 1, fingerprint: 77, at, fill: None, complete_at: 0 };
    pair.ends[0].host.positions.insert("down".into(), position);
    let mut pair = pair.again();
    pair.run();
    assert_eq!(pair.pulled().opened, Some(OpenMode::Snapshot));
    assert!(pair.ends[0].host.set_aside.contains(&key("a\0mine")));
}

#[test]
fn an_interrupted_snapshot_goes_on_at_its_page() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.ends[0].lazy = true;
    // The position, what is own, and the first page only.
    while pair.ends[0].host.positions.is_empty() {
        pair.run();
        for (id, task) in std::mem::take(&mut pair.ends[0].waiting) {
            let outcome = pair.ends[0].host.execute(task);
            let paged = !pair.ends[0].host.positions.is_empty();
            if !paged {
                pair.event(0, Event::Done(id, outcome));
            }
        }
    }
    let part = pair.ends[0].host.positions["down"].fill.clone().unwrap();
    assert!(part.next.is_some(), "the cursor is stored with the page");
    let mut pair = pair.again();
    pair.run();
    assert_eq!((pair.pulled().opened, pair.pulled().pages), (Some(OpenMode::ResumeSnapshot), 1));
    assert_eq!(pair.ends[0].host.leaves.len(), 4);
    assert!(pair.pulled().complete);
}

#[test]
fn two_partners_fill_each_other_and_nothing_goes_in_circles() {
    let plan =
        || LinkPlan { pull: Some(pull(MERGE)), push: Some(push(&["a"])), ..LinkPlan::default() };
    let mut one = Fake { node: 1, ..Fake::default() };
    one.write("a\0mine", "1");
    let mut pair = Pair::new([plan(), plan()], [one, source(FIVE)], options());
    pair.run();
    pair.ends[0].host.write("a\0later", "2");
    pair.ends[1].host.write("a\0also", "3");
    pair.run();
    let keys = |end: usize| pair.ends[end].host.leaves.keys().cloned().collect::<Vec<Bytes>>();
    assert_eq!(keys(0).len(), 7);
    assert!(keys(0).iter().all(|key| keys(1).contains(key)));
    assert_eq!(pair.ends[0].host.get("a\0mine").as_deref(), Some("1"));
}

#[test]
fn a_filter_that_matches_nothing_moves_on_and_is_written_now_and_then() {
    let mut pair = Pair::follower(REPLACE, source(&["a\0one"]));
    pair.run();
    for _ in 0..1100 {
        pair.ends[1].host.write("b", "x");
    }
    pair.run();
    assert_eq!(pair.pulled().position, 1101);
    let written = pair.ends[0].host.positions["down"].at.rev;
    assert!((1001..=1101).contains(&written), "{written}");
    assert_eq!(pair.ends[0].host.log.len(), 1, "one commit, the page's; the position is a note");
}

#[test]
fn no_more_is_sent_than_the_follower_has_credit_for() {
    let small = SessionOptions { credit_bytes: 200, ..options() };
    let plans = [
        LinkPlan { pull: Some(pull(REPLACE)), ..LinkPlan::default() },
        LinkPlan { push: Some(push(&["a"])), ..LinkPlan::default() },
    ];
    let mut pair = Pair::new(plans, [Fake { node: 1, ..Fake::default() }, source(FIVE)], small);
    pair.run();
    pair.ends[0].lazy = true;
    for _ in 0..100 {
        pair.ends[1].host.write("a\0one", "again and again");
        pair.run();
    }
    let sent = |pair: &Pair| {
        pair.said.iter().filter(|(_, said)| matches!(said, Message::Batch(_))).count()
    };
    let before = sent(&pair);
    assert!(before < 5, "{before}");
    pair.ends[0].lazy = false;
    while let Some((id, task)) = pair.ends[0].waiting.pop() {
        let outcome = pair.ends[0].host.execute(task);
        pair.event(0, Event::Done(id, outcome));
    }
    pair.run();
    assert_eq!(pair.pulled().position, 105);
}

/// Promise: a busy source sends fewer and larger batches, and whoever writes once waits for nobody.
#[test]
fn a_source_rests_after_many_commits_and_not_after_one() {
    let options = SessionOptions { rest_max: Duration::from_millis(5), ..options() };
    let plans = [
        LinkPlan { pull: Some(pull(REPLACE)), ..LinkPlan::default() },
        LinkPlan { push: Some(push(&["a"])), ..LinkPlan::default() },
    ];
    let mut pair = Pair::new(plans, [Fake { node: 1, ..Fake::default() }, source(FIVE)], options);
    pair.run();
    let write = |pair: &mut Pair, times| {
        for _ in 0..times {
            pair.ends[1].host.write("a\0one", "again");
        }
        pair.run();
        pair.ends[1].host.head() - pair.pulled().position
    };
    assert_eq!(write(&mut pair, 1), 0);
    assert_eq!(write(&mut pair, 4), 0, "one commit is no load");
    assert!(pair.ends[1].session.is_resting(pair.now.mono));
    assert_eq!(write(&mut pair, 9), 9, "three milliseconds for four commits");
    pair.pass(Duration::from_millis(2));
    assert_eq!(pair.ends[1].session.deadline(), Some(pair.now.mono + Duration::from_millis(1)));
    assert_eq!(write(&mut pair, 1), 10);
    pair.pass(Duration::from_millis(1));
    assert_eq!(write(&mut pair, 1), 1, "all in one batch; five milliseconds at most");
    pair.pass(Duration::from_millis(5));
    assert_eq!(write(&mut pair, 1), 0);
}

#[test]
fn a_page_that_does_not_come_is_asked_for_again_half_as_large() {
    let wide = SessionOptions { page_items: 4, ..options() };
    let plans = [
        LinkPlan { pull: Some(pull(REPLACE)), ..LinkPlan::default() },
        LinkPlan { push: Some(push(&["a"])), ..LinkPlan::default() },
    ];
    let mut pair = Pair::new(plans, [Fake { node: 1, ..Fake::default() }, source(FIVE)], wide);
    pair.ends[1].lazy = true;
    pair.run();
    let (id, task) = pair.ends[1].waiting.remove(0);
    let outcome = pair.ends[1].host.execute(task);
    pair.event(1, Event::Done(id, outcome));
    pair.run();
    // The page is being read, for ever; only heartbeats come.
    for _ in 0..4 {
        pair.pass(Duration::from_secs(5));
    }
    let asked = pair.said.iter().filter_map(|(_, said)| match said {
        Message::PageRequest(request) => Some((request.items_max, request.bytes_max)),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [(4, 256 << 10), (2, 128 << 10)]);
    assert_eq!(pair.pulled().page_timeouts, 1);
    pair.ends[1].lazy = false;
    for (id, task) in std::mem::take(&mut pair.ends[1].waiting) {
        let outcome = pair.ends[1].host.execute(task);
        pair.event(1, Event::Done(id, outcome));
    }
    pair.run();
    assert!(pair.pulled().complete);
    assert_eq!(pair.ends[0].host.leaves.len(), 4);
}

#[test]
fn a_record_from_the_future_pauses_the_feed_and_is_not_skipped() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    let hlc = (crate::fake::WALL_MS + 6 * 60 * 1000) << 16;
    pair.ends[1].host.write_at("a\0future", "x", hlc);
    pair.ends[1].host.write("a\0after", "y");
    pair.run();
    assert_eq!(pair.pulled().state, FeedState::ClockQuarantine);
    assert_eq!((pair.pulled().position, pair.pulled().hlc_rejected), (5, 1));
    assert_eq!(pair.ends[0].host.get("a\0after"), None, "nothing overtakes it");
    for _ in 0..30 {
        pair.pass(Duration::from_secs(5));
    }
    assert_eq!(pair.pulled().state, FeedState::Tail, "the clock came near enough");
    assert_eq!(pair.ends[0].host.get("a\0future").as_deref(), Some("x"));
    assert_eq!(pair.ends[0].host.get("a\0after").as_deref(), Some("y"));
}

#[test]
fn what_cannot_be_applied_for_now_is_tried_again() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[0].host.failing = Some(ErrorKind::Unavailable);
    pair.ends[1].host.write("a\0five", "5");
    pair.run();
    assert_eq!(pair.pulled().state, FeedState::Paused);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.pulled().state, FeedState::Tail);
    assert_eq!(pair.ends[0].host.get("a\0five").as_deref(), Some("5"));
}

#[test]
fn a_silent_peer_is_given_up_and_a_feed_that_stands_still_too() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.cut = true;
    for _ in 0..3 {
        pair.pass(Duration::from_secs(5));
    }
    assert_eq!(pair.ends[0].closed.as_ref().unwrap().reason, RefusalReason::Stalled);
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    pair.ends[1].lazy = true;
    pair.ends[1].host.write("a\0five", "5");
    for _ in 0..7 {
        pair.pass(Duration::from_secs(5));
    }
    let ended = pair.ends[0].closed.clone().unwrap();
    assert!(ended.message.contains("behind"), "{ended:?}");
}

/// A leaf of the follower is another one, and one is there that the source does not have.
fn damage(pair: &mut Pair) {
    let (damaged, left) = (key("a\0one"), key("a\0left"));
    let mut op = pair.ends[0].host.leaves[&damaged].clone();
    op.0.change = trellis_tree::StampedChange::Put(key("damaged"));
    pair.ends[0].host.leaves.insert(damaged, op.clone());
    op.0.key = left.clone();
    pair.ends[0].host.leaves.insert(left, op);
}

#[test]
fn who_asks_for_a_comparison_is_told_and_nothing_changes_until_a_repair_is_asked_for() {
    let plans = [
        LinkPlan { pull: Some(pull(REPLACE)), ..LinkPlan::default() },
        LinkPlan { push: Some(push(&["a"])), ..LinkPlan::default() },
    ];
    // By itself it would compare and repair.
    let alone = SessionOptions { verify_every: Duration::ZERO, ..options() };
    let mut pair = Pair::new(plans, [Fake { node: 1, ..Fake::default() }, source(FIVE)], alone);
    pair.run();
    pair.event(0, Event::Verify { repair: false });
    pair.run();
    let status = pair.pulled();
    assert_eq!((status.answered, status.verified, status.differing), (1, 1, 0));
    damage(&mut pair);
    pair.event(0, Event::Verify { repair: false });
    pair.run();
    assert_eq!(pair.pulled().answered, 1, "it is compared twice");
    for _ in 0..6 {
        pair.pass(Duration::from_secs(5));
    }
    let status = pair.pulled();
    assert_eq!((status.answered, status.differing, status.repaired), (2, 2, 0), "{status:?}");
    assert_eq!(pair.ends[0].host.get("a\0one").as_deref(), Some("damaged"));
    pair.event(0, Event::Verify { repair: true });
    pair.run();
    for _ in 0..3 {
        pair.pass(Duration::from_secs(5));
    }
    let status = pair.pulled();
    assert_eq!((status.answered, status.verified), (3, 2), "{status:?}");
    assert!(status.differing == 0 && status.repaired > 0, "{status:?}");
    assert_eq!(pair.ends[0].host.get("a\0one").as_deref(), Some("a\0one"));
    assert_eq!(pair.ends[0].host.get("a\0left"), None);
}

#[test]
fn what_differs_from_the_source_is_found_and_repaired() {
    let mut pair = Pair::follower(REPLACE, source(FIVE));
    pair.run();
    damage(&mut pair);
    for _ in 0..6 {
        pair.pass(Duration::from_secs(5));
    }
    let status = pair.pulled();
    assert_eq!(status.diverged, 2, "{status:?}");
    assert_eq!(pair.ends[0].host.get("a\0one").as_deref(), Some("a\0one"));
    assert_eq!(pair.ends[0].host.get("a\0left"), None);
    pair.event(0, Event::Verify { repair: true });
    pair.run();
    assert_eq!(pair.pulled().verified, 1 + status.verified);
}

pub(crate) fn forwarding() -> Pair {
    let forward = Scope { within: vec![key("a")], except: Vec::new() };
    let plans = [
        LinkPlan { pull: Some(pull(REPLACE)), ..LinkPlan::default() },
        LinkPlan { push: Some(push(&["a"])), forward, ..LinkPlan::default() },
    ];
    let mut pair = Pair::new(plans, [Fake { node: 1, ..Fake::default() }, source(FIVE)], options());
    pair.run();
    pair
}

pub(crate) fn request(path: &str) -> ForwardRequest {
    let value = Input::parse(br#"{"n":{".sv":{"increment":1}}}"#).unwrap();
    let commit = Commit::set(Path::parse(path).unwrap(), value).with_key("k");
    ForwardRequest { commit, wait: Duration::from_secs(10), hops: 0 }
}

#[test]
fn a_forwarded_write_is_answered_once_it_can_be_read_here() {
    let mut pair = forwarding();
    pair.event(0, Event::Forward(ForwardId(7), request("a/x")));
    pair.run();
    let (id, outcome) = pair.ends[0].answers.pop().unwrap();
    let committed = outcome.unwrap();
    let upstream = committed.upstream.unwrap();
    assert_eq!((id, upstream.rev, upstream.applied), (ForwardId(7), 6, true));
    assert_eq!(committed.rev, pair.ends[0].host.head(), "the commit here that holds it");
    assert_eq!(upstream.log_id, format!("{:032x}", 2));
    assert_eq!(pair.ends[1].routed[0].commit, request("a/x").commit, "it travels whole");
    assert_eq!(pair.ends[1].routed[0].hops, 1);
}

/// What fits no message is its caller's business: the link stays, and so do the others' writes.
#[test]
fn a_forwarded_write_too_large_for_a_message_ends_nothing_else() {
    let mut pair = forwarding();
    pair.ends[0].session.config.options.message_bytes_max = 4 << 10;
    let value = Input::parse(format!("\"{}\"", "\\u0001".repeat(1_000)).as_bytes()).unwrap();
    let commit = Commit::set(Path::parse("a/large").unwrap(), value);
    let large = ForwardRequest { commit, ..request("a/x") };
    pair.event(0, Event::Forward(ForwardId(7), large));
    pair.event(0, Event::Forward(ForwardId(8), request("a/x")));
    pair.run();
    let answers = std::mem::take(&mut pair.ends[0].answers);
    let [(ForwardId(7), Err(refused)), (ForwardId(8), Ok(_))] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(pair.ends[0].closed, None);
}

#[test]
fn a_forwarded_write_that_does_not_arrive_here_in_time_says_so() {
    let mut pair = forwarding();
    pair.ends[0].lazy = true;
    pair.event(0, Event::Forward(ForwardId(7), request("a/x")));
    pair.run();
    assert!(pair.ends[0].answers.is_empty());
    pair.pass(Duration::from_secs(2));
    let (_, outcome) = pair.ends[0].answers.pop().unwrap();
    assert!(!outcome.unwrap().upstream.unwrap().applied);
}

#[test]
fn a_forwarded_write_fails_by_what_is_known_of_it() {
    let reason = |outcome: &ForwardOutcome| {
        let error = &outcome.as_ref().unwrap_err().error;
        (error.kind(), error.fact("reason").map(str::to_owned))
    };
    let mut pair = forwarding();
    pair.cut = true;
    pair.event(0, Event::Forward(ForwardId(1), request("a/x")));
    pair.now.mono += Duration::from_secs(10);
    pair.event(0, Event::Tick);
    let unknown = (ErrorKind::OutcomeUnknown, Some("upstream_timeout".to_owned()));
    assert_eq!(reason(&pair.ends[0].answers[0].1), unknown);
    pair.event(0, Event::Forward(ForwardId(2), request("a/x")));
    pair.event(0, Event::Closed);
    assert_eq!(reason(&pair.ends[0].answers[1].1), unknown);
    pair.event(0, Event::Forward(ForwardId(3), request("a/x")));
    let unsent = (ErrorKind::Unavailable, Some("upstream_unavailable".to_owned()));
    assert_eq!(reason(&pair.ends[0].answers[2].1), unsent);

    let mut pair = forwarding();
    pair.event(0, Event::Forward(ForwardId(1), request("b/x")));
    pair.event(0, Event::Forward(ForwardId(2), ForwardRequest { hops: 3, ..request("a/x") }));
    pair.run();
    assert_eq!(pair.ends[0].answers.len(), 2);
    assert!(pair.ends[0].answers.iter().all(|(_, outcome)| outcome.is_err()));
    assert!(pair.ends[1].routed.is_empty(), "neither outside the grant nor too far");
    assert!(pair.ends[1].closed.is_none());
}
