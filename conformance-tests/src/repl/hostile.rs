//! Bytes that are no message.

use trellis_engine_traits::EndedBy;

use super::NetWorld;
use super::tools::{link, plain, receive, send, wait};
use crate::{Case, Need};

pub(super) const CASES: &[Case<NetWorld>] = &[Case::new(
    "repl.hostile.forged_frames_end_the_link",
    &["repl.link.hostile", "repl.link.too_large"],
    forged,
)
.needs(&[Need::RawFrames])];

fn forged(world: &NetWorld) {
    let net = world.engine();
    let host = net.host("host", &[]).unwrap();
    let guest = net.guest("guest").unwrap();
    let (dialed, bystander) = link(&*guest, &host);
    let mut kinds = 0;
    while let Some(expected) = net.forge(&host.url, kinds) {
        let accepted = wait(host.replicator.accept()).expect("it was let in");
        let error = wait(accepted.next()).expect_err("this is no message");
        assert!(expected.contains(&error.kind()), "forgery {kinds}: {error}");
        assert_eq!(accepted.end().expect("it has ended").by, EndedBy::Transport);
        let again = wait(accepted.next()).expect_err("the last answer stays");
        assert_eq!(again.kind(), error.kind());
        wait(accepted.send(plain("x"))).expect_err("nothing goes over it any more");
        kinds += 1;
    }
    assert!(kinds > 5, "too few forgeries to show anything");
    send(&*dialed, plain("unharmed"));
    assert_eq!(receive(&*bystander), "unharmed");
}
