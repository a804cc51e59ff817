//! Nodes over real threads and links within the process: what a driver adds to sessions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kept;
mod links;
mod patience;
mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use links::{Defective, Hearing, Muffled, greet, say_hello, until_ended};
use serde_json::json;
use site::{Disks, Site, central, edge, options, path};
use trellis_engine_traits::{ErrorKind, LinkToken};
use trellis_repl_loopback::{Faults, LinkOpening, LoopbackHub, LoopbackPass};
use trellis_topology::{
    FeedState, LinkState, LinkStatus, Mode, NodeOptions, RefusalReason, SessionOptions,
    SlotOptions, TopologySpec,
};
use trellis_tree::{Commit, Input, Path};

#[test]
fn two_nodes_replicate_each_path_in_its_mode() {
    let hub = LoopbackHub::new();
    let central = Site::new(&hub, "central", central());
    central.set("users/u1", json!("before")).unwrap();
    central.set("config/c1", json!(1)).unwrap();
    let modes = [
        ("own", Mode::Primary),
        ("users", Mode::Replica),
        ("shared", Mode::Sync),
        ("config", Mode::Readonly),
        ("logs", Mode::Writeonly),
    ];
    let edge = Site::new(&hub, "edge", edge(&modes));
    edge.set("own/o1", json!("mine")).unwrap();
    edge.set("shared/e", json!("from the edge")).unwrap();
    edge.set("logs/l1", json!("line")).unwrap();
    central.set("shared/c", json!("from the center")).unwrap();

    edge.until_holds("users/u1", &json!("before"));
    edge.until_holds("config/c1", &json!(1));
    edge.until_holds("shared/c", &json!("from the center"));
    central.until_holds("own/o1", &json!("mine"));
    central.until_holds("shared/e", &json!("from the edge"));
    central.until_holds("logs/l1", &json!("line"));

    edge.until_up();
    central.set("users/u1", json!("after")).unwrap();
    edge.until_holds("users/u1", &json!("after"));
    central.set("logs/l1", json!("changed there")).unwrap();
    central.set("shared/c", json!("again")).unwrap();
    edge.until_holds("shared/c", &json!("again"));
    assert_eq!(edge.get("logs/l1"), json!("line"), "nothing comes back");
    let refused = edge.key_of_failure("config/c1");
    assert_eq!(refused, (ErrorKind::Denied, Some("read_only_path".into())));
    edge.until("all is ready", || edge.node.not_ready(&Path::root()).is_empty());
}

#[test]
fn a_feed_goes_on_where_it_was_after_a_restart_of_either_end() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("shared", Mode::Sync)]));
    center.set("shared/a", json!(1)).unwrap();
    edge.until_holds("shared/a", &json!(1));
    let edge = edge.again(&hub);
    center.set("shared/b", json!(2)).unwrap();
    edge.until_holds("shared/b", &json!(2));
    edge.until_up();
    let pages = edge.link("upstream").session.pull.unwrap().pages;
    assert_eq!(pages, 0, "the position was kept");
    let center = center.again(&hub);
    center.set("shared/c", json!(3)).unwrap();
    edge.until_holds("shared/c", &json!(3));
    edge.set("shared/d", json!(4)).unwrap();
    center.until_holds("shared/d", &json!(4));
}

#[test]
fn a_write_of_a_replica_path_is_made_upstream_and_read_here_when_it_is_answered() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("users", Mode::Replica)]));
    edge.until_up();
    for number in 0..20 {
        let committed = edge.set("users/u1", json!(number)).unwrap();
        let upstream = committed.upstream.unwrap();
        assert!(upstream.applied);
        assert_eq!(upstream.log_id, center.tree.identity().log_id);
        assert_eq!(edge.get("users/u1"), json!(number), "the caller reads its own write");
        assert_eq!(center.get("users/u1"), json!(number));
    }
    let forwards = edge.link("upstream").session.forwards;
    assert_eq!((forwards.unavailable, forwards.unknown), (0, 0));
}

