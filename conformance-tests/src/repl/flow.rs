//! Messages on their way: whole, in order, both ways, bounded, and none lost to a dropped future.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, LinkMessage};

use super::NetWorld;
use super::tools::{
    PAUSE, fill, number, numbered, pair, patience, plain, poll_for, poll_once, receive, send,
    squeezed, wait, with_patience,
};
use crate::Case;

pub(super) const CASES: &[Case<NetWorld>] = &[
    Case::new("repl.order.as_they_were_sent", &["repl.link.order", "repl.link.whole"], in_order),
    Case::new("repl.whole.of_every_size", &["repl.link.whole"], of_every_size),
    Case::new("repl.duplex.both_ways_at_once", &["repl.link.duplex"], both_ways),
    Case::new("repl.duplex.one_way_stuck", &["repl.link.duplex", "repl.link.bounded"], one_stuck),
    Case::new("repl.bounded.send_waits", &["repl.link.bounded", "repl.link.order"], send_waits),
    Case::new("repl.too_large.refused_and_goes_on", &["repl.link.too_large"], too_large),
    Case::new("repl.cancel.nothing_is_lost", &["repl.link.cancel"], cancelled),
];

fn in_order(world: &NetWorld) {
    const MESSAGES: u32 = 1_500;
    let pair = pair(world);
    let mut rng = world.rng("messages");
    let messages: Vec<LinkMessage> = (0..MESSAGES)
        .map(|index| {
            let len = if rng.one_in(200) { 200 << 10 } else { 4 + rng.below(3_000) };
            LinkMessage { body: numbered(&mut rng, index, len), compress: rng.one_in(2) }
        })
        .collect();
    let (sent, dialed) = (messages.clone(), Arc::clone(&pair.dialed));
    let sender = std::thread::spawn(move || {
        for message in sent {
            send(&*dialed, message);
        }
    });
    for message in messages {
        let body = receive(&*pair.accepted);
        assert_eq!(number(&body), number(&message.body), "out of order");
        assert!(body == message.body, "message {} has other bytes", number(&body));
    }
    sender.join().unwrap();
    assert!(poll_once(pair.accepted.next()).is_none(), "a message that nobody sent");
}

fn of_every_size(world: &NetWorld) {
    let pair = pair(world);
    let mut rng = world.rng("bodies");
    let largest = pair.guest.profile().limits.message_bytes_max;
    for len in [0, 1, 2, 125, 126, 255, 256, 65_535, 65_536, 70_000, largest - 1, largest] {
        for body in [vec![0; len], rng.bytes(len)] {
            let body = Bytes::from(body);
            for compress in [false, true] {
                send(&*pair.accepted, LinkMessage { body: body.clone(), compress });
                let arrived = receive(&*pair.dialed);
                assert!(arrived == body, "{len} bytes became {}", arrived.len());
            }
        }
    }
}

fn both_ways(world: &NetWorld) {
    const MESSAGES: u32 = 400;
    let pair = pair(world);
    let sides = [&pair.dialed, &pair.accepted];
    let patience = patience();
    std::thread::scope(|scope| {
        for (seed, link) in sides.into_iter().enumerate() {
            let send_all = move || {
                let mut rng = crate::Seed(seed as u64).rng();
                for index in 0..MESSAGES {
                    let len = 4 + rng.below(20_000);
                    let body = numbered(&mut rng, index, len);
                    send(&**link, LinkMessage { body, compress: rng.one_in(2) });
                }
            };
            scope.spawn(move || with_patience(patience, send_all));
            let receive_all = move || {
                for index in 0..MESSAGES {
                    assert_eq!(number(&receive(&**link)), index);
                }
            };
            scope.spawn(move || with_patience(patience, receive_all));
        }
    });
}

