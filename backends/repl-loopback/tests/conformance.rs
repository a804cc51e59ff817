//! The promises of `Replicator` within a process, and what the fault plan does to links.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use trellis_conformance::{matrix, repl};
use trellis_engine_traits::{
    EndedBy, ErrorKind, LinkMessage, PeerAddress, PeerLink, Replicator, Result,
};
use trellis_repl_loopback::{Faults, LinkOpening, LoopbackHub, LoopbackReplicator};

/// What a future answers at once, if it does: nothing here needs a second look.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

struct Nodes {
    hub: LoopbackHub,
    central: LoopbackReplicator,
    edge: LoopbackReplicator,
}

fn nodes(faults: Faults) -> Nodes {
    let hub = LoopbackHub::new();
    let central = hub.endpoint("central", Vec::new()).unwrap();
    let edge = hub.endpoint("edge", Vec::new()).unwrap();
    hub.plan_faults(Some(move |_: &LinkOpening| faults.clone()));
    Nodes { hub, central, edge }
}

impl Nodes {
    fn dial(&self) -> Result<Box<dyn PeerLink>> {
        let address = PeerAddress { url: self.central.url(), token: None };
        now(self.edge.connect(&address)).unwrap()
    }

    fn accept(&self) -> Box<dyn PeerLink> {
        now(self.central.accept()).unwrap().unwrap()
    }
}

fn send(link: &dyn PeerLink, text: &'static str) -> Option<Result<()>> {
    now(link.send(LinkMessage { body: Bytes::from_static(text.as_bytes()), compress: false }))
}

#[test]
fn conforms() {
    let _shown = repl::suite(&matrix::loopback_repl());
}

#[test]
fn a_name_is_given_once_while_it_is_open() {
    let hub = LoopbackHub::new();
    let first = hub.endpoint("one", Vec::new()).unwrap();
    let second = hub.endpoint("one", Vec::new()).expect_err("it is open");
    assert_eq!(second.kind(), ErrorKind::AlreadyExists);
    drop(first);
    assert!(hub.endpoint("one", Vec::new()).is_ok());
}

#[test]
fn a_delayed_message_arrives_when_the_time_of_the_hub_has_come() {
    let nodes = nodes(Faults { delay: Duration::from_millis(50), ..Faults::default() });
    let (dialed, accepted) = (nodes.dial().unwrap(), nodes.accept());
    send(&*dialed, "hello").unwrap().unwrap();
    now(dialed.close("bye")).unwrap().unwrap();
    nodes.hub.advance(Duration::from_millis(49));
    assert!(now(accepted.next()).is_none(), "too early");
    nodes.hub.advance(Duration::from_millis(1));
    assert_eq!(now(accepted.next()).unwrap().unwrap().unwrap(), "hello");
    assert!(now(accepted.next()).unwrap().unwrap().is_none());
}

#[test]
fn a_throttled_link_takes_its_time() {
    let nodes = nodes(Faults { bytes_per_second: Some(1_000), ..Faults::default() });
    let (dialed, accepted) = (nodes.dial().unwrap(), nodes.accept());
    let body = Bytes::from(vec![0; 10_000]);
    now(dialed.send(LinkMessage { body, compress: false })).unwrap().unwrap();
    nodes.hub.advance(Duration::from_secs(9));
    assert!(now(accepted.next()).is_none(), "10,000 bytes at 1,000 a second");
    nodes.hub.advance(Duration::from_secs(2));
    assert!(now(accepted.next()).unwrap().unwrap().is_some());
}

#[test]
fn a_link_breaks_after_as_many_messages_as_planned() {
    let nodes = nodes(Faults { break_after: Some(2), ..Faults::default() });
    let (dialed, accepted) = (nodes.dial().unwrap(), nodes.accept());
    send(&*dialed, "one").unwrap().unwrap();
    send(&*accepted, "two").unwrap().unwrap();
    send(&*dialed, "three").unwrap().unwrap();
    assert_eq!(now(accepted.next()).unwrap().unwrap().unwrap(), "one");
    let error = now(accepted.next()).unwrap().expect_err("it broke");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(now(dialed.next()).unwrap().unwrap().unwrap(), "two");
    assert_eq!(dialed.end().unwrap().by, EndedBy::Transport);
}

#[test]
fn a_half_open_link_takes_everything_and_delivers_nothing() {
    let nodes = nodes(Faults { half_open_after: Some(1), ..Faults::default() });
    let (dialed, accepted) = (nodes.dial().unwrap(), nodes.accept());
    send(&*dialed, "one").unwrap().unwrap();
    for _ in 0..100_000 {
        send(&*dialed, "lost").expect("it never waits").unwrap();
    }
    assert_eq!(now(accepted.next()).unwrap().unwrap().unwrap(), "one");
    now(dialed.close("nobody hears this")).unwrap().unwrap();
    assert!(now(accepted.next()).is_none());
    assert!(accepted.end().is_none(), "nothing tells this side");
}

#[test]
fn a_refused_and_a_duplicated_link() {
    let refused = nodes(Faults { refuse: true, ..Faults::default() });
    assert_eq!(refused.dial().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(now(refused.central.accept()).is_none());
    let doubled = nodes(Faults { duplicate: true, ..Faults::default() });
    let dialed = doubled.dial().unwrap();
    let (first, ghost) = (doubled.accept(), doubled.accept());
    send(&*dialed, "hello").unwrap().unwrap();
    assert_eq!(now(first.next()).unwrap().unwrap().unwrap(), "hello");
    assert_eq!(first.peer(), ghost.peer());
    assert!(now(ghost.next()).is_none() && ghost.end().is_none());
    assert_eq!(doubled.hub.cut("edge", "central"), 2);
    assert!(ghost.end().is_some());
}