#[test]
fn a_write_passes_a_relay_to_the_node_that_owns_its_path() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let modes = [("users", Mode::Replica)];
    let both = TopologySpec { peers: central().peers, ..edge(&modes) };
    let relay = Site::new(&hub, "relay", both);
    relay.until_up();
    let below = TopologySpec { primary_url: Some("loopback:relay".into()), ..edge(&modes) };
    let edge = Site::new(&hub, "edge", below);
    edge.until_up();
    edge.set("users/u1", json!("from below")).unwrap();
    assert_eq!(center.get("users/u1"), json!("from below"));
    edge.until_holds("users/u1", &json!("from below"));
    assert_eq!(relay.get("users/u1"), json!("from below"));
}

#[test]
fn a_write_without_an_answer_may_have_happened_and_its_key_makes_repeating_it_harmless() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let hearing = Arc::new(Hearing::default());
    let inner = hub.endpoint("edge", Vec::new()).unwrap();
    let links = Arc::new(Muffled { inner, hearing: Arc::clone(&hearing) });
    let short = NodeOptions { forward_wait: Duration::from_millis(200), ..options("edge") };
    let spec = edge(&[("users", Mode::Replica)]);
    let edge = Site::over(links, short, spec, Disks::default());
    edge.until_up();
    hearing.hold(true);
    let visit = || {
        let value = Input::parse(br#"{".sv":{"increment":1}}"#).unwrap();
        edge.tree.commit(Commit::set(path("users/visits"), value).with_key("visit"))
    };
    let error = visit().unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.fact("reason"), Some("upstream_timeout"));
    center.until_holds("users/visits", &json!(1));
    assert_eq!(edge.get("users/visits"), json!(null), "nothing of it came back");
    hearing.hold(false);
    // However busy the machine is, the answer comes within one of the waits.
    edge.until("it is answered", || visit().is_ok());
    edge.until_holds("users/visits", &json!(1));
    assert_eq!(center.get("users/visits"), json!(1), "it happened once");
    assert!(edge.link("upstream").session.forwards.unknown >= 1);
}

#[test]
fn without_its_upstream_a_node_starts_reads_and_refuses_what_it_cannot_send() {
    let hub = LoopbackHub::new();
    let edge = Site::new(&hub, "edge", edge(&[("users", Mode::Replica), ("own", Mode::Primary)]));
    let unavailable = (ErrorKind::Unavailable, Some("upstream_unavailable".to_owned()));
    assert_eq!(edge.key_of_failure("users/u1"), unavailable);
    edge.set("own/o1", json!(1)).unwrap();
    assert_eq!(edge.get("own/o1"), json!(1));
    assert!(edge.node.not_ready(&path("users/u1"))[0].reason == "not_connected");
    assert!(edge.node.not_ready(&path("own/o1")).is_empty());
    edge.until("it was tried twice", || edge.link("upstream").attempts >= 2);
    assert!(edge.link("upstream").last_error.is_some());

    let center = Site::new(&hub, "central", central());
    edge.until_up();
    edge.set("users/u1", json!(2)).unwrap();
    assert!(edge.link("upstream").last_error.is_none());
    center.node.close();
    edge.until("it is noticed", || edge.link("upstream").session.link != LinkState::Up);
    edge.until("writes are refused", || edge.set("users/u1", json!(3)).is_err());
    assert_eq!(edge.key_of_failure("users/u1"), unavailable);
    assert_eq!(edge.get("users/u1"), json!(2), "reads go on");
}

#[test]
fn a_node_that_dials_from_elsewhere_with_its_token_goes_on_with_its_slot() {
    let hub = LoopbackHub::new();
    let token = || LinkToken::new("token-of-the-edges");
    let pass = LoopbackPass { name: None, role: Some("edge".into()), token: token() };
    let links = Arc::new(hub.endpoint("central", vec![pass]).unwrap());
    let center = Site::over(links, options("central"), central(), Disks::default());
    let disks = Disks::default();
    for (round, place) in ["home", "office"].into_iter().enumerate() {
        let tokens = [("upstream".to_owned(), token())].into();
        let with_token = NodeOptions { tokens, ..options(place) };
        let spec = edge(&[("shared", Mode::Sync)]);
        let edge = Site::on(&hub, with_token, spec, disks.clone());
        center.set("shared/a", json!(round)).unwrap();
        edge.until_holds("shared/a", &json!(round));
        edge.node.close();
        edge.tree.close().unwrap();
    }
    assert_eq!(center.node.status().unwrap().slots.len(), 1);
}

