//! A link whose connection is gone.

use std::pin::pin;
use std::sync::Arc;

use trellis_engine_traits::{EndedBy, ErrorKind};

use super::NetWorld;
use super::tools::{PAUSE, fill, link, number, pair, plain, poll_for, receive, send, wait};
use crate::Case;

pub(super) const CASES: &[Case<NetWorld>] = &[
    Case::new("repl.end.both_sides_notice_a_cut", &["repl.link.end"], cut),
    Case::new("repl.end.those_who_wait_are_told", &["repl.link.end"], waiting),
    Case::new("repl.end.a_dropped_link_is_a_closed_one", &["repl.link.close"], dropped),
];

fn cut(world: &NetWorld) {
    let pair = pair(world);
    send(&*pair.dialed, plain(0_u32.to_le_bytes().to_vec()));
    assert_eq!(number(&receive(&*pair.accepted)), 0);
    for index in 1..20_u32 {
        send(&*pair.dialed, plain(index.to_le_bytes().to_vec()));
    }
    pair.net.cut();
    // What had arrived is handed out, in order; then it is over, and stays so.
    let mut expected = 1;
    let error = loop {
        match wait(pair.accepted.next()) {
            Ok(Some(body)) => assert_eq!(number(&body), expected),
            Ok(None) => panic!("a cut is no orderly end"),
            Err(error) => break error,
        }
        expected += 1;
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(wait(pair.accepted.next()).unwrap_err().kind(), ErrorKind::Unavailable);
    let other = wait(pair.dialed.next()).expect_err("the other side notices too");
    assert_eq!(other.kind(), ErrorKind::Unavailable);
    for side in [&pair.dialed, &pair.accepted] {
        let end = side.end().expect("it has ended");
        assert_eq!(end.by, EndedBy::Transport, "{end:?}");
        let late = wait(side.send(plain("late"))).expect_err("nothing goes any more");
        assert_eq!(late.kind(), ErrorKind::Unavailable);
        wait(side.close("too late")).ok();
    }
    // The nodes themselves are well.
    let (dialed, accepted) = link(&*pair.guest, &pair.host);
    send(&*dialed, plain("again"));
    assert_eq!(receive(&*accepted), "again");
}

fn waiting(world: &NetWorld) {
    let pair = pair(world);
    fill(&*pair.dialed);
    let dialed = Arc::clone(&pair.dialed);
    let mut sending = pin!(pair.dialed.send(plain("one too many")));
    assert!(poll_for(sending.as_mut(), PAUSE).is_none());
    let receiver = std::thread::spawn(move || wait(dialed.next()));
    pair.net.cut();
    let sent = wait(sending).expect_err("nobody is there to take it");
    assert_eq!(sent.kind(), ErrorKind::Unavailable);
    let received = receiver.join().unwrap().expect_err("nothing comes any more");
    assert_eq!(received.kind(), ErrorKind::Unavailable);
}

fn dropped(world: &NetWorld) {
    let pair = pair(world);
    send(&*pair.dialed, plain("last words"));
    drop(pair.dialed);
    assert_eq!(receive(&*pair.accepted), "last words");
    assert!(wait(pair.accepted.next()).expect("an orderly end").is_none());
    assert_eq!(pair.accepted.end().unwrap().by, EndedBy::Peer);
}