fn one_stuck(world: &NetWorld) {
    let pair = pair(world);
    let taken = fill(&*pair.dialed);
    // Nobody reads what was dialed, and a send waits there; the other way carries far more than any
    // buffer holds.
    let mut waiting = pin!(pair.dialed.send(plain(taken.to_le_bytes().to_vec())));
    assert!(poll_once(waiting.as_mut()).is_none(), "it is full");
    let mut rng = world.rng("bodies");
    for index in 0..400 {
        let body = numbered(&mut rng, index, 32 << 10);
        send(&*pair.accepted, plain(body.clone()));
        assert!(receive(&*pair.dialed) == body, "message {index} of the free direction");
    }
    for index in 0..taken {
        assert_eq!(number(&receive(&*pair.accepted)), index);
    }
    wait(waiting).expect("there is room now");
    assert_eq!(number(&receive(&*pair.accepted)), taken);
}

fn send_waits(world: &NetWorld) {
    let pair = pair(world);
    let taken = fill(&*pair.dialed);
    let limits = pair.guest.profile().limits;
    assert!(taken as usize * (64 << 10) >= limits.buffered_bytes_max / 2, "{taken} is too few");
    // It still waits, and goes on as soon as the peer takes something.
    let waiting = pair.dialed.send(plain(taken.to_le_bytes().to_vec()));
    let mut waiting = pin!(waiting);
    assert!(poll_for(waiting.as_mut(), PAUSE).is_none(), "it took one more while it was full");
    let accepted = Arc::clone(&pair.accepted);
    let reader = std::thread::spawn(move || {
        for index in 0..=taken {
            assert_eq!(number(&receive(&*accepted)), index, "lost or doubled while it waited");
        }
    });
    wait(waiting).expect("there is room now");
    reader.join().unwrap();
}

fn too_large(world: &NetWorld) {
    let pair = pair(world);
    let largest = pair.guest.profile().limits.message_bytes_max;
    for link in [&pair.dialed, &pair.accepted] {
        for message in [plain(vec![7; largest + 1]), squeezed(vec![7; largest + 1])] {
            let error = wait(link.send(message)).expect_err("beyond the limit");
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
            let limit = error.fact("message_bytes_max");
            assert_eq!(limit, Some(largest.to_string().as_str()), "the limit is named");
        }
    }
    send(&*pair.dialed, plain("goes on"));
    assert_eq!(receive(&*pair.accepted), "goes on");
    assert!(pair.accepted.end().is_none());
}

fn cancelled(world: &NetWorld) {
    const MESSAGES: u32 = 300;
    let pair = pair(world);
    let dialed = Arc::clone(&pair.dialed);
    let sender = std::thread::spawn(move || {
        for index in 0..MESSAGES {
            send(&*dialed, plain(index.to_le_bytes().to_vec()));
        }
    });
    // A future that was polled and dropped takes nothing with it.
    let mut expected = 0;
    while expected < MESSAGES {
        let body = match poll_once(pair.accepted.next()) {
            Some(body) => body.expect("the link stands").expect("there is a message"),
            None => receive(&*pair.accepted),
        };
        assert_eq!(number(&body), expected, "a dropped `next` took a message with it");
        expected += 1;
    }
    sender.join().unwrap();
    // A send that was dropped while it waited has sent all or nothing.
    let taken = fill(&*pair.dialed);
    for _ in 0..3 {
        let body = u32::MAX.to_le_bytes().repeat(2_000);
        assert!(poll_once(pair.dialed.send(plain(body))).is_none(), "it is full");
    }
    let accepted = Arc::clone(&pair.accepted);
    let reader = std::thread::spawn(move || {
        let mut next = 0;
        while next <= taken {
            let body = receive(&*accepted);
            if number(&body) == u32::MAX {
                assert_eq!(body.len(), 8_000, "a dropped send has sent a part");
            } else {
                assert_eq!(number(&body), next);
                next += 1;
            }
        }
    });
    send(&*pair.dialed, plain(taken.to_le_bytes().to_vec()));
    reader.join().unwrap();
}