#[test]
fn after_a_cut_both_ends_catch_up() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("shared", Mode::Sync)]));
    edge.until_up();
    for round in 0..5 {
        assert!(hub.cut("edge", "central") > 0);
        center.set(&format!("shared/c{round}"), json!(round)).unwrap();
        edge.set(&format!("shared/e{round}"), json!(round)).unwrap();
        edge.until_holds(&format!("shared/c{round}"), &json!(round));
        center.until_holds(&format!("shared/e{round}"), &json!(round));
    }
    assert_eq!(center.get("shared"), edge.get("shared"));
    assert!(edge.link("upstream").attempts > 5);
    // Each round brought something, as a commit or in a page.
    edge.until("it counts over all its links", || {
        let pull = edge.link("upstream").session.pull.unwrap();
        pull.commits + pull.pages >= 5
    });
    center.until("the old links are gone", || center.node.status().unwrap().links.len() == 1);
    let status = center.node.status().unwrap();
    assert_eq!(status.slots.len(), 1, "the same follower each time");
    assert!(status.ended.0 >= 5);
    center.until("it counts what has ended, too", || {
        let status = center.node.status().unwrap();
        let pushes = [&status.links[0].session, &status.ended.1].map(|one| one.push.as_ref());
        let sent = pushes.map(|push| push.map_or(0, |push| push.commits + push.pages));
        sent[1] > 0 && sent[0] + sent[1] >= 5
    });
    center.until("the follower lacks nothing", || {
        center.node.status().unwrap().slots[0].lag == Some(Duration::ZERO)
    });
}

#[test]
fn ten_followers_have_everything_and_nothing_of_each_other_twice() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let name = |number: usize| format!("edge-{number}");
    let spec = || edge(&[("shared", Mode::Sync)]);
    let edges: Vec<Site> = (0..10).map(|number| Site::new(&hub, &name(number), spec())).collect();
    for edge in &edges {
        edge.until_up();
    }
    for round in 0..10 {
        center.set(&format!("shared/central/{round}"), json!(round)).unwrap();
        for edge in &edges {
            edge.set(&format!("shared/{}/{round}", edge.name), json!(round)).unwrap();
        }
    }
    let leaves = 11 * 10;
    let count = |site: &Site| {
        let all = site.get("shared");
        all.as_object().map_or(0, |all| {
            all.values().map(|one| one.as_object().map_or(0, serde_json::Map::len)).sum()
        })
    };
    for site in edges.iter().chain([&center]) {
        site.until("everything is there", || count(site) == leaves);
    }
    assert_eq!(center.node.status().unwrap().slots.len(), 10);
    for edge in &edges {
        let pull = edge.link("upstream").session.pull.unwrap();
        assert_eq!(pull.echoes, 0, "nobody is sent what it wrote");
    }
}

#[test]
fn followers_that_come_together_are_filled_in_turn() {
    let hub = LoopbackHub::new();
    let slots = SlotOptions { fills_at_once: 1, ..SlotOptions::default() };
    let center =
        Site::on(&hub, NodeOptions { slots, ..options("central") }, central(), Disks::default());
    for number in 0..500 {
        center.set(&format!("shared/{number}"), json!(number)).unwrap();
    }
    let spec = || edge(&[("shared", Mode::Sync)]);
    let edges: Vec<Site> =
        (0..5).map(|number| Site::new(&hub, &format!("edge-{number}"), spec())).collect();
    for edge in &edges {
        edge.until_up();
        assert_eq!(edge.get("shared"), center.get("shared"));
    }
    center.until("all places are free", || center.node.status().unwrap().fills == (0, 0));
}

