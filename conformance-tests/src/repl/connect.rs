//! Who gets a link and who does not, and that links know nothing of each other.

use std::pin::pin;
use std::time::Duration;

use trellis_engine_traits::{EndedBy, ErrorKind, LinkToken, PeerAddress};

use super::tools::{fill, link, pair, plain, poll_for, receive, send, wait};
use super::{NetWorld, Pass};
use crate::Case;

pub(super) const CASES: &[Case<NetWorld>] = &[
    Case::new("repl.connect.strangers_are_refused", &["repl.connect.refused"], strangers),
    Case::new("repl.connect.without_a_token_nobody", &["repl.connect.denied"], denied),
    Case::new("repl.connect.links_are_apart", &["repl.connect.apart"], apart),
    Case::new("repl.connect.many_links_at_once", &["repl.connect.apart", "repl.link.order"], many),
];

fn strangers(world: &NetWorld) {
    let net = world.engine();
    let guest = net.guest("guest").unwrap();
    let strangers = net.strangers();
    assert!(strangers.len() > 3, "too few strangers to show anything");
    for (url, expected) in strangers {
        let address = PeerAddress { url: url.clone(), token: None };
        let error = wait(guest.connect(&address)).expect_err("a link that carries nothing");
        assert_eq!(error.kind(), expected, "{url}: {error}");
    }
    // A refusal leaves nothing behind.
    let host = net.host("host", &[]).unwrap();
    let (dialed, accepted) = link(&*guest, &host);
    send(&*dialed, plain("hello"));
    assert_eq!(receive(&*accepted), "hello");
}

fn denied(world: &NetWorld) {
    let net = world.engine();
    let pass = |name, role, token| Pass { name, role, token: LinkToken::new(token) };
    let passes = [
        pass("one", "edge", "token-of-the-first-peer"),
        pass("two", "relay", "token-of-the-second-peer"),
    ];
    let host = net.host("host", &passes).unwrap();
    let guest = net.guest("guest").unwrap();
    for wrong in
        [None, Some("token-of-a-third-stranger"), Some("token-of-the-first-pee"), Some("x")]
    {
        let token = wrong.map(LinkToken::new);
        let address = PeerAddress { url: host.url.clone(), token };
        let error = wait(guest.connect(&address)).expect_err("nobody without a token");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let said = format!("{error} {error:?} {address:?}");
        assert!(!wrong.is_some_and(|wrong| wrong.len() > 1 && said.contains(wrong)), "{said}");
    }
    for pass in &passes {
        let address = PeerAddress { url: host.url.clone(), token: Some(pass.token.clone()) };
        let dialed = wait(guest.connect(&address)).expect("the token is right");
        // Those before it left no link that would be accepted now.
        let accepted = wait(host.replicator.accept()).unwrap();
        let peer = accepted.peer();
        assert_eq!(peer.name.as_deref(), Some(pass.name));
        assert_eq!(peer.role.as_deref(), Some(pass.role));
        assert!(peer.is_local, "{peer:?} is on this machine");
        assert!(!peer.address.is_empty() && !dialed.peer().address.is_empty());
        send(&*accepted, plain("welcome"));
        assert_eq!(receive(&*dialed), "welcome");
        let said = format!("{dialed:?} {accepted:?} {guest:?} {:?}", host.replicator);
        assert!(!said.contains(pass.token.reveal()), "{said}");
    }
}

fn apart(world: &NetWorld) {
    let first = pair(world);
    let (dialed, accepted) = link(&*first.guest, &first.host);
    let taken = fill(&*first.dialed);
    // One is full, and a send waits for it; the other goes on, both ways.
    let mut waiting = pin!(first.dialed.send(plain("one too many")));
    assert!(poll_for(waiting.as_mut(), Duration::ZERO).is_none(), "it is full");
    for round in 0..50_u32 {
        send(&*dialed, plain(round.to_le_bytes().to_vec()));
        assert_eq!(*receive(&*accepted), round.to_le_bytes());
        send(&*accepted, plain("yes"));
        assert_eq!(receive(&*dialed), "yes");
    }
    // One is gone; the other goes on.
    wait(first.dialed.close("enough")).unwrap();
    drop(first.accepted);
    send(&*dialed, plain("still here"));
    assert_eq!(receive(&*accepted), "still here");
    assert!(taken > 0 && accepted.end().is_none());
    assert_eq!(first.dialed.end().unwrap().by, EndedBy::Here);
}

fn many(world: &NetWorld) {
    let net = world.engine();
    let host = net.host("host", &[]).unwrap();
    let guests: Vec<_> = (0..8).map(|_| net.guest("guest").unwrap()).collect();
    let links: Vec<_> = (0..64).map(|index| link(&*guests[index % 8], &host)).collect();
    for round in 0..20_u32 {
        for (index, (dialed, _)) in links.iter().enumerate() {
            send(&**dialed, plain(format!("{index} {round}")));
        }
    }
    for (index, (_, accepted)) in links.iter().enumerate() {
        for round in 0..20 {
            assert_eq!(receive(&**accepted), format!("{index} {round}"));
        }
    }
}
