//! Closing links, and whole replicators.

use std::sync::Arc;

use trellis_engine_traits::{EndedBy, ErrorKind};

use super::NetWorld;
use super::tools::{address, fill, link, number, numbered, pair, plain, receive, send, wait};
use crate::Case;

pub(super) const CASES: &[Case<NetWorld>] = &[
    Case::new(
        "repl.close.all_that_was_sent_arrives",
        &["repl.link.close", "repl.link.order"],
        delivers,
    ),
    Case::new("repl.close.unread_messages_do_no_harm", &["repl.link.close"], unread),
    Case::new("repl.close.nothing_after_it", &["repl.link.close"], nothing_after),
    Case::new("repl.close.a_long_reason_is_cut", &["repl.link.close"], long_reason),
    Case::new("repl.close.a_replicator_ends_its_links", &["repl.close.idempotent"], replicator),
];

fn delivers(world: &NetWorld) {
    let mut rng = world.rng("bodies");
    for (round, messages) in [0, 1, 2, 60].into_iter().enumerate() {
        let pair = pair(world);
        let (closing, other) = match round % 2 {
            0 => (&pair.dialed, &pair.accepted),
            _ => (&pair.accepted, &pair.dialed),
        };
        for index in 0..messages {
            send(&**closing, plain(numbered(&mut rng, index, 10_000)));
        }
        wait(closing.close("all is said")).expect("the peer is there");
        for index in 0..messages {
            assert_eq!(number(&receive(&**other)), index, "of {messages}");
        }
        for _ in 0..2 {
            assert!(wait(other.next()).expect("an orderly end").is_none());
        }
        let end = other.end().expect("it has ended");
        assert_eq!((end.by, end.reason.as_str()), (EndedBy::Peer, "all is said"));
        let late = wait(other.send(plain("late"))).expect_err("the peer is gone");
        assert_eq!(late.kind(), ErrorKind::Unavailable);
        wait(pair.host.replicator.close()).unwrap();
    }
}

fn unread(world: &NetWorld) {
    let pair = pair(world);
    for index in 0..40_u32 {
        send(&*pair.accepted, plain(vec![index as u8; 8_000]));
        send(&*pair.dialed, plain(index.to_le_bytes().to_vec()));
    }
    // It closes without having read what came; its own messages arrive all the same.
    wait(pair.dialed.close("enough")).unwrap();
    for index in 0..40_u32 {
        assert_eq!(number(&receive(&*pair.accepted)), index);
    }
    assert!(wait(pair.accepted.next()).expect("an orderly end").is_none());
    assert_eq!(pair.accepted.end().unwrap().reason, "enough");
}

fn nothing_after(world: &NetWorld) {
    let pair = pair(world);
    let (waiting, full) = (Arc::clone(&pair.dialed), Arc::clone(&pair.dialed));
    send(&*pair.accepted, plain("unread"));
    assert_eq!(receive(&*pair.dialed), "unread");
    let receiver = std::thread::spawn(move || wait(waiting.next()));
    fill(&*pair.dialed);
    let sender = std::thread::spawn(move || wait(full.send(plain("one too many"))));
    drop(wait(pair.dialed.close("first reason")));
    assert_eq!(receiver.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    if let Err(error) = sender.join().unwrap() {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    for _ in 0..2 {
        let sent = wait(pair.dialed.send(plain("late"))).expect_err("it is closed");
        assert_eq!(sent.kind(), ErrorKind::Closed);
        assert_eq!(wait(pair.dialed.next()).unwrap_err().kind(), ErrorKind::Closed);
        drop(wait(pair.dialed.close("second reason")));
    }
    let end = pair.dialed.end().unwrap();
    assert_eq!((end.by, end.reason.as_str()), (EndedBy::Here, "first reason"));
}

fn long_reason(world: &NetWorld) {
    let pair = pair(world);
    let longest = pair.guest.profile().limits.reason_bytes_max;
    let reason = "ü".repeat(300);
    wait(pair.accepted.close(&reason)).unwrap();
    assert!(wait(pair.dialed.next()).unwrap().is_none());
    let told = pair.dialed.end().unwrap().reason;
    assert!(reason.starts_with(&told), "{told}");
    assert!(told.len() <= longest && told.len() + 2 > longest, "{} bytes", told.len());
}

fn replicator(world: &NetWorld) {
    let pair = pair(world);
    let (_dialed, unaccepted) = {
        let dialed = wait(pair.guest.connect(&address(&pair.host))).unwrap();
        (link(&*pair.guest, &pair.host), dialed)
    };
    let host = Arc::clone(&pair.host.replicator);
    let accepting = std::thread::spawn(move || {
        // Links that were dialed may still be waiting; after them it is told.
        loop {
            match wait(host.accept()) {
                Ok(link) => drop(link),
                Err(error) => break error,
            }
        }
    });
    for _ in 0..2 {
        wait(pair.host.replicator.close()).expect("closing is fine, twice too");
    }
    assert_eq!(accepting.join().unwrap().kind(), ErrorKind::Closed);
    for link in [&*pair.dialed, &*unaccepted] {
        assert!(wait(link.next()).is_ok_and(|next| next.is_none()), "an orderly end");
        assert_eq!(link.end().unwrap().by, EndedBy::Peer);
    }
    assert_eq!(wait(pair.accepted.next()).unwrap_err().kind(), ErrorKind::Closed);
    let own = wait(pair.host.replicator.connect(&address(&pair.host))).expect_err("it is closed");
    assert_eq!(own.kind(), ErrorKind::Closed);
    assert_eq!(wait(pair.host.replicator.accept()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pair.host.replicator.profile(), pair.guest.profile());
    wait(pair.guest.close()).unwrap();
}