#[test]
fn a_node_that_is_here_already_is_refused_and_the_first_one_stays() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("shared", Mode::Sync)]));
    edge.until_up();
    let copy = hub.endpoint("copy", Vec::new()).unwrap();
    let ended = say_hello(&copy, edge.tree.node_id());
    assert_eq!(ended, Some(RefusalReason::DuplicateNode));
    center.set("shared/a", json!(1)).unwrap();
    edge.until_holds("shared/a", &json!(1));
    assert_eq!(edge.link("upstream").attempts, 1);
    assert_eq!(say_hello(&copy, 7), None, "another one comes in");
}

#[test]
fn a_node_that_dials_again_takes_the_place_of_its_link_and_a_copy_of_it_does_not() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let caller = hub.endpoint("caller", Vec::new()).unwrap();
    let (first, refused) = greet(&caller, 7, (1, 1));
    assert_eq!(refused, None);
    let duplicate = Some(RefusalReason::DuplicateNode);
    assert_eq!(greet(&caller, 7, (2, 2)).1, duplicate, "another process: a copy");
    assert_eq!(greet(&caller, 7, (1, 1)).1, duplicate, "an older link that came late");
    let (second, refused) = greet(&caller, 7, (1, 2));
    assert_eq!(refused, None, "it has lost the first link, or it would not dial");
    until_ended(&*first);
    assert_eq!(greet(&caller, 7, (2, 3)).1, duplicate);
    // Its thread says that it is up some time after it has told its peer.
    center.until("one link is left, and up", || {
        let links = center.node.status().unwrap().links;
        matches!(links.as_slice(), [link] if link.session.link == LinkState::Up)
    });
    drop(second);
}

#[test]
fn a_link_that_is_half_open_at_the_hub_does_not_keep_its_node_out() {
    let hub = LoopbackHub::new();
    let half_open = |opening: &LinkOpening| Faults {
        half_open_after: (opening.number == 0).then_some(30),
        ..Faults::default()
    };
    hub.plan_faults(Some(half_open));
    // The hub would notice by itself after this test.
    let hour = Duration::from_secs(3600);
    let patient = SessionOptions { dead_after: hour, ..SessionOptions::default() };
    // The old link does not count against the new one either.
    let patient = NodeOptions { session: patient, links_max: 1, ..options("central") };
    let center = Site::on(&hub, patient, central(), Disks::default());
    let lively = SessionOptions {
        heartbeat: Duration::from_millis(100),
        dead_after: Duration::from_secs(1),
        ..SessionOptions::default()
    };
    let lively = NodeOptions { session: lively, ..options("edge") };
    let spec = edge(&[("shared", Mode::Sync)]);
    let edge = Site::on(&hub, lively, spec, Disks::default());
    edge.until("it dialed again", || edge.link("upstream").attempts > 1);
    center.set("shared/a", json!(1)).unwrap();
    edge.until_holds("shared/a", &json!(1));
    edge.set("shared/b", json!(2)).unwrap();
    center.until_holds("shared/b", &json!(2));
    assert!(center.node.status().unwrap().slots[0].active, "the old link's end is not its end");
}

#[test]
fn more_peers_than_there_is_room_for_are_told_so() {
    let hub = LoopbackHub::new();
    let room = NodeOptions { links_max: 1, ..options("central") };
    let _center = Site::on(&hub, room, central(), Disks::default());
    let first = Site::new(&hub, "first", edge(&[("shared", Mode::Sync)]));
    first.until_up();
    let second = Site::new(&hub, "second", edge(&[("shared", Mode::Sync)]));
    let refused = |error: &str| error.starts_with("busy");
    second.until("it is refused", || {
        second.link("upstream").last_error.is_some_and(|error| refused(&error))
    });
    first.node.close();
    second.until_up();
}

/// Promise: a node that would keep its peers awake for ever does not start, nor one that would have
/// its sources wait for its positions.
#[test]
fn a_node_whose_positions_would_wake_its_peers_for_ever_is_refused() {
    let hub = LoopbackHub::new();
    let refused = |links_max: usize, skips: u64| {
        let mut tight = options("tight");
        tight.session.skips_unwritten_max = skips;
        tight.links_max = links_max;
        let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Site::on(&hub, tight, central(), Disks::default())
        }));
        started.is_err()
    };
    assert!(refused(64, 127) && !refused(64, 128));
    assert!(refused(64, 65_537) && !refused(64, 65_536));
    assert!(!refused(10_000, 40_000), "as many links as may be configured");
}

#[test]
fn a_node_closes_while_its_peer_takes_nothing() {
    let hub = LoopbackHub::new();
    let delayed = |_: &LinkOpening| Faults {
        delay: Duration::from_millis(1),
        bytes_per_second: Some(1 << 20),
        ..Faults::default()
    };
    hub.plan_faults(Some(delayed));
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("shared", Mode::Sync)]));
    edge.until("the feed is open", || {
        hub.advance(Duration::from_millis(10));
        let links = center.node.status().unwrap().links;
        let follows = |link: &LinkStatus| {
            link.session.push.as_ref().is_some_and(|push| push.state == FeedState::Tail)
        };
        links.iter().any(follows)
    });
    // From here on nothing arrives any more.
    for number in 0..40 {
        center.set(&format!("shared/{number}"), json!("x".repeat(100_000))).unwrap();
    }
    center.until("the link is full", || {
        let links = center.node.status().unwrap().links;
        links
            .iter()
            .any(|link| link.session.push.as_ref().is_some_and(|push| push.in_flight > 500_000))
    });
    center.node.close();
    edge.node.close();
    edge.node.close();
    let refused = edge.set("shared/late", json!(1)).unwrap();
    assert!(refused.upstream.is_none(), "what is merged is written here all the same");
}

#[test]
fn an_operator_compares_fills_anew_and_forgets_followers() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let retry_after = Duration::from_millis(50);
    let session = SessionOptions { retry_after, ..SessionOptions::default() };
    let impatient = NodeOptions { session, ..options("edge") };
    let spec = edge(&[("users", Mode::Replica)]);
    let edge = Site::on(&hub, impatient, spec, Disks::default());
    assert_eq!(edge.node.verify(Some("nobody")).unwrap_err().kind(), ErrorKind::NotFound);
    edge.until_up();
    center.set("users/u1", json!(1)).unwrap();
    edge.until_holds("users/u1", &json!(1));
    let pulled = || edge.link("upstream").session.pull.unwrap();
    edge.node.verify(None).unwrap();
    edge.until("it is compared", || pulled().verified >= 1);
    assert_eq!(pulled().diverged, 0);
    let pages = pulled().pages;
    edge.node.resync("upstream").unwrap();
    edge.until("it is filled", || pulled().pages > pages && pulled().state == FeedState::Tail);
    let slot = center.node.status().unwrap().slots[0].consumer.clone();
    assert!(center.node.drop_slot(&slot).unwrap());
    assert!(!center.node.drop_slot(&slot).unwrap());
    center.set("users/u1", json!(2)).unwrap();
    edge.until_holds("users/u1", &json!(2));
}

#[test]
fn a_defect_in_the_thread_of_a_link_ends_the_link_and_nothing_else() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let inner = hub.endpoint("edge", Vec::new()).unwrap();
    let defects = Arc::new(AtomicU32::new(3));
    let links = Arc::new(Defective { inner, defects: Arc::clone(&defects) });
    let spec = edge(&[("shared", Mode::Sync)]);
    let edge = Site::over(links, options("edge"), spec, Disks::default());
    center.set("shared/a", json!(1)).unwrap();
    edge.until_holds("shared/a", &json!(1));
    edge.set("shared/b", json!(2)).unwrap();
    center.until_holds("shared/b", &json!(2));
    assert_eq!(defects.load(Ordering::Acquire), 0);
    assert!(edge.link("upstream").attempts > 3);
}
